//! Ends of the live channel that do what none may: garbage, other versions, somebody else's invocations, answers without sense.
//! Whoever does so loses, and nobody else does.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::scope,
};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::{
    laptop::{Gate, Laptop},
    serving::House,
    socket::{Ending, Socket},
};

const DEPLOYED: &str = "export default () => new Response('deployed')";
const PROTOCOL: &[(&str, &str)] = &[("sec-websocket-protocol", "bungee.live.1")];
const UNNUMBERED: u32 = u32::MAX;

/// Kinds of frames, as docs/live-protocol.md numbers them.
mod kind {
    pub const HELLO: u8 = 1;
    pub const CLAIM: u8 = 3;
    pub const CLAIMED: u8 = 4;
    pub const HEARTBEAT: u8 = 7;
    pub const FATAL: u8 = 14;
    pub const OFFER: u8 = 32;
    pub const ACCEPT: u8 = 33;
    pub const DECLINE: u8 = 34;
    pub const GO: u8 = 35;
    pub const BODY: u8 = 36;
    pub const ANSWER: u8 = 37;
    pub const FAULT: u8 = 38;
    pub const WITHDRAWN: u8 = 39;
    pub const CANCEL: u8 = 40;
    pub const UNKNOWN: u8 = 43;
}

/// What a frame says besides its payload.
#[derive(Debug, Clone, Copy)]
struct Head {
    kind: u8,
    index: u32,
    peer: u32,
    attempt: u16,
    id: [u8; 16],
}

impl Head {
    /// A word between an end and the channel.
    fn control(kind: u8) -> Head {
        Head {
            kind,
            index: UNNUMBERED,
            peer: 0,
            attempt: 0,
            id: [0; 16],
        }
    }

