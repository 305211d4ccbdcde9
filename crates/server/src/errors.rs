//! How our failures look over HTTP: status, `Retry-After` and the JSON shape. The only place that knows these statuses.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use hyper::ext::ReasonPhrase;
use model::{ErrorType, Failure, HandlerFault, InvocationId};
use serde::Serialize;

/// Content type of every error and of most answers of the API.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The status of a failure.
pub(crate) fn status(error_type: ErrorType) -> StatusCode {
    let code = match error_type {
        ErrorType::BadRequest => 400,
        ErrorType::Unauthorized => 401,
        ErrorType::FunctionDisabled | ErrorType::Forbidden => 403,
        ErrorType::FunctionNotFound | ErrorType::NotFound => 404,
        ErrorType::NotDeployed | ErrorType::NameTaken => 409,
        ErrorType::PayloadTooLarge => 413,
        ErrorType::QueueFull | ErrorType::Throttled => 429,
        // Never seen by anybody, for the caller has left; the record shows what proxies write there.
        ErrorType::Cancelled => 499,
        ErrorType::Internal => 500,
        ErrorType::ArrivesLater => 501,
        ErrorType::HandlerError
        | ErrorType::OutOfMemory
        | ErrorType::WorkerCrashed
        | ErrorType::InitError
        | ErrorType::LiveSessionLost => 502,
        ErrorType::QueueTimeout | ErrorType::ShuttingDown => 503,
        ErrorType::FunctionTimeout => 504,
    };
    StatusCode::from_u16(code).expect("every code above lies between 100 and 999")
}

/// Seconds after which another try makes sense, where the table of errors promises the header.
pub(crate) fn retry_after(error_type: ErrorType) -> Option<&'static str> {
    match error_type {
        ErrorType::QueueFull | ErrorType::Throttled | ErrorType::QueueTimeout => Some("1"),
        // A restart takes about this long.
        ErrorType::ShuttingDown => Some("3"),
        _ => None,
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Error))]
pub(crate) struct Envelope<'a> {
    error: Shape<'a>,
}

/// A failure as the API and the gateway show it.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Failure))]
pub(crate) struct Shape<'a> {
    #[serde(rename = "type")]
    error_type: ErrorType,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<HandlerFault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invocation_id: Option<InvocationId>,
    docs: String,
}

/// The shape of a failure, to be put into an answer.
pub(crate) fn shape(failure: &Failure, id: Option<InvocationId>) -> Shape<'_> {
    let anchor = failure.error_type.as_str().to_ascii_lowercase();
    Shape {
        error_type: failure.error_type,
        message: &failure.message,
        hint: failure.hint.as_deref(),
        fault: failure.fault.as_deref().map(HandlerFault::without_report),
        invocation_id: id,
        docs: format!("docs/errors.md#{anchor}"),
    }
}

/// The whole answer for a failure.
pub(crate) fn response(failure: &Failure, id: Option<InvocationId>) -> Response<Bytes> {
    let error = shape(failure, id);
    let body = serde_json::to_vec(&Envelope { error }).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status(failure.error_type);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(seconds) = retry_after(failure.error_type) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    if failure.error_type == ErrorType::Unauthorized {
        let scheme = HeaderValue::from_static("Bearer");
        headers.insert(http::header::WWW_AUTHENTICATE, scheme);
    }
    if failure.error_type == ErrorType::Cancelled {
        // 499 has no usual words. Only a client that closed its sending side alone reads them.
        let words = ReasonPhrase::from_static(b"Client Closed Request");
        response.extensions_mut().insert(words);
    }
    response
}

/// The whole answer to a method that a known path does not take.
pub(crate) fn method_not_allowed(failure: &Failure) -> Response<Bytes> {
    let mut response = response(failure, None);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// The answer to a request head that cannot be read, or is past its limit, ready for the wire.
pub(crate) fn refused_head(code: StatusCode, failure: &Failure) -> Bytes {
    let body = response(failure, None).into_body();
    let mut wire = format!(
        "HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    wire.extend_from_slice(&body);
    wire.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_the_table() {
        let table = [
            (ErrorType::FunctionNotFound, 404),
            (ErrorType::NotDeployed, 409),
            (ErrorType::FunctionDisabled, 403),
            (ErrorType::NameTaken, 409),
            (ErrorType::HandlerError, 502),
            (ErrorType::FunctionTimeout, 504),
            (ErrorType::OutOfMemory, 502),
            (ErrorType::WorkerCrashed, 502),
            (ErrorType::InitError, 502),
            (ErrorType::QueueFull, 429),
            (ErrorType::Throttled, 429),
            (ErrorType::QueueTimeout, 503),
            (ErrorType::ShuttingDown, 503),
            (ErrorType::PayloadTooLarge, 413),
            (ErrorType::LiveSessionLost, 502),
            (ErrorType::Unauthorized, 401),
            (ErrorType::Forbidden, 403),
        ];
        for (error_type, code) in table {
            assert_eq!(status(error_type).as_u16(), code, "{error_type}");
            let refused = matches!(code, 429 | 503);
            let response = response(&Failure::new(error_type, "x"), None);
            assert_eq!(
                response.headers().contains_key(RETRY_AFTER),
                refused,
                "{error_type}"
            );
        }
    }

    #[test]
    fn what_the_handler_threw_is_carried() {
        let fault = HandlerFault {
            error_type: "TypeError".into(),
            message: "x is not a function".into(),
            stack: Some("at handler (src/hello.ts:3:5)".into()),
            reported: None,
        };
        let failure = Failure::new(ErrorType::HandlerError, "TypeError: x is not a function");
        let body = response(&failure.fault(fault), None).into_body();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["error"]["type"], "HandlerError");
        assert_eq!(json["error"]["fault"]["errorType"], "TypeError");
        assert_eq!(json["error"]["docs"], "docs/errors.md#handlererror");
    }
}
