//! Frames: what crosses a channel. 44 bytes of head, then the payload; numbers are big-endian.
//! `docs/live-protocol.md` describes them, `spec/live/` holds samples that every end is tested against.

use bytes::{BufMut, Bytes, BytesMut};
use model::InvocationId;
use uuid::Uuid;

/// The version of this protocol, the first byte of every frame.
pub const VERSION: u8 = 1;

/// Length of a head in bytes.
pub const HEADER: usize = 44;

/// Largest payload of one frame, sealed and all: a frame that says otherwise is refused unread.
pub const PAYLOAD_MAX: usize = 256 << 10;

/// The index of a frame that is neither acknowledged nor sent again.
pub const UNNUMBERED: u32 = u32::MAX;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal,)*) => {
        /// What a frame says. Up to 31: between an end and the channel, payload JSON. From 32: between two ends, of one attempt.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])* $name = $number,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The kind of this number.
            pub const fn of(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// An end introduces itself; the first frame of a connection.
    Hello = 1,
    /// The channel's answer: who the end is here, and the lease.
    Welcome = 2,
    /// A session wants a function's invocations.
    Claim = 3,
    /// It has them.
    Claimed = 4,
    /// It does not, and why.
    Refused = 5,
    /// It gives a claim back.
    Release = 6,
    /// It is alive.
    Heartbeat = 7,
    /// The channel heard that, and the lease runs anew.
    Alive = 8,
    /// A claim was taken over by somebody else, or ended by the server.
    Taken = 9,
    /// To a host: who claims a function now, all of it.
    Presence = 10,
    /// The sender leaves, or the channel closes.
    Goodbye = 11,
    /// A host says which functions' invocations it may offer.
    Serve = 12,
    /// The other end of an attempt is not there any more.
    Gone = 13,
    /// A connection that cannot go on, and why; nothing follows.
    Fatal = 14,
    /// Host to session: an invocation, without its payload.
    Offer = 32,
    /// Session to host: it would run it.
    Accept = 33,
    /// Session to host: it will not.
    Decline = 34,
    /// Host to session: run it. The commit point.
    Go = 35,
    /// Bytes of a request or an answer.
    Body = 36,
    /// Session to host: the head of the answer.
    Answer = 37,
    /// Session to host: it failed.
    Fault = 38,
    /// Host to session: too late, or no longer wanted; nothing of it may run.
    Withdrawn = 39,
    /// Host to session: the caller has left.
    Cancel = 40,
    /// Session to host: log lines of the invocation; unnumbered.
    Log = 41,
    /// Nothing but `ack` and `window`; unnumbered.
    Ack = 42,
    /// Session to host: it knows nothing of this attempt; unnumbered.
    Unknown = 43,
}

impl Kind {
    /// Whether it belongs to one attempt, and not to the channel.
    pub const fn is_of_attempt(self) -> bool {
        self as u8 >= 32
    }
}

/// What is said of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// The payload is encrypted.
    pub const SEALED: u8 = 1;
    /// The message was compressed (DEFLATE, RFC 1951) before it was cut into frames.
    pub const DEFLATED: u8 = 2;
    /// The last message of its body.
    pub const LAST: u8 = 4;

    /// Whether a bit is set.
    pub const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// The same with a bit set.
    #[must_use]
    pub const fn with(self, bit: u8) -> Flags {
        Flags(self.0 | bit)
    }

    /// The same with a bit not set.
    #[must_use]
    pub const fn without(self, bit: u8) -> Flags {
        Flags(self.0 & !bit)
    }
}

/// One try of one invocation, as frames name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The invocation; all zeros where a frame is the channel's.
    pub id: InvocationId,
    /// Which try.
    pub attempt: u16,
}

impl Part {
    /// Of no invocation.
    pub const CHANNEL: Part = Part {
        id: InvocationId(Uuid::nil()),
        attempt: 0,
    };
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it says.
    pub kind: Kind,
    /// How its payload is packed.
    pub flags: Flags,
    /// The invocation and the try.
    pub of: Part,
    /// Its number among the sender's frames of this attempt, from 0.
    pub index: u32,
    /// Frames of the same message from this one on; 1: the message ends here.
    pub count: u32,
    /// All of the other side's frames of this attempt below this number have come.
    pub ack: u32,
    /// So many frames from `ack` on may be sent.
    pub window: u16,
    /// On the way out whom it is for, on the way in whom it is from: a number that the channel gives; 0 is the channel.
    pub peer: u32,
}

