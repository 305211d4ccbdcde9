//! `POST …/response`: a result at once, or bytes as they come; a runtime that fails midway says so behind them.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, TRAILER},
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::{HandlerFault, Kind};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;

use super::{
    Api,
    answer::{Answered, Part},
    calls::{Answering, Called, Posted, accepted, refuse, refused, truncated},
    fault,
    prelude::{self, Reading},
};

/// Says that an answer is to be passed on as it comes.
const MODE: HeaderName = HeaderName::from_static("lambda-runtime-function-response-mode");

/// Behind an answer: the type of what failed midway, …
const LATE_TYPE: &str = "lambda-runtime-function-error-type";

/// … and its report, in base64.
const LATE_BODY: &str = "lambda-runtime-function-error-body";

/// How Rust's client begins what others write behind the body: as its last piece.
const LATE_TEXT: &[u8] = b"Lambda-Runtime-Function-Error-Type: ";

/// The type of bytes of no type.
const BYTES: &[u8] = b"application/octet-stream";

/// The type that `curl` gives to whatever it posts.
const FORM: &str = "application/x-www-form-urlencoded";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Pieces of an answer that wait for a slow caller, before the runtime has to.
const PIECES: usize = 8;

/// How an answer that streams came to its end.
enum End {
    Whole,
    /// The caller left.
    Unread,
    /// What the client is to hear, and the caller.
    Broken(HandlerFault),
    Truncated,
}

impl Api {
    pub(super) async fn response(&self, id: &str, headers: &HeaderMap, body: Incoming) -> Called {
        let mode = headers.get(MODE);
        let is_stream = mode.is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"streaming"));
        if mode.is_some() && !is_stream {
            return Ok(refused(
                StatusCode::BAD_REQUEST,
                "InvalidFunctionResponseMode",
                "Lambda-Runtime-Function-Response-Mode is `streaming`, or absent",
            ));
        }
        let id = match self.begin(id) {
            Ok(id) => id,
            Err(refusal) => return Ok(refuse(&refusal)),
        };
        let answering = Answering::new(self, id);
        let has_head = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(prelude::RESPONSE.as_bytes()));
        let is_web = self
            .version()
            .is_some_and(|version| version.kind == Kind::Web);
        if has_head {
            return self.with_head(answering, body, is_web).await;
        }
        if is_web {
            self.collect(body).await;
            answering.ends(Answered::Fault(fault::of_ours("InvalidResponse", NO_HEAD)));
            return Ok(accepted());
        }
        if is_stream || is_typed_stream(headers) {
            let (sender, parts) = mpsc::channel(PIECES);
            let kind = headers.get(CONTENT_TYPE).cloned();
            answering.gives(Answered::Stream { kind, parts });
            return self.pass(answering, sender, body, is_web).await;
        }
        self.whole(answering, headers, body).await
    }

    /// A result, all of it.
    async fn whole(&self, answering: Answering<'_>, headers: &HeaderMap, body: Incoming) -> Called {
        match self.collect(body).await {
            Posted::Whole(body, trailers) => {
                answering.ends(match trailers.as_ref().and_then(late_fault) {
                    Some(fault) => Answered::Fault(fault),
                    None => result(headers, body),
                });
                Ok(accepted())
            }
            Posted::TooLarge => {
                answering.ends(Answered::Fault(self.too_large()));
                Ok(self.entity_too_large())
            }
            Posted::Truncated => Ok(truncated()),
        }
    }

    /// A response whose status and headers come first.
    async fn with_head(
        &self,
        answering: Answering<'_>,
        mut body: Incoming,
        is_web: bool,
    ) -> Called {
        let mut reading = Reading::default();
        let (sender, parts) = mpsc::channel(PIECES);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Ok(truncated());
            };
            let taken = match frame.into_data() {
                Ok(data) => reading.take(&data),
                Err(frame) => match frame.into_trailers().ok().as_ref().and_then(late_fault) {
                    Some(fault) => {
                        answering.ends(Answered::Fault(fault));
                        return Ok(accepted());
                    }
                    None => Ok(None),
                },
            };
            match taken {
                Ok(None) => {}
                Ok(Some((head, first))) => {
                    answering.gives(Answered::Response { head, parts });
                    if !first.is_empty() {
                        // Whoever left is noticed with the next piece.
                        sender.send(Part::Data(first)).await.ok();
                    }
                    return self.pass(answering, sender, body, is_web).await;
                }
                Err(why) => {
                    self.collect(body).await;
                    answering.ends(Answered::Fault(fault::of_ours("InvalidResponse", &why)));
                    return Ok(accepted());
                }
            }
        }
        match reading.end() {
            Ok(head) => {
                sender.try_send(Part::End).ok();
                answering.ends(Answered::Response { head, parts });
            }
            Err(why) => answering.ends(Answered::Fault(fault::of_ours("InvalidResponse", &why))),
        }
        Ok(accepted())
    }

    /// Passes on what comes, as fast as the caller takes it.
    async fn pass(
        &self,
        answering: Answering<'_>,
        sender: mpsc::Sender<Part>,
        body: Incoming,
        is_web: bool,
    ) -> Called {
        match drain(body, &sender, is_web).await {
            End::Whole => {
                answering.has_ended();
                sender.send(Part::End).await.ok();
                Ok(accepted())
            }
            // A web handler's client knows by the end of its connection that nobody listens.
            End::Unread => {
                answering.has_ended();
                Err(std::io::Error::other("the caller left"))
            }
            End::Broken(fault) => {
                answering.broke(fault);
                Ok(accepted())
            }
            // What is not said to have ended is dropped as broken off.
            End::Truncated => Ok(truncated()),
        }
    }
}

