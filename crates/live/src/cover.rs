//! How payloads cross a channel: sealed, compressed, or as they are. What comes is opened before a machine hears it,
//! what a machine says is sealed on its way out; the machines themselves know nothing of keys.

use std::{collections::HashMap, sync::Arc};

use crate::{
    attempt::{Why, to_json},
    flow::WINDOW,
    frame::{Flags, Frame, Head, Kind},
    key::SealKey,
    message::Hello,
    seal::{Direction, Sealer},
};

/// The capability of an end that reads compressed messages.
pub const DEFLATE: &str = "deflate";

/// How payloads of one end cross its channel.
#[derive(Debug, Clone, Default)]
pub struct Cover {
    /// What seals and opens them; `None`: they cross in the clear.
    pub key: Option<SealKey>,
    /// A session's: with a key it takes what nobody sealed all the same, for the channel is the server's own.
    pub takes_plain: bool,
    /// Large ones are compressed, for ends that read that; not worth it within one machine.
    pub packs: bool,
}

impl Cover {
    /// Says in a hello what this end does.
    pub fn tell(&self, hello: &mut Hello) {
        hello.seal = self.key.as_ref().map(SealKey::name);
        if self.packs {
            hello.capabilities.push(DEFLATE.into());
        }
    }

    /// Whether what this end sends to one with these capabilities may be compressed.
    pub(crate) fn packs_for(&self, capabilities: &[String]) -> bool {
        self.packs && capabilities.iter().any(|named| named == DEFLATE)
    }
}

/// What seals and opens the frames of one end.
pub(crate) struct Seals {
    cover: Cover,
    out: Direction,
    into: Direction,
    /// A session's: the same for every host.
    own: Option<(String, Arc<Sealer>)>,
    /// The ends with which everything is sealed.
    with: HashMap<u32, Arc<Sealer>>,
    dropped: u64,
}

/// A frame that no machine may hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shut {
    /// It does not open, or came in the clear where its attempt is sealed.
    Dropped,
    /// A new offer in the clear, which is to be declined.
    PlainOffer,
}

impl Seals {
    /// Of a host; [`Seals::know`] names the sessions that it talks to.
    pub fn of_host(cover: Cover) -> Seals {
        Seals::new(cover, Direction::ToSession, Direction::ToHost)
    }

    /// Of a session; [`Seals::welcome`] names it.
    pub fn of_session(cover: Cover) -> Seals {
        Seals::new(cover, Direction::ToHost, Direction::ToSession)
    }

    fn new(cover: Cover, out: Direction, into: Direction) -> Seals {
        Seals {
            cover,
            out,
            into,
            own: None,
            with: HashMap::new(),
            dropped: 0,
        }
    }

    pub fn cover(&self) -> &Cover {
        &self.cover
    }

    /// Frames that came and were dropped here.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The session is called so from now on.
    pub fn welcome(&mut self, session: &str) {
        if self.own.as_ref().is_some_and(|(name, _)| name == session) {
            return;
        }
        let Some(key) = &self.cover.key else {
            return;
        };
        let own = Arc::new(Sealer::new(key, session));
        // Hosts that sealed go on doing so.
        self.with
            .values_mut()
            .for_each(|sealer| *sealer = own.clone());
        self.own = Some((session.to_owned(), own));
    }

    /// A host is about to talk to this session.
    pub fn know(&mut self, peer: u32, session: &str) {
        if let Some(key) = &self.cover.key {
            let sealer = self.with.entry(peer);
            sealer.or_insert_with(|| Arc::new(Sealer::new(key, session)));
        }
    }

    /// A session is gone; its number comes no more.
    pub fn forget(&mut self, peer: u32) {
        self.with.remove(&peer);
    }

    /// What came, as a machine may hear it.
    pub fn open(&mut self, mut frame: Frame) -> Result<Frame, Shut> {
        let peer = frame.head.peer;
        if !Sealer::covers(&frame.head) {
            return Ok(frame);
        }
        if !frame.head.flags.has(Flags::SEALED) {
            return self.plain(frame);
        }
        let own = self.own.as_ref().map(|(_, sealer)| sealer);
        let sealer = self.with.get(&peer).or(own).cloned();
        let opened = sealer.and_then(|sealer| {
            let body = sealer.open(self.into, &frame.head, &frame.body).ok()?;
            Some((sealer, body))
        });
        let Some((sealer, body)) = opened else {
            return self.drop();
        };
        // Who sealed once seals always: nobody else can speak for it in the clear.
        self.with.entry(peer).or_insert(sealer);
        frame.head.flags = frame.head.flags.without(Flags::SEALED);
        frame.body = body;
        Ok(frame)
    }

    fn plain(&mut self, frame: Frame) -> Result<Frame, Shut> {
        if self.cover.key.is_none() {
            return Ok(frame);
        }
        let Head {
            kind, index, peer, ..
        } = frame.head;
        let is_sealed = self.with.contains_key(&peer);
        match (is_sealed, self.cover.takes_plain) {
            (false, true) => Ok(frame),
            (false, false) if kind == Kind::Offer && index == 0 => {
                self.dropped += 1;
                Err(Shut::PlainOffer)
            }
            _ => self.drop(),
        }
    }

    fn drop(&mut self) -> Result<Frame, Shut> {
        self.dropped += 1;
        Err(Shut::Dropped)
    }

