//! The queue: events that were accepted are run at least once, whatever happens to this process meanwhile. The store
//! remembers them until they are done; which are running is known here alone, so that a death of the server is no attempt.

mod agenda;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use model::{
    ErrorType, Failure, FunctionId, InvocationId, Level, Limits, LogLine, Timestamp, Trigger,
};
use store::{QueuedEvent, Store, StoreError};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use workers::LogSink;

pub(crate) use self::agenda::Seen;
use self::agenda::{Agenda, Fate, Slip};
use crate::{
    app::App,
    context::Context,
    deploys::store_failure,
    invoke::{self, Brought, Errand, Outcome, Work},
    journal::Invocation,
    lambda,
    marks::Marks,
    registry::State,
    serving::Deployed,
};

/// The clock of the wall may jump while we sleep: we look at it this often while anything waits for its time.
const LOOK: Duration = Duration::from_secs(60);

/// An event that somebody sent.
pub(crate) struct Accepted {
    pub function: FunctionId,
    /// As JSON.
    pub event: Bytes,
    /// The version or alias that was named.
    pub qualifier: Option<String>,
    pub context: Context,
}

/// All that is queued.
pub(crate) struct Queue {
    store: Store,
    limits: Arc<Limits>,
    agenda: Mutex<Agenda>,
    /// Something changed that lets more events run.
    nudge: Notify,
    /// Events that run, or are written down.
    tasks: TaskTracker,
    /// No more events begin.
    closing: CancellationToken,
    /// Those that run are left where they are.
    cutting: CancellationToken,
}

impl Queue {
    /// What a server before us accepted, and did not get done.
    pub(crate) async fn open(store: Store, limits: Arc<Limits>) -> Result<Queue, StoreError> {
        let mut agenda = Agenda::default();
        for waiting in store.queued().await? {
            let slip = Slip {
                id: waiting.id,
                function: waiting.function,
                accepted_at: waiting.accepted_at,
                failed: waiting.failed,
                deferred: 0,
            };
            agenda.add(slip, waiting.due_at);
        }
        Ok(Queue {
            store,
            limits,
            agenda: Mutex::new(agenda),
            nudge: Notify::new(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            cutting: CancellationToken::new(),
        })
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is queued of each function.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.agenda().seen()
    }

    /// Accepts an event: when this returns, it is on the disk. The id is that of its invocation.
    pub(crate) async fn accept(
        self: &Arc<Queue>,
        now: Timestamp,
        accepted: Accepted,
    ) -> Result<InvocationId, Failure> {
        let most = self.limits.async_depth;
        if self.agenda().size() >= most {
            let message = format!("{most} events are queued, the limit `async_depth`");
            return Err(Failure::new(ErrorType::Throttled, message));
        }
        let id = Marks::new(now, None).id;
        let Accepted {
            function,
            event,
            qualifier,
            context,
        } = accepted;
        let slip = Slip {
            id,
            function: function.clone(),
            accepted_at: now,
            failed: 0,
            deferred: 0,
        };
        let event = QueuedEvent {
            id,
            function,
            event: event.into(),
            qualifier,
            arn: context.arn,
            client_context: context.client,
            tenant_id: context.tenant_id,
            trace_id: context.trace_id,
            accepted_at: now,
        };
        let queue = self.clone();
        // Whoever sent it may leave meanwhile; what the store has is run all the same.
        let written = self.tasks.spawn(async move {
            queue.store.enqueue(event).await?;
            queue.agenda().add(slip, now);
            queue.nudge.notify_one();
            Ok::<_, StoreError>(())
        });
        match written.await {
            Ok(written) => written.map_err(|error| store_failure(&error))?,
            Err(error) => {
                let message = format!("the event could not be queued: {error}");
                return Err(Failure::new(ErrorType::Internal, message));
            }
        }
        Ok(id)
    }

    /// A function is deleted, and its events with it.
    pub(crate) fn forget_function(&self, function: &FunctionId) {
        self.agenda().forget(function);
    }

    /// Begins no more.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
    }

    /// Waits until what runs has ended, after [`Queue::close`].
    pub(crate) async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// Leaves what runs where it is: the next server runs it again.
    pub(crate) fn cut_off(&self) {
        self.close();
        self.cutting.cancel();
    }
}

/// Runs what is due, until the queue is closed.
pub(crate) async fn run(app: Arc<App>) {
    let queue = app.queue.clone();
    let room = |function: &FunctionId| room(&app, function);
    loop {
        let now = Invocation::now(&app.journal);
        let due = queue.agenda().take(now, queue.limits.async_running, room);
        for slip in due {
            queue.tasks.spawn(attempt(app.clone(), slip));
        }
        let next = queue.agenda().next_due(now);
        let until = next.map(|due| {
            let millis = u64::try_from(due.0 - now.0).unwrap_or(0);
            Instant::now() + Duration::from_millis(millis).min(LOOK)
        });
        let timer = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = queue.closing.cancelled() => return,
            () = queue.nudge.notified() => {}
            () = timer => {}
        }
    }
}

