//! The end that has invocations: offers them to sessions, and learns how they went. Reads no clock and does no IO:
//! times come in milliseconds of one clock, frames go out through [`Host::flush`].
//!
//! offered → accepted → running → answered → ended; offered or accepted → withdrawn; running or answered → lost.
//! Saying *go* is the commit point: before it the deployed code may run, after it nothing else may.
//! A withdrawal or cancellation is said again until the session says that it knows nothing of the attempt any more.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{ErrorType, Failure};

use crate::{
    attempt::{Answer, Elsewhere, Fault, Go, Offer, Why, from_json, to_json},
    flow::{Flow, Message},
    frame::{Flags, Frame, Head, Kind, Part},
};

/// Without an acceptance after so many milliseconds an offer is withdrawn.
pub const OFFER_WAIT: u64 = 500;

/// A withdrawal is said again after so many milliseconds, doubled each time …
const SAID_AGAIN: u64 = 500;

/// … up to this.
const SAID_AGAIN_MAX: u64 = 4000;

/// An attempt with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The session's number on the channel.
    pub peer: u32,
    /// The invocation and the try.
    pub of: Part,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The session would run it.
    Accepted,
    /// It will not run it, and nothing of it ran there: the deployed code may.
    Free(String),
    /// The head of its answer.
    Answer(Answer),
    /// Bytes of its answer; `true` with the last.
    Body(Bytes, bool),
    /// It failed there; the attempt is over.
    Failed(Failure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered {
        until: u64,
    },
    Accepted,
    Running,
    Answered,
    /// Over here, and the session may not know yet.
    Over {
        kind: Kind,
        again: u64,
        patience: u64,
    },
}

#[derive(Debug)]
struct Attempt {
    state: State,
    flow: Flow,
}

/// All attempts of one host.
#[derive(Debug, Default)]
pub struct Host {
    attempts: BTreeMap<Key, Attempt>,
    /// Offers made, by session.
    ordinals: BTreeMap<u32, u64>,
    out: Vec<Frame>,
    told: Vec<(Key, Told)>,
}

impl Host {
    /// Offers an invocation; its ordinal is filled in here. `packs`: to a session that reads what is compressed.
    pub fn offer(&mut self, now: u64, key: Key, mut offer: Offer, packs: bool) {
        let ordinal = self.ordinals.entry(key.peer).or_default();
        *ordinal += 1;
        offer.ordinal = *ordinal;
        let mut flow = Flow::new(key.of, key.peer).packing(packs);
        let none = Flags::default();
        flow.say(now, Kind::Offer, none, to_json(&offer), &mut self.out);
        let state = State::Offered {
            until: now + OFFER_WAIT,
        };
        self.attempts.insert(key, Attempt { state, flow });
    }