    /// What a machine says, as it crosses. `None`: it cannot be sealed, and must not cross; it is said again later.
    pub fn seal(&self, mut frame: Frame) -> Option<Frame> {
        if !Sealer::covers(&frame.head) {
            return Some(frame);
        }
        let Some(sealer) = self.with.get(&frame.head.peer) else {
            // Of a sealed attempt nothing crosses in the clear, not even its last words.
            let is_plain = self.cover.key.is_none() || self.cover.takes_plain;
            return is_plain.then_some(frame);
        };
        let sealed = sealer.seal(self.out, &mut frame.head, &frame.body);
        frame.body = sealed.ok()?;
        Some(frame)
    }
}

/// The answer to an offer that came in the clear to a session with a key. It says nothing that is secret, and could not be
/// read if it were sealed.
pub(crate) fn decline(offer: &Head) -> Frame {
    let why = Why {
        why: "this session takes only what is sealed with its key".into(),
    };
    let head = Head {
        kind: Kind::Decline,
        flags: Flags::default(),
        index: 0,
        count: 1,
        ack: 1,
        window: WINDOW,
        ..*offer
    };
    let body = to_json(&why);
    Frame { head, body }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::InvocationId;
    use uuid::Uuid;

    use super::*;
    use crate::frame::{Part, UNNUMBERED};

    const SESSION: &str = "ses_1";
    const HOST: u32 = 3;

    fn cover(byte: u8, takes_plain: bool) -> Cover {
        Cover {
            key: Some(SealKey::new([byte; 32])),
            takes_plain,
            packs: false,
        }
    }

    /// A session with the key 7, and a host with another or the same.
    fn ends(host: Cover, session: Cover) -> (Seals, Seals) {
        let (mut host, mut own) = (Seals::of_host(host), Seals::of_session(session));
        host.know(HOST, SESSION);
        own.welcome(SESSION);
        (host, own)
    }

    fn frame(kind: Kind, index: u32) -> Frame {
        let of = Part {
            id: InvocationId(Uuid::from_u128(9)),
            attempt: 1,
        };
        let mut frame =
            Frame::unnumbered(kind, of, HOST, Bytes::from_static(b"{\"why\":\"said\"}"));
        frame.head.index = index;
        frame
    }

    #[test]
    fn what_one_end_seals_the_other_opens_and_a_bare_number_stays_bare() {
        let (mut host, mut session) = ends(cover(7, false), cover(7, false));
        let offer = frame(Kind::Offer, 0);
        let sealed = host.seal(offer.clone()).unwrap();
        assert_ne!(sealed.body, offer.body);
        assert_eq!(session.open(sealed), Ok(offer));
        let answer = frame(Kind::Accept, 0);
        let sealed = session.seal(answer.clone()).unwrap();
        assert_eq!(host.open(sealed), Ok(answer));
        for kind in [Kind::Ack, Kind::Cancel, Kind::Unknown] {
            let bare = frame(kind, UNNUMBERED);
            assert_eq!(host.seal(bare.clone()), Some(bare.clone()));
            assert_eq!(session.open(bare.clone()), Ok(bare));
        }
        let lines = session.seal(frame(Kind::Log, UNNUMBERED)).unwrap();
        assert!(lines.head.flags.has(Flags::SEALED));
        assert_eq!((host.dropped(), session.dropped()), (0, 0));
    }

    #[test]
    fn another_key_a_changed_byte_and_a_reflection_are_dropped_and_counted() {
        let (host, mut session) = ends(cover(8, false), cover(7, false));
        let foreign = host.seal(frame(Kind::Offer, 0)).unwrap();
        assert_eq!(session.open(foreign), Err(Shut::Dropped));
        let (host, _) = ends(cover(7, false), cover(7, false));
        let sealed = host.seal(frame(Kind::Offer, 0)).unwrap();
        let mut changed = sealed.clone();
        let mut bytes = changed.body.to_vec();
        bytes[20] ^= 1;
        changed.body = bytes.into();
        assert_eq!(session.open(changed), Err(Shut::Dropped));
        let mut moved = sealed.clone();
        moved.head.index = 1;
        assert_eq!(session.open(moved), Err(Shut::Dropped));
        assert_eq!(session.dropped(), 3);
        assert!(session.open(sealed).is_ok());
        let own = session.seal(frame(Kind::Accept, 0)).unwrap();
        assert_eq!(session.open(own), Err(Shut::Dropped));
    }

    #[test]
    fn in_the_clear_only_what_may_be() {
        let offer = frame(Kind::Offer, 0);
        let (_, mut session) = ends(cover(7, false), cover(7, false));
        assert_eq!(session.open(offer.clone()), Err(Shut::PlainOffer));
        assert_eq!(session.open(frame(Kind::Go, 1)), Err(Shut::Dropped));
        // A host that nobody heard of in secret: no words for it.
        assert_eq!(session.seal(frame(Kind::Accept, 0)), None);

        let (host, mut own) = ends(cover(7, false), cover(7, true));
        assert_eq!(own.open(offer.clone()), Ok(offer.clone()));
        assert!(own.seal(frame(Kind::Accept, 0)).is_some());
        assert!(own.open(host.seal(offer.clone()).unwrap()).is_ok());
        // From now on that host is sealed, and nobody speaks for it in the clear.
        assert_eq!(own.open(offer.clone()), Err(Shut::Dropped));

        let mut keyless = Seals::of_session(Cover::default());
        keyless.welcome(SESSION);
        assert_eq!(
            keyless.open(host.seal(offer.clone()).unwrap()),
            Err(Shut::Dropped)
        );
        assert_eq!(keyless.open(offer.clone()), Ok(offer));
    }
}
