//! Client connections: how long each may stay silent, how it is told to end, and what it hears when its head is refused.
//! Knows bytes and connections; what a request means is the gateway's business.

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use model::{ErrorType, Failure, Limits, TimeSpan};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{MissedTickBehavior, Sleep, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{errors, reply::ReplyBody};

/// A kept-alive connection without a byte of a next request is closed after this many seconds, as nginx does.
const IDLE_MAX: u32 = 75;

/// How long what a refused client still sends is read and thrown away, so that it can read its answer.
const LINGER: Duration = Duration::from_secs(3);

/// How often silent connections are looked for; also the unit of [`Lines::tick`].
const SWEEP: Duration = Duration::from_secs(1);

/// hyper closes a connection whose head needs more headers than this; it is hyper's own default.
const HEADERS_MAX: u32 = 100;

/// What a connection was told, beside 0, which is nothing.
const DRAIN: u8 = 1;
const CUT: u8 = 2;
const SEVER: u8 = 3;

/// What is known of one connection. Shared by its task, its requests and the sweeper.
#[derive(Default)]
pub(crate) struct Line {
    told: AtomicU8,
    waker: AtomicWaker,
    /// 0 while a request is worked on; else twice the tick since which we wait, plus 1 if no byte of a head has come.
    waiting: AtomicU32,
    /// The tick since which the client takes no byte of its answer; 0 if it takes them.
    stalled: AtomicU32,
    /// A request's body was not read to its end.
    is_unread: AtomicBool,
    /// What passes is no HTTP any more.
    is_switched: AtomicBool,
    /// What the connection does once its last answer is out, if it switches protocols.
    next: Mutex<Option<Next>>,
}

/// What follows HTTP on a connection.
type Next = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Line {
    /// A whole head has arrived.
    pub(crate) fn working(&self) {
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// The answer is complete; `tick` is now.
    pub(crate) fn waiting(&self, tick: u32) {
        self.waiting.store((tick << 1) | 1, Ordering::Relaxed);
    }

    /// What is in flight is to end now, and may say so.
    pub(crate) fn is_cut(&self) -> bool {
        self.told.load(Ordering::Relaxed) >= CUT
    }

    /// No more work is taken: the connection ends after the answers it owes.
    pub(crate) fn is_told_to_end(&self) -> bool {
        self.told.load(Ordering::Relaxed) >= DRAIN
    }

    /// Notes whether the client takes what is written.
    pub(crate) fn note_write<T>(&self, written: Poll<T>, tick: u32) -> Poll<T> {
        let was_stalled = self.stalled.load(Ordering::Relaxed) != 0;
        if written.is_pending() != was_stalled {
            let since = if was_stalled { 0 } else { tick };
            self.stalled.store(since, Ordering::Relaxed);
        }
        written
    }

    /// Whether the client has been silent for too long, or has not read for too long.
    fn is_overdue(&self, now: u32, header_read: u32, body_idle: u32) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let limit = if waiting & 1 == 1 {
            IDLE_MAX
        } else {
            header_read
        };
        let stalled = self.stalled.load(Ordering::Relaxed);
        (waiting != 0 && now.saturating_sub(waiting >> 1) > limit)
            || (stalled != 0 && now.saturating_sub(stalled) > body_idle)
    }

    /// A request's body will not be read to its end.
    pub(crate) fn leave_unread(&self) {
        self.is_unread.store(true, Ordering::Relaxed);
    }

    /// After the answer that is being written, the connection does this and then ends.
    pub(crate) fn switch_to(&self, next: impl Future<Output = ()> + Send + 'static) {
        let mut place = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(Box::pin(next));
    }

    fn take_next(&self) -> Option<Next> {
        let mut place = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        place.take()
    }

    fn tell(&self, what: u8) {
        self.told.fetch_max(what, Ordering::Release);
        self.waker.wake();
    }
}

/// All open connections.
pub(crate) struct Lines {
    open: Mutex<HashMap<u64, Arc<Line>>>,
    next: AtomicU64,
    /// Seconds since the start, at least 1.
    tick: AtomicU32,
    /// Limits of silence, in seconds.
    header_read: u32,
    body_idle: u32,
    is_draining: AtomicBool,
    refusals: Refusals,
}

impl Lines {
    pub(crate) fn new(limits: &Limits) -> Lines {
        let seconds =
            |span: TimeSpan| u32::try_from(span.0.div_ceil(1000).max(1)).unwrap_or(u32::MAX / 4);
        Lines {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            tick: AtomicU32::new(1),
            header_read: seconds(limits.header_read),
            body_idle: seconds(limits.body_idle),
            is_draining: AtomicBool::new(false),
            refusals: Refusals::new(limits),
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        let open = self.open.lock();
        open.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Now, in seconds since the start.
    pub(crate) fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Asks every connection to end after the answers it owes.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
        self.each(|line| line.tell(DRAIN));
    }

    /// Ends what is in flight on every connection; who still waits for a head is told.
    pub(crate) fn cut(&self) {
        self.each(|line| line.tell(CUT));
    }

    /// Ends every connection at once.
    pub(crate) fn sever(&self) {
        self.each(|line| line.tell(SEVER));
    }

    /// Ends connections that have been silent for too long. Runs until `stop`.
    pub(crate) async fn sweep(&self, stop: CancellationToken) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
            self.each(|line| {
                if line.is_overdue(now, self.header_read, self.body_idle) {
                    line.tell(SEVER);
                }
            });
        }
    }

    fn each(&self, act: impl Fn(&Line)) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().for_each(|line| act(line));
    }

    fn enter(self: &Arc<Lines>) -> Entered {
        let line = Arc::new(Line::default());
        line.waiting.store(self.tick() << 1, Ordering::Relaxed);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, line.clone());
        drop(open);
        if self.is_draining.load(Ordering::SeqCst) {
            line.tell(DRAIN);
        }
        Entered {
            lines: self.clone(),
            number,
            line,
        }
    }
}