    /// Commits: from here on the attempt runs in that session, or fails. `false`: the session is not there any more.
    #[must_use]
    pub fn go(&mut self, now: u64, key: Key, go: &Go) -> bool {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return false;
        };
        if attempt.state != State::Accepted {
            return false;
        }
        attempt.state = State::Running;
        let (none, flow) = (Flags::default(), &mut attempt.flow);
        flow.say(now, Kind::Go, none, to_json(go), &mut self.out);
        true
    }

    /// Bytes of the request.
    pub fn body(&mut self, now: u64, key: Key, bytes: Bytes, is_last: bool) {
        if let Some(attempt) = self.attempts.get_mut(&key) {
            let flags = last(is_last);
            let flow = &mut attempt.flow;
            flow.say(now, Kind::Body, flags, bytes, &mut self.out);
        }
    }

    /// Whether more of the request's body may be given now; of an attempt that is over all may, and goes nowhere.
    pub fn has_room(&self, key: Key) -> bool {
        self.attempts
            .get(&key)
            .is_none_or(|attempt| attempt.flow.has_room())
    }

    /// Whoever reads the answer has taken a message.
    pub fn taken(&mut self, key: Key) {
        if let Some(attempt) = self.attempts.get_mut(&key) {
            attempt.flow.taken(&mut self.out);
        }
    }

    /// The caller left, or waits no longer: what runs is to stop, and nothing more is told of it.
    pub fn cancel(&mut self, now: u64, key: Key, why: &str) {
        self.over(now, key, why);
    }

    /// A frame of a session.
    pub fn hear(&mut self, now: u64, frame: Frame) {
        let Head { kind, of, peer, .. } = frame.head;
        let key = Key { peer, of };
        let Some(attempt) = self.attempts.get_mut(&key) else {
            // It is over, and the other end has not heard so.
            if !matches!(kind, Kind::Unknown | Kind::Log | Kind::Ack) {
                self.unnumbered(key, Kind::Withdrawn, "it is over");
            }
            return;
        };
        match (attempt.state, kind) {
            (State::Over { .. }, Kind::Unknown) => drop(self.attempts.remove(&key)),
            (State::Over { kind, .. }, Kind::Accept | Kind::Answer | Kind::Body | Kind::Fault) => {
                self.unnumbered(key, kind, "it is over");
            }
            (State::Over { .. }, _) => {}
            (_, Kind::Unknown) => self.lose(now, key, "the session does not know it"),
            (_, Kind::Log) => {}
            _ => match attempt.flow.hear(now, frame, &mut self.out) {
                Ok(messages) => {
                    for message in messages {
                        self.told(now, key, message);
                    }
                }
                Err(broken) => self.lose(now, key, &broken.to_string()),
            },
        }
    }

    /// The session is not there any more.
    pub fn gone(&mut self, peer: u32, why: &str) {
        self.ordinals.remove(&peer);
        let keys = self.attempts.keys().filter(|key| key.peer == peer);
        for key in keys.copied().collect::<Vec<_>>() {
            self.lose(0, key, why);
            self.attempts.remove(&key);
        }
    }

    /// What time alone asks for; to be called every 25 ms or so while there are attempts.
    pub fn tick(&mut self, now: u64) {
        let (mut late, mut again) = (Vec::new(), Vec::new());
        for (key, attempt) in &mut self.attempts {
            match &mut attempt.state {
                State::Offered { until } if *until <= now => late.push(*key),
                State::Over {
                    kind,
                    again: at,
                    patience,
                } => {
                    if *at <= now {
                        *patience = (*patience * 2).min(SAID_AGAIN_MAX);
                        *at = now + *patience;
                        again.push((*key, *kind));
                    }
                }
                _ => attempt.flow.tick(now, &mut self.out),
            }
        }
        for (key, kind) in again {
            self.unnumbered(key, kind, "it is over");
        }
        for key in late {
            self.lose(now, key, &format!("no accept within {OFFER_WAIT} ms"));
        }
    }

    /// Whether there is nothing to look after.
    pub fn is_idle(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Bytes kept for all attempts.
    pub fn holds(&self) -> usize {
        self.attempts
            .values()
            .map(|attempt| attempt.flow.holds())
            .sum()
    }

    /// Frames that are to be sent, and what became of attempts, since the last call.
    pub fn flush(&mut self) -> (Vec<Frame>, Vec<(Key, Told)>) {
        (
            std::mem::take(&mut self.out),
            std::mem::take(&mut self.told),
        )
    }

    fn told(&mut self, now: u64, key: Key, message: Message) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        if !matches!(message.kind, Kind::Body) {
            attempt.flow.taken(&mut self.out);
        }
        let told = match (attempt.state, message.kind) {
            (State::Offered { .. }, Kind::Accept) => {
                attempt.state = State::Accepted;
                Ok(Told::Accepted)
            }
            (State::Offered { .. }, Kind::Decline) => Ok(Told::Free(why_of(&message))),
            (State::Running, Kind::Answer) => {
                attempt.state = State::Answered;
                from_json("the head of an answer", &message.body).map(Told::Answer)
            }
            (State::Answered, Kind::Body) => {
                Ok(Told::Body(message.body, message.flags.has(Flags::LAST)))
            }
            (State::Running | State::Answered, Kind::Fault) => {
                from_json("a failure", &message.body).map(|fault: Fault| Told::Failed(fault.into()))
            }
            (_, kind) => Err(format!("{kind:?} makes no sense now")),
        };
        match told {
            Ok(told) => {
                let is_over = matches!(told, Told::Free(_) | Told::Failed(_) | Told::Body(_, true));
                if is_over && let Some(mut attempt) = self.attempts.remove(&key) {
                    attempt.flow.acknowledge(&mut self.out);
                }
                self.told.push((key, told));
            }
            Err(wrong) => self.lose(
                now,
                key,
                &format!("the session broke the protocol: {wrong}"),
            ),
        }
    }

    /// Nothing more will come of an attempt.
    fn lose(&mut self, now: u64, key: Key, why: &str) {
        let state = self.over(now, key, why);
        self.told.extend(match state {
            Some(State::Offered { .. } | State::Accepted) => {
                Some((key, Told::Free(why.to_owned())))
            }
            Some(State::Running | State::Answered) => Some((key, Told::Failed(lost(why)))),
            Some(State::Over { .. }) | None => None,
        });
    }

    /// Ends an attempt here, and tells the session; gives the state that it was in.
    fn over(&mut self, now: u64, key: Key, why: &str) -> Option<State> {
        let attempt = self.attempts.get_mut(&key)?;
        let was = attempt.state;
        let kind = match was {
            State::Offered { .. } | State::Accepted => Kind::Withdrawn,
            State::Running | State::Answered => Kind::Cancel,
            State::Over { .. } => return Some(was),
        };
        attempt.flow = Flow::new(key.of, key.peer);
        attempt.state = State::Over {
            kind,
            again: now + SAID_AGAIN,
            patience: SAID_AGAIN,
        };
        self.unnumbered(key, kind, why);
        Some(was)
    }

    /// Tells a session that an invocation which it claims is not offered to it, as it could not read it.
    pub fn keep(&mut self, key: Key, why: &Elsewhere) {
        let body = to_json(why);
        let frame = Frame::unnumbered(Kind::Withdrawn, key.of, key.peer, body);
        self.out.push(frame);
    }

    fn unnumbered(&mut self, key: Key, kind: Kind, why: &str) {
        let why = Why {
            why: why.to_owned(),
        };
        let body = to_json(&why);
        self.out
            .push(Frame::unnumbered(kind, key.of, key.peer, body));
    }
}

/// The failure of an invocation whose developer is gone.
pub fn lost(why: &str) -> Failure {
    let message = format!("the developer's session was lost while it ran this invocation: {why}");
    Failure::new(ErrorType::LiveSessionLost, message)
        .hint("call again: the deployed code runs while nobody is attached")
}

pub(crate) fn last(is_last: bool) -> Flags {
    match is_last {
        true => Flags(Flags::LAST),
        false => Flags::default(),
    }
}

pub(crate) fn why_of(message: &Message) -> String {
    from_json("a reason", &message.body).map_or_else(|wrong| wrong, |why: Why| why.why)
}
