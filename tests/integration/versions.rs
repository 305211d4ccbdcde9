//! Deployments: what becomes a version, where `current` points, how to go back.

use serde_json::Value;

use crate::serving::House;

const HELLO: &str = "export default () => new Response('one')";

fn hello() -> House {
    House::serve().function("hello", |f| f.web(HELLO)).start()
}

fn save(house: &House, word: &str) {
    let source = format!("export default () => new Response('{word}')");
    house.save("src/hello.js", &source);
    house.deploy().ok();
}

/// `v2*, v1`: newest first, a star at the current one.
fn versions(house: &House) -> String {
    let list = house.cli(&["versions", "hello", "--json"]).ok().json();
    let list = list.as_array().expect("a list").clone();
    let text = list.iter().map(|version| {
        let star = if version["current"] == Value::Bool(true) {
            "*"
        } else {
            ""
        };
        format!("{}{star}", version["version"].as_str().unwrap_or("?"))
    });
    text.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_first_deployment_is_v1_and_is_live() {
    let house = hello();
    assert_eq!(house.get("/functions/hello").ok(), "one");
    assert_eq!(versions(&house), "v1*");
}

#[test]
fn the_same_code_again_is_no_new_version_and_says_so() {
    let house = hello();
    let said = house.deploy().ok();
    assert!(said.stderr.contains("is at v1"), "{said:?}");
    assert_eq!(said.stdout.trim(), "hello v1");
    assert_eq!(versions(&house), "v1*");
}

#[test]
fn changed_code_is_a_new_version_and_live_at_once() {
    let house = hello();
    save(&house, "two");
    assert_eq!(house.get("/functions/hello").ok(), "two");
    assert_eq!(versions(&house), "v2* v1");
}

#[test]
fn changed_settings_alone_are_a_new_version() {
    let house = hello();
    let config = std::fs::read_to_string(house.folder.join("bungee.toml")).unwrap();
    house.save(
        "bungee.toml",
        &format!("{config}timeout = '7s'\nlive = 'off'\n"),
    );
    house.deploy().ok();
    assert_eq!(versions(&house), "v2* v1");
    let info = house.cli(&["info", "hello", "--json"]).ok().json();
    assert_eq!(info["settings"]["timeout"]["value"], "7s");
    assert_eq!(info["settings"]["timeout"]["from"], "bungee.toml");
    assert_eq!(info["settings"]["live"]["value"], "off");
    assert_eq!(info["settings"]["memory"]["from"], "default");
}

#[test]
fn the_code_of_an_older_version_moves_current_back_to_it() {
    let house = hello();
    save(&house, "two");
    save(&house, "one");
    assert_eq!(versions(&house), "v2 v1*");
    assert_eq!(house.get("/functions/hello").ok(), "one");
}

#[test]
fn rollback_goes_to_what_was_current_before() {
    let house = hello();
    save(&house, "two");
    save(&house, "three");
    house.cli(&["rollback", "hello"]).ok();
    assert_eq!(house.get("/functions/hello").ok(), "two");
    assert_eq!(versions(&house), "v3 v2* v1");
}

#[test]
fn rollback_takes_a_version_a_number_or_a_digest() {
    let house = hello();
    save(&house, "two");
    let list = house.cli(&["versions", "hello", "--json"]).ok().json();
    let digest = list[0]["digest"]
        .as_str()
        .unwrap()
        .trim_start_matches("sha256:")[..12]
        .to_owned();
    house.cli(&["rollback", "hello", "v1"]).ok();
    assert_eq!(house.get("/functions/hello").ok(), "one");
    house.cli(&["rollback", "hello", "2"]).ok();
    assert_eq!(house.get("/functions/hello").ok(), "two");
    house.cli(&["rollback", "hello", "1"]).ok();
    house.cli(&["rollback", "hello", &digest]).ok();
    assert_eq!(house.get("/functions/hello").ok(), "two");
    house.cli(&["rollback", "hello", "v9"]).ends(4);
}

#[test]
fn versions_and_their_order_survive_a_restart() {
    let mut house = hello();
    save(&house, "two");
    house.cli(&["rollback", "hello"]).ok();
    house.kill9();
    house.restart();
    assert_eq!(house.get("/functions/hello").ok(), "one");
    assert_eq!(versions(&house), "v2 v1*");
}

#[test]
fn one_function_of_a_folder_may_be_deployed_alone() {
    let house = House::serve()
        .function("a", |f| f.web(HELLO))
        .function("b", |f| f.web(HELLO))
        .start();
    for name in ["a", "b"] {
        house.save(
            &format!("src/{name}.js"),
            "export default () => new Response('two')",
        );
    }
    let folder = house.folder.to_str().unwrap();
    house.cli(&["deploy", folder, "--function", "a"]).ok();
    assert_eq!(house.get("/functions/a").ok(), "two");
    assert_eq!(house.get("/functions/b").ok(), "one");
}

#[test]
fn a_route_that_another_function_has_is_refused_and_nothing_changes() {
    let house = House::serve()
        .function("a", |f| f.web(HELLO).setting("routes = ['GET /a/:id']"))
        .start();
    house.save("src/b.js", HELLO);
    house.save(
        "bungee.toml",
        "[functions.b]\nentry = 'src/b.js'\nroutes = ['GET /a/:other']\n",
    );
    house.deploy().ends(3).says("NameTaken");
    assert_eq!(house.get("/a/1").ok(), "one");
    house.get("/functions/b").fails(404, "FunctionNotFound");
}

#[test]
fn a_function_named_like_a_project_is_refused() {
    let house = hello();
    house.save(
        "bungee.toml",
        "project = 'hello'\n[functions.x]\nentry = 'src/hello.js'\n",
    );
    house.deploy().ends(3).says("NameTaken");
    assert_eq!(house.get("/functions/hello").ok(), "one");
}

#[test]
fn functions_of_a_project_answer_under_its_name() {
    let house = hello();
    house.save("src/cart.js", "export default () => new Response('cart')");
    house.save(
        "bungee.toml",
        "project = 'shop'\n[functions.cart]\nentry = 'src/cart.js'\n",
    );
    house.deploy().ok();
    assert_eq!(house.get("/functions/shop/cart").ok(), "cart");
    assert_eq!(house.get("/functions/hello").ok(), "one");
    house.cli(&["info", "shop/cart"]).ok();
    house.cli(&["info", "cart", "--project", "shop"]).ok();
    house.cli(&["info", "cart"]).ends(4);
}

#[test]
fn a_new_version_is_warm_before_calls_reach_it() {
    let source = |n: u32| format!("export default () => new Response('{n}')");
    let house = House::serve()
        .function("f", |f| f.bun().web(source(1)))
        .start();
    assert_eq!(house.get("/functions/f").ok(), "1");
    house.save("src/f.js", &source(2));
    house.deploy().ok();
    assert_eq!(house.get("/functions/f").ok(), "2");
    let record = house.record("f", |record| record["version"] == "v2");
    assert_eq!(record["cold"], false, "{record}");
}

#[test]
fn a_version_that_does_not_load_is_refused_while_another_runs() {
    let house = House::serve()
        .function("f", |f| {
            f.bun().web("export default () => new Response('old')")
        })
        .start();
    house.get("/functions/f").ok();
    house.save(
        "src/f.js",
        "throw new Error('no key'); export default () => new Response('new')",
    );
    house
        .deploy()
        .ends(1)
        .says("InitError")
        .says("no key")
        .says("calls still reach v1");
    assert_eq!(house.get("/functions/f").ok(), "old");
    let info = house.cli(&["info", "f", "--json"]).ok().json();
    assert_eq!(info["current"], "v1");
    house.save("src/f.js", "export default () => new Response('mended')");
    house.deploy().ok();
    assert_eq!(house.get("/functions/f").ok(), "mended");
}
