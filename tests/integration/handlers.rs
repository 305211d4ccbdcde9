//! Handlers in all their shapes, and what crosses between the two kinds.

use serde_json::json;

use crate::{knock::Answer, project::Function, serving::House};

fn one(describe: impl FnOnce(Function) -> Function) -> House {
    House::serve().function("f", describe).start()
}

#[test]
fn a_web_request_to_an_event_handler_becomes_payload_2_and_back() {
    let source = "
        export const handler = async (event) => ({
          statusCode: 201,
          headers: { 'x-a': 'b' },
          cookies: ['c=1'],
          body: JSON.stringify({
            version: event.version, method: event.requestContext.http.method, path: event.rawPath,
            query: event.queryStringParameters, body: event.body, cookies: event.cookies,
            agent: event.headers['user-agent'],
          }),
        })";
    let house = House::serve()
        .function("isolated", |f| f.event(source))
        .function("bun", |f| f.bun().event(source))
        .function("node", |f| f.on("node").event(source))
        .start();
    for name in ["isolated", "bun", "node"] {
        let ask = house.ask("POST", &format!("/functions/{name}/x?q=1"));
        let answer = ask
            .header("user-agent", "test")
            .header("cookie", "a=1; b=2")
            .header("content-type", "text/plain")
            .body("text")
            .send();
        assert_eq!(
            (
                answer.status,
                answer.header("x-a"),
                answer.header("set-cookie")
            ),
            (201, Some("b"), Some("c=1"))
        );
        let expected = json!({
            "version": "2.0", "method": "POST", "path": format!("/functions/{name}/x"), "query": {"q": "1"},
            "body": "text", "cookies": ["a=1", "b=2"], "agent": "test",
        });
        assert_eq!(answer.json(), expected);
    }
}

