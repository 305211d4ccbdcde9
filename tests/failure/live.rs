//! Laptops that die, sleep or come too late: an invocation runs in one place, or fails, and the deployed code goes on.

use std::{
    net::TcpStream,
    thread::{scope, sleep},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    knock::Wire,
    laptop::{Gate, Laptop},
    process::until,
    serving::House,
};

const DEPLOYED: &str = "export default () => new Response('deployed')";

/// A server that answers `deployed`, and a laptop whose answers wait at a gate, below `/wait`.
fn pair() -> (House, Laptop, Gate) {
    let house = House::serve().function("f", |f| f.web(DEPLOYED)).start();
    let bag = house.laptop();
    let gate = Gate::at(bag.home());
    let laptop = bag
        .function("f", |f| f.bun().web(gate.handler("laptop")))
        .attach();
    (house, laptop, gate)
}

/// An invocation that runs on the laptop, and waits at its gate.
fn waiting(house: &House, gate: &Gate) -> Wire {
    let wire = house.ask("GET", "/functions/f/wait").open();
    gate.sees("began", gate.count("began") + 1);
    wire
}

fn ask(house: &House) -> String {
    house.get("/functions/f").ok()
}

#[test]
fn a_laptop_that_is_killed_fails_what_it_ran_at_once() {
    let (house, mut laptop, gate) = pair();
    let mut wire = waiting(&house, &gate);
    laptop.kill9();
    let answer = wire.answer();
    answer.fails(502, "LiveSessionLost");
    let hint = answer.json()["error"]["hint"].clone();
    assert!(hint.to_string().contains("deployed"), "{hint}");
    assert_eq!(ask(&house), "deployed");
    let record = house.record("f", |record| record["outcome"] == "LiveSessionLost");
    assert_eq!(record["attempts"][0]["place"], "live");
    assert_eq!(
        record["attempts"].as_array().map(Vec::len),
        Some(1),
        "{record}"
    );
    assert_eq!(gate.count("began"), 1);
}

#[test]
fn a_laptop_that_sleeps_loses_what_it_ran_at_the_end_of_its_lease_and_comes_back_as_new() {
    let (house, mut laptop, gate) = pair();
    let mut wire = waiting(&house, &gate);
    laptop.freeze();
    let answer = wire.answer();
    answer.fails(502, "LiveSessionLost");
    assert_eq!(ask(&house), "deployed");
    laptop.thaw();
    laptop.says("1 invocation(s) stopped here");
    laptop.says("as a new session");
    laptop.says(" runs here (");
    gate.sees("left", 1);
    gate.open();
    assert_eq!(ask(&house), "laptop");
    let ids = gate.notes();
    let began = ids.iter().filter(|note| note.starts_with("began"));
    assert_eq!(began.count(), 2, "{ids:?}");
    let failed = house
        .cli(&["invocations", "f", "--failed", "--json"])
        .ok()
        .json();
    assert_eq!(
        failed["invocations"].as_array().map(Vec::len),
        Some(1),
        "{failed}"
    );
}

#[test]
fn a_laptop_that_sleeps_through_an_offer_never_runs_it() {
    let (house, laptop, gate) = pair();
    assert_eq!(ask(&house), "laptop");
    laptop.freeze();
    let answers: Vec<String> = (0..3).map(|_| ask(&house)).collect();
    assert_eq!(answers, ["deployed"; 3]);
    laptop.thaw();
    let record = house.record("f", |record| record["attempts"][1] != json!(null));
    assert_eq!(record["attempts"][0]["why"], "no accept within 500 ms");
    assert_eq!(record["attempts"][1]["place"], "deployed");
    until("it is there again", || ask(&house) == "laptop");
    let id = record["id"].as_str().expect("an id");
    let notes = gate.notes();
    assert!(!notes.iter().any(|note| note.contains(id)), "{notes:?}");
}

