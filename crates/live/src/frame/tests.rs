//! The golden frames: `spec/live/frames.json` holds one of every kind, and other ends are tested against the same file.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::*;

/// A frame of the file before it is written: its name, its head, its payload.
struct Sample {
    name: &'static str,
    head: Head,
    payload: Payload,
}

enum Payload {
    Json(Value),
    Bytes(Vec<u8>),
}

const INVOCATION: &str = "01900000-0000-7000-8000-00000000abcd";

/// The channel's, which belong to no attempt.
fn control(name: &'static str, kind: Kind, payload: Value) -> Sample {
    Sample {
        name,
        head: Frame::control(kind, Bytes::new()).head,
        payload: Payload::Json(payload),
    }
}

/// One of an attempt: the kind, its index, and what it says.
fn of_attempt(name: &'static str, kind: Kind, index: u32, payload: Value) -> Sample {
    let head = Head {
        kind,
        flags: Flags::default(),
        of: Part {
            id: INVOCATION
                .parse()
                .unwrap_or_else(|_| unreachable!("a UUID")),
            attempt: 1,
        },
        index,
        count: 1,
        ack: 0,
        window: 8,
        peer: 7,
    };
    Sample {
        name,
        head,
        payload: Payload::Json(payload),
    }
}

impl Sample {
    fn bytes(mut self, payload: &[u8]) -> Sample {
        self.payload = Payload::Bytes(payload.to_vec());
        self
    }

    fn head(mut self, change: impl FnOnce(&mut Head)) -> Sample {
        change(&mut self.head);
        self
    }

    fn frame(&self) -> Frame {
        let body = match &self.payload {
            Payload::Json(value) => sorted(value.clone()).to_string().into_bytes(),
            Payload::Bytes(bytes) => bytes.clone(),
        };
        Frame {
            head: self.head,
            body: body.into(),
        }
    }

    fn as_json(&self) -> Value {
        let head = &self.head;
        let payload = match &self.payload {
            Payload::Json(value) => json!({ "json": value }),
            Payload::Bytes(bytes) => json!({ "hex": hex(bytes) }),
        };
        json!({
            "name": self.name,
            "kind": format!("{:?}", head.kind),
            "number": head.kind as u8,
            "flags": head.flags.0,
            "invocation": head.of.id.to_string(),
            "attempt": head.of.attempt,
            "index": head.index,
            "count": head.count,
            "ack": head.ack,
            "window": head.window,
            "peer": head.peer,
            "payload": payload,
            "sealed_part": hex(&head.sealed_part()),
            "frame": hex(&self.frame().encode()),
        })
    }
}

