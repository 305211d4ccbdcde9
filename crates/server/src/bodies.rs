//! Bodies of requests: limited in size, and in how long they may stay silent.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::{ByteSize, ErrorType, Failure, Limits, Runtime, TimeSpan};
use tokio::time::{Instant, Sleep, sleep_until};
use workers::BodyError;

use crate::door::Line;

/// A limit on a body, with the words that name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimit {
    /// What the body is.
    pub what: &'static str,
    /// The limit's name.
    pub name: &'static str,
    /// Most bytes.
    pub most: ByteSize,
}

impl BodyLimit {
    /// The body of a request to a web handler; the isolate takes whole bodies only, which are no larger than events.
    pub(crate) fn web_request(runtime: Runtime, limits: &Limits) -> BodyLimit {
        let (name, most) = match runtime {
            Runtime::Isolate => ("event", limits.event),
            Runtime::Bun | Runtime::Node | Runtime::Python | Runtime::Provided => {
                ("web_request_body", limits.web_request_body)
            }
        };
        BodyLimit {
            what: "the request body",
            name,
            most,
        }
    }

    /// An event, however it arrives.
    pub(crate) fn event(limits: &Limits) -> BodyLimit {
        BodyLimit {
            what: "the event",
            name: "event",
            most: limits.event,
        }
    }

    /// The result of an event handler.
    pub(crate) fn result(limits: &Limits) -> BodyLimit {
        BodyLimit {
            what: "the result",
            name: "event",
            most: limits.event,
        }
    }

    /// The response of a web handler.
    pub(crate) fn response(limits: &Limits) -> BodyLimit {
        BodyLimit {
            what: "the response",
            name: "streamed_response",
            most: limits.streamed_response,
        }
    }

    /// A bundle on its way to us.
    pub(crate) fn bundle(limits: &Limits) -> BodyLimit {
        BodyLimit {
            what: "the bundle",
            name: "bundle_unpacked",
            most: limits.bundle_unpacked,
        }
    }

    /// A recording as a file: its bodies in base64, or as text with every quote escaped, and its headers.
    pub(crate) fn recording(limits: &Limits) -> BodyLimit {
        let bytes = limits.recorded_request.0 + limits.recorded_answer.0;
        BodyLimit {
            what: "the recording",
            name: "recorded_request × 4",
            most: ByteSize(bytes.saturating_mul(4)),
        }
    }

    /// Source code with what is said of it.
    pub(crate) fn source(limits: &Limits) -> BodyLimit {
        BodyLimit {
            what: "the request body",
            name: "event",
            most: limits.event,
        }
    }

    /// Any other request to the API.
    pub(crate) fn api() -> BodyLimit {
        BodyLimit {
            what: "the request body",
            name: "api_request_body",
            most: ByteSize::mebibytes(1),
        }
    }

    /// The failure of a body of which at least `size` bytes are known.
    pub(crate) fn exceeded(&self, size: u64) -> Failure {
        let BodyLimit { what, name, most } = self;
        let message = format!(
            "{what} has {size} bytes or more, the limit `{name}` is {most} ({} bytes)",
            most.0
        );
        Failure::new(ErrorType::PayloadTooLarge, message)
    }

    /// The failure of a body whose exact size is known.
    fn exceeded_exactly(&self, size: u64) -> Failure {
        let BodyLimit { what, name, most } = self;
        let message = format!(
            "{what} has {size} bytes, the limit `{name}` is {most} ({} bytes)",
            most.0
        );
        Failure::new(ErrorType::PayloadTooLarge, message)
    }

    /// Refuses up front a body that announces more than it may have.
    pub(crate) fn check_announced(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        match announced {
            Some(size) if size > self.most.0 => Err(self.exceeded_exactly(size)),
            _ => Ok(()),
        }
    }

    /// Refuses a body that is known to be too large before its first byte.
    pub(crate) fn check_hint(&self, hint: &SizeHint) -> Result<(), Failure> {
        match hint.exact() {
            Some(size) => self.check(usize::try_from(size).unwrap_or(usize::MAX)),
            None => Ok(()),
        }
    }

    /// Refuses whole bytes that are too many.
    pub(crate) fn check(&self, size: usize) -> Result<(), Failure> {
        if size as u64 > self.most.0 {
            return Err(self.exceeded_exactly(size as u64));
        }
        Ok(())
    }
}

