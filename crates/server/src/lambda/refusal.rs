//! What AWS Lambda calls what went wrong: type, status and the JSON that its SDKs read.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use model::{ErrorType, Failure};
use serde_json::json;
use store::StoreError;

use crate::{deploys::store_failure, errors::JSON};

/// The types of AWS Lambda that are said here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    AccessDenied,
    AliasLimitExceeded,
    IncompleteSignature,
    InvalidParameterValue,
    InvalidRequestContent,
    InvalidSignature,
    MissingAuthenticationToken,
    NotServed,
    PreconditionFailed,
    RequestEntityTooLarge,
    RequestTooLarge,
    ResourceConflict,
    ResourceNotFound,
    Service,
    ServiceUnavailable,
    TooManyRequests,
    UnknownOperation,
    UnrecognizedClient,
    Validation,
}

impl Kind {
    /// Its name and its status on AWS.
    const fn words(self) -> (&'static str, u16) {
        match self {
            Kind::AccessDenied => ("AccessDeniedException", 403),
            Kind::AliasLimitExceeded => ("AliasLimitExceededException", 400),
            Kind::IncompleteSignature => ("IncompleteSignatureException", 403),
            Kind::InvalidParameterValue => ("InvalidParameterValueException", 400),
            Kind::InvalidRequestContent => ("InvalidRequestContentException", 400),
            Kind::InvalidSignature => ("InvalidSignatureException", 403),
            Kind::MissingAuthenticationToken => ("MissingAuthenticationTokenException", 403),
            // Not one of AWS's: 501 is no status that an SDK tries again.
            Kind::NotServed => ("NotImplementedException", 501),
            Kind::PreconditionFailed => ("PreconditionFailedException", 412),
            Kind::RequestEntityTooLarge => ("RequestEntityTooLargeException", 413),
            Kind::RequestTooLarge => ("RequestTooLargeException", 413),
            Kind::ResourceConflict => ("ResourceConflictException", 409),
            Kind::ResourceNotFound => ("ResourceNotFoundException", 404),
            Kind::Service => ("ServiceException", 500),
            Kind::ServiceUnavailable => ("ServiceException", 503),
            Kind::TooManyRequests => ("TooManyRequestsException", 429),
            Kind::UnknownOperation => ("UnknownOperationException", 404),
            Kind::UnrecognizedClient => ("UnrecognizedClientException", 403),
            Kind::Validation => ("ValidationException", 400),
        }
    }
}

/// An operation that was not done, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub kind: Kind,
    pub message: String,
    /// Which limit was met, where AWS says so.
    pub reason: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Refusal {
        Refusal {
            kind,
            message: message.into(),
            reason: None,
        }
    }

    /// A parameter that cannot be.
    pub(crate) fn parameter(message: impl Into<String>) -> Refusal {
        Refusal::new(Kind::InvalidParameterValue, message)
    }

    /// One value that breaks a rule of the API, in the words of AWS's own validation.
    pub(crate) fn constraint(value: &str, at: &str, rule: &str) -> Refusal {
        let message = format!(
            "1 validation error detected: Value '{value}' at '{at}' failed to satisfy constraint: {rule}"
        );
        Refusal::new(Kind::Validation, message)
    }

    /// Something that is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Refusal {
        Refusal::new(Kind::ResourceNotFound, message)
    }

    /// A function that is not there.
    pub(crate) fn no_function(arn: &str) -> Refusal {
        Refusal::not_found(format!("Function not found: {arn}"))
    }

    /// An operation of AWS that is refused by name.
    pub(crate) fn not_served(operation: &str) -> Refusal {
        let message =
            format!("{operation} is not served here; docs/profiles.md lists what is, and why");
        Refusal::new(Kind::NotServed, message)
    }

    /// Its name, as SDKs show it.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.words().0
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        store_failure(&error).into()
    }
}

/// A failure of ours, said in the nearest of AWS's words; the hint becomes part of the message.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        let kind = match failure.error_type {
            ErrorType::BadRequest | ErrorType::ArrivesLater | ErrorType::InitError => {
                Kind::InvalidParameterValue
            }
            ErrorType::Unauthorized => Kind::MissingAuthenticationToken,
            ErrorType::Forbidden | ErrorType::FunctionDisabled => Kind::AccessDenied,
            ErrorType::FunctionNotFound | ErrorType::NotFound | ErrorType::NotDeployed => {
                Kind::ResourceNotFound
            }
            ErrorType::NameTaken => Kind::ResourceConflict,
            ErrorType::PayloadTooLarge => Kind::RequestTooLarge,
            ErrorType::QueueFull | ErrorType::Throttled => Kind::TooManyRequests,
            ErrorType::QueueTimeout | ErrorType::ShuttingDown => Kind::ServiceUnavailable,
            ErrorType::Cancelled
            | ErrorType::Internal
            | ErrorType::HandlerError
            | ErrorType::OutOfMemory
            | ErrorType::WorkerCrashed
            | ErrorType::LiveSessionLost
            | ErrorType::FunctionTimeout => Kind::Service,
        };
        let message = match &failure.hint {
            Some(hint) => format!("{}; {hint}", failure.message),
            None => failure.message.clone(),
        };
        Refusal::new(kind, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (name, (_, status)) = (self.name(), self.kind.words());
        let whose = if status < 500 { "User" } else { "Service" };
        let mut body = json!({"Type": whose, "Message": self.message, "message": self.message});
        if let Some(reason) = self.reason {
            body["Reason"] = reason.into();
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() =
            StatusCode::from_u16(status).expect("every status above is one of HTTP's");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert("x-amzn-errortype", HeaderValue::from_static(name));
        if matches!(self.kind, Kind::TooManyRequests | Kind::ServiceUnavailable) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
