//! All workers of one version. A free slot is taken from the handle without a message;
//! starting, queueing and retiring go through the one owner loop in [`crate::owner`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use model::{ErrorType, Failure, InvocationId, TimeSpan, Timestamp, WorkerState};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    exchange::{self, Conn},
    house::House,
    limit::Limit,
    owner::Event,
    slots::FreeSlots,
    version::Version,
    worker::{Cause, Slot, Worker, WorkerRef},
};

/// Handle of a pool; clones share it.
#[derive(Clone)]
pub struct Pool(pub(crate) Arc<Shared>);

/// What the handle and the owner loop share. Only the owner changes the table.
pub struct Shared {
    pub house: Arc<House>,
    pub version: Arc<Version>,
    /// Free slots, numbered worker index × concurrency + place.
    pub free: FreeSlots,
    /// Workers by index.
    pub table: Box<[ArcSwapOption<Worker>]>,
    /// Invocations in the queue.
    pub waiting: AtomicU32,
    /// Since when somebody waits, in ticks; 0 while nobody does. Only the owner sets it.
    pub crowded_since: AtomicU64,
    /// Workers that are starting.
    pub starting: AtomicU32,
    pub is_closed: AtomicBool,
    pub events: mpsc::UnboundedSender<Event>,
    /// Cancelled once the pool is closed and every worker of it is gone.
    pub done: CancellationToken,
}

/// Workers of a pool by what they do, and who waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Being started.
    pub starting: u32,
    /// Ready, never used.
    pub warm: u32,
    /// With invocations in flight.
    pub busy: u32,
    /// Ready, used before.
    pub idle: u32,
    /// Taking no more.
    pub retiring: u32,
    /// Invocations in the queue.
    pub waiting: u32,
}

impl Pool {
    /// The version that it runs.
    pub fn version(&self) -> &Arc<Version> {
        &self.0.version
    }

    /// Takes a slot for the invocation: a free one at once, else waits in line, for a started worker or a freed slot.
    ///
    /// Fails with `QueueFull`, `QueueTimeout`, `InitError`, `WorkerCrashed` (a worker that died while it started),
    /// or `ShuttingDown` (the pool is closed; ask [`Pool::is_closed`]). Dropping the future leaves the line.
    pub async fn acquire(&self, id: InvocationId) -> Result<Lease, Failure> {
        if self.0.waiting.load(SeqCst) == 0
            && let Some(mut lease) = take(&self.0, id)
        {
            // The worker was there already, if perhaps for nobody yet.
            lease.is_cold = false;
            return Ok(lease);
        }
        self.wait(id).await
    }

    /// Starts workers until `count` are there, and waits until they are ready.
    /// Fails as [`Pool::acquire`] does when a worker cannot be started.
    pub async fn warm(&self, count: u32) -> Result<(), Failure> {
        let (answer, warmed) = oneshot::channel();
        let count = count.min(self.0.version.settings.workers_max);
        let asked = self.0.events.send(Event::Warm { count, answer });
        asked.map_err(|_| closed())?;
        warmed.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn wait(&self, id: InvocationId) -> Result<Lease, Failure> {
        let patience = self.0.patience();
        let (answer, mut served) = oneshot::channel();
        let _in_line = InLine::enter(&self.0);
        if self.0.events.send(Event::Want { id, answer }).is_err() {
            return Err(closed());
        }
        let settings = &self.0.version.settings;
        let mut left = patience.duration();
        let mut init_left = self.0.house.options.limits.init.duration() + Duration::from_secs(1);
        loop {
            let step = left
                .min(Duration::from_millis(250))
                .max(Duration::from_millis(1));
            match tokio::time::timeout(step, &mut served).await {
                Ok(Ok(result)) => return result,
                Ok(Err(_)) => return Err(closed()),
                // `queue.wait` and the init of a worker are apart: while one starts, only its own limit runs.
                Err(_) if self.0.starting.load(SeqCst) > 0 && !init_left.is_zero() => {
                    init_left = init_left.saturating_sub(step);
                }
                Err(_) => left = left.saturating_sub(step),
            }
            if left.is_zero() {
                return Err(waited_too_long(patience, settings.queue_wait));
            }
        }
    }

    /// Workers by what they do, right now.
    pub fn counts(&self) -> Counts {
        let shared = &self.0;
        let mut counts = Counts {
            starting: shared.starting.load(SeqCst),
            waiting: shared.waiting.load(SeqCst),
            ..Counts::default()
        };
        for worker in shared.table.iter().filter_map(ArcSwapOption::load_full) {
            match worker.state() {
                WorkerState::Starting => counts.starting += 1,
                WorkerState::Warm => counts.warm += 1,
                WorkerState::Busy => counts.busy += 1,
                WorkerState::Idle => counts.idle += 1,
                WorkerState::Retiring => counts.retiring += 1,
                WorkerState::Terminated => {}
            }
        }
        counts
    }

    /// Takes no more work: what waits is refused, what is in flight ends, then the workers end.
    pub fn close(&self) {
        self.0.is_closed.store(true, SeqCst);
        self.0.events.send(Event::Close).ok();
    }

    /// Whether it takes no more work.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.load(SeqCst)
    }

