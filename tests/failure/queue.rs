//! Queued events through every death: what was accepted is run at least once, and a death is no attempt.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    process::until,
    serving::{House, Plan},
    signer::Key,
};

/// Notes what it does, and waits where it is told to. `die` takes the server along before the end is known.
const LEDGER: &str = "
    import { appendFileSync, existsSync } from 'node:fs';
    const folder = process.env.LEDGER;
    const note = (line) => appendFileSync(folder + '/ledger', line + '\\n');
    const sleep = () => new Promise((resolve) => setTimeout(resolve, 5));
    export const handler = async (event, context) => {
      note('begin ' + event.name);
      while (event.wait && !existsSync(folder + '/' + event.wait)) await sleep();
      note('end ' + event.name);
      if (event.die && !existsSync(folder + '/died')) {
        note('die');
        appendFileSync(folder + '/died', '');
        process.kill(process.ppid, 'SIGKILL');
        await new Promise(() => {});
      }
      if (event.fail) throw new Error('as told');
      return event.name;
    };";

/// A server with one function that has one place, and what that function has really done.
struct Checked {
    house: House,
    folder: PathBuf,
}

impl Checked {
    fn new(change: impl FnOnce(Plan) -> Plan) -> Checked {
        let plan = change(House::serve());
        let folder = plan.home().join("ledger");
        fs::create_dir_all(&folder).expect("a folder of ours");
        let env = format!("env = {{ LEDGER = '{}' }}", folder.display());
        let house = plan
            .function("f", |f| {
                f.bun()
                    .event(LEDGER)
                    .setting(env)
                    .setting("workers = { max = 1 }")
            })
            .start();
        Checked { house, folder }
    }

    /// Sends these events, and returns their ids.
    #[track_caller]
    fn send(&self, events: &[Value]) -> Vec<String> {
        let calls = events.iter().map(|event| {
            json!({"FunctionName": "f", "InvocationType": "Event", "Payload": event.to_string()})
        });
        let answers = Key::made_up().calls(&self.house, &calls.collect());
        let ids = answers.iter().map(|answer| {
            assert_eq!(answer["StatusCode"], 202, "{answer}");
            answer["RequestId"].as_str().expect("an id").to_owned()
        });
        ids.collect()
    }

    fn count(&self, line: &str) -> usize {
        let ledger = fs::read_to_string(self.folder.join("ledger")).unwrap_or_default();
        ledger.lines().filter(|noted| *noted == line).count()
    }

    #[track_caller]
    fn sees(&self, line: &str, count: usize) {
        until(&format!("{count} × {line}"), || self.count(line) >= count);
    }

    fn put(&self, name: &str) {
        fs::write(self.folder.join(name), "").expect("a folder of ours");
    }

    fn depth(&self) -> Option<u32> {
        let metrics = self.house.get("/metrics").ok();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("bungee_async_depth{"))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[track_caller]
    fn is_done(&self) {
        until("the queue is empty", || self.depth().is_none());
    }
}

#[test]
fn what_was_accepted_and_what_ran_when_the_server_was_killed_runs_on_the_next_start() {
    let mut checked = Checked::new(|plan| plan);
    let names = ["a", "b", "c"];
    let events = names.map(|name| json!({"name": name, "wait": "go"}));
    let ids = checked.send(&events);
    checked.sees("begin a", 1);
    assert_eq!(checked.depth(), Some(3));
    assert_eq!(checked.count("begin b"), 0, "there is one place");
    checked.house.kill9();
    checked.house.restart();
    checked.sees("begin a", 2);
    checked.put("go");
    checked.is_done();
    for (name, id) in names.iter().zip(&ids) {
        assert_eq!(checked.count(&format!("end {name}")), 1, "{name}");
        let record = checked.house.record("f", |record| record["id"] == **id);
        assert_eq!(record["outcome"], "ok");
    }
    // Nothing of it is left for a third start.
    checked.house.kill9();
    checked.house.restart();
    checked.send(&[json!({"name": "d"})]);
    checked.sees("end d", 1);
    checked.is_done();
    assert_eq!(checked.count("begin a"), 2);
}

#[test]
fn what_had_ended_and_was_not_yet_done_runs_once_more() {
    let mut checked = Checked::new(|plan| plan);
    checked.send(&[json!({"name": "a", "die": true})]);
    checked.sees("die", 1);
    let _killed = checked.house.ended();
    checked.house.restart();
    checked.sees("end a", 2);
    checked.is_done();
    assert_eq!(checked.count("end a"), 2);
}

