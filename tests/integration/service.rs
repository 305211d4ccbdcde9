//! The Functions Service profile: its paths, its shapes to the letter, and what its README lets people type.

mod around;
mod making;

use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};

use crate::{knock::Answer, process::until, serving::House};

const HELLO: &str = "export async function handler(event) {
  console.log('Function invoked with:', event)
  return { statusCode: 200, body: JSON.stringify({ message: 'Hello ' + event.name }) }
}";

/// A server on which clients of the profile have made these functions of `project-123`.
fn service(functions: &[(&str, &str)]) -> House {
    let house = House::serve().start();
    for (name, code) in functions {
        create(&house, json!({"function_name": name, "code": code}));
    }
    house
}

#[track_caller]
fn create(house: &House, words: Value) -> Value {
    let answer = ask(house, "POST", "/api/functions/projects/project-123", &words);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["function"].clone()
}

fn ask(house: &House, method: &str, path: &str, body: &Value) -> Answer {
    house.ask(method, path).json(body).send()
}

/// Invokes a function of `project-123`.
fn invoke(house: &House, name: &str, event: &Value) -> Answer {
    ask(house, "POST", &path(name), event)
}

fn path(name: &str) -> String {
    format!("/api/v1/functions/project-123/{name}")
}

fn shown(house: &House, name: &str) -> Value {
    let answer = house.get(&path(name));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["function"].clone()
}

/// Asserts status and whole body.
#[track_caller]
fn is(answer: &Answer, status: u16, body: Value) {
    assert_eq!((answer.status, answer.json()), (status, body));
}

/// Asserts status, `error`, and what `message` contains.
#[track_caller]
fn refuses(answer: &Answer, status: u16, error: &str, message: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["error"]), (status, &json!(error)));
    let said = body["message"].as_str().unwrap_or_default();
    assert!(said.contains(message), "no {message:?} in {said:?}");
}

#[test]
fn the_curl_examples_of_the_service_work_as_written() {
    let house = service(&[
        ("hello", HELLO),
        (
            "async-handler",
            "export async function handler(event) {
              const result = await Promise.resolve(event.query.length)
              return { message: 'Processed successfully', data: result }
            }",
        ),
    ]);
    let typed = |line: &str| {
        let line = line.replace("localhost:9001", &house.address);
        let said = Command::new("sh").args(["-c", &line]).output();
        let said = said.expect("a shell starts").stdout;
        serde_json::from_slice::<Value>(&said).expect("an answer in JSON")
    };
    let hello = typed(
        r#"curl -s -X POST http://localhost:9001/api/v1/functions/project-123/hello \
  -H "Content-Type: application/json" \
  -d '{"name": "World"}'"#,
    );
    assert_eq!(hello["success"], true, "{hello}");
    assert_eq!(
        hello["result"],
        json!({"statusCode": 200, "body": "{\"message\":\"Hello World\"}"})
    );
    assert_eq!(
        hello["logs"],
        json!(["[LOG] Function invoked with: { name: 'World' }"])
    );
    assert!(hello["duration"].is_u64(), "{hello}");
    let waited = typed(
        r#"curl -s -X POST http://localhost:9001/api/v1/functions/project-123/async-handler \
  -H "Content-Type: application/json" \
  -d '{"query": "test"}'"#,
    );
    assert_eq!(
        waited["result"],
        json!({"message": "Processed successfully", "data": 4})
    );
    let health = typed("curl -s http://localhost:9001/health");
    assert_eq!(health["status"], "ok");
    assert_eq!(health["totalInvocations"], 2);
    assert_eq!(health["successfulInvocations"], 2);
    assert_eq!(health["failedInvocations"], 0);
}

