//! The commands around the server: a new project, a token that is kept, a look at the machine, completions, a bench.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::serving::{House, cli_in};

const HELLO: &str = "export default () => new Response('hello')";

fn hello() -> House {
    House::serve().function("hello", |f| f.web(HELLO)).start()
}

/// A server with one function, closed by its first token; and that token.
fn closed() -> (House, String) {
    let house = hello();
    let socket = house.socket();
    let socket = socket.to_str().expect("a readable path");
    let made = house.cli(&["token", "create", "--role", "admin", "--socket", socket]);
    let token = made.ok().stdout.trim().to_owned();
    (house, token)
}

fn works_at_once(template: &str) {
    let plan = House::dev().with_compilers();
    cli_in(plan.home(), &["init", "project", "--template", template]).ok();
    let house = plan.start();
    let answer = house.get("/hello/Ann");
    assert_eq!(answer.json(), json!({"message": "Hello, Ann!"}));
    house.logged("hello", "greeting Ann");
    let list = house.cli(&["list", "--json"]).ok().json();
    let runtime = match template {
        "go" | "rust" | "bash" => "provided",
        runtime => runtime,
    };
    assert_eq!(list[0]["runtime"], runtime);
}

#[test]
fn a_new_project_for_the_isolate_answers_at_once() {
    works_at_once("isolate");
}

#[test]
fn a_new_project_for_bun_answers_at_once() {
    works_at_once("bun");
}

#[test]
fn a_new_project_for_node_answers_at_once() {
    works_at_once("node");
}

#[test]
fn a_new_project_in_python_answers_at_once() {
    works_at_once("python");
}

#[test]
fn a_new_project_in_go_answers_at_once() {
    works_at_once("go");
}

#[test]
fn a_new_project_in_bash_answers_at_once() {
    works_at_once("bash");
}

#[test]
fn init_writes_over_nothing_and_names_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let init = |arguments: &[&str]| cli_in(folder.path(), &[&["init"], arguments].concat());
    fs::write(folder.path().join("tsconfig.json"), "mine").expect("it can be written");
    let said = init(&[]).ends(3).says("tsconfig.json");
    assert!(!said.stderr.contains("bungee.toml"), "{said:?}");
    assert!(!folder.path().join("bungee.toml").exists());
    let said = init(&["new", "--template", "node", "--json"]).ok().json();
    assert_eq!(said["template"], "node", "{said}");
    for file in said["files"].as_array().expect("a list") {
        let file = file.as_str().expect("a path");
        assert!(folder.path().join("new").join(file).is_file(), "{file}");
    }
    init(&["new"]).ends(3).says("bungee.toml");
    let said = init(&["x", "--template", "isolat"]).ends(2);
    assert!(said.stderr.contains("did you mean `isolate`?"), "{said:?}");
    init(&["x", "--template", "cobol"])
        .ends(2)
        .says("isolate, bun, node");
    assert!(!folder.path().join("x").exists());
}

#[test]
fn init_for_an_editor_attaches_to_the_debugger_port() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    cli_in(folder.path(), &["init", "--template", "bun", "--ide"]).ok();
    let read = |file: &str| fs::read_to_string(folder.path().join(file)).expect("a file");
    let launch: Value = serde_json::from_str(&read(".vscode/launch.json")).expect("JSON");
    let kinds: Vec<_> = launch["configurations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|each| (each["type"].as_str(), each["request"].as_str()))
        .collect();
    let attach = Some("attach");
    assert_eq!(kinds, [(Some("node"), attach), (Some("bun"), attach)]);
    assert_eq!(launch["configurations"][0]["port"], 9229);
    assert!(read(".run/bungee.run.xml").contains("port=\"9229\""));
}

#[test]
fn a_login_goes_with_every_command_to_its_server_and_to_no_other() {
    let (house, token) = closed();
    let url = format!("http://{}", house.address);
    house.cli(&["list"]).ends(6);
    let said = house.cli_with(&["login", &url], &format!("{token}\n")).ok();
    assert!(!said.stderr.contains(&token) && !said.stdout.contains(&token));
    house.cli(&["list"]).ok();
    house
        .cli(&["info", "hello", "--server", &format!("{url}/")])
        .ok();
    let file = house.home().join(".config/bungee/tokens.json");
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = url.replace("127.0.0.1", "localhost");
    house.cli(&["list", "--server", &other]).ends(6);
    // What is typed goes before what is kept.
    house.cli(&["list", "--token", "bgt_wrong"]).ends(6);
    house.cli(&["login", "--logout", &url]).ok();
    house.cli(&["list"]).ends(6);
    house.cli(&["login", "--logout", &url]).ends(4);
}

