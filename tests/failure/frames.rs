//! Frames that go wrong, and clients that do: each costs its own request or its own connection, and nothing else.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    frames::{DEPLOY, GET_METRICS, INVOKE, REGISTER, frame},
    laptop::Gate,
    process::until,
    serving::House,
};

const OK: &str = "export default () => new Response('ok');";

#[test]
fn a_frame_that_announces_too_much_ends_its_connection_with_words_and_no_other() {
    let house = House::serve()
        .flag("--frames-listen")
        .flag("127.0.0.1:0")
        .start();
    let mut neighbour = house.framed("f", OK);
    for announced in [u32::MAX, (16 << 20) + 1] {
        let mut frames = house.frames_over_tcp();
        frames.push(&announced.to_le_bytes());
        let last = frames.end();
        assert_eq!(last.len(), 1, "{announced}: {last:?}");
        assert_eq!(last[0].1.status, 1, "{announced}: {last:?}");
        let said = last[0].1.json["error"].as_str().expect("words");
        assert!(said.contains(&announced.to_string()), "{said}");
        assert_eq!(neighbour.invoke("f", "/", "").body(), "ok");
    }
    let mut http = house.frames_over_tcp();
    http.push(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let words = http.end().remove(0).1;
    words.refused("PayloadTooLarge", "--listen");
}

#[test]
fn what_is_in_flight_is_answered_before_a_broken_frame_ends_the_connection() {
    let house = House::serve().start();
    let gate = Gate::at(house.home());
    let mut frames = house.framed("f", &gate.handler("done"));
    let id = frames.send(INVOKE, &json!({"function_id": "f", "path": "/wait"}));
    gate.sees("began", 1);
    frames.push(&u32::MAX.to_le_bytes());
    assert_eq!(frames.next().1.status, 1);
    gate.open();
    assert_eq!(frames.answer(id).body(), "done");
    assert!(frames.end().is_empty());
}

#[test]
fn a_request_that_cannot_be_read_is_refused_and_the_connection_goes_on() {
    let house = House::serve().start();
    let mut frames = house.framed("f", OK);
    let mut contradicts = frame(100, INVOKE, b"{}");
    contradicts[13] = 99;
    for (id, bytes, words) in [
        (100, contradicts, "announces"),
        (101, frame(101, INVOKE, b"{\"function_id\":"), "payload"),
        (102, frame(102, INVOKE, b"\xff\xfe"), "payload"),
        (103, frame(103, INVOKE, b""), "payload"),
        (104, frame(104, DEPLOY, b"1"), "payload"),
        (105, frame(105, 0, b"{}"), "no command 0"),
        (106, frame(106, 77, b"{}"), "no command 77"),
        (
            107,
            frame(107, INVOKE, b"{\"function_id\":\"f\",\"body\":\"%\"}"),
            "base64",
        ),
        (
            108,
            frame(108, REGISTER, b"{\"name\":\"../x\"}"),
            "not a valid name",
        ),
        (
            109,
            frame(109, REGISTER, b"{\"name\":\"x\",\"runtime\":\"ruby\"}"),
            "ruby",
        ),
        (110, frame(110, INVOKE, b"{}"), "function_id"),
        (0, b"\x05\0\0\0abcde".to_vec(), "no room for its head"),
        (0, b"\0\0\0\0".to_vec(), "no room for its head"),
    ] {
        frames.push(&bytes);
        frames.answer(id).refused("BadRequest", words);
    }
    frames
        .invoke("nobody", "/", "")
        .refused("FunctionNotFound", "nobody");
    frames
        .ask(REGISTER, &json!({"name": "deploy"}))
        .refused("NameTaken", "reserved");
    frames.ask(REGISTER, &json!({"name": "bare"})).ok();
    frames
        .invoke("bare", "/", "")
        .refused("NotDeployed", "bare");
    house.cli(&["disable", "f"]).ok();
    frames.invoke("f", "/", "").refused("FunctionDisabled", "f");
    house.cli(&["enable", "f"]).ok();
    assert_eq!(frames.invoke("f", "/", "").body(), "ok");
}

#[test]
fn half_a_frame_is_given_up_after_a_while_and_an_idle_connection_is_not() {
    let house = House::serve().flag("--limit").flag("body_idle=1s").start();
    let mut idle = house.framed("f", OK);
    let mut half = house.frames();
    half.push(&frame(5, INVOKE, b"{\"function_id\":\"f\"}")[..20]);
    let last = half.end();
    assert!(
        last[0].1.json["error"]
            .as_str()
            .expect("words")
            .contains("body_idle"),
        "{last:?}"
    );
    assert_eq!(idle.invoke("f", "/", "").body(), "ok");
}

#[test]
fn before_its_first_word_a_connection_may_wait() {
    let limits = ["--limit", "header_read=1s", "--limit", "body_idle=1s"];
    let house = limits
        .iter()
        .fold(House::serve(), |house, it| house.flag(*it));
    let house = house.flag("--frames-listen").flag("127.0.0.1:0").start();
    let (mut unix, mut tcp) = (house.frames(), house.frames_over_tcp());
    // A head that comes to nothing tells that the limit has passed, for those who began before.
    let mut half = TcpStream::connect(&house.address).expect("it listens");
    half.write_all(b"GET").expect("it is open");
    let mut end = Vec::new();
    half.read_to_end(&mut end).expect("it is closed");
    house.framed("f", OK);
    assert_eq!(unix.invoke("f", "/", "").body(), "ok");
    assert_eq!(tcp.invoke("f", "/", "").body(), "ok");
}

#[test]
fn hundreds_of_connections_to_the_socket_are_served() {
    let house = House::serve().start();
    drop(house.framed("f", OK));
    let mut all: Vec<_> = (0..300).map(|_| house.frames()).collect();
    for frames in &mut all {
        assert_eq!(frames.invoke("f", "/", "").body(), "ok");
    }
}

#[test]
fn who_sends_no_more_still_gets_his_answers() {
    let house = House::serve()
        .flag("--frames-listen")
        .flag("127.0.0.1:0")
        .flag("--limit")
        .flag("frames_in_flight=2")
        .start();
    let gate = Gate::at(house.home());
    drop(house.framed("f", &gate.handler("done")));
    let path = house.code("g.js", OK);
    for (at, mut frames) in [house.frames(), house.frames_over_tcp()]
        .into_iter()
        .enumerate()
    {
        let wait = json!({"function_id": "f", "path": "/wait"});
        let ids: Vec<u64> = (0..3).map(|_| frames.send(INVOKE, &wait)).collect();
        let register = frames.send(REGISTER, &json!({"name": "g"}));
        frames.end_ours();
        gate.sees("began", 2 + 3 * at);
        gate.open();
        for id in ids {
            assert_eq!(frames.answer(id).body(), "done");
        }
        frames.answer(register).ok();
        assert!(frames.end().is_empty());
        let mut deploys = house.frames();
        let label = format!("v{at}");
        let deploy = deploys.send(
            DEPLOY,
            &json!({"function_id": "g", "version": label, "bundle_path": path}),
        );
        deploys.end_ours();
        assert_eq!(deploys.answer(deploy).ok()["status"], "DEPLOYED");
    }
}

#[test]
fn who_sends_no_more_and_then_leaves_takes_his_invocations_along() {
    let house = House::serve().start();
    let gate = Gate::at(house.home());
    let mut frames = house.framed("f", &gate.handler("done"));
    frames.send(INVOKE, &json!({"function_id": "f", "path": "/wait"}));
    gate.sees("began", 1);
    frames.end_ours();
    drop(frames);
    gate.sees("left", 1);
}

#[test]
fn large_frames_of_all_connections_share_their_room() {
    let house = House::serve()
        .flag("--frames-listen")
        .flag("127.0.0.1:0")
        .flag("--limit")
        .flag("frames_memory=32MB")
        .start();
    let mut neighbour = house.framed(
        "f",
        "export default async (r) => new Response(String((await r.text()).length));",
    );
    // Each announces 16 MiB and sends all but the last byte; the kernel holds what is not read.
    let mut halves = Vec::new();
    let announced: u32 = 16 << 20;
    let rest = vec![b'x'; (16 << 20) - 1];
    for _ in 0..2 {
        let mut half = house.frames_over_tcp();
        half.push(&announced.to_le_bytes());
        half.push(&rest);
        halves.push(half);
    }
    let mut waits = house.frames_over_tcp();
    let large = frame(
        7,
        INVOKE,
        json!({"function_id": "f", "body": "AAAA".repeat(50_000)})
            .to_string()
            .as_bytes(),
    );
    waits.push(&large);
    // Small ones need no room.
    assert_eq!(neighbour.invoke("f", "/", "abc").body(), "3");
    assert!(waits.is_silent(), "there is room for a third");
    halves.remove(0).push(b"x");
    assert_eq!(waits.answer(7).body(), "150000");
}

#[test]
fn answers_that_nobody_reads_hold_no_worker() {
    let house = House::serve()
        .flag("--limit")
        .flag("frames_memory=32MB")
        .start();
    let code =
        "export default (r) => new Response('x'.repeat(r.url.endsWith('/small') ? 1 : 4 << 20));";
    let mut deaf = house.framed("big", code);
    for _ in 0..60 {
        deaf.send(INVOKE, &json!({"function_id": "big"}));
    }
    let started = Instant::now();
    let mut neighbour = house.frames();
    for _ in 0..3 {
        assert_eq!(neighbour.invoke("big", "/small", "").body(), "x");
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert!(house.memory_mib() < 400, "{} MiB", house.memory_mib());
    assert!(deaf.end().len() < 60);
}

#[test]
fn more_requests_than_the_window_wait_in_the_socket() {
    let house = House::serve()
        .flag("--limit")
        .flag("frames_in_flight=2")
        .start();
    let gate = Gate::at(house.home());
    let mut frames = house.framed("f", &gate.handler("done"));
    let ids: Vec<u64> = (0..6)
        .map(|_| frames.send(INVOKE, &json!({"function_id": "f", "path": "/wait"})))
        .collect();
    gate.sees("began", 2);
    // Another connection has a window of its own; by the time it is answered, a third would have begun here too.
    let mut other = house.frames();
    assert_eq!(other.invoke("f", "/", "").body(), "done");
    let figures = other.ask(GET_METRICS, &json!({"function_id": "f"})).ok();
    assert_eq!(
        (&figures["workers"]["busy"], &figures["waiting"]),
        (&json!(2), &json!(0)),
        "{figures}"
    );
    gate.open();
    for id in ids {
        assert_eq!(frames.answer(id).body(), "done");
    }
}

#[test]
fn who_never_reads_answers_holds_up_nobody_and_is_cut_off() {
    let house = House::serve().flag("--limit").flag("body_idle=1s").start();
    let code = "export default () => new Response('x'.repeat(4 << 20));";
    let mut deaf = house.framed("big", code);
    let mut neighbour = house.framed("f", OK);
    for _ in 0..60 {
        deaf.send(INVOKE, &json!({"function_id": "big"}));
    }
    for _ in 0..20 {
        assert_eq!(neighbour.invoke("f", "/", "").body(), "ok");
    }
    let worst = 400;
    assert!(house.memory_mib() < worst, "{} MiB", house.memory_mib());
    until("the deaf one's work has ended", || {
        let figures = neighbour
            .ask(GET_METRICS, &json!({"function_id": "big"}))
            .ok();
        figures["workers"]["busy"] == 0 && figures["waiting"] == 0
    });
    assert!(deaf.end().len() < 60);
}

#[test]
fn a_caller_who_leaves_takes_his_invocations_along() {
    let house = House::serve().start();
    let gate = Gate::at(house.home());
    let mut frames = house.framed("f", &gate.handler("done"));
    frames.send(INVOKE, &json!({"function_id": "f", "path": "/wait"}));
    gate.sees("began", 1);
    drop(frames);
    gate.sees("left", 1);
    house.record("f", |record| record["outcome"] == "Cancelled");
}

#[test]
fn a_worker_that_dies_costs_its_invocation_and_nothing_else() {
    let house = House::serve().start();
    let mut frames = house.framed("f", "export default (r) => { if (r.url.endsWith('/die')) process.exit(3); return new Response('x'.repeat(100_000)); };");
    for _ in 0..12 {
        let died = frames.invoke("f", "/die", "").ok();
        assert_eq!(
            (&died["success"], &died["error_type"]),
            (&json!(false), &json!("WorkerCrashed"))
        );
    }
    assert_eq!(frames.invoke("f", "/", "").body().len(), 100_000);
}

#[test]
fn what_is_in_flight_on_a_socket_is_answered_before_the_server_ends() {
    let mut house = House::serve().start();
    let gate = Gate::at(house.home());
    let mut frames = house.framed("f", &gate.handler("done"));
    let mut idle = house.frames();
    idle.invoke("f", "/", "").body();
    let id = frames.send(INVOKE, &json!({"function_id": "f", "path": "/wait"}));
    gate.sees("began", 2);
    house.signal(Signal::TERM);
    assert!(idle.end().is_empty());
    frames
        .invoke("f", "/", "")
        .refused("ShuttingDown", "going down");
    gate.open();
    assert_eq!(frames.answer(id).body(), "done");
    assert!(frames.end().is_empty());
    assert_eq!(house.ended().code(), Some(0));
}

#[test]
fn after_the_grace_whoever_waits_at_a_socket_is_told() {
    let mut house = House::serve().flag("--grace").flag("200ms").start();
    let gate = Gate::at(house.home());
    let mut frames = house.framed("f", &gate.handler("done"));
    let id = frames.send(INVOKE, &json!({"function_id": "f", "path": "/wait"}));
    gate.sees("began", 1);
    house.signal(Signal::TERM);
    frames.answer(id).refused("ShuttingDown", "grace");
    assert_eq!(house.ended().code(), Some(0));
}

#[test]
fn code_that_cannot_be_deployed_is_refused_in_words() {
    let house = House::serve()
        .flag("--limit")
        .flag("bundle_unpacked=1MB")
        .start();
    let mut frames = house.framed("f", OK);
    let folder = house.home().join("code/folder.js");
    fs::create_dir(&folder).expect("a folder");
    let pipe = house.home().join("code/pipe.js");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    let large = house.code("large.js", &format!("// {}\n{OK}", "x".repeat(1 << 20)));
    let syntax = house.code("syntax.ts", "const a = 1;\nexport default () => {;\n");
    let import = house.code(
        "import.js",
        "import './beside.js';\nexport default () => new Response();",
    );
    let nothing = house.code("nothing.js", "export const other = 1;");
    let at = format!("{}:", syntax.display());
    for (path, error_type, words) in [
        (&house.home().join("code/none.js"), "BadRequest", "none.js"),
        (&folder, "BadRequest", "no plain file"),
        (&pipe, "BadRequest", "no plain file"),
        (&"code/f.js".into(), "BadRequest", "whole path"),
        (&"/etc/passwd".into(), "BadRequest", "does not end with"),
        (&large, "PayloadTooLarge", "bundle_unpacked"),
        (&syntax, "InitError", at.as_str()),
        (&import, "InitError", "one file that holds everything"),
        (&nothing, "InitError", "exports no handler"),
    ] {
        frames.deploy("f", "v2", path).refused(error_type, words);
    }
    let hint = &frames.deploy("f", "v2", &syntax).json["hint"];
    assert!(hint.is_null(), "of imports there is nothing to say: {hint}");
    frames
        .deploy("g", "v1", &syntax)
        .refused("FunctionNotFound", "register it first");
    assert_eq!(frames.invoke("f", "/", "").body(), "ok");
    let versions = house.cli(&["versions", "f", "--json"]).ok().json();
    assert_eq!(versions.as_array().map(Vec::len), Some(1), "{versions}");
}

#[test]
fn a_deadline_holds_in_a_frame_as_elsewhere() {
    let house = House::serve()
        .function("slow", |f| {
            f.bun()
                .web("export default () => new Promise(() => setInterval(() => {}, 1000))")
                .setting("timeout = '300ms'")
        })
        .start();
    let started = std::time::Instant::now();
    let outcome = house.frames().invoke("slow", "/", "").ok();
    assert_eq!(
        (&outcome["error_type"], &outcome["status"]),
        (&json!("FunctionTimeout"), &json!(504))
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}
