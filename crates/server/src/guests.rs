//! An invocation that began on another server and runs on this one's own code: same pool, same journal, same id.
//! How long it may run is said by whoever brought it. Knows nothing of how it came here.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::{Body as _, Frame, SizeHint};
use model::{
    ErrorType, Failure, FunctionId, InvocationId, Kind, Params, TimeSpan, Timestamp, Trigger,
};
use tokio::time::{Instant, timeout_at};
use workers::BodyError;

use crate::{
    app::App,
    bodies::{BodyLimit, Broke, whole, whole_answer},
    builds::STALE,
    errors, forward, function_url,
    gateway::{self, EventAnswer},
    invoker::{Body, Lease},
    journal::Invocation,
    marks::Marks,
    reply::Streamed,
    serving::{Deployed, Serving},
    tape::{Tape, passed_on},
};

/// The body of a request from elsewhere, as it comes. Its failure becomes that of the invocation.
pub type GuestBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Failure> + Send>>;

/// An invocation from elsewhere.
pub struct Guest {
    /// Its id, under which it is recorded and logged here too.
    pub id: InvocationId,
    /// Where it came from.
    pub trigger: Trigger,
    /// What a worker there would get.
    pub request: Request<GuestBody>,
    /// Whether that is an event, whose body is the JSON, and not a web request.
    pub is_event: bool,
    /// What is left of its time. It holds instead of our own version's `timeout`.
    pub deadline: TimeSpan,
}

/// The body of the answer, as it comes. The invocation ends with its last byte, or is cancelled when it is dropped.
pub struct GuestAnswer(Source);

enum Source {
    Streamed(Box<Streamed>),
    Whole(Option<Bytes>),
}

/// Runs it on the current version of the function.
pub(crate) async fn run(
    app: &Arc<App>,
    function: &FunctionId,
    guest: Guest,
) -> Result<Response<GuestAnswer>, Failure> {
    let until = Instant::now() + guest.deadline.duration();
    let (serving, stale) = after_builds(app, function).await;
    let serving = serving?;
    let (parts, body) = guest.request.into_parts();
    let arrived = Invocation::now(&app.journal);
    let marks = Marks::brought(guest.id, arrived, parts.headers.get(forward::TRACEPARENT));
    let deployed = serving.choose(None, marks.id)?;
    let kind = deployed.version.kind;
    let is_event = guest.is_event;
    let asked = (!is_event).then(|| (parts.method.clone(), parts.uri.clone()));
    let journal = app.journal.clone();
    let invocation = Invocation::begin(
        journal,
        deployed.clone(),
        guest.id,
        arrived,
        guest.trigger,
        asked,
    );
    let mut stay = Stay {
        app,
        deployed,
        marks,
        invocation,
        arrived,
        deadline: guest.deadline,
        until,
        broke: Broke::default(),
    };
    let answered = match kind {
        Kind::Event if !is_event => stay.as_event(parts, body).await,
        Kind::Event | Kind::Web => stay.as_it_is(parts, body, is_event).await,
    };
    let mut response = stay.leave(answered, is_event)?;
    if let Some(why) = stale {
        response.headers_mut().insert(STALE, why);
    }
    Ok(response)
}

/// Why nothing would run, if nothing would.
pub(crate) fn has_code(app: &App, function: &FunctionId) -> Result<(), String> {
    let serving = app.registry.table().serving(function);
    let failure = match serving.map(|serving| serving.current.is_some()) {
        Ok(true) => return Ok(()),
        Ok(false) => crate::serving::not_deployed(function),
        Err(failure) => failure,
    };
    Err(app.builds.why_broken(function).unwrap_or(failure.message))
}

/// What is served once what is being built is there, and why that is older code, if it is.
async fn after_builds(
    app: &App,
    function: &FunctionId,
) -> (Result<Arc<Serving>, Failure>, Option<HeaderValue>) {
    let mut why = None;
    if !app.builds.is_quiet() {
        why = app.builds.settled(Some(function)).await;
        if app.registry.table().state(function).is_none() {
            app.builds.settled(None).await;
        }
    }
    (app.registry.table().serving(function), why)
}

