//! What all pools of this process share: options, the starting thread, the clock's ticks, the tasks, the live workers.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use model::{Clock, Failure, Limits, LogLine};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    blank::Blanks,
    cgroup::Groups,
    inspect::Debuggers,
    owner,
    pool::{Pool, Shared},
    runtime,
    slots::FreeSlots,
    spare::Spares,
    spawner::Spawner,
    start,
    version::Version,
    watch,
    worker::{Cause, Worker},
};

/// Where log lines go. Must not block: it is called by the readers of the workers' output.
pub trait LogSink: Send + Sync + 'static {
    /// One line that a function wrote.
    fn line(&self, line: LogLine);
}

/// What the pools are told at their start.
#[derive(Clone)]
pub struct Options {
    /// Sockets and folders of workers; emptied at the start.
    pub run_dir: PathBuf,
    /// The server's limits.
    pub limits: Arc<Limits>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Our own binary, which also is the isolate child and the sentinel.
    pub program: PathBuf,
    /// Bun, if it is on PATH.
    pub bun: Option<PathBuf>,
    /// Node, if it is on PATH.
    pub node: Option<PathBuf>,
    /// Python 3, if it is on PATH.
    pub python: Option<PathBuf>,
    /// The ports of debuggers, if workers are to be debugged.
    pub debuggers: Option<Debuggers>,
    /// Where log lines go.
    pub logs: Arc<dyn LogSink>,
}

/// How often what was kept ready was there.
#[derive(Default)]
pub struct Starts {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Starts {
    /// One more start.
    pub fn count(&self, is_hit: bool) {
        let counted = if is_hit { &self.hits } else { &self.misses };
        counted.fetch_add(1, SeqCst);
    }

    fn kept(&self, ready: usize) -> Kept {
        Kept {
            ready: ready as u64,
            hits: self.hits.load(SeqCst),
            misses: self.misses.load(SeqCst),
        }
    }
}

/// Processes that are kept ready, and how often one was there when it was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Ready now.
    pub ready: u64,
    /// Starts that found one.
    pub hits: u64,
    /// Starts that had to make one.
    pub misses: u64,
}

/// The pools of this process.
#[derive(Default)]
struct Pools {
    made: Vec<Weak<Shared>>,
    /// A pool that is made from now on is born closed: nobody would end it.
    is_stopped: bool,
}

/// Shared by all pools.
pub struct House {
    pub options: Options,
    pub spawner: Spawner,
    pub tasks: TaskTracker,
    pub blanks: Blanks,
    /// Starts that found a blank child, and that found none.
    pub blank_starts: Starts,
    /// Starts that found a spare worker, and that found none.
    pub spare_starts: Starts,
    pub spares: Spares,
    /// Control groups for workers, where the system lets us.
    pub groups: Option<Arc<Groups>>,
    /// Workers whose process exists, by ordinal.
    workers: Mutex<HashMap<u64, Arc<Worker>>>,
    pools: Mutex<Pools>,
    next_ordinal: AtomicU64,
    born: Instant,
    /// The watch sleeps because nothing is in flight.
    is_dormant: AtomicBool,
    pub woken: Notify,
    pub stopping: CancellationToken,
}

impl House {
    /// Milliseconds since the start; never zero, which means "none" elsewhere.
    pub fn ticks(&self) -> u64 {
        self.born.elapsed().as_millis() as u64 + 1
    }

    /// A number that no other worker of this process has.
    pub fn ordinal(&self) -> u64 {
        self.next_ordinal.fetch_add(1, SeqCst)
    }

    /// Tells the watch that an invocation begins.
    pub fn wake_watch(&self) {
        if self.is_dormant.load(SeqCst) && self.is_dormant.swap(false, SeqCst) {
            self.woken.notify_one();
        }
    }

    /// The watch is about to sleep.
    pub fn set_dormant(&self) {
        self.is_dormant.store(true, SeqCst);
    }

    /// The workers whose process exists.
    pub fn live(&self) -> Vec<Arc<Worker>> {
        self.lock_workers().values().cloned().collect()
    }

    /// A process exists from now on.
    pub fn add(&self, worker: &Arc<Worker>) {
        self.lock_workers().insert(worker.ordinal, worker.clone());
    }

    /// It is reaped.
    pub fn remove(&self, worker: &Worker) {
        self.lock_workers().remove(&worker.ordinal);
    }

