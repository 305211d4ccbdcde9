//! The frames of one attempt between two ends: numbered, acknowledged, sent again, delivered once and in order.
//! A channel may drop, double, reorder, delay or cut off; what is delivered is what was said, or nothing.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::{
    frame::{Flags, Frame, Head, Kind, PAYLOAD_MAX, Part, UNNUMBERED},
    pack::{pack, unpack},
};

/// Payload of one frame unless a channel says less; sealing needs some room below [`PAYLOAD_MAX`].
pub const CHUNK: usize = 128 << 10;

/// Frames that a receiver is ready to hold, and the credit that a sender begins with.
pub const WINDOW: u16 = 8;

/// Largest message: a result of the largest size, and a little around it.
pub const MESSAGE_MAX: usize = 8 << 20;

/// An unacknowledged frame is sent again after so many milliseconds, doubled each time …
const RESEND: u64 = 500;

/// … up to this.
const RESEND_MAX: u64 = 4000;

/// What is owed is acknowledged after so many milliseconds, if nothing else carries it.
const ACK_WAIT: u64 = 25;

/// So many frames are acknowledged at once.
const ACK_SOON: u32 = 4;

/// The count of an acknowledgement that asks for one, and for all that is not acknowledged: word of it may be lost.
const ASKS: u32 = 2;

const _: () = assert!(CHUNK + 64 <= PAYLOAD_MAX);

/// A whole message, as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub kind: Kind,
    /// [`Flags::LAST`] or nothing.
    pub flags: Flags,
    /// All of it.
    pub body: Bytes,
}

/// The other end breaks the rules; the attempt cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// More than [`MESSAGE_MAX`].
    #[error("a message of more than {MESSAGE_MAX} bytes")]
    TooLarge,
    /// Frames of one message that do not fit together.
    #[error("frames of one message that do not fit together")]
    Mixed,
    /// A message that cannot be unpacked.
    #[error(transparent)]
    Packed(#[from] crate::Unpackable),
}

/// One end of an attempt's frames.
#[derive(Debug)]
pub struct Flow {
    of: Part,
    peer: u32,
    /// Messages that get smaller are compressed.
    packs: bool,
    /// Frames from `acked` on: sent and not acknowledged, then not sent.
    kept: VecDeque<Kept>,
    acked: u32,
    /// The first that was never sent.
    fresh: u32,
    /// The first that may not be sent yet.
    allowed: u32,
    /// Milliseconds between sending again, now.
    patience: u64,
    resend_at: Option<u64>,
    expected: u32,
    early: BTreeMap<u32, Frame>,
    assembling: Option<Assembling>,
    /// Messages delivered and not yet taken by whoever reads them.
    untaken: u16,
    /// What `ack + window` said last.
    told: u32,
    /// `expected` when it was said last.
    told_ack: u32,
    owes_since: Option<u64>,
}

#[derive(Debug)]
struct Kept {
    kind: Kind,
    flags: Flags,
    count: u32,
    body: Bytes,
}

#[derive(Debug)]
struct Assembling {
    kind: Kind,
    flags: Flags,
    left: u32,
    body: BytesMut,
}

impl Flow {
    /// The frames of this attempt with this end of the channel.
    pub fn new(of: Part, peer: u32) -> Flow {
        Flow {
            of,
            peer,
            packs: false,
            kept: VecDeque::new(),
            acked: 0,
            fresh: 0,
            allowed: u32::from(WINDOW),
            patience: RESEND,
            resend_at: None,
            expected: 0,
            early: BTreeMap::new(),
            assembling: None,
            untaken: 0,
            told: u32::from(WINDOW),
            told_ack: 0,
            owes_since: None,
        }
    }

    /// The same, whose messages are compressed where that pays: the other end reads them.
    pub fn packing(mut self, packs: bool) -> Flow {
        self.packs = packs;
        self
    }

