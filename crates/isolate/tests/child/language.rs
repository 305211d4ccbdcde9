//! What a handler finds: the language without a compiler, its globals, its context, and nothing of the invocation before.

use serde_json::{Value, json};

use crate::{
    Test,
    child::{Ask, Child, result_of},
};

pub const TESTS: &[Test] = &[
    ("text_is_never_compiled", text_is_never_compiled),
    (
        "only_the_bundle_can_be_imported",
        only_the_bundle_can_be_imported,
    ),
    (
        "each_invocation_finds_a_fresh_context",
        each_invocation_finds_a_fresh_context,
    ),
    (
        "chance_differs_between_invocations",
        chance_differs_between_invocations,
    ),
    ("every_global_works", every_global_works),
    (
        "what_is_not_offered_is_absent",
        what_is_not_offered_is_absent,
    ),
    ("the_language_is_whole", the_language_is_whole),
    ("context_and_env_are_given", context_and_env_are_given),
];

fn text_is_never_compiled() {
    let found = result_of(
        "const tries = [
            () => eval('1'), () => (0, eval)('1'), () => Function('return 1')(), () => new Function('1'),
            () => new (async () => {}).constructor('1'), () => new (function* () {}).constructor('1'),
            () => new (async function* () {}).constructor('1'), () => (() => {}).constructor('1'),
         ];
         export default () => tries.map((attempt) => { try { attempt(); return 'ran'; } catch (e) { return e.name; } });",
    );
    let names: Vec<&str> = found
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(!names.contains(&"ran") && names.len() == 8, "{names:?}");
}

fn only_the_bundle_can_be_imported() {
    let modules = [
        (
            "src/hello.js",
            "import { one } from './lib/one.js';
             const attempt = async (name) => { try { return (await import(name)).one ?? 'loaded'; } catch (e) { return e.message; } };
             export default async (names) => [one, ...await Promise.all(names.map(attempt))];",
        ),
        ("src/lib/one.js", "export { one } from '../../two.js';"),
        ("two.js", "export const one = 1;"),
        ("late.js", "export const one = 'late';"),
    ];
    let names = [
        "../late.js",
        "lodash",
        "node:fs",
        "/etc/passwd",
        "/prelude/web.js",
        "../../x.js",
        "./none.js",
        "https://a.b/c.js",
    ];
    let got = Child::of("event", &modules).send(&json!(names)).json();
    assert_eq!(got[0], 1);
    assert_eq!(got[1], "late");
    for (at, name) in names.iter().enumerate().skip(1) {
        let text = got[at + 1].as_str().unwrap();
        assert!(text.starts_with("Module not found: '"), "{name}: {text}");
    }
    assert_eq!(got[2], "Module not found: 'lodash'");
}

fn each_invocation_finds_a_fresh_context() {
    let mut child = Child::event(
        "let count = 0;
         export default async (event, context) => {
             const seen = [++count, globalThis.left, [].left, context.left, context.env.left, ({}).left, Response.left,
                 typeof console.log, JSON.stringify({ a: 1 })];
             globalThis.left = Array.prototype.left = Object.prototype.left = 1;
             context.left = context.env.left = Response.left = 1;
             console.log = 1;
             JSON.stringify = () => 'mine';
             if (event === 'throw') { Promise.prototype.then = null; throw new Error('x'); }
             return seen.map((value) => value ?? null);
         }",
    );
    let first = child.send(&json!("throw"));
    assert_eq!(first.fault().0, "Error");
    let second = child.send(&json!(1)).json();
    assert_eq!(
        second,
        json!([
            1,
            null,
            null,
            null,
            null,
            null,
            null,
            "function",
            "{\"a\":1}"
        ])
    );
    assert_eq!(child.send(&json!(1)).json(), second);
}

fn chance_differs_between_invocations() {
    let mut child = Child::event(
        "const early = Math.random();
         export default () => [early, Math.random(), crypto.randomUUID(), crypto.getRandomValues(new Uint8Array(8)).join(), Math.random.name];",
    );
    let (first, second) = (
        child.send(&Value::Null).json(),
        child.send(&Value::Null).json(),
    );
    for at in 0..4 {
        assert_ne!(first[at], second[at]);
    }
    assert!((0.0..1.0).contains(&first[0].as_f64().unwrap()) && first[4] == "random");
}

