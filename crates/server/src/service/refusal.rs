//! How the profile says no: `{"error","message"?,"logs"?}`, with the words that its clients compare.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use model::{ErrorType, Failure, InvocationId};
use serde::Serialize;

use crate::{errors, forward};

/// An answer that is no success.
pub(super) struct Refusal {
    status: StatusCode,
    shape: Shape,
    retry_after: Option<&'static str>,
    invocation: Option<InvocationId>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ServiceError))]
pub(super) struct Shape {
    error: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Vec<String>>,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, message: Option<String>) -> Refusal {
        Refusal {
            status,
            shape: Shape {
                error,
                message,
                logs: None,
            },
            retry_after: None,
            invocation: None,
        }
    }

    /// The function ran, and failed.
    pub(super) fn failed(id: InvocationId, message: String, logs: Vec<String>) -> Refusal {
        let error = "Function execution failed";
        let mut refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error, Some(message));
        refusal.shape.logs = Some(logs);
        refusal.invocation = Some(id);
        refusal
    }

    /// Source that makes no version.
    pub(super) fn code(failure: Failure) -> Refusal {
        let error = match failure.error_type {
            ErrorType::InitError
            | ErrorType::HandlerError
            | ErrorType::WorkerCrashed
            | ErrorType::FunctionTimeout
            | ErrorType::OutOfMemory
            | ErrorType::BadRequest => "Invalid function code",
            _ => return failure.into(),
        };
        Refusal::new(StatusCode::BAD_REQUEST, error, Some(words(&failure)))
    }

    /// The name is taken by a function.
    pub(super) fn exists(message: String) -> Refusal {
        Refusal::new(
            StatusCode::CONFLICT,
            "Function already exists",
            Some(message),
        )
    }

    /// There is no code to show.
    pub(super) fn no_code(message: Option<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "Function code not found", message)
    }

    /// A method that the path does not take.
    pub(super) fn method_not_allowed(message: String) -> Refusal {
        Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "Method not allowed",
            Some(message),
        )
    }

    /// The same, of one invocation.
    pub(super) fn of(mut self, id: InvocationId) -> Refusal {
        self.invocation = Some(id);
        self
    }
}

/// The message with its next step.
pub(super) fn words(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{}; {hint}", failure.message),
        None => failure.message.clone(),
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        let (code, error) = match failure.error_type {
            ErrorType::FunctionNotFound => (404, "Function not found"),
            ErrorType::NotDeployed => (404, "Function code not found"),
            ErrorType::FunctionDisabled => (403, "Function is disabled"),
            ErrorType::BadRequest => (400, "Bad request"),
            ErrorType::Unauthorized => (401, "Unauthorized"),
            ErrorType::Forbidden => (403, "Forbidden"),
            ErrorType::NotFound => (404, "Not found"),
            ErrorType::NameTaken => (409, "Conflict"),
            ErrorType::PayloadTooLarge => (413, "Payload too large"),
            ErrorType::QueueFull | ErrorType::Throttled => (429, "Too many requests"),
            ErrorType::QueueTimeout | ErrorType::ShuttingDown => (503, "Service unavailable"),
            ErrorType::ArrivesLater => (501, "Not implemented"),
            ErrorType::HandlerError
            | ErrorType::FunctionTimeout
            | ErrorType::OutOfMemory
            | ErrorType::WorkerCrashed
            | ErrorType::InitError
            | ErrorType::LiveSessionLost
            | ErrorType::Cancelled => (500, "Function execution failed"),
            ErrorType::Internal => (500, "Internal server error"),
        };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = match failure.error_type {
            // These say all by themselves, and clients compare the whole.
            ErrorType::FunctionNotFound | ErrorType::NotDeployed | ErrorType::FunctionDisabled => {
                None
            }
            _ => Some(words(&failure)),
        };
        Refusal {
            retry_after: errors::retry_after(failure.error_type),
            ..Refusal::new(status, error, message)
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.shape)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(id) = self.invocation
            && let Ok(id) = HeaderValue::from_str(&id.to_string())
        {
            headers.insert(forward::INVOCATION_ID, id);
        }
        response
    }
}
