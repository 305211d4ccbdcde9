//! `InvokeWithResponseStream`: the answer in frames, each as soon as the handler gave it, and how it ended in the last.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE, SET_COOKIE, TRANSFER_ENCODING},
    response::Parts,
};
use http_body_util::BodyExt;
use model::{Failure, InvocationId};
use serde_json::{Map, Value, json};

use super::{
    Answer, Caller, Refusal,
    eventstream::{self, PAYLOAD_MAX, frame},
    invoke::{Asked, EXECUTED_VERSION, INVOCATION_TYPE, REQUEST_ID, empty, said, text},
    qualifier::executed,
    tail::Report,
    verdict::{FunctionError, Verdict, refusal, verdict},
};
use crate::{
    api::{Piece, Server},
    bodies::BodyLimit,
    forward,
    invoke::{self, Begun, Taken},
    invoker::Runner,
    logs::KeptLines,
    reply::Streamed,
    rights::Right,
    serving::Deployed,
};

/// `POST /2021-11-15/functions/{function}/response-streaming-invocations`.
pub(super) async fn invoke(
    State(app): Server,
    Path(function): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Response> {
    caller.may(Right::Invoke)?;
    let is_dry = match said(&headers, INVOCATION_TYPE) {
        None | Some("RequestResponse") => false,
        Some("DryRun") => true,
        Some(other) => {
            let rule = "Member must satisfy enum value set: [RequestResponse, DryRun]";
            return Err(Refusal::constraint(other, "invocationType", rule));
        }
    };
    let qualifier = query.get("Qualifier").map(String::as_str);
    let asked = Asked::read(&app, &function, qualifier, &headers, caller).await?;
    if is_dry {
        return empty(StatusCode::NO_CONTENT, None);
    }
    let (serving, named, arn, errand, brought) = asked.errand();
    let began = invoke::begin(&app, &serving, errand, brought).await;
    let begun = began.map_err(|failure| refusal(&failure, &arn))?;
    let (id, version) = (begun.id, executed(&named, &serving, &begun.deployed));
    let frames = Frames::of(begun, arn, version.clone(), BodyLimit::result(&app.limits))?;
    let pieces = stream::unfold(frames, async |mut frames| {
        let frame = frames.next().await?;
        Some((Piece::Ok(frame), frames))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static(eventstream::CONTENT_TYPE);
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(REQUEST_ID, text(&id.to_string()));
    headers.insert(EXECUTED_VERSION, text(&version));
    Ok(response)
}

/// The answer on its way.
struct Frames {
    id: InvocationId,
    deployed: Arc<Deployed>,
    arn: String,
    version: String,
    /// What is still to come of the answer; `None`: nothing.
    answer: Option<Streamed>,
    /// Frames that are ready.
    ready: VecDeque<Bytes>,
    /// How it failed, if it did.
    error: Option<FunctionError>,
    is_over: bool,
    worker: Option<Runner>,
    logs: Option<KeptLines>,
    taken: Option<Taken>,
}

impl Frames {
    /// Those of an invocation whose answer begins. What never ran is refused instead.
    fn of(begun: Begun, arn: String, version: String, result: BodyLimit) -> Answer<Frames> {
        let mut frames = Frames {
            id: begun.id,
            arn,
            version,
            answer: None,
            ready: VecDeque::new(),
            error: None,
            is_over: false,
            worker: begun.worker,
            logs: begun.logs,
            taken: begun.taken,
            deployed: begun.deployed,
        };
        match begun.result {
            Ok((parts, answer)) => {
                let streams = parts.headers.get(forward::ANSWER);
                let streams = streams.map(HeaderValue::as_bytes);
                if streams == Some(forward::RESPONSE) {
                    frames.push(&prelude(&parts));
                }
                let is_result =
                    streams.is_none() && frames.deployed.version.kind == model::Kind::Event;
                frames.answer = Some(if is_result {
                    answer.within(result)
                } else {
                    answer
                });
            }
            Err(failure) => match frames.verdict(&failure) {
                Verdict::Function(error) => frames.error = Some(error),
                Verdict::Refused(refusal) => return Err(refusal),
            },
        }
        Ok(frames)
    }

    fn verdict(&self, failure: &Failure) -> Verdict {
        verdict(failure, self.id, &self.deployed, &self.arn)
    }

    fn push(&mut self, data: &[u8]) {
        for part in data.chunks(PAYLOAD_MAX) {
            let frame = frame("PayloadChunk", "application/octet-stream", part);
            self.ready.push_back(frame);
        }
    }

    /// The next frame, once there is something to say.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            let Some(answer) = &mut self.answer else {
                break;
            };
            match answer.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.push(&data);
                    }
                }
                Some(Err(failure)) => {
                    self.answer = None;
                    self.error = Some(match self.verdict(&failure) {
                        Verdict::Function(error) => error,
                        Verdict::Refused(refusal) => refusal.into(),
                    });
                }
                None => self.answer = None,
            }
        }
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        Some(self.complete().await)
    }

    /// The last frame: how it ended.
    async fn complete(&mut self) -> Bytes {
        let mut end = Map::new();
        if let Some(error) = &self.error {
            end.insert("ErrorCode".into(), error.error_type.clone().into());
            let details = String::from_utf8_lossy(&error.body).into_owned();
            end.insert("ErrorDetails".into(), details.into());
        }
        if let Some(logs) = self.logs.take() {
            let ran = self.taken.map(|taken| taken.at.elapsed());
            let ran = ran.unwrap_or_default().as_micros();
            let cold = self.taken.filter(|taken| taken.is_cold);
            let mut memory = None;
            if let Some(worker) = &self.worker {
                worker.drained().await;
                memory = worker.memory();
            }
            let report = Report {
                id: self.id,
                deployed: &self.deployed,
                version: &self.version,
                ran_us: u64::try_from(ran).unwrap_or(u64::MAX),
                init_us: cold.map(|taken| taken.waited_us),
                memory,
                error: self.error.as_ref(),
            };
            end.insert("LogResult".into(), report.tail(&logs.take()).into());
        }
        let end = Value::Object(end).to_string();
        frame("InvokeComplete", "application/json", end.as_bytes())
    }
}

/// Status, headers and cookies before the body, as the handler wrote them.
fn prelude(parts: &Parts) -> Vec<u8> {
    let value = |value: &HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
    let mut headers = Map::new();
    for (name, says) in &parts.headers {
        if *name != SET_COOKIE && !OURS.contains(name) {
            headers.insert(name.to_string(), value(says));
        }
    }
    let cookies: Vec<Value> = parts
        .headers
        .get_all(SET_COOKIE)
        .iter()
        .map(value)
        .collect();
    let mut prelude = json!({"statusCode": parts.status.as_u16(), "headers": headers});
    if !cookies.is_empty() {
        prelude["cookies"] = cookies.into();
    }
    let mut bytes = prelude.to_string().into_bytes();
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

/// Headers of the worker's answer that the handler did not write.
const OURS: [HeaderName; 3] = [forward::ANSWER, TRANSFER_ENCODING, DATE];
