//! Web handlers: the Request they get, the Response they give, and the bytes that leave.

use serde_json::{Value, json};

use crate::{
    Test,
    child::{Answer, Ask, Child},
};

pub const TESTS: &[Test] = &[
    ("a_request_is_shown_whole", a_request_is_shown_whole),
    ("a_response_leaves_whole", a_response_leaves_whole),
    ("head_has_no_body", head_has_no_body),
    ("bodies_are_bytes", bodies_are_bytes),
    (
        "an_object_with_fetch_is_a_handler",
        an_object_with_fetch_is_a_handler,
    ),
    ("a_response_made_early_is_one", a_response_made_early_is_one),
    (
        "a_header_cannot_break_its_line",
        a_header_cannot_break_its_line,
    ),
    ("what_is_no_response_is_named", what_is_no_response_is_named),
];

fn get(child: &mut Child, target: &str) -> Answer {
    child.ask(&Ask {
        method: "GET",
        target,
        ..Ask::default()
    })
}

fn a_request_is_shown_whole() {
    let mut child = Child::web(
        "export default async (request, context) => Response.json({
            method: request.method, url: request.url, headers: [...request.headers],
            params: request.params ?? null, id: context.invocationId, is: request instanceof Request,
            again: [...request.clone().headers].length === [...request.headers].length, body: await request.text(),
        });",
    );
    let answer = child.ask(&Ask {
        method: "PATCH",
        target: "/functions/hello/Ann?x=1&y=%20",
        headers: &[
            ("host", "example.com:8080"),
            ("x-invocation-id", "id-2"),
            ("x-bungee-params", "{\"name\":\"Ann\"}"),
            ("Accept", "a"),
            ("accept", "b"),
            ("x-latin", "\u{e9}"),
        ],
        body: "körper".as_bytes(),
        ..Ask::default()
    });
    let seen = answer.json();
    assert_eq!(seen["method"], "PATCH");
    assert_eq!(
        seen["url"],
        "http://example.com:8080/functions/hello/Ann?x=1&y=%20"
    );
    assert_eq!(
        (&seen["body"], &seen["params"]),
        (&json!("körper"), &json!({"name": "Ann"}))
    );
    assert_eq!(
        (&seen["id"], &seen["is"], &seen["again"]),
        (&json!("id-2"), &json!(true), &json!(true))
    );
    // Sent as UTF-8, shown as the bytes that came.
    let expected = json!([
        ["accept", "a, b"],
        ["content-length", "7"],
        ["host", "example.com:8080"],
        ["x-invocation-id", "id-2"],
        ["x-latin", "\u{c3}\u{a9}"]
    ]);
    assert_eq!(seen["headers"], expected);
    assert_eq!(get(&mut child, "/").json()["params"], Value::Null);
}

fn a_response_leaves_whole() {
    let mut child = Child::web(
        "export default () => {
            const headers = new Headers({ 'X-A': '1', 'content-length': '99', 'transfer-encoding': 'chunked', 'x-latin': '\\u00e9' });
            headers.append('set-cookie', 'a=1'); headers.append('set-cookie', 'b=2');
            return new Response('made', { status: 201, statusText: 'Made', headers });
        }",
    );
    let answer = get(&mut child, "/");
    assert_eq!((answer.status, answer.text().as_str()), (201, "made"));
    let of = |name: &str| -> Vec<&str> {
        answer
            .headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    };
    assert_eq!(of("x-a"), ["1"]);
    assert_eq!(of("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(
        (of("content-length"), of("transfer-encoding")),
        (vec!["4"], vec![])
    );
    assert_eq!(
        (of("x-latin"), of("content-type")),
        (vec!["\u{e9}"], vec!["text/plain;charset=UTF-8"])
    );
}

fn head_has_no_body() {
    let mut child = Child::web(
        "export default (r) => new Response(r.method === 'DELETE' ? null : r.method, { status: r.method === 'DELETE' ? 204 : 200 });",
    );
    let head = child.ask(&Ask {
        method: "HEAD",
        ..Ask::default()
    });
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("4"))
    );
    // What a stray byte would have spoilt.
    assert_eq!(get(&mut child, "/").text(), "GET");
    let deleted = child.ask(&Ask {
        method: "DELETE",
        ..Ask::default()
    });
    assert_eq!(
        (deleted.status, deleted.header("content-length")),
        (204, None)
    );
    assert_eq!(get(&mut child, "/").text(), "GET");
}

fn bodies_are_bytes() {
    let mut child =
        Child::web("export default async (request) => new Response(await request.arrayBuffer());");
    let body: Vec<u8> = (0..6 << 20).map(|at: u32| (at % 251) as u8).collect();
    let answer = child.ask(&Ask {
        body: &body,
        ..Ask::default()
    });
    assert!(answer.status == 200 && answer.body == body);
    let mut child = Child::web(
        "export default async (request) => new Response('\\ud800' + (await request.text()));",
    );
    let answer = child.ask(&Ask {
        body: b"a\xff\xe2\x82",
        ..Ask::default()
    });
    assert_eq!(answer.text(), "\u{fffd}a\u{fffd}\u{fffd}");
}

fn an_object_with_fetch_is_a_handler() {
    let mut child =
        Child::web("export default { name: 'me', fetch() { return new Response(this.name); } };");
    assert_eq!(get(&mut child, "/").text(), "me");
}

fn a_response_made_early_is_one() {
    let mut child = Child::web(
        "const early = new Response('early');
         class Mine extends Response { constructor(text) { super(text, { status: 202 }); } }
         export const handler = (r) => r.url.endsWith('mine') ? new Mine('mine') : { then: (done) => done(early) };",
    );
    assert_eq!(get(&mut child, "/").text(), "early");
    assert_eq!(get(&mut child, "/").text(), "early");
    let mine = get(&mut child, "/mine");
    assert_eq!((mine.status, mine.text().as_str()), (202, "mine"));
}

fn a_header_cannot_break_its_line() {
    let mut child = Child::web(
        "export default (request) => {
            if (request.url.endsWith('cunning')) RegExp.prototype.test = RegExp.prototype.exec = () => null;
            if (request.url.endsWith('bold')) RegExp.prototype.test = (text) => !text.includes('evil');
            return new Response('x', { headers: { 'x-a': 'a\\r\\nx-evil: 1' } });
        }",
    );
    for target in ["/", "/cunning", "/bold"] {
        let answer = get(&mut child, target);
        assert_eq!(answer.fault().0, "TypeError", "{target}");
        assert_eq!(answer.header("x-evil"), None);
    }
}

fn what_is_no_response_is_named() {
    let mut child = Child::web(
        "export default async (request) => {
            switch (new URL(request.url).pathname) {
                case '/undefined': return undefined;
                case '/text': return 'text';
                case '/object': return { status: 200 };
                case '/fake': return Object.create(Response.prototype);
                case '/error': return Response.error();
                case '/used': { const r = new Response('x'); await r.text(); return r; }
                default: return null;
            }
        }",
    );
    let what = |child: &mut Child, target: &str| get(child, target).fault();
    for (target, named) in [
        ("/undefined", "undefined"),
        ("/text", "a string"),
        ("/object", "an object of Object"),
        ("/fake", "an object of Response"),
        ("/null", "null"),
    ] {
        let expected = format!("the handler returned {named}, not a Response");
        assert_eq!(what(&mut child, target), ("TypeError".to_owned(), expected));
    }
    assert_eq!(what(&mut child, "/error").0, "TypeError");
    assert_eq!(what(&mut child, "/used").1, "Body has already been used");
}
