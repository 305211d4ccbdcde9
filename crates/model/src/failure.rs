//! What can go wrong with an invocation, as its caller sees it. The mapping to HTTP status lives in `server`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! error_types {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// The stable type of an error, as it stands in every answer, record and log line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
        pub enum ErrorType { $($(#[doc = $doc])* $name,)* }

        impl ErrorType {
            /// Every type, in order: the place of one is its number.
            pub const ALL: &'static [ErrorType] = &[$(ErrorType::$name,)*];

            /// The type as people read it.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorType::$name => stringify!($name),)* }
            }
        }

        impl FromStr for ErrorType {
            type Err = ();
            fn from_str(text: &str) -> Result<ErrorType, ()> {
                match text { $(stringify!($name) => Ok(ErrorType::$name),)* _ => Err(()) }
            }
        }
    };
}

error_types! {
    /// No function of that name.
    FunctionNotFound,
    /// The function exists, no version is current.
    NotDeployed,
    /// The function is switched off.
    FunctionDisabled,
    /// A path or name would mean two things.
    NameTaken,
    /// The handler threw, or a web handler gave no Response.
    HandlerError,
    /// Killed at its deadline.
    FunctionTimeout,
    /// Killed for going past `memory`.
    OutOfMemory,
    /// The worker died; the message says of what.
    WorkerCrashed,
    /// The module failed to load.
    InitError,
    /// No room in the queue.
    QueueFull,
    /// Too many requests for this caller.
    Throttled,
    /// Waited for a worker longer than `queue.wait`.
    QueueTimeout,
    /// The server is going down.
    ShuttingDown,
    /// Larger than a named limit.
    PayloadTooLarge,
    /// A developer vanished after *go*.
    LiveSessionLost,
    /// No token, or not a valid one.
    Unauthorized,
    /// The token's role does not allow it.
    Forbidden,
    /// The request makes no sense; the message says where.
    BadRequest,
    /// No such thing, other than a function.
    NotFound,
    /// The caller left before the answer.
    Cancelled,
    /// Named in the product, not built yet.
    ArrivesLater,
    /// Our own fault.
    Internal,
}

impl ErrorType {
    /// Whether the function was at work, so that the failure is its own; else it lies on the way to it, or with its caller.
    pub const fn is_of_function(self) -> bool {
        match self {
            ErrorType::HandlerError
            | ErrorType::FunctionTimeout
            | ErrorType::OutOfMemory
            | ErrorType::WorkerCrashed
            | ErrorType::InitError
            | ErrorType::LiveSessionLost
            | ErrorType::PayloadTooLarge
            | ErrorType::BadRequest => true,
            ErrorType::FunctionNotFound
            | ErrorType::NotDeployed
            | ErrorType::FunctionDisabled
            | ErrorType::NameTaken
            | ErrorType::QueueFull
            | ErrorType::Throttled
            | ErrorType::QueueTimeout
            | ErrorType::ShuttingDown
            | ErrorType::Unauthorized
            | ErrorType::Forbidden
            | ErrorType::NotFound
            | ErrorType::Cancelled
            | ErrorType::ArrivesLater
            | ErrorType::Internal => false,
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a handler threw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct HandlerFault {
    /// The class of the error, such as `TypeError`.
    pub error_type: String,
    /// Its message.
    pub message: String,
    /// Its stack, pointing at the sources that were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// The JSON exactly as a client of the Lambda Runtime API posted it; 256 KiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Box<str>>,
}

impl HandlerFault {
    /// The same without what only clients of the Lambda API are told.
    pub fn without_report(&self) -> HandlerFault {
        HandlerFault {
            error_type: self.error_type.clone(),
            message: self.message.clone(),
            stack: self.stack.clone(),
            reported: None,
        }
    }
}

/// A failure on its way to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error_type}: {message}")]
pub struct Failure {
    /// The stable type.
    pub error_type: ErrorType,
    /// One clear line: the thing, the limit, the true cause.
    pub message: String,
    /// The next step, if there is one.
    pub hint: Option<String>,
    /// What the handler threw, for `HandlerError` and `InitError`.
    pub fault: Option<Box<HandlerFault>>,
}

impl Failure {
    /// A failure without hint or fault.
    pub fn new(error_type: ErrorType, message: impl Into<String>) -> Failure {
        Failure {
            error_type,
            message: message.into(),
            hint: None,
            fault: None,
        }
    }

    /// The same, with the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with what the handler threw.
    pub fn fault(mut self, fault: HandlerFault) -> Failure {
        self.fault = Some(Box::new(fault));
        self
    }
}