#[test]
fn a_result_that_is_no_response_is_the_body_as_json() {
    let house = one(|f| f.event("export const handler = () => ({ hello: 'Ann' })"));
    let answer = house.get("/functions/f");
    assert_eq!(answer.json(), json!({"hello": "Ann"}));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn binary_bodies_cross_an_event_handler_unharmed() {
    let source = "export const handler = (e) => ({ statusCode: 200, body: e.body, isBase64Encoded: e.isBase64Encoded })";
    for runtime in ["bun", "node"] {
        let house = one(|f| f.on(runtime).event(source));
        let bytes: Vec<u8> = (0..=255).collect();
        let answer = house
            .ask("POST", "/functions/f")
            .header("content-type", "application/octet-stream")
            .body(&bytes)
            .send();
        answer.ok();
        assert_eq!(answer.body, bytes);
    }
}

#[test]
fn an_event_to_a_web_handler_becomes_a_post() {
    let source = "export default async (r) => Response.json([r.method, new URL(r.url).pathname, r.headers.get('x-bungee-trigger'), await r.json()])";
    for runtime in ["bun", "node"] {
        let house = one(|f| f.on(runtime).web(source));
        let said = house.cli(&["invoke", "f", "--data", r#"{"a":1}"#]).ok();
        assert_eq!(said.json(), json!(["POST", "/", "cli", {"a": 1}]));
    }
}

#[test]
fn typescript_esm_and_commonjs_all_run() {
    let house = House::serve()
        .function("ts", |f| f.bun().written_in("ts").event("enum E { A = 7 }; export const handler = (e: { n: number }): number => e.n + E.A;"))
        .function("its", |f| f.written_in("ts").event("type T = { n: number }; export const handler = (e: T): number => e.n as number;"))
        .function("node_ts", |f| f.on("node").written_in("ts").event("enum E { A = 7 }; export const handler = (e: { n: number }): number => e.n + E.A;"))
        .function("node_esm", |f| f.on("node").event("export const handler = (e) => e.n"))
        .function("node_cjs", |f| f.on("node").written_in("cjs").event("const path = require('node:path'); exports.handler = (e) => path.join('a', String(e.n))"))
        .function("esm", |f| f.bun().event("export const handler = (e) => e.n"))
        .function("cjs", |f| f.bun().written_in("cjs").event("const path = require('node:path'); exports.handler = (e) => path.join('a', String(e.n))"))
        .start();
    let result = |name| house.invoke(name, &json!({"n": 1}))["result"].clone();
    assert_eq!(result("ts"), 8);
    assert_eq!(result("its"), 1);
    assert_eq!(result("esm"), 1);
    assert_eq!(result("cjs"), "a/1");
    assert_eq!(result("node_ts"), 8);
    assert_eq!(result("node_esm"), 1);
    assert_eq!(result("node_cjs"), "a/1");
}

#[test]
fn a_default_object_with_fetch_is_a_web_handler() {
    let source = "export default { word: 'fetched', fetch(r) { return new Response(this.word); } }";
    let house = House::serve()
        .function("isolated", |f| f.module(source))
        .function("bun", |f| f.bun().module(source))
        .function("node", |f| f.on("node").module(source))
        .start();
    assert_eq!(house.get("/functions/isolated").ok(), "fetched");
    assert_eq!(house.get("/functions/bun").ok(), "fetched");
    assert_eq!(house.get("/functions/node").ok(), "fetched");
}

#[test]
fn a_callback_is_a_result_too() {
    let source = "export const handler = (event, context, callback) => { setTimeout(() => callback(null, { n: event.n }), 1); }";
    for runtime in ["bun", "node"] {
        let house = one(|f| f.on(runtime).event(source));
        assert_eq!(
            house.invoke("f", &json!({"n": 1}))["result"],
            json!({"n": 1})
        );
    }
}

#[test]
fn the_handler_setting_names_the_export() {
    let source = "export const other = () => 'other'; export const handler = () => 'handler';";
    let house = one(|f| f.event(source).setting("handler = 'other'"));
    assert_eq!(house.invoke("f", &json!({}))["result"], "other");
}

#[test]
fn the_context_is_lambda_s_and_ours() {
    let source = "export const handler = (e, c) => ({ ...c, left: c.getRemainingTimeInMillis() })";
    let house = House::serve()
        .function("isolated", |f| f.event(source).setting("timeout = '9s'"))
        .function("bun", |f| f.bun().event(source).setting("timeout = '9s'"))
        .function("node", |f| {
            f.on("node").event(source).setting("timeout = '9s'")
        })
        .start();
    for name in ["isolated", "bun", "node"] {
        let invoked = house.invoke(name, &json!({}));
        let context = &invoked["result"];
        assert_eq!(context["functionName"], name);
        assert_eq!(context["projectId"], "default");
        assert_eq!(context["functionVersion"], "v1");
        assert_eq!(context["invocationId"], invoked["invocation_id"]);
        assert_eq!(context["awsRequestId"], invoked["invocation_id"]);
        assert_eq!(
            context["invokedFunctionArn"],
            format!("arn:aws:lambda:us-east-1:000000000000:function:{name}")
        );
        assert_eq!(context["logGroupName"], format!("/aws/lambda/{name}"));
        assert!(
            context["timestamp"].as_str().unwrap().ends_with('Z'),
            "{context}"
        );
        let left = context["left"].as_i64().unwrap();
        assert!((1..=9000).contains(&left), "{left}");
    }
}

#[test]
fn a_function_gets_its_env_and_nothing_of_the_server_s() {
    let house = House::serve()
        .variable("SECRET_OF_THE_SERVER", "leaked")
        .function("bun", |f| {
            f.bun()
                .event("export const handler = () => process.env")
                .setting("env = { GREETING = 'hi' }")
        })
        .function("node", |f| {
            f.on("node")
                .event("export const handler = () => process.env")
                .setting("env = { GREETING = 'hi' }")
        })
        .function("isolated", |f| {
            f.event("export const handler = (e, c) => c.env")
                .setting("env = { GREETING = 'hi' }")
        })
        .start();
    for name in ["bun", "node"] {
        let env = house.invoke(name, &json!({}))["result"].clone();
        assert_eq!(env["GREETING"], "hi");
        assert!(
            env.get("SECRET_OF_THE_SERVER").is_none() && env.get("BUNGEE_BOOT").is_none(),
            "{env}"
        );
    }
    assert_eq!(
        house.invoke("isolated", &json!({}))["result"],
        json!({"GREETING": "hi"})
    );
}

#[test]
fn a_bun_function_has_a_temp_folder_of_its_own() {
    let source = "
        import { writeFileSync, readFileSync } from 'node:fs'; import { tmpdir } from 'node:os';
        export const handler = () => { const f = tmpdir() + '/x'; writeFileSync(f, 'kept'); return [tmpdir(), readFileSync(f, 'utf8')]; }";
    let house = House::serve()
        .function("a", |f| f.bun().event(source))
        .function("b", |f| f.bun().event(source))
        .start();
    let (a, b) = (house.invoke("a", &json!({})), house.invoke("b", &json!({})));
    assert_eq!(a["result"][1], "kept");
    assert_ne!(a["result"][0], b["result"][0]);
}

#[test]
fn a_worker_lives_on_between_invocations() {
    let source = "let n = 0; export const handler = () => [process.pid, ++n]";
    for runtime in ["bun", "node"] {
        let house = one(|f| f.on(runtime).event(source));
        let first = house.invoke("f", &json!({}))["result"].clone();
        let second = house.invoke("f", &json!({}))["result"].clone();
        assert_eq!(first[0], second[0]);
        assert_eq!(second[1], 2);
    }
}

#[test]
fn stacks_point_at_the_typescript_that_was_written() {
    let source = "type T = { a: number };\n\nexport const handler = (e: T) => {\n  throw new TypeError('here');\n};\n";
    let house = House::serve()
        .function("isolated", |f| f.written_in("ts").event(source))
        .function("bun", |f| f.bun().written_in("ts").event(source))
        .function("node", |f| f.on("node").written_in("ts").event(source))
        .start();
    for name in ["isolated", "bun", "node"] {
        let invoked = house.invoke(name, &json!({}));
        let fault = &invoked["error"]["fault"];
        assert_eq!(
            (&fault["errorType"], &fault["message"]),
            (&json!("TypeError"), &json!("here"))
        );
        let stack = fault["stack"].as_str().unwrap();
        assert!(stack.contains(&format!("src/{name}.ts:4")), "{stack}");
    }
}

#[test]
fn lifecycle_words_follow_the_worker() {
    let house = one(|f| f.bun().web("export default () => new Response('ok')"));
    let state =
        |house: &House| house.cli(&["info", "f", "--json"]).ok().json()["lifecycle"].clone();
    assert_eq!(state(&house), "DEPLOYED");
    house.get("/functions/f").ok();
    crate::process::until("it is idle", || state(&house) == "IDLE");
}

#[test]
fn an_answer_of_many_mebibytes_streams_through() {
    let source = "export default () => new Response(new Uint8Array(20 << 20).fill(97))";
    for runtime in ["bun", "node"] {
        let house = one(|f| f.on(runtime).web(source));
        let answer: Answer = house.get("/functions/f");
        assert_eq!(answer.ok().len(), 20 << 20);
    }
}