/// A build of the whole workspace keeps the order that keys were written in, one of this crate alone does not.
fn sorted(mut value: Value) -> Value {
    value.sort_all_objects();
    value
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn introductions() -> Vec<Sample> {
    vec![
        control(
            "a session says hello",
            Kind::Hello,
            json!({"role": "session", "program": "bungee 0.1.0", "developer": "ann@laptop", "capabilities": ["deflate"]}),
        ),
        control(
            "a host with a key comes back",
            Kind::Hello,
            json!({"role": "host", "name": "orders-1", "program": "bungee-node 0.1.0", "resume": "k-1", "capabilities": [], "seal": "0a1b2c3d"}),
        ),
        control(
            "welcome",
            Kind::Welcome,
            json!({"session": "ses_1", "peer": 7, "key": "k-1", "resumed": false, "claims": [], "lease_ms": 5000, "heartbeat_ms": 1000, "offer_ms": 500,
                   "server": "bungee 0.1.0", "project": "default", "capabilities": ["deflate"], "is_wide": false}),
        ),
        control("alive?", Kind::Heartbeat, json!({"n": 41})),
        control("alive", Kind::Alive, json!({"n": 41})),
        control(
            "goodbye",
            Kind::Goodbye,
            json!({"why": "the program ended"}),
        ),
        control(
            "gone",
            Kind::Gone,
            json!({"peer": 7, "why": "the connection closed"}),
        ),
        control(
            "fatal",
            Kind::Fatal,
            json!({"type": "BadFrame", "message": "no frame is of the kind 99", "hint": "use the same version on both ends"}),
        ),
    ]
}

fn claims() -> Vec<Sample> {
    let claim = json!({"claim": 3, "peer": 7, "session": "ses_1", "developer": "ann@laptop", "rule": "header:x-dev=ann", "mode": "take",
                       "concurrency": null, "hold_deadline": false, "capabilities": ["deflate"]});
    vec![
        control(
            "a claim",
            Kind::Claim,
            json!({"ref": 1, "function": "shop/hello", "rule": "header:x-dev=ann", "mode": "take", "take_over": false,
                   "concurrency": null, "hold_deadline": false, "all": false}),
        ),
        control(
            "claimed",
            Kind::Claimed,
            json!({"ref": 1, "claim": 3, "deployed": true}),
        ),
        control(
            "refused",
            Kind::Refused,
            json!({"ref": 1, "type": "ClaimHeld", "message": "shop/hello is claimed by bob@pc", "hint": "--take-over takes it",
                   "holder": {"developer": "bob@pc", "since_ms": 90_000, "rule": "all", "claim": 2}}),
        ),
        control("release one", Kind::Release, json!({"claim": 3})),
        control("release all", Kind::Release, json!({})),
        control(
            "taken",
            Kind::Taken,
            json!({"claim": 3, "by": "bob@pc", "why": "taken over"}),
        ),
        control(
            "a host serves two functions",
            Kind::Serve,
            json!({"functions": ["shop/hello", "shop/orders"]}),
        ),
        control(
            "presence",
            Kind::Presence,
            json!({"function": "shop/hello", "claims": [claim]}),
        ),
        control(
            "nobody",
            Kind::Presence,
            json!({"function": "shop/hello", "claims": []}),
        ),
    ]
}

fn attempts() -> Vec<Sample> {
    vec![
        of_attempt(
            "an offer",
            Kind::Offer,
            0,
            json!({"claim": 3, "function": "shop/hello", "version": "v2", "trigger": "http", "kind": "web", "rule": "header:x-dev=ann",
                   "size": 11, "deadline_ms": 30_000, "hold": false, "observe": false, "ordinal": 5, "who": "203.0.113.9",
                   "method": "POST", "path": "/v2/orders", "capabilities": ["deflate"]}),
        ),
        of_attempt("accepted", Kind::Accept, 0, json!({})).head(|head| head.ack = 1),
        of_attempt("declined", Kind::Decline, 0, json!({"why": "busy"})).head(|head| head.ack = 1),
        of_attempt("too late", Kind::Withdrawn, UNNUMBERED, json!({"why": "no answer within 500 ms"})),
        of_attempt(
            "go",
            Kind::Go,
            1,
            json!({"method": "POST", "uri": "/v2/orders?full=1", "headers": [["content-type", "text/plain"], ["x-name", "J\u{e9}"]],
                   "deadline_ms": 29_990, "hold": false, "body": true}),
        )
        .head(|head| head.ack = 1),
        of_attempt("the answer's head", Kind::Answer, 1, json!({"status": 200, "headers": [["content-type", "text/plain"]]}))
            .head(|head| head.ack = 3),
        of_attempt(
            "it failed",
            Kind::Fault,
            1,
            json!({"type": "HandlerError", "message": "TypeError: no such order",
                   "fault": {"errorType": "TypeError", "message": "no such order", "stack": "TypeError: no such order\n    at handler (app.js:3:9)"}}),
        ),
        of_attempt("cancelled", Kind::Cancel, UNNUMBERED, json!({"why": "the caller left"})),
        of_attempt("lines", Kind::Log, UNNUMBERED, json!({"lines": [{"ago_ms": 12, "level": "info", "text": "hello"}]})),
        of_attempt("acknowledged", Kind::Ack, UNNUMBERED, Value::Null)
            .bytes(b"")
            .head(|head| (head.ack, head.window) = (9, 4)),
        of_attempt("acknowledged, and all asked for that is not", Kind::Ack, UNNUMBERED, Value::Null)
            .bytes(b"")
            .head(|head| (head.ack, head.count) = (9, 2)),
        of_attempt("never heard of it", Kind::Unknown, UNNUMBERED, json!({})),
    ]
}

fn bodies() -> Vec<Sample> {
    let body = |name, index| of_attempt(name, Kind::Body, index, Value::Null);
    vec![
        body("a whole body", 2)
            .bytes(b"hello world")
            .head(|head| head.flags = Flags(Flags::LAST)),
        body("the first of two frames of a message", 2)
            .bytes(&[0, 1, 2, 3])
            .head(|head| (head.flags, head.count) = (Flags(Flags::LAST), 2)),
        body("the second of two frames of a message", 3)
            .bytes(&[0xff; 4])
            .head(|head| head.flags = Flags(Flags::LAST)),
        body("the empty end of a body", 4)
            .bytes(b"")
            .head(|head| head.flags = Flags(Flags::LAST)),
        body("compressed and sealed bytes", 2)
            .bytes(&[0x5a; 20])
            .head(|head| head.flags = Flags(Flags::SEALED | Flags::DEFLATED)),
        body("numbers of every width", 0xfffe_fdfc)
            .bytes(b"")
            .head(|head| {
                head.of.attempt = 0xabcd;
                (head.count, head.ack) = (0x0102_0304, 0x0506_0708);
                (head.window, head.peer) = (0x090a, 0x0b0c_0d0e);
            }),
    ]
}

fn samples() -> Vec<Sample> {
    let all = [introductions(), claims(), attempts(), bodies()];
    all.into_iter().flatten().collect()
}

#[test]
fn every_kind_has_a_golden_frame_and_the_file_is_what_this_code_writes() {
    let samples = samples();
    for kind in Kind::ALL {
        let has_one = samples.iter().any(|sample| sample.head.kind == *kind);
        assert!(has_one, "add a {kind:?} to the samples");
    }
    let frames: Vec<Value> = samples.iter().map(Sample::as_json).collect();
    let document = sorted(json!({"version": VERSION, "frames": frames}));
    let text = format!("{document:#}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/live/frames.json");
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        let written = std::env::temp_dir().join("bungee-live-frames.json");
        fs::write(&written, text).unwrap();
        panic!(
            "spec/live/frames.json is not what this code writes; if the wire is meant to change: cp {} spec/live/frames.json",
            written.display()
        );
    }
}

