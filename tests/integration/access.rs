//! Who may: the open server and its guard, tokens and roles, the first token.

use serde_json::json;

use crate::serving::House;

const HELLO: &str = "export default () => new Response('hello')";

fn hello() -> House {
    House::serve().function("hello", |f| f.web(HELLO)).start()
}

#[test]
fn an_open_server_refuses_what_comes_from_a_page_or_a_proxy() {
    let house = hello();
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-origin"),
        ("forwarded", "for=1.2.3.4"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("via", "1.1 proxy"),
        ("host", "evil.example"),
    ] {
        let ask = |method, path| house.ask(method, path).header(name, value);
        ask("GET", "/v1/server").send().fails(403, "Forbidden");
        let invoke = ask("POST", "/v1/projects/default/functions/hello/invoke");
        invoke.json(&json!({})).send().fails(403, "Forbidden");
        assert_eq!(
            ask("GET", "/functions/hello").send().ok(),
            "hello",
            "{name}"
        );
    }
    let typed = house
        .ask("GET", "/v1/server")
        .header("sec-fetch-site", "none");
    typed.send().ok();
}

#[test]
fn the_first_token_comes_over_the_socket_and_closes_the_server() {
    let house = hello();
    house.get("/v1/server").ok();
    let admin = house.token("admin");
    assert!(admin.starts_with("bgt_"), "{admin}");
    house.get("/v1/server").fails(401, "Unauthorized");
    house.get("/functions/hello").fails(401, "Unauthorized");
    house
        .ask("GET", "/v1/server")
        .token("bgt_wrong")
        .send()
        .fails(401, "Unauthorized");
    house.ask("GET", "/v1/server").token(&admin).send().ok();
    house
        .ask("GET", "/functions/hello")
        .token(&admin)
        .send()
        .ok();
    house.cli(&["list"]).ends(6);
    house.cli(&["list", "--token", &admin]).ok();
}

#[test]
fn health_needs_no_token() {
    let house = hello();
    house.token("admin");
    assert_eq!(house.get("/health/live").status, 200);
    assert_eq!(house.get("/health/ready").status, 200);
}

#[test]
fn roles_may_do_what_they_are_for_and_no_more() {
    let house = hello();
    let (_admin, deploy, invoke) = (
        house.token("admin"),
        house.token("deploy"),
        house.token("invoke"),
    );
    house
        .ask("GET", "/functions/hello")
        .token(&invoke)
        .send()
        .ok();
    house.cli(&["list", "--token", &invoke]).ok();
    house.cli(&["logs", "hello", "--token", &invoke]).ends(6);
    house
        .cli(&["rollback", "hello", "v1", "--token", &invoke])
        .ends(6);
    let folder = house.folder.to_str().unwrap();
    house.cli(&["deploy", folder, "--token", &deploy]).ok();
    let create = house
        .ask("POST", "/v1/tokens")
        .json(&json!({"role": "admin"}));
    create.token(&deploy).send().fails(403, "Forbidden");
}

#[test]
fn a_laptop_s_token_looks_and_invokes_and_changes_nothing() {
    let house = hello();
    let _admin = house.token("admin");
    let live = house.token("live");
    house.cli(&["invoke", "hello", "--token", &live]).ok();
    for command in [
        &["list"][..],
        &["info", "hello"],
        &["versions", "hello"],
        &["env", "hello"],
        &["logs", "hello"],
        &["invocations", "hello"],
    ] {
        house.cli(&[command, &["--token", &live]].concat()).ok();
    }
    let refused = "the token's role is `live`; this needs `deploy`";
    for command in [
        &["rollback", "hello", "v1"][..],
        &["env", "hello", "set", "A=1"],
        &["disable", "hello"],
    ] {
        house
            .cli(&[command, &["--token", &live]].concat())
            .ends(6)
            .says(refused);
    }
    house.cli(&["token", "list", "--token", &live]).ends(6);
}

