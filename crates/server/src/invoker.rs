//! Where an invocation may run. The gateway asks here and does not know more: the local workers, or a developer's session.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use model::{ErrorType, Failure, InvocationId, TimeSpan};
use workers::{Counts, Pool};

use crate::live::{Observed, SessionAnswer, SessionLease};

/// The right to run one invocation.
pub(crate) enum Lease {
    /// In a slot of a worker here.
    Worker(workers::Lease),
    /// In a developer's session that accepted it.
    Session(Box<SessionLease>),
    /// In either, while others have a copy.
    Observed(Box<Observed>),
}

/// The body of a request on its way to a handler.
pub(crate) type Body = workers::Body;

/// The body of a handler's answer, as it comes.
pub(crate) enum Answer {
    /// From a worker here.
    Worker(workers::Answer),
    /// From a developer's session.
    Session(Box<SessionAnswer>),
}

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
            Invoker::Workers(pool) => pool.acquire(id).await.map(Lease::Worker),
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

impl Lease {
    /// Whether a worker was started for it.
    pub(crate) fn cold(&self) -> bool {
        match self {
            Lease::Worker(lease) => lease.cold(),
            Lease::Session(_) => false,
            Lease::Observed(observed) => observed.lease.cold(),
        }
    }

    /// The worker here that it is a slot of.
    pub(crate) fn worker(&self) -> Option<Runner> {
        match self {
            Lease::Worker(lease) => Some(lease.worker()),
            Lease::Session(_) => None,
            Lease::Observed(observed) => observed.lease.worker(),
        }
    }

    /// The same, for so long instead of the version's `timeout`.
    pub(crate) fn within(self, limit: TimeSpan) -> Lease {
        match self {
            Lease::Worker(lease) => Lease::Worker(lease.within(limit)),
            // A session is told its limit with the invocation.
            Lease::Session(_) | Lease::Observed(_) => self,
        }
    }

    /// Runs the invocation, up to the head of its answer. Dropping the future means that the caller left.
    pub(crate) async fn send(self, request: Request<Body>) -> Result<Response<Answer>, Failure> {
        match self {
            Lease::Worker(lease) => Ok(lease.send(request).await?.map(Answer::Worker)),
            // Boxed, so that what seldom happens makes no future larger that is moved for every request.
            Lease::Session(lease) => Box::pin(lease.send(request)).await,
            Lease::Observed(observed) => Box::pin(observed.send(request)).await,
        }
    }
}

impl Answer {
    /// From now on the answer may take as long as it likes: whoever reads it looks after its silence.
    pub(crate) fn hold_open(&mut self) {
        match self {
            Answer::Worker(answer) => answer.hold_open(),
            Answer::Session(answer) => answer.hold_open(),
        }
    }

    /// The bytes that follow a head which switches protocols.
    pub(crate) async fn into_socket(self) -> Result<Socket, Failure> {
        match self {
            Answer::Worker(answer) => answer.into_socket().await,
            Answer::Session(_) => Err(Failure::new(
                ErrorType::HandlerError,
                "a developer's code switched protocols, and a WebSocket does not cross to a laptop",
            )),
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            Answer::Worker(answer) => Pin::new(answer).poll_frame(context),
            Answer::Session(answer) => Pin::new(answer.as_mut()).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Worker(answer) => answer.is_end_stream(),
            Answer::Session(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Worker(answer) => answer.size_hint(),
            Answer::Session(_) => SizeHint::default(),
        }
    }
}
