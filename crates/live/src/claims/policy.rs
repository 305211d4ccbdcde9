//! What a channel is told by whoever keeps it: its times, who somebody is, and what they may.

use model::{FunctionId, Name};

use crate::message::Refusal;

/// What a channel says of itself, and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Program and version.
    pub server: String,
    /// The project of functions that are named without one.
    pub project: Name,
    /// Whether others than local programs reach it.
    pub is_wide: bool,
    /// An end that is silent for so long is gone, in milliseconds.
    pub lease_ms: u64,
    /// So often an end says that it is there.
    pub heartbeat_ms: u64,
    /// An offer waits for so long.
    pub offer_ms: u64,
    /// What it can do beyond the first version.
    pub capabilities: Vec<String>,
}

impl Default for ChannelSettings {
    fn default() -> ChannelSettings {
        ChannelSettings {
            server: concat!("bungee ", env!("CARGO_PKG_VERSION")).into(),
            project: Name::default_project(),
            is_wide: false,
            lease_ms: 5000,
            heartbeat_ms: 1000,
            offer_ms: 500,
            capabilities: Vec::new(),
        }
    }
}

/// Who is at the other end of a connection, as its token proved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// Whom the token names, if it names somebody.
    pub user: Option<String>,
    /// Which token it is, for the [`Policy`]; never the token itself.
    pub token: Option<String>,
    /// May run invocations here.
    pub may_attach: bool,
    /// May offer invocations here.
    pub may_host: bool,
}

/// What the keeper of the channel allows.
pub trait Policy: Send + Sync {
    /// Whether this function's invocations may leave for a developer's machine.
    fn may_claim(&self, function: &FunctionId, who: &Credentials) -> Result<(), Refusal>;

    /// Whether this end may offer invocations of the function; none: of every one.
    fn may_serve(&self, _function: Option<&FunctionId>, _who: &Credentials) -> Result<(), Refusal> {
        Ok(())
    }

    /// Whether the keeper itself runs this function; none where it cannot know.
    fn is_deployed(&self, _function: &FunctionId) -> Option<bool> {
        None
    }
}

/// Allows everything: a relay, which knows no functions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl Policy for Open {
    fn may_claim(&self, _function: &FunctionId, _who: &Credentials) -> Result<(), Refusal> {
        Ok(())
    }
}