#[test]
fn the_body_is_the_event_and_the_return_value_the_result() {
    let house = service(&[
        ("echo", "export const handler = (event) => event"),
        ("nothing", "export const handler = () => {}"),
        ("text", "export const handler = () => 'Just a string'"),
        (
            "web",
            "export default async (r) => Response.json(await r.json())",
        ),
    ]);
    for event in [
        json!({"a": [1, {"b": null}]}),
        json!("é"),
        json!(7),
        json!(null),
    ] {
        assert_eq!(invoke(&house, "echo", &event).json()["result"], event);
    }
    let empty = house.ask("POST", &path("echo")).send();
    assert_eq!(empty.json()["result"], Value::Null);
    assert_eq!(
        invoke(&house, "nothing", &json!({})).json()["result"],
        Value::Null
    );
    assert_eq!(
        invoke(&house, "text", &json!({})).json()["result"],
        "Just a string"
    );
    assert_eq!(
        invoke(&house, "web", &json!({"x": 1})).json()["result"],
        json!({"x": 1})
    );
    // Digits that no double holds pass as they are.
    let exact = house.post(&path("text"), "12345678901234567890.5");
    assert_eq!(exact.status, 200);
    for alias in ["/_functions/mine", "/api/v1/functions/mine"] {
        ask(
            &house,
            "POST",
            "/api/functions/register",
            &json!({"functionName": "mine", "filePath": "mine.js", "code": "export const handler = (e) => e + 1"}),
        );
        assert_eq!(ask(&house, "POST", alias, &json!(1)).json()["result"], 2);
        assert_eq!(house.get(alias).json()["function"]["function_name"], "mine");
    }
}

#[test]
fn lines_come_in_order_with_the_method_that_wrote_them() {
    let code = "export function handler() {
      console.log('Starting', 1); console.info('two\\nlines'); console.warn('w');
      console.error('e'); console.debug('d'); console.log('last')
    }";
    let expected = json!([
        "[LOG] Starting 1",
        "[INFO] two\nlines",
        "[WARN] w",
        "[ERROR] e",
        "[DEBUG] d",
        "[LOG] last"
    ]);
    let house = service(&[]);
    for (name, runtime) in [("isolated", "node18"), ("bunny", "bun"), ("nody", "node")] {
        create(
            &house,
            json!({"function_name": name, "runtime": runtime, "code": code}),
        );
        for _ in 0..2 {
            let logs = &invoke(&house, name, &json!({})).json()["logs"];
            assert_eq!(*logs, expected, "{runtime}");
        }
    }
}

#[test]
fn the_context_is_the_second_argument_and_a_global() {
    let house = service(&[(
        "tell",
        "const early = typeof context.functionName;
         const name = () => context.functionName;
         export const handler = (event, given) => [early, name(), given === context, given.projectId, given.invocationId, given.timestamp]",
    )]);
    let answer = invoke(&house, "tell", &json!({}));
    let told = &answer.json()["result"];
    assert_eq!(
        (&told[0], &told[1], &told[2], &told[3]),
        (
            &json!("string"),
            &json!("tell"),
            &json!(true),
            &json!("project-123")
        )
    );
    assert_eq!(told[4].as_str(), answer.header("x-invocation-id"));
    let time = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$").expect("a valid pattern");
    assert!(
        time.is_match(told[5].as_str().unwrap_or_default()),
        "{told}"
    );
    let again = invoke(&house, "tell", &json!({})).json();
    assert_ne!(again["result"][4], told[4]);
}

#[test]
fn what_a_handler_throws_is_said_with_its_logs() {
    let house = service(&[
        (
            "missing",
            "export const handler = () => { console.log('Starting function'); nowhere() }",
        ),
        (
            "thrown",
            "export const handler = async () => { throw new Error('boom') }",
        ),
        ("odd", "export const handler = () => { throw 'just text' }"),
    ]);
    is(
        &invoke(&house, "missing", &json!({})),
        500,
        json!({
            "error": "Function execution failed",
            "message": "ReferenceError: nowhere is not defined",
            "logs": ["[LOG] Starting function"],
        }),
    );
    let thrown = invoke(&house, "thrown", &json!({}));
    assert!(thrown.header("x-invocation-id").is_some());
    is(
        &thrown,
        500,
        json!({"error": "Function execution failed", "message": "Error: boom", "logs": []}),
    );
    refuses(
        &invoke(&house, "odd", &json!({})),
        500,
        "Function execution failed",
        "just text",
    );
}

