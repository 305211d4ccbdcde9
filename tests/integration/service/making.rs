//! Functions of the service, from their making to their end.

use regex::Regex;
use serde_json::{Value, json};

use super::{HELLO, ask, create, invoke, is, path, refuses, service, shown};
use crate::{process::until, serving::House};

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
fn code_that_does_not_load_never_takes_over() {
    let house = House::serve().start();
    for (runtime, good, broken, cause) in [
        (
            "bun",
            "export const handler = () => 'good'",
            "throw new Error('too early'); export const handler = () => 1",
            "too early",
        ),
        (
            "node",
            "export const handler = () => 'good'",
            "throw new Error('too early'); export const handler = () => 1",
            "too early",
        ),
        (
            "python",
            "def handler(event, context):\n    return 'good'",
            "import nowhere_at_all\ndef handler(event, context):\n    return 1",
            "nowhere_at_all",
        ),
        ("provided", "", "#!/bin/sh\nexit 3\n", "3"),
    ] {
        let words =
            |code: &str| json!({"function_name": runtime, "runtime": runtime, "code": code});
        let made = ask(
            &house,
            "POST",
            "/api/functions/projects/project-123",
            &words(broken),
        );
        refuses(&made, 400, "Invalid function code", cause);
        is(
            &house.get(&path(runtime)),
            404,
            json!({"error": "Function not found"}),
        );
        if good.is_empty() {
            continue;
        }
        create(&house, words(good));
        let change = ask(&house, "PATCH", &path(runtime), &json!({"code": broken}));
        refuses(&change, 400, "Invalid function code", cause);
        let answer = invoke(&house, runtime, &json!({}));
        assert_eq!(answer.json()["result"], "good", "{}", answer.text());
    }
    let code = "export const handler = () => 'good'";
    create(
        &house,
        json!({"function_name": "cold", "runtime": "bun", "code": code}),
    );
    house.cli(&["disable", "project-123/cold"]).ok();
    house.cli(&["enable", "project-123/cold"]).ok();
    let broken = json!({"code": "throw new Error('too early'); export const handler = 1"});
    let change = ask(&house, "PATCH", &path("cold"), &broken);
    refuses(&change, 400, "Invalid function code", "still reach v1");
    assert_eq!(invoke(&house, "cold", &json!({})).json()["result"], "good");
}

#[test]
fn a_function_that_is_being_made_is_not_there_yet() {
    let house = House::serve().start();
    let [began, file] = ["began", "go"].map(|name| house.home().join(name));
    let code = format!(
        "import {{ existsSync, writeFileSync }} from 'node:fs';
         writeFileSync({:?}, '');
         while (!existsSync({:?})) await new Promise((resolve) => setTimeout(resolve, 5));
         export const handler = () => 'good';",
        began.display().to_string(),
        file.display().to_string()
    );
    let words = json!({"function_name": "slow", "runtime": "bun", "code": code});
    let post = house.ask("POST", "/api/functions/projects/project-123");
    let mut wire = post.json(&words).header("connection", "close").open();
    until("its code loads", || began.exists());
    is(
        &invoke(&house, "slow", &json!({})),
        404,
        json!({"error": "Function not found"}),
    );
    std::fs::write(file, "").expect("a file can be written");
    assert_eq!(wire.answer().status, 201);
    assert_eq!(invoke(&house, "slow", &json!({})).json()["result"], "good");
}

#[test]
fn python_runs_whatever_its_path_is_called() {
    let house = service(&[("turned", HELLO)]);
    let code = "def handler(event, context):\n    return 'ours'";
    for (name, file) in [
        ("a", "api/hello"),
        ("b", "api/my-func.v2.py"),
        ("c", "api/json.py"),
        ("d", "api/2.js"),
    ] {
        let made = create(
            &house,
            json!({"function_name": name, "file_path": file, "runtime": "python", "code": code}),
        );
        assert_eq!(made["file_path"], file);
        assert_eq!(
            invoke(&house, name, &json!({})).json()["result"],
            "ours",
            "{file}"
        );
    }
    let turn = json!({"runtime": "python", "code": code});
    let turned = ask(&house, "PATCH", &path("turned"), &turn);
    assert_eq!(turned.status, 200, "{}", turned.text());
    assert_eq!(
        invoke(&house, "turned", &json!({})).json()["result"],
        "ours"
    );
    let broken = ask(
        &house,
        "PATCH",
        &path("b"),
        &json!({"code": "def handler(:"}),
    );
    refuses(&broken, 400, "Invalid function code", "api/my-func.v2.py");
}

#[test]
fn a_function_that_was_registered_elsewhere_shows_its_runtime() {
    let house = House::serve().start();
    let words = json!({"name": "bare", "runtime": "node"});
    house.post("/v1/functions/register", words.to_string()).ok();
    let shown = house.get("/api/functions/default/bare").json();
    assert_eq!(
        (
            &shown["function"]["runtime"],
            &shown["function"]["file_path"]
        ),
        (&json!("node"), &json!("api/bare.js"))
    );
    let code = json!({"code": "export const handler = () => process.release.name"});
    let given = ask(&house, "PATCH", "/api/functions/default/bare", &code);
    assert_eq!(given.status, 200, "{}", given.text());
    let answer = ask(&house, "POST", "/api/v1/functions/default/bare", &json!({}));
    assert_eq!(answer.json()["result"], "node");
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
