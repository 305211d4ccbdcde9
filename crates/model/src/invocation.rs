//! An invocation: its id, where it came from, how it ended, what it logged.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Attempt, ErrorType, FunctionId, HandlerFault, Timestamp, VersionNumber};

/// One id for one piece of work, under every profile's own name: a UUIDv7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvocationId(pub Uuid);

impl InvocationId {
    /// An id for work that arrived `at`, made unique by 80 bits of `chance` (UUIDv7, RFC 9562 5.7).
    pub fn new(at: Timestamp, chance: [u8; 10]) -> InvocationId {
        let millis = u64::try_from(at.0).unwrap_or(0);
        InvocationId(uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid())
    }

    /// The id as two words, for places that hold it in atomics. Never both zero.
    pub fn to_words(self) -> (u64, u64) {
        self.0.as_u64_pair()
    }

    /// The id from [`InvocationId::to_words`]; `None` for two zeros.
    pub fn from_words(high: u64, low: u64) -> Option<InvocationId> {
        (high != 0 || low != 0).then(|| InvocationId(Uuid::from_u64_pair(high, low)))
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for InvocationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<InvocationId, uuid::Error> {
        text.parse().map(InvocationId)
    }
}

macro_rules! words {
    ($(#[doc = $enum_doc:literal])* $name:ident { $($(#[doc = $doc:literal])* $variant:ident = $text:literal,)* }) => {
        $(#[doc = $enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[doc = $doc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        #[cfg(feature = "describe")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::describe::word($name::ALL.iter().map(|word| word.as_str()))
            }
        }

        #[cfg(feature = "describe")]
        impl utoipa::ToSchema for $name {}

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<$name, String> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err(format!("`{text}` is none of: {}", [$($text),*].join(", "))),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where an invocation came from.
    Trigger {
        /// The gateway.
        Http = "http",
        /// A cron rule.
        Schedule = "schedule",
        /// An emitted event.
        Event = "event",
        /// The framed Unix socket.
        Socket = "socket",
        /// The AWS Lambda profile.
        LambdaApi = "lambda-api",
        /// `bungee invoke`, or the invoke call of `/v1`.
        Cli = "cli",
        /// A recorded invocation, again.
        Replay = "replay",
    }
}

words! {
    /// How loud a log line is, quietest first.
    Level {
        /// `console.trace`.
        Trace = "trace",
        /// `console.debug`.
        Debug = "debug",
        /// `console.log`, `console.info` and plain output.
        Info = "info",
        /// `console.warn`.
        Warn = "warn",
        /// `console.error` and what the platform has to say of a failure.
        Error = "error",
    }
}

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The handler answered.
    Ok,
    /// It failed, with this type.
    Failed(ErrorType),
}

impl Outcome {
    /// `ok`, or the error's type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Failed(error_type) => error_type.as_str(),
        }
    }
}

impl FromStr for Outcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Outcome, ()> {
        if text == "ok" {
            Ok(Outcome::Ok)
        } else {
            text.parse().map(Outcome::Failed)
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|()| serde::de::Error::custom(format!("`{text}` is no outcome")))
    }
}

/// What is kept of one ended invocation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct Record {
    /// Its id.
    pub id: InvocationId,
    /// The function that was asked.
    pub function: FunctionId,
    /// The version that ran; `None` if none was reached.
    pub version: Option<VersionNumber>,
    /// Where it came from.
    pub trigger: Trigger,
    /// How it ended.
    pub outcome: Outcome,
    /// The failure's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the handler threw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<HandlerFault>,
    /// HTTP method, for web requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path and query, for web requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Status that the caller got, for web requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// When it arrived.
    pub arrived: Timestamp,
    /// Microseconds from arrival until a worker took it: queue and cold start.
    pub waited_us: u64,
    /// Microseconds from then to the last byte.
    pub ran_us: u64,
    /// Whether a worker had to be started for it.
    pub cold: bool,
    /// The worker that ran it; `None` if none was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Where it was tried, in order. Empty where only the deployed version was ever asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Whether what it was asked is kept and can be replayed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recording: bool,
}

/// One line that a function, or the platform about it, wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// The function it belongs to.
    pub function: FunctionId,
    /// The version that wrote it.
    pub version: VersionNumber,
    /// The invocation; `None` when it belongs to the worker only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<InvocationId>,
    /// How loud.
    pub level: Level,
    /// Whether `console.info` wrote it; other lines of that level are plain output. Known while a line is on its way, and
    /// not stored.
    #[serde(skip)]
    pub is_info: bool,
    /// The text, control characters and all; one line may hold line breaks.
    pub text: String,
}