/// A connection's place in [`Lines`], given up on drop.
struct Entered {
    lines: Arc<Lines>,
    number: u64,
    line: Arc<Line>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let open = self.lines.open.lock();
        open.unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
        // What never came to be holds the line, and the line holds it.
        drop(self.line.take_next());
    }
}

/// Serves one connection until it ends, or is told to.
pub(crate) async fn serve<S, H>(
    stream: S,
    lines: &Arc<Lines>,
    limits: &Limits,
    handler: impl FnOnce(Arc<Line>) -> H,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Service<Request<Incoming>, Response = Response<ReplyBody>>,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let entered = lines.enter();
    let line = &entered.line;
    let door = Door {
        stream,
        line: line.clone(),
        lines: lines.clone(),
        refusal: None,
        lingering: None,
    };
    let header_block = usize::try_from(limits.header_block.0).unwrap_or(usize::MAX);
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_header_size(header_block)
        // Room for a head, and for bodies to move in larger pieces than a head may be.
        .max_buf_size(header_block.max(256 << 10));
    let connection = builder.serve_connection(TokioIo::new(door), handler(line.clone()));
    let connection = connection.with_upgrades();
    // A client that broke off, or sent what is no HTTP, is no news: its invocation's record says so.
    line.follow(connection, |connection, told| {
        // Cut requests learn it from the line when they are polled next.
        if told != 0 {
            connection.graceful_shutdown();
        }
    })
    .await;
    if let Some(next) = line.take_next() {
        line.is_switched.store(true, Ordering::Relaxed);
        line.working();
        line.follow(next, |_, _| {}).await;
    }
}

/// Keeps a connection that speaks no HTTP until its work is done, or it is severed. The work is polled again whenever its
/// line is told something.
pub(crate) async fn keep<W: Future>(lines: &Arc<Lines>, work: impl FnOnce(Arc<Line>) -> W) {
    let entered = lines.enter();
    let line = &entered.line;
    line.is_switched.store(true, Ordering::Relaxed);
    line.working();
    line.follow(work(line.clone()), |_, _| {}).await;
}

impl Line {
    /// Does the work until it is done, or the connection is severed; `hear` learns what it is told meanwhile.
    async fn follow<F: Future>(&self, work: F, hear: impl Fn(Pin<&mut F>, u8)) {
        let mut work = pin!(work);
        let mut heard = u8::MAX;
        poll_fn(|context| {
            // The task's waker stays the same, so it is registered anew only after it was used.
            loop {
                let told = self.told.load(Ordering::Acquire);
                if told == heard {
                    break;
                }
                heard = told;
                self.waker.register(context.waker());
                if told == SEVER {
                    return Poll::Ready(());
                }
                hear(work.as_mut(), told);
            }
            work.as_mut().poll(context).map(drop)
        })
        .await;
    }
}

