//! What is said of an attempt: the payloads of its frames, JSON but for bodies. Times are spans, never clock times:
//! the two ends' clocks may differ by days.

use bytes::Bytes;
use model::{ErrorType, Failure, HandlerFault, Level};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// An invocation, told without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The claim that it matched.
    pub claim: u64,
    /// `project/name`.
    pub function: String,
    /// The deployed version that would run it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it came from.
    pub trigger: String,
    /// `event` or `web`: the shape of the request that comes with *go*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The rule that it matched.
    pub rule: String,
    /// Bytes of its payload, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Milliseconds that it may take.
    pub deadline_ms: u64,
    /// Whether the deadline waits while a debugger is attached.
    #[serde(default)]
    pub hold: bool,
    /// A copy: the deployed code runs too, and only its answer counts.
    #[serde(default)]
    pub observe: bool,
    /// Counts the host's offers to this session, from 1.
    pub ordinal: u64,
    /// Who called, as far as people want to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// HTTP method, for web requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path and query, for web requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the host can do beyond the first version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

#[cfg(test)]
impl Offer {
    /// One of `default/hello`, for tests.
    pub(crate) fn sample() -> Offer {
        Offer {
            claim: 1,
            function: "default/hello".into(),
            version: None,
            trigger: "http".into(),
            kind: None,
            rule: "all".into(),
            size: None,
            deadline_ms: 30_000,
            hold: false,
            observe: false,
            ordinal: 0,
            who: None,
            method: None,
            path: None,
            capabilities: Vec::new(),
        }
    }
}

/// Why something is not done: a decline, a withdrawal, a cancellation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// In words that people read.
    pub why: String,
}

/// A withdrawal of what was never offered, for it would be sealed with another key than the session's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// In words that people read.
    pub why: String,
    /// Which key the host has; empty: none.
    pub seal: String,
}

/// The request that is to be run, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// HTTP method.
    pub method: String,
    /// The whole URL, or path and query.
    pub uri: String,
    /// Names and values; each character of a value is one byte.
    pub headers: Vec<(String, String)>,
    /// Milliseconds that are left.
    pub deadline_ms: u64,
    /// Whether the deadline waits while a debugger is attached.
    #[serde(default)]
    pub hold: bool,
    /// Whether body messages follow.
    pub body: bool,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// As in [`Go`].
    pub headers: Vec<(String, String)>,
}

/// How it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The stable type.
    #[serde(rename = "type")]
    pub error_type: String,
    /// One clear line.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the handler threw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Box<HandlerFault>>,
}

impl From<&Failure> for Fault {
    fn from(failure: &Failure) -> Fault {
        Fault {
            error_type: failure.error_type.as_str().to_owned(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
            fault: failure.fault.clone(),
        }
    }
}

impl From<Fault> for Failure {
    /// A type that this end does not know is the handler's error.
    fn from(fault: Fault) -> Failure {
        let error_type = fault.error_type.parse();
        Failure {
            error_type: error_type.unwrap_or(ErrorType::HandlerError),
            message: fault.message,
            hint: fault.hint,
            fault: fault.fault,
        }
    }
}

/// Lines that an invocation wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// In the order in which they were written.
    pub lines: Vec<Line>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since it was written.
    pub ago_ms: u64,
    /// How loud.
    pub level: Level,
    /// The text.
    pub text: String,
}

/// As it crosses the wire.
pub(crate) fn to_json(payload: &impl Serialize) -> Bytes {
    // None of these has a map with keys that are no text, nor a value that fails.
    Bytes::from(serde_json::to_vec(payload).unwrap_or_default())
}

/// From what came; words for what is wrong with it otherwise.
pub(crate) fn from_json<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("{what} cannot be read: {error}"))
}
