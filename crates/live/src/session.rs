//! The developer's end: hears offers, runs what it accepted once the host says *go*, and tells how it went.
//! Reads no clock and does no IO: times come in milliseconds of one clock, frames go out through [`Session::flush`].
//!
//! offered → accepted → running → finished; any of them → aborted. Nothing runs before *go*, and nothing twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::Failure;

use crate::{
    attempt::{Answer, Fault, Go, Lines, Offer, Why, from_json, to_json},
    cover::DEFLATE,
    flow::{Flow, Message},
    frame::{Flags, Frame, Head, Kind, UNNUMBERED},
    host::{Key, last, why_of},
};

/// Offers of one host that are remembered, so that none counts twice.
const SEEN: u64 = 4096;

/// What a host asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// It has this invocation: accept or decline it.
    Offered(Offer),
    /// Run it.
    Start(Go),
    /// Bytes of the request; `true` with the last.
    Body(Bytes, bool),
    /// Stop it, and say nothing more of it.
    Abort(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered,
    Accepted,
    Running,
    Answered,
    /// All is said, and not yet heard.
    Finished,
}

#[derive(Debug)]
struct Attempt {
    state: State,
    flow: Flow,
}

/// All attempts of one session.
#[derive(Debug, Default)]
pub struct Session {
    attempts: BTreeMap<Key, Attempt>,
    seen: BTreeMap<u32, Seen>,
    /// Messages are compressed, for hosts that read that.
    packs: bool,
    out: Vec<Frame>,
    asked: Vec<(Key, Asked)>,
}

impl Session {
    /// Messages are compressed from now on, for hosts that read that.
    pub fn pack(&mut self) {
        self.packs = true;
    }

    /// It would run it. `false`: it is over already.
    pub fn accept(&mut self, now: u64, key: Key) -> bool {
        self.say(
            now,
            key,
            State::Offered,
            State::Accepted,
            Kind::Accept,
            Bytes::from_static(b"{}"),
        )
    }

    /// It will not run it.
    pub fn decline(&mut self, now: u64, key: Key, why: &str) -> bool {
        let why = Why {
            why: why.to_owned(),
        };
        self.say(
            now,
            key,
            State::Offered,
            State::Finished,
            Kind::Decline,
            to_json(&why),
        )
    }

    /// The head of the answer. `false`: nobody waits for it any more.
    pub fn answer(&mut self, now: u64, key: Key, answer: &Answer) -> bool {
        self.say(
            now,
            key,
            State::Running,
            State::Answered,
            Kind::Answer,
            to_json(answer),
        )
    }

