//! The sealed child, spoken to as the server does: a process of its own, HTTP on descriptor 4, control on descriptor 3.
//!
//! Its own main, for the child is this same program: whoever is started with `BUNGEE_BOOT` is one.
//! `cargo test -p bungee-isolate --test child [part of a name]`

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(
    clippy::disallowed_methods,
    reason = "a deadline for another process is a time of day"
)]

mod child;
mod faults;
mod language;
mod limits;
mod logs;
mod sealed;
mod web;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

/// A test and its name.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    if let Ok(call) = env::var("BUNGEE_TEST_CALL") {
        return sealed::make_call(&call);
    }
    if env::var_os("BUNGEE_BOOT").is_some() {
        return isolate::run_worker();
    }
    let tests = [
        sealed::TESTS,
        language::TESTS,
        logs::TESTS,
        web::TESTS,
        faults::TESTS,
        limits::TESTS,
    ]
    .concat();
    if env::args().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted = env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let mut failed = Vec::new();
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(&wanted)) {
        let is_ok = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if is_ok { "ok" } else { "FAILED" });
        if !is_ok {
            failed.push(*name);
        }
    }
    println!("{} failed: {}", failed.len(), failed.join(", "));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
