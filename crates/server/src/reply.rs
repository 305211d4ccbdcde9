//! Bodies of responses on their way to a client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use model::{ByteSize, ErrorType, Failure, Limits, TimeSpan};

use crate::{
    bodies::{BodyLimit, Broke, Silence},
    door::{Line, Lines},
    forward, gateway,
    invoker::Answer,
    journal::Invocation,
};

/// A response's body. Once it is gone, the connection waits for its next request.
pub(crate) struct ReplyBody {
    source: Source,
    line: Arc<Line>,
    lines: Arc<Lines>,
}

enum Source {
    /// All of it at once.
    Whole(Option<Bytes>),
    /// A handler's answer, as it comes.
    Streamed(Box<Streamed>),
    /// An answer of the API.
    Api(axum::body::Body),
}

/// What a handler streams, and the invocation that ends with it.
pub(crate) struct Streamed {
    answer: Answer,
    invocation: Invocation,
    limit: BodyLimit,
    size: u64,
    /// Why the request's body broke off, if it had one and did.
    broke: Option<Broke>,
    /// Limits a stream that has no other end.
    silence: Option<Silence>,
}

impl Streamed {
    /// The body of this answer, which ends its invocation with the last byte. A stream of events has no limit on time
    /// and size, but one on silence.
    pub(crate) fn answering(
        parts: &http::response::Parts,
        answer: Answer,
        mut invocation: Invocation,
        limits: &Limits,
        broke: Option<Broke>,
    ) -> Streamed {
        if answer.is_end_stream() {
            invocation.succeed();
        }
        let mut streamed = Streamed {
            answer,
            invocation,
            limit: BodyLimit::response(limits),
            size: 0,
            broke,
            silence: None,
        };
        if forward::is_event_stream(&parts.headers) {
            streamed.answer.hold_open();
            streamed.silence = Some(Silence::new(limits.stream_idle));
            streamed.limit.most = ByteSize(u64::MAX);
        }
        streamed
    }

    /// The same, within another limit on size.
    pub(crate) fn within(mut self, limit: BodyLimit) -> Streamed {
        self.limit = limit;
        self
    }

    /// The server cuts off what is in flight.
    fn cut_off(&mut self) -> Failure {
        let failure = gateway::cut_off();
        self.invocation.fail(&failure);
        failure
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        let next = Pin::new(&mut this.answer).poll_frame(context);
        if let Some(silence) = &mut this.silence {
            match &next {
                Poll::Ready(_) => silence.broken(),
                Poll::Pending => {
                    let failure = silent(ready!(silence.poll_over(context)));
                    this.invocation.fail(&failure);
                    return Poll::Ready(Some(Err(failure)));
                }
            }
        }
        let failure = match ready!(next) {
            None => {
                this.invocation.succeed();
                return Poll::Ready(None);
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.size += data.len() as u64;
                    this.invocation.heard(data);
                }
                if this.size <= this.limit.most.0 {
                    // A body of known length is not asked again after its last byte.
                    if this.answer.is_end_stream() {
                        this.invocation.succeed();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                this.limit.exceeded(this.size)
            }
            // An answer that broke because the request did has the request's cause.
            Some(Err(failure)) => match this.broke.as_ref().and_then(Broke::why) {
                Some(cause) => cause.clone(),
                None => failure,
            },
        };
        this.invocation.fail(&failure);
        Poll::Ready(Some(Err(failure)))
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

/// The failure of a stream or socket in which nothing has passed for too long.
pub(crate) fn silent(most: TimeSpan) -> Failure {
    let message = format!("no byte passed for {most}, the limit `stream_idle`");
    Failure::new(ErrorType::FunctionTimeout, message)
        .hint("send a comment or a ping more often than that")
}

impl ReplyBody {
    fn new(source: Source, line: &Arc<Line>, lines: &Arc<Lines>) -> ReplyBody {
        ReplyBody {
            source,
            line: line.clone(),
            lines: lines.clone(),
        }
    }

    /// A response whose body is all there.
    pub(crate) fn whole(
        response: Response<Bytes>,
        line: &Arc<Line>,
        lines: &Arc<Lines>,
    ) -> Response<ReplyBody> {
        response.map(|bytes| {
            let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
            ReplyBody::new(Source::Whole(bytes), line, lines)
        })
    }

    /// A response that a handler streams.
    pub(crate) fn streamed(
        response: Response<Streamed>,
        line: &Arc<Line>,
        lines: &Arc<Lines>,
    ) -> Response<ReplyBody> {
        response.map(|streamed| ReplyBody::new(Source::Streamed(Box::new(streamed)), line, lines))
    }

    /// A response of the API.
    pub(crate) fn api(
        response: Response<axum::body::Body>,
        line: &Arc<Line>,
        lines: &Arc<Lines>,
    ) -> Response<ReplyBody> {
        response.map(|body| ReplyBody::new(Source::Api(body), line, lines))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let is_cut = self.line.is_cut();
        match &mut self.source {
            Source::Streamed(streamed) if is_cut => Poll::Ready(Some(Err(streamed.cut_off()))),
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Streamed(streamed) => Pin::new(streamed.as_mut()).poll_frame(context),
            Source::Api(body) => Pin::new(body).poll_frame(context).map_err(|error| {
                Failure::new(
                    ErrorType::Internal,
                    format!("the answer broke off: {error}"),
                )
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_none(),
            Source::Streamed(streamed) => streamed.is_end_stream(),
            Source::Api(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Streamed(streamed) => streamed.size_hint(),
            Source::Api(body) => body.size_hint(),
        }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        self.line.waiting(self.lines.tick());
    }
}