/// Where the bytes of a client's request come from.
pub(crate) enum Source {
    /// Its connection.
    Incoming(Incoming),
    /// They were read already.
    Read(Option<Bytes>),
}

impl Source {
    /// Whether nothing more comes.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Source::Incoming(incoming) => incoming.is_end_stream(),
            Source::Read(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Source::Incoming(incoming) => incoming.size_hint(),
            Source::Read(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Source::Incoming(incoming) => Pin::new(incoming).poll_frame(context),
            Source::Read(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }
}

/// The body of a client's request, within its limits.
pub(crate) struct RequestBody {
    source: Source,
    line: Arc<Line>,
    limit: BodyLimit,
    /// Bytes that have come.
    size: u64,
    silence: Silence,
    is_whole: bool,
    /// Told why the body broke off, if it did.
    broke: Broke,
}

/// How long nothing has come, and how long that may last.
pub(crate) struct Silence {
    most: TimeSpan,
    /// When something came last; unset until somebody asks.
    since: Option<Instant>,
    /// Set anew only when it ends, however much comes meanwhile.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(crate) fn new(most: TimeSpan) -> Silence {
        Silence {
            most,
            since: None,
            timer: None,
        }
    }

    /// Something came.
    pub(crate) fn broken(&mut self) {
        self.since = None;
    }

    /// Ready with the limit once the silence has lasted that long.
    pub(crate) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<TimeSpan> {
        let until = *self.since.get_or_insert_with(Instant::now) + self.most.duration();
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= until {
                return Poll::Ready(self.most);
            }
            timer.as_mut().reset(until);
        }
    }
}

/// Why a request's body broke off, for the one who wonders why the answer did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Broke(Arc<OnceLock<Failure>>);

impl Broke {
    /// The failure, if it broke off.
    pub(crate) fn why(&self) -> Option<&Failure> {
        self.0.get()
    }

    /// It broke off.
    pub(crate) fn because(&self, failure: &Failure) {
        // Set once: a body that broke off is not asked again.
        let _ = self.0.set(failure.clone());
    }
}

impl RequestBody {
    pub(crate) fn new(
        source: Source,
        line: Arc<Line>,
        limit: BodyLimit,
        limits: &Limits,
    ) -> RequestBody {
        RequestBody {
            source,
            line,
            limit,
            size: 0,
            silence: Silence::new(limits.body_idle),
            is_whole: false,
            broke: Broke::default(),
        }
    }

    /// Knows later why the body broke off.
    pub(crate) fn broke(&self) -> Broke {
        self.broke.clone()
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Poll::Ready(next) = self.source.poll_frame(context) else {
            let most = ready!(self.silence.poll_over(context));
            let message = format!("the request body was silent for {most}, the limit `body_idle`");
            return Poll::Ready(Some(Err(Failure::new(ErrorType::BadRequest, message))));
        };
        self.silence.broken();
        Poll::Ready(match next {
            None => {
                self.is_whole = true;
                None
            }
            Some(Err(_)) => {
                let message = "the caller left before its request was whole";
                Some(Err(Failure::new(ErrorType::Cancelled, message)))
            }
            Some(Ok(frame)) => {
                self.size += frame.data_ref().map_or(0, Bytes::len) as u64;
                if self.size > self.limit.most.0 {
                    Some(Err(self.limit.exceeded(self.size)))
                } else {
                    Some(Ok(frame))
                }
            }
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let read = ready!(self.poll_read(context));
        if let Some(Err(failure)) = &read {
            self.broke.because(failure);
        }
        Poll::Ready(read.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_whole && !self.source.is_end_stream() {
            self.line.leave_unread();
        }
    }
}

/// All of a request's body, if it keeps its limit.
pub(crate) async fn whole<B>(body: B) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes, Error = BodyError>,
{
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(BodyError(failure)) => Err(failure),
    }
}

/// All of an answer, if it keeps its limit.
pub(crate) async fn whole_answer<B>(body: B, limit: BodyLimit) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes, Error = Failure>,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        size += data.len() as u64;
        if size > limit.most.0 {
            return Err(limit.exceeded(size));
        }
        // Most answers come in one piece, which needs no copy.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.into() })
}
