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
