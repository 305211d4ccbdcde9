//! `…/invoke`: one event, its outcome, and what was logged meanwhile.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
};
use bytes::Bytes;
use http::HeaderMap;
use model::{ErrorType, Failure, InvocationId, LogLine, Trigger, VersionNumber};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Answer, MayInvoke, Server, whole};
use crate::{
    app::App,
    bodies::BodyLimit,
    errors,
    invoke::{self, Errand, Outcome, Target, Work},
    serving::Serving,
};

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Invoked {
    invocation_id: InvocationId,
    version: Option<VersionNumber>,
    outcome: model::Outcome,
    /// An event handler's result; the body of a web handler's response as a string.
    #[cfg_attr(test, schema(value_type = serde_json::Value))]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    error: Option<serde_json::Value>,
    logs: Vec<LogLine>,
    waited_us: u64,
    ran_us: u64,
    cold: bool,
}

/// Invoke with an event and wait for the outcome.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/projects/{project}/functions/{function}/invoke",
    operation_id = "invoke",
    tag = "invocations",
    security(("token" = ["invoke"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path), ("alias" = Option<String>, Query, description = "Follow this alias instead of `current`")),
    request_body(content = Option<serde_json::Value>),
    responses((status = 200, description = "An invocation took place; it may have failed, and `outcome` says so", body = Invoked)),
))]
pub(crate) async fn invoke(
    State(app): Server,
    _: MayInvoke,
    Path((project, function)): Path<(String, String)>,
    Query(mut asked): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Invoked>> {
    let id = super::function(&project, &function)?;
    if !app.builds.is_quiet() {
        app.builds.settled(Some(&id)).await;
    }
    let serving = app.registry.table().serving(&id)?;
    let limit = BodyLimit::event(&app.limits);
    limit.check_announced(&headers)?;
    let event = event(whole(body, limit).await?)?;
    let errand = Errand {
        work: Work::Event(event),
        trigger: Trigger::Cli,
        target: Target::Alias(asked.remove("alias")),
        wants_logs: true,
    };
    answer(&app, &serving, errand).await
}

/// Runs an errand, and answers with its outcome and what was logged meanwhile.
pub(super) async fn answer(
    app: &Arc<App>,
    serving: &Serving,
    errand: Errand,
) -> Answer<Json<Invoked>> {
    let outcome = invoke::invoke(app, serving, errand).await?;
    Ok(Json(shape(outcome)?))
}

/// The event as JSON; nothing is `null`.
pub(crate) fn event(bytes: Bytes) -> Result<Bytes, Failure> {
    if bytes.is_empty() {
        return Ok(Bytes::from_static(b"null"));
    }
    match serde_json::from_slice::<&RawValue>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let message = format!("the event is no JSON: {error}");
            Err(Failure::new(ErrorType::BadRequest, message)
                .hint("a text is written in double quotes"))
        }
    }
}

fn shape(outcome: Outcome) -> Result<Invoked, Failure> {
    let Outcome {
        id,
        result,
        timing,
        logs,
        ..
    } = outcome;
    let mut invoked = Invoked {
        invocation_id: id,
        version: timing.version,
        outcome: model::Outcome::Ok,
        result: None,
        status: None,
        error: None,
        logs,
        waited_us: timing.waited_us,
        ran_us: timing.ran_us,
        cold: timing.cold,
    };
    match result {
        Err(failure) => {
            invoked.outcome = model::Outcome::Failed(failure.error_type);
            invoked.error = serde_json::to_value(errors::shape(&failure, Some(id))).ok();
        }
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body);
            let json = match &answer.head {
                Some(_) => serde_json::value::to_raw_value(&text),
                None => RawValue::from_string(text.into_owned()),
            };
            invoked.result = Some(json.map_err(|error| {
                Failure::new(
                    ErrorType::Internal,
                    format!("the worker answered with what is no JSON: {error}"),
                )
            })?);
            invoked.status = answer.head.map(|(status, _)| status.as_u16());
        }
    }
    Ok(invoked)
}
