//! A relay that is killed, and ends that send it what is no frame.

use std::{thread, time::Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

use crate::{
    process::until,
    serving::House,
    socket::{Ending, Socket},
    wrapper::Wrapper,
};

/// After its return everybody is back within this many milliseconds.
const BACK_MS: u128 = 5000;

/// An invocation waits for no session longer than this many milliseconds, and a moment for the test.
const OFFER_MS: u128 = 500 + 250;

/// Kinds of frames.
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const HEARTBEAT: u8 = 7;
const FATAL: u8 = 14;

/// Bytes of a frame before its payload.
const HEAD: usize = 44;

/// A frame between an end and its channel, as the page on the protocol describes it.
fn frame(kind: u8, payload: &Value) -> Vec<u8> {
    let payload = payload.to_string();
    let mut frame = vec![0; HEAD];
    (frame[0], frame[1]) = (1, kind);
    frame[8..12].fill(0xff);
    frame[15] = 1;
    frame[40..].copy_from_slice(&crc32fast::hash(payload.as_bytes()).to_be_bytes());
    frame.extend_from_slice(payload.as_bytes());
    frame
}

fn channel(relay: &House) -> String {
    format!("ws://{}", relay.address)
}

/// A session that was welcomed.
fn session(relay: &House) -> Socket {
    let asked = [("sec-websocket-protocol", "bungee.live.1")];
    let mut socket = Socket::ask(relay, "/v1/live", &asked).expect("an open relay");
    socket.say(frame(
        HELLO,
        &json!({ "role": "session", "program": "test", "capabilities": [] }),
    ));
    assert_eq!(socket.hear().into_data()[1], WELCOME);
    socket
}

/// The last word to an end, and how its connection closes.
fn last_word(mut socket: Socket) -> (Value, Ending) {
    loop {
        let frame = socket.hear().into_data();
        if frame[1] == FATAL {
            return (
                serde_json::from_slice(&frame[HEAD..]).expect("JSON"),
                socket.end(),
            );
        }
    }
}

#[test]
fn a_relay_says_why_it_drops_an_end_and_the_others_go_on() {
    let relay = House::relay().start();
    let wrapper = Wrapper::install();
    let deployed = wrapper.deployed(&channel(&relay), &[]);
    let laptop = wrapper.laptop(&channel(&relay), &[]);
    deployed.until_from("laptop");

    let heartbeat = frame(HEARTBEAT, &json!({ "n": 1 }));
    let mut version = heartbeat.clone();
    version[0] = 9;
    let mut unknown = heartbeat.clone();
    unknown[1] = 31;
    let mut broken = heartbeat.clone();
    broken[40] ^= 1;
    let binary = |bytes: Vec<u8>| Message::Binary(bytes.into());
    for (said, words, code) in [
        (binary(b"garbage".to_vec()), "shorter than its head", 1002),
        (binary(version), "a frame of version 9", 1002),
        (binary(unknown), "of the kind 31", 1002),
        (binary(vec![1; 300 << 10]), "the limit is", 1009),
        (Message::text("hello"), "a text message", 1002),
    ] {
        let mut socket = session(&relay);
        socket.say(said);
        let (fatal, ending) = last_word(socket);
        let message = fatal["message"].as_str().unwrap();
        assert!(message.contains(words), "{fatal}");
        assert!(
            matches!(ending, Ending::Closed(closed, _) if closed == code),
            "{ending:?}"
        );
        assert_eq!(deployed.from(), "laptop");
    }
    let mut socket = session(&relay);
    // A binary message of 4 GiB, of which only the announcement comes.
    socket.push(&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]);
    let (fatal, ending) = last_word(socket);
    assert!(
        fatal["message"]
            .as_str()
            .unwrap()
            .contains("4294967296 bytes"),
        "{fatal}"
    );
    assert!(matches!(ending, Ending::Closed(1009, _)), "{ending:?}");
    assert_eq!(deployed.from(), "laptop");
    assert_eq!(laptop.times("cannot be reached"), 0, "{}", laptop.said());
    assert!(relay.memory_mib() < 200);
}

#[test]
fn a_killed_relay_costs_only_what_ran_on_the_laptop() {
    let mut relay = House::relay().start();
    let wrapper = Wrapper::install();
    let deployed = wrapper.deployed(&channel(&relay), &[]);
    let laptop = wrapper.laptop(&channel(&relay), &[]);
    deployed.until_from("laptop");

    thread::scope(|scope| {
        let in_flight = scope.spawn(|| deployed.call(&json!({ "n": 0, "wait": 60_000 })));
        until("the laptop runs it", || wrapper.ran().contains(&0));
        relay.kill9();
        let killed = Instant::now();
        // The first may still be offered on a connection that nobody has seen close.
        until("the deployed code runs", || deployed.from() == "deployed");
        let took = killed.elapsed().as_millis();
        assert!(took < OFFER_MS, "it took {took} ms");
        assert_eq!(deployed.from(), "deployed");
        laptop.hears("cannot be reached");
        relay.restart();
        let returned = Instant::now();
        deployed.until_from("laptop");
        let away = returned.elapsed().as_millis();
        assert!(away < BACK_MS, "it took {away} ms");
        in_flight.join().unwrap().fails(502, "LiveSessionLost");
    });
    wrapper.ran_nothing_twice();
}

#[test]
fn a_second_signal_ends_a_relay_at_once() {
    let mut relay = House::relay().start();
    // One that does not answer the close is waited for, for a moment.
    let _silent = session(&relay);
    relay.signal(Signal::TERM);
    until("it says goodbye", || relay.said().contains("stopping"));
    relay.signal(Signal::TERM);
    assert_eq!(relay.ended().code(), Some(1));
    relay.restart();
    let _silent = session(&relay);
    relay.signal(Signal::TERM);
    assert_eq!(relay.ended().code(), Some(0));
}