#[test]
fn a_golden_frame_is_read_back_as_it_was() {
    for sample in samples() {
        let frame = sample.frame();
        assert_eq!(Frame::decode(frame.encode()), Ok(frame), "{}", sample.name);
    }
}

#[test]
fn bytes_that_are_no_frame_are_told_apart() {
    let good = Frame::control(Kind::Heartbeat, Bytes::from_static(b"{}")).encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Frame::decode(bytes.into())
    };
    assert_eq!(Frame::decode(good.slice(..43)), Err(Bad::Short(43)));
    assert_eq!(with(0, 2), Err(Bad::Version(2)));
    assert_eq!(with(1, 99), Err(Bad::Kind(99)));
    assert!(matches!(with(2, 8), Err(Bad::Head(_))));
    assert!(matches!(with(3, 1), Err(Bad::Head(_))));
    assert!(matches!(with(15, 0), Err(Bad::Head(_))), "a count of 0");
    assert_eq!(with(good.len() - 1, 0), Err(Bad::Cut));
    assert!(matches!(with(39, 1), Err(Bad::Head(_))), "an invocation");
    let mut long = good.to_vec();
    long.resize(HEADER + PAYLOAD_MAX + 1, 0);
    assert_eq!(Frame::decode(long.into()), Err(Bad::Long(PAYLOAD_MAX + 1)));
}
