//! Invoking: the JSON body is the event, the return value is `result`, and what was logged comes along.
//! Asks no database, unless the function cannot be called.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use model::{Auth, ErrorType, Failure, FunctionId, Level, LogLine, Trigger};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    In, Named,
    refusal::{self, Refusal},
};
use crate::{
    api::{self, MayInvoke},
    app::App,
    bodies::BodyLimit,
    deploys::store_failure,
    forward,
    invoke::{self, Answer, Errand, Outcome, Target, Work},
    serving::Serving,
};

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ServiceResult))]
pub(super) struct Done {
    success: bool,
    /// What the handler returned: any JSON.
    #[cfg_attr(test, schema(value_type = serde_json::Value))]
    result: Box<RawValue>,
    /// In milliseconds.
    duration: u64,
    logs: Vec<String>,
}

/// Invoke with an event.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/api/v1/functions/{project}/{function}",
    operation_id = "serviceInvoke",
    tag = "functions service",
    security(("token" = ["invoke"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    request_body(content = Option<serde_json::Value>),
    responses((status = 200, description = "It returned", body = Done)),
))]
pub(super) async fn invoke(
    State(app): State<Arc<App>>,
    may: Result<In<MayInvoke>, Refusal>,
    named: Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let Named(id) = named;
    if !app.builds.is_quiet() {
        app.builds.settled(Some(&id)).await;
    }
    let serving = match app.registry.table().serving(&id) {
        Ok(serving) => serving,
        Err(failure) => {
            may?;
            return Err(not_callable(&app, &id, failure).await);
        }
    };
    if !is_for_everybody(&serving) {
        may?;
    }
    let limit = BodyLimit::event(&app.limits);
    limit.check_announced(&headers)?;
    let event = api::event(api::whole(body, limit).await?)?;
    let errand = Errand {
        work: Work::Event(event),
        trigger: Trigger::Http,
        target: Target::Alias(None),
        wants_logs: true,
    };
    let outcome = invoke::invoke(&app, &serving, errand).await?;
    answer(&serving, outcome)
}

/// Why a function cannot be called: one that is switched off says so, whether it has code or not.
async fn not_callable(app: &App, id: &FunctionId, failure: Failure) -> Refusal {
    if failure.error_type != ErrorType::NotDeployed {
        return failure.into();
    }
    match app.store.function(id).await {
        Ok(Some(function)) if !function.enabled => {
            Failure::new(ErrorType::FunctionDisabled, failure.message).into()
        }
        Ok(_) => failure.into(),
        Err(error) => store_failure(&error).into(),
    }
}

/// Whether the function asks its callers for no token, whichever version they meet.
fn is_for_everybody(serving: &Serving) -> bool {
    let choice = serving.current.as_ref();
    choice.is_some_and(|choice| {
        let second = choice.second.as_ref().map(|(_, deployed)| deployed);
        let mut all = [&choice.first].into_iter().chain(second);
        all.all(|deployed| deployed.version.settings.auth == Auth::None)
    })
}

fn answer(serving: &Serving, outcome: Outcome) -> Result<Response, Refusal> {
    let Outcome {
        id,
        result,
        timing,
        logs,
        ..
    } = outcome;
    let logs = logs.iter().map(shown).collect();
    let found = match result {
        Ok(found) => found,
        Err(failure) if did_run(failure.error_type) => {
            let limit = timing.version.and_then(|number| {
                let deployed = serving.deployed();
                Some(deployed.get(&number)?.version.settings.timeout.0)
            });
            return Err(Refusal::failed(id, message(&failure, limit), logs));
        }
        Err(failure) => return Err(Refusal::from(failure).of(id)),
    };
    let done = Done {
        success: true,
        result: result_of(&found)?,
        duration: (timing.ran_us + 500) / 1000,
        logs,
    };
    let mut response = Json(done).into_response();
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(forward::INVOCATION_ID, id);
    }
    Ok(response)
}

/// Whether it ran, so that its failure is told as one of the function.
fn did_run(error_type: ErrorType) -> bool {
    error_type.is_of_function() || error_type == ErrorType::Cancelled
}

/// What went wrong, as `TypeError: x is not a function` where the handler threw it; `limit` is the timeout in
/// milliseconds.
fn message(failure: &Failure, limit: Option<u64>) -> String {
    match (failure.error_type, limit, &failure.fault) {
        (ErrorType::FunctionTimeout, Some(limit), _) => {
            format!("Function execution timeout ({limit}ms)")
        }
        (_, _, Some(fault)) => format!("{}: {}", fault.error_type, fault.message),
        (_, _, None) => refusal::words(failure),
    }
}

/// The handler's return value; of a response its body, as text where it is no JSON.
fn result_of(answer: &Answer) -> Result<Box<RawValue>, Failure> {
    let broken = |error: serde_json::Error| {
        let message = format!("the worker answered with what is no JSON: {error}");
        Failure::new(ErrorType::Internal, message)
    };
    let Some((_, headers)) = &answer.head else {
        return serde_json::from_slice(&answer.body).map_err(broken);
    };
    if is_json(headers)
        && let Ok(json) = serde_json::from_slice(&answer.body)
    {
        return Ok(json);
    }
    let text = String::from_utf8_lossy(&answer.body);
    serde_json::value::to_raw_value(&text).map_err(broken)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/json"))
}

/// `[LOG] …`, by the method of `console` that wrote it.
fn shown(line: &LogLine) -> String {
    let method = match line.level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info if line.is_info => "INFO",
        Level::Info => "LOG",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    format!("[{method}] {}", line.text)
}