    /// Ends what is left of a closed pool whose function was deleted.
    pub async fn cut_off(&self) {
        let left = self.0.table.iter().filter_map(ArcSwapOption::load_full);
        let ends = left.map(async |worker: Arc<Worker>| worker.end(Cause::Deleted).await);
        futures_util::future::join_all(ends).await;
    }

    /// Whether it is closed and its last worker is gone.
    pub fn is_done(&self) -> bool {
        self.0.done.is_cancelled()
    }

    /// Waits until it is closed and its last worker is gone.
    pub async fn done(&self) {
        self.0.done.cancelled().await;
    }
}

impl Shared {
    /// How long who arrives now may wait.
    fn patience(&self) -> TimeSpan {
        let since = self.crowded_since.load(SeqCst);
        let crowded_for = match since {
            // Whoever waited may have given up since the owner looked.
            _ if self.waiting.load(SeqCst) == 0 => 0,
            0 => 0,
            _ => self.house.ticks().saturating_sub(since),
        };
        model::patience(self.version.settings.queue_wait, TimeSpan(crowded_for))
    }
}

/// The refusal of one who waited for as long as he may.
fn waited_too_long(patience: TimeSpan, limit: TimeSpan) -> Failure {
    let message = if patience == limit {
        format!("waited {limit} for a worker, the limit `queue.wait`")
    } else {
        format!(
            "waited {patience} for a worker: the queue has not been empty for longer than {limit}, the limit `queue.wait`"
        )
    };
    Failure::new(ErrorType::QueueTimeout, message)
        .hint("raise `workers.max`, `concurrency` or `queue.wait`")
}

/// The refusal of a closed pool.
pub fn closed() -> Failure {
    Failure::new(
        ErrorType::ShuttingDown,
        "the pool takes no more work: the server goes down, or another version took over",
    )
}

/// Counts an invocation as waiting for as long as it lives.
struct InLine<'a>(&'a AtomicU32);

impl InLine<'_> {
    fn enter(shared: &Shared) -> InLine<'_> {
        shared.waiting.fetch_add(1, SeqCst);
        InLine(&shared.waiting)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Takes a free slot, last used first, of a worker that takes work.
pub fn take(shared: &Arc<Shared>, id: InvocationId) -> Option<Lease> {
    let concurrency = shared.version.settings.concurrency;
    while let Some(number) = shared.free.pop() {
        let worker = shared.table[(number / concurrency) as usize].load();
        if let Some(worker) = worker.as_ref()
            && worker.gate.enter()
        {
            let is_cold = !worker.was_used.swap(true, SeqCst);
            shared.house.wake_watch();
            return Some(Lease {
                shared: shared.clone(),
                worker: worker.clone(),
                number,
                id,
                limit: Limit::of_version(shared.version.settings.timeout),
                is_cold,
            });
        }
    }
    None
}