    /// Bytes of the answer.
    pub fn body(&mut self, now: u64, key: Key, bytes: Bytes, is_last: bool) -> bool {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return false;
        };
        if attempt.state != State::Answered {
            return false;
        }
        if is_last {
            attempt.state = State::Finished;
        }
        let flow = &mut attempt.flow;
        flow.say(now, Kind::Body, last(is_last), bytes, &mut self.out);
        true
    }

    /// It failed, before its answer or in the middle of it.
    pub fn fail(&mut self, now: u64, key: Key, failure: &Failure) -> bool {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return false;
        };
        if !matches!(attempt.state, State::Running | State::Answered) {
            return false;
        }
        attempt.state = State::Finished;
        let body = to_json(&Fault::from(failure));
        let flow = &mut attempt.flow;
        flow.say(now, Kind::Fault, Flags::default(), body, &mut self.out);
        true
    }

    /// Lines that an invocation wrote; they may be lost, and may come after its end.
    pub fn lines(&mut self, key: Key, lines: &Lines) {
        self.unnumbered(key, Kind::Log, to_json(lines));
    }

    /// Whether more of an answer's body may be given now.
    pub fn has_room(&self, key: Key) -> bool {
        self.attempts
            .get(&key)
            .is_none_or(|attempt| attempt.flow.has_room())
    }

    /// Whoever reads the request has taken a message.
    pub fn taken(&mut self, key: Key) {
        if let Some(attempt) = self.attempts.get_mut(&key) {
            attempt.flow.taken(&mut self.out);
        }
    }

    /// A frame of a host.
    pub fn hear(&mut self, now: u64, frame: Frame) {
        let Head {
            kind,
            of,
            peer,
            index,
            ..
        } = frame.head;
        let key = Key { peer, of };
        if !self.attempts.contains_key(&key) {
            if kind == Kind::Offer && index == 0 {
                self.begin(now, key, frame);
            } else if index != UNNUMBERED || ends(kind) {
                self.unknown(key);
            }
            return;
        }
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        if matches!(kind, Kind::Withdrawn | Kind::Cancel) {
            let why =
                from_json("a reason", &frame.body).map_or_else(|wrong| wrong, |why: Why| why.why);
            return self.abort(key, &why);
        }
        match attempt.flow.hear(now, frame, &mut self.out) {
            Ok(messages) => messages
                .into_iter()
                .for_each(|one| self.asked(now, key, one)),
            Err(broken) => self.break_off(key, &broken.to_string()),
        }
        self.settle(key);
    }

    /// The host is not there any more: nobody waits for what runs for it.
    pub fn gone(&mut self, peer: u32, why: &str) {
        self.seen.remove(&peer);
        let keys = self.attempts.keys().filter(|key| key.peer == peer);
        for key in keys.copied().collect::<Vec<_>>() {
            self.abort(key, why);
        }
    }

    /// The lease ran out, or the channel took this session for dead: all that runs has failed elsewhere already.
    pub fn lapse(&mut self, why: &str) {
        self.seen.clear();
        for key in self.attempts.keys().copied().collect::<Vec<_>>() {
            self.abort(key, why);
        }
    }

    /// The way to the channel is new: what may have been missed is sent again.
    pub fn resumed(&mut self, now: u64) {
        for attempt in self.attempts.values_mut() {
            attempt.flow.resume(now, &mut self.out);
        }
    }

    /// What time alone asks for; to be called every 25 ms or so while there are attempts.
    pub fn tick(&mut self, now: u64) {
        for attempt in self.attempts.values_mut() {
            attempt.flow.tick(now, &mut self.out);
        }
    }

    /// Whether there is nothing to look after.
    pub fn is_idle(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Invocations that run here.
    pub fn running(&self) -> usize {
        let runs = |attempt: &&Attempt| matches!(attempt.state, State::Running | State::Answered);
        self.attempts.values().filter(runs).count()
    }

    /// Answers that are said and not heard.
    pub fn unheard(&self) -> usize {
        let is_said = |attempt: &&Attempt| attempt.state == State::Finished;
        self.attempts.values().filter(is_said).count()
    }

    /// Bytes kept for all attempts.
    pub fn holds(&self) -> usize {
        let flows = self.attempts.values().map(|attempt| attempt.flow.holds());
        flows.sum()
    }

    /// Frames that are to be sent, and what hosts ask for, since the last call.
    pub fn flush(&mut self) -> (Vec<Frame>, Vec<(Key, Asked)>) {
        (
            std::mem::take(&mut self.out),
            std::mem::take(&mut self.asked),
        )
    }

    fn begin(&mut self, now: u64, key: Key, frame: Frame) {
        let mut flow = Flow::new(key.of, key.peer);
        let heard = flow.hear(now, frame, &mut self.out).unwrap_or_default();
        // It is one whole message, or none of a host that keeps the rules.
        let [message] = &heard[..] else {
            return self.unknown(key);
        };
        let Ok(offer): Result<Offer, _> = from_json("an offer", &message.body) else {
            return self.unknown(key);
        };
        // One that was offered before is over: what comes now was long on its way.
        if !self.seen.entry(key.peer).or_default().is_new(offer.ordinal) {
            return;
        }
        let packs = self.packs && offer.capabilities.iter().any(|named| named == DEFLATE);
        flow = flow.packing(packs);
        flow.taken(&mut self.out);
        let state = State::Offered;
        self.attempts.insert(key, Attempt { state, flow });
        self.asked.push((key, Asked::Offered(offer)));
    }

    fn asked(&mut self, now: u64, key: Key, message: Message) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        match (attempt.state, message.kind) {
            (State::Accepted, Kind::Go) => {
                attempt.flow.taken(&mut self.out);
                match from_json("a request", &message.body) {
                    Ok(go) => {
                        attempt.state = State::Running;
                        self.asked.push((key, Asked::Start(go)));
                    }
                    Err(wrong) => {
                        attempt.state = State::Running;
                        let failure = Failure::new(model::ErrorType::Internal, wrong);
                        self.fail(now, key, &failure);
                    }
                }
            }
            (State::Running | State::Answered, Kind::Body) => {
                let is_last = message.flags.has(Flags::LAST);
                self.asked.push((key, Asked::Body(message.body, is_last)));
            }
            // The answer is out; the rest of the request is nobody's.
            (State::Finished, _) => attempt.flow.taken(&mut self.out),
            (_, kind) => {
                let why = format!("{kind:?} makes no sense now: {}", why_of(&message));
                self.break_off(key, &why);
            }
        }
    }

    fn say(&mut self, now: u64, key: Key, from: State, to: State, kind: Kind, body: Bytes) -> bool {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return false;
        };
        if attempt.state != from {
            return false;
        }
        attempt.state = to;
        let flow = &mut attempt.flow;
        flow.say(now, kind, Flags::default(), body, &mut self.out);
        true
    }

    /// Forgets an attempt whose last word was heard.
    fn settle(&mut self, key: Key) {
        let is_over =
            |attempt: &Attempt| attempt.state == State::Finished && attempt.flow.is_settled();
        if self.attempts.get(&key).is_some_and(is_over) {
            self.attempts.remove(&key);
        }
    }

    fn abort(&mut self, key: Key, why: &str) {
        if let Some(attempt) = self.attempts.remove(&key)
            && attempt.state != State::Finished
        {
            self.asked.push((key, Asked::Abort(why.to_owned())));
        }
    }

    /// The host broke the protocol: it is told that nothing comes of this attempt.
    fn break_off(&mut self, key: Key, why: &str) {
        self.unknown(key);
        self.abort(key, why);
    }

    fn unnumbered(&mut self, key: Key, kind: Kind, body: Bytes) {
        self.out
            .push(Frame::unnumbered(kind, key.of, key.peer, body));
    }

    /// Tells a host that nothing is known here of an attempt, nor will run.
    fn unknown(&mut self, key: Key) {
        self.unnumbered(key, Kind::Unknown, Bytes::from_static(b"{}"));
    }
}

