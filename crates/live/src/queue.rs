//! Frames that wait for one reader, bounded by their bytes.
//! Writers never wait: a reader that falls too far behind is cut off, and whoever wrote is told.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::mpsc::{
    UnboundedReceiver, UnboundedSender, error::TryRecvError, unbounded_channel,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{Frame, HEADER, PAYLOAD_MAX};

/// Bytes that wait in all queues of one channel, and what a queue that is no trouble may hold when these are too many.
#[derive(Debug, Clone)]
pub(crate) struct Total {
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// What one queue may hold even where all together hold too much: a frame of the largest size.
const SPARED: usize = HEADER + PAYLOAD_MAX;

impl Total {
    /// Nothing waits yet; so many bytes may.
    pub fn new(limit: usize) -> Total {
        let waiting = Arc::default();
        Total { waiting, limit }
    }
}

/// The writing side.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    /// `None`: nothing follows.
    items: UnboundedSender<Option<Frame>>,
    state: Arc<State>,
}

/// The reading side: what comes in on a connection, in order.
#[derive(Debug)]
pub struct Inbox {
    items: UnboundedReceiver<Option<Frame>>,
    state: Arc<State>,
    /// What fills it, if that is a task of its own: it ends when nobody listens.
    _filler: Option<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct State {
    /// Bytes that wait.
    waiting: AtomicUsize,
    limit: usize,
    total: Total,
    /// Nothing more is added.
    finished: CancellationToken,
    /// What waits is not read any more either; the same for whoever waits for that.
    is_cut: AtomicBool,
    cut: CancellationToken,
}

/// Why a frame was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The reader fell behind by more than the limit, and has been cut off.
    TooSlow,
    /// Nobody reads any more.
    Closed,
}

/// An empty queue for so many bytes, heads counted.
pub(crate) fn queue(limit: usize) -> (Feed, Inbox) {
    queue_of(limit, Total::new(usize::MAX))
}

/// The same, as one of several that may not hold too much together.
pub(crate) fn queue_of(limit: usize, total: Total) -> (Feed, Inbox) {
    let (sender, receiver) = unbounded_channel();
    let state = Arc::new(State {
        waiting: AtomicUsize::new(0),
        limit,
        total,
        finished: CancellationToken::new(),
        is_cut: AtomicBool::new(false),
        cut: CancellationToken::new(),
    });
    let feed = Feed {
        items: sender,
        state: Arc::clone(&state),
    };
    let inbox = Inbox {
        items: receiver,
        state,
        _filler: None,
    };
    (feed, inbox)
}

impl Drop for State {
    fn drop(&mut self) {
        // What was never read waits no longer.
        let left = self.waiting.load(Ordering::Relaxed);
        self.total.waiting.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Feed {
    /// Adds a frame.
    pub fn push(&self, frame: Frame) -> Result<(), Full> {
        let length = HEADER + frame.body.len();
        let before = self.state.waiting.fetch_add(length, Ordering::Relaxed);
        let total = &self.state.total;
        let together = total.waiting.fetch_add(length, Ordering::Relaxed) + length;
        // Where all hold too much, whoever reads slowly is cut off, and nobody else.
        let is_too_much = together > total.limit && before + length > SPARED;
        if before + length > self.state.limit || is_too_much {
            self.cut();
            return Err(Full::TooSlow);
        }
        self.items.send(Some(frame)).map_err(|_| Full::Closed)
    }

    /// Nothing follows what is there.
    pub fn finish(&self) {
        self.state.finished.cancel();
        // A reader that is gone needs to hear nothing.
        let _ = self.items.send(None);
    }

    /// Ends it now; what waits is lost.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::Release);
        self.state.cut.cancel();
        self.finish();
    }
}

impl Inbox {
    /// The next frame; none: the connection has ended.
    pub async fn recv(&mut self) -> Option<Frame> {
        let item = self.items.recv().await.flatten();
        self.took(item)
    }

    /// The next frame if one is there.
    pub fn try_recv(&mut self) -> Option<Frame> {
        match self.items.try_recv() {
            Ok(None) => {
                // The end is to be found again by whoever waits for it.
                self.items.close();
                None
            }
            Ok(item) => self.took(item),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    fn took(&mut self, item: Option<Frame>) -> Option<Frame> {
        let Some(frame) = item else {
            self.items.close();
            return None;
        };
        let length = HEADER + frame.body.len();
        self.state.waiting.fetch_sub(length, Ordering::Relaxed);
        let total = &self.state.total.waiting;
        total.fetch_sub(length, Ordering::Relaxed);
        let is_cut = self.state.is_cut.load(Ordering::Acquire);
        (!is_cut).then_some(frame)
    }

    /// The same, with the task that fills it.
    pub(crate) fn kept_by(mut self, filler: AbortOnDropHandle<()>) -> Inbox {
        self._filler = Some(filler);
        self
    }

    /// Ends when nothing more is added.
    pub(crate) fn finished(&self) -> CancellationToken {
        self.state.finished.clone()
    }

    /// Ends when what waits is not to be read any more.
    pub(crate) fn is_cut(&self) -> CancellationToken {
        self.state.cut.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn frame(length: usize) -> Frame {
        Frame::control(Kind::Goodbye, vec![b'x'; length])
    }

    #[tokio::test]
    async fn what_is_added_comes_out_in_order_and_then_the_end() {
        let (feed, mut inbox) = queue(1000);
        for length in 0..5 {
            feed.push(frame(length)).unwrap();
        }
        feed.finish();
        for length in 0..5 {
            assert_eq!(inbox.recv().await, Some(frame(length)));
        }
        assert_eq!(inbox.try_recv(), None);
        assert_eq!(inbox.recv().await, None);
        assert_eq!(feed.push(frame(1)), Err(Full::Closed));
    }

    #[tokio::test]
    async fn a_reader_that_falls_too_far_behind_is_cut_off() {
        let (feed, mut inbox) = queue(10 * HEADER);
        let cut = inbox.is_cut();
        for _ in 0..1000 {
            feed.push(frame(60)).unwrap();
            inbox.recv().await.unwrap();
        }
        for _ in 0..4 {
            feed.push(frame(60)).unwrap();
        }
        assert_eq!(feed.push(frame(60)), Err(Full::TooSlow));
        assert!(cut.is_cancelled());
        assert_eq!(inbox.recv().await, None);
    }
}