/// The stream of a connection: notes when a head begins, puts words into hyper's bare refusals, and lingers.
struct Door<S> {
    stream: S,
    line: Arc<Line>,
    lines: Arc<Lines>,
    /// What is written in place of hyper's bare refusal, as far as it is not written yet.
    refusal: Option<Bytes>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Door<S> {
    /// Writes our own refusal in place of hyper's; `length` bytes of hyper's are then done.
    fn poll_refuse(&mut self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        while let Some(rest) = self.refusal.as_mut().filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let _ = rest.split_to(written);
        }
        self.refusal = None;
        self.line.leave_unread();
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Door<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before && self.line.waiting.load(Ordering::Relaxed) & 1 == 1 {
            let now = self.lines.tick() << 1;
            self.line.waiting.store(now, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Door<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() && !self.line.is_switched.load(Ordering::Relaxed) {
            self.refusal = self.lines.refusals.instead_of(bytes);
        }
        if self.refusal.is_some() {
            return self.poll_refuse(context, bytes.len());
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.line.note_write(written, self.lines.tick())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        if self.refusal.is_none() && !self.line.is_switched.load(Ordering::Relaxed) {
            self.refusal = first.and_then(|first| self.lines.refusals.instead_of(first));
        }
        if self.refusal.is_some() {
            let length = slices.iter().map(|slice| slice.len()).sum();
            return self.poll_refuse(context, length);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.line.note_write(written, self.lines.tick())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Closes our side. Where the client may still be sending, what it sends is thrown away for a while:
    /// closing at once would reset the connection, and the answer could be lost with it.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.line.is_unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let this = &mut *self;
        let lingering = this
            .lingering
            .get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scrap = [0; 16 << 10];
        loop {
            if lingering.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Our words for the heads that hyper refuses by a bare status.
struct Refusals {
    too_large: Bytes,
    too_long: Bytes,
    unreadable: Bytes,
}

impl Refusals {
    fn new(limits: &Limits) -> Refusals {
        let limit = limits.header_block;
        let large = format!(
            "the request head is larger than {limit}, the limit `header_block`, or has more than {HEADERS_MAX} headers"
        );
        let long = format!("the request line is longer than {limit}, the limit `header_block`");
        let too_large = |message| Failure::new(ErrorType::PayloadTooLarge, message);
        let unreadable = Failure::new(
            ErrorType::BadRequest,
            "the request is no HTTP/1.1 that could be read",
        );
        Refusals {
            too_large: errors::refused_head(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                &too_large(large),
            ),
            too_long: errors::refused_head(StatusCode::URI_TOO_LONG, &too_large(long)),
            unreadable: errors::refused_head(StatusCode::BAD_REQUEST, &unreadable),
        }
    }

    /// What to write instead, if these bytes are a refusal of hyper's own: ours carry an id or a content type.
    fn instead_of(&self, bytes: &[u8]) -> Option<Bytes> {
        let code = bytes.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
        let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
        let is_bare = head.contains("\r\ncontent-length: 0")
            && !head.contains("\r\nx-invocation-id:")
            && !head.contains("\r\ncontent-type:");
        match code {
            b"31" if is_bare => Some(self.too_large.clone()),
            b"14" if is_bare => Some(self.too_long.clone()),
            b"00" if is_bare => Some(self.unreadable.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_or_does_not_read_is_overdue() {
        let line = Line::default();
        let is_overdue = |line: &Line, now| line.is_overdue(now, 10, 30);
        assert!(!is_overdue(&line, 1000), "a request is worked on");
        line.waiting.store(5 << 1, Ordering::Relaxed);
        assert_eq!([15, 16].map(|now| is_overdue(&line, now)), [false, true]);
        line.waiting(5);
        assert_eq!([80, 81].map(|now| is_overdue(&line, now)), [false, true]);
        line.working();
        assert!(line.note_write(Poll::<()>::Pending, 5).is_pending());
        assert!(line.note_write(Poll::<()>::Pending, 20).is_pending());
        assert_eq!([35, 36].map(|now| is_overdue(&line, now)), [false, true]);
        assert!(line.note_write(Poll::Ready(()), 36).is_ready());
        assert!(!is_overdue(&line, 1000));
    }

    #[test]
    fn only_bare_refusals_are_replaced() {
        let refusals = Refusals::new(&Limits::default());
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let ours = String::from_utf8(refusals.instead_of(bare).unwrap().to_vec()).unwrap();
        assert!(
            ours.contains("64KB") && ours.contains("PayloadTooLarge"),
            "{ours}"
        );
        for own in [
            "HTTP/1.1 400 Bad Request\r\nx-invocation-id: x\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            assert!(refusals.instead_of(own.as_bytes()).is_none(), "{own}");
        }
    }
}
