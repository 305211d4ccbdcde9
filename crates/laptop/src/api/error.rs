//! Why a call of the API gave nothing: nobody there, a refusal, or an answer that makes no sense.

use std::{io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// The error object of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The stable type, such as `FunctionNotFound`; newer servers may know more than this client.
    #[serde(rename = "type")]
    pub error_type: String,
    /// One clear line.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The invocation that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// Where the type is explained; what is an error of ours always says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
    /// What the handler threw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<model::HandlerFault>,
}

#[derive(Deserialize)]
pub(super) struct ErrorAnswer {
    pub(super) error: ErrorBody,
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The client could not be made, for want of certificates.
    #[error("cannot prepare a connection to {server}")]
    Setup {
        /// The server that was meant.
        server: String,
        /// Why.
        #[source]
        error: reqwest::Error,
    },
    /// There can be no socket at that path.
    #[error("cannot reach a server at the socket {}", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot reach a server at {server}")]
    Unreachable {
        /// The server that was meant.
        server: String,
        /// Why.
        #[source]
        error: reqwest::Error,
    },
    /// Somebody took the connection, and said nothing.
    #[error("the server at {server} did not answer within {} s", .after.as_secs())]
    Silent {
        /// The server that was meant.
        server: String,
        /// How long that took.
        after: Duration,
    },
    /// The connection broke before the answer was complete.
    #[error("the server at {server} left in the middle of an answer")]
    Broken {
        /// The server.
        server: String,
        /// Why.
        #[source]
        error: reqwest::Error,
    },
    /// The server refused, and said why.
    #[error("{}", .error.message)]
    Answered {
        /// The HTTP status.
        status: u16,
        /// The error object.
        error: Box<ErrorBody>,
    },
    /// Not an answer that a server of ours gives.
    #[error("{server} does not answer like a Bungee server: {what}")]
    Unreadable {
        /// Who answered.
        server: String,
        /// What was there instead.
        what: String,
    },
}

impl ApiError {
    pub(super) fn of_request(server: String, error: reqwest::Error) -> ApiError {
        if error.is_connect() || error.is_timeout() {
            ApiError::Unreachable { server, error }
        } else {
            ApiError::Broken { server, error }
        }
    }

    pub(super) fn of_answer(server: String, status: u16, body: &[u8]) -> ApiError {
        match serde_json::from_slice::<ErrorAnswer>(body) {
            Ok(answer) => ApiError::Answered {
                status,
                error: Box::new(answer.error),
            },
            Err(_) => ApiError::Unreadable {
                server,
                what: format!("status {status} without an error object"),
            },
        }
    }

    /// The type that the server gave, if it answered.
    pub fn error_type(&self) -> Option<&str> {
        match self {
            ApiError::Answered { error, .. } => Some(&error.error_type),
            ApiError::Setup { .. }
            | ApiError::NoSocket { .. }
            | ApiError::Unreachable { .. }
            | ApiError::Silent { .. }
            | ApiError::Broken { .. }
            | ApiError::Unreadable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_words() {
        let body = br#"{"error":{"type":"FunctionNotFound","message":"no function `x`","hint":"did you mean `y`?"}}"#;
        let error = ApiError::of_answer("s".into(), 404, body);
        assert_eq!(error.to_string(), "no function `x`");
        assert_eq!(error.error_type(), Some("FunctionNotFound"));
        let stranger = ApiError::of_answer("s".into(), 404, b"<html>");
        assert!(stranger.to_string().contains("does not answer like"));
    }
}