    fn lock_workers(&self) -> MutexGuard<'_, HashMap<u64, Arc<Worker>>> {
        self.workers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lock_pools(&self) -> MutexGuard<'_, Pools> {
        self.pools
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// All pools of this process. Clones share them.
#[derive(Clone)]
pub struct Workers(Arc<House>);

impl Workers {
    /// Prepares the run folder, the starting thread, the sentinel and the watch. Call it inside a tokio runtime.
    pub fn start(options: Options) -> io::Result<Workers> {
        runtime::prepare_run_dir(&options.run_dir)?;
        let groups = Groups::prepare().map(Arc::new);
        let house = Arc::new(House {
            spawner: Spawner::start(&options.program, groups.as_deref().map(Groups::folder))?,
            groups,
            options,
            tasks: TaskTracker::new(),
            blanks: Blanks::default(),
            blank_starts: Starts::default(),
            spare_starts: Starts::default(),
            spares: Spares::default(),
            workers: Mutex::default(),
            pools: Mutex::default(),
            next_ordinal: AtomicU64::new(1),
            born: Instant::now(),
            is_dormant: AtomicBool::new(false),
            woken: Notify::new(),
            stopping: CancellationToken::new(),
        });
        house.tasks.spawn(watch::run(house.clone()));
        Ok(Workers(house))
    }

    /// Makes a version ready to start: an isolate's modules are compiled, in a sealed child. Others need nothing.
    /// Fails with `InitError`, and with `Internal` if no child can be started.
    pub async fn prepare(&self, version: &Version) -> Result<(), Failure> {
        start::prepare(&self.0, version).await
    }

    /// Blank isolate children.
    pub fn blanks(&self) -> Kept {
        self.0.blank_starts.kept(self.0.blanks.ready())
    }

    /// Spare workers.
    pub fn spares(&self) -> Kept {
        self.0.spare_starts.kept(self.0.spares.ready())
    }

    /// Whether the isolate engine answers: compiles and runs nothing of a user's.
    pub async fn probe(&self) -> Result<(), Failure> {
        start::probe(&self.0).await
    }

    /// A pool for this version, with its owner loop; a closed one after [`Workers::stop`].
    pub fn pool(&self, version: Arc<Version>) -> Pool {
        let version = match &self.0.options.debuggers {
            Some(debuggers) => debuggers.adopt(&self.0, version),
            None => version,
        };
        let (max, concurrency) = (version.settings.workers_max, version.settings.concurrency);
        start::prepare_spares(&self.0, &version);
        let (events, inbox) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            house: self.0.clone(),
            free: FreeSlots::new(max * concurrency),
            table: (0..max).map(|_| ArcSwapOption::empty()).collect(),
            version,
            waiting: 0.into(),
            starting: 0.into(),
            crowded_since: 0.into(),
            is_closed: false.into(),
            events,
            done: CancellationToken::new(),
        });
        let mut pools = self.0.lock_pools();
        pools.made.retain(|pool| pool.strong_count() > 0);
        pools.made.push(Arc::downgrade(&shared));
        self.0.tasks.spawn(owner::run(shared.clone(), inbox));
        let pool = Pool(shared);
        if pools.is_stopped {
            pool.close();
        }
        pool
    }

    /// Closes every pool, waits for what is in flight up to `grace`, then ends every worker; returns when none is left.
    pub async fn stop(&self, grace: Duration) {
        let pools: Vec<Pool> = {
            let mut pools = self.0.lock_pools();
            pools.is_stopped = true;
            let made = pools.made.iter().filter_map(Weak::upgrade);
            made.map(Pool).collect()
        };
        pools.iter().for_each(Pool::close);
        let all_done = async {
            for pool in &pools {
                pool.done().await;
            }
        };
        let is_done = tokio::time::timeout(grace, all_done).await.is_ok();
        self.0.stopping.cancel();
        self.0.blanks.clear();
        self.0.spares.clear(&self.0);
        if !is_done {
            let live = self.0.live();
            futures_util::future::join_all(live.iter().map(|worker| worker.end(Cause::ShutDown)))
                .await;
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Kills every worker at once.
    pub fn kill_all(&self) {
        self.0.stopping.cancel();
        self.0
            .live()
            .iter()
            .for_each(|worker| worker.kill(Cause::ShutDown));
    }
}
