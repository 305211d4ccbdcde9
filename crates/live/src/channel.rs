//! What every channel is to the ends: a way to join, something to say into, something to hear from.
//! One channel per kind of transport; `conformance` holds what all of them must do.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;

pub use crate::queue::Inbox;
use crate::{
    Frame,
    broker::Broker,
    claims::Credentials,
    message::{Control, Fatal, Goodbye, Hello, Refusal, Welcome},
};

/// Longest wait for the answer to a `Hello`.
const WELCOME_WAIT: Duration = Duration::from_secs(10);

/// Longest wait for a goodbye to get through.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// A channel that an end can join, again and again.
pub trait Channel: Send + Sync {
    /// Connects and says hello. The caller keeps the lease: no channel sends heartbeats by itself.
    fn join(&self, hello: Hello) -> Joining<'_>;
}

/// On the way in.
pub type Joining<'a> = Pin<Box<dyn Future<Output = Result<Joined, JoinError>> + Send + 'a>>;

/// A connection to a channel.
pub struct Joined {
    /// What the channel said.
    pub welcome: Welcome,
    /// What this end says.
    pub outbox: Outbox,
    /// What it is told.
    pub inbox: Inbox,
}

/// Why an end is not on the channel.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No address of a channel.
    #[error(
        "`{address}` is no address of a live channel: {why}; write it like `ws://127.0.0.1:9001` or `https://functions.example.com`"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers there.
    #[error("cannot reach the live channel at {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something answers that is no live channel, or it turns this end away before a hello.
    #[error("{address} answered the live connection with status {status}: {said}")]
    Status {
        /// Where.
        address: String,
        /// The status of its answer.
        status: u16,
        /// The beginning of its body.
        said: String,
    },
    /// The channel does not let this end in.
    #[error(transparent)]
    Refused(Refusal),
    /// It was let in by nobody within ten seconds.
    #[error("{address} did not answer the Hello within {} s", WELCOME_WAIT.as_secs())]
    Silent {
        /// Where.
        address: String,
    },
    /// The connection ended before an answer.
    #[error("{address} closed the live connection before it answered")]
    Closed {
        /// Where.
        address: String,
    },
}

/// The connection has ended; whatever is said now is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the live connection has ended")]
pub struct Closed;

/// What an end says; clones say it on the same connection.
#[derive(Clone)]
pub struct Outbox(Arc<dyn Outward>);

/// What stands behind an outbox.
pub(crate) trait Outward: Send + Sync {
    /// Takes a frame without waiting.
    fn send(&self, frame: Frame) -> Result<(), Closed>;

    /// Ends the connection because of what came in on it.
    fn refuse(&self, refusal: Refusal);

    /// Frames of attempts go there from now on, in the task that brought them, and not into the inbox.
    /// `false`: this channel has no such short way.
    fn shortcut(&self, _hear: Shortcut) -> bool {
        false
    }
}

/// Takes a frame where it arrives; must not wait, nor say anything while it holds what hearing needs.
pub(crate) type Shortcut = Box<dyn Fn(Frame) + Send + Sync>;

impl Outbox {
    pub(crate) fn new(outward: impl Outward + 'static) -> Outbox {
        Outbox(Arc::new(outward))
    }

    /// Says something; never waits.
    pub fn send(&self, frame: impl Into<Frame>) -> Result<(), Closed> {
        self.0.send(frame.into())
    }

    /// See [`Outward::shortcut`].
    pub(crate) fn shortcut(&self, hear: Shortcut) -> bool {
        self.0.shortcut(hear)
    }

    /// Ends the connection because of what came in on it.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.0.refuse(refusal);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}

impl Joined {
    /// Says goodbye, and gives it a moment to get through.
    pub async fn leave(mut self, why: &str) {
        let goodbye = Goodbye { why: why.into() };
        if self.outbox.send(Control::from(goodbye)).is_ok() {
            let ended = async { while self.inbox.recv().await.is_some() {} };
            // One that does not answer hears that the connection closes.
            let _ = timeout(LEAVE_WAIT, ended).await;
        }
    }
}

/// Says hello on a new connection, and waits for the answer.
pub(crate) async fn greet(
    address: &str,
    hello: Hello,
    outbox: Outbox,
    mut inbox: Inbox,
) -> Result<Joined, JoinError> {
    let address = || address.to_owned();
    let closed = || JoinError::Closed { address: address() };
    let said = outbox.send(Control::from(hello));
    said.map_err(|Closed| closed())?;
    let answer = timeout(WELCOME_WAIT, inbox.recv()).await;
    let answer = answer.map_err(|_| JoinError::Silent { address: address() })?;
    match Control::read(&answer.ok_or_else(closed)?) {
        Ok(Control::Welcome(welcome)) => Ok(Joined {
            welcome,
            outbox,
            inbox,
        }),
        Ok(Control::Fatal(Fatal(refusal))) => Err(JoinError::Refused(refusal)),
        Ok(Control::Goodbye(goodbye)) => {
            let refusal = Refusal::new("ShuttingDown", goodbye.why);
            Err(JoinError::Refused(refusal))
        }
        Ok(other) => {
            let message = format!("the channel answered the Hello with a {:?}", other.kind());
            Err(JoinError::Refused(Refusal::new("BadFrame", message)))
        }
        Err(error) => {
            let refusal = Refusal::new("BadFrame", error.to_string());
            Err(JoinError::Refused(refusal))
        }
    }
}

/// The embedded channel from within its own process.
#[derive(Clone)]
pub struct Local {
    /// The channel.
    pub broker: Broker,
    /// Who joins.
    pub who: Credentials,
}

impl Channel for Local {
    fn join(&self, hello: Hello) -> Joining<'_> {
        let port = self.broker.connect_unlimited(self.who.clone());
        Box::pin(greet("the server itself", hello, port.outbox, port.inbox))
    }
}
