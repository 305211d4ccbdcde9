//! The BunBase profile: functions are registered, deployed and called by its paths and over its framed socket.
//! Its words and shapes stand here and below; what a function is and where it runs does not.

mod command;
mod connection;
mod deploy;
mod frame;
mod invoke;
mod logs;
mod measure;
pub(crate) mod paths;
mod register;
mod room;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use model::{ErrorType, Failure, FunctionId};
use serde::Serialize;

use crate::{api::ApiError, app::App, errors};

pub(crate) use connection::serve;
pub(crate) use paths::{deploy, is_logs, logs, register};
pub(crate) use register::runtime;
pub(crate) use room::Room;

/// A failure as this profile says it: on HTTP, and in a frame of status 1.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct Refusal<'a> {
    error: &'a str,
    #[serde(rename = "type")]
    error_type: ErrorType,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Refusal<'_> {
    fn of(failure: &Failure) -> Refusal<'_> {
        Refusal {
            error: &failure.message,
            error_type: failure.error_type,
            hint: failure.hint.as_deref(),
        }
    }
}

/// A failure as an answer on HTTP.
pub(crate) struct Refused(Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused(failure)
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Refused {
        Refused(error.0)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        // Status and headers are those that the failure has everywhere; only the body is the profile's own.
        let head = errors::response(&self.0, None);
        let (status, mut headers): (StatusCode, _) = (head.status(), head.headers().clone());
        headers.remove(http::header::CONTENT_LENGTH);
        // Code that does not load is its author's, not a function's that was called.
        let is_code = matches!(
            self.0.error_type,
            ErrorType::InitError
                | ErrorType::HandlerError
                | ErrorType::WorkerCrashed
                | ErrorType::FunctionTimeout
                | ErrorType::OutOfMemory
        );
        let status = match is_code {
            true => StatusCode::BAD_REQUEST,
            false => status,
        };
        (status, headers, Json(Refusal::of(&self.0))).into_response()
    }
}

/// The function that a client names: `NAME`, or `PROJECT/NAME`.
fn function(app: &App, text: &str) -> Result<FunctionId, Failure> {
    match text.split_once('/') {
        Some((project, name)) => crate::api::function(project, name),
        None => crate::api::function(app.home_project.as_str(), text),
    }
}

/// The refusal of what a client left out.
fn missing(what: &str) -> Failure {
    Failure::new(ErrorType::BadRequest, format!("`{what}` is missing"))
}