/// How many events of a function may run at once: as many as its workers take, so that others find a place in its queue.
fn room(app: &App, function: &FunctionId) -> u32 {
    match app.registry.table().state(function) {
        Some(State::Deployed(serving)) => {
            let settings = serving.current.as_ref().map(|choice| &choice.first);
            settings.map_or(1, |deployed| {
                let settings = &deployed.version.settings;
                settings
                    .workers_max
                    .saturating_mul(settings.concurrency)
                    .max(1)
            })
        }
        Some(State::NotDeployed | State::Disabled | State::Shut) | None => 1,
    }
}

/// One attempt at an event, and what follows from its end.
async fn attempt(app: Arc<App>, slip: Slip) {
    let queue = app.queue.clone();
    let ended = tokio::select! {
        biased;
        () = queue.cutting.cancelled() => return,
        ended = invoke(&app, &slip) => ended,
    };
    let now = Invocation::now(&app.journal);
    let (failure, ran) = match ended {
        // Its function is gone, and it with it.
        Ok(None) => return queue.forget(&slip),
        Ok(Some(Outcome { result: Ok(_), .. })) => return queue.finish(&slip).await,
        Ok(Some(outcome)) => match outcome.result {
            Err(failure) => (failure, Some(outcome.deployed)),
            Ok(_) => return,
        },
        Err(failure) => (failure, None),
    };
    if queue.closing.is_cancelled() && failure.error_type == ErrorType::ShuttingDown {
        return;
    }
    let limits = &queue.limits;
    match slip.fate(
        failure.error_type,
        now,
        limits.async_retry,
        limits.async_age,
    ) {
        Fate::Retry(due) => queue.retry(slip, due).await,
        Fate::Defer(due) => queue.defer(slip, due),
        Fate::GiveUp => {
            lament(&app, &slip, &failure, ran.as_deref(), now);
            queue.finish(&slip).await;
        }
    }
}

/// Runs it; `None` if it is not queued any more.
async fn invoke(app: &Arc<App>, slip: &Slip) -> Result<Option<Outcome>, Failure> {
    let event = app.store.queued_event(slip.id).await;
    let Some(event) = event.map_err(|error| store_failure(&error))? else {
        return Ok(None);
    };
    if !app.builds.is_quiet() {
        app.builds.settled(Some(&event.function)).await;
    }
    let serving = app.registry.table().serving(&event.function)?;
    let target = lambda::target(&serving, event.qualifier.as_deref())?;
    let errand = Errand {
        work: Work::Event(event.event.into()),
        trigger: Trigger::LambdaApi,
        target,
        wants_logs: false,
    };
    let brought = Brought {
        id: Some(slip.id),
        context: Some(Box::new(Context {
            arn: event.arn,
            client: event.client_context,
            tenant_id: event.tenant_id,
            trace_id: event.trace_id,
        })),
        is_queued: true,
    };
    let outcome = invoke::invoke_as(app, &serving, errand, brought).await?;
    Ok(Some(outcome))
}

/// Says that an event will not be run again.
fn lament(app: &App, slip: &Slip, failure: &Failure, ran: Option<&Deployed>, now: Timestamp) {
    let attempts = slip.failed + u32::from(ran.is_some());
    let age = Duration::from_millis(u64::try_from(now.0 - slip.accepted_at.0).unwrap_or(0));
    let Slip { id, function, .. } = slip;
    tracing::error!(
        invocation = %id, %function, attempts, ?age, %failure,
        "a queued event is given up"
    );
    if let Some(deployed) = ran {
        app.logs.line(LogLine {
            at: now,
            function: function.clone(),
            version: deployed.version.number,
            invocation: Some(*id),
            level: Level::Error,
            text: format!("given up after {attempts} attempts: {failure}"),
            is_info: false,
        });
    }
}

impl Queue {
    /// It is done.
    async fn finish(&self, slip: &Slip) {
        if let Err(error) = self.store.dequeue(slip.id).await {
            // The next start finds it again: at least once, as promised.
            tracing::error!(invocation = %slip.id, error = crate::bundles::chain(&error), "a finished event stays queued");
        }
        self.forget(slip);
    }

    fn forget(&self, slip: &Slip) {
        self.agenda().done(slip);
        self.nudge.notify_one();
    }

    /// It failed, and is tried again.
    async fn retry(&self, mut slip: Slip, due: Timestamp) {
        slip.failed += 1;
        slip.deferred = 0;
        if let Err(error) = self.store.put_off(slip.id, due, slip.failed).await {
            tracing::error!(invocation = %slip.id, error = crate::bundles::chain(&error), "a failed attempt is not written down");
        }
        self.agenda().again(slip, due);
        self.nudge.notify_one();
    }

    /// It could not be tried, and comes again.
    fn defer(&self, mut slip: Slip, due: Timestamp) {
        slip.deferred += 1;
        self.agenda().again(slip, due);
        self.nudge.notify_one();
    }
}
