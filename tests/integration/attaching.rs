//! Who may attach a laptop, what may be claimed, and what a laptop does about code that changes, breaks or is missing.

use std::{fs, net::TcpListener};

use serde_json::{Value, json};

use crate::{
    laptop::{Bag, Laptop},
    process::until,
    serving::{House, cli_in},
};

const DEPLOYED: &str = "export default () => new Response('deployed')";
const LAPTOP: &str = "export default () => new Response('laptop')";

fn deployed() -> House {
    House::serve()
        .function("hello", |f| f.web(DEPLOYED))
        .start()
}

fn laptop(house: &House) -> Bag {
    house.laptop().function("hello", |f| f.web(LAPTOP))
}

fn hello(house: &House) -> String {
    house.get("/functions/hello").ok()
}

/// A token of this role, with more arguments.
fn token(house: &House, role: &str, more: &[&str]) -> String {
    let socket = house.socket();
    let socket = socket.to_str().expect("a readable path");
    let made = ["token", "create", "--role", role, "--socket", socket];
    let made = house.cli(&[&made[..], more].concat());
    made.ok().stdout.trim().to_owned()
}

#[test]
fn a_function_with_live_off_lets_no_laptop_in() {
    let house = House::serve()
        .function("hello", |f| f.web(DEPLOYED).setting("live = 'off'"))
        .start();
    let said = laptop(&house).refused().ends(6);
    said.says("`default/hello` cannot be claimed: its `live` is `off`")
        .says("set `live = \"on\"` in bungee.toml and deploy");
    assert_eq!(hello(&house), "deployed");
}

#[test]
fn switching_live_off_ends_what_is_attached() {
    let house = deployed();
    let mut laptop = laptop(&house).attach();
    let toml = fs::read_to_string(house.folder.join("bungee.toml")).expect("a file");
    house.save("bungee.toml", &format!("{toml}live = 'off'\n"));
    house.deploy().ok();
    laptop.says("is not yours any more");
    assert_eq!(hello(&house), "deployed");
}

#[test]
fn a_server_without_live_lets_no_laptop_in() {
    let house = House::serve()
        .flag("--no-live")
        .function("hello", |f| f.web(DEPLOYED))
        .start();
    let said = laptop(&house).refused().ends(6);
    said.says("lets no laptop attach").says("--no-live");
    assert_eq!(hello(&house), "deployed");
}

#[test]
fn only_a_token_of_the_role_live_attaches() {
    let house = deployed();
    let live = token(&house, "live", &[]);
    let invoke = token(&house, "invoke", &[]);
    let said = laptop(&house).refused().ends(6);
    said.says("token");
    let said = laptop(&house).flag("--token=bgt_wrong").refused().ends(6);
    said.says("token");
    let flag = format!("--token={invoke}");
    let said = laptop(&house).flag(&flag).refused().ends(6);
    said.says("live");
    let _attached = laptop(&house).flag(format!("--token={live}")).attach();
    let ask = house.ask("GET", "/functions/hello").token(&invoke);
    assert_eq!(ask.send().ok(), "laptop");
}

#[test]
fn a_user_s_own_requests_come_to_the_laptop() {
    let house = deployed();
    let live = token(&house, "live", &["--user", "ann"]);
    let [ann, bob] = ["ann", "bob"].map(|user| token(&house, "invoke", &["--user", user]));
    let _laptop = laptop(&house)
        .flag(format!("--token={live}"))
        .flag("--when=user:ann")
        .attach();
    let ask = |token: &str| {
        let ask = house.ask("GET", "/functions/hello").token(token);
        ask.send().ok()
    };
    assert_eq!(ask(&ann), "laptop");
    assert_eq!(ask(&bob), "deployed");
}

