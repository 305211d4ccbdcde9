//! What `packaging/` says must fit what the program does, for nobody builds it here.

use std::{env, fs, path::Path, process::Command};

use super::source::root;

fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What follows `KEY=` or the like in a line of its own.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(key));
    found.unwrap_or_else(|| panic!("no line begins with {key}"))
}

#[test]
fn the_image_is_built_with_the_pinned_tools_and_runs_as_a_user() {
    let dockerfile = file("packaging/Dockerfile");
    let toolchain = file("rust-toolchain.toml");
    let rust = value(&toolchain, "channel = ").trim_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-")));
    let tests = file("scripts/test");
    let bun = value(&tests, "readonly BUN_VERSION=");
    assert!(dockerfile.contains(&format!("FROM oven/bun:{bun}-")));
    assert_eq!(value(&dockerfile, "USER "), "bungee");
    assert!(dockerfile.contains("\nHEALTHCHECK "));
    for copied in dockerfile
        .lines()
        .filter(|line| line.starts_with("COPY --from=build"))
    {
        assert!(copied.contains("/src/target/release/bungee "), "{copied}");
    }
}

#[test]
fn the_unit_waits_longer_than_the_grace_of_the_server() {
    let unit = file("packaging/bungee.service");
    let wait: u32 = value(&unit, "TimeoutStopSec=").parse().expect("seconds");
    let serve = file("crates/cli/src/commands/serve.rs");
    let (_, grace) = serve
        .split_once("work in flight may go on after")
        .expect("--grace is told");
    let (_, grace) = grace
        .split_once("default_value = \"")
        .expect("--grace has a default");
    let (grace, _) = grace.split_once("s\"").expect("the default is in seconds");
    let grace: u32 = grace.parse().expect("a number");
    assert!(
        wait > grace,
        "systemd kills after {wait} s, and the grace is {grace} s"
    );
    assert_eq!(value(&unit, "KillMode="), "mixed");
}

/// Asks systemd itself where it is; elsewhere only what is above is known.
#[test]
fn systemd_accepts_the_unit() {
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|folder| folder.join("systemd-analyze").exists()) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let copy = folder.path().join("bungee.service");
    let program = Path::new("/bin/true");
    let unit = file("packaging/bungee.service")
        .replace("/usr/local/bin/bungee", &program.display().to_string());
    fs::write(&copy, unit).expect("a file can be written");
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&copy)
        .output();
    let verified = verified.expect("systemd-analyze starts");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}
