//! What stands beside the server in other languages: each runs its own tests, from a copy, with what its package manager brings,
//! and against a server.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::{project, serving::House};

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

/// A copy of `sdks/go`.
fn go_client() -> TempDir {
    let copy = tempfile::tempdir().expect("a folder can be made");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdks/go");
    project::copy(&source, &copy.path().join("go"));
    copy
}

/// Go in a folder, which may fetch nothing: the client needs nothing else.
fn go(folder: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(folder)
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOFLAGS", "-mod=mod")
        .env("CGO_ENABLED", "0");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BUNGEE_")) {
        command.env_remove(name);
    }
    command
}

/// What a program that must end well wrote.
#[track_caller]
fn done(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("Go is on PATH");
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(
        status.success(),
        "{status}\n{said}\n{}",
        String::from_utf8_lossy(&stderr)
    );
    said
}

#[test]
fn the_go_client_passes_its_own_tests() {
    let copy = go_client();
    let folder = copy.path().join("go");
    done(go(&folder).args(["vet", "./..."]));
    let said = done(go(&folder).args(["test", "-count=1", "-v", "./..."]));
    assert!(said.matches("--- PASS").count() >= 8, "{said}");
    assert_eq!(said.matches("--- SKIP").count(), 1, "{said}");
}

#[test]
fn the_go_client_talks_to_a_server_by_its_socket_and_over_tcp() {
    let house = House::serve()
        .flag("--frames-listen")
        .flag("127.0.0.1:0")
        .start();
    let copy = go_client();
    let folder = copy.path().join("go");
    let test = ["test", "-count=1", "-v", "-run", "AgainstAServer", "./..."];
    let socket = house.socket();
    let said = done(go(&folder).args(test).env("BUNGEE_SOCKET", &socket));
    assert!(said.contains("--- PASS: TestAgainstAServer"), "{said}");
    drop(house);
    let house = House::serve()
        .flag("--frames-listen")
        .flag("127.0.0.1:0")
        .start();
    let token = house.token("deploy");
    let address = format!("tcp://{}", house.frames_address());
    let said = done(
        go(&folder)
            .args(test)
            .env("BUNGEE_SOCKET", address)
            .env("BUNGEE_TOKEN", token),
    );
    assert!(said.contains("--- PASS: TestAgainstAServer"), "{said}");
}

#[test]
fn the_go_client_s_own_page_compiles_and_runs() {
    let house = House::serve().start();
    let copy = go_client();
    let page = fs::read_to_string(copy.path().join("go/README.md")).expect("a page");
    let sample = page.split("```go\n").nth(1).expect("a sample");
    let sample = sample.split("```").next().expect("its end");
    let code = house.code("bundle.js", "export default async function handler(req) { return Response.json({ message: `Hello, ${(await req.json()).name}!` }); }");
    let socket = house.socket();
    let sample = sample
        .replace(
            "/tmp/functions.sock",
            socket.to_str().expect("a readable path"),
        )
        .replace(
            "/path/to/bundle.js",
            code.to_str().expect("a readable path"),
        );
    let program = copy.path().join("program");
    project::put(&program, "main.go", &sample);
    project::put(
        &program,
        "go.mod",
        "module program\n\ngo 1.21\n\nrequire bungee.dev/sdks/go v0.0.0\n\nreplace bungee.dev/sdks/go => ../go\n",
    );
    let said = done(go(&program).args(["run", "."]));
    assert!(
        said.contains("deployed ") && said.ends_with("{\"message\":\"Hello, Alice!\"}\n"),
        "{said}"
    );
}
