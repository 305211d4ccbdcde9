//! WebSockets: the bytes between a caller and a handler, both ways, each side no faster than the other reads.
//! Frames are followed only to see a close, and never to cut one in half when the server has to close itself.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use model::{ErrorType, Failure, Limits, TimeSpan};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::{
    bodies::Silence,
    door::Line,
    frames::{self, Frames},
    gateway,
    invoker::Socket,
    journal::Invocation,
    reply,
};

/// What is read from one side before the other has taken it, in bytes.
const PIECE: usize = 16 << 10;

/// A socket on its way.
pub(crate) struct Passage {
    caller: OnUpgrade,
    worker: Socket,
    line: Arc<Line>,
    idle: TimeSpan,
}

impl Passage {
    /// Joins the caller's connection, once its answer is out, to the handler's.
    pub(crate) fn new(
        caller: OnUpgrade,
        worker: Socket,
        line: Arc<Line>,
        limits: &Limits,
    ) -> Passage {
        Passage {
            caller,
            worker,
            line,
            idle: limits.stream_idle,
        }
    }

    /// Carries bytes until either side ends, and ends the invocation. Dropped, the caller has left.
    pub(crate) async fn carry(self, mut invocation: Invocation) {
        let Ok(caller) = self.caller.await else {
            return;
        };
        let line = self.line;
        let mut caller = TokioIo::new(caller);
        let mut worker = self.worker;
        let mut wire = Wire::new(self.idle);
        let end = poll_fn(|context| {
            if line.is_cut() {
                wire.stop(gateway::cut_off());
            }
            wire.poll(context, &mut caller, &mut worker)
        })
        .await;
        match end {
            End::Closed => {
                worker.end();
                invocation.succeed();
            }
            End::Failed(failure) => {
                drop(worker);
                invocation.fail(&failure);
            }
            End::Lost => {
                invocation.fail(&worker.why_lost().await);
            }
            // Dropped, the invocation says that the caller left.
            End::Left => return,
        }
        // The caller may still be sending; without this his system might throw away our last words.
        line.leave_unread();
        let _ = caller.shutdown().await;
    }
}

/// How a socket ended.
#[derive(Debug, PartialEq)]
enum End {
    /// With a close, or both sides are done.
    Closed,
    /// With a close that speaks of a failure, the server's or the handler's.
    Failed(Failure),
    /// The worker broke off without a close.
    Lost,
    /// The caller broke off without a close.
    Left,
}

/// Both directions.
struct Wire {
    up: Way,
    down: Way,
    silence: Silence,
    /// Why the server closes.
    why: Option<Failure>,
}

/// What the end of a way means to the wire.
enum Flow {
    /// More may come.
    Open,
    /// The source has ended, and all of it is written.
    Over,
    /// The sink takes no more.
    Stuck,
}

impl Wire {
    fn new(idle: TimeSpan) -> Wire {
        Wire {
            up: Way::new(),
            down: Way::new(),
            silence: Silence::new(idle),
            why: None,
        }
    }

    /// The server closes: the caller is told as soon as the frame on its way is whole.
    fn stop(&mut self, why: Failure) {
        if self.why.is_none() {
            let words = &why.message;
            self.down.close = Some(frames::close(frames::GOING_AWAY, words));
            self.why = Some(why);
            self.down.close_between_frames();
        }
    }

