//! Live development from outside: who is attached, whose an invocation is, and what both sides are told.

use std::fs;

use serde_json::{Value, json};

use crate::{
    laptop::{Bag, Gate, Laptop},
    process::until,
    serving::House,
};

/// A handler that answers with this word.
fn word(word: &str) -> String {
    format!("export default () => new Response('{word}')")
}

/// A server that answers `deployed`.
fn deployed() -> House {
    let word = word("deployed");
    House::serve().function("hello", |f| f.web(word)).start()
}

/// A laptop that will answer with this word.
fn answering(house: &House, with: &str) -> Bag {
    house.laptop().function("hello", |f| f.web(word(with)))
}

/// A laptop whose answers wait at a gate, below `/wait`.
fn gated(house: &House, pack: impl FnOnce(Bag) -> Bag) -> (Laptop, Gate) {
    let bag = pack(house.laptop());
    let gate = Gate::at(bag.home());
    let laptop = bag
        .function("hello", |f| f.bun().web(gate.handler("laptop")))
        .attach();
    (laptop, gate)
}

fn hello(house: &House) -> String {
    house.get("/functions/hello").ok()
}

/// Leaves, and waits until that is done.
fn leave(mut laptop: Laptop) {
    laptop.interrupt();
    assert_eq!(laptop.ended().code(), Some(0), "{}", laptop.said());
}

#[test]
fn a_laptop_answers_while_it_is_attached_and_the_deployed_code_before_and_after() {
    let house = deployed();
    assert_eq!(hello(&house), "deployed");
    let laptop = answering(&house, "laptop").attach();
    for _ in 0..5 {
        assert_eq!(hello(&house), "laptop");
    }
    leave(laptop);
    assert_eq!(hello(&house), "deployed");
    let again = answering(&house, "again").attach();
    assert_eq!(hello(&house), "again");
    leave(again);
}

#[test]
fn what_runs_when_ctrl_c_is_pressed_ends_there_and_counts() {
    let house = deployed();
    let (mut laptop, gate) = gated(&house, |bag| bag);
    let mut waiting = house.ask("GET", "/functions/hello/wait").open();
    gate.sees("began", 1);
    laptop.interrupt();
    laptop.says("1 invocation(s) in flight may end");
    until("the next one runs deployed", || hello(&house) == "deployed");
    gate.open();
    assert_eq!(waiting.answer().ok(), "laptop");
    assert_eq!(laptop.ended().code(), Some(0));
    assert_eq!(hello(&house), "deployed");
}

#[test]
fn the_record_says_where_an_invocation_ran_and_why() {
    let house = deployed();
    hello(&house);
    let record = house.record("hello", |_| true);
    assert_eq!(record.get("attempts"), None);
    let mut laptop = answering(&house, "laptop").of("ann").attach();
    hello(&house);
    let record = house.record("hello", |record| record["attempts"] != Value::Null);
    let attempt = &record["attempts"][0];
    let developer = attempt["developer"].as_str().expect("a developer");
    assert!(developer.starts_with("ann@"), "{attempt}");
    let (number, place) = (&attempt["number"], &attempt["place"]);
    assert_eq!((number, place), (&json!(1), &json!("live")));
    assert_eq!(attempt["rule"], "all");
    assert!(
        attempt["accepted_us"].as_u64() >= attempt["offered_us"].as_u64(),
        "{attempt}"
    );
    laptop.says("GET /functions/hello 200");
    laptop.says("from 127.0.0.1 (all): offered ");
    laptop.says(", ran ");
}

#[test]
fn every_runtime_of_a_laptop_answers() {
    let laptop = |runtime: &str| {
        format!("export default async (r) => new Response('{runtime} ' + await r.text())")
    };
    let runtimes = ["isolate", "bun", "node"];
    let plan = runtimes.iter().fold(House::serve(), |plan, runtime| {
        plan.function(runtime, |f| f.web(word("deployed")))
    });
    let house = plan.start();
    let bag = runtimes.iter().fold(house.laptop(), |bag, runtime| {
        bag.function(runtime, |f| f.on(runtime).web(laptop(runtime)))
    });
    let _laptop = bag.attach();
    for runtime in runtimes {
        let answer = house.post(&format!("/functions/{runtime}"), "asked");
        assert_eq!(answer.ok(), format!("{runtime} asked"));
    }
}