#[test]
fn a_login_that_the_server_does_not_know_is_refused_and_not_kept() {
    let (house, token) = closed();
    let url = format!("http://{}", house.address);
    let said = house.cli_with(&["login", &url], "bgt_hunter2").ends(6);
    assert!(!said.stderr.contains("hunter2"), "{said:?}");
    assert!(!house.home().join(".config/bungee/tokens.json").exists());
    house
        .cli_with(&["login", &url], "\n")
        .ends(2)
        .says("no token");
    let said = house.cli(&["login", &url, "--token", &token, "--json"]);
    assert_eq!(said.ok().json(), json!({"server": url, "kept": true}));
    house.cli(&["list"]).ok();
    house.cli(&["login", "http://127.0.0.1:1"]).ends(5);
}

#[test]
fn an_open_server_needs_no_login() {
    let house = hello();
    let url = format!("http://{}", house.address);
    house
        .cli(&["login", &url])
        .ok()
        .says("asks nobody for a token");
    assert!(!house.home().join(".config").exists());
}

/// The marks of a doctor's findings.
fn mark<'a>(findings: &'a Value, check: &str) -> &'a str {
    let all = findings.as_array().expect("a list");
    let found = all.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {findings}"));
    found["mark"].as_str().expect("a word")
}

#[test]
fn doctor_finds_a_healthy_server_and_machine() {
    let house = hello();
    let data = house.home().join("fresh");
    let data = data.to_str().expect("a readable path");
    let doctor = ["doctor", "--data-dir", data, "--listen", &house.address];
    let findings = house.cli(&[&doctor[..], &["--json"]].concat()).ok().json();
    for check in [
        "bungee",
        "server",
        "token",
        "port",
        "data folder",
        "bun",
        "isolate",
        "seccomp",
    ] {
        assert_eq!(mark(&findings, check), "ok", "{findings}");
    }
    for check in [
        "node",
        "python",
        "namespaces",
        "landlock",
        "limits",
        "cgroup",
    ] {
        assert_ne!(mark(&findings, check), "fail", "{findings}");
    }
    assert!(!Path::new(data).exists(), "it leaves nothing behind");
    let text = house.cli(&doctor).ok().stdout;
    assert!(
        text.lines().any(|line| line.starts_with("ok   isolate")),
        "{text}"
    );
}

#[test]
fn doctor_says_who_may_attach_a_laptop() {
    let live = |house: &House, token: Option<&str>| {
        let token = token.map_or(vec![], |token| vec!["--token", token]);
        let doctor = [&["doctor", "--data-dir", "/nowhere", "--json"][..], &token].concat();
        let findings = serde_json::from_str::<Value>(&house.cli(&doctor).stdout).unwrap();
        assert_eq!(mark(&findings, "live"), "ok", "{findings}");
        let all = findings.as_array().expect("a list").clone();
        let found = all.into_iter().find(|finding| finding["check"] == "live");
        found.expect("it was marked").to_string()
    };
    let house = hello();
    assert!(live(&house, None).contains("programs of its own machine"));
    let (house, admin) = closed();
    let said = live(&house, Some(&admin));
    assert!(
        said.contains("the role `live` or `admin`") && said.contains("serve --no-live"),
        "{said}"
    );
    let made = house.cli(&["token", "create", "--role", "deploy", "--token", &admin]);
    let deploy = made.ok().stdout.trim().to_owned();
    let said = live(&house, Some(&deploy));
    assert!(
        said.contains("role is `deploy`, which attaches none"),
        "{said}"
    );
    let house = House::serve().flag("--no-live").start();
    assert!(live(&house, None).contains("off: no laptop"));
    assert_eq!(house.get("/v1/server").json()["live"], false);
}