impl Head {
    /// What sealing protects besides the payload: all but what changes when a frame is sent again or passed on.
    pub fn sealed_part(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out[0] = VERSION;
        out[1] = self.kind as u8;
        out[2] = self.flags.0;
        out[4..6].copy_from_slice(&self.of.attempt.to_be_bytes());
        out[8..12].copy_from_slice(&self.index.to_be_bytes());
        out[12..16].copy_from_slice(&self.count.to_be_bytes());
        out[16..32].copy_from_slice(self.of.id.0.as_bytes());
        out
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What stands before the payload.
    pub head: Head,
    /// The payload.
    pub body: Bytes,
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Shorter than a head.
    #[error("a frame of {0} bytes is shorter than its head of {HEADER}")]
    Short(usize),
    /// The payload is larger than [`PAYLOAD_MAX`].
    #[error("a payload of {0} bytes is larger than the limit of {PAYLOAD_MAX}")]
    Long(usize),
    /// Not this protocol, or another version of it.
    #[error("a frame of version {0}; this end speaks version {VERSION}")]
    Version(u8),
    /// No kind has this number.
    #[error("no frame is of the kind {0}")]
    Kind(u8),
    /// The payload is not what was sent.
    #[error("a payload that does not match its checksum: it was cut off or changed on its way")]
    Cut,
    /// A count of zero, or bits that mean nothing.
    #[error("a frame whose head makes no sense: {0}")]
    Head(&'static str),
}

impl Frame {
    /// One of the channel's, whose payload is JSON.
    pub fn control(kind: Kind, body: impl Into<Bytes>) -> Frame {
        let head = Head {
            kind,
            flags: Flags::default(),
            of: Part::CHANNEL,
            index: UNNUMBERED,
            count: 1,
            ack: 0,
            window: 0,
            peer: 0,
        };
        Frame {
            head,
            body: body.into(),
        }
    }

    /// One of an attempt's that is neither acknowledged nor sent again.
    pub fn unnumbered(kind: Kind, of: Part, peer: u32, body: Bytes) -> Frame {
        let frame = Frame::control(kind, body);
        let head = Head {
            of,
            peer,
            ..frame.head
        };
        Frame { head, ..frame }
    }

    /// As it crosses the wire.
    pub fn encode(&self) -> Bytes {
        let head = &self.head;
        let mut out = BytesMut::with_capacity(HEADER + self.body.len());
        out.put_slice(&[VERSION, head.kind as u8, head.flags.0, 0]);
        out.put_u16(head.of.attempt);
        out.put_u16(head.window);
        out.put_u32(head.index);
        out.put_u32(head.count);
        out.put_u32(head.ack);
        out.put_u32(head.peer);
        out.put_slice(head.of.id.0.as_bytes());
        out.put_u32(crc32fast::hash(&self.body));
        out.put_slice(&self.body);
        out.freeze()
    }

    /// From what came; the payload shares its memory.
    pub fn decode(bytes: Bytes) -> Result<Frame, Bad> {
        let Some((head, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Bad::Short(bytes.len()));
        };
        if head[0] != VERSION {
            return Err(Bad::Version(head[0]));
        }
        let payload = bytes.len() - HEADER;
        if payload > PAYLOAD_MAX {
            return Err(Bad::Long(payload));
        }
        let kind = Kind::of(head[1]).ok_or(Bad::Kind(head[1]))?;
        if head[2] & !(Flags::SEALED | Flags::DEFLATED | Flags::LAST) != 0 || head[3] != 0 {
            return Err(Bad::Head("bits that mean nothing are set"));
        }
        let short = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let long =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut id = [0; 16];
        id.copy_from_slice(&head[24..40]);
        let decoded = Head {
            kind,
            flags: Flags(head[2]),
            of: Part {
                attempt: short(4),
                id: InvocationId(Uuid::from_bytes(id)),
            },
            window: short(6),
            index: long(8),
            count: long(12),
            ack: long(16),
            peer: long(20),
        };
        if crc32fast::hash(&bytes[HEADER..]) != long(40) {
            return Err(Bad::Cut);
        }
        if decoded.count == 0 {
            return Err(Bad::Head("a message of no frames"));
        }
        if kind.is_of_attempt() == (decoded.of == Part::CHANNEL) {
            return Err(Bad::Head(
                "an invocation is named where none belongs, or none where one does",
            ));
        }
        Ok(Frame {
            head: decoded,
            body: bytes.slice(HEADER..),
        })
    }
}

#[cfg(test)]
mod tests;
