//! An invocation in a developer's session: the same two steps as in a worker, a lease and an exchange.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use live::{Accepted, Answer as Head, Go, Present, Running, Sender, Told};
use model::{ErrorType, Failure, InvocationId, TimeSpan};
use tokio::time::{Sleep, sleep};

use crate::{
    invoker::{Answer, Body},
    serving::Deployed,
};

/// A session's own report of a deadline has this long to come, past the deadline.
const REPORT: Duration = Duration::from_millis(250);

/// A session that accepted an invocation.
pub(crate) struct SessionLease {
    pub accepted: Accepted,
    pub claim: Present,
    pub id: InvocationId,
    /// What runs it if the session goes away before it is told to go.
    pub deployed: Arc<Deployed>,
    /// How long it may run.
    pub limit: TimeSpan,
}

/// A future that sends a request's body.
type Feeding = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

impl SessionLease {
    /// Commits, and waits for the head of the answer.
    pub(crate) async fn send(self, request: Request<Body>) -> Result<Response<Answer>, Failure> {
        let (parts, body) = request.into_parts();
        let mut go = to_go(&parts, &body, self.limit);
        go.hold = self.claim.hold_deadline;
        let running = match self.accepted.go(&go) {
            Ok(running) => running,
            // Nothing of it ran there, nor will.
            Err(_) => {
                let lease = self.deployed.invoker.acquire(self.id).await?;
                let request = Request::from_parts(parts, body);
                return Box::pin(lease.send(request)).await;
            }
        };
        let sender = running.sender();
        let feeding: Option<Feeding> = match body {
            Body::Empty => None,
            body => Some(Box::pin(feed(body, sender))),
        };
        let mut answer = SessionAnswer {
            running: Some(running),
            feeding,
            deadline: Some(Box::pin(sleep(self.limit.duration() + REPORT))),
            limit: self.limit,
            developer: self.claim.developer,
        };
        let head = std::future::poll_fn(|context| answer.poll_head(context)).await?;
        let mut response = Response::new(Answer::Session(Box::new(answer)));
        // What only announces an answer is none.
        let status = StatusCode::from_u16(head.status).ok();
        let status = status.filter(|status| !status.is_informational());
        *response.status_mut() = status.ok_or_else(broke_rules)?;
        *response.headers_mut() = from_pairs(&head.headers);
        Ok(response)
    }
}

/// The body of an answer from a session. The attempt is cancelled if it is dropped before its end.
pub(crate) struct SessionAnswer {
    /// `None` once it is over.
    running: Option<Running>,
    feeding: Option<Feeding>,
    deadline: Option<Pin<Box<Sleep>>>,
    limit: TimeSpan,
    developer: String,
}

impl SessionAnswer {
    /// It has no deadline any more.
    pub(crate) fn hold_open(&mut self) {
        self.deadline = None;
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, Failure>> {
        match ready!(self.poll_told(context)) {
            Some(Ok(Told::Answer(head))) => Poll::Ready(Ok(head)),
            Some(Err(failure)) => Poll::Ready(Err(failure)),
            Some(Ok(_)) | None => Poll::Ready(Err(broke_rules())),
        }
    }

    /// What is said next, while the request's body goes out and the deadline runs.
    fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Told, Failure>>> {
        if let Some(feeding) = &mut self.feeding
            && let Poll::Ready(fed) = feeding.as_mut().poll(context)
        {
            self.feeding = None;
            if let Err(failure) = fed {
                return self.end(failure);
            }
        }
        let Some(running) = &mut self.running else {
            return Poll::Ready(None);
        };
        let told = match running.poll_told(context) {
            Poll::Ready(told) => told,
            Poll::Pending => {
                let Some(deadline) = &mut self.deadline else {
                    return Poll::Pending;
                };
                ready!(deadline.as_mut().poll(context));
                let failure = self.timed_out();
                return self.end(failure);
            }
        };
        match told {
            Some(Told::Failed(failure)) => self.end(failure),
            None => Poll::Ready(None),
            Some(told) => {
                if matches!(told, Told::Body(_, true)) {
                    self.running = None;
                }
                Poll::Ready(Some(Ok(told)))
            }
        }
    }

    fn end(&mut self, failure: Failure) -> Poll<Option<Result<Told, Failure>>> {
        self.running = None;
        self.feeding = None;
        Poll::Ready(Some(Err(failure)))
    }

    fn timed_out(&self) -> Failure {
        let message = format!(
            "the handler ran longer than {}, on the machine of {}",
            self.limit, self.developer
        );
        Failure::new(ErrorType::FunctionTimeout, message)
            .hint("`bungee dev --remote … --hold-deadline` lets it wait at a breakpoint")
    }
}

impl http_body::Body for SessionAnswer {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            return match ready!(self.poll_told(context)) {
                None => Poll::Ready(None),
                Some(Err(failure)) => Poll::Ready(Some(Err(failure))),
                Some(Ok(Told::Body(bytes, is_last))) => match (bytes.is_empty(), is_last) {
                    (true, true) => Poll::Ready(None),
                    (true, false) => continue,
                    (false, _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                },
                Some(Ok(_)) => Poll::Ready(Some(Err(broke_rules()))),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.running.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Sends a request's body as the session takes it.
async fn feed(body: Body, sender: Sender) -> Result<(), Failure> {
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.0)?;
        // Trailers do not cross.
        if let Ok(bytes) = frame.into_data() {
            let is_last = body.is_end_stream();
            sender.send(bytes, is_last).await;
            if is_last {
                return Ok(());
            }
        }
    }
    sender.send(Bytes::new(), true).await;
    Ok(())
}

fn broke_rules() -> Failure {
    Failure::new(
        ErrorType::LiveSessionLost,
        "the developer's session answered what makes no sense",
    )
}

/// A request as it is said with *go*.
pub(crate) fn to_go(parts: &Parts, body: &Body, limit: TimeSpan) -> Go {
    let path = parts.uri.path_and_query();
    Go {
        method: parts.method.as_str().to_owned(),
        uri: path.map_or("/", |path| path.as_str()).to_owned(),
        headers: to_pairs(&parts.headers),
        deadline_ms: limit.0,
        hold: false,
        body: !matches!(body, Body::Empty),
    }
}

/// Headers as they cross: each character of a value is one byte.
pub fn to_pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| {
        value
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect()
    };
    let pairs = headers.iter();
    pairs
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// What came, as headers; what cannot be one is left out.
pub fn from_pairs(pairs: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        if let (Ok(name), Some(value)) = (name.parse::<HeaderName>(), value) {
            headers.append(name, value);
        }
    }
    headers
}