#[test]
fn doctor_names_what_is_wrong_and_ends_with_3() {
    let (house, _) = closed();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it has an address").to_string();
    let doctor = [
        "doctor",
        "--data-dir",
        "/proc/nowhere",
        "--listen",
        &port,
        "--json",
    ];
    let mut command = house.command(&doctor);
    let said = command.env("PATH", "/nowhere").output().expect("it starts");
    assert_eq!(said.status.code(), Some(3));
    let findings: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    for (check, wanted) in [
        ("token", "fail"),
        ("data folder", "fail"),
        ("port", "warn"),
        ("bun", "warn"),
        ("node", "warn"),
        ("python", "warn"),
        ("isolate", "ok"),
    ] {
        assert_eq!(mark(&findings, check), wanted, "{findings}");
    }
    let hints = findings.as_array().expect("a list").iter();
    let mut wanting = hints.filter(|finding| finding["mark"] != "ok");
    assert!(
        wanting.all(|finding| finding["hint"].is_string()),
        "{findings}"
    );
}

/// What a shell is offered for the last of these words.
fn offered(mut command: Command, words: usize) -> Output {
    command
        .env("BUNGEE_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", (words - 1).to_string());
    command.output().expect("it starts")
}

fn offers(house: &House, words: &[&str]) -> Vec<String> {
    let command = house.command(&[&["--"], words].concat());
    let said = offered(command, words.len());
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    let text = String::from_utf8(said.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn completions_know_commands_flags_and_functions() {
    let house = House::serve()
        .function("hello", |f| f.web(HELLO))
        .function("help_me", |f| f.web(HELLO))
        .function("other", |f| f.web(HELLO))
        .start();
    assert_eq!(offers(&house, &["bungee", "roll"]), ["rollback"]);
    assert_eq!(offers(&house, &["bungee", "logs", "--fol"]), ["--follow"]);
    for command in ["invoke", "disable", "env", "alias", "bench", "delete"] {
        let mut names = offers(&house, &["bungee", command, "hel"]);
        names.sort();
        assert_eq!(names, ["hello", "help_me"], "{command}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = house.cli(&["completions", shell]).ok().stdout;
        assert!(script.contains("BUNGEE_COMPLETE"), "{shell}: {script}");
    }
    house.cli(&["completions", "tcsh"]).ends(2);
}

#[test]
fn completions_are_silent_where_no_server_answers() {
    let house = hello();
    let mut command = house.command(&["--", "bungee", "invoke", "hel"]);
    // Nobody accepts there: connections wait in the line of a listener that never looks.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it has an address");
    command.env("BUNGEE_SERVER", format!("http://{address}"));
    let said = offered(command, 3);
    assert!(said.status.success(), "{said:?}");
    assert!(said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
}

#[test]
fn bench_counts_and_shows_latencies() {
    let house = House::serve()
        .function("web", |f| f.web(HELLO))
        .function("event", |f| f.event("export const handler = (e) => e.n"))
        .start();
    let said = house.cli(&["bench", "web", "-n", "50", "-c", "4", "--json"]);
    let report = said.ok().json();
    assert_eq!(
        (&report["succeeded"], &report["failed"]),
        (&json!(50), &json!(0))
    );
    let latency = |name: &str| report["latency_us"][name].as_u64().expect("a number");
    assert!(
        latency("min") > 0 && latency("p50") <= latency("p99"),
        "{report}"
    );
    let bars = report["histogram"].as_array().expect("a list").iter();
    let counted: u64 = bars.filter_map(|bar| bar["count"].as_u64()).sum();
    assert_eq!(counted, 50);
    let text = house.cli(&["bench", "web", "-d", "200ms"]).ok().stdout;
    assert!(text.contains("p99.9") && text.contains('█'), "{text}");
    house
        .cli(&["bench", "event", "-n", "5", "--data", "{\"n\":1}"])
        .ok();
    house.record("event", |record| record["trigger"] == "cli");
}

#[test]
fn bench_tells_failures_by_their_type() {
    let house = House::serve()
        .function("bad", |f| {
            f.web("export default () => { throw new Error('no') }")
        })
        .start();
    let said = house.cli(&["bench", "bad", "-n", "7", "--json"]).ends(1);
    let report = said.json();
    assert_eq!(report["errors"], json!({"HandlerError": 7}));
    assert_eq!(
        (&report["succeeded"], &report["failed"]),
        (&json!(0), &json!(7))
    );
    let text = house.cli(&["bench", "bad", "-n", "3"]).ends(1).stdout;
    assert!(text.contains("HandlerError 3 times"), "{text}");
    house.cli(&["bench", "nobody"]).ends(4);
    house.cli(&["bench", "bad", "-c", "0"]).ends(2);
    house.cli(&["bench", "bad", "-n", "1", "-d", "1s"]).ends(2);
}
