//! One connection that speaks frames: reads, runs several requests at once, and answers each as it finishes.
//! All of it in one task: whatever is there is read in one go, and what has finished meanwhile leaves in one go.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures_util::{Stream, stream::FuturesUnordered};
use model::{ErrorType, Failure, TimeSpan};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    time::{Interval, interval, timeout},
};
use tokio_util::{io::poll_read_buf, sync::PollSemaphore};

use super::{
    command::{Caller, Command},
    frame::{self, Asked, Next},
    room::Unread,
};
use crate::{app::App, auth::Peer, bodies::Silence, door, door::Line, gateway};

/// Bytes that are read at once; a frame that is larger takes of the room that all connections share.
const READ: usize = 64 << 10;

/// Answers on their way out; while there are more bytes of them, nothing else is read, and what is finished waits.
const UNWRITTEN_MAX: usize = 1 << 20;

/// A buffer that grew beyond this for a large frame is given back after it.
const KEPT_MAX: usize = 1 << 20;

/// How long what a refused client still sends is thrown away, so that it can read why.
const LINGER: Duration = Duration::from_secs(3);

/// Where there is no room for more answers, a client that takes none for so long is cut off: what it asked for holds workers.
const DEAF_MAX: TimeSpan = TimeSpan::seconds(1);

/// How often it is looked whether a client that sends no more is still there.
const LOOK: Duration = Duration::from_millis(100);

/// An answer on its way: whose, and the frame.
type Answer = Pin<Box<dyn Future<Output = (u64, Vec<u8>)> + Send>>;

