//! What a runtime answered, on its way back to the caller as the worker protocol has it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use model::{HandlerFault, InvocationId, Kind};
use tokio::sync::mpsc;

use super::{Api, SETTLE, prelude::Head};

/// Marks a fault; its value is the worker's nonce.
const FAULT: HeaderName = HeaderName::from_static("x-bungee-fault");

/// Says that an event handler's answer is more than a result: `stream`, or `response`.
const ANSWER: HeaderName = HeaderName::from_static("x-bungee-answer");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a runtime answered.
pub enum Answered {
    /// A result, all of it.
    Whole(Bytes),
    /// Bytes as they come.
    Stream {
        kind: Option<HeaderValue>,
        parts: mpsc::Receiver<Part>,
    },
    /// A web response: status and headers, then its body as it comes.
    Response {
        head: Head,
        parts: mpsc::Receiver<Part>,
    },
    /// The handler failed.
    Fault(HandlerFault),
}

/// A piece of an answer that streams. An answer that ends without [`Part::End`] broke off.
pub enum Part {
    Data(Bytes),
    End,
}

impl Answered {
    /// The answer as HTTP.
    pub async fn into_response(
        self,
        api: &Arc<Api>,
        id: InvocationId,
        kind: Kind,
    ) -> Response<AnswerBody> {
        let streamed = |parts| AnswerBody::Streamed {
            parts,
            api: api.clone(),
            id,
            settling: None,
            is_broken: false,
        };
        match self {
            Answered::Whole(body) => {
                settled(api, id).await;
                let mut response = Response::new(AnswerBody::of(body));
                response.headers_mut().insert(CONTENT_TYPE, JSON);
                response
            }
            Answered::Fault(fault) => {
                settled(api, id).await;
                let body = serde_json::to_vec(&fault).unwrap_or_default();
                let mut response = Response::new(AnswerBody::of(body.into()));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                let nonce = HeaderValue::from_str(&api.nonce());
                let nonce = nonce.unwrap_or(HeaderValue::from_static(""));
                response.headers_mut().insert(FAULT, nonce);
                response
            }
            Answered::Stream { kind, parts } => {
                let mut response = Response::new(streamed(parts));
                let headers = response.headers_mut();
                headers.insert(ANSWER, HeaderValue::from_static("stream"));
                headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
                response
            }
            Answered::Response { head, parts } => {
                let mut response = Response::new(streamed(parts));
                *response.status_mut() = head.status;
                *response.headers_mut() = head.headers;
                response.headers_mut().remove(ANSWER);
                response.headers_mut().remove(FAULT);
                if kind == Kind::Event {
                    let response = response.headers_mut();
                    response.insert(ANSWER, HeaderValue::from_static("response"));
                }
                response
            }
        }
    }
}

/// Waits until the runtime has asked for more, but not for long.
async fn settled(api: &Api, id: InvocationId) {
    // Whoever does not ask at once keeps its slot until it does.
    tokio::time::timeout(SETTLE, api.settled(id)).await.ok();
}

/// The body of an answer.
pub enum AnswerBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes; its end waits for the runtime as a whole answer does.
    Streamed {
        parts: mpsc::Receiver<Part>,
        api: Arc<Api>,
        id: InvocationId,
        settling: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
        is_broken: bool,
    },
}

impl AnswerBody {
    fn of(bytes: Bytes) -> AnswerBody {
        AnswerBody::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            AnswerBody::Whole(bytes) => Poll::Ready(bytes.take().map(Frame::data).map(Ok)),
            AnswerBody::Streamed {
                parts,
                api,
                id,
                settling,
                is_broken,
            } => loop {
                if let Some(settling) = settling {
                    ready!(settling.as_mut().poll(context));
                    return Poll::Ready(None);
                }
                match ready!(parts.poll_recv(context)) {
                    Some(Part::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Some(Part::End) => {
                        let (api, id) = (api.clone(), *id);
                        *settling = Some(Box::pin(async move { settled(&api, id).await }));
                    }
                    None if !*is_broken => {
                        // What came before leaves first, as it would if the break came later.
                        *is_broken = true;
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    None => {
                        let broken = io::Error::other("the runtime broke its answer off");
                        return Poll::Ready(Some(Err(broken)));
                    }
                }
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            AnswerBody::Streamed { .. } => SizeHint::default(),
        }
    }
}
