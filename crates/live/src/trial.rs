//! Both ends under a channel that drops, doubles, reorders, delays and cuts off, driven by seeds: what product rules 3, 4 and 9
//! promise is checked after every step.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use model::{ErrorType, Failure, InvocationId};
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use crate::{
    Answer, Asked, Cover, DEFLATE, Frame, Go, Host, Key, Kind, Offer, Part, SealKey, Session, Told,
    UNNUMBERED,
    cover::{Seals, Shut},
};

/// How bad the channel is, in a hundred.
#[derive(Clone, Copy)]
struct Weather {
    drops: u32,
    doubles: u32,
    delays: u32,
    cuts: u32,
}

const STORM: Weather = Weather {
    drops: 20,
    doubles: 20,
    delays: 40,
    cuts: 5,
};
const CALM: Weather = Weather {
    drops: 0,
    doubles: 0,
    delays: 0,
    cuts: 0,
};

/// How payloads cross, and who else is on the channel.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// In the clear, as they are.
    Plain,
    /// Sealed and compressed, while a third party changes, doubles, and invents frames.
    Sealed,
    /// Sealed, each with a key of its own.
    Strangers,
}

/// A frame on its way.
struct Flying {
    arrives: u64,
    to_session: bool,
    bytes: Bytes,
}

/// What was said and heard of one attempt.
#[derive(Default, Debug)]
struct Story {
    /// Nobody waits for it any more.
    left: bool,
    committed: bool,
    started: u32,
    aborted: bool,
    free: u32,
    ended: u32,
    asked: Vec<u8>,
    heard: Vec<u8>,
    answered: Vec<u8>,
    got: Vec<u8>,
    said_all: bool,
    got_all: bool,
    heard_all: bool,
    failure: Option<Failure>,
}

struct World {
    dice: StdRng,
    now: u64,
    weather: Weather,
    host: Host,
    session: Session,
    ends: Ends,
    seals: (Seals, Seals),
    /// Frames that a third party made.
    forged: u64,
    /// The session's number as the host knows it, and the host's as the session does.
    peers: (u32, u32),
    flying: Vec<Flying>,
    stories: BTreeMap<Part, Story>,
    /// What the session runs now, by what is left to say.
    running: HashMap<Key, usize>,
    /// Requests whose bodies the host has yet to send.
    sending: HashMap<Key, usize>,
}

impl World {
    fn new(seed: u64, weather: Weather, ends: Ends) -> World {
        let mut world = World {
            dice: StdRng::seed_from_u64(seed),
            now: 1_000_000,
            weather,
            host: Host::default(),
            session: Session::default(),
            ends,
            seals: (
                Seals::of_host(Cover::default()),
                Seals::of_session(Cover::default()),
            ),
            forged: 0,
            peers: (7, 3),
            flying: Vec::new(),
            stories: BTreeMap::new(),
            running: HashMap::new(),
            sending: HashMap::new(),
        };
        world.enter();
        world
    }

    /// Both ends begin to talk as who they are now.
    fn enter(&mut self) {
        let cover = |key: u8| Cover {
            key: (self.ends != Ends::Plain).then(|| SealKey::new([key; 32])),
            takes_plain: false,
            packs: self.ends == Ends::Sealed,
        };
        let own = if self.ends == Ends::Strangers { 2 } else { 1 };
        self.seals = (Seals::of_host(cover(1)), Seals::of_session(cover(own)));
        let session = format!("ses_{}", self.peers.0);
        self.seals.0.know(self.peers.0, &session);
        self.seals.1.welcome(&session);
        if self.ends == Ends::Sealed {
            self.session.pack();
        }
    }

    /// Somebody between the two ends says what neither did.
    fn forge(&mut self, frame: &Frame) -> Option<Frame> {
        // Of the channel's own words, and of what only says that something is over, everybody may be the author.
        if frame.head.index == UNNUMBERED || !self.chance(20) {
            return None;
        }
        self.forged += 1;
        let mut forged = frame.clone();
        match self.dice.random_range(0..4) {
            0 => forged.head.index += 1,
            1 => forged.head.kind = Kind::Body,
            2 => {
                let mut bytes = forged.body.to_vec();
                let at = self.dice.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.dice.random_range(0..8);
                forged.body = bytes.into();
            }
            _ => {
                forged.head.flags = crate::Flags::default();
                forged.body = Bytes::from_static(b"{\"why\":\"forged\"}");
            }
        }
        Some(forged)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.dice.random_ratio(percent.min(100), 100)
    }