#[test]
fn whatever_moment_a_laptop_sleeps_in_an_invocation_runs_once() {
    let plan = House::serve();
    // Both write into one folder: what runs twice shows, wherever it runs.
    let gate = Gate::at(plan.home());
    let house = plan
        .function("f", |f| f.bun().web(gate.handler("deployed")))
        .start();
    let laptop = house
        .laptop()
        .function("f", |f| f.bun().web(gate.handler("laptop")))
        .attach();
    let (mut ids, mut answers) = (Vec::new(), Vec::new());
    for round in 0..30 {
        let answer = scope(|scope| {
            // Every second one is offered to a laptop that sleeps already, so that both places answer on any machine.
            if round % 2 == 0 {
                laptop.freeze();
            }
            let asked = scope.spawn(|| house.get("/functions/f"));
            // A walk over the moments around an offer, and around the end of its 500 ms.
            sleep(Duration::from_micros(round * 7919 % 3000));
            laptop.freeze();
            let around = [5, 470, 495, 500, 900, 505];
            sleep(Duration::from_millis(around[round as usize % around.len()]));
            laptop.thaw();
            asked.join().expect("a caller does not panic")
        });
        answers.push(answer.ok());
        ids.push(answer.header("x-invocation-id").expect("an id").to_owned());
    }
    gate.sees("ended", ids.len());
    let notes = gate.notes();
    for id in &ids {
        let began = notes.iter().filter(|note| **note == format!("began {id}"));
        assert_eq!(began.count(), 1, "{id}: {notes:?}");
    }
    assert_eq!(notes.len(), 2 * ids.len(), "{notes:?}");
    for place in ["deployed", "laptop"] {
        assert!(answers.iter().any(|answer| answer == place), "{answers:?}");
    }
}

#[test]
fn what_outlives_the_grace_after_ctrl_c_fails_and_the_laptop_ends() {
    let (house, mut laptop, gate) = pair();
    let mut wire = waiting(&house, &gate);
    laptop.interrupt();
    wire.answer().fails(502, "LiveSessionLost");
    assert_eq!(laptop.ended().code(), Some(0));
    assert_eq!(ask(&house), "deployed");
}

#[test]
fn a_server_that_was_killed_has_its_laptop_back_when_it_is_there_again() {
    let (mut house, mut laptop, gate) = pair();
    let mut wire = waiting(&house, &gate);
    house.kill9();
    assert_eq!(wire.hear_the_end(), "");
    laptop.says("the connection is gone");
    house.restart();
    laptop.says("back after");
    laptop.says(" runs here (");
    assert_eq!(ask(&house), "laptop");
    // What it ran for the one that died is stopped.
    gate.sees("left", 1);
}

#[test]
fn a_server_that_stops_lets_the_laptop_finish() {
    let (mut house, mut laptop, gate) = pair();
    let mut wire = waiting(&house, &gate);
    house.signal(Signal::TERM);
    until("it takes nothing new", || {
        TcpStream::connect(&house.address).is_err()
    });
    gate.open();
    assert_eq!(wire.answer().ok(), "laptop");
    assert_eq!(house.ended().code(), Some(0));
    laptop.says("the connection is gone");
    house.restart();
    laptop.says(" runs here (");
    assert_eq!(ask(&house), "laptop");
}

#[test]
fn the_loser_of_a_take_over_takes_nothing_back_when_the_server_comes_back() {
    let (mut house, mut ann, _gate) = pair();
    let bob = house.laptop().of("bob").flag("--take-over");
    let source = "export default () => new Response('bob')";
    let mut bob = bob.function("f", |f| f.web(source)).attach();
    ann.says("is not yours any more");
    house.kill9();
    house.restart();
    bob.says(" runs here (");
    ann.says("back after");
    assert_eq!(ask(&house), "bob");
    bob.interrupt();
    bob.ended();
    assert_eq!(ask(&house), "deployed");
}
