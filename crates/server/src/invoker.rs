//! Where an invocation may run. The gateway asks here and does not know more: the local workers now, a developer's
//! session too once live development arrives.

use std::time::Duration;

use model::{Failure, InvocationId};
use workers::{Counts, Pool};

/// The right to run one invocation: a slot of a worker.
pub(crate) type Lease = workers::Lease;

/// The body of a request on its way to a handler.
pub(crate) type Body = workers::Body;

/// The body of a handler's answer, as it comes.
pub(crate) type Answer = workers::Answer;

/// What a handler's answer became, if it switched protocols.
pub(crate) type Socket = workers::Socket;

/// Whoever runs an invocation, for its record.
pub(crate) type Runner = workers::WorkerRef;

/// What takes the invocations of one version.
pub(crate) enum Invoker {
    /// Worker processes on this machine.
    Workers(Pool),
}

/// How what ran came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Within the grace.
    ByItself,
    /// At the end of it.
    CutOff,
}

impl Invoker {
    /// A place to run one invocation, as soon as there is one.
    pub(crate) async fn acquire(&self, id: InvocationId) -> Result<Lease, Failure> {
        match self {
            Invoker::Workers(pool) => pool.acquire(id).await,
        }
    }

    /// Waits until so many workers are ready, whom the first calls then meet.
    pub(crate) async fn warm(&self, count: u32) -> Result<(), Failure> {
        match self {
            Invoker::Workers(pool) => pool.warm(count).await,
        }
    }

    /// Whether it takes no more, because another version took over or the server goes down.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Invoker::Workers(pool) => pool.is_closed(),
        }
    }

    /// Takes no more; what runs ends by itself.
    pub(crate) fn close(&self) {
        match self {
            Invoker::Workers(pool) => pool.close(),
        }
    }

    /// Waits until all that ran has ended after it was closed; what runs longer than the grace is cut off.
    pub(crate) async fn gone(&self, grace: Duration) -> Gone {
        match self {
            Invoker::Workers(pool) => {
                if tokio::time::timeout(grace, pool.done()).await.is_ok() {
                    return Gone::ByItself;
                }
                pool.cut_off().await;
                pool.done().await;
                Gone::CutOff
            }
        }
    }

    /// Whether it is closed and the last of its workers is gone.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Invoker::Workers(pool) => pool.is_done(),
        }
    }

    /// Its workers by what they do.
    pub(crate) fn counts(&self) -> Counts {
        match self {
            Invoker::Workers(pool) => pool.counts(),
        }
    }
}
