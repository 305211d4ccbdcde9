//! The one loop that owns a pool: starts workers, serves the line in order, retires, and ends.
//! Everything that changes a pool's shape passes through [`Event`]; nothing here waits for a process.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use model::{
    ByteSize, ErrorType, Failure, InvocationId, PoolView, Reason, Step, TimeSpan, Wear, is_worn,
    next_step,
};
use tokio::{sync::mpsc, sync::oneshot, time::MissedTickBehavior};

use crate::{
    pool::{Lease, Shared, closed, take},
    start,
    worker::{Cause, Slot, Worker},
};

/// How often idle workers are looked for, and `workers.min` is made up.
const TICK: Duration = Duration::from_secs(1);

/// Between looks at a handler whose caller left.
const LINGER_STEP: Duration = Duration::from_millis(5);

/// Between looks at the deadline of one on a worker that says by itself when it has ended.
const LINGER_LOOK: Duration = Duration::from_millis(100);

/// What can happen to a pool.
pub enum Event {
    /// An invocation found no free slot.
    Want {
        id: InvocationId,
        answer: oneshot::Sender<Result<Lease, Failure>>,
    },
    /// So many workers are to be ready before anybody asks.
    Warm {
        count: u32,
        answer: oneshot::Sender<Result<(), Failure>>,
    },
    /// A slot was freed while somebody waited.
    Freed,
    /// A slot of a closed worker may be among the free ones.
    Purge,
    /// A worker is ready, or failed to start.
    Started(u32, Result<Arc<Worker>, Failure>),
    /// The last invocation of a retiring worker ended.
    Drained(Arc<Worker>),
    /// A worker's process is gone and reaped.
    Gone(Arc<Worker>),
    /// A caller left; the handler may still run.
    CallerLeft(Lease),
    /// Nothing new is taken.
    Close,
}

/// One who waits.
struct Waiter {
    id: InvocationId,
    answer: oneshot::Sender<Result<Lease, Failure>>,
}

/// What the loop owns.
struct Owner {
    shared: Arc<Shared>,
    line: VecDeque<Waiter>,
    /// Who waits for so many workers to be ready.
    warming: Vec<(u32, oneshot::Sender<Result<(), Failure>>)>,
    /// By index: whether a worker is there or on its way.
    taken: Vec<bool>,
    is_closing: bool,
    /// The last start failed; `workers.min` is not made up until somebody asks again.
    is_failing: bool,
}

/// Runs the pool until it is closed and empty.
pub async fn run(shared: Arc<Shared>, mut events: mpsc::UnboundedReceiver<Event>) {
    let taken = vec![false; shared.table.len()];
    let mut owner = Owner {
        shared,
        line: VecDeque::new(),
        warming: Vec::new(),
        taken,
        is_closing: false,
        is_failing: false,
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !(owner.is_closing && owner.alive() == 0) {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => owner.handle(event),
                None => break,
            },
            _ = tick.tick(), if !owner.is_closing => owner.tend(),
        }
    }
    owner.refuse_line();
    owner.shared.done.cancel();
    // Whoever asks from now on finds the loop gone; whoever asked just before must hear so too.
    events.close();
    while events.recv().await.is_some() {}
}

