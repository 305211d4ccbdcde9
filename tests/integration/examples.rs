//! The examples as a newcomer runs them.

use std::process::Command;

use serde_json::json;

use crate::{process::until, serving::House};

#[test]
fn the_hello_example_greets_and_reloads() {
    let house = House::dev_example("hello").start();
    let hello = |path| house.get(path).json()["message"].clone();
    assert_eq!(hello("/functions/hello/Ann"), "Hello, Ann!");
    assert_eq!(hello("/hello/Bob"), "Hello, Bob!");
    let source = std::fs::read_to_string(house.folder.join("src/hello.ts")).unwrap();
    house.save(
        "src/hello.ts",
        &source.replace("${greeting}, ", "${greeting} again, "),
    );
    until("the save is live", || {
        hello("/hello/Bob") == "Hello again, Bob!"
    });
}

#[test]
fn the_python_example_answers_events_asgi_and_wsgi() {
    let house = House::dev_example("python").start();
    let hello = |path| house.get(path).json()["message"].clone();
    assert_eq!(hello("/hello/Ann"), "Hello, Ann!");
    house.logged("hello", "greeting Ann");
    assert_eq!(house.get("/orders").json(), json!(["A-1", "A-2"]));
    assert_eq!(house.get("/orders/A-2").json()["total"], 8400);
    assert_eq!(house.get("/orders/A-9").status, 404);
    let watch = house.get("/orders/watch");
    assert_eq!(watch.ok(), "data: A-1\n\ndata: A-2\n\n");
    assert_eq!(
        watch.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let page = house.get("/functions/page?name=%3CAnn%3E").ok();
    assert!(page.contains("Hello, &lt;Ann&gt;!"), "{page}");
    let source = std::fs::read_to_string(house.folder.join("hello/main.py")).unwrap();
    house.save(
        "hello/main.py",
        &source.replace("}, {name}", "} again, {name}"),
    );
    until("the save is live", || {
        hello("/hello/Bob") == "Hello again, Bob!"
    });
}

#[test]
fn the_bash_example_is_a_runtime() {
    let house = House::dev_example("bash").start();
    assert_eq!(house.get("/hello/Ann").json()["message"], "Hello, Ann!");
    house.logged("hello", "greeting Ann");
    let failed = house.get("/hello/nobody");
    failed
        .fails(502, "HandlerError")
        .says("there is nobody to greet");
    let source = std::fs::read_to_string(house.folder.join("hello/hello.sh")).unwrap();
    house.save("hello/hello.sh", &source.replace("%s, %s", "%s again, %s"));
    until("the save is live", || {
        house.get("/hello/Bob").json()["message"] == "Hello again, Bob!"
    });
}

#[test]
fn the_go_example_greets_streams_and_is_built_again() {
    let plan = House::dev_example("go").with_compilers();
    plan.builds(&["go", "build", "./..."]);
    let house = plan.start();
    assert_eq!(house.get("/hello/Ann").json()["message"], "Hello, Ann!");
    house.logged("hello", "greeting Ann");
    let story = house.get("/functions/story");
    assert_eq!(story.ok(), "line 1\nline 2\nline 3\n");
    assert_eq!(story.header("content-type"), Some("text/plain"));
    let source = std::fs::read_to_string(house.folder.join("cmd/hello/main.go")).unwrap();
    house.save(
        "cmd/hello/main.go",
        &source.replace("\", \"", "\" again, \""),
    );
    until("the save is live", || {
        house.get("/hello/Bob").json()["message"] == "Hello again, Bob!"
    });
}

#[test]
fn the_rust_example_greets() {
    let plan = House::dev_example("rust").with_compilers();
    plan.builds(&["cargo", "build", "--release", "--quiet"]);
    let house = plan.start();
    assert_eq!(house.get("/hello/Ann").json()["message"], "Hello, Ann!");
    house.logged("hello", "greeting Ann");
}

#[test]
fn the_shop_example_serves_web_and_event_with_a_package() {
    let plan = House::dev_example("shop");
    let npm = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--prefer-offline"])
        .current_dir(plan.home().join("project"))
        .output()
        .unwrap();
    assert!(npm.status.success(), "{npm:?}");
    let house = plan.start();
    assert_eq!(
        house.get("/functions/shop/orders").json(),
        json!(["A-1", "A-2"])
    );
    assert_eq!(house.get("/orders/A-2").json()["total"], 8400);
    assert_eq!(house.get("/orders/x").status, 400, "zod refuses the id");
    assert_eq!(house.get("/orders/A-9").status, 404);
    let order = r#"{"id":"A-7","items":[{"name":"rope","cents":1250}]}"#;
    let said = house.cli(&["invoke", "receipt", "--data", order]).ok();
    assert_eq!(
        said.json()["lines"],
        json!(["rope: 12.50 EUR", "total: 12.50 EUR"])
    );
    assert!(said.stderr.contains("receipt for A-7"), "{said:?}");
}
