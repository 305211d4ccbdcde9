//! An invocation that is to be run in a session, and where its answer goes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use model::Failure;
use tokio::sync::{Notify, mpsc};

use super::Attached;
use crate::{
    attempt::{Answer, Go, Lines, Offer},
    flow::CHUNK,
    host::Key,
};

/// Runs invocations, on the laptop's own pool or otherwise.
pub trait Runner: Send + Sync + 'static {
    /// Whether it would run it.
    ///
    /// # Errors
    /// Why not, in words for the other side.
    fn would(&self, offer: &Offer) -> Result<(), String>;

    /// Runs it and tells how it went through [`Work::reply`]; dropped when nobody waits for it any more.
    fn run(&self, work: Work) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// An invocation that is to be run.
pub struct Work {
    /// Which.
    pub key: Key,
    /// What was said of it.
    pub offer: Offer,
    /// When that was heard.
    pub offered_at: Instant,
    /// The head of the request.
    pub go: Go,
    /// The request's body.
    pub body: Pieces,
    /// Where the answer goes.
    pub reply: Reply,
}

/// A request's body as it comes.
pub struct Pieces {
    pub(super) session: Attached,
    pub(super) key: Key,
    pub(super) pieces: mpsc::UnboundedReceiver<(Bytes, bool)>,
    /// Whether they came in messages that are to be counted.
    pub(super) counts: bool,
}

impl Pieces {
    /// The next bytes; `true` with the last. `None`: no more will come.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(Bytes, bool)>> {
        let piece = ready!(self.pieces.poll_recv(context));
        if piece.is_some() && self.counts {
            let key = self.key;
            self.session.step(|machine, _| machine.taken(key));
        }
        Poll::Ready(piece)
    }
}

/// Where the answer of an invocation goes.
#[derive(Clone)]
pub struct Reply {
    pub(super) session: Attached,
    pub(super) key: Key,
    pub(super) room: Arc<Notify>,
}

impl Reply {
    /// The head of the answer. `false`: nobody waits for it any more.
    pub fn answer(&self, answer: &Answer) -> bool {
        let mut waits = false;
        self.session
            .step(|machine, now| waits = machine.answer(now, self.key, answer));
        waits
    }

    /// The same with the first bytes of its body; `is_last` where these are all.
    pub async fn answer_with(&self, answer: &Answer, bytes: Bytes, is_last: bool) -> bool {
        if bytes.len() > CHUNK {
            return self.answer(answer) && self.body(bytes, is_last).await;
        }
        let mut waits = false;
        self.session.step(|machine, now| {
            waits = machine.answer(now, self.key, answer)
                && machine.body(now, self.key, bytes, is_last);
        });
        waits
    }

    /// Bytes of the answer, once there is room for them; `is_last` with the last. `false`: nobody waits for it any more.
    pub async fn body(&self, bytes: Bytes, is_last: bool) -> bool {
        let mut rest = bytes;
        loop {
            let piece = rest.split_to(rest.len().min(CHUNK));
            while !self.session.lock().machine.has_room(self.key) {
                self.room.notified().await;
            }
            let (mut waits, ends) = (false, is_last && rest.is_empty());
            self.session
                .step(|machine, now| waits = machine.body(now, self.key, piece, ends));
            if !waits || rest.is_empty() {
                return waits;
            }
        }
    }

    /// It failed. `false`: nobody waits for it any more.
    pub fn fail(&self, failure: &Failure) -> bool {
        let mut waits = false;
        self.session
            .step(|machine, now| waits = machine.fail(now, self.key, failure));
        waits
    }

    /// Lines that it wrote.
    pub fn lines(&self, lines: &Lines) {
        self.session
            .step(|machine, _| machine.lines(self.key, lines));
    }
}
