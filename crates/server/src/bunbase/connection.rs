//! One connection that speaks frames: reads, runs several requests at once, and answers each as it finishes.
//! All of it in one task: whatever is there is read in one go, and what has finished meanwhile leaves in one go.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures_util::{Stream, stream::FuturesUnordered};
use model::{ErrorType, Failure};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_util::io::poll_read_buf;

use super::{
    command::{Caller, Command},
    frame::{self, Asked, Next},
};
use crate::{app::App, auth::Peer, bodies::Silence, door, door::Line, gateway};

/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// Answers that wait to be written; while there are more bytes of them, nothing else is finished or read.
const UNWRITTEN_MAX: usize = 1 << 20;

/// A buffer that grew beyond this for a large frame is given back after it.
const KEPT_MAX: usize = 1 << 20;

/// How long what a refused client still sends is thrown away, so that it can read why.
const LINGER: Duration = Duration::from_secs(3);

/// An answer on its way: whose, and the frame.
type Answer = Pin<Box<dyn Future<Output = (u64, Vec<u8>)> + Send>>;

/// Serves a connection until it ends, or is told to.
pub(crate) async fn serve<S>(app: Arc<App>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let lines = app.lines.clone();
    door::keep(&lines, |line| async move {
        let mut connection = Connection {
            silence: Silence::new(app.limits.body_idle),
            app,
            peer,
            line,
            stream,
            came: BytesMut::new(),
            running: FuturesUnordered::new(),
            unanswered: Vec::new(),
            unwritten: BytesMut::new(),
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
    running: FuturesUnordered<Answer>,
    /// The ids of what runs.
    unanswered: Vec<u64>,
    unwritten: BytesMut,
    /// How long a frame has been half there.
    silence: Silence,
    /// Nothing is read any more; what is to be said is written, and that is the end.
    is_over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Ready once there is nothing left to do, or the client is gone: what it had running hears so.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.line.is_cut() {
                self.cut_off();
            }
            let Ok(has_read) = self.poll_read(context) else {
                return Poll::Ready(());
            };
            self.take_frames();
            let has_answered = self.poll_answers(context);
            let Ok(has_written) = self.poll_write(context) else {
                return Poll::Ready(());
            };
            let is_idle = self.unanswered.is_empty() && self.unwritten.is_empty();
            if is_idle && (self.is_over || (self.line.is_told_to_end() && !has_read)) {
                return Poll::Ready(());
            }
            if !(has_read || has_answered || has_written) {
                return Poll::Pending;
            }
        }
    }

    fn may_read(&self) -> bool {
        let most = self.app.limits.frames_in_flight as usize;
        !self.is_over && self.unanswered.len() < most && self.unwritten.len() < UNWRITTEN_MAX
    }

    /// Whether something came; an error, if nothing ever will.
    fn poll_read(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if !self.may_read() {
            // Nobody listens meanwhile, so nobody is silent.
            self.silence.broken();
            return Ok(false);
        }
        self.came.reserve(READ);
        match poll_read_buf(Pin::new(&mut self.stream), context, &mut self.came) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
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

    /// Begins what has come, as far as there is room.
    fn take_frames(&mut self) {
        while self.may_read() {
            match frame::next(&mut self.came) {
                Next::Frame(asked) => self.begin(&asked),
                Next::Odd(id, failure) => self.refuse(id, &failure),
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
        self.is_over = true;
    }

    /// Takes what has finished, as far as there is room for it.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_answered = false;
        while self.unwritten.len() < UNWRITTEN_MAX
            && let Poll::Ready(Some((id, answer))) = Pin::new(&mut self.running).poll_next(context)
        {
            has_answered = true;
            if let Some(at) = self.unanswered.iter().position(|open| *open == id) {
                self.unanswered.swap_remove(at);
            }
            self.unwritten.extend_from_slice(&answer);
        }
        has_answered
    }

    /// Whether something was written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut has_written = false;
        while !self.unwritten.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(context, &self.unwritten);
            match self.line.note_write(written, self.app.lines.tick()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.unwritten.advance(count);
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

/// Closes our side, and throws away for a while what still comes: closing at once could take the last answer along.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let ending = async {
        let _closed = stream.shutdown().await;
        let mut thrown = vec![0; 8 << 10];
        while stream.read(&mut thrown).await.is_ok_and(|count| count > 0) {}
    };
    let _in_time = timeout(LINGER, ending).await;
}
