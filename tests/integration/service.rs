//! The Functions Service profile: its paths, its shapes to the letter, and what its README lets people type.

use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};

use crate::{knock::Answer, process::until, schema::Description, serving::House};

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

#[test]
fn functions_are_made_shown_changed_and_deleted() {
    let house = House::serve().start();
    let made = create(
        &house,
        json!({"function_name": "hello", "file_path": "api/hello.js", "runtime": "node18", "code": HELLO}),
    );
    let time = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$").expect("a valid pattern");
    for key in ["created_at", "updated_at"] {
        assert!(
            time.is_match(made[key].as_str().unwrap_or_default()),
            "{made}"
        );
    }
    assert_eq!(
        (&made["function_name"], &made["file_path"], &made["runtime"]),
        (&json!("hello"), &json!("api/hello.js"), &json!("node18"))
    );
    assert_eq!(made["invocation_count"], 0);
    let listed = house.get("/api/v1/projects/project-123/functions").json();
    let mut row = made.clone();
    row.as_object_mut()
        .expect("a function")
        .remove("updated_at");
    let list = json!({"success": true, "functions": [row], "count": 1});
    assert_eq!(listed, list);
    assert_eq!(
        house.get("/api/functions/projects/project-123").json(),
        list
    );
    assert_eq!(
        house.get("/api/functions/project-123/hello").json()["function"],
        made
    );
    let code = house.get("/api/functions/code/project-123/hello");
    is(&code, 200, json!({"success": true, "code": HELLO}));

    let other = "export const handler = () => 'other'";
    let change = json!({"code": other, "file_path": "api/other.ts"});
    let changed = ask(&house, "PATCH", "/api/functions/project-123/hello", &change);
    let changed = &changed.json()["function"];
    assert_eq!(changed["id"], made["id"]);
    assert_eq!(changed["file_path"], "api/other.ts");
    assert_eq!(changed["runtime"], "node18");
    assert_eq!(
        invoke(&house, "hello", &json!({})).json()["result"],
        "other"
    );
    let code = house.get("/api/functions/code/project-123/hello");
    assert_eq!(code.json()["code"], other);
    let moved = ask(&house, "PATCH", &path("hello"), &json!({"runtime": "bun"}));
    assert_eq!(moved.json()["function"]["runtime"], "bun");
    assert_eq!(
        invoke(&house, "hello", &json!({})).json()["result"],
        "other"
    );
    assert_eq!(house.bun_workers().len(), 1);
    // Our own commands see the same function.
    house.cli(&["info", "project-123/hello"]).ok();

    let gone = house
        .ask("DELETE", "/api/functions/project-123/hello")
        .send();
    is(&gone, 200, json!({"success": true}));
    let again = house
        .ask("DELETE", "/api/functions/project-123/hello")
        .send();
    is(&again, 404, json!({"error": "Function not found"}));
    is(
        &house.get(&path("hello")),
        404,
        json!({"error": "Function not found"}),
    );
    let anew = create(&house, json!({"function_name": "hello", "code": HELLO}));
    assert_ne!(anew["id"], made["id"]);
}