#[test]
fn a_timeout_names_the_real_limit() {
    let house = House::serve()
        .function("loop", |f| {
            f.event("export const handler = () => { console.log('in'); for (;;); }")
                .setting("timeout = '300ms'")
        })
        .start();
    let answer = ask(&house, "POST", "/api/v1/functions/default/loop", &json!({}));
    is(
        &answer,
        500,
        json!({
            "error": "Function execution failed",
            "message": "Function execution timeout (300ms)",
            "logs": ["[LOG] in"],
        }),
    );
    // New code keeps the settings; a function without any has thirty seconds.
    let code = json!({"code": "export const handler = (e, c) => c.getRemainingTimeInMillis()"});
    let changed = ask(&house, "PATCH", "/api/v1/functions/default/loop", &code);
    assert_eq!(changed.status, 200, "{}", changed.text());
    let left = ask(&house, "POST", "/api/v1/functions/default/loop", &json!({}));
    assert!(
        left.json()["result"]
            .as_f64()
            .is_some_and(|left| left <= 300.0)
    );
    create(
        &house,
        json!({"function_name": "free", "code": code["code"]}),
    );
    let left = invoke(&house, "free", &json!({})).json()["result"].clone();
    let left = left.as_f64().unwrap_or_default();
    assert!(left > 20_000.0 && left <= 30_000.0, "{left}");
}

#[test]
fn what_cannot_be_called_is_refused_in_the_service_s_words() {
    let house = service(&[("hello", HELLO)]);
    create(
        &house,
        json!({"function_name": "empty", "file_path": "api/e.js"}),
    );
    is(
        &invoke(&house, "none", &json!({})),
        404,
        json!({"error": "Function not found"}),
    );
    is(
        &house.post("/api/v1/functions/nowhere/hello", "{}"),
        404,
        json!({"error": "Function not found"}),
    );
    is(
        &invoke(&house, "empty", &json!({})),
        404,
        json!({"error": "Function code not found"}),
    );
    for name in ["hello", "empty"] {
        let off = ask(&house, "PATCH", &path(name), &json!({"is_active": false}));
        assert_eq!(off.json()["function"]["is_active"], false);
        is(
            &invoke(&house, name, &json!({})),
            403,
            json!({"error": "Function is disabled"}),
        );
    }
    let on = ask(&house, "PATCH", &path("hello"), &json!({"is_active": true}));
    assert_eq!(on.json()["function"]["is_active"], true);
    let bad = house.post(&path("hello"), "{\"a\":");
    refuses(&bad, 400, "Bad request", "the event is no JSON");
    let large = format!("\"{}\"", "x".repeat(7 << 20));
    let large = house.post(&path("hello"), large);
    refuses(&large, 413, "Payload too large", "`event` is 6MB");
    let put = house.ask("PUT", &path("hello")).send();
    refuses(&put, 405, "Method not allowed", "does not take PUT");
    refuses(&house.get("/api/nothing"), 404, "Not found", "/api/nothing");
}

#[test]
fn a_full_queue_is_429_and_says_when_to_come_again() {
    let house = House::serve()
        .function("slow", |f| {
            f.bun()
                .event(
                    "export const handler = () => new Promise((done) => setTimeout(done, 20000))",
                )
                .setting("workers = { max = 1 }")
                .setting("queue = { depth = 1 }")
        })
        .start();
    let at = "/api/v1/functions/default/slow";
    let open: Vec<_> = (0..2)
        .map(|_| house.ask("POST", at).json(&json!({})).open())
        .collect();
    until("one runs and one waits", || {
        let info = house.cli(&["info", "slow", "--json"]).ok().json();
        info["waiting"] == 1 && info["workers"]["busy"] == 1
    });
    let full = house.post(at, "{}");
    refuses(&full, 429, "Too many requests", "queue");
    assert_eq!(full.header("retry-after"), Some("1"));
    drop(open);
}
