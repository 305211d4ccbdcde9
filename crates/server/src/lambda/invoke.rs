//! `Invoke`: an event, and what became of it at once, or the promise that it will be run.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use model::{ErrorType, Failure, InvocationId, Trigger};
use serde_json::value::RawValue;

use super::{
    Answer, Caller, Kind, Named, Refusal,
    qualifier::{executed, target},
    tail::Report,
    verdict::{FunctionError, Verdict, refusal, verdict},
};
use crate::{
    api::Server,
    app::App,
    bodies::BodyLimit,
    context::Context,
    errors::JSON,
    invoke::{self, Brought, Errand, Outcome, Work},
    journal::Invocation,
    queue::Accepted,
    rights::Right,
    serving::{Deployed, Serving},
};

pub(super) const INVOCATION_TYPE: &str = "x-amz-invocation-type";
const LOG_TYPE: &str = "x-amz-log-type";
const CLIENT_CONTEXT: &str = "x-amz-client-context";
const TENANT_ID: &str = "x-amz-tenant-id";
const TRACE_ID: &str = "x-amzn-trace-id";
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
pub(super) const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");

/// Longest client context, as it is sent: base64.
const CLIENT_CONTEXT_MAX: usize = 3583;

/// How the caller wants it run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InvocationType {
    /// He waits for the outcome.
    RequestResponse,
    /// It is queued.
    Event,
    /// Nothing is run; would it be?
    DryRun,
}

/// What was asked, as far as both ways of invoking ask the same.
pub(super) struct Asked {
    pub named: Named,
    pub arn: String,
    pub serving: Arc<Serving>,
    pub event: Bytes,
    pub context: Context,
    pub wants_tail: bool,
    pub target: invoke::Target,
}

/// `POST /2015-03-31/functions/{function}/invocations`.
pub(super) async fn invoke(
    State(app): Server,
    Path(function): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Response> {
    caller.may(Right::Invoke)?;
    let invocation_type = match said(&headers, INVOCATION_TYPE) {
        None | Some("RequestResponse") => InvocationType::RequestResponse,
        Some("Event") => InvocationType::Event,
        Some("DryRun") => InvocationType::DryRun,
        Some(other) => {
            let rule = "Member must satisfy enum value set: [Event, RequestResponse, DryRun]";
            return Err(Refusal::constraint(other, "invocationType", rule));
        }
    };
    let qualifier = query.get("Qualifier").map(String::as_str);
    if invocation_type == InvocationType::Event {
        return accept(&app, &function, qualifier, &headers, caller).await;
    }
    let asked = Asked::read(&app, &function, qualifier, &headers, caller).await?;
    match invocation_type {
        InvocationType::RequestResponse => wait(&app, asked).await,
        InvocationType::Event | InvocationType::DryRun => empty(StatusCode::NO_CONTENT, None),
    }
}

/// What a caller named, and what is served under it now.
async fn found(
    app: &Arc<App>,
    function: &str,
    qualifier: Option<&str>,
    region: &str,
) -> Answer<(Named, String, Result<Arc<Serving>, Failure>)> {
    let named = Named::parse(function, qualifier, region)?;
    let arn = named.arn(region);
    if !app.builds.is_quiet() {
        app.builds.settled(Some(&named.function)).await;
    }
    let serving = app.registry.table().serving(&named.function);
    Ok((named, arn, serving))
}

impl Asked {
    /// Finds the function, and reads everything that goes with it.
    pub(super) async fn read(
        app: &Arc<App>,
        function: &str,
        qualifier: Option<&str>,
        headers: &HeaderMap,
        caller: Caller,
    ) -> Result<Asked, Refusal> {
        let (named, arn, serving) = found(app, function, qualifier, &caller.region).await?;
        let serving = serving.map_err(|failure| refusal(&failure, &arn))?;
        let target = target(&serving, named.qualifier.as_deref());
        let target = target.map_err(|failure| refusal(&failure, &arn))?;
        let wants_tail = wants_tail(headers)?;
        let context = context(headers, &arn)?;
        Ok(Asked {
            event: event(caller.body)?,
            named,
            arn,
            serving,
            context,
            wants_tail,
            target,
        })
    }

    /// The work that it is, and what goes with that.
    pub(super) fn errand(self) -> (Arc<Serving>, Named, String, Errand, Brought) {
        let errand = Errand {
            work: Work::Event(self.event),
            trigger: Trigger::LambdaApi,
            target: self.target,
            wants_logs: self.wants_tail,
        };
        let brought = Brought {
            context: Some(Box::new(self.context)),
            ..Brought::default()
        };
        (self.serving, self.named, self.arn, errand, brought)
    }
}

/// Whether the caller asks for the end of the log.
fn wants_tail(headers: &HeaderMap) -> Answer<bool> {
    match said(headers, LOG_TYPE) {
        None | Some("None") => Ok(false),
        Some("Tail") => Ok(true),
        Some(other) => {
            let rule = "Member must satisfy enum value set: [None, Tail]";
            Err(Refusal::constraint(other, "logType", rule))
        }
    }
}

/// What the function is told of its caller.
fn context(headers: &HeaderMap, arn: &str) -> Answer<Context> {
    let text = |name| said(headers, name).map(str::to_owned);
    let client = said(headers, CLIENT_CONTEXT).map(client_context);
    Ok(Context {
        arn: Some(arn.to_owned()),
        client: client.transpose()?,
        tenant_id: text(TENANT_ID),
        trace_id: text(TRACE_ID),
    })
}

/// What a header says, if it is there and says something.
pub(super) fn said<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty()).then_some(value)
}