#[test]
fn what_makes_no_function_is_refused_and_leaves_nothing() {
    let house = service(&[("hello", HELLO)]);
    let post = |project: &str, words: Value| {
        ask(
            &house,
            "POST",
            &format!("/api/functions/projects/{project}"),
            &words,
        )
    };
    let again = post(
        "project-123",
        json!({"function_name": "hello", "code": HELLO}),
    );
    refuses(&again, 409, "Function already exists", "project-123/hello");
    for (words, status, error, message) in [
        (
            json!({"function_name": "code"}),
            409,
            "Conflict",
            "reserved",
        ),
        (json!({"function_name": "a/b"}), 400, "Bad request", "a/b"),
        (
            json!({"code": "x"}),
            400,
            "Bad request",
            "`function_name` is missing",
        ),
        (
            json!({"function_name": "x", "runtime": "deno", "code": HELLO}),
            400,
            "Bad request",
            "no runtime `deno`; use node18",
        ),
        (
            json!({"function_name": "x", "file_path": "../x.js", "code": HELLO}),
            400,
            "Bad request",
            "does not lie in the project",
        ),
        (
            json!({"function_name": "x", "file_path": "api/x.js", "code": "export const = 1"}),
            400,
            "Invalid function code",
            "api/x.js:1:14: Unexpected token",
        ),
        (
            json!({"function_name": "x", "code": "export const other = 1"}),
            400,
            "Invalid function code",
            "it exports `other`",
        ),
        (
            json!({"function_name": "x", "code": "import _ from 'lodash'; export const handler = () => _"}),
            400,
            "Invalid function code",
            "lodash",
        ),
        (
            json!({"function_name": "x", "code": "throw new Error('early'); export const handler = 1"}),
            400,
            "Invalid function code",
            "early",
        ),
    ] {
        refuses(&post("project-123", words), status, error, message);
    }
    refuses(
        &post("projects", json!({"function_name": "x"})),
        409,
        "Conflict",
        "reserved",
    );
    let broken = house
        .ask("POST", "/api/functions/projects/project-123")
        .body("{")
        .send();
    refuses(&broken, 400, "Bad request", "not as expected");
    let nothing = ask(&house, "PATCH", &path("hello"), &json!({}));
    refuses(&nothing, 400, "Bad request", "nothing is to be changed");
    // Code that is refused leaves the old one in its place.
    let broken = ask(
        &house,
        "PATCH",
        &path("hello"),
        &json!({"code": "export const ="}),
    );
    refuses(&broken, 400, "Invalid function code", "api/hello.js:1");
    let event = json!({"name": "Ann"});
    assert_eq!(invoke(&house, "hello", &event).status, 200);
    let listed = house.get("/api/functions/projects/project-123").json();
    assert_eq!(listed["count"], 1, "{listed}");
}