/// Whether an answer streams although its client does not say so: Go's never does. It announces what may follow the body of
/// any answer, and gives those that are no result a type of their own.
fn is_typed_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    headers.contains_key(TRAILER) && kind.is_some_and(|kind| kind != BYTES && !is_json(kind))
}

fn is_json(kind: &[u8]) -> bool {
    kind.starts_with(b"application/json")
}

/// A result is JSON. What a client sends as something else, and is not, is passed on as the bytes that it is.
fn result(headers: &HeaderMap, body: Bytes) -> Answered {
    let kind = headers.get(CONTENT_TYPE);
    let is_result = kind.is_some_and(|kind| is_json(kind.as_bytes()))
        || serde_json::from_slice::<IgnoredAny>(&body).is_ok();
    if is_result {
        return Answered::Whole(body);
    }
    let is_form = kind.is_none_or(|kind| kind == FORM);
    let kind = match kind {
        Some(kind) if !is_form => kind.clone(),
        _ if std::str::from_utf8(&body).is_ok() => TEXT,
        _ => HeaderValue::from_static("application/octet-stream"),
    };
    let (sender, parts) = mpsc::channel(2);
    for part in [Part::Data(body), Part::End] {
        // There is room for both.
        sender.try_send(part).ok();
    }
    Answered::Stream {
        kind: Some(kind),
        parts,
    }
}

/// What a web handler's answer lacks.
const NO_HEAD: &str = "a web handler answers with status and headers before the body: content type application/vnd.awslambda.http-integration-response";

/// Reads an answer to its end, for as long as somebody takes it.
async fn drain(mut body: Incoming, sender: &mpsc::Sender<Part>, is_web: bool) -> End {
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = sender.closed(), if is_web => return End::Unread,
        };
        let Some(frame) = frame else {
            return End::Whole;
        };
        let Ok(frame) = frame else {
            return End::Truncated;
        };
        match frame.into_data() {
            Ok(data) if data.starts_with(LATE_TEXT) => {
                if let Some(fault) = late_text(&data) {
                    return End::Broken(fault);
                }
            }
            Ok(data) => {
                // An event's client need not know that nobody listens, and gets to its end.
                if sender.send(Part::Data(data)).await.is_err() && is_web {
                    return End::Unread;
                }
            }
            Err(frame) => {
                let fault = frame.into_trailers().ok().as_ref().and_then(late_fault);
                if let Some(fault) = fault {
                    return End::Broken(fault);
                }
            }
        }
    }
}

/// What failed behind an answer that had begun.
fn late_fault(trailers: &HeaderMap) -> Option<HandlerFault> {
    let error_type = trailers.get(LATE_TYPE)?;
    let report = trailers.get(LATE_BODY).map(|body| {
        let body = body.as_bytes();
        BASE64_STANDARD.decode(body).unwrap_or_else(|_| body.into())
    });
    let named = error_type.to_str().unwrap_or("Function.Unknown");
    Some(fault::of_late_report(named, &report.unwrap_or_default()))
}

/// The same, from a piece of the body.
fn late_text(piece: &[u8]) -> Option<HandlerFault> {
    let lines = std::str::from_utf8(piece).ok()?.split("\r\n");
    let pairs = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?))
    });
    late_fault(&pairs.collect())
}