/// A guest on its way through our function.
struct Stay<'a> {
    app: &'a Arc<App>,
    deployed: Arc<Deployed>,
    marks: Marks,
    invocation: Invocation,
    arrived: Timestamp,
    /// What was left of its time when it came.
    deadline: TimeSpan,
    /// When that is over.
    until: Instant,
    /// Why the request's body broke off, if it did.
    broke: Broke,
}

enum Answered {
    Streamed(Response<crate::invoker::Answer>),
    Whole(Response<Bytes>),
}

impl Stay<'_> {
    /// To a handler that takes what came: an event by either kind, a web request by a web handler.
    async fn as_it_is(
        &mut self,
        mut parts: http::request::Parts,
        body: GuestBody,
        is_event: bool,
    ) -> Result<Answered, Failure> {
        let limits = &self.app.limits;
        let version = &self.deployed.version;
        let limit = match is_event {
            true => BodyLimit::event(limits),
            false => BodyLimit::web_request(version.settings.runtime, limits),
        };
        refuse_socket(&parts)?;
        limit.check_announced(&parts.headers)?;
        forward::brought(&mut parts, &self.marks);
        let body = self.body(body, limit);
        let body = if is_event {
            parts.headers.remove(CONTENT_LENGTH);
            let event = whole(body).await?;
            if let Some(recipe) = &self.deployed.recipe {
                self.invocation.record_on(Tape::of_event(recipe, &event));
            }
            Body::from(event)
        } else {
            if let Some(recipe) = &self.deployed.recipe {
                let params = forward::take_params(&mut parts.headers.clone());
                let tape = Tape::of_web(recipe, &parts, &params);
                self.invocation.record_on(tape);
            }
            passed_on(body, self.invocation.tape())
        };
        let lease = self.acquire().await?;
        let response = lease.send(Request::from_parts(parts, body)).await?;
        if self.deployed.version.kind == Kind::Web || forward::streams(response.headers()) {
            return Ok(Answered::Streamed(response));
        }
        let (parts, answer) = response.into_parts();
        let result = whole_answer(answer, BodyLimit::result(limits)).await?;
        Ok(Answered::Whole(Response::from_parts(parts, result)))
    }

    /// A web request to an event handler, which takes it as an event.
    async fn as_event(
        &mut self,
        mut parts: http::request::Parts,
        body: GuestBody,
    ) -> Result<Answered, Failure> {
        let limit = BodyLimit::event(&self.app.limits);
        refuse_socket(&parts)?;
        limit.check_announced(&parts.headers)?;
        let params: Params = forward::take_params(&mut parts.headers);
        parts.headers.remove(forward::INVOCATION_ID);
        let body = whole(self.body(body, limit)).await?;
        if let Some(recipe) = &self.deployed.recipe {
            let tape = Tape::of_web(recipe, &parts, &params);
            tape.asked_whole(&body);
            self.invocation.record_on(tape);
        }
        let origin = function_url::Origin {
            id: self.marks.id,
            at: self.arrived,
            function: self.deployed.version.function.name.as_str(),
            source: None,
            params: &params,
        };
        let event = function_url::event(&parts, &body, &origin)?;
        limit.check(event.len())?;
        let lease = self.acquire().await?;
        let asked = gateway::ask_with_event(lease, event, &self.marks, &self.app.limits);
        Ok(match asked.await? {
            EventAnswer::Whole(response) => Answered::Whole(response),
            EventAnswer::Streamed(response) => Answered::Streamed(response),
        })
    }

    fn body(&self, inner: GuestBody, limit: BodyLimit) -> Limited {
        Limited {
            inner,
            limit,
            size: 0,
            broke: self.broke.clone(),
        }
    }

    /// A worker, for as long as the guest has time, and to run for as long as is then left.
    async fn acquire(&mut self) -> Result<Lease, Failure> {
        let acquired = gateway::acquire(
            self.app,
            &mut self.deployed,
            &self.marks,
            &mut self.invocation,
            None,
        );
        let lease = timeout_at(self.until, acquired).await;
        let left = self.until.saturating_duration_since(Instant::now());
        match (lease, u64::try_from(left.as_millis()).unwrap_or(u64::MAX)) {
            (Ok(Err(failure)), _) => Err(failure),
            (Ok(Ok(lease)), left) if left > 0 => Ok(lease.within(TimeSpan(left))),
            (Ok(Ok(_)) | Err(_), _) => {
                let message = format!(
                    "no worker was free before its deadline: {} were left when it came here",
                    self.deadline
                );
                Err(Failure::new(ErrorType::FunctionTimeout, message))
            }
        }
    }

    /// The answer that goes back. The invocation ends with it.
    fn leave(
        mut self,
        answered: Result<Answered, Failure>,
        is_event: bool,
    ) -> Result<Response<GuestAnswer>, Failure> {
        let limits = &self.app.limits;
        let answered = answered.and_then(|answered| match answered {
            Answered::Whole(response) => Ok(Answered::Whole(response)),
            Answered::Streamed(response) => {
                let (mut parts, answer) = response.into_parts();
                let streams = parts.headers.get(forward::ANSWER).cloned();
                forward::response(&mut parts, &self.marks);
                // The server from which the event came has to know too.
                if let Some(streams) = streams.filter(|_| is_event) {
                    parts.headers.insert(forward::ANSWER, streams);
                }
                if parts.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Err(gateway::uninvited_switch());
                }
                BodyLimit::response(limits).check_hint(&answer.size_hint())?;
                Ok(Answered::Streamed(Response::from_parts(parts, answer)))
            }
        });
        match answered {
            Ok(Answered::Whole(response)) => {
                let head = (!is_event).then(|| (response.status(), response.headers()));
                self.answers(head);
                self.invocation.heard(response.body());
                self.invocation.succeed();
                Ok(response.map(|bytes| GuestAnswer(Source::Whole(Some(bytes)))))
            }
            Ok(Answered::Streamed(response)) => {
                let (parts, answer) = response.into_parts();
                let has_head = !is_event || forward::streams(&parts.headers);
                self.answers(has_head.then_some((parts.status, &parts.headers)));
                let streamed =
                    Streamed::answering(&parts, answer, self.invocation, limits, Some(self.broke));
                let body = GuestAnswer(Source::Streamed(Box::new(streamed)));
                Ok(Response::from_parts(parts, body))
            }
            Err(failure) => {
                if !is_event {
                    self.invocation.answers(errors::status(failure.error_type));
                }
                self.invocation.fail(&failure);
                Err(failure)
            }
        }
    }
}