impl Owner {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Want { id, answer } => self.want(Waiter { id, answer }),
            Event::Warm { count, answer } => self.warm(count, answer),
            Event::Freed => self.serve(),
            Event::Purge => self.purge(),
            Event::Started(index, Ok(worker)) => self.started(index, worker),
            Event::Started(index, Err(failure)) => self.start_failed(index, failure),
            Event::Drained(worker) => self.end(worker, Cause::Retired),
            Event::Gone(worker) => self.gone(&worker),
            Event::CallerLeft(lease) => self.linger(lease),
            Event::Close => self.close(),
        }
        self.note_crowd();
    }

    /// Workers there or on their way.
    fn alive(&self) -> u32 {
        self.taken.iter().filter(|taken| **taken).count() as u32
    }

    fn warm(&mut self, count: u32, answer: oneshot::Sender<Result<(), Failure>>) {
        if self.is_closing {
            answer.send(Err(closed())).ok();
            return;
        }
        let missing = count.saturating_sub(self.alive());
        (0..missing).for_each(|_| self.start());
        self.warming.push((count, answer));
        self.tell_warmed();
    }

    /// Tells those who waited for no more workers than are ready now.
    fn tell_warmed(&mut self) {
        let ready = self.alive() - self.shared.starting.load(SeqCst);
        for (_, answer) in self.warming.extract_if(.., |(count, _)| *count <= ready) {
            answer.send(Ok(())).ok();
        }
    }

    fn want(&mut self, waiter: Waiter) {
        if self.is_closing {
            waiter.answer.send(Err(closed())).ok();
            return;
        }
        self.line.retain(|waiter| !waiter.answer.is_closed());
        self.note_crowd();
        self.line.push_back(waiter);
        self.serve();
        if self.line.is_empty() {
            return;
        }
        let settings = &self.shared.version.settings;
        let starting = self.shared.starting.load(SeqCst);
        let view = PoolView {
            free: 0,
            starting,
            alive: self.alive() - starting,
            waiting: self.line.len() as u32 - 1,
            max: settings.workers_max,
            concurrency: settings.concurrency,
            depth: settings.queue_depth,
            closed: false,
        };
        match next_step(&view) {
            Step::Start => self.start(),
            Step::Reuse | Step::Wait => {}
            Step::Refuse(reason) => self.refuse_last(reason),
        }
    }

    /// Notes since when somebody waits.
    fn note_crowd(&self) {
        let since = &self.shared.crowded_since;
        if self.line.is_empty() {
            since.store(0, SeqCst);
        } else if since.load(SeqCst) == 0 {
            since.store(self.shared.house.ticks(), SeqCst);
        }
    }

    fn refuse_last(&mut self, reason: Reason) {
        let Some(waiter) = self.line.pop_back() else {
            return;
        };
        let depth = self.shared.version.settings.queue_depth;
        let failure = match reason {
            Reason::Closed => closed(),
            Reason::QueueFull => Failure::new(
                ErrorType::QueueFull,
                format!("{depth} invocations wait already, the limit `queue.depth`"),
            )
            .hint("come back later, or raise `workers.max`, `concurrency` or `queue.depth`"),
        };
        waiter.answer.send(Err(failure)).ok();
    }

    /// Gives free slots to those who wait, first come first served.
    fn serve(&mut self) {
        while let Some(waiter) = self.line.front() {
            if waiter.answer.is_closed() {
                self.line.pop_front();
                continue;
            }
            let Some(lease) = take(&self.shared, waiter.id) else {
                return;
            };
            if let Some(waiter) = self.line.pop_front() {
                // One who left meanwhile drops the lease, which frees the slot again.
                waiter.answer.send(Ok(lease)).ok();
            }
        }
    }

    /// Starts a worker in a free place of the table.
    fn start(&mut self) {
        let Some(index) = self.taken.iter().position(|taken| !taken) else {
            return;
        };
        self.taken[index] = true;
        self.shared.starting.fetch_add(1, SeqCst);
        let shared = self.shared.clone();
        let index = index as u32;
        self.shared.house.tasks.spawn(async move {
            let result = start::start(&shared, index).await;
            if let Err(mpsc::error::SendError(Event::Started(_, Ok(worker)))) =
                shared.events.send(Event::Started(index, result))
            {
                worker.kill(Cause::Retired);
            }
        });
    }

    fn started(&mut self, index: u32, worker: Arc<Worker>) {
        self.shared.starting.fetch_sub(1, SeqCst);
        self.is_failing = false;
        self.watch_end(&worker);
        let concurrency = self.shared.version.settings.concurrency;
        worker.used_at.store(self.shared.house.ticks(), SeqCst);
        self.shared.table[index as usize].store(Some(worker.clone()));
        if self.is_closing {
            worker.gate.close();
            self.end(worker, Cause::Retired);
            return;
        }
        (0..concurrency)
            .rev()
            .for_each(|place| self.shared.free.push(index * concurrency + place));
        self.tell_warmed();
        self.serve();
    }

    fn start_failed(&mut self, index: u32, failure: Failure) {
        self.shared.starting.fetch_sub(1, SeqCst);
        self.taken[index as usize] = false;
        self.is_failing = true;
        for (_, answer) in self.warming.drain(..) {
            answer.send(Err(failure.clone())).ok();
        }
        // While another worker lives or is on its way, those who wait have somebody to wait for.
        if self.alive() == 0 {
            for waiter in self.line.drain(..) {
                waiter.answer.send(Err(failure.clone())).ok();
            }
        }
    }

    /// Reports the end of the process to the loop.
    fn watch_end(&self, worker: &Arc<Worker>) {
        let (worker, events) = (worker.clone(), self.shared.events.clone());
        self.shared.house.tasks.spawn(async move {
            worker.gone.cancelled().await;
            worker.gate.close();
            events.send(Event::Gone(worker)).ok();
        });
    }

    /// Frees the place of a worker that is gone, once nobody holds a slot of it.
    fn gone(&mut self, worker: &Arc<Worker>) {
        let Some(index) = worker.index.get().map(|index| *index as usize) else {
            return;
        };
        self.purge();
        if worker.gate.inside() > 0 {
            // `Drained` follows, and comes back here.
            return;
        }
        let is_there = self.shared.table[index]
            .load()
            .as_ref()
            .is_some_and(|there| Arc::ptr_eq(there, worker));
        if is_there {
            self.shared.table[index].store(None);
            self.taken[index] = false;
            self.start_for_line();
        }
    }

    /// After a loss: those who wait may need another worker.
    fn start_for_line(&mut self) {
        let concurrency = self.shared.version.settings.concurrency;
        let coming = self.shared.starting.load(SeqCst) * concurrency;
        let is_short = self.line.len() as u32 > coming
            && self.alive() < self.shared.version.settings.workers_max;
        if is_short && !self.is_closing {
            self.start();
        }
    }

    /// Takes the slots of closed workers out of the free ones; the order of the others stays.
    fn purge(&mut self) {
        let concurrency = self.shared.version.settings.concurrency;
        let numbers: Vec<u32> = std::iter::from_fn(|| self.shared.free.pop()).collect();
        for number in numbers.into_iter().rev() {
            let worker = self.shared.table[(number / concurrency) as usize].load();
            if worker
                .as_ref()
                .is_some_and(|worker| !worker.gate.is_closed())
            {
                self.shared.free.push(number);
            }
        }
        self.serve();
    }

    /// Ends a worker that takes no more and has nothing in flight.
    fn end(&mut self, worker: Arc<Worker>, cause: Cause) {
        if worker.gone.is_cancelled() {
            self.gone(&worker);
            return;
        }
        self.shared.house.tasks.spawn(async move {
            match worker.overdue.get() {
                // A handler ran past its deadline and may still run: there is nobody to be polite to.
                Some((culprit, limit)) => worker.kill(Cause::Timeout(*culprit, *limit)),
                None => worker.end(cause).await,
            }
        });
    }

    /// Keeps the slot of a caller who left until the handler has ended, its deadline included.
    fn linger(&mut self, lease: Lease) {
        let worker = lease.worker().0;
        if worker.is_isolate() {
            // An isolate child does one thing at a time and cannot be told; nothing is lost with it.
            worker.kill(Cause::Disconnected);
            return;
        }
        self.shared.house.tasks.spawn(async move {
            let mut step = LINGER_STEP;
            if let Some(api) = &worker.api {
                while !lease.slot().is_timed_out() && worker.exit.get().is_none() {
                    if tokio::time::timeout(LINGER_LOOK, api.settled(lease.id()))
                        .await
                        .is_ok()
                    {
                        return;
                    }
                }
                return;
            }
            loop {
                if lease.slot().is_timed_out()
                    || worker.exit.get().is_some()
                    || worker.has_ended_one().await
                {
                    return;
                }
                tokio::time::sleep(step).await;
                step = (step * 2).min(Duration::from_millis(100));
            }
        });
    }

    /// Ends workers that nobody used for `workers.idle`, and makes up `workers.min`.
    fn tend(&mut self) {
        // Who gave up waiting sends no event.
        self.line.retain(|waiter| !waiter.answer.is_closed());
        self.note_crowd();
        let settings = self.shared.version.settings.clone();
        let now = self.shared.house.ticks();
        let mut spare = self.alive().saturating_sub(settings.workers_min);
        let workers: Vec<Arc<Worker>> = self
            .shared
            .table
            .iter()
            .filter_map(|place| place.load_full())
            .collect();
        for worker in workers {
            let is_old = now.saturating_sub(worker.used_at.load(SeqCst)) >= settings.workers_idle.0;
            if spare > 0 && is_old && worker.gate.close_if_empty() {
                spare -= 1;
                self.purge();
                self.end(worker, Cause::Idle);
            }
        }
        self.recycle(now);
        let missing = settings.workers_min.saturating_sub(self.alive());
        if !self.is_failing {
            (0..missing).for_each(|_| self.start());
        }
    }

    /// Retires one worker that is worn: what it runs ends, what comes goes elsewhere. One at a time, so that most stay.
    fn recycle(&mut self, now: u64) {
        let limits = &self.shared.house.options.limits;
        let workers: Vec<Arc<Worker>> = self
            .shared
            .table
            .iter()
            .filter_map(|place| place.load_full())
            .collect();
        if workers.iter().any(|worker| worker.gate.is_closed()) {
            return;
        }
        let has_room = self.alive() < self.shared.version.settings.workers_max;
        let is_replaceable = has_room || workers.len() > 1;
        let worn = workers.into_iter().find_map(|worker| {
            let wear = Wear {
                age: TimeSpan(now.saturating_sub(worker.born)),
                invocations: worker.served.load(Relaxed),
                memory: ByteSize(worker.holds.load(Relaxed)),
                memory_max: worker.memory,
            };
            if !is_worn(&wear, limits) || worker.is_debugged() {
                return None;
            }
            if worker.gate.close_if_empty() {
                return Some((worker, 0));
            }
            // What is held open may stay so for hours, and nobody may be left to take what comes.
            let may_retire = is_replaceable && !worker.slots.iter().any(Slot::is_held_open);
            may_retire.then(|| {
                let inside = worker.gate.close();
                (worker, inside)
            })
        });
        let Some((worker, inside)) = worn else { return };
        self.purge();
        if inside == 0 {
            self.end(worker, Cause::Retired);
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.is_closing, true) {
            return;
        }
        self.refuse_line();
        let workers: Vec<Arc<Worker>> = self
            .shared
            .table
            .iter()
            .filter_map(|place| place.load_full())
            .collect();
        for worker in workers {
            if worker.gate.close() == 0 {
                self.end(worker, Cause::Retired);
            }
        }
        self.purge();
    }

    fn refuse_line(&mut self) {
        for waiter in self.line.drain(..) {
            waiter.answer.send(Err(closed())).ok();
        }
        for (_, answer) in self.warming.drain(..) {
            answer.send(Err(closed())).ok();
        }
    }
}
