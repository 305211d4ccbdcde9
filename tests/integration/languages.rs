//! Functions in other languages than JavaScript, from their folder to their answer, here and on a laptop.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::json;

use crate::{process::until, project::Function, serving::House};

/// An event handler in Python that does what its event asks for.
const EVENT: &str = r#"
import time


class Odd(Exception):
    pass


def handler(event, context):
    print("asked for", event.get("do"))
    if event.get("do") == "fail":
        raise Odd("in Python")
    if event.get("do") == "sleep":
        time.sleep(30)
    return {"from": "FROM", "name": context.function_name, "id": context.aws_request_id}
"#;

/// An ASGI application that begins an answer, and goes on when the file beside it is there.
const STREAMS: &str = r#"
import asyncio, os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-from", b"FROM"), (b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"first ", "more_body": True})
    if scope["path"].endswith("/fail"):
        await asyncio.sleep(0.05)
        raise LookupError("midway")
    while not os.path.exists("GATE"):
        await asyncio.sleep(0.005)
    await send({"type": "http.response.body", "body": b"second"})
"#;

fn python(f: Function) -> Function {
    f.on("python").written_in("py")
}

fn event(from: &str) -> impl FnOnce(Function) -> Function {
    let source = EVENT.replace("FROM", from);
    move |f| python(f).event(source).setting("timeout = '2s'")
}

fn streams(from: &str, gate: &str) -> impl FnOnce(Function) -> Function {
    let source = STREAMS.replace("FROM", from).replace("GATE", gate);
    move |f| python(f).web(source)
}

#[test]
fn a_folder_of_python_files_is_deployed_without_any_configuration() {
    let house = House::serve().start();
    house.save(
        "functions/hello.py",
        "from words import say\n\ndef handler(event, context):\n    return say(event)\n",
    );
    house.save(
        "functions/words.py",
        "def say(event):\n    return ['said', event]\n\nhandler = None\n",
    );
    house.save("functions/test_hello.py", "import hello\n");
    house.deploy().ok();
    assert_eq!(
        house.invoke("hello", &json!(7))["result"],
        json!(["said", 7])
    );
    let list = house.cli(&["list", "--json"]).ok().json();
    assert_eq!(list[0]["runtime"], "python");
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
}

#[test]
fn what_is_wrong_with_a_program_or_a_module_stops_its_deployment() {
    let house = House::serve().function("f", python_event()).start();
    let before = house.get("/functions/f").ok();
    house.save("src/f.py", "def handler(event, context):\n    return (\n");
    house.deploy().ends(3).says("src/f.py:2");
    house.save("src/f.py", "def hendler(event, context): pass\n");
    house
        .deploy()
        .ends(3)
        .says("has no handler: it has `hendler`");
    let toml = "[functions.f]\nruntime = 'provided'\nentry = 'f/bootstrap'\n";
    house.save("bungee.toml", toml);
    house.save("f/bootstrap", "#!/bin/sh\nexit 3\n");
    house
        .deploy()
        .ends(3)
        .says("is not executable")
        .says("chmod +x");
    let program = house.folder.join("f/bootstrap");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(18, 0);
    elf.extend(if cfg!(target_arch = "x86_64") {
        [183, 0]
    } else {
        [62, 0]
    });
    fs::write(&program, elf).unwrap();
    house.deploy().ends(3).says("is built for").says("GOARCH=");
    assert_eq!(
        house.get("/functions/f").ok(),
        before,
        "the last good one still answers"
    );
}

fn python_event() -> impl FnOnce(Function) -> Function {
    |f| python(f).event("def handler(event, context): return 'good'\n")
}

#[test]
fn a_server_without_python_names_the_way_to_it() {
    let bin = tempfile::tempdir().unwrap();
    for tool in ["sh", "env"] {
        std::os::unix::fs::symlink(format!("/bin/{tool}"), bin.path().join(tool)).unwrap();
    }
    let house = House::serve()
        .variable("PATH", bin.path().to_str().unwrap())
        .start();
    house.save("functions/f.py", "def handler(event, context): pass\n");
    let said = house.deploy().ends(1);
    said.says("python3").says("apt-get install");
}

#[test]
fn a_python_laptop_answers_for_a_python_function() {
    let house = House::serve().function("far", event("server")).start();
    assert_eq!(house.get("/functions/far").json()["from"], "server");
    let laptop = house.laptop().function("far", event("laptop"));
    let mut laptop = laptop.attach();
    assert_eq!(house.get("/functions/far").json()["from"], "laptop");
    let invoked = house.invoke("far", &json!({"do": "answer"}));
    assert_eq!(invoked["result"]["from"], "laptop", "{invoked}");
    assert_eq!(invoked["result"]["id"], invoked["invocation_id"]);
    laptop.says("asked for answer");
    let invoked = house.invoke("far", &json!({"do": "fail"}));
    assert_eq!(invoked["error"]["type"], "HandlerError", "{invoked}");
    assert_eq!(invoked["error"]["message"], "Odd: in Python");
    let invoked = house.invoke("far", &json!({"do": "sleep"}));
    assert_eq!(invoked["outcome"], "FunctionTimeout", "{invoked}");
    let source = EVENT.replace("FROM", "saved");
    laptop.save("src/far.py", &source);
    until("the save is live", || {
        house.get("/functions/far").json()["from"] == "saved"
    });
    laptop.interrupt();
    laptop.ended();
    assert_eq!(house.get("/functions/far").json()["from"], "server");
}

#[test]
fn a_python_stream_comes_from_a_laptop_as_it_is_written() {
    let house = House::serve()
        .function("far", streams("server", "/"))
        .start();
    let bag = house.laptop();
    let gate = bag.home().join("gate");
    let _laptop = bag
        .function("far", streams("laptop", gate.to_str().unwrap()))
        .attach();
    let mut wire = house.ask("GET", "/functions/far").open();
    let head = wire.hear("first ");
    assert!(
        head.starts_with("HTTP/1.1 201") && head.contains("x-from: laptop"),
        "{head}"
    );
    fs::write(&gate, "").unwrap();
    wire.hear("second");
    let broken = house.get("/functions/far/fail");
    assert!(!broken.is_whole && broken.text() == "first ", "{broken:?}");
    let record = house.record("far", |record| record["outcome"] == "HandlerError");
    assert_eq!(record["message"], "LookupError: midway", "{record}");
}

#[test]
fn a_debugger_s_port_is_not_for_python_and_programs() {
    let house = House::dev()
        .flag("--inspect")
        .function("snake", python_event())
        .start();
    let said = house.said();
    assert!(said.contains("debugger: snake runs on Python"), "{said}");
}
