//! One worker: a process that runs one version, its gate, its slots, and the true cause of its end.

use std::{
    fmt,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::ExitStatus,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use futures_util::task::AtomicWaker;
use http::{Request, header::HOST};
use model::{
    ByteSize, ErrorType, Failure, HandlerFault, InvocationId, Runtime, TimeSpan, WorkerState,
};
use rustix::process::Signal;
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::{
    body::Body, breaks::Breaks, exchange::Conn, inspect::Inspector, limit::Limit, past::Past,
    runtime_api::Api, slots::Gate, spawner::kill_group, version::Version, wire::Wire,
};

/// Between TERM and KILL, for a worker that has nothing in flight.
const TERM_GRACE: Duration = Duration::from_secs(1);

/// A broken connection waits this long for the process to be seen dead before another cause is assumed.
const EXIT_WAIT: Duration = Duration::from_millis(500);

/// One worker.
pub struct Worker {
    /// Unique while the server lives.
    pub ordinal: u64,
    /// What runs it.
    pub runtime: Runtime,
    /// Process id, and id of its process group.
    pub pid: u32,
    /// Limit on its anonymous memory.
    pub memory: ByteSize,
    /// What user code cannot know; marks faults and pings.
    pub nonce: String,
    /// Where it listens; `None` if its one connection was there from birth.
    pub socket: Option<PathBuf>,
    /// Our end of its Runtime API, if it speaks that.
    pub api: Option<Arc<Api>>,
    /// Its own folder, removed after its end.
    pub folder: PathBuf,
    /// What it runs; unset while it is a blank isolate child.
    pub version: OnceLock<Arc<Version>>,
    /// Its place in the pool's table; unset while blank.
    pub index: OnceLock<u32>,
    /// Whether it takes invocations, and how many it has.
    pub gate: Gate,
    /// One per invocation that it may have at once.
    pub slots: Box<[Slot]>,
    /// Where its inspector is, if it has one.
    pub inspector: OnceLock<Inspector>,
    /// Debuggers that are attached to it right now.
    pub debuggers: AtomicU32,
    /// The invocations that ended lately.
    pub past: Past,
    /// When it last took or ended an invocation, in ticks.
    pub used_at: AtomicU64,
    /// Whether it ever took one.
    pub was_used: AtomicBool,
    /// When it was started, in ticks.
    pub born: u64,
    /// Invocations that it has run.
    pub served: AtomicU64,
    /// Anonymous memory at the last look, in bytes.
    pub holds: AtomicU64,
    /// The first invocation that ran past its deadline beside neighbours; the worker is killed when these have ended.
    pub overdue: OnceLock<(InvocationId, Limit)>,
    /// Why we end it; the first cause stays.
    pub cause: OnceLock<Cause>,
    /// The error that nobody caught and that ends it.
    pub fatal: OnceLock<HandlerFault>,
    /// The last line of its standard error before it was ready, for a worker that calls the Runtime API.
    pub last_words: Mutex<String>,
    /// Answers that broke off midway.
    pub breaks: Breaks,
    /// How the process ended, once it is reaped.
    pub exit: OnceLock<ExitStatus>,
    /// Cancelled once `exit` is set and everything it wrote has been read.
    pub gone: CancellationToken,
    /// Asks the reader of its output to say when all that was written before has been read.
    pub drain: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// One place for an invocation in a worker.
#[derive(Default)]
pub struct Slot {
    /// The invocation that holds it; two zeros when free.
    id: (AtomicU64, AtomicU64),
    /// When it must have ended, in ticks; zero for none.
    deadline: AtomicU64,
    /// The limit from which the deadline came, as a word.
    limit: AtomicU64,
    /// Whether its deadline has passed: [`RUNNING`] or [`TIMED_OUT`].
    fate: AtomicU8,
    /// Wakes the task that exchanges with the worker.
    pub waker: AtomicWaker,
    /// The connection, between invocations. Never contended: only the holder of the slot touches it.
    pub conn: Mutex<Option<Box<Conn>>>,
}

const RUNNING: u8 = 0;
const TIMED_OUT: u8 = 1;

impl Slot {
    /// Begins an invocation that must end at `deadline` ticks.
    pub fn begin(&self, id: InvocationId, limit: Limit, deadline: u64) {
        let (high, low) = id.to_words();
        // Read only by who has seen the deadline.
        self.limit.store(limit.to_word(), Relaxed);
        self.fate.store(RUNNING, SeqCst);
        self.id.1.store(low, SeqCst);
        self.id.0.store(high, SeqCst);
        self.deadline.store(deadline, SeqCst);
    }

    /// Ends it.
    pub fn end(&self) {
        self.deadline.store(0, SeqCst);
        self.id.0.store(0, SeqCst);
        self.id.1.store(0, SeqCst);
    }

    /// Whether an invocation holds it without a deadline: a WebSocket, or a stream of events.
    pub fn is_held_open(&self) -> bool {
        self.holder().is_some() && self.deadline.load(SeqCst) == 0 && !self.is_timed_out()
    }

    /// From now on it may take as long as it likes; true if it was within its deadline.
    pub fn hold_open(&self) -> bool {
        self.deadline.store(0, SeqCst);
        !self.is_timed_out()
    }

    /// What was held open must end by itself by `deadline` ticks.
    pub fn bound_again(&self, deadline: u64) {
        if !self.is_timed_out() {
            // Nothing is exchanged if there is a deadline already.
            let _ = self.deadline.compare_exchange(0, deadline, SeqCst, SeqCst);
        }
    }

    /// The invocation that holds the slot.
    pub fn holder(&self) -> Option<InvocationId> {
        InvocationId::from_words(self.id.0.load(SeqCst), self.id.1.load(SeqCst))
    }

    /// Marks it timed out if its deadline has passed; true the first time.
    pub fn expire(&self, now: u64) -> bool {
        let deadline = self.deadline.load(SeqCst);
        if deadline == 0 || now < deadline {
            return false;
        }
        let first = self
            .deadline
            .compare_exchange(deadline, 0, SeqCst, SeqCst)
            .is_ok();
        if first {
            self.fate.store(TIMED_OUT, SeqCst);
        }
        first
    }

    /// The limit of the invocation that holds it, or held it last.
    pub fn limit(&self) -> Limit {
        Limit::from_word(self.limit.load(Relaxed))
    }

    /// A deadline that has passed lies in the future again, by the whole limit.
    pub fn hold(&self, now: u64) {
        let deadline = self.deadline.load(SeqCst);
        if deadline != 0 && now >= deadline {
            let later = now + self.limit().millis();
            self.deadline
                .compare_exchange(deadline, later, SeqCst, SeqCst)
                .ok();
        }
    }

    /// Whether the deadline has passed.
    pub fn is_timed_out(&self) -> bool {
        self.fate.load(SeqCst) == TIMED_OUT
    }
}

/// Why we end a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Nobody needed it.
    Idle,
    /// Its pool closed: another version is current, or the server goes down.
    Retired,
    /// The server goes down and the grace is over.
    ShutDown,
    /// Its function was deleted and the grace is over.
    Deleted,
    /// An invocation went past its deadline.
    Timeout(InvocationId, Limit),
    /// An invocation went past its deadline and kept the event loop from everybody else.
    Blocked(InvocationId, Limit),
    /// It went past its memory.
    OutOfMemory(ByteSize),
    /// Node's heap reached its limit, which is a part of the memory, and Node ends itself.
    HeapFull(ByteSize),
    /// It was not ready in time.
    Silent(TimeSpan),
    /// Its module failed to load.
    Init,
    /// Its only connection broke, or the caller left an isolate that cannot be told.
    Disconnected,
}

/// What is known of a worker when its process has started.
pub struct Birth {
    pub ordinal: u64,
    pub runtime: Runtime,
    pub pid: u32,
    pub memory: ByteSize,
    pub nonce: String,
    pub socket: Option<PathBuf>,
    pub folder: PathBuf,
    /// Invocations at once.
    pub concurrency: u32,
    /// Its one connection, if it does not listen.
    pub conn: Option<Box<Conn>>,
    /// Our end of its Runtime API.
    pub api: Option<Arc<Api>>,
    /// In ticks.
    pub now: u64,
    pub drain: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl Worker {
    /// A worker that takes work as soon as it is in a pool's table.
    pub fn new(birth: Birth) -> Worker {
        let mut slots: Box<[Slot]> = (0..birth.concurrency).map(|_| Slot::default()).collect();
        if let Some(slot) = slots.first_mut() {
            slot.conn = Mutex::new(birth.conn);
        }
        Worker {
            ordinal: birth.ordinal,
            runtime: birth.runtime,
            pid: birth.pid,
            memory: birth.memory,
            nonce: birth.nonce,
            socket: birth.socket,
            api: birth.api,
            folder: birth.folder,
            version: OnceLock::new(),
            index: OnceLock::new(),
            gate: Gate::open(),
            slots,
            inspector: OnceLock::new(),
            debuggers: 0.into(),
            past: Past::default(),
            used_at: birth.now.into(),
            born: birth.now,
            served: 0.into(),
            holds: 0.into(),
            was_used: false.into(),
            overdue: OnceLock::new(),
            cause: OnceLock::new(),
            fatal: OnceLock::new(),
            last_words: Mutex::default(),
            breaks: Breaks::default(),
            exit: OnceLock::new(),
            gone: CancellationToken::new(),
            drain: birth.drain,
        }
    }

    /// Whether it is an isolate child, which does one thing at a time and cannot be told anything meanwhile.
    pub fn is_isolate(&self) -> bool {
        self.runtime == Runtime::Isolate
    }

    /// Whether a debugger is attached: then nothing that takes long is too long.
    pub fn is_debugged(&self) -> bool {
        self.debuggers.load(SeqCst) > 0
    }

    /// What it is doing, as users see it.
    pub fn state(&self) -> WorkerState {
        if self.exit.get().is_some() {
            WorkerState::Terminated
        } else if self.gate.is_closed() {
            WorkerState::Retiring
        } else if self.gate.inside() > 0 {
            WorkerState::Busy
        } else if self.was_used.load(SeqCst) {
            WorkerState::Idle
        } else {
            WorkerState::Warm
        }
    }

    /// Kills it at once, with everything it started.
    pub fn kill(&self, cause: Cause) {
        self.cause.set(cause).ok();
        self.gate.close();
        if self.exit.get().is_none() {
            kill_group(self.pid, Signal::KILL);
        }
        self.slots.iter().for_each(|slot| slot.waker.wake());
    }

    /// Asks it to end, and kills it if it does not.
    pub async fn end(&self, cause: Cause) {
        self.cause.set(cause.clone()).ok();
        self.gate.close();
        if self.exit.get().is_none() {
            kill_group(self.pid, Signal::TERM);
        }
        if tokio::time::timeout(TERM_GRACE, self.gone.cancelled())
            .await
            .is_err()
        {
            self.kill(cause);
            self.gone.cancelled().await;
        }
    }

    /// How many handlers its event loop says are running; `None` if it does not answer.
    pub async fn ping(&self) -> Option<u32> {
        if let Some(api) = &self.api {
            return Some(api.unsettled());
        }
        let stream = UnixStream::connect(self.socket.as_ref()?).await.ok()?;
        let mut conn = Conn::new(Wire::Socket(stream)).await.ok()?;
        let request = Request::get(format!("/{}/ping", self.nonce))
            .header(HOST, "worker")
            .body(Body::Empty)
            .ok()?;
        let answer = conn.ask(request).await.ok()?;
        std::str::from_utf8(answer.body()).ok()?.parse().ok()
    }

    /// Whether fewer handlers run than slots are held: one whose caller left has ended.
    pub async fn has_ended_one(&self) -> bool {
        self.ping()
            .await
            .is_some_and(|running| running < self.gate.inside())
    }

    /// Everything it wrote before now has reached the log.
    pub async fn drained(&self) {
        let (done, wait) = oneshot::channel();
        if self.drain.send(done).is_ok() {
            wait.await.ok();
        }
    }

    /// The invocation that ended last, if any did.
    pub fn last_holder(&self) -> Option<InvocationId> {
        self.past.last()
    }

    /// Whether it holds this invocation, or did so until lately.
    pub fn knows(&self, id: InvocationId) -> bool {
        self.holders().any(|holder| holder == id) || self.past.holds(id)
    }

    /// Ends what holds this slot.
    pub fn end_slot(&self, slot: &Slot) {
        self.served.fetch_add(1, Relaxed);
        if let Some(id) = slot.holder() {
            self.past.add(id);
        }
        slot.end();
    }

    /// The invocations it holds.
    pub fn holders(&self) -> impl Iterator<Item = InvocationId> {
        self.slots.iter().filter_map(Slot::holder)
    }

    /// Why an invocation on this worker got no answer: waits a moment for the process's end to be known.
    pub async fn why_lost(&self, id: InvocationId) -> Failure {
        if self.cause.get().is_none() {
            tokio::select! {
                biased;
                fault = self.breaks.of(id) => return crate::exchange::handler_error(fault),
                () = self.gone.cancelled() => {}
                () = tokio::time::sleep(EXIT_WAIT) => {}
            }
        }
        match (self.cause.get(), self.exit.get()) {
            (Some(cause), _) => self.failure(cause, id),
            (None, Some(_)) if self.fatal.get().is_some() => self.uncaught(),
            (None, Some(exit)) => crashed(&format!(
                "the worker {} while it ran this invocation",
                ended_how(*exit)
            )),
            (None, None) => Failure::new(
                ErrorType::HandlerError,
                "the worker closed the connection before its answer was whole; the response body probably failed midway",
            ),
        }
    }

    /// The failure of an invocation whose worker ended by an error that nobody caught.
    fn uncaught(&self) -> Failure {
        let Some(error) = self.fatal.get() else {
            return crashed("the worker ended");
        };
        crashed(&format!(
            "an error that nobody caught ended the worker: {}: {}",
            error.error_type, error.message
        ))
        .fault(error.clone())
    }

    /// The failure that a cause means for one invocation.
    fn failure(&self, cause: &Cause, id: InvocationId) -> Failure {
        match cause {
            Cause::Timeout(culprit, limit) | Cause::Blocked(culprit, limit) if *culprit == id => {
                limit.exceeded()
            }
            Cause::Timeout(culprit, _) => crashed(&format!(
                "the worker was killed because its neighbour {culprit} ran past its deadline"
            )),
            Cause::Blocked(culprit, _) => crashed(&format!(
                "the worker was killed because its neighbour {culprit} blocked the event loop past its deadline"
            )),
            Cause::OutOfMemory(used) => Failure::new(
                ErrorType::OutOfMemory,
                format!(
                    "the worker was killed: it used {} of memory, the limit is {}",
                    rounded(*used),
                    self.memory
                ),
            )
            .hint("raise `memory` in bungee.toml, or use less"),
            Cause::HeapFull(heap) => heap_full(*heap, self.memory),
            Cause::Silent(limit) => silent(*limit),
            Cause::ShutDown | Cause::Retired => Failure::new(
                ErrorType::ShuttingDown,
                "the server went down before this invocation ended",
            ),
            Cause::Deleted => crashed("the function was deleted, and the grace is over"),
            Cause::Idle | Cause::Init | Cause::Disconnected => {
                crashed("the worker ended before it took this invocation")
            }
        }
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.runtime, self.ordinal)
    }
}

/// A size to one decimal of a mebibyte, for people.
fn rounded(size: ByteSize) -> String {
    format!("{}MB", size.0.div_ceil(1 << 20))
}

/// The failure of a worker that Node itself ended.
pub fn heap_full(heap: ByteSize, memory: ByteSize) -> Failure {
    Failure::new(
        ErrorType::OutOfMemory,
        format!(
            "Node ended the worker: its heap was full at {heap}, its part of the limit {memory}"
        ),
    )
    .hint("raise `memory` in bungee.toml, or use less")
}

/// The failure of a worker that was not ready in time.
pub fn silent(limit: TimeSpan) -> Failure {
    Failure::new(
        ErrorType::InitError,
        format!("the module did not finish loading within {limit}, the limit `init`"),
    )
    .hint("look for a top-level `await` or loop that does not end")
}

/// The failure of an invocation whose worker died.
pub fn crashed(how: &str) -> Failure {
    Failure::new(ErrorType::WorkerCrashed, how)
}

/// How a process ended, in words.
pub fn ended_how(exit: ExitStatus) -> String {
    match (exit.code(), exit.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}{}", signal_name(signal)),
        (None, None) => "ended".into(),
    }
}

/// The names of the signals that end workers most.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        31 => " (SIGSYS, a forbidden system call)",
        _ => "",
    }
}

/// A handle to a worker for whoever waits for its log lines.
#[derive(Clone)]
pub struct WorkerRef(pub(crate) Arc<Worker>);

impl WorkerRef {
    /// Everything the worker wrote before now has reached the [`crate::LogSink`].
    pub async fn drained(&self) {
        self.0.drained().await;
    }

    /// The memory that it holds now, if it still runs.
    pub fn memory(&self) -> Option<ByteSize> {
        crate::watch::anonymous_memory(self.0.pid)
    }
}

impl fmt::Display for WorkerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
