//! The commands from a script's view: data on stdout, all else on stderr, exit codes.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::{
    process::bungee,
    serving::{House, cli_in},
};

const ADD: &str = "export const handler = (event) => { console.log('adding'); return { sum: event.a + event.b }; }";

fn add() -> House {
    House::serve().function("add", |f| f.event(ADD)).start()
}

#[test]
fn invoke_prints_exactly_the_result_and_logs_on_stderr() {
    let house = add();
    let said = house
        .cli(&["invoke", "add", "--data", r#"{"a":1,"b":2}"#])
        .ok();
    assert_eq!(said.stdout, "{\"sum\":3}\n");
    assert!(said.stderr.contains("adding"), "{said:?}");
}

#[test]
fn invoke_reads_the_event_from_stdin_and_from_a_file() {
    let house = add();
    let said = house.cli_with(&["invoke", "add", "--data", "-"], r#"{"a":2,"b":2}"#);
    assert_eq!(said.ok().json(), json!({"sum": 4}));
    house.save("event.json", r#"{"a":3,"b":2}"#);
    let file = format!("@{}/event.json", house.folder.display());
    let said = house.cli(&["invoke", "add", "--data", &file]);
    assert_eq!(said.ok().json(), json!({"sum": 5}));
}

#[test]
fn invoke_ends_with_1_when_the_function_failed_and_prints_no_data() {
    let house = House::serve()
        .function("bad", |f| {
            f.event("export const handler = () => { throw new TypeError('no'); }")
        })
        .start();
    let said = house.cli(&["invoke", "bad"]).ends(1).says("HandlerError");
    assert_eq!(said.stdout, "");
    let said = house.cli(&["invoke", "bad", "--json"]).ends(1);
    let json = said.json();
    assert_eq!(json["outcome"], "HandlerError");
    assert_eq!(json["error"]["fault"]["errorType"], "TypeError");
}

#[test]
fn invoke_makes_web_requests() {
    let echo = "export default async (r) => new Response(`${r.method} ${new URL(r.url).pathname} ${r.headers.get('x-k')} ${await r.text()}`)";
    let house = House::serve()
        .function("echo", |f| f.bun().web(echo))
        .start();
    let said = house.cli(&[
        "invoke", "echo", "--http", "PUT /a/b", "--header", "x-k: v", "--data", "body",
    ]);
    assert_eq!(said.ok().stdout, "PUT /functions/echo/a/b v body");
}

#[test]
fn list_and_info_show_what_is_deployed() {
    let house = add();
    house.invoke("add", &json!({"a": 1, "b": 1}));
    let list = house.cli(&["list", "--json"]).ok().json();
    assert_eq!(list[0]["name"], "add", "{list}");
    assert_eq!(list[0]["current"], "v1");
    assert_eq!(list[0]["kind"], "event");
    let table = house.cli(&["list"]).ok();
    assert!(
        table.stdout.contains("add") && table.stdout.contains("isolate"),
        "{table:?}"
    );
    let info = house.cli(&["info", "add", "--json"]).ok().json();
    assert_eq!(info["limits"]["event"], "6MB");
    assert!(house.cli(&["info", "add"]).ok().stdout.contains("timeout"));
}

#[test]
fn invocations_tell_what_happened_and_filter_failures() {
    let source =
        "export const handler = (event) => { if (event.bad) throw new Error('bad'); return 1; }";
    let house = House::serve().function("f", |f| f.event(source)).start();
    house.invoke("f", &json!({}));
    house.invoke("f", &json!({"bad": true}));
    let failed = house.record("f", |record| record["outcome"] == "HandlerError");
    assert_eq!(failed["trigger"], "cli");
    assert_eq!(failed["version"], "v1");
    house.record("f", |record| record["outcome"] == "ok");
    let only = house
        .cli(&["invocations", "f", "--failed", "--json"])
        .ok()
        .json();
    assert_eq!(only["invocations"].as_array().unwrap().len(), 1, "{only}");
}

#[test]
fn an_unreachable_server_ends_with_5() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody may listen on port 1.
    let said = cli_in(folder.path(), &["list", "--server", "http://127.0.0.1:1"]);
    said.ends(5).says("127.0.0.1:1");
}

#[test]
fn what_is_not_there_ends_with_4() {
    let house = add();
    for command in [
        "info",
        "versions",
        "invoke",
        "logs",
        "invocations",
        "rollback",
        "enable",
        "disable",
        "delete",
        "env",
        "alias",
        "bench",
    ] {
        house.cli(&[command, "nobody"]).ends(4).says("nobody");
    }
}

#[test]
fn what_makes_no_sense_ends_with_2() {
    let house = add();
    house.cli(&["serv"]).ends(2).says("serve");
    house.cli(&["list", "--jsn"]).ends(2);
    house.cli(&["invoke", "a/b/c"]).ends(2);
    house.cli(&["invoke", "../x"]).ends(2);
    house.cli(&["invoke", "add", "--data", "{no json"]).ends(2);
    house.cli(&["invoke", "add", "--http", "GET"]).ends(2);
    house.cli(&["logs", "add", "--since", "tomorrow"]).ends(2);
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    let house = add();
    for command in [&["restore"][..], &["schedule", "add"], &["tunnel", "80"]] {
        house.cli(command).ends(2).says("arrives later");
    }
    house
        .cli(&["invoke", "add", "--async"])
        .ends(2)
        .says("arrives later");
    house
        .cli(&["dev", "--stack", "x"])
        .ends(2)
        .says("arrives later");
}

#[test]
fn a_configuration_error_ends_with_3_and_says_file_and_line() {
    let house = add();
    house.save(
        "bungee.toml",
        "[functions.add]\nentry = 'src/add.js'\ntimeout = '7 parsecs'\n",
    );
    house.deploy().ends(3).says("bungee.toml:3");
    house.save("bungee.toml", "[functions.add]\nentry = 'src/gone.js'\n");
    house.deploy().ends(3).says("src/gone.js");
    house.save("bungee.toml", "[functions.add\n");
    house.deploy().ends(3).says("bungee.toml:1");
}

#[test]
fn help_shows_an_example_and_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let said = cli_in(folder.path(), &["--help"]).ok();
    assert!(
        said.stdout.contains("Example:") && said.stdout.contains("Exit codes:"),
        "{said:?}"
    );
    let said = cli_in(folder.path(), &["invoke", "--help"]).ok();
    assert!(said.stdout.contains("Example:"), "{said:?}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let house = add();
    let mut child = house
        .command(&["info", "add"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_terminal_is_no_reason_to_fail() {
    let program = bungee();
    let said = Command::new("script")
        .args(["-qec", &format!("{} list", program.display()), "/dev/null"])
        .env("BUNGEE_SERVER", "http://127.0.0.1:9")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .expect("`script` of util-linux is there");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(said.status.code(), Some(5), "{text}");
}
