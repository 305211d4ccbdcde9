//! Log lines in daily files, and finding them again.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use serde_json::{Value, json};

use crate::{process::eventually, serving::House};

const SPEAKER: &str =
    "export const handler = (e) => { console[e.level ?? 'log'](e.text); return 1; }";

fn speaker() -> House {
    House::serve()
        .flag("--log-jsonl")
        .function("f", |f| f.bun().event(SPEAKER))
        .start()
}

fn say(house: &House, text: &str) -> Value {
    let said = house.invoke("f", &json!({ "text": text }));
    assert_eq!(said["result"], 1, "{said}");
    said["invocation_id"].clone()
}

fn log_files(house: &House) -> Vec<PathBuf> {
    let entries = fs::read_dir(house.data().join("logs"))
        .into_iter()
        .flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

/// Every line of every file; each must be whole.
fn lines(house: &House) -> Vec<Value> {
    let texts = log_files(house)
        .into_iter()
        .map(|file| fs::read_to_string(file).expect("text"));
    let all: String = texts.collect();
    assert!(
        all.is_empty() || all.ends_with('\n'),
        "a line is cut: {all}"
    );
    let lines = all
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"));
    lines.collect()
}

/// Waits until a line with this text is in a file.
fn written(house: &House, text: &str) -> Value {
    eventually(text, || {
        lines(house).into_iter().find(|line| line["text"] == text)
    })
}

/// The day, as the system's clock says it.
fn days() -> Vec<String> {
    let day = |offset: &str| {
        let output = std::process::Command::new("date")
            .args(["-u", "-d", offset, "+%F"])
            .output();
        String::from_utf8_lossy(&output.expect("date runs").stdout)
            .trim()
            .to_owned()
    };
    vec![day("today"), day("tomorrow")]
}

#[test]
fn log_lines_go_to_the_file_of_the_day_as_logs_shows_them() {
    let house = speaker();
    let id = say(&house, "hello\nworld");
    let line = written(&house, "hello\nworld");
    assert_eq!(line["invocation"], id);
    assert_eq!(line, house.logged("f", "hello"));
    let name = log_files(&house)[0]
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(
        days().iter().any(|day| name == format!("{day}.jsonl")),
        "{name}"
    );
}

#[test]
fn without_the_flag_there_are_no_files() {
    let house = House::serve()
        .function("f", |f| f.bun().event(SPEAKER))
        .start();
    say(&house, "hello");
    house.logged("f", "hello");
    assert!(!house.data().join("logs").exists());
}

#[test]
fn a_line_cut_by_kill_9_is_repaired_at_the_next_start() {
    let mut house = speaker();
    say(&house, "before");
    written(&house, "before");
    house.kill9();
    let file = log_files(&house).pop().expect("a file");
    let mut text = fs::read_to_string(&file).expect("text");
    text.push_str("{\"at\":179525");
    fs::write(&file, text).expect("a file can be written");
    house.restart();
    say(&house, "after");
    written(&house, "after");
    let texts: Vec<Value> = lines(&house)
        .into_iter()
        .map(|line| line["text"].clone())
        .collect();
    assert_eq!(texts, ["before", "after"]);
}

#[test]
fn the_last_lines_are_in_the_file_when_the_server_has_ended() {
    let mut house = speaker();
    (0..50).for_each(|n| drop(say(&house, &format!("line {n}"))));
    house.signal(rustix::process::Signal::TERM);
    assert_eq!(house.ended().code(), Some(0));
    assert_eq!(lines(&house).len(), 50);
}

#[test]
fn a_full_disk_is_said_once_and_costs_no_invocation() {
    let plan = House::serve()
        .flag("--log-jsonl")
        .function("f", |f| f.bun().event(SPEAKER));
    let logs = plan.home().join("data/logs");
    fs::create_dir_all(&logs).expect("a folder can be made");
    for day in days() {
        // Every write to it says that the disk is full.
        symlink("/dev/full", logs.join(format!("{day}.jsonl"))).expect("a link can be made");
    }
    let house = plan.start();
    (0..20).for_each(|n| drop(say(&house, &format!("line {n}"))));
    house.logged("f", "line 19");
    let complaints = || house.said().matches("cannot be written to files").count();
    eventually("it is said", || (complaints() > 0).then_some(()));
    say(&house, "one more");
    house.logged("f", "one more");
    assert_eq!(complaints(), 1, "{}", house.said());
}

#[test]
fn logs_are_found_by_text_level_and_time() {
    let house = speaker();
    for (level, text) in [
        ("log", "Apples are RED"),
        ("warn", "50%_ of apples"),
        ("error", "pears"),
    ] {
        house.invoke("f", &json!({ "level": level, "text": text }));
    }
    let found = |arguments: &[&str]| -> Vec<String> {
        let all = [&["logs", "f", "--json"], arguments].concat();
        let said = house.cli(&all).ok().stdout;
        let lines = said
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines
            .map(|line| line["text"].as_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!(
        found(&["--grep", "apples"]),
        ["Apples are RED", "50%_ of apples"]
    );
    assert_eq!(
        found(&["--grep", "apples", "--level", "warn"]),
        ["50%_ of apples"]
    );
    assert_eq!(found(&["--grep", "50%_ of"]), ["50%_ of apples"]);
    assert!(found(&["--grep", "a%s"]).is_empty());
    assert_eq!(found(&["--since", "1h"]).len(), 3);
    assert!(found(&["--until", "1h"]).is_empty());
    assert_eq!(
        found(&["--since", "2020-01-01", "--until", "2999-01-01T00:00:00Z"]).len(),
        3
    );
    assert!(found(&["--since", "2999-01-01"]).is_empty());
    house
        .cli(&["logs", "f", "--since", "yesterday"])
        .ends(2)
        .says("a span like");
}