#[test]
fn every_trigger_reaches_the_laptop() {
    let web = "export default async (r) => Response.json({
        where: 'WHERE', trigger: r.headers.get('x-bungee-trigger'), got: await r.text() })";
    let event =
        "export const handler = (event) => ({ where: 'WHERE', got: event.n ?? event.rawPath })";
    let here = |source: &str, place: &str| source.replace("WHERE", place);
    let house = House::serve()
        .function("web", |f| {
            f.web(here(web, "deployed")).setting("record = 'all'")
        })
        .function("event", |f| {
            f.event(here(event, "deployed")).setting("record = 'all'")
        })
        .start();
    let _laptop = house
        .laptop()
        .function("web", |f| f.web(here(web, "laptop")))
        .function("event", |f| f.bun().event(here(event, "laptop")))
        .attach();
    let by_http = house.post("/functions/web", "x").json();
    assert_eq!(
        by_http,
        json!({"where": "laptop", "trigger": null, "got": "x"})
    );
    let url = house.get("/functions/event/a").json();
    assert_eq!(url, json!({"where": "laptop", "got": "/functions/event/a"}));
    let by_cli = |name: &str| {
        house
            .cli(&["invoke", name, "--data", "{\"n\":1}"])
            .ok()
            .json()
    };
    assert_eq!(by_cli("event"), json!({"where": "laptop", "got": 1}));
    assert_eq!(by_cli("web")["where"], "laptop");
    assert_eq!(
        house.invoke("event", &json!({"n": 2}))["result"]["where"],
        "laptop"
    );
    for (name, trigger) in [("web", "http"), ("event", "cli")] {
        let record = house.record(name, |record| record["trigger"] == trigger);
        assert_eq!(record["attempts"][0]["place"], "live");
        let id = record["id"].as_str().expect("an id");
        let again = house.cli(&["replay", id]).ok().json();
        assert_eq!(again["where"], "laptop");
        let record = house.record(name, |record| record["trigger"] == "replay");
        assert_eq!(record["attempts"][0]["place"], "live");
    }
}

#[test]
fn rules_say_whose_an_invocation_is_and_the_most_specific_one_wins() {
    let house = deployed();
    let ask = |path: &str, dev: &str| {
        let ask = house.ask("GET", &format!("/functions/hello{path}"));
        ask.header("x-dev", dev).send().ok()
    };
    let _ann = answering(&house, "ann")
        .flag("--when=header:x-dev=ann")
        .attach();
    let _bob = answering(&house, "bob")
        .of("bob")
        .flag("--when=path:/functions/hello/v2/*")
        .attach();
    assert_eq!(ask("", "nobody"), "deployed");
    assert_eq!(ask("/v1/a", "bob"), "deployed");
    assert_eq!(ask("/v2/a/b", "bob"), "bob");
    assert_eq!(ask("/v1", "ann"), "ann");
    assert_eq!(ask("/v2/a", "ann"), "ann");
    let half = answering(&house, "half")
        .of("eve")
        .flag("--when=percent:50")
        .attach();
    let answers: Vec<String> = (0..60).map(|_| ask("", "nobody")).collect();
    let count = answers.iter().filter(|answer| *answer == "half").count();
    assert!((10..=50).contains(&count), "{count} of 60");
    assert_eq!(
        count + answers.iter().filter(|one| *one == "deployed").count(),
        60
    );
    let _everything = answering(&house, "the rest").of("fred").attach();
    assert_eq!(ask("/v2/a", "bob"), "bob");
    let mut answers: Vec<String> = (0..60).map(|_| ask("", "nobody")).collect();
    answers.sort();
    answers.dedup();
    assert_eq!(answers, ["half", "the rest"]);
    // Whom a request without headers or path is for, percent and all say alone.
    let invoked = house.invoke("hello", &json!({}));
    let answer = invoked["result"].as_str().unwrap_or("");
    assert!(["half", "the rest"].contains(&answer), "{invoked}");
    leave(half);
    assert_eq!(ask("", "nobody"), "the rest");
}