/// The event as JSON; nothing is an empty object, as on AWS.
fn event(body: Bytes) -> Result<Bytes, Refusal> {
    if body.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice::<&RawValue>(&body) {
        Ok(_) => Ok(body),
        Err(error) => {
            let message = format!("Could not parse request body into json: {error}");
            Err(Refusal::new(Kind::InvalidRequestContent, message))
        }
    }
}

/// What the client says of itself, in plain JSON.
fn client_context(encoded: &str) -> Result<String, Refusal> {
    let refused = |message: String| Refusal::new(Kind::InvalidRequestContent, message);
    if encoded.len() > CLIENT_CONTEXT_MAX {
        let length = encoded.len();
        return Err(refused(format!(
            "Client context must be no longer than {CLIENT_CONTEXT_MAX} bytes in base64; it has {length}"
        )));
    }
    let bad = || refused("Client context must be a valid Base64-encoded JSON object.".into());
    let bytes = STANDARD.decode(encoded).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::Object(_)) => Ok(text),
        Ok(_) | Err(_) => Err(bad()),
    }
}

/// Runs it, and answers with its outcome: a function's failure is an answer too.
async fn wait(app: &Arc<App>, asked: Asked) -> Answer<Response> {
    let wants_tail = asked.wants_tail;
    let (serving, named, arn, errand, brought) = asked.errand();
    let ended = invoke::invoke_as(app, &serving, errand, brought).await;
    let outcome = ended.map_err(|failure| refusal(&failure, &arn))?;
    let version = executed(&named, &serving, &outcome.deployed);
    let (body, error) = match &outcome.result {
        Ok(answer) => (payload(answer, &outcome.deployed), None),
        Err(failure) => match verdict(failure, outcome.id, &outcome.deployed, &arn) {
            Verdict::Function(error) => (error.body.clone(), Some(error)),
            Verdict::Refused(refusal) => return Err(refusal),
        },
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(REQUEST_ID, text(&outcome.id.to_string()));
    headers.insert(EXECUTED_VERSION, text(&version));
    if error.is_some() {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if wants_tail {
        headers.insert(
            LOG_RESULT,
            text(&report(&outcome, &version, error.as_ref()).tail(&outcome.logs)),
        );
    }
    Ok(response)
}

fn report<'a>(
    outcome: &'a Outcome,
    version: &'a str,
    error: Option<&'a FunctionError>,
) -> Report<'a> {
    let timing = &outcome.timing;
    Report {
        id: outcome.id,
        deployed: &outcome.deployed,
        version,
        ran_us: timing.ran_us,
        init_us: timing.cold.then_some(timing.waited_us),
        memory: outcome.memory,
        error,
    }
}

/// What an event handler gave is as it is. What a web handler answered is a JSON string, unless it is JSON itself.
fn payload(answer: &invoke::Answer, deployed: &Deployed) -> Bytes {
    let is_event = deployed.version.kind == model::Kind::Event;
    if is_event || serde_json::from_slice::<&RawValue>(&answer.body).is_ok() {
        return answer.body.clone();
    }
    let text = String::from_utf8_lossy(&answer.body);
    serde_json::to_vec(&text).unwrap_or_default().into()
}

/// Queues it, and answers once it is on the disk. A function that takes no calls now may take them before it is given up.
async fn accept(
    app: &Arc<App>,
    function: &str,
    qualifier: Option<&str>,
    headers: &HeaderMap,
    caller: Caller,
) -> Answer<Response> {
    let (named, arn, serving) = found(app, function, qualifier, &caller.region).await?;
    let leads = serving.and_then(|serving| target(&serving, named.qualifier.as_deref()));
    match leads {
        Err(failure) if !waits(failure.error_type) => return Err(refusal(&failure, &arn)),
        Ok(_) | Err(_) => {}
    }
    wants_tail(headers)?;
    let context = context(headers, &arn)?;
    let event = event(caller.body)?;
    let limit = BodyLimit {
        what: "the event",
        name: "async_event",
        most: app.limits.async_event,
    };
    let size = event.len();
    if limit.check(size).is_err() {
        let most = limit.most.0;
        let message = format!(
            "{size} byte payload is too large for the Event invocation type (limit {most} bytes, `async_event`)"
        );
        return Err(Refusal::new(Kind::RequestTooLarge, message));
    }
    let accepted = Accepted {
        function: named.function,
        event,
        qualifier: named.qualifier,
        context,
    };
    let now = Invocation::now(&app.journal);
    let id = app.queue.accept(now, accepted).await;
    let id = id.map_err(|failure| refusal(&failure, &arn))?;
    empty(StatusCode::ACCEPTED, Some(id))
}

/// Whether what keeps a function from being called may pass.
fn waits(why: ErrorType) -> bool {
    matches!(why, ErrorType::FunctionDisabled | ErrorType::Throttled)
}

pub(super) fn empty(status: StatusCode, id: Option<InvocationId>) -> Answer<Response> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Some(id) = id {
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, text(&id.to_string()));
    }
    Ok(response)
}

/// ASCII that we wrote, as a header.
pub(super) fn text(ascii: &str) -> HeaderValue {
    HeaderValue::from_str(ascii).unwrap_or_else(|_| HeaderValue::from_static(""))
}