    /// Says something; it is sent as soon as the other end has room.
    pub fn say(&mut self, now: u64, kind: Kind, flags: Flags, body: Bytes, out: &mut Vec<Frame>) {
        let packed = self.packs.then(|| pack(&body)).flatten();
        let (flags, mut rest) = match packed {
            Some(packed) => (flags.with(Flags::DEFLATED), packed),
            None => (flags, body),
        };
        let count = rest.len().div_ceil(CHUNK).max(1);
        for left in (1..=count).rev() {
            let piece = rest.split_to(rest.len().min(CHUNK));
            self.kept.push_back(Kept {
                kind,
                flags,
                count: u32::try_from(left).unwrap_or(u32::MAX),
                body: piece,
            });
        }
        self.send_fresh(now, out);
    }

    /// Whether more of a body may be said: little waits for the other end's room.
    pub fn has_room(&self) -> bool {
        self.kept.len() < usize::from(WINDOW)
    }

    /// Whether the other end has all that was said.
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }

    /// Takes in a frame of the other end; gives the messages that it completes.
    ///
    /// # Errors
    /// The other end breaks the rules.
    pub fn hear(
        &mut self,
        now: u64,
        frame: Frame,
        out: &mut Vec<Frame>,
    ) -> Result<Vec<Message>, Broken> {
        self.acknowledged(now, &frame.head, out);
        let mut whole = Vec::new();
        let index = frame.head.index;
        if index == UNNUMBERED {
            if frame.head.count == ASKS {
                self.acknowledge(out);
                self.send_again(now, out);
            }
            return Ok(whole);
        }
        if index < self.expected || self.early.contains_key(&index) {
            // Sent again: what was said of it is lost, perhaps.
            self.acknowledge(out);
            return Ok(whole);
        }
        // No end that keeps to its credit comes here.
        if index >= self.told {
            return Ok(whole);
        }
        self.owes_since.get_or_insert(now);
        if index > self.expected {
            self.early.insert(index, frame);
            return Ok(whole);
        }
        self.take(frame, &mut whole)?;
        while let Some(next) = self.early.remove(&self.expected) {
            self.take(next, &mut whole)?;
        }
        if self.expected - self.told_ack >= ACK_SOON {
            self.acknowledge(out);
        }
        Ok(whole)
    }

    /// Whoever reads the messages has taken one: there is room for another.
    pub fn taken(&mut self, out: &mut Vec<Frame>) {
        self.untaken = self.untaken.saturating_sub(1);
        let room = self.expected + u32::from(self.window());
        if room - self.told.min(room) >= u32::from(WINDOW / 2) {
            self.acknowledge(out);
        }
    }

    /// What time alone asks for: frames sent again, and what is owed.
    pub fn tick(&mut self, now: u64, out: &mut Vec<Frame>) {
        if self.resend_at.is_some_and(|at| at <= now) {
            self.patience = (self.patience * 2).min(RESEND_MAX);
            self.send_again(now, out);
            if self.fresh == self.acked && !self.kept.is_empty() {
                self.ask(out);
            }
        }
        if self.owes_since.is_some_and(|since| since + ACK_WAIT <= now) {
            self.acknowledge(out);
        }
    }

    /// Sends all that is not acknowledged again, at once.
    fn send_again(&mut self, now: u64, out: &mut Vec<Frame>) {
        let sent = self.fresh - self.acked;
        for place in 0..sent {
            let frame = self.frame(place);
            out.push(frame);
        }
        self.resend_at = (!self.kept.is_empty()).then_some(now + self.patience);
    }

    /// The way to the other end is new: what either may have missed is sent again.
    pub fn resume(&mut self, now: u64, out: &mut Vec<Frame>) {
        self.send_again(now, out);
        self.ask(out);
    }

    fn ask(&mut self, out: &mut Vec<Frame>) {
        let head = self.head(Kind::Ack, Flags::default(), UNNUMBERED, ASKS);
        let body = Bytes::new();
        out.push(Frame { head, body });
    }

    /// Says what has come, and how much more may.
    pub fn acknowledge(&mut self, out: &mut Vec<Frame>) {
        let head = self.head(Kind::Ack, Flags::default(), UNNUMBERED, 1);
        out.push(Frame {
            head,
            body: Bytes::new(),
        });
    }

    fn take(&mut self, frame: Frame, whole: &mut Vec<Message>) -> Result<(), Broken> {
        self.expected += 1;
        let Head {
            kind, flags, count, ..
        } = frame.head;
        let mut begun = match self.assembling.take() {
            None if count == 1 => {
                self.untaken += 1;
                whole.push(message(kind, flags, frame.body)?);
                return Ok(());
            }
            None => Assembling {
                kind,
                flags,
                left: count,
                body: BytesMut::new(),
            },
            Some(begun) => begun,
        };
        let fits = begun.kind == kind && begun.flags == flags && begun.left == count;
        if !fits {
            return Err(Broken::Mixed);
        }
        if begun.body.len() + frame.body.len() > MESSAGE_MAX {
            return Err(Broken::TooLarge);
        }
        begun.body.extend_from_slice(&frame.body);
        begun.left -= 1;
        if begun.left > 0 {
            self.assembling = Some(begun);
            return Ok(());
        }
        self.untaken += 1;
        whole.push(message(kind, flags, begun.body.freeze())?);
        Ok(())
    }

    fn acknowledged(&mut self, now: u64, head: &Head, out: &mut Vec<Frame>) {
        // What never was sent cannot have come.
        if head.ack > self.fresh || head.ack < self.acked {
            return;
        }
        if head.ack > self.acked {
            let done = head.ack - self.acked;
            self.kept.drain(..done as usize);
            self.acked = head.ack;
            self.patience = RESEND;
            self.resend_at = (!self.kept.is_empty()).then_some(now + self.patience);
        }
        self.allowed = self
            .allowed
            .max(head.ack + u32::from(head.window.min(WINDOW)));
        self.send_fresh(now, out);
    }

    fn send_fresh(&mut self, now: u64, out: &mut Vec<Frame>) {
        while self.fresh < self.allowed && self.kept.len() > (self.fresh - self.acked) as usize {
            let frame = self.frame(self.fresh - self.acked);
            self.fresh += 1;
            out.push(frame);
        }
        // What has no room yet waits for word of room, which may be lost too.
        if !self.kept.is_empty() {
            self.resend_at.get_or_insert(now + self.patience);
        }
    }

    /// What is kept at a place, as a frame.
    fn frame(&mut self, place: u32) -> Frame {
        let Kept {
            kind,
            flags,
            count,
            ref body,
        } = self.kept[place as usize];
        let body = body.clone();
        let head = self.head(kind, flags, self.acked + place, count);
        Frame { head, body }
    }

    fn head(&mut self, kind: Kind, flags: Flags, index: u32, count: u32) -> Head {
        let window = self.window();
        self.told = self.told.max(self.expected + u32::from(window));
        self.told_ack = self.expected;
        self.owes_since = None;
        Head {
            kind,
            flags,
            of: self.of,
            index,
            count,
            ack: self.expected,
            window,
            peer: self.peer,
        }
    }

    fn window(&self) -> u16 {
        WINDOW.saturating_sub(self.untaken)
    }

    /// What is kept for the other end and from it, in bytes; for checks that memory stays flat.
    pub fn holds(&self) -> usize {
        let kept: usize = self.kept.iter().map(|kept| kept.body.len()).sum();
        let early: usize = self.early.values().map(|frame| frame.body.len()).sum();
        let assembling = self.assembling.as_ref().map_or(0, |begun| begun.body.len());
        kept + early + assembling
    }
}

/// What came whole, as it was said.
fn message(kind: Kind, flags: Flags, body: Bytes) -> Result<Message, Broken> {
    let body = match flags.has(Flags::DEFLATED) {
        true => unpack(&body, MESSAGE_MAX)?,
        false => body,
    };
    let flags = flags.without(Flags::DEFLATED);
    Ok(Message { kind, flags, body })
}
