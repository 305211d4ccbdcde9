//! Sealed frames: the samples in `spec/live/sealing.json`, which other ends are tested against, and everything that must not open.

use std::{fs, path::Path};

use model::InvocationId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const SESSION: &str = "ses_01hzy3";

fn key() -> SealKey {
    SealKey::new(std::array::from_fn(|at| at as u8))
}

fn head(kind: Kind, index: u32) -> Head {
    Head {
        kind,
        flags: Flags::default(),
        of: Part {
            id: InvocationId(Uuid::from_u128(0x018b_cfe5_6800_78b9_96e8_f918_ea18_0028)),
            attempt: 3,
        },
        index,
        count: 1,
        ack: 7,
        window: 16,
        peer: 5,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One sealed payload with all that makes it, as another end can make it again.
fn sample(direction: Direction, mut head: Head, payload: &[u8]) -> Value {
    let nonce = [0xa5; NONCE_LEN];
    let sealer = Sealer::new(&key(), SESSION);
    let sealed = sealer
        .seal_with(nonce, direction, &mut head, payload)
        .unwrap();
    json!({
        "seal_key": hex(key().bytes()),
        "seal_key_name": key().name(),
        "session": SESSION,
        "direction": match direction {
            Direction::ToSession => "h2s",
            Direction::ToHost => "s2h",
        },
        "invocation": head.of.id,
        "attempt": head.of.attempt,
        "kind": head.kind as u8,
        "flags": head.flags.0,
        "index": head.index,
        "count": head.count,
        "associated_data": hex(&head.sealed_part()),
        "nonce": hex(&nonce),
        "payload": hex(payload),
        "sealed": hex(&sealed),
    })
}

#[test]
fn the_samples_are_what_this_code_seals() {
    let mut last = head(Kind::Body, 2);
    last.flags = Flags::default().with(Flags::DEFLATED).with(Flags::LAST);
    last.count = 9;
    let samples = json!([
        sample(
            Direction::ToSession,
            head(Kind::Offer, 0),
            br#"{"claim":1}"#
        ),
        sample(Direction::ToSession, last, b"bytes of a body"),
        sample(Direction::ToHost, head(Kind::Accept, 0), b"{}"),
        sample(
            Direction::ToHost,
            head(Kind::Log, UNNUMBERED),
            br#"{"lines":[]}"#
        ),
        sample(Direction::ToHost, head(Kind::Body, 4), b""),
    ]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/live/sealing.json");
    let kept = fs::read(&path).ok();
    let kept: Option<Value> = kept.and_then(|text| serde_json::from_slice(&text).ok());
    if kept.as_ref() != Some(&samples) {
        let written = std::env::temp_dir().join("bungee-live-sealing.json");
        fs::write(&written, format!("{samples:#}\n")).unwrap();
        panic!(
            "spec/live/sealing.json is not what this code seals; if the wire is meant to change: cp {} spec/live/sealing.json",
            written.display()
        );
    }
}

#[test]
fn what_is_sealed_opens_at_the_other_end_only() {
    let ours = Sealer::new(&key(), SESSION);
    let mut head = head(Kind::Go, 1);
    let sealed = ours.seal(Direction::ToSession, &mut head, b"go").unwrap();
    assert!(head.flags.has(Flags::SEALED));
    assert_eq!(sealed.len(), 2 + SEAL_OVERHEAD);
    let theirs = Sealer::new(&key(), SESSION);
    let open = |sealer: &Sealer, direction, head: &Head| sealer.open(direction, head, &sealed);
    assert_eq!(
        open(&theirs, Direction::ToSession, &head).unwrap(),
        &b"go"[..]
    );
    let broken = Err(Unsealed::Broken);
    assert_eq!(open(&theirs, Direction::ToHost, &head), broken);
    for other in [
        Sealer::new(&key(), "ses_another"),
        Sealer::new(&SealKey::new([9; 32]), SESSION),
    ] {
        assert_eq!(open(&other, Direction::ToSession, &head), broken);
    }
}

#[test]
fn the_same_payload_is_never_sealed_alike() {
    let sealer = Sealer::new(&key(), SESSION);
    let seal = || sealer.seal(Direction::ToHost, &mut head(Kind::Body, 4), b"x");
    assert_ne!(seal().unwrap(), seal().unwrap());
}

#[test]
fn not_one_bit_may_change() {
    let sealer = Sealer::new(&key(), SESSION);
    let mut sent = head(Kind::Body, 4);
    let sealed = sealer
        .seal(Direction::ToHost, &mut sent, b"payload")
        .unwrap();
    let open = |head: &Head, bytes: &[u8]| sealer.open(Direction::ToHost, head, bytes);
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&sent, &changed), Err(Unsealed::Broken), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert_eq!(open(&sent, &sealed[..length]), Err(Unsealed::Broken));
    }
    for head in heads_with_one_bit_changed(&sent) {
        assert!(open(&head, &sealed).is_err(), "{head:?}");
    }
    let moved = Head {
        ack: 99,
        window: 1,
        peer: 8,
        ..sent
    };
    assert_eq!(open(&moved, &sealed).unwrap(), &b"payload"[..]);
}

/// Every head that differs in one bit of what is protected and that a frame could have.
fn heads_with_one_bit_changed(head: &Head) -> Vec<Head> {
    let mut all: Vec<Head> = (0..32)
        .flat_map(|bit| {
            let (mut index, mut count) = (*head, *head);
            index.index ^= 1 << bit;
            count.count ^= 1 << bit;
            [index, count]
        })
        .collect();
    all.extend((0..128).map(|bit| {
        let mut changed = *head;
        changed.of.id = InvocationId(Uuid::from_u128(head.of.id.0.as_u128() ^ (1 << bit)));
        changed
    }));
    all.extend((0..16).map(|bit| {
        let mut changed = *head;
        changed.of.attempt ^= 1 << bit;
        changed
    }));
    all.extend((0..8).map(|bit| Head {
        flags: Flags(head.flags.0 ^ (1 << bit)),
        ..*head
    }));
    let others = Kind::ALL.iter().filter(|kind| **kind != head.kind);
    all.extend(others.map(|kind| Head {
        kind: *kind,
        ..*head
    }));
    all
}

#[test]
fn what_came_in_the_clear_is_not_taken() {
    let sealer = Sealer::new(&key(), SESSION);
    let plain = sealer.open(Direction::ToHost, &head(Kind::Answer, 0), b"{}");
    assert_eq!(plain, Err(Unsealed::Plain));
}

#[test]
fn the_largest_payload_fits_a_frame_and_one_byte_more_is_refused() {
    let sealer = Sealer::new(&key(), SESSION);
    let seal = |length: usize| {
        let payload = vec![0; length];
        sealer.seal(Direction::ToHost, &mut head(Kind::Body, 0), &payload)
    };
    assert_eq!(seal(SEALABLE_MAX).unwrap().len(), PAYLOAD_MAX);
    assert_eq!(
        seal(SEALABLE_MAX + 1),
        Err(Unsealed::Long(SEALABLE_MAX + 1))
    );
}

#[test]
fn frames_of_attempts_are_sealed_and_bare_numbers_are_not() {
    for (kind, index, covered) in [
        (Kind::Offer, 0, true),
        (Kind::Body, 8, true),
        (Kind::Log, UNNUMBERED, true),
        (Kind::Ack, UNNUMBERED, false),
        (Kind::Unknown, UNNUMBERED, false),
        (Kind::Claim, UNNUMBERED, false),
    ] {
        assert_eq!(Sealer::covers(&head(kind, index)), covered, "{kind:?}");
    }
}
