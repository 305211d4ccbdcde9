//! The calls of a runtime client: `next`, `response`, `error`, `init/error`, and what the answers to them look like.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as _, Incoming};
use model::{HandlerFault, InvocationId};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    Api,
    answer::Answered,
    delivery::Delivery,
    fault,
    machine::{PollId, Refusal},
};

/// Where the API begins.
const BASE: &str = "/2018-06-01/runtime/";

/// What a posted body may have beyond the limit `event`, as on AWS.
const SLACK: u64 = 100;

/// What is read of a body that was refused already, in bytes: about ten times what fits.
const SWALLOWED_MAX: usize = 64 << 20;

/// The body of an answer to a client.
pub type CallBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// The answer to a call; an error closes the connection without one.
pub type Called = Result<Response<CallBody>, io::Error>;

/// What a path of the API means.
enum Call<'a> {
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
    Extension,
    Unknown,
}

impl<'a> Call<'a> {
    fn of(method: &Method, path: &'a str) -> Call<'a> {
        let Some(path) = path.strip_prefix(BASE) else {
            return match path.contains("/extension/")
                || path.ends_with("/telemetry")
                || path.ends_with("/logs")
            {
                true => Call::Extension,
                false => Call::Unknown,
            };
        };
        match (method, path) {
            (&Method::GET, "invocation/next") => Call::Next,
            (&Method::POST, "init/error") => Call::InitError,
            (&Method::POST, path) => {
                let called = path.strip_prefix("invocation/");
                match called.and_then(|called| called.rsplit_once('/')) {
                    Some((id, "response")) => Call::Response(id),
                    Some((id, "error")) => Call::Error(id),
                    Some(_) | None => Call::Unknown,
                }
            }
            _ => Call::Unknown,
        }
    }
}

impl Api {
    /// Answers one call.
    pub(super) async fn call(self: &Arc<Self>, request: Request<Incoming>) -> Called {
        let (parts, body) = request.into_parts();
        match Call::of(&parts.method, parts.uri.path()) {
            Call::Next => self.next().await,
            Call::Response(id) => self.response(id, &parts.headers, body).await,
            Call::Error(id) => self.error(id, &parts.headers, body).await,
            Call::InitError => self.init_error(&parts.headers, body).await,
            Call::Extension => self.extension(&parts.method, parts.uri.path(), body).await,
            Call::Unknown => {
                let message = format!("there is no {} {}", parts.method, parts.uri.path());
                Ok(refused(StatusCode::NOT_FOUND, "NotFound", &message))
            }
        }
    }

    /// Waits for an invocation, for as long as it takes.
    async fn next(&self) -> Called {
        let (hand, handed) = oneshot::channel();
        let poll = match self.poll(hand) {
            Ok(poll) => poll,
            Err(refusal) => return Ok(refuse(&refusal)),
        };
        self.changed.notify_waiters();
        let _poller = Poller { api: self, poll };
        let delivery: Delivery = handed.await.map_err(io::Error::other)?;
        let mut response = Response::new(delivery.body.boxed_unsync());
        *response.headers_mut() = delivery.headers;
        Ok(response)
    }

    fn poll(&self, hand: oneshot::Sender<Delivery>) -> Result<PollId, Refusal> {
        let mut state = self.lock();
        let polled = state.machine.poll()?;
        if polled.is_first
            && let Some(say) = state.say.take()
        {
            say.send(Ok(())).ok();
        }
        match polled.gets {
            None => drop(state.polls.insert(polled.poll.0, hand)),
            Some(id) => {
                if let Some(delivery) = state.waiting.remove(&id)
                    && let Err(delivery) = hand.send(delivery)
                {
                    let next = state.machine.undelivered(id);
                    state.deliver(id, next, delivery);
                }
            }
        }
        Ok(polled.poll)
    }

    async fn error(&self, id: &str, headers: &HeaderMap, body: Incoming) -> Called {
        let id = match self.begin(id) {
            Ok(id) => id,
            Err(refusal) => return Ok(refuse(&refusal)),
        };
        let answering = Answering::new(self, id);
        match self.collect(body).await {
            Posted::Whole(body, _) => {
                let fault = fault::of_report(headers, &body, "Function.Unknown");
                answering.ends(Answered::Fault(fault));
                Ok(accepted())
            }
            Posted::TooLarge => {
                answering.ends(Answered::Fault(self.too_large()));
                Ok(self.entity_too_large())
            }
            Posted::Truncated => Ok(truncated()),
        }
    }

    async fn init_error(&self, headers: &HeaderMap, body: Incoming) -> Called {
        let body = match self.collect(body).await {
            Posted::Whole(body, _) => body,
            Posted::TooLarge => return Ok(self.entity_too_large()),
            Posted::Truncated => return Ok(truncated()),
        };
        let mut state = self.lock();
        if let Err(refusal) = state.machine.init_failed() {
            return Ok(refuse(&refusal));
        }
        if let Some(say) = state.say.take() {
            let fault = fault::of_report(headers, &body, "Runtime.Unknown");
            say.send(Err(fault)).ok();
        }
        Ok(accepted())
    }

    /// The runtime begins to answer this invocation.
    pub(super) fn begin(&self, id: &str) -> Result<InvocationId, Refusal> {
        let id = id.parse().map_err(|_| Refusal::UnknownId)?;
        self.lock().machine.answer_begins(id)?;
        Ok(id)
    }

    /// Largest body that a client may post at once.
    pub(super) fn posted_max(&self) -> u64 {
        self.event_max + SLACK
    }