#[test]
fn a_second_claim_is_refused_and_told_who_holds_it() {
    let house = deployed();
    let mut ann = answering(&house, "ann").of("ann").attach();
    let said = answering(&house, "bob").of("bob").refused().ends(6);
    said.says("ann@")
        .says("--take-over")
        .says("nothing is yours to run");
    assert_eq!(hello(&house), "ann");
    let mut bob = answering(&house, "bob")
        .of("bob")
        .flag("--take-over")
        .attach();
    ann.says("is not yours any more: taken over by bob@");
    assert_eq!(hello(&house), "bob");
    // The loser goes on and takes nothing back, not even what it does not hold.
    ann.interrupt();
    assert_eq!(ann.ended().code(), Some(0));
    assert_eq!(hello(&house), "bob");
    bob.interrupt();
    bob.ended();
    assert_eq!(hello(&house), "deployed");
}

#[test]
fn who_observes_gets_the_whole_request_and_the_deployed_answer_counts() {
    let house = deployed();
    let bag = house.laptop();
    let seen = bag.home().join("seen");
    let source = format!(
        "import {{ appendFileSync }} from 'node:fs';
         export default async (r) => {{
           const body = await r.text();
           appendFileSync('{}', `${{r.method}} ${{new URL(r.url).pathname}} ${{r.headers.get('x-own')}} ${{body.length}} ${{body.at(-1)}}\n`);
           return new Response('laptop');
         }}",
        seen.display()
    );
    let mut laptop = bag
        .function("hello", |f| f.bun().web(source))
        .flag("--observe")
        .flag("--when=all")
        .flag("--when=header:x-own")
        .attach();
    let body = format!("{}z", "a".repeat(300_000));
    let ask = house
        .ask("POST", "/functions/hello/x")
        .header("x-own", "own");
    assert_eq!(ask.body(&body).send().ok(), "deployed");
    until("the copy ran", || {
        let seen = fs::read_to_string(&seen).unwrap_or_default();
        seen == "POST /functions/hello/x own 300001 z\n"
    });
    // Two of its rules match, and it has one copy: by the more specific.
    laptop.says("(header:x-own, a copy)");
    // A copy takes no claim from whoever answers.
    let _bob = answering(&house, "bob").of("bob").attach();
    assert_eq!(hello(&house), "bob");
    until("a copy of that ran too", || {
        fs::read_to_string(&seen).is_ok_and(|seen| seen.lines().count() == 2)
    });
}

#[test]
fn which_functions_are_meant_can_be_said_and_changed_while_it_runs() {
    let names = ["a", "b", "c"];
    let plan = names.iter().fold(House::serve(), |plan, name| {
        plan.function(name, |f| f.web(word("deployed")))
    });
    let house = plan.start();
    let ask = |name: &str| house.get(&format!("/functions/{name}")).ok();
    let answers = || names.map(ask).join(" ");
    let bag = names.iter().fold(house.laptop(), |bag, name| {
        bag.function(name, |f| f.web(word("laptop")))
    });
    let mut laptop = bag.flag("--only=a,b").flag("--except=b").start();
    laptop.says("default/a runs here");
    assert_eq!(answers(), "laptop deployed deployed");
    let mut comes = |typed: &str, then: &str| {
        laptop.types(typed);
        until(typed, || answers() == then);
    };
    comes("everything", "laptop laptop laptop");
    comes("except a c", "deployed laptop deployed");
    comes("only c", "deployed deployed laptop");
    comes("everything", "laptop laptop laptop");
    laptop.types("nonsense");
    laptop.says("type `only NAMES`");
}

#[test]
fn more_at_once_than_a_laptop_wants_run_deployed() {
    let house = deployed();
    let (_laptop, gate) = gated(&house, |bag| bag.flag("--concurrency=1"));
    let mut first = house.ask("GET", "/functions/hello/wait").open();
    gate.sees("began", 1);
    assert_eq!(hello(&house), "deployed");
    let record = house.record("hello", |record| {
        record["attempts"][1]["place"] == "deployed"
    });
    let why = record["attempts"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("busy"), "{why}");
    gate.open();
    assert_eq!(first.answer().ok(), "laptop");
    until("there is room again", || hello(&house) == "laptop");
    assert_eq!(gate.count("began"), 2);
}
