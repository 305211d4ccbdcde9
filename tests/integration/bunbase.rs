//! The BunBase profile as its own users know it: register, deploy, invoke, logs and metrics, over HTTP and in frames.

use std::{fs, io::Write, os::unix::net::UnixStream, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    frames::{Frames, GET_LOGS, GET_METRICS, INVOKE, REGISTER},
    laptop::Gate,
    process::{eventually, until},
    serving::House,
};

/// The handler of BunBase's own page, with what it was asked.
const HELLO: &str = "
    export default async function handler(req: Request): Promise<Response> {
      const url = new URL(req.url);
      const name = url.searchParams.get('name') || (req.method === 'POST' ? (await req.json()).name : 'World');
      console.log(`greets ${name}`);
      return Response.json({ message: `Hello, ${name}!`, url: req.url, id: req.headers.get('x-invocation-id') });
    }";

fn digest(path: &Path) -> String {
    let code = fs::read(path).expect("the code is there");
    let digest = Sha256::digest(code);
    let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

fn answering(word: &str) -> String {
    format!("export default () => new Response('{word}');")
}

fn said(house: &House, name: &str) -> String {
    house.get(&format!("/functions/{name}")).ok()
}

#[test]
fn a_function_is_registered_deployed_and_called_by_frames() {
    let house = House::serve().start();
    let mut frames = house.frames();
    let asked = json!({"name": "hello-world", "runtime": "bun", "handler": "handler"});
    let registered = frames.ask(REGISTER, &asked).ok();
    let expected = json!({"function_id": "hello-world", "name": "hello-world", "runtime": "bun", "handler": "handler", "status": "REGISTERED"});
    assert_eq!(registered, expected);
    let code = house.code("bundle.ts", HELLO);
    let deployed = frames.deploy("hello-world", "v1", &code).ok();
    let id = deployed["version_id"].as_str().expect("an id");
    assert_eq!(deployed["version"], "v1");
    assert_eq!(deployed["status"], "DEPLOYED");
    assert_eq!(deployed["deployment_id"], format!("hello-world@{id}"));
    let invoked = frames.invoke("hello-world", "/", r#"{"name":"Alice"}"#);
    let outcome = invoked.clone().ok();
    assert_eq!(
        (&outcome["status"], &outcome["error"]),
        (&json!(200), &Value::Null)
    );
    assert!(outcome["execution_time_ms"].is_u64(), "{outcome}");
    let kind = outcome["headers"]["content-type"].as_str();
    assert!(kind.is_some_and(|kind| kind.starts_with("application/json")));
    let body: Value = serde_json::from_str(&invoked.body()).expect("JSON");
    assert_eq!(body["message"], "Hello, Alice!");
    assert_eq!(body["id"], outcome["execution_id"]);
    let record = house.record("hello-world", |record| record["trigger"] == "socket");
    assert_eq!(record["id"], outcome["execution_id"]);
    house.cli(&["rollback", "hello-world", id]).ok();
}

#[test]
fn the_same_is_done_over_http() {
    let house = House::serve().start();
    for _ in 0..2 {
        let registered = house.post("/v1/functions/register", r#"{"name":"hello"}"#);
        assert_eq!(registered.status, 200, "{}", registered.text());
        let json = registered.json();
        assert_eq!(
            (&json["runtime"], &json["handler"]),
            (&json!("bun"), &json!("default"))
        );
    }
    house.get("/functions/hello").fails(409, "NotDeployed");
    let code = house.code("bundle.ts", HELLO);
    let wanted = json!({"function_id": "hello", "version": "v1", "bundle_path": code});
    let deployed = house.post("/v1/functions/deploy", wanted.to_string());
    assert_eq!(deployed.json()["status"], "DEPLOYED", "{}", deployed.text());
    let answer = house.get("/functions/hello?name=Bob").json();
    let url = format!("http://{}/functions/hello?name=Bob", house.address);
    assert_eq!(
        (&answer["message"], &answer["url"]),
        (&json!("Hello, Bob!"), &json!(url))
    );
    let refused = house.post("/v1/functions/deploy", r#"{"function_id":"hello"}"#);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"], "`version` is missing");
    let unknown = json!({"function_id": "nobody", "version": "v1", "bundle_path": code});
    let unknown = house.post("/v1/functions/deploy", unknown.to_string());
    assert_eq!(unknown.json()["type"], "FunctionNotFound");
    let text = house.ask("GET", "/health").header("accept", "text/plain");
    assert_eq!(text.send().ok(), "OK");
}

#[test]
fn code_that_does_not_load_is_not_deployed_and_takes_no_label() {
    let house = House::serve().start();
    let mut frames = house.frames();
    let throws = "throw new Error('too early'); export default () => new Response();";
    let (bad, good) = (
        house.code("bad.js", throws),
        house.code("good.js", &answering("good")),
    );
    for runtime in ["bun", "node"] {
        let asked = json!({"name": runtime, "runtime": runtime});
        frames.ask(REGISTER, &asked).ok();
        frames
            .deploy(runtime, "v1", &bad)
            .refused("InitError", "too early");
        frames
            .invoke(runtime, "/", "")
            .refused("NotDeployed", runtime);
        frames.deploy(runtime, "v1", &good).ok();
        let wanted = json!({"function_id": runtime, "version": "v2", "bundle_path": bad});
        let refused = house.post("/v1/functions/deploy", wanted.to_string());
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("too early"), "{}", refused.text());
        assert_eq!(said(&house, runtime), "good");
        frames.deploy(runtime, "v2", &good).ok();
    }
}

#[test]
fn its_log_lines_are_found_by_time_and_number() {
    let house = House::serve().start();
    let mut frames = house.framed(
        "f",
        "export default (r) => { console.warn(new URL(r.url).pathname); return new Response(); }",
    );
    for path in ["/one", "/two", "/three"] {
        frames.invoke("f", path, "").ok();
    }
    house.logged("f", "/three");
    let lines = house.get("/functions/f/logs").json();
    let texts: Vec<&str> = lines
        .as_array()
        .expect("lines")
        .iter()
        .filter_map(|line| line["message"].as_str())
        .collect();
    assert_eq!(texts, ["/one", "/two", "/three"]);
    let first = &lines[0];
    assert_eq!(
        (&first["level"], &first["function_id"]),
        (&json!("warn"), &json!("f"))
    );
    let record = house.record("f", |record| record["path"] == "/one");
    assert_eq!(first["invocation_id"], record["id"]);
    let newest = house.get("/functions/f/logs?limit=1").json();
    assert_eq!(
        (newest.as_array().map(Vec::len), &newest[0]["message"]),
        (Some(1), &json!("/three"))
    );
    let late = house
        .get("/functions/f/logs?since=2999-01-01T00:00:00Z")
        .json();
    assert_eq!(late, json!([]));
    let same = frames
        .ask(
            GET_LOGS,
            &json!({"function_id": "f", "since": first["created_at"], "limit": 0}),
        )
        .ok();
    assert_eq!(same["logs"], lines);
    for bad in ["since=yesterday", "limit=many"] {
        let refused = house.get(&format!("/functions/f/logs?{bad}"));
        assert_eq!(
            (refused.status, &refused.json()["type"]),
            (400, &json!("BadRequest")),
            "{bad}"
        );
    }
}

#[test]
fn logs_of_a_function_that_was_not_registered_are_a_path_of_its_own() {
    let path = "export default (r) => new Response(new URL(r.url).pathname)";
    let house = House::serve().function("mine", |f| f.web(path)).start();
    assert_eq!(
        house.get("/functions/mine/logs").ok(),
        "/functions/mine/logs"
    );
    let mut frames = house.frames();
    frames
        .ask(REGISTER, &json!({"name": "mine", "runtime": "isolate"}))
        .ok();
    assert_eq!(house.get("/functions/mine/logs").json(), json!([]));
    assert_eq!(
        house.post("/functions/mine/logs", "").ok(),
        "/functions/mine/logs"
    );
    house.cli(&["delete", "mine", "--yes"]).ok();
    house.deploy().ok();
    assert_eq!(
        house.get("/functions/mine/logs").ok(),
        "/functions/mine/logs"
    );
}

#[test]
fn figures_tell_outcomes_cold_starts_latencies_and_workers() {
    let house = House::serve().start();
    let mut frames = house.framed("f", "export default async (r) => { if (r.url.endsWith('/throw')) throw new TypeError('boom'); return new Response('ok'); }");
    // The deployment started a worker; without it the first call is a cold start.
    stands(&house, &mut frames, "WARM");
    house.bun_workers().iter().for_each(|worker| worker.kill());
    stands(&house, &mut frames, "DEPLOYED");
    for _ in 0..9 {
        frames.invoke("f", "/", "").body();
    }
    let failed = frames.invoke("f", "/throw", "").ok();
    assert_eq!(
        (&failed["success"], &failed["status"]),
        (&json!(false), &json!(502))
    );
    assert_eq!(failed["error_type"], "HandlerError");
    assert!(
        failed["error"]
            .as_str()
            .is_some_and(|why| why.contains("boom")),
        "{failed}"
    );
    let figures = frames.ask(GET_METRICS, &json!({"function_id": "f"})).ok();
    assert_eq!(figures["invocations"], json!({"ok": 9, "HandlerError": 1}));
    assert_eq!(
        (&figures["total"], &figures["cold_starts"]),
        (&json!(10), &json!(1))
    );
    assert_eq!(figures["workers"]["idle"], 1, "{figures}");
    let quantile = |name: &str| figures["duration_ms"][name].as_f64().expect("a number");
    assert!(
        quantile("p50") > 0.0
            && quantile("p50") <= quantile("p95")
            && quantile("p95") <= quantile("p99"),
        "{figures}"
    );
    frames
        .ask(GET_METRICS, &json!({"function_id": "x"}))
        .refused("FunctionNotFound", "x");
}

/// Where a function stands, by the figures and by `info`.
#[track_caller]
fn stands(house: &House, frames: &mut Frames, state: &str) {
    until(&format!("f is {state}"), || {
        let figures = frames.ask(GET_METRICS, &json!({"function_id": "f"})).ok();
        let info = house.cli(&["info", "f", "--json"]).ok().json();
        figures["status"] == state && info["lifecycle"] == state
    });
}

#[test]
fn a_function_goes_through_the_states_of_its_life() {
    let house = House::serve().start();
    let mut frames = house.frames();
    frames.ask(REGISTER, &json!({"name": "f"})).ok();
    stands(&house, &mut frames, "REGISTERED");
    let gate = Gate::at(house.home());
    let code = house.code("f.js", &gate.handler("done"));
    frames.deploy("f", "v1", &code).ok();
    stands(&house, &mut frames, "WARM");
    let waiting = frames.send(INVOKE, &json!({"function_id": "f", "path": "/wait"}));
    stands(&house, &mut frames, "BUSY");
    gate.open();
    assert_eq!(frames.answer(waiting).body(), "done");
    stands(&house, &mut frames, "IDLE");
    house.bun_workers().iter().for_each(|worker| worker.kill());
    stands(&house, &mut frames, "DEPLOYED");
}

#[test]
fn a_version_that_nothing_points_at_leaves_its_function_built() {
    let house = House::serve()
        .function("f", |f| f.web(answering("one")))
        .start();
    let mut frames = house.frames();
    frames.ask(REGISTER, &json!({"name": "g"})).ok();
    let versions = house.cli(&["versions", "f", "--json"]).ok().json();
    let new = json!({"bundle": versions[0]["bundle"], "entry": "src/f.js", "kind": "web"});
    let path = "/v1/projects/default/functions/g/versions";
    let made = house.ask("POST", path).json(&new).send();
    assert_eq!(made.status, 201, "{}", made.text());
    let figures = frames.ask(GET_METRICS, &json!({"function_id": "g"})).ok();
    assert_eq!(figures["status"], "BUILT");
    frames.invoke("g", "/", "").refused("NotDeployed", "g");
}

#[test]
fn a_label_means_one_content_for_ever() {
    let mut house = House::serve().start();
    let mut frames = house.framed("f", &answering("one"));
    let (one, two) = (
        house.code("f.js", &answering("one")),
        house.code("two.js", &answering("two")),
    );
    frames.deploy("f", "v1", &one).ok();
    let refused = frames.deploy("f", "v1", &two);
    for path in [&one, &two] {
        let said = refused.json["error"].as_str().expect("words");
        assert!(said.contains(&digest(path)), "{said}");
    }
    refused.refused("NameTaken", "another version");
    assert_eq!(said(&house, "f"), "one");
    frames.deploy("f", "v2", &two).ok();
    assert_eq!(said(&house, "f"), "two");
    house.kill9();
    house.restart();
    let mut frames = house.frames();
    let wanted = json!({"function_id": "f", "version": "v1", "bundle_path": two});
    let refused = house.post("/v1/functions/deploy", wanted.to_string());
    assert_eq!(
        (refused.status, &refused.json()["type"]),
        (409, &json!("NameTaken"))
    );
    frames.deploy("f", "v1", &one).ok();
    assert_eq!(said(&house, "f"), "one");
    assert_eq!(house.get("/functions/f/logs").json(), json!([]));
    frames
        .ask(REGISTER, &json!({"name": "f", "runtime": "isolate"}))
        .ok();
    frames
        .deploy("f", "v1", &one)
        .refused("NameTaken", "isolate");
    frames.deploy("f", "v3", &one).ok();
    let info = house.cli(&["info", "f", "--json"]).ok().json();
    assert_eq!(info["runtime"], "isolate");
}

#[test]
fn every_form_of_handler_is_a_web_handler() {
    let house = House::serve().start();
    let mut frames = house.frames();
    let forms = [
        (
            "function",
            "export default (r) => new Response(r.method)",
            "js",
            "bun",
            "default",
        ),
        (
            "object",
            "export default { fetch: (r: Request) => new Response(r.method) }",
            "ts",
            "bun",
            "default",
        ),
        (
            "named",
            "export const handler = (r) => new Response(r.method)",
            "mjs",
            "bun",
            "handler",
        ),
        (
            "both",
            "export const handler = () => new Response('wrong'); export default (r) => new Response(r.method)",
            "js",
            "bun",
            "handler",
        ),
        (
            "other",
            "export const serve = (r) => new Response(r.method)",
            "js",
            "bun",
            "serve",
        ),
        (
            "on_node",
            "export const handler = (r) => new Response(r.method)",
            "js",
            "node",
            "handler",
        ),
        (
            "sealed",
            "export const handler = (r) => new Response(r.method)",
            "js",
            "quickjs",
            "handler",
        ),
    ];
    for (name, code, ending, runtime, handler) in forms {
        frames
            .ask(
                REGISTER,
                &json!({"name": name, "runtime": runtime, "handler": handler}),
            )
            .ok();
        let code = house.code(&format!("{name}.{ending}"), code);
        frames.deploy(name, "v1", &code).ok();
        assert_eq!(frames.invoke(name, "/", "").body(), "POST", "{name}");
    }
}

#[test]
fn a_request_in_a_frame_is_a_whole_request() {
    let house = House::serve().start();
    let mut frames = house.framed(
        "f",
        "
        export default async (r) => {
          const headers = new Headers({ 'x-kind': 'a', 'x-seen': r.headers.get('x-mine') });
          headers.append('set-cookie', 'a=1'); headers.append('set-cookie', 'b=2');
          return new Response(`${r.method} ${r.url} ${await r.text()}`, { status: 418, headers });
        };",
    );
    let asked = json!({"function_id": "default/f", "method": "put", "path": "/x", "headers": {"X-Mine": "yes", "host": "shop.example"}, "query": {"q": "a b"}, "body": "aGk="});
    let reply = frames.ask(INVOKE, &asked);
    let outcome = reply.clone().ok();
    assert_eq!(outcome["status"], 418);
    assert_eq!(outcome["headers"]["x-seen"], "yes");
    assert_eq!(
        (&outcome["headers"]["set-cookie"], &outcome["cookies"]),
        (&json!("a=1"), &json!(["a=1", "b=2"]))
    );
    assert_eq!(reply.body(), "PUT http://shop.example/x?q=a%20b hi");
    let bare =
        json!({"function_id": "f", "method": "", "headers": null, "query": null, "body": null});
    assert_eq!(frames.ask(INVOKE, &bare).body(), "GET http://localhost/ ");
    let hosted = |host: &str| json!({"function_id": "f", "headers": {"host": host}});
    let unsaid = frames.ask(INVOKE, &hosted(""));
    assert_eq!(unsaid.body(), "GET http://localhost/ ");
    frames
        .ask(INVOKE, &hosted("a b"))
        .refused("BadRequest", "no host");
}

#[test]
fn a_frame_names_an_alias_and_goes_on_with_its_caller_s_trace() {
    let house = House::serve().start();
    let mut frames = house.framed(
        "f",
        "export default (r) => new Response(`one ${r.headers.get('traceparent')}`)",
    );
    house.cli(&["alias", "f", "old", "v1"]).ok();
    let two = house.code("two.js", &answering("two"));
    frames.deploy("f", "v2", &two).ok();
    assert_eq!(frames.invoke("f", "/", "").body(), "two");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers =
        json!({"x-bungee-alias": "old", "traceparent": format!("00-{trace}-00f067aa0ba902b7-01")});
    let asked = json!({"function_id": "f", "headers": headers});
    let said = frames.ask(INVOKE, &asked).body();
    assert!(said.starts_with(&format!("one 00-{trace}-")), "{said}");
    let nowhere = json!({"function_id": "f", "headers": {"x-bungee-alias": "nowhere"}});
    frames.ask(INVOKE, &nowhere).refused("NotFound", "nowhere");
}

#[test]
fn requests_of_one_connection_are_answered_as_they_finish() {
    let house = House::serve().start();
    let gate = Gate::at(house.home());
    let mut frames = house.framed("f", &gate.handler("done"));
    let slow: Vec<u64> = (0..5)
        .map(|_| frames.send(INVOKE, &json!({"function_id": "f", "path": "/wait"})))
        .collect();
    gate.sees("began", 5);
    let quick = frames.send(INVOKE, &json!({"function_id": "f", "path": "/"}));
    assert_eq!(frames.next().0, quick);
    gate.open();
    let mut answered: Vec<u64> = slow.iter().map(|_| frames.next().0).collect();
    answered.sort_unstable();
    assert_eq!(answered, slow);
}

#[test]
fn frames_and_http_share_one_socket() {
    let house = House::serve().start();
    let mut frames = house.framed("f", &answering("framed"));
    let mut http = UnixStream::connect(house.socket()).expect("the socket is there");
    // A head that comes in pieces is waited for.
    for piece in [
        "G",
        "ET",
        " /functions/f HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ] {
        http.write_all(piece.as_bytes())
            .expect("the server listens");
        assert_eq!(frames.invoke("f", "/", "").body(), "framed");
    }
    let answer = std::io::read_to_string(http).expect("text");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("framed"),
        "{answer}"
    );
    let mut slowly = house.frames();
    for byte in crate::frames::frame(7, INVOKE, br#"{"function_id":"f"}"#) {
        slowly.push(&[byte]);
    }
    assert_eq!(slowly.answer(7).body(), "framed");
}

#[test]
fn frames_over_tcp_ask_for_a_token_where_the_server_does() {
    let house = House::serve()
        .flag("--frames-listen")
        .flag("127.0.0.1:0")
        .start();
    house.framed("f", &answering("framed"));
    let mut open = house.frames_over_tcp();
    assert_eq!(open.invoke("f", "/", "").body(), "framed");
    let (deploy, invoke) = (house.token("deploy"), house.token("invoke"));
    let mut frames = house.frames_over_tcp();
    frames
        .invoke("f", "/", "")
        .refused("Unauthorized", "into the payload");
    frames
        .ask(REGISTER, &json!({"name": "g"}))
        .refused("Unauthorized", "token");
    frames
        .ask(REGISTER, &json!({"name": "g", "token": invoke}))
        .refused("Forbidden", "invoke");
    frames
        .ask(REGISTER, &json!({"name": "g", "token": deploy}))
        .ok();
    frames
        .ask(GET_LOGS, &json!({"function_id": "g", "token": invoke}))
        .refused("Forbidden", "invoke");
    let with_token = json!({"function_id": "f", "token": invoke});
    assert_eq!(frames.ask(INVOKE, &with_token).body(), "framed");
    let as_http_does =
        json!({"function_id": "f", "headers": {"Authorization": format!("Bearer {invoke}")}});
    assert_eq!(frames.ask(INVOKE, &as_http_does).body(), "framed");
    let mut owner = house.frames();
    assert_eq!(owner.invoke("f", "/", "").body(), "framed");
}

#[test]
fn frames_for_other_machines_need_a_token_on_the_server() {
    let plan = House::serve().flag("--frames-listen").flag("0.0.0.0:0");
    plan.refuses()
        .ends(3)
        .says("0.0.0.0:0 can be reached by other machines");
}

#[test]
fn an_invocation_by_frame_goes_live_as_any_does() {
    let house = House::serve().start();
    let mut frames = house.framed("hello", &answering("deployed"));
    assert_eq!(frames.invoke("hello", "/", "").body(), "deployed");
    let laptop = house
        .laptop()
        .function("hello", |f| f.web(answering("laptop")))
        .attach();
    assert_eq!(frames.invoke("hello", "/", "").body(), "laptop");
    drop(laptop);
    eventually("the deployed code answers again", || {
        (frames.invoke("hello", "/", "").ok()["body"] == "ZGVwbG95ZWQ=").then_some(())
    });
}

#[test]
fn dev_speaks_frames_too() {
    let house = House::dev()
        .function("mine", |f| {
            f.web("export default () => new Response('mine')")
        })
        .flag("--frames-listen")
        .flag("127.0.0.1:0")
        .start();
    let mut frames = house.frames_over_tcp();
    assert_eq!(frames.invoke("mine", "/", "").body(), "mine");
}