#[test]
fn a_bridge_s_key_carries_a_token_that_opens_nothing_else() {
    let house = hello();
    let _admin = house.token("admin");
    let key = house.token("bridge");
    let parts: Vec<&str> = key.split('.').collect();
    let ["bk1", bridge, seal, "0", ""] = parts[..] else {
        panic!("no key: {key}");
    };
    assert!(bridge.starts_with("bgt_") && seal.len() == 43, "{key}");
    assert_ne!(house.token("bridge").split('.').nth(2), Some(seal));
    house.cli(&["list", "--token", bridge]).ends(6);
    house
        .ask("GET", "/functions/hello")
        .token(bridge)
        .send()
        .fails(403, "Forbidden");
    let socket = house.socket();
    let made = house.cli(&[
        "token",
        "create",
        "--role",
        "bridge",
        "--expires",
        "1h",
        "--json",
        "--socket",
        socket.to_str().unwrap(),
    ]);
    let made = made.ok().json();
    let key = made["key"].as_str().unwrap();
    assert!(key.contains(made["token"].as_str().unwrap()), "{key}");
    let ends: i64 = key.split('.').nth(3).unwrap().parse().unwrap();
    assert_eq!(ends, made["expires_at"].as_i64().unwrap() / 1000);
}

#[test]
fn a_token_says_whom_it_stands_for() {
    let house = hello();
    let admin = house.token("admin");
    let create = |user: &str| {
        house
            .ask("POST", "/v1/tokens")
            .token(&admin)
            .json(&json!({"role": "invoke", "user": user}))
            .send()
    };
    create("ann b").fails(400, "BadRequest");
    create("").fails(400, "BadRequest");
    let made = create("ann@shop").json();
    assert_eq!(made["user"], "ann@shop");
    let ann = made["token"].as_str().unwrap();
    let me = house.ask("GET", "/v1/server").token(ann).send().json();
    assert_eq!(
        (&me["role"], &me["user"]),
        (&json!("invoke"), &json!("ann@shop"))
    );
    let list = house.cli(&["token", "list", "--token", &admin]).ok();
    assert!(list.stdout.contains("ann@shop"), "{}", list.stdout);
}

#[test]
fn a_revoked_token_is_worth_nothing_at_once() {
    let house = hello();
    let (admin, invoke) = (house.token("admin"), house.token("invoke"));
    house
        .ask("GET", "/functions/hello")
        .token(&invoke)
        .send()
        .ok();
    let list = house
        .cli(&["token", "list", "--json", "--token", &admin])
        .ok()
        .json();
    let list = list.as_array().unwrap();
    let id = list.iter().find(|token| token["role"] == "invoke").unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    house.cli(&["token", "revoke", &id, "--token", &admin]).ok();
    house
        .ask("GET", "/functions/hello")
        .token(&invoke)
        .send()
        .fails(401, "Unauthorized");
}

#[test]
fn a_function_with_auth_none_needs_no_token() {
    let house = House::serve()
        .function("open", |f| f.web(HELLO).setting("auth = 'none'"))
        .function("closed", |f| f.web(HELLO))
        .start();
    house.token("admin");
    assert_eq!(house.get("/functions/open").ok(), "hello");
    house.get("/functions/closed").fails(401, "Unauthorized");
}

#[test]
fn the_caller_s_token_never_reaches_the_handler() {
    let echo = "export default (r) => new Response(String(r.headers.get('authorization')))";
    let house = House::serve().function("echo", |f| f.web(echo)).start();
    let admin = house.token("admin");
    let answer = house.ask("GET", "/functions/echo").token(&admin).send();
    assert!(!answer.ok().contains("bgt_"), "{}", answer.text());
}

#[test]
fn a_server_that_requires_tokens_is_closed_from_the_start() {
    let house = House::serve().flag("--require-token").start();
    house.get("/v1/server").fails(401, "Unauthorized");
    let admin = house.token("admin");
    house
        .ask("GET", "/v1/server")
        .token(&admin)
        .header("x-forwarded-for", "1.2.3.4")
        .send()
        .ok();
}

#[test]
fn a_wide_address_without_a_token_ends_with_3() {
    let said = House::serve().flag("--listen").flag("0.0.0.0:0").refuses();
    said.ends(3)
        .says("bungee token create --role admin --data-dir ");
}

#[test]
fn a_token_made_on_the_data_folder_opens_a_wide_address() {
    let plan = House::serve().flag("--listen").flag("0.0.0.0:0");
    let data = plan.home().join("data");
    std::fs::create_dir(&data).unwrap();
    let data = data.to_str().unwrap();
    let made = crate::serving::cli_in(
        plan.home(),
        &["token", "create", "--role", "admin", "--data-dir", data],
    );
    let admin = made.ok().stdout.trim().to_owned();
    let house = plan.start();
    house.get("/v1/server").fails(401, "Unauthorized");
    house.ask("GET", "/v1/server").token(&admin).send().ok();
}

#[test]
fn the_socket_is_only_for_its_user() {
    use std::os::unix::fs::PermissionsExt;
    let house = hello();
    let mode = std::fs::metadata(house.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}