/// Whether a host says with it that an attempt is over.
fn ends(kind: Kind) -> bool {
    matches!(kind, Kind::Withdrawn | Kind::Cancel)
}

/// Which of a host's offers have come.
#[derive(Debug)]
struct Seen {
    highest: u64,
    /// Whether `highest - n` has come, at bit `(highest - n) % SEEN`.
    bits: Box<[u64]>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            highest: 0,
            bits: vec![0; (SEEN / 64) as usize].into(),
        }
    }
}

impl Seen {
    /// Whether this one has not come before; it has from now on. One that is too old to know has come.
    fn is_new(&mut self, ordinal: u64) -> bool {
        if ordinal == 0 || ordinal + SEEN <= self.highest {
            return false;
        }
        // Places between the last highest and this one belong to offers of long ago.
        let begin = self.highest.max(ordinal.saturating_sub(SEEN));
        for passed in begin + 1..=ordinal {
            self.set(passed, false);
        }
        self.highest = self.highest.max(ordinal);
        let (word, bit) = place(ordinal);
        let is_new = self.bits[word] & bit == 0;
        self.set(ordinal, true);
        is_new
    }

    fn set(&mut self, ordinal: u64, has_come: bool) {
        let (word, bit) = place(ordinal);
        match has_come {
            true => self.bits[word] |= bit,
            false => self.bits[word] &= !bit,
        }
    }
}

fn place(ordinal: u64) -> (usize, u64) {
    let at = ordinal % SEEN;
    ((at / 64) as usize, 1 << (at % 64))
}
