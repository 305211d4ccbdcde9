//! What Prometheus sees.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{process::eventually, serving::House};

/// A server that has seen a success, a failure and a refusal.
fn seasoned() -> House {
    let house = House::serve()
        .function("bun", |f| {
            f.bun().event(
                "export const handler = (e) => { if (e.bad) throw new Error('bad'); return 1; }",
            )
        })
        .function("isolated", |f| f.event("export const handler = () => 1"))
        .start();
    house.invoke("bun", &json!({}));
    house.invoke("bun", &json!({}));
    house.invoke("bun", &json!({"bad": true}));
    house.invoke("isolated", &json!({}));
    house
}

/// The value of one series, once it is there.
fn value(house: &House, series: &str) -> f64 {
    eventually(series, || {
        let text = house.get("/metrics").ok();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{series} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    })
}

#[test]
fn invocations_are_counted_by_function_and_outcome() {
    let house = seasoned();
    let of = |name: &str, outcome: &str| {
        value(
            &house,
            &format!(
                "bungee_invocations_total{{function=\"{name}\",outcome=\"{outcome}\",project=\"default\"}}"
            ),
        )
    };
    assert_eq!(
        [
            of("bun", "ok"),
            of("bun", "HandlerError"),
            of("isolated", "ok")
        ],
        [2.0, 1.0, 1.0]
    );
}

#[test]
fn latencies_are_told_by_leg_and_workers_by_state() {
    let house = seasoned();
    let count = |leg: &str| {
        let labels = format!("function=\"bun\",leg=\"{leg}\",project=\"default\"");
        value(
            &house,
            &format!("bungee_invocation_duration_seconds_count{{{labels}}}"),
        )
    };
    assert_eq!(
        [count("start"), count("queue"), count("handler")],
        [1.0, 2.0, 3.0]
    );
    let bun = "function=\"bun\",project=\"default\"";
    assert_eq!(
        value(&house, &format!("bungee_cold_starts_total{{{bun}}}")),
        1.0
    );
    assert_eq!(value(&house, &format!("bungee_queue_depth{{{bun}}}")), 0.0);
    let idle = "bungee_workers{function=\"bun\",project=\"default\",state=\"idle\"}";
    assert_eq!(value(&house, idle), 1.0);
    assert_eq!(value(&house, "bungee_ready"), 1.0);
    let starts = |result| {
        value(
            &house,
            &format!("bungee_kept_process_starts_total{{kind=\"spare\",result=\"{result}\"}}"),
        )
    };
    assert_eq!(starts("hit") + starts("miss"), 1.0);
}

#[test]
fn every_family_stands_in_the_documentation() {
    let house = seasoned();
    // It fails, and is queued for a minute more.
    let queued = house.ask("POST", "/2015-03-31/functions/bun/invocations");
    let queued = queued.header("x-amz-invocation-type", "Event");
    let queued = queued.json(&json!({"bad": true})).send();
    assert_eq!(queued.status, 202, "{}", queued.text());
    let text = house.get("/metrics").ok();
    let served: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let told: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(served, told);
}

#[test]
fn promtool_finds_no_fault_with_them() {
    let house = seasoned();
    let text = house.get("/metrics").ok();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.expect("promtool is installed: scripts/test brings it");
    let mut stdin = promtool.stdin.take().expect("stdin is a pipe");
    stdin.write_all(text.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("promtool ends");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn with_tokens_the_metrics_ask_for_one() {
    let house = seasoned();
    let token = |role: &str| {
        let mut arguments = vec!["token", "create", "--role", role, "--json"];
        let data = house.data();
        arguments.extend(["--data-dir", data.to_str().expect("a readable path")]);
        let said = house.cli(&arguments).ok();
        said.json()["token"].as_str().expect("a token").to_owned()
    };
    let (deploy, invoke) = (token("deploy"), token("invoke"));
    house.get("/metrics").fails(401, "Unauthorized");
    house
        .ask("GET", "/metrics")
        .token(&invoke)
        .send()
        .fails(403, "Forbidden");
    house.ask("GET", "/metrics").token(&deploy).send().ok();
}
