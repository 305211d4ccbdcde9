//! What the frames between an end and its channel say: kinds below 32, whose payload is JSON.
//! Not what two ends say to one another about an attempt. Every time here is a duration in milliseconds, never an hour of some clock.

use std::fmt;

use model::Rule;
use serde::{Deserialize, Serialize};

mod control;

pub use control::{Control, Unreadable};

/// Most claims of one session.
pub const CLAIMS_MAX: usize = 1000;

/// Most claims of one function: a host is told all of them in one frame.
pub const CLAIMS_OF_FUNCTION_MAX: usize = 128;

/// Most functions that a host names in [`Serve`]; one that has more says `all`.
pub const SERVE_MAX: usize = 1000;

/// Longest name of a developer, a host, a program or a function, in bytes.
pub const NAME_MAX: usize = 200;

/// Longest reason or message, in bytes; what is longer is cut before it is sent.
pub const TEXT_MAX: usize = 2000;

/// Longest name of a sealing key, in bytes.
pub const SEAL_MAX: usize = 16;

/// Most capabilities that an end names.
pub const CAPABILITIES_MAX: usize = 32;

/// Of a session's capabilities hosts are told the first so many …
pub(crate) const CAPABILITIES_TOLD: usize = 4;

/// … that are no longer than this, in bytes.
pub(crate) const CAPABILITY_TOLD_MAX: usize = 16;

/// Which end introduces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A developer's end: it runs what it accepts.
    Session,
    /// The end that has invocations and offers them.
    Host,
}

/// What a claim asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The invocation itself.
    Take,
    /// A copy of it; the deployed answer counts.
    Observe,
}

/// An end introduces itself; the first frame of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which end.
    pub role: Role,
    /// A host's name, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Program and version, such as `bungee 0.1.0`.
    pub program: String,
    /// Who is shown to others, such as `ann@laptop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub developer: Option<String>,
    /// The key out of an earlier [`Welcome`]: the same end on a new connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// What this end can do beyond the first version, such as `deflate`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Eight hex digits that tell sealing keys apart; absent: this end seals nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

/// The channel's answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session's id, `ses_…`; a host has one too.
    pub session: String,
    /// Its number on this channel.
    pub peer: u32,
    /// What [`Hello::resume`] says on the next connection; nobody else may know it.
    pub key: String,
    /// Whether this goes on where an earlier connection stopped.
    pub resumed: bool,
    /// The claims that a resumed session still holds. One that it remembers and that is missing here was taken meanwhile.
    #[serde(default)]
    pub claims: Vec<u64>,
    /// An end that is silent for so long is gone.
    pub lease_ms: u64,
    /// So often it says that it is there.
    pub heartbeat_ms: u64,
    /// An offer waits for so long.
    pub offer_ms: u64,
    /// The program that keeps the channel.
    pub server: String,
    /// The project of functions that are named without one.
    pub project: String,
    /// What the channel can do beyond the first version.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Whether others than local programs reach it: claiming everything then has to be said twice.
    pub is_wide: bool,
}

/// A session wants a function's invocations. Said again, it is the same claim with new settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The sender's number of this question; stands in the answer.
    #[serde(rename = "ref")]
    pub reference: u64,
    /// `project/name`, or a name of the home project.
    pub function: String,
    /// Which invocations, as [`model::Rule`] reads it.
    pub rule: String,
    /// The invocations or copies of them.
    pub mode: Mode,
    /// Take it from whoever holds it.
    #[serde(default)]
    pub take_over: bool,
    /// So many at once; absent: as many as come.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// The deadline waits while they run.
    #[serde(default)]
    pub hold_deadline: bool,
    /// On a wide channel: yes, everything is meant.
    #[serde(default)]
    pub all: bool,
}

/// The claim is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Of [`Claim::reference`].
    #[serde(rename = "ref")]
    pub reference: u64,
    /// Its number on this channel.
    pub claim: u64,
    /// Whether somebody has invocations of this function now; if not, it waits for bridges.
    pub deployed: bool,
}

/// The claim is not held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Of [`Claim::reference`].
    #[serde(rename = "ref")]
    pub reference: u64,
    /// Why, in a word.
    #[serde(flatten)]
    pub refusal: Refusal,
    /// Who holds it, where that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// Why something is not given: a stable word, a sentence, the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Refusal {
    /// The stable word: `ClaimHeld`, `LiveOff`, `Forbidden`, `BadRule`, `BadFunction`, `BadClaim`, `NeedsAll`, `TooManyClaims`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What is wrong.
    pub message: String,
    /// The next step, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Who holds what somebody else wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// As they call themselves.
    pub developer: String,
    /// For so long.
    pub since_ms: u64,
    /// By this rule.
    pub rule: Rule,
    /// The number of their claim.
    pub claim: u64,
}

/// A session gives a claim back, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Release {
    /// Which; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<u64>,
}

/// An end is alive; the answer [`Control::Alive`] says the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's count.
    pub n: u64,
}

/// A claim has ended, and not by its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Which.
    pub claim: u64,
    /// Who has it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub why: String,
}

/// To a host: every claim of a function as it is now, in the order in which they are tried.
/// A host forgets all it was told when it is welcomed and when it says [`Serve`]; what it is not told then has no claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// `project/name`.
    pub function: String,
    /// Its claims.
    pub claims: Vec<Present>,
}

/// One claim as hosts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Its number.
    pub claim: u64,
    /// The number of its session's end.
    pub peer: u32,
    /// The session's id.
    pub session: String,
    /// Whose it is.
    pub developer: String,
    /// Which invocations.
    pub rule: Rule,
    /// The invocations or copies of them.
    pub mode: Mode,
    /// So many at once; absent: as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// The deadline waits while they run.
    pub hold_deadline: bool,
    /// Which sealing key the session has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
    /// What the session can do beyond the first version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// A host says whose invocations it may offer; replaces what it said before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Serve {
    /// Each `project/name`, or a name of the home project.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Every function that there is.
    #[serde(default)]
    pub all: bool,
}

/// The sender leaves, or the channel closes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// An end is not there any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Its number, which nobody gets again.
    pub peer: u32,
    /// Why.
    pub why: String,
}

/// The answer to a [`Heartbeat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The number that was heard.
    pub n: u64,
}

/// A connection cannot go on; nothing follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(transparent)]
#[error(transparent)]
pub struct Fatal(pub Refusal);

impl Refusal {
    /// A refusal without a hint.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal {
            kind: kind.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same, with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Take => "take",
            Mode::Observe => "observe",
        })
    }
}