    /// A posted body, all of it. What says beforehand that it is too large is refused before it is read; what turns out to be
    /// is read to its end, so that its client hears why.
    pub(super) async fn collect(&self, mut body: Incoming) -> Posted {
        if body.size_hint().lower() > self.posted_max() {
            self.tasks.spawn(swallow(body, self.gone.clone()));
            return Posted::TooLarge;
        }
        let mut whole: Vec<u8> = Vec::new();
        let mut trailers = None;
        let mut is_too_large = false;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Posted::Truncated;
            };
            match frame.into_data() {
                Ok(data) if is_too_large => drop(data),
                Ok(data) => {
                    is_too_large = (whole.len() + data.len()) as u64 > self.posted_max();
                    if is_too_large {
                        whole = Vec::new();
                    } else {
                        whole.extend_from_slice(&data);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        match is_too_large {
            true => Posted::TooLarge,
            false => Posted::Whole(whole.into(), trailers),
        }
    }

    /// What the caller hears of an answer that was too large.
    pub(super) fn too_large(&self) -> HandlerFault {
        let message = format!(
            "the answer takes more than {} bytes, which is the limit `event` and {SLACK} more",
            self.posted_max()
        );
        fault::of_ours("PayloadTooLarge", &message)
    }

    /// What its client hears.
    pub(super) fn entity_too_large(&self) -> Response<CallBody> {
        let message = format!(
            "Exceeded maximum allowed payload size ({} bytes).",
            self.posted_max()
        );
        refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            &message,
        )
    }
}

/// Reads on for a while where nobody wants what comes: a client that hears of it only after it has written all would
/// otherwise find its connection broken, and no answer.
async fn swallow(mut body: Incoming, gone: CancellationToken) {
    let mut left = SWALLOWED_MAX;
    while left > 0 {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = gone.cancelled() => return,
        };
        let Some(Ok(frame)) = frame else {
            return;
        };
        left = left.saturating_sub(frame.data_ref().map_or(1, Bytes::len));
    }
}

/// A body that a client posted.
pub(super) enum Posted {
    Whole(Bytes, Option<HeaderMap>),
    TooLarge,
    Truncated,
}

/// An invocation whose answer is coming; dropped, it has come as far as it will.
pub(super) struct Answering<'a> {
    api: &'a Api,
    id: InvocationId,
    /// Whether it came to an end of its own making.
    has_ended: bool,
}

impl Answering<'_> {
    pub(super) fn new(api: &Api, id: InvocationId) -> Answering<'_> {
        Answering {
            api,
            id,
            has_ended: false,
        }
    }

    /// Gives the caller its answer; false if nobody waits for it any more.
    pub(super) fn gives(&self, answered: Answered) -> bool {
        let caller = self.api.lock().callers.remove(&self.id);
        caller.is_some_and(|caller| caller.send(answered).is_ok())
    }

    /// The same, for an answer that has come to its end.
    pub(super) fn ends(mut self, answered: Answered) {
        self.gives(answered);
        self.has_ended = true;
    }

    /// An answer that was given as it came has come to its end.
    pub(super) fn has_ended(mut self) {
        self.has_ended = true;
    }

    /// An answer that had begun has failed.
    pub(super) fn broke(mut self, fault: HandlerFault) {
        self.has_ended = true;
        self.api.keep_broken(self.id, fault);
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            // The client left before its answer was whole.
            self.api.keep_broken(self.id, truncated_fault());
        }
        let mut state = self.api.lock();
        state.machine.answer_ends(self.id);
        state.callers.remove(&self.id);
    }
}

/// One who polls; dropped, nobody does.
struct Poller<'a> {
    api: &'a Api,
    poll: PollId,
}

impl Drop for Poller<'_> {
    fn drop(&mut self) {
        let mut state = self.api.lock();
        state.polls.remove(&self.poll.0);
        state.machine.poll_left(self.poll);
    }
}

/// What a client hears of a body that it cut short.
pub(super) fn truncated() -> Response<CallBody> {
    refused(
        StatusCode::BAD_REQUEST,
        "TruncatedHTTPRequest",
        "HTTP request detected as truncated",
    )
}

/// What the caller hears of it.
fn truncated_fault() -> HandlerFault {
    fault::of_ours(
        "Runtime.TruncatedResponse",
        "the runtime broke its answer off before it was whole",
    )
}

pub(super) fn accepted() -> Response<CallBody> {
    json(StatusCode::ACCEPTED, "{\"status\":\"OK\"}\n".into())
}

/// What a process that is none of the worker's gets.
pub(super) fn stranger() -> Response<CallBody> {
    refused(
        StatusCode::FORBIDDEN,
        "Forbidden",
        "this port is for the processes of one worker, and the caller is none of them",
    )
}

pub(super) fn refuse(refusal: &Refusal) -> Response<CallBody> {
    match refusal {
        Refusal::UnknownId => refused(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        ),
        Refusal::State { from, to } => {
            let message = format!(
                "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
            );
            refused(StatusCode::FORBIDDEN, "InvalidStateTransition", &message)
        }
    }
}

/// An error as every client of the API reads it.
pub(super) fn refused(status: StatusCode, error_type: &str, message: &str) -> Response<CallBody> {
    let body = serde_json::json!({"errorMessage": message, "errorType": error_type});
    json(status, format!("{body}\n"))
}

pub(super) fn json(status: StatusCode, body: String) -> Response<CallBody> {
    let body = Full::from(body).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