    fn poll<C, W>(&mut self, context: &mut Context<'_>, caller: &mut C, worker: &mut W) -> Poll<End>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        W: AsyncRead + AsyncWrite + Unpin,
    {
        let before = self.up.passed + self.down.passed;
        let up = self.up.poll(context, caller, worker);
        let down = self.down.poll(context, worker, caller);
        if let Some(end) = self.end(&up, &down) {
            return Poll::Ready(end);
        }
        if matches!(up, Flow::Over) && !self.up.is_shut {
            // Half a close: the handler may still have something to say.
            self.up.is_shut = Pin::new(&mut *worker).poll_shutdown(context).is_ready();
        }
        if self.up.passed + self.down.passed > before {
            self.silence.broken();
        }
        match self.silence.poll_over(context) {
            Poll::Ready(most) if self.why.is_none() => {
                self.stop(reply::silent(most));
                self.silence = Silence::new(most);
                self.poll(context, caller, worker)
            }
            // It was told to close, and not even that passes.
            Poll::Ready(_) => Poll::Ready(self.failed()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What the ends of the two ways mean together.
    fn end(&self, up: &Flow, down: &Flow) -> Option<End> {
        let (asked, answered) = (self.up.frames.closed(), self.down.frames.closed());
        match (up, down) {
            (_, Flow::Over) if self.why.is_some() => Some(self.failed()),
            (_, Flow::Over) if answered == Some(frames::HANDLER_FAILED) => {
                let message = "the handler failed and closed the WebSocket with 1011";
                let failure = Failure::new(ErrorType::HandlerError, message);
                Some(End::Failed(
                    failure.hint("`bungee logs` shows what it threw"),
                ))
            }
            (_, Flow::Over) if asked.is_some() || answered.is_some() => Some(End::Closed),
            (Flow::Over, Flow::Over) | (_, Flow::Stuck) => Some(match answered.or(asked) {
                Some(_) => End::Closed,
                None => End::Left,
            }),
            (_, Flow::Over) => Some(End::Lost),
            // The worker's end of reading follows at once with its end of writing, which says more.
            (Flow::Open | Flow::Over | Flow::Stuck, Flow::Open) => None,
        }
    }

    fn failed(&self) -> End {
        self.why.clone().map_or(End::Left, End::Failed)
    }
}

/// One direction.
struct Way {
    piece: Box<[u8]>,
    /// Where what is not written yet begins and ends in the piece.
    start: usize,
    end: usize,
    /// Where the last whole frame ends in it, if one does.
    boundary: Option<usize>,
    frames: Frames,
    /// Bytes written.
    passed: u64,
    /// The source has ended.
    is_over: bool,
    is_shut: bool,
    /// What the server says at the next boundary of frames, before it ends.
    close: Option<Vec<u8>>,
}

impl Way {
    fn new() -> Way {
        Way {
            piece: vec![0; PIECE].into(),
            start: 0,
            end: 0,
            boundary: None,
            frames: Frames::default(),
            passed: 0,
            is_over: false,
            is_shut: false,
            close: None,
        }
    }

    /// Moves bytes as far as they go.
    fn poll<R, W>(&mut self, context: &mut Context<'_>, from: &mut R, to: &mut W) -> Flow
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.start < self.end {
                match Pin::new(&mut *to).poll_write(context, &self.piece[self.start..self.end]) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        self.start += count;
                        self.passed += count as u64;
                    }
                    Poll::Ready(_) => return Flow::Stuck,
                    Poll::Pending => return Flow::Open,
                }
            } else if self.is_over {
                return Flow::Over;
            } else {
                match self.poll_read(context, from) {
                    Poll::Ready(Ok(())) => {}
                    // A source that breaks has ended; whether it should have, its frames say.
                    Poll::Ready(Err(_)) => self.is_over = true,
                    Poll::Pending => return Flow::Open,
                }
            }
        }
    }

    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.piece);
        std::task::ready!(Pin::new(from).poll_read(context, &mut buffer))?;
        (self.start, self.end) = (0, buffer.filled().len());
        self.is_over = self.end == 0;
        let begin = self.frames.is_between().then_some(0);
        self.boundary = self.frames.see(&self.piece[..self.end]).or(begin);
        self.close_between_frames();
        Poll::Ready(Ok(()))
    }

    /// Puts the server's close behind the last whole frame, if nothing of the next has been written.
    fn close_between_frames(&mut self) {
        if self.close.is_none() {
            return;
        }
        let whole = match self.boundary {
            _ if self.frames.is_between() => self.end,
            Some(boundary) if self.start <= boundary => boundary,
            _ => return,
        };
        let close = self.close.take().unwrap_or_default();
        let mut last = self.piece[self.start..whole].to_vec();
        // Who has said goodbye does not say it twice.
        if self.frames.closed().is_none() {
            last.extend(close);
        }
        (self.start, self.end) = (0, last.len());
        self.piece = last.into();
        self.is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    /// A wire between two streams; the test holds the other end of each.
    fn wire(idle: u64) -> (Wire, [DuplexStream; 2], [DuplexStream; 2]) {
        let (caller, near_caller) = duplex(1 << 16);
        let (worker, near_worker) = duplex(1 << 16);
        let wire = Wire::new(TimeSpan(idle));
        (wire, [near_caller, near_worker], [caller, worker])
    }

    async fn carry(wire: &mut Wire, [caller, worker]: &mut [DuplexStream; 2]) -> End {
        poll_fn(|context| wire.poll(context, caller, worker)).await
    }

    /// Carries what can be carried now.
    async fn carry_on(wire: &mut Wire, near: &mut [DuplexStream; 2]) {
        tokio::select! {
            biased;
            end = carry(wire, near) => panic!("it ended: {end:?}"),
            () = tokio::task::yield_now() => {}
        }
    }

    async fn all(stream: &mut DuplexStream) -> Vec<u8> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn the_server_s_close_waits_for_the_frame_on_its_way() {
        let (mut wire, mut near, [mut caller, mut worker]) = wire(60_000);
        worker.write_all(&[0x82, 4, 1, 2]).await.unwrap();
        carry_on(&mut wire, &mut near).await;
        wire.stop(gateway::cut_off());
        carry_on(&mut wire, &mut near).await;
        worker.write_all(&[3, 4, 0x82, 3, 9]).await.unwrap();
        let End::Failed(failure) = carry(&mut wire, &mut near).await else {
            panic!("no failure");
        };
        assert_eq!(failure.error_type, ErrorType::ShuttingDown);
        drop(near);
        let heard = all(&mut caller).await;
        assert_eq!(heard[..6], [0x82, 4, 1, 2, 3, 4]);
        assert_eq!(heard[6..], frames::close(1001, &failure.message));
    }

    #[tokio::test]
    async fn what_stands_unwritten_is_cut_at_a_frame() {
        let (mut wire, mut near, [mut caller, mut worker]) = wire(60_000);
        wire.stop(gateway::cut_off());
        assert!(matches!(carry(&mut wire, &mut near).await, End::Failed(_)));
        drop(near);
        worker.write_all(&[0x82, 1, 1]).await.unwrap_err();
        assert_eq!(
            all(&mut caller).await[..2],
            frames::close(1001, &gateway::cut_off().message)[..2]
        );
    }

    #[tokio::test]
    async fn half_a_close_leaves_the_other_half_open() {
        let (mut wire, mut near, [mut caller, mut worker]) = wire(60_000);
        caller.write_all(&[0x81, 0]).await.unwrap();
        caller.shutdown().await.unwrap();
        carry_on(&mut wire, &mut near).await;
        assert_eq!(all(&mut worker).await, [0x81, 0]);
        worker.write_all(&[0x82, 2, 5, 6]).await.unwrap();
        carry_on(&mut wire, &mut near).await;
        drop(worker);
        assert_eq!(carry(&mut wire, &mut near).await, End::Left);
        drop(near);
        assert_eq!(all(&mut caller).await, [0x82, 2, 5, 6]);
    }

    #[tokio::test]
    async fn a_socket_without_a_byte_is_closed_after_its_time() {
        let (mut wire, mut near, [mut caller, _worker]) = wire(20);
        let End::Failed(failure) = carry(&mut wire, &mut near).await else {
            panic!("no failure");
        };
        assert_eq!(failure.error_type, ErrorType::FunctionTimeout);
        assert!(failure.message.contains("stream_idle"), "{failure}");
        drop(near);
        assert_eq!(
            all(&mut caller).await,
            frames::close(1001, &failure.message)
        );
    }

    #[tokio::test]
    async fn the_closes_tell_how_it_ended() {
        let bye = |code| frames::close(code, "");
        for (asked, answered, end) in [
            (None, Some(1000), "Closed"),
            (Some(1000), None, "Closed"),
            (Some(1000), Some(1000), "Closed"),
            (None, Some(1011), "HandlerError"),
            (None, None, "Lost"),
        ] {
            let (mut wire, mut near, [mut caller, mut worker]) = wire(60_000);
            caller
                .write_all(&asked.map(bye).unwrap_or_default())
                .await
                .unwrap();
            carry_on(&mut wire, &mut near).await;
            worker
                .write_all(&answered.map(bye).unwrap_or_default())
                .await
                .unwrap();
            drop(worker);
            let ended = carry(&mut wire, &mut near).await;
            assert!(
                format!("{ended:?}").contains(end),
                "{asked:?} {answered:?}: {ended:?}"
            );
        }
    }
}