#[test]
fn a_death_of_the_server_is_no_attempt() {
    let mut checked = Checked::new(|plan| plan.flag("--limit").flag("async_retry=1ms"));
    let ids = checked.send(&[json!({"name": "a", "fail": true, "wait": "go"})]);
    for deaths in 1..=3 {
        checked.sees("begin a", deaths);
        checked.house.kill9();
        checked.house.restart();
    }
    checked.put("go");
    checked.is_done();
    assert_eq!(checked.count("end a"), 3, "one attempt and two retries");
    let line = checked.house.logged(
        "f",
        "given up after 3 attempts: HandlerError: Error: as told",
    );
    assert_eq!(
        (&line["level"], &line["invocation"]),
        (&json!("error"), &json!(ids[0]))
    );
    let record = checked.house.record("f", |record| record["id"] == *ids[0]);
    assert_eq!(record["outcome"], "HandlerError");
    assert!(
        checked.house.said().contains("a queued event is given up"),
        "{}",
        checked.house.said()
    );
}

#[test]
fn attempts_that_failed_are_remembered_through_a_death() {
    let mut checked = Checked::new(|plan| plan.flag("--limit").flag("async_retry=3s"));
    checked.send(&[json!({"name": "a", "fail": true})]);
    checked.sees("end a", 2);
    // The third is two spans away, and the second is written down before that.
    let failed = |checked: &Checked| {
        let found = checked
            .house
            .cli(&["invocations", "f", "--json"])
            .ok()
            .json();
        found["invocations"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    };
    until("an attempt is recorded", || failed(&checked));
    checked.house.kill9();
    checked.house.restart();
    checked.is_done();
    assert!(
        (3..=4).contains(&checked.count("end a")),
        "{}",
        checked.count("end a")
    );
}

#[test]
fn a_graceful_stop_lets_it_end_and_begins_no_more() {
    let mut checked = Checked::new(|plan| plan);
    checked.send(&[json!({"name": "a", "wait": "go"}), json!({"name": "b"})]);
    checked.sees("begin a", 1);
    checked.house.signal(rustix::process::Signal::TERM);
    until("it stops", || checked.house.said().contains("stopping"));
    checked.put("go");
    assert_eq!(checked.house.ended().code(), Some(0));
    assert_eq!((checked.count("end a"), checked.count("begin b")), (1, 0));
    checked.house.restart();
    checked.sees("end b", 1);
    checked.is_done();
    assert_eq!(checked.count("begin a"), 1);
}

#[test]
fn what_is_cut_off_at_the_end_of_the_grace_comes_again() {
    let mut checked = Checked::new(|plan| plan.flag("--grace").flag("100ms"));
    checked.send(&[json!({"name": "a", "wait": "go"})]);
    checked.sees("begin a", 1);
    checked.house.signal(rustix::process::Signal::TERM);
    assert_eq!(checked.house.ended().code(), Some(0));
    checked.put("go");
    checked.house.restart();
    checked.sees("end a", 1);
    checked.is_done();
    assert_eq!((checked.count("begin a"), checked.count("end a")), (2, 1));
}

#[test]
fn a_full_queue_refuses_and_a_deleted_function_takes_its_events_along() {
    let checked = Checked::new(|plan| plan.flag("--limit").flag("async_depth=2"));
    checked.send(&[
        json!({"name": "a", "fail": true}),
        json!({"name": "b", "fail": true}),
    ]);
    let more = json!({"FunctionName": "f", "InvocationType": "Event"});
    let refused = Key::made_up().call(&checked.house, more);
    assert_eq!(
        (&refused["error"], &refused["status"]),
        (&json!("TooManyRequestsException"), &json!(429))
    );
    // Both wait for a minute now.
    checked.sees("end b", 1);
    checked.house.cli(&["delete", "f", "--yes"]).ok();
    checked.is_done();
    assert_eq!(checked.count("begin a"), 1);
}

#[test]
fn what_cannot_be_tried_waits_and_is_no_attempt() {
    let checked = Checked::new(|plan| plan);
    checked.send(&[json!({"name": "a", "wait": "go"}), json!({"name": "b"})]);
    checked.sees("begin a", 1);
    checked.house.cli(&["disable", "f"]).ok();
    checked.put("go");
    checked.sees("end a", 1);
    until("one waits", || checked.depth() == Some(1));
    checked.house.cli(&["enable", "f"]).ok();
    checked.sees("end b", 1);
    checked.is_done();
    assert_eq!(checked.count("begin b"), 1);
}
