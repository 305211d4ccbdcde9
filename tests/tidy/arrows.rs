//! Which room may know which: the arrows of ARCHITECTURE.md against what cargo says.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use super::none;
use super::source::{Finding, root};

/// Every room and the rooms that it may know, by their names in the source.
const ARROWS: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("store", &["model"]),
    ("build", &["model"]),
    ("workers", &["model"]),
    ("live", &["model"]),
    ("tunnel", &["model"]),
    ("aws", &["model"]),
    ("isolate", &["model"]),
    (
        "server",
        &["model", "store", "build", "workers", "live", "tunnel"],
    ),
    (
        "laptop",
        &[
            "model", "build", "workers", "live", "tunnel", "aws", "server",
        ],
    ),
    ("bungee", &["model", "build", "server", "laptop", "isolate"]),
    ("bridge", &["model", "live"]),
    // The suite links nothing of ours, so that it could judge a rewrite.
    ("tests", &[]),
    ("fuzz", &["model"]),
];

/// What makes a program wait, store or serve: none of it belongs below `model`.
const RUNTIMES_DATABASES_AND_SERVERS: [&str; 19] = [
    "tokio",
    "mio",
    "async-std",
    "smol",
    "async-io",
    "futures-executor",
    "hyper",
    "hyper-util",
    "h2",
    "axum",
    "tower",
    "tower-http",
    "reqwest",
    "sqlx",
    "sqlx-core",
    "libsqlite3-sys",
    "rusqlite",
    "redis",
    "rustix",
];

/// A room's name in the source, from its package's.
fn room(package: &str) -> &str {
    package.strip_prefix("bungee-").unwrap_or(package)
}

/// Every package of the workspace: its room, and the names of what it declares to depend on.
fn packages() -> Vec<(String, BTreeSet<String>)> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&output).expect("cargo metadata writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list");
            let names = dependencies
                .iter()
                .map(|found| text(&found["name"]))
                .collect();
            (room(&text(&package["name"])).to_owned(), names)
        })
        .collect()
}

/// Everything that ends in one package's library, all the way down.
fn closure(package: &str) -> BTreeSet<String> {
    let arguments = [
        "tree", "-p", package, "--edges", "normal", "--prefix", "none", "--format", "{p}",
    ];
    let listed = cargo(&arguments);
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--locked")
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// The rooms that declare one of these libraries, other than those that may.
fn who_declares(libraries: &[&str], may: &[&str]) -> Vec<Finding> {
    packages()
        .into_iter()
        .filter(|(room, _)| !may.contains(&room.as_str()))
        .flat_map(|(room, names)| {
            let found = libraries.iter().filter(|library| names.contains(**library));
            found
                .map(|library| format!("{room} → {library}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn model_depends_on_no_runtime_database_or_web_crate() {
    let all = closure("bungee-model");
    let found = RUNTIMES_DATABASES_AND_SERVERS
        .iter()
        .filter(|name| all.contains(**name));
    none(
        "model stays pure",
        found.map(|name| format!("model → … → {name}")).collect(),
    );
}

#[test]
fn rooms_know_only_the_rooms_that_the_map_allows() {
    let packages = packages();
    let rooms: BTreeSet<String> = packages.iter().map(|(room, _)| room.clone()).collect();
    let mut findings = Vec::new();
    for (from, names) in &packages {
        let Some((_, may)) = ARROWS.iter().find(|(room, _)| room == from) else {
            findings.push(format!("{from} is on no map"));
            continue;
        };
        let known = names.iter().map(|name| room(name));
        for to in known.filter(|name| rooms.contains(*name) && !may.contains(name)) {
            findings.push(format!("{from} → {to}"));
        }
    }
    none(
        "only `server` and `laptop` introduce rooms to one another",
        findings,
    );
}

#[test]
fn only_store_links_a_database() {
    none(
        "ask `store`",
        who_declares(&["sqlx", "rusqlite", "libsqlite3-sys"], &["store"]),
    );
}

#[test]
fn untrusted_javascript_never_executes_in_the_server() {
    none(
        "engines live in `isolate`, whose code runs in a sealed process of its own",
        who_declares(
            &[
                "rquickjs",
                "rquickjs-core",
                "rquickjs-sys",
                "boa_engine",
                "v8",
            ],
            &["isolate"],
        ),
    );
}

#[test]
fn only_cli_can_enter_the_sealed_child() {
    none(
        "`isolate` is entered by re-executing `bungee`",
        who_declares(&["bungee-isolate"], &["bungee"]),
    );
}

#[test]
fn bridge_links_no_aws_sdk_no_database_and_no_server() {
    let listed = packages();
    if !listed.iter().any(|(room, _)| room == "bridge") {
        return;
    }
    let heavy = |name: &String| {
        name.starts_with("aws-") && name != "aws-sigv4"
            || name.starts_with("sqlx")
            || name == "bungee-server"
            || name == "bungee-store"
    };
    let found = closure("bungee-bridge").into_iter().filter(heavy);
    none("the bridge starts in milliseconds", found.collect());
}