#[test]
fn a_server_for_others_gives_everything_only_to_who_says_so() {
    let plan = House::serve().flag("--listen").flag("0.0.0.0:0");
    let data = plan.home().join("data");
    fs::create_dir(&data).expect("a folder can be made");
    let data = data.to_str().expect("a readable path");
    let make = ["token", "create", "--data-dir", data, "--role"];
    let token = |role: &str| {
        let made = cli_in(plan.home(), &[&make[..], &[role]].concat());
        made.ok().stdout.trim().to_owned()
    };
    let (admin, live) = (token("admin"), token("live"));
    let house = plan
        .function("hello", |f| f.web(DEPLOYED))
        .start_with(&admin);
    let ask = |house: &House| {
        let ask = house.ask("GET", "/functions/hello").token(&admin);
        ask.header("x-dev", "ann").send().ok()
    };
    let bag = || laptop(&house).flag(format!("--token={live}"));
    bag().refused().ends(6).says("--all");
    assert_eq!(ask(&house), "deployed");
    let mut own = bag().flag("--when=header:x-dev=ann").attach();
    assert_eq!(ask(&house), "laptop");
    own.interrupt();
    own.ended();
    let _all = bag().flag("--all").attach();
    assert_eq!(ask(&house), "laptop");
}

#[test]
fn what_cannot_be_attached_to_is_refused_in_words() {
    let house = deployed();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let gone = gone.expect("a free port");
    let to = |remote: &str| laptop(&house).to(remote).refused();
    let said = to(&format!("http://{gone}")).ends(5);
    said.says("cannot reach a server").says("refused");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    let said = to(&silent).ends(5);
    said.says("did not answer within 5 s");
    to("nonsense")
        .ends(2)
        .says("`nonsense` is nothing to attach to");
    to("ftp://127.0.0.1:1").ends(2).says("nothing to attach to");
    to("redis://127.0.0.1:1").ends(2).says("arrive later");
    to("http://192.0.2.1:9001").ends(6).says("--insecure");
    let said = laptop(&house).flag("--when=moon:full").refused().ends(2);
    said.says("moon");
}

#[test]
fn a_save_is_what_the_next_invocation_runs() {
    let house = deployed();
    let source = |word: &str| format!("export default () => new Response('{word}')");
    let mut laptop = house
        .laptop()
        .function("hello", |f| f.bun().web(source("one")))
        .attach();
    assert_eq!(hello(&house), "one");
    laptop.save("src/hello.js", &source("two"));
    until("the new code answers", || hello(&house) == "two");
    laptop.save("src/hello.js", "export default () => {");
    laptop.says("still answers");
    let answer = house.get("/functions/hello");
    assert_eq!(answer.ok(), "two");
    let stale = answer.header("x-bungee-stale").expect("it says so");
    assert!(stale.contains("hello.js"), "{stale}");
    laptop.save("src/hello.js", &source("three"));
    until("the repaired code answers", || hello(&house) == "three");
    let answer = house.get("/functions/hello");
    assert_eq!(answer.header("x-bungee-stale"), None);
}

#[test]
fn code_that_is_missing_or_broken_on_the_laptop_runs_deployed() {
    let house = House::serve()
        .function("hello", |f| f.web(DEPLOYED))
        .function("other", |f| f.web(DEPLOYED))
        .start();
    let mut laptop: Laptop = house
        .laptop()
        .function("hello", |f| f.bun().web("export default () => {"))
        .function("mine", |f| f.bun().web(LAPTOP))
        .start();
    laptop.says("nothing answers for it yet");
    laptop.says("default/mine runs here (all); it is not deployed there");
    assert_eq!(hello(&house), "deployed");
    assert_eq!(house.get("/functions/other").ok(), "deployed");
    house.get("/functions/mine").fails(404, "FunctionNotFound");
    laptop.save("src/hello.js", LAPTOP);
    laptop.says("default/hello runs here");
    assert_eq!(hello(&house), "laptop");
    // Its function leaves the folder: it is given back.
    let toml = fs::read_to_string(laptop.folder.join("bungee.toml")).expect("a file");
    let at = toml.find("\n[functions.mine]").expect("its table");
    laptop.save("bungee.toml", &toml[at..]);
    until("the deployed one answers", || {
        let answer = house.get("/functions/hello");
        assert!([200, 502].contains(&answer.status), "{}", answer.text());
        answer.text() == "deployed"
    });
}

#[test]
fn logs_of_the_laptop_stand_in_the_log_of_the_server() {
    let house = deployed();
    let source =
        "export default () => { console.warn('from the laptop'); return new Response('laptop'); }";
    let _laptop = house.laptop().function("hello", |f| f.web(source)).attach();
    let answer = house.get("/functions/hello");
    let id = answer.header("x-invocation-id").expect("an id").to_owned();
    let line = house.logged("hello", "from the laptop");
    assert_eq!(
        (&line["level"], &line["invocation"]),
        (&json!("warn"), &Value::from(id))
    );
}