/// The right to one slot of one worker, until it is sent with or dropped.
pub struct Lease {
    shared: Arc<Shared>,
    worker: Arc<Worker>,
    number: u32,
    id: InvocationId,
    limit: Limit,
    is_cold: bool,
}

impl Lease {
    /// The same for an invocation that began elsewhere, and has this much time left whatever the version's `timeout` is.
    pub fn within(self, left: TimeSpan) -> Lease {
        self.limited(Limit::brought(left))
    }

    pub(crate) fn limited(mut self, limit: Limit) -> Lease {
        self.limit = limit;
        self
    }

    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    /// Whether a worker was started for it.
    pub fn cold(&self) -> bool {
        self.is_cold
    }

    /// The worker.
    pub fn worker(&self) -> WorkerRef {
        WorkerRef(self.worker.clone())
    }

    /// The version that it runs.
    pub fn version(&self) -> &Arc<Version> {
        &self.shared.version
    }

    pub(crate) fn id(&self) -> InvocationId {
        self.id
    }

    pub(crate) fn pool(&self) -> Pool {
        Pool(self.shared.clone())
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.worker.slots[(self.number % self.shared.version.settings.concurrency) as usize]
    }

    /// Starts the deadline; tells it as wall-clock time.
    pub(crate) fn begin(&self) -> Timestamp {
        let house = &self.shared.house;
        let limit = self.limit.millis();
        // An isolate stops itself at its deadline; only what stays inside a built-in is left to us.
        let grace = if self.worker.is_isolate() {
            ISOLATE_GRACE
        } else {
            0
        };
        self.slot()
            .begin(self.id, self.limit, house.ticks() + limit + grace);
        Timestamp(house.options.clock.now().0.saturating_add_unsigned(limit))
    }

    /// A new connection to the worker, if it can be had.
    pub(crate) async fn connect(&self) -> Option<Box<Conn>> {
        exchange::connect(&self.worker).await
    }

    /// The worker did not take the invocation: it is dead or about to be, and takes no more.
    pub(crate) fn lost_before_work(&self) {
        self.worker.gate.close();
    }

    /// The invocation ended; `conn` is kept for the next one.
    pub(crate) fn give_back(self, conn: Option<Box<Conn>>) {
        if let Some(conn) = conn
            && let Ok(mut place) = self.slot().conn.lock()
        {
            *place = Some(conn);
        }
        let api = self.worker.api.as_ref();
        if api.is_some_and(|api| !api.is_settled(self.id)) {
            // A runtime client is done with an invocation only when it asks for the next one.
            self.caller_left();
        }
    }

    /// The caller left while the handler may still run: the owner keeps the slot until it has ended.
    pub(crate) fn caller_left(self) {
        // A stream or socket had no deadline; its handler has that time once more to notice that nobody listens.
        let deadline = self.shared.house.ticks() + self.limit.millis();
        self.slot().bound_again(deadline);
        let events = self.shared.events.clone();
        events.send(Event::CallerLeft(self)).ok();
    }
}

/// An isolate child has this long past its deadline, in milliseconds, to report its own timeout.
const ISOLATE_GRACE: u64 = 15;

impl Drop for Lease {
    fn drop(&mut self) {
        let Lease {
            shared,
            worker,
            number,
            ..
        } = &*self;
        worker.end_slot(self.slot());
        worker.used_at.store(shared.house.ticks(), SeqCst);
        if !worker.gate.is_closed() {
            shared.free.push(*number);
            if worker.gate.is_closed() {
                shared.events.send(Event::Purge).ok();
            }
        }
        if worker.gate.leave() {
            shared.events.send(Event::Drained(worker.clone())).ok();
        }
        if shared.waiting.load(SeqCst) > 0 {
            shared.events.send(Event::Freed).ok();
        }
    }
}
