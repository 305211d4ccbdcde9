//! An invocation on its way to the runtime: the answer to a `/next`.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE, request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use model::{InvocationId, Kind};

use super::prelude;
use crate::version::Version;

/// Content type of a web request on its way to a web handler.
const WEB_REQUEST: HeaderValue = HeaderValue::from_static("application/vnd.bungee.http-request");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Headers of the worker protocol that the runtime gets under another name, …
const RENAMED: [(&str, &str); 2] = [
    ("x-invocation-id", "lambda-runtime-aws-request-id"),
    ("x-bungee-deadline", "lambda-runtime-deadline-ms"),
];

/// … and those that only the server can have set on an event; on a web request they would be its caller's.
const RENAMED_OF_EVENTS: [(&str, &str); 4] = [
    ("x-bungee-arn", ARN),
    ("x-amzn-trace-id", TRACE),
    ("x-bungee-client-context", "lambda-runtime-client-context"),
    ("x-bungee-tenant-id", "lambda-runtime-aws-tenant-id"),
];

const ARN: &str = "lambda-runtime-invoked-function-arn";

const TRACE: &str = "lambda-runtime-trace-id";

/// What a poll gets.
pub struct Delivery {
    pub headers: HeaderMap,
    pub body: Next,
}

/// The body of what a poll gets.
pub enum Next {
    /// An event, as it comes from the server.
    Event(Incoming),
    /// The head of a web request, then its body.
    Web(Option<Bytes>, Incoming),
}

impl Delivery {
    /// What the runtime of this version gets of an invocation, and the invocation's id.
    pub fn of(
        version: &Version,
        parts: &request::Parts,
        body: Incoming,
    ) -> Option<(InvocationId, Delivery)> {
        let id = parts.headers.get("x-invocation-id")?;
        let id = id.to_str().ok()?.parse().ok()?;
        let mut headers = HeaderMap::new();
        headers.insert(ARN, arn(version));
        if let Some(trace) = trace(&parts.headers) {
            headers.insert(TRACE, trace);
        }
        let of_events = match version.kind {
            Kind::Event => &RENAMED_OF_EVENTS[..],
            Kind::Web => &[],
        };
        for (ours, theirs) in RENAMED.iter().chain(of_events) {
            if let Some(value) = parts.headers.get(*ours) {
                headers.insert(HeaderName::from_static(theirs), value.clone());
            }
        }
        let body = match version.kind {
            // Invoked with an event, a web handler sees the request that brings it.
            Kind::Web => {
                headers.insert(CONTENT_TYPE, WEB_REQUEST);
                Next::Web(Some(prelude::of_request(parts)), body)
            }
            Kind::Event => {
                let kind = parts.headers.get(CONTENT_TYPE);
                headers.insert(CONTENT_TYPE, kind.cloned().unwrap_or(JSON));
                Next::Event(body)
            }
        };
        Some((id, Delivery { headers, body }))
    }
}

/// The function's name, unless it was invoked by another.
fn arn(version: &Version) -> HeaderValue {
    let arn = crate::environment::arn(&version.function);
    HeaderValue::from_str(&arn).unwrap_or(HeaderValue::from_static(""))
}

/// AWS's words for where an invocation belongs in a trace.
fn trace(headers: &HeaderMap) -> Option<HeaderValue> {
    let parent = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = parent.split('-').skip(1);
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, rest) = trace.split_at_checked(8)?;
    let is_sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
    let sampled = u8::from(is_sampled);
    HeaderValue::from_str(&format!(
        "Root=1-{time}-{rest};Parent={span};Sampled={sampled}"
    ))
    .ok()
}

impl Body for Next {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Next::Web(head @ Some(_), _) => Poll::Ready(head.take().map(Frame::data).map(Ok)),
            Next::Web(None, body) | Next::Event(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Next::Web(Some(_), _) => false,
            Next::Web(None, body) | Next::Event(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Next::Event(body) | Next::Web(None, body) => body.size_hint(),
            Next::Web(Some(head), body) => match body.size_hint().exact() {
                Some(length) => SizeHint::with_exact(length + head.len() as u64),
                None => SizeHint::default(),
            },
        }
    }
}

/// Headers that speak of the way between the server and a worker, and are no part of a web request.
pub fn is_of_the_wire(name: &HeaderName) -> bool {
    [
        "x-bungee-deadline",
        "x-bungee-params",
        "connection",
        "transfer-encoding",
    ]
    .contains(&name.as_str())
}