impl Stay<'_> {
    /// The answer begins; that to an event has no head.
    fn answers(&mut self, head: Option<(StatusCode, &HeaderMap)>) {
        match (head, self.invocation.tape()) {
            (Some((status, headers)), _) => self.invocation.answers_with(status, headers),
            (None, Some(tape)) => tape.answered(None),
            (None, None) => {}
        }
    }
}

/// A socket needs its caller's own connection, which is elsewhere.
fn refuse_socket(parts: &http::request::Parts) -> Result<(), Failure> {
    if forward::asks_for_websocket(parts) {
        let message = "a WebSocket does not cross to another server";
        return Err(Failure::new(ErrorType::BadRequest, message));
    }
    Ok(())
}

/// A guest's body within its limit.
struct Limited {
    inner: GuestBody,
    limit: BodyLimit,
    /// Bytes that have come.
    size: u64,
    broke: Broke,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let failure = match ready!(self.inner.as_mut().poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(failure)) => failure,
            Some(Ok(frame)) => {
                self.size += frame.data_ref().map_or(0, Bytes::len) as u64;
                if self.size <= self.limit.most.0 {
                    return Poll::Ready(Some(Ok(frame)));
                }
                self.limit.exceeded(self.size)
            }
        };
        self.broke.because(&failure);
        Poll::Ready(Some(Err(BodyError::from(failure))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl http_body::Body for GuestAnswer {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match &mut self.0 {
            Source::Streamed(streamed) => Pin::new(streamed.as_mut()).poll_frame(context),
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Streamed(streamed) => streamed.is_end_stream(),
            Source::Whole(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Streamed(streamed) => streamed.size_hint(),
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
        }
    }
}