    fn frame(self, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![1, self.kind, 0, 0];
        frame.extend(self.attempt.to_be_bytes());
        frame.extend(8_u16.to_be_bytes());
        for number in [self.index, 1, 0, self.peer] {
            frame.extend(number.to_be_bytes());
        }
        frame.extend(self.id);
        frame.extend(crc32(payload).to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn read(frame: &[u8]) -> (Head, Value) {
        let number = |at: usize| {
            let bytes = frame[at..at + 4].try_into().expect("four bytes");
            u32::from_be_bytes(bytes)
        };
        let head = Head {
            kind: frame[1],
            index: number(8),
            peer: number(20),
            attempt: u16::from_be_bytes([frame[4], frame[5]]),
            id: frame[24..40].try_into().expect("sixteen bytes"),
        };
        let payload = serde_json::from_slice(&frame[44..]).unwrap_or(Value::Null);
        (head, payload)
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: u32| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}

/// A session that says what the test likes.
struct Stranger(Socket);

impl Stranger {
    fn knock(house: &House) -> Stranger {
        let asked = Socket::ask(house, "/v1/live", PROTOCOL);
        Stranger(asked.expect("an open server lets everybody in"))
    }

    fn join(house: &House) -> Stranger {
        let mut stranger = Stranger::knock(house);
        let hello = json!({"role": "session", "program": "stranger", "developer": "mallory"});
        stranger.say(Head::control(kind::HELLO), &hello);
        stranger
    }

    /// One that claims `default/g`, and is offered its invocations.
    fn with_g(house: &House) -> Stranger {
        let mut stranger = Stranger::join(house);
        stranger.claim();
        // The server hears of a claim a moment after it is granted; until it has, the deployed code runs.
        let is_offered = AtomicBool::new(false);
        scope(|scope| {
            scope.spawn(|| {
                // Not for ever: what waits for the offer may have given up.
                let is_offered = || is_offered.load(Ordering::Relaxed);
                (0..1000).take_while(|_| !is_offered()).for_each(|_| {
                    house.get("/functions/g").ok();
                });
            });
            let (offer, _) = stranger.hear(kind::OFFER);
            is_offered.store(true, Ordering::Relaxed);
            let decline = Head {
                kind: kind::DECLINE,
                ..offer
            };
            stranger.say(decline, &json!({"why": "only to know"}));
        });
        stranger
    }

    fn claim(&mut self) {
        let claim = json!({"ref": 1, "function": "default/g", "rule": "all", "mode": "take",
            "take_over": false, "concurrency": null, "hold_deadline": false, "all": true});
        self.say(Head::control(kind::CLAIM), &claim);
        self.hear(kind::CLAIMED);
    }

    fn say(&mut self, head: Head, payload: &Value) {
        self.0.say(head.frame(payload.to_string().as_bytes()));
    }

    /// The next frame of this kind.
    #[track_caller]
    fn hear(&mut self, kind: u8) -> (Head, Value) {
        // A busy machine may have taken longer so far than a lease is long.
        self.say(Head::control(kind::HEARTBEAT), &json!({"n": 1}));
        loop {
            let message = self.0.hear();
            assert!(message.is_binary(), "no frame: {message:?}");
            let (head, payload) = Head::read(&message.into_data());
            if head.kind == kind {
                return (head, payload);
            }
            assert_ne!(head.kind, kind::FATAL, "{payload}");
        }
    }

    /// Accepts what is offered next, and waits for the request.
    fn accept(&mut self) -> Head {
        let (offer, _) = self.hear(kind::OFFER);
        let accept = Head {
            kind: kind::ACCEPT,
            ..offer
        };
        self.say(accept, &json!({}));
        self.hear(kind::GO).0
    }
}

/// A server, and a laptop that holds its function and answers when the gate is open.
fn pair() -> (House, Laptop, Gate) {
    let house = House::serve()
        .function("f", |f| f.web(DEPLOYED))
        .function("g", |f| f.web(DEPLOYED))
        .start();
    let bag = house.laptop();
    let gate = Gate::at(bag.home());
    let laptop = bag
        .function("f", |f| f.bun().web(gate.handler("laptop")))
        .attach();
    (house, laptop, gate)
}

#[test]
fn garbage_ends_the_connection_it_came_on_and_no_other() {
    let (house, _laptop, _gate) = pair();
    let hello = Head::control(kind::HELLO);
    let mut of_tomorrow = hello.frame(b"{}");
    of_tomorrow[0] = 2;
    let mut of_no_kind = hello.frame(b"{}");
    of_no_kind[1] = 31;
    let early = Head {
        kind: kind::ANSWER,
        index: 0,
        ..hello
    };
    let garbage: [Message; 7] = [
        vec![0xAA; 100].into(),
        Vec::new().into(),
        "hello".into(),
        of_tomorrow.into(),
        of_no_kind.into(),
        hello.frame(b"{\"role\":").into(),
        early.frame(b"{}").into(),
    ];
    for message in garbage {
        let mut stranger = Stranger::knock(&house);
        stranger.0.say(message.clone());
        let (head, said) = Head::read(&stranger.0.hear().into_data());
        assert_eq!(head.kind, kind::FATAL, "{message:?}");
        let words = said["message"].as_str().expect("words");
        assert!(words.len() > 10, "{message:?}: {said}");
        let ending = stranger.0.end();
        assert!(
            matches!(ending, Ending::Closed(1002 | 1003 | 1009, _)),
            "{message:?}: {ending:?}"
        );
    }
    assert_eq!(house.get("/functions/f").ok(), "laptop");
}

#[test]
fn a_frame_that_is_announced_with_4_gib_ends_its_connection() {
    let (house, _laptop, _gate) = pair();
    let before = house.memory_mib();
    for announced in [1_u64 << 32, 300 << 10] {
        let mut wire = house
            .ask("GET", "/v1/live")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "bungee.live.1")
            .open();
        wire.hear("\r\n\r\n");
        let mut begin = vec![0x82, 0xFF];
        begin.extend(announced.to_be_bytes());
        begin.extend([0; 4 + 1000]);
        wire.send(begin);
        wire.hear_the_end();
    }
    assert!(house.memory_mib() < before + 64);
    assert_eq!(house.get("/functions/f").ok(), "laptop");
}

#[test]
fn who_answers_for_somebody_else_s_invocation_is_not_heard() {
    let (house, _laptop, gate) = pair();
    let mut waiting = house.ask("GET", "/functions/f/wait").open();
    gate.sees("began", 1);
    let note = gate.notes().remove(0);
    let id = note.trim_start_matches("began ").replace('-', "");
    let id = u128::from_str_radix(&id, 16).expect("an id").to_be_bytes();
    let mut stranger = Stranger::join(&house);
    let says = [
        (kind::ANSWER, json!({"status": 200, "headers": []})),
        (kind::BODY, json!({})),
        (
            kind::FAULT,
            json!({"type": "HandlerError", "message": "mine"}),
        ),
        (kind::UNKNOWN, json!({})),
        (kind::WITHDRAWN, json!({"why": "mine"})),
        (kind::CANCEL, json!({"why": "mine"})),
    ];
    for (kind, payload) in says {
        for peer in 1..6 {
            for attempt in 1..3 {
                let index = if kind < kind::WITHDRAWN {
                    1
                } else {
                    UNNUMBERED
                };
                let head = Head {
                    kind,
                    index,
                    peer,
                    attempt,
                    id,
                };
                stranger.say(head, &payload);
            }
        }
    }
    // The channel works in order: what it answers now comes after all of that.
    stranger.claim();
    gate.open();
    assert_eq!(waiting.answer().ok(), "laptop");
    assert_eq!(gate.count("left"), 0);
}

#[test]
fn answers_without_sense_fail_their_invocation_and_no_other() {
    let (house, _laptop, _gate) = pair();
    let mut stranger = Stranger::with_g(&house);
    let senseless = [
        json!("no head at all"),
        json!({"status": 9999, "headers": []}),
        json!({"status": 7, "headers": []}),
        json!({"status": 150, "headers": []}),
        json!({"status": 101, "headers": []}),
    ];
    for answer in senseless {
        let mut wire = house.ask("GET", "/functions/g").open();
        let go = stranger.accept();
        let head = Head {
            kind: kind::ANSWER,
            index: 1,
            ..go
        };
        stranger.say(head, &answer);
        let got = wire.answer();
        assert_eq!(got.failure(), (502, "LiveSessionLost".into()), "{answer}");
    }
    assert_eq!(house.get("/functions/f").ok(), "laptop");
    drop(stranger);
}

#[test]
fn headers_of_an_answer_cannot_break_the_connection_s_own() {
    let (house, _laptop, _gate) = pair();
    let mut stranger = Stranger::with_g(&house);
    let mut wire = house.ask("GET", "/functions/g").open();
    let go = stranger.accept();
    let headers = json!([
        ["transfer-encoding", "chunked"],
        ["content-length", "5"],
        ["connection", "upgrade"],
        ["x-ok", "yes"],
        ["x-bad\r\nx-more", "1"],
        ["x-line", "a\r\nx-more: 1"],
    ]);
    let head = |kind, index| Head { kind, index, ..go };
    stranger.say(
        head(kind::ANSWER, 1),
        &json!({"status": 200, "headers": headers}),
    );
    let mut last = head(kind::BODY, 2).frame(b"hello");
    last[2] = 4;
    stranger.0.say(last);
    let answer = wire.answer();
    assert_eq!(answer.ok(), "hello");
    assert_eq!(
        (answer.header("x-ok"), answer.header("x-more")),
        (Some("yes"), None)
    );
}