/// Serves a connection until it ends, or is told to.
pub(crate) async fn serve<S>(app: Arc<App>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + AsFd + Send + Unpin,
{
    let lines = app.lines.clone();
    door::keep(&lines, |line| async move {
        let mut connection = Connection {
            silence: Silence::new(app.limits.body_idle),
            deaf: Silence::new(DEAF_MAX),
            room: app.frames.line(),
            app,
            peer,
            line,
            stream,
            came: BytesMut::new(),
            held: None,
            running: FuturesUnordered::new(),
            unanswered: Vec::new(),
            unwritten: BytesMut::new(),
            waiting: VecDeque::new(),
            looks: None,
            is_over: false,
        };
        poll_fn(|context| connection.poll(context)).await;
        if connection.is_over {
            linger(connection.stream).await;
        }
    })
    .await;
}

struct Connection<S> {
    app: Arc<App>,
    peer: Peer,
    line: Arc<Line>,
    stream: S,
    /// What was read and is no whole frame yet.
    came: BytesMut,
    /// The line for room, and the room of the large frame that comes.
    room: PollSemaphore,
    held: Option<OwnedSemaphorePermit>,
    running: FuturesUnordered<Answer>,
    /// The ids of what runs.
    unanswered: Vec<u64>,
    unwritten: BytesMut,
    /// Answers behind those.
    waiting: VecDeque<Unread>,
    /// How long a frame has been half there.
    silence: Silence,
    /// How long nothing was read while there was no room for more answers.
    deaf: Silence,
    /// Set once the client sends no more: when to look whether it is still there.
    looks: Option<Interval>,
    /// Nothing is read any more; what is to be said is written, and that is the end.
    is_over: bool,
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> Connection<S> {
    /// Ready once there is nothing left to do, or the client is gone: what it had running hears so.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.line.is_cut() {
                self.cut_off();
            }
            let Ok([has_read, has_answered, has_written]) = self.poll_all(context) else {
                return Poll::Ready(());
            };
            if has_read || has_answered || has_written {
                continue;
            }
            let is_idle = self.unanswered.is_empty() && self.unwritten.is_empty();
            let is_last = self.is_over || self.looks.is_some() || self.line.is_told_to_end();
            return match is_idle && is_last {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
    }

    /// Whether something came, was answered, was written.
    fn poll_all(&mut self, context: &mut Context<'_>) -> io::Result<[bool; 3]> {
        self.look(context)?;
        let has_read = self.poll_read(context)?;
        self.take_frames();
        let has_answered = self.poll_answers(context)?;
        let has_written = self.poll_write(context)?;
        Ok([has_read, has_answered, has_written])
    }

    fn may_begin(&self) -> bool {
        let most = self.app.limits.frames_in_flight as usize;
        !self.is_over && self.unanswered.len() < most && self.unwritten.len() < UNWRITTEN_MAX
    }

    /// An error, if the client that sends no more is gone.
    fn look(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while let Some(looks) = &mut self.looks
            && looks.poll_tick(context).is_ready()
        {
            if is_gone(&self.stream) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        Ok(())
    }

    /// Whether something came, or the end of it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if self.looks.is_some() || !self.may_begin() || !self.poll_room(context) {
            // Nobody listens meanwhile, so nobody is silent.
            self.silence.broken();
            return Ok(false);
        }
        self.came.reserve(READ);
        match poll_read_buf(Pin::new(&mut self.stream), context, &mut self.came) {
            // What was asked is answered, unless the client is gone altogether.
            Poll::Ready(Ok(0)) => {
                self.looks = Some(interval(LOOK));
                Ok(true)
            }
            Poll::Ready(Ok(_)) => {
                self.silence.broken();
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => {
                if self.came.is_empty() {
                    self.silence.broken();
                } else if let Poll::Ready(most) = self.silence.poll_over(context) {
                    let message = format!(
                        "a frame was half there, and then silent for {most}, the limit `body_idle`"
                    );
                    self.end_with(0, &Failure::new(ErrorType::BadRequest, message));
                    return Ok(true);
                }
                Ok(false)
            }
        }
    }

    /// Takes room for the frame that has begun, if it is a large one; false while others have it. All at once: two that had
    /// half of it each would wait for ever.
    fn poll_room(&mut self, context: &mut Context<'_>) -> bool {
        let size = frame::announced(&self.came).filter(|size| *size > READ);
        let Some(size) = size.filter(|_| self.held.is_none()) else {
            return true;
        };
        let units = self.app.frames.units(size);
        let Poll::Ready(held) = self.room.poll_acquire_many(context, units) else {
            return false;
        };
        self.held = held;
        self.came.reserve(size.saturating_sub(self.came.len()));
        true
    }

    /// Begins what has come, as far as there is room.
    fn take_frames(&mut self) {
        while self.may_begin() {
            match frame::next(&mut self.came) {
                Next::Frame(asked) => self.begin(&asked),
                Next::Odd(id, failure) => {
                    self.held = None;
                    self.refuse(id, &failure);
                }
                Next::Broken(id, failure) => self.end_with(id, &failure),
                Next::More => break,
            }
        }
        if self.came.is_empty() && self.came.capacity() > KEPT_MAX {
            self.came = BytesMut::new();
        }
    }

    fn begin(&mut self, asked: &Asked) {
        let id = asked.id;
        let held = self.held.take();
        if self.line.is_told_to_end() {
            let failure = Failure::new(ErrorType::ShuttingDown, "the server is going down");
            return self.refuse(id, &failure);
        }
        let command = match Command::read(asked) {
            Ok(command) => command,
            Err(failure) => return self.refuse(id, &failure),
        };
        let app = self.app.clone();
        let caller = Caller::of(&app, self.peer, asked);
        self.unanswered.push(id);
        self.running.push(Box::pin(async move {
            let answer = command.run(&app, caller, id).await;
            drop(held);
            (id, answer)
        }));
    }

    fn refuse(&mut self, id: u64, failure: &Failure) {
        self.unwritten
            .extend_from_slice(&frame::refusal(id, failure));
    }

    /// Says why, lets what runs be answered, and ends.
    fn end_with(&mut self, id: u64, failure: &Failure) {
        self.refuse(id, failure);
        self.came.clear();
        self.held = None;
        self.is_over = true;
    }

    /// Takes what has finished, which frees what worked on it; an error, if there is no room for it and nobody reads.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut has_answered = false;
        while self.unwritten.len() < UNWRITTEN_MAX || self.app.frames.has_place() {
            let next = Pin::new(&mut self.running).poll_next(context);
            let Poll::Ready(Some((id, answer))) = next else {
                self.deaf.broken();
                return Ok(has_answered);
            };
            has_answered = true;
            if let Some(at) = self.unanswered.iter().position(|open| *open == id) {
                self.unanswered.swap_remove(at);
            }
            if self.unwritten.len() < UNWRITTEN_MAX {
                self.unwritten.extend_from_slice(&answer);
            } else {
                self.waiting.push_back(self.app.frames.keep(answer));
            }
        }
        match !self.running.is_empty() && self.deaf.poll_over(context).is_ready() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(has_answered),
        }
    }

    /// Whether something was written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut has_written = false;
        loop {
            while self.unwritten.len() < UNWRITTEN_MAX
                && let Some(next) = self.waiting.pop_front()
            {
                self.unwritten.extend_from_slice(&next.frame);
            }
            if self.unwritten.is_empty() {
                break;
            }
            let written = Pin::new(&mut self.stream).poll_write(context, &self.unwritten);
            match self.line.note_write(written, self.app.lines.tick()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.unwritten.advance(count);
                    self.deaf.broken();
                    has_written = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if self.unwritten.is_empty() && self.unwritten.capacity() > KEPT_MAX {
            self.unwritten = BytesMut::new();
        }
        Ok(has_written)
    }

    /// The server's grace is over: what runs is dropped, and whoever asked is told.
    fn cut_off(&mut self) {
        self.running = FuturesUnordered::new();
        for id in std::mem::take(&mut self.unanswered) {
            self.refuse(id, &gateway::cut_off());
        }
        self.is_over = true;
    }
}

/// Whether a client has closed both ways. Of one that closed its own alone, and of one that left over TCP, a write will tell.
fn is_gone(stream: &impl AsFd) -> bool {
    let mut looked = [PollFd::new(stream, PollFlags::empty())];
    let told = rustix::event::poll(&mut looked, Some(&Timespec::default()));
    told.is_ok_and(|count| count > 0)
}

/// Closes our side, and throws away for a while what still comes: closing at once could take the last answer along.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let ending = async {
        let _closed = stream.shutdown().await;
        let mut thrown = vec![0; 8 << 10];
        while stream.read(&mut thrown).await.is_ok_and(|count| count > 0) {}
    };
    let _in_time = timeout(LINGER, ending).await;
}
