//! What stands beside the server in other languages: each runs its own tests, from a copy, with what its package manager brings.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::project;

/// A copy of `sdks/node` with its packages, and of the samples and the example that it is tested with.
fn node_wrapper() -> TempDir {
    let copy = tempfile::tempdir().expect("a folder can be made");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["sdks/node", "spec/live", "examples/live"] {
        project::copy(&root.join(folder), &copy.path().join(folder));
    }
    run(
        &copy,
        "npm",
        &["ci", "--no-audit", "--no-fund", "--prefer-offline"],
    );
    copy
}

/// Runs a program in the package's folder; what it wrote is the message if it fails.
fn run(copy: &TempDir, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(copy.path().join("sdks/node"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BUNGEE_")) {
        command.env_remove(name);
    }
    let output = command.output().expect("the program is there");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{said}\n{complained}",
        output.status
    );
}

#[test]
fn the_node_wrapper_passes_its_own_tests() {
    let copy = node_wrapper();
    let folder = copy.path().join("sdks/node/test");
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names
        .filter(|name| name.ends_with(".test.js"))
        .map(|name| format!("test/{name}"))
        .collect();
    assert!(names.len() >= 3, "{names:?}");
    let mut arguments = vec!["--test"];
    arguments.extend(names.iter().map(String::as_str));
    run(&copy, "node", &arguments);
}

#[test]
fn the_node_wrapper_s_types_are_those_of_its_code() {
    let copy = node_wrapper();
    let tsc = "node_modules/typescript/bin/tsc";
    run(&copy, "node", &[tsc]);
    run(&copy, "node", &[tsc, "-p", "tsconfig.source.json"]);
}