#[test]
fn two_that_make_one_function_at_once_get_one() {
    let house = House::serve().start();
    let words = json!({"function_name": "hello", "code": HELLO});
    let wires: Vec<_> = (0..8)
        .map(|_| {
            let post = house.ask("POST", "/api/functions/projects/project-123");
            post.json(&words).header("connection", "close").open()
        })
        .collect();
    let mut statuses: Vec<u16> = wires
        .into_iter()
        .map(|mut wire| wire.answer().status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

#[test]
fn a_build_service_registers_as_often_as_it_likes() {
    let house = House::serve().start();
    let register = |code: &str| {
        let words = json!({"projectId": "site", "functionName": "add", "filePath": "api/add.ts", "runtime": "node20", "code": code});
        ask(&house, "POST", "/api/functions/register", &words)
    };
    let first = register("export const handler = (n: number) => n + 1");
    assert_eq!(first.status, 201, "{}", first.text());
    let second = register("export const handler = (n: number) => n + 2");
    assert_eq!(second.status, 200, "{}", second.text());
    let (first, second) = (first.json(), second.json());
    assert_eq!(first["function"]["id"], second["function"]["id"]);
    assert_eq!(second["function"]["runtime"], "node20");
    let answer = ask(&house, "POST", "/api/v1/functions/site/add", &json!(1));
    assert_eq!(answer.json()["result"], 3);
}

#[test]
fn functions_of_a_folder_are_shown_and_called_too() {
    let house = House::serve()
        .function("hello", |f| {
            f.bun()
                .written_in("ts")
                .event("export const handler = (event: { n: number }) => event.n * 2")
        })
        .start();
    let told = house.get("/api/v1/functions/hello").json()["function"].clone();
    assert_eq!(
        (&told["file_path"], &told["runtime"]),
        (&json!("src/hello.ts"), &json!("bun"))
    );
    let answer = ask(&house, "POST", "/_functions/hello", &json!({"n": 4}));
    assert_eq!(answer.json()["result"], 8);
    let code = house.get("/api/functions/code/default/hello").json()["code"].clone();
    assert!(
        code.as_str()
            .is_some_and(|code| code.contains("event.n * 2")),
        "{code}"
    );
    let moved = ask(
        &house,
        "PATCH",
        "/_functions/hello",
        &json!({"runtime": "node18"}),
    );
    refuses(&moved, 400, "Bad request", "send `code` too");
    // What was made here and then deployed from a folder speaks for itself.
    let taken = ask(
        &house,
        "PATCH",
        "/_functions/hello",
        &json!({"runtime": "node18", "file_path": "h.js", "code": HELLO}),
    );
    assert_eq!(taken.json()["function"]["runtime"], "node18");
    house.save("src/hello.ts", "export const handler = () => 'folder'");
    house.deploy().ok();
    let told = house.get("/_functions/hello").json()["function"].clone();
    assert_eq!(
        (&told["file_path"], &told["runtime"]),
        (&json!("src/hello.ts"), &json!("bun"))
    );
    let code = house.get("/api/functions/code/default/hello").json()["code"].clone();
    assert!(
        code.as_str().is_some_and(|code| code.contains("folder")),
        "{code}"
    );
}

#[test]
fn invocations_are_counted_for_good() {
    let mut house = House::serve()
        .flag("--limit=keep_invocations=3")
        .flag("--limit=records_per_second=1")
        .start();
    create(&house, json!({"function_name": "hello", "code": HELLO}));
    create(
        &house,
        json!({"function_name": "bad", "code": "export const handler = () => nope"}),
    );
    for _ in 0..20 {
        invoke(&house, "hello", &json!({}));
    }
    invoke(&house, "bad", &json!({}));
    house.ask("POST", "/functions/project-123/hello").send();
    assert_eq!(shown(&house, "hello")["invocation_count"], 21);
    assert_eq!(shown(&house, "bad")["invocation_count"], 1);
    let id = shown(&house, "hello")["id"].clone();
    house.signal(rustix::process::Signal::TERM);
    house.ended();
    house.restart();
    assert_eq!(shown(&house, "hello")["invocation_count"], 21);
    assert_eq!(shown(&house, "hello")["id"], id);
    invoke(&house, "hello", &json!({}));
    assert_eq!(shown(&house, "hello")["invocation_count"], 22);
    house
        .ask("DELETE", "/api/functions/project-123/hello")
        .send()
        .ok();
    let anew = create(&house, json!({"function_name": "hello", "code": HELLO}));
    assert_eq!(anew["invocation_count"], 0);
}

#[test]
fn code_is_kept_in_memory_until_it_changes_or_grows_old() {
    let house = House::serve().flag("--limit=code_cache_age=2s").start();
    let size = || {
        let text = house.get("/metrics").ok();
        let of = |family: &str| -> u64 {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{family} ")));
            let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
            value.unwrap_or_else(|| panic!("no {family} in {text}"))
        };
        (
            of("bungee_code_cache_entries"),
            of("bungee_code_cache_bytes"),
        )
    };
    create(&house, json!({"function_name": "hello", "code": HELLO}));
    let code = || house.get("/api/functions/code/project-123/hello").json()["code"].clone();
    assert_eq!(size(), (0, 0));
    assert_eq!(code(), HELLO);
    assert_eq!(size(), (1, HELLO.len() as u64));
    let other = "export const handler = () => 'other'";
    ask(&house, "PATCH", &path("hello"), &json!({"code": other}));
    assert_eq!(size(), (0, 0));
    assert_eq!(code(), other);
    assert_eq!(size().0, 1);
    until("old code leaves the cache", || size() == (0, 0));
}

#[test]
fn a_path_resolves_to_the_function_that_it_means() {
    let house = House::serve()
        .function("orders", |f| {
            f.event("export const handler = () => 1")
                .setting("routes = ['GET /orders/:id']")
        })
        .start();
    create(
        &house,
        json!({"function_name": "hello", "file_path": "api/greet.js", "code": HELLO}),
    );
    let resolve = |project: &str, path: &str| {
        let answer = house.get(&format!("/v1/routes?project={project}&path={path}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    for path in [
        "/_functions/hello",
        "/_functions/hello/more",
        "/api/v1/functions/hello",
        "/api/v1/functions/project-123/hello",
        "/functions/project-123/hello",
        "/api/greet",
        "api/greet.js",
    ] {
        let expected = json!({
            "is_function": true, "project": "project-123", "function_name": "hello",
            "url": "/functions/project-123/hello", "is_active": true, "params": {},
        });
        assert_eq!(resolve("project-123", path), expected, "{path}");
    }
    let order = resolve("default", "/orders/7");
    assert_eq!(
        (&order["function_name"], &order["params"]),
        (&json!("orders"), &json!({"id": "7"}))
    );
    for (project, path) in [
        ("project-123", "/orders/7"),
        ("project-123", "/_functions/none"),
        ("default", "/api/greet"),
        ("nobody", "/_functions/hello"),
    ] {
        let none = json!({"is_function": false, "project": project, "params": {}});
        assert_eq!(resolve(project, path), none, "{path}");
    }
    let off = json!({"is_active": false});
    ask(&house, "PATCH", &path("hello"), &off);
    assert_eq!(
        resolve("project-123", "/_functions/hello")["is_active"],
        false
    );
    house
        .get("/v1/routes?project=project-123")
        .fails(400, "BadRequest")
        .says("`path`");
}

#[test]
fn who_may_not_is_told_so_in_the_service_s_shape() {
    let house = House::serve().flag("--require-token").start();
    let token = |role: &str| {
        let socket = house.socket();
        let socket = socket.to_str().expect("a readable path");
        let made = house.cli(&["token", "create", "--role", role, "--socket", socket]);
        made.ok().stdout.trim().to_owned()
    };
    let (deploy, caller) = (token("deploy"), token("invoke"));
    let new = |name: &str| json!({"function_name": name, "code": HELLO});
    let create = |words: &Value| {
        house
            .ask("POST", "/api/functions/projects/project-123")
            .json(words)
    };
    let refused = create(&new("hello")).send();
    refuses(&refused, 401, "Unauthorized", "this needs a token");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    let refused = create(&new("hello")).token(&caller).send();
    refuses(&refused, 403, "Forbidden", "`invoke`");
    assert_eq!(create(&new("hello")).token(&deploy).send().status, 201);
    let post = || {
        house
            .ask("POST", &path("hello"))
            .json(&json!({"name": "Ann"}))
    };
    refuses(&post().send(), 401, "Unauthorized", "token");
    assert_eq!(post().token(&caller).send().status, 200);
    // Nobody learns what is there without a token.
    let unknown = house.ask("POST", &path("none")).json(&json!({})).send();
    refuses(&unknown, 401, "Unauthorized", "token");
    for (method, at) in [
        ("GET", path("hello")),
        ("GET", "/api/functions/code/project-123/hello".to_owned()),
        ("DELETE", "/api/functions/project-123/hello".to_owned()),
        ("POST", "/api/functions/register".to_owned()),
        ("GET", "/api/v1/projects/project-123/functions".to_owned()),
    ] {
        let answer = house.ask(method, &at).send();
        refuses(&answer, 401, "Unauthorized", "token");
    }
    let open = House::serve().start();
    let page = open
        .ask("POST", "/api/functions/projects/project-123")
        .header("origin", "https://evil.example")
        .json(&new("hello"));
    refuses(&page.send(), 403, "Forbidden", "web page");
}

#[test]
fn every_operation_of_the_service_answers_as_openapi_json_describes_it() {
    let house = House::serve().start();
    let description = Description::read();
    let seen = |operation: &str, body: Option<Value>| {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let at = path
            .replace("{project}", "default")
            .replace("{function}", "hello");
        let answer = match body {
            Some(body) => ask(&house, method, &at, &body),
            None => house.ask(method, &at).send(),
        };
        description.check(operation, &answer);
    };
    let new = json!({"function_name": "hello", "code": HELLO});
    seen("POST /api/functions/projects/{project}", Some(new.clone()));
    seen("POST /api/functions/projects/{project}", Some(new.clone()));
    seen("POST /api/functions/register", Some(new));
    for base in [
        "/api/v1/functions/{project}/{function}",
        "/api/v1/functions/{function}",
        "/_functions/{function}",
    ] {
        seen(&format!("GET {base}"), None);
        seen(&format!("POST {base}"), Some(json!({"name": "Ann"})));
        seen(&format!("POST {base}"), Some(json!(null)));
        seen(&format!("PATCH {base}"), Some(json!({"is_active": true})));
    }
    seen("GET /api/v1/projects/{project}/functions", None);
    seen("GET /api/functions/projects/{project}", None);
    seen("GET /api/functions/{project}/{function}", None);
    seen(
        "PATCH /api/functions/{project}/{function}",
        Some(json!({"code": HELLO})),
    );
    seen("GET /api/functions/code/{project}/{function}", None);
    seen("DELETE /api/functions/{project}/{function}", None);
    seen("GET /api/functions/{project}/{function}", None);
    let routes = house.get("/v1/routes?path=/_functions/hello");
    description.check("GET /v1/routes", &routes);
    let mut unseen = description.unseen();
    unseen.retain(|operation| {
        ["/api/", "/_functions/", "/v1/routes"]
            .iter()
            .any(|path| operation.contains(path))
    });
    assert!(unseen.is_empty(), "nobody looked at {unseen:?}");
}

#[test]
fn variables_of_the_service_are_read_where_ours_are_absent() {
    let house = House::serve()
        .flag("--listen=127.0.0.1:0")
        .variable("FUNCTIONS_PORT", "1")
        .variable("LOG_LEVEL", "DEBUG")
        .start();
    // `--listen` won over the port; the level held.
    assert!(!house.address.ends_with(":1"), "{}", house.address);
    let command = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = house.command(arguments);
        command.env_remove("BUNGEE_SERVER").env(name, value);
        let said = command.output().expect("the program starts");
        crate::serving::Said::of(&said)
    };
    let here = format!("http://{}", house.address);
    command("API_ENDPOINT", &here, &["list"]).ok();
    command("API_ENDPOINT", "nonsense://", &["list"])
        .ends(3)
        .says("`API_ENDPOINT`");
    let data = house.home_folder();
    let data = data.to_str().expect("a readable path");
    let serve = |name: &str, value: &str| command(name, value, &["serve", "--data-dir", data]);
    serve("FUNCTIONS_PORT", "many")
        .ends(3)
        .says("`FUNCTIONS_PORT` is `many`");
    serve("LOG_LEVEL", "loud")
        .ends(3)
        .says("`LOG_LEVEL` is `loud`");
    // A port that is taken tells that it was this one that was asked for.
    let (_, port) = house.address.rsplit_once(':').expect("a port");
    serve("FUNCTIONS_PORT", port)
        .ends(3)
        .says(&format!("127.0.0.1:{port} is in use"));
    let refused = serve("DATABASE_URL", "postgresql://ann:secret@db:5432/functions");
    assert!(!refused.stderr.contains("secret"), "{refused:?}");
    refused
        .ends(3)
        .says("PostgreSQL database; keeping the server's state there arrives later");
    serve("DATABASE_URL", "file:./dev.db")
        .ends(3)
        .says("`DATABASE_URL`");
}