fn every_global_works() {
    let found = result_of(
        "export default async () => {
            const bytes = new TextEncoder().encode('ä€😀');
            const url = new URL('../b?x=1#h', 'http://u:p@example.com:81/a/c');
            url.searchParams.append('y', 'z w');
            const request = new Request('http://a/', { method: 'PUT', body: 'in', headers: { 'X-A': '1' } });
            const headers = new Headers([['set-cookie', 'a'], ['set-cookie', 'b'], ['B', '2'], ['a', '1']]);
            const cloned = structuredClone({ map: new Map([[1, new Set([2])]]), date: new Date(0), bytes });
            return {
                bytes: [...bytes], text: new TextDecoder().decode(bytes), url: url.href, origin: url.origin,
                query: new URLSearchParams({ a: 'b c' }).toString(), base64: atob(btoa('hello')), uuid: crypto.randomUUID().length,
                request: [request.method, await request.text(), request.headers.get('x-a')],
                headers: [...headers], cookies: headers.getSetCookie(),
                response: [await new Response('out').text(), Response.json({}).headers.get('content-type'), Response.redirect('http://x/').status],
                cloned: [[...cloned.map.get(1)][0], cloned.date.getTime(), cloned.bytes.length],
                console: Object.keys(console), dom: new DOMException('m', 'AbortError').name,
            };
        }",
    );
    assert_eq!(
        found["bytes"],
        json!([195, 164, 226, 130, 172, 240, 159, 152, 128])
    );
    assert_eq!(found["text"], "ä€😀");
    assert_eq!(found["url"], "http://u:p@example.com:81/b?x=1&y=z+w#h");
    assert_eq!(found["origin"], "http://example.com:81");
    assert_eq!(
        (&found["query"], &found["base64"], &found["uuid"]),
        (&json!("a=b+c"), &json!("hello"), &json!(36))
    );
    assert_eq!(found["request"], json!(["PUT", "in", "1"]));
    assert_eq!(
        found["headers"],
        json!([
            ["a", "1"],
            ["b", "2"],
            ["set-cookie", "a"],
            ["set-cookie", "b"]
        ])
    );
    assert_eq!(found["cookies"], json!(["a", "b"]));
    assert_eq!(found["response"], json!(["out", "application/json", 302]));
    assert_eq!(found["cloned"], json!([2, 0, 9]));
    assert_eq!(found["dom"], "AbortError");
    assert!(found["console"].as_array().unwrap().len() >= 5);
}

fn what_is_not_offered_is_absent() {
    let absent = [
        "setTimeout",
        "setInterval",
        "setImmediate",
        "queueMicrotask",
        "fetch",
        "process",
        "require",
        "module",
        "performance",
        "Bun",
        "Deno",
        "std",
        "os",
        "eval",
        "WebSocket",
        "Worker",
        "navigator",
        "$format",
        "$makeRequest",
        "gc",
        "print",
    ];
    let found =
        Child::event("export default (names) => names.filter((name) => name in globalThis);")
            .send(&json!(absent))
            .json();
    // Jobs are of the language itself; `eval` is there to say no.
    assert_eq!(found, json!(["queueMicrotask", "eval"]));
}

fn the_language_is_whole() {
    let found = result_of(
        "class A { #x = 1; static s = 2; get x() { return this.#x; } }
         function* two() { yield 1; yield 2; }
         const late = await Promise.resolve('tla');
         export default async () => {
             const list = []; for await (const x of (async function* () { yield* two(); })()) list.push(x);
             return [new A().x, A.s, list, late, 'a-b'.replace(/(?<l>\\w)-/u, '$<l>+'), (2n ** 70n).toString(), [3, 1].toSorted(),
                 new Proxy({}, { get: () => 5 }).q, new WeakRef({}) instanceof WeakRef, new Float64Array(2).length, Object.groupBy([1], String),
                 new Date(0).toISOString(), Symbol.for('a').description, [1].at(-1), structuredClone(new Map([[1, 2]])).get(1), new Date(0).getHours()];
         }",
    );
    let expected = json!([
        1, 2, [1, 2], "tla", "a+b", "1180591620717411303424", [1, 3], 5, true, 2, {"1": [1]}, "1970-01-01T00:00:00.000Z", "a", 1, 2, 0
    ]);
    assert_eq!(found, expected);
}

fn context_and_env_are_given() {
    let mut child = Child::event(
        "export default (event, context) => ({ ...context, left: context.getRemainingTimeInMillis(), keys: Object.keys(context) });",
    );
    let answer = child.ask(&Ask {
        headers: &[("x-invocation-id", "id-9"), ("x-bungee-trigger", "cli")],
        time: 5000,
        ..Ask::default()
    });
    let context = answer.json();
    for (key, value) in [
        ("functionName", "hello"),
        ("functionVersion", "v3"),
        ("memoryLimitInMB", "64"),
        ("awsRequestId", "id-9"),
        ("invocationId", "id-9"),
        ("projectId", "shop"),
        ("trigger", "cli"),
    ] {
        assert_eq!(context[key], value, "{key}");
    }
    assert_eq!(context["env"], json!({"GREETING": "hi"}));
    assert!((1.0..=5000.0).contains(&context["left"].as_f64().unwrap()));
    let timestamp = context["timestamp"].as_str().unwrap();
    assert!(
        timestamp.starts_with("20") && timestamp.ends_with('Z'),
        "{timestamp}"
    );
}