    fn offer(&mut self) {
        let of = Part {
            id: InvocationId(Uuid::from_u128(self.dice.random())),
            attempt: 1,
        };
        self.stories.insert(of, Story::default());
        let offer = Offer {
            capabilities: vec![DEFLATE.into()],
            ..Offer::sample()
        };
        let (peer, packs) = (self.peers.0, self.ends == Ends::Sealed);
        self.host.offer(self.now, Key { peer, of }, offer, packs);
    }

    /// Sends what both ends said through the weather, and plays what they were told.
    fn turn(&mut self) {
        loop {
            let (frames, told) = self.host.flush();
            let (back, asked) = self.session.flush();
            if frames.is_empty() && told.is_empty() && back.is_empty() && asked.is_empty() {
                break;
            }
            for (frames, to_session) in [(frames, true), (back, false)] {
                for frame in frames {
                    self.send(frame, to_session);
                }
            }
            told.into_iter()
                .for_each(|(key, told)| self.told(key, told));
            asked
                .into_iter()
                .for_each(|(key, asked)| self.asked(key, asked));
        }
        self.check();
    }

    /// The channel tells each end the other's number.
    fn send(&mut self, frame: Frame, to_session: bool) {
        let (session, host) = self.peers;
        let (meant, from) = match to_session {
            true => (session, host),
            false => (host, session),
        };
        // The channel knows who is there.
        let peer = frame.head.peer;
        if peer != meant {
            return match to_session {
                true => self.host.gone(peer, "it is not there"),
                false => self.session.gone(peer, "it is not there"),
            };
        }
        let seals = match to_session {
            true => &self.seals.0,
            false => &self.seals.1,
        };
        let Some(mut frame) = seals.seal(frame) else {
            return;
        };
        frame.head.peer = from;
        if self.ends == Ends::Sealed
            && let Some(forged) = self.forge(&frame)
        {
            self.flying.push(Flying {
                arrives: self.now + self.dice.random_range(0..100),
                to_session,
                bytes: forged.encode(),
            });
        }
        let weather = self.weather;
        if self.chance(weather.drops) {
            return;
        }
        let copies = 1 + u32::from(self.chance(weather.doubles));
        for _ in 0..copies {
            let mut bytes = frame.encode();
            if self.chance(weather.cuts) {
                bytes.truncate(self.dice.random_range(0..bytes.len()));
            }
            let late = match self.chance(weather.delays) {
                true => self.dice.random_range(1..900),
                false => 1,
            };
            self.flying.push(Flying {
                arrives: self.now + late,
                to_session,
                bytes,
            });
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += millis;
        let now = self.now;
        let mut due = Vec::new();
        self.flying.retain_mut(|flying| {
            let is_due = flying.arrives <= now;
            if is_due {
                due.push((flying.arrives, flying.to_session, flying.bytes.clone()));
            }
            !is_due
        });
        due.sort_by_key(|(arrives, ..)| *arrives);
        for (_, to_session, bytes) in due {
            let Ok(frame) = Frame::decode(bytes) else {
                continue;
            };
            let opened = match to_session {
                true => self.seals.1.open(frame),
                false => self.seals.0.open(frame),
            };
            match (opened, to_session) {
                (Ok(frame), true) => self.session.hear(now, frame),
                (Ok(frame), false) => self.host.hear(now, frame),
                (Err(Shut::Dropped | Shut::PlainOffer), _) => {}
            }
            self.turn();
        }
        self.host.tick(now);
        self.session.tick(now);
        self.work();
        self.turn();
    }

    /// Both programs go on with their bodies.
    fn work(&mut self) {
        let mut sending: Vec<Key> = self.sending.keys().copied().collect();
        sending.sort();
        for key in sending {
            while self.sending.contains_key(&key) && self.host.has_room(key) {
                let piece = self.piece();
                let left = self.sending[&key];
                let is_last = left == 0;
                if let Some(story) = self.stories.get_mut(&key.of) {
                    story.asked.extend_from_slice(&piece);
                }
                self.host.body(self.now, key, piece, is_last);
                match is_last {
                    true => self.sending.remove(&key),
                    false => self.sending.insert(key, left - 1),
                };
            }
        }
        let mut running: Vec<Key> = self.running.keys().copied().collect();
        running.sort();
        for key in running {
            self.go_on(key);
        }
    }

    fn go_on(&mut self, key: Key) {
        while self.running.contains_key(&key) && self.session.has_room(key) {
            let left = self.running[&key];
            if left > 0 && self.chance(2) {
                let failure = Failure::new(ErrorType::HandlerError, "thrown");
                assert!(self.session.fail(self.now, key, &failure));
                self.story(key).failure = Some(failure);
                self.running.remove(&key);
                return;
            }
            let piece = self.piece();
            self.story(key).answered.extend_from_slice(&piece);
            assert!(self.session.body(self.now, key, piece, left == 0));
            match left == 0 {
                true => {
                    self.story(key).said_all = true;
                    self.running.remove(&key)
                }
                false => self.running.insert(key, left - 1),
            };
        }
    }

    fn piece(&mut self) -> Bytes {
        let mut bytes = vec![0; self.dice.random_range(0..40)];
        self.dice.fill(&mut bytes[..]);
        // Some of it gets smaller when it is packed.
        if self.ends == Ends::Sealed && self.chance(10) {
            bytes = bytes.repeat(200);
        }
        Bytes::from(bytes)
    }

    fn story(&mut self, key: Key) -> &mut Story {
        self.stories.get_mut(&key.of).expect("it was offered")
    }

    fn told(&mut self, key: Key, told: Told) {
        match told {
            Told::Accepted => {
                let go = Go {
                    method: "POST".into(),
                    uri: "/".into(),
                    headers: Vec::new(),
                    deadline_ms: 30_000,
                    hold: false,
                    body: true,
                };
                if self.host.go(self.now, key, &go) {
                    self.story(key).committed = true;
                    let pieces = self.dice.random_range(0..20);
                    self.sending.insert(key, pieces);
                }
            }
            Told::Free(_) => self.story(key).free += 1,
            Told::Failed(failure) => {
                let story = self.story(key);
                story.ended += 1;
                if failure.error_type != ErrorType::LiveSessionLost {
                    assert_eq!(story.failure.as_ref(), Some(&failure));
                }
            }
            Told::Answer(answer) => assert_eq!(answer.status, 200),
            Told::Body(bytes, is_last) => {
                self.host.taken(key);
                let story = self.story(key);
                story.got.extend_from_slice(&bytes);
                story.got_all |= is_last;
                story.ended += u32::from(is_last);
            }
        }
    }

    fn asked(&mut self, key: Key, asked: Asked) {
        match asked {
            Asked::Offered(_) => match self.chance(10) {
                true => drop(self.session.decline(self.now, key, "busy")),
                false => drop(self.session.accept(self.now, key)),
            },
            Asked::Start(_) => {
                self.story(key).started += 1;
                let answer = Answer {
                    status: 200,
                    headers: Vec::new(),
                };
                assert!(self.session.answer(self.now, key, &answer));
                let pieces = self.dice.random_range(0..20);
                self.running.insert(key, pieces);
            }
            Asked::Body(bytes, is_last) => {
                self.session.taken(key);
                let story = self.story(key);
                story.heard.extend_from_slice(&bytes);
                story.heard_all |= is_last;
            }
            Asked::Abort(_) => {
                self.running.remove(&key);
                self.story(key).aborted = true;
            }
        }
    }

    fn check(&self) {
        for (of, story) in &self.stories {
            assert!(story.started <= 1, "{of:?} ran twice: {story:?}");
            assert!(
                story.started == 0 || story.committed,
                "{of:?} ran before go"
            );
            assert!(
                story.free == 0 || !story.committed,
                "{of:?} ran here and there"
            );
            assert!(
                story.free <= 1 && story.ended <= 1,
                "{of:?} ended twice: {story:?}"
            );
            assert!(
                story.asked.starts_with(&story.heard),
                "{of:?} heard what was not said"
            );
            assert!(
                story.answered.starts_with(&story.got),
                "{of:?} got what was not said"
            );
            if story.got_all {
                assert!(
                    story.said_all && story.got == story.answered,
                    "{of:?} lacks the end"
                );
            }
            if story.heard_all {
                assert_eq!(story.heard, story.asked, "{of:?} lacks the end");
            }
        }
    }

    /// A new process takes the session's place: the channel tells the host, and gives it another number.
    fn kill_session(&mut self) {
        self.running.clear();
        self.session = Session::default();
        let old = self.peers.0;
        self.peers.0 += 1;
        self.host.gone(old, "its connection closed");
        self.enter();
        self.flying.retain(|flying| !flying.to_session);
        self.turn();
        // At once, not at some deadline.
        for (of, story) in self.stories.iter().filter(|(_, story)| !story.left) {
            assert_eq!(story.ended + story.free, 1, "{of:?} hangs: {story:?}");
        }
    }

    /// A new process takes the host's place; what it had offered has failed with it.
    fn kill_host(&mut self) {
        self.sending.clear();
        self.host = Host::default();
        let old = self.peers.1;
        self.peers.1 += 1;
        self.session.gone(old, "its host is gone");
        self.flying.retain(|flying| flying.to_session);
        self.turn();
        assert!(self.running.is_empty(), "something runs for nobody");
        self.stories
            .values_mut()
            .for_each(|story| story.left = true);
    }

    /// The session's connection is replaced: what was on its way is lost.
    fn reconnect(&mut self) {
        self.flying.clear();
        self.session.resumed(self.now);
        self.turn();
    }

    /// A caller goes away; he is told nothing more.
    fn leave(&mut self) {
        let waits = |story: &Story| !story.left && story.ended + story.free == 0;
        let waiting = self.stories.iter().find(|(_, story)| waits(story));
        let Some((of, _)) = waiting else {
            return;
        };
        let key = Key {
            peer: self.peers.0,
            of: *of,
        };
        self.host.cancel(self.now, key, "the caller left");
        self.sending.remove(&key);
        self.story(key).left = true;
        self.turn();
    }

    /// The weather clears, and everything comes to its end.
    fn settle(&mut self) {
        self.weather = CALM;
        for _ in 0..2000 {
            self.pass(25);
            if self.host.is_idle() && self.session.is_idle() && self.flying.is_empty() {
                break;
            }
        }
        for (of, story) in self.stories.iter().filter(|(_, story)| !story.left) {
            assert_eq!(story.ended + story.free, 1, "{of:?} hangs: {story:?}");
        }
        assert!(
            self.host.is_idle() && self.session.is_idle(),
            "something is kept"
        );
        assert_eq!((self.host.holds(), self.session.holds()), (0, 0));
    }
}

fn play(seed: u64, weather: Weather, deaths: bool) -> World {
    play_as(Ends::Plain, seed, weather, deaths)
}

fn play_as(ends: Ends, seed: u64, weather: Weather, deaths: bool) -> World {
    let mut world = World::new(seed, weather, ends);
    for _ in 0..60 {
        if world.chance(60) {
            world.offer();
            world.turn();
        }
        if deaths && world.chance(3) {
            world.kill_session();
        }
        if deaths && world.chance(3) {
            world.kill_host();
        }
        if world.chance(5) {
            world.leave();
        }
        if deaths && world.chance(5) {
            world.reconnect();
        }
        let millis = world.dice.random_range(1..80);
        world.pass(millis);
    }
    world.settle();
    world
}

#[test]
fn in_any_weather_each_attempt_runs_at_most_once_and_ends_once() {
    for seed in 0..150 {
        play(seed, STORM, false);
    }
}

#[test]
fn whoever_is_killed_whenever_nothing_runs_twice_and_nothing_hangs() {
    for seed in 0..150 {
        play(seed, STORM, true);
    }
}

#[test]
fn in_calm_weather_nothing_is_lost() {
    for seed in 0..100 {
        let world = play(seed, CALM, false);
        let lost = |story: &&Story| {
            !story.left && story.failure.is_none() && story.committed && !story.got_all
        };
        assert_eq!(world.stories.values().filter(lost).count(), 0);
    }
}

#[test]
fn sealed_and_packed_whatever_a_third_party_does_to_frames_nothing_changes() {
    let (mut forged, mut dropped) = (0, 0);
    for seed in 0..100 {
        let world = play_as(Ends::Sealed, seed, STORM, seed % 2 == 0);
        forged += world.forged;
        dropped += world.seals.0.dropped() + world.seals.1.dropped();
    }
    assert!(forged > 1000 && dropped > 1000, "{forged} {dropped}");
}

#[test]
fn a_host_of_another_key_is_never_understood_and_runs_its_own() {
    for seed in 0..50 {
        let world = play_as(Ends::Strangers, seed, STORM, false);
        assert!(world.seals.1.dropped() > 0);
        for story in world.stories.values() {
            assert!(!story.committed && story.started == 0);
            assert!(story.left || story.free == 1);
        }
    }
}
