//! WebSockets through the gateway: the same rules as for any request, and bytes both ways.

use std::process::Command;

use serde_json::json;
use tungstenite::Message;

use crate::{
    process::until,
    serving::House,
    socket::{Ending, Socket},
};

/// Echoes what it hears; `who` and `leave` are answered otherwise.
const ECHO: &str = "
    export default {
      fetch(request, server) {
        const url = new URL(request.url);
        if (url.pathname.endsWith('/plain')) return new Response('not upgraded', { status: 426 });
        console.log('asked');
        if (server.upgrade(request, { data: { who: url.searchParams.get('who') }, headers: { 'x-mine': 'yes' } })) return;
        return new Response('no websocket', { status: 400 });
      },
      websocket: {
        open(ws) { console.log('open ' + ws.data.who); },
        message(ws, message) {
          if (message === 'who') { console.log('heard who'); ws.send(ws.data.who); }
          else if (message === 'leave') ws.close(4001, 'as asked');
          else ws.send(message);
        },
        async close(ws, code) { await 0; console.log('closed ' + code); },
      },
    };";

fn echo(settings: &str) -> House {
    House::serve()
        .function("f", |f| f.bun().module(ECHO).setting(settings))
        .start()
}

#[test]
fn a_bun_function_speaks_websocket_as_bun_serves_it() {
    let house = echo("");
    let mut socket = Socket::open(&house, "/functions/f/room?who=Ann");
    socket.say("hello");
    assert_eq!(socket.words(), "hello");
    socket.say("who");
    assert_eq!(socket.words(), "Ann");
    let large: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    socket.say(large.clone());
    assert_eq!(socket.hear(), Message::from(large));
    assert!(matches!(socket.close(), Ending::Closed(..)));
}

#[test]
fn the_handler_s_close_reaches_the_caller_with_its_code() {
    let house = echo("");
    let mut socket = Socket::open(&house, "/functions/f");
    socket.say("leave");
    assert_eq!(socket.end(), Ending::Closed(4001, "as asked".into()));
    house.record("f", |record| {
        record["status"] == 101 && record["outcome"] == "ok"
    });
}

#[test]
fn a_socket_is_one_invocation_and_its_lines_are_its_own() {
    let house = echo("concurrency = 2\nworkers = { max = 1 }");
    let mut other = Socket::open(&house, "/functions/f?who=other");
    let mut socket = Socket::open(&house, "/functions/f?who=Ann");
    socket.say("who");
    assert_eq!(socket.words(), "Ann");
    let id = house.logged("f", "open Ann")["invocation"].clone();
    socket.close();
    let record = house.record("f", |record| record["id"] == id);
    assert_eq!(
        (
            &record["outcome"],
            &record["status"],
            &record["trigger"],
            &record["method"]
        ),
        (&json!("ok"), &json!(101), &json!("http"), &json!("GET"))
    );
    for line in ["heard who", "closed 1005"] {
        assert_eq!(house.logged("f", line)["invocation"], id, "{line}");
    }
    other.say("still here");
    assert_eq!(other.words(), "still here");
    assert_ne!(house.logged("f", "open other")["invocation"], id);
}

#[test]
fn a_request_that_is_not_upgraded_is_answered_plainly() {
    let house = echo("");
    let refused = Socket::refused(&house, "/functions/f/plain");
    assert_eq!(refused.status(), 426);
    assert_eq!(refused.body().as_deref(), Some(&b"not upgraded"[..]));
    // No header of a WebSocket, so `upgrade` says no.
    assert_eq!(house.get("/functions/f").status, 400);
}

#[test]
fn who_cannot_have_websockets_says_so() {
    let house = House::serve()
        .function("isolated", |f| f.web("export default () => new Response('ok')"))
        .function("node", |f| f.on("node").web("export default () => new Response('ok')"))
        .function("event", |f| f.bun().event("export const handler = () => 1"))
        .function("bare", |f| {
            f.bun().module("export default { fetch: (r, server) => server.upgrade(r) ? undefined : new Response('no') }")
        })
        .start();
    for (name, status, words) in [
        ("isolated", 400, "`isolate` has no WebSockets"),
        ("node", 400, "`node` has no WebSockets"),
        ("event", 400, "an event handler has no WebSockets"),
        ("bare", 502, "`websocket`"),
    ] {
        let refused = Socket::refused(&house, &format!("/functions/{name}"));
        let body =
            String::from_utf8_lossy(refused.body().as_deref().unwrap_or_default()).into_owned();
        assert_eq!(refused.status(), status, "{name}: {body}");
        assert!(body.contains(words), "{name}: {body}");
    }
    assert_eq!(house.get("/functions/isolated").ok(), "ok");
}

#[test]
fn a_socket_needs_the_token_that_a_request_needs() {
    let house = echo("");
    let said = house
        .cli(&["token", "create", "--role", "invoke", "--json"])
        .ok();
    let token = said.json()["token"].as_str().expect("a token").to_owned();
    let refused = Socket::refused(&house, "/functions/f");
    assert_eq!(refused.status(), 401);
    let bearer = format!("Bearer {token}");
    let granted = Socket::ask(&house, "/functions/f", &[("authorization", &bearer)]);
    let mut socket = granted.expect("a socket");
    socket.say("in");
    assert_eq!(socket.words(), "in");
}

#[test]
fn a_socket_holds_its_slot_until_it_ends() {
    let house = echo("workers = { max = 1 }\nqueue = { wait = '300ms' }");
    let mut first = Socket::open(&house, "/functions/f");
    let refused = Socket::refused(&house, "/functions/f");
    assert_eq!(refused.status(), 503);
    first.say("here");
    assert_eq!(first.words(), "here");
    first.close();
    let mut second = Socket::open(&house, "/functions/f");
    second.say("mine now");
    assert_eq!(second.words(), "mine now");
}

#[test]
fn a_caller_who_vanishes_frees_the_slot() {
    let house = echo("workers = { max = 1 }\nqueue = { wait = '20s' }");
    let socket = Socket::open(&house, "/functions/f");
    drop(socket);
    house.record("f", |record| record["outcome"] == "Cancelled");
    house.logged("f", "closed 1006");
    Socket::open(&house, "/functions/f").close();
}

#[test]
fn bun_s_own_client_talks_to_it() {
    let house = echo("");
    let script = format!(
        "const ws = new WebSocket('ws://{}/functions/f?who=Bun');
         ws.onopen = () => ws.send('who');
         ws.onmessage = (e) => {{ console.log(e.data); ws.close(1000, 'done'); }};
         ws.onclose = (e) => console.log(e.code, e.wasClean);",
        house.address
    );
    let output = Command::new("bun")
        .args(["-e", &script])
        .output()
        .expect("bun runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "Bun\n1000 true\n",
        "{output:?}"
    );
}

#[test]
fn a_socket_of_an_old_version_lives_on() {
    let house = echo("");
    let mut socket = Socket::open(&house, "/functions/f");
    house.save(
        "src/f.js",
        &ECHO.replace("ws.send(message)", "ws.send('new ' + message)"),
    );
    house.deploy().ok();
    socket.say("one");
    assert_eq!(socket.words(), "one");
    let mut next = Socket::open(&house, "/functions/f");
    next.say("two");
    assert_eq!(next.words(), "new two");
    socket.close();
    until("the old worker is gone", || house.bun_workers().len() == 1);
}
