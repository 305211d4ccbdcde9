//! One invocation looked up, its recording, and `…/replay`: what it was asked is asked again.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header::CONTENT_TYPE};
use model::{
    ErrorType, Failure, FunctionId, InvocationId, Record, RecordedRequest, RecordedWeb, Recording,
    Trigger, VersionRef, VersionRefError,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Answer, MayDeploy, Server,
    invoke::{self, Invoked},
};
use crate::{
    app::App,
    bodies::BodyLimit,
    deploys::store_failure,
    errors,
    invoke::{Errand, Target, Work},
};

/// What is to be replayed, and on what.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Replay))]
struct Asked {
    /// An invocation that was recorded here.
    id: Option<String>,
    /// A recording, from wherever.
    recording: Option<Value>,
    version: Option<String>,
    alias: Option<String>,
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(ErrorType::BadRequest, message)
}

fn invocation_id(text: &str) -> Result<InvocationId, Failure> {
    let shown: String = text.chars().take(80).collect();
    text.parse()
        .map_err(|_| bad(format!("`{shown}` is no id of an invocation")))
}

/// The record of an invocation.
async fn record(app: &App, id: InvocationId) -> Result<Record, Failure> {
    let found = app.store.invocation(id).await;
    let found = found.map_err(|error| store_failure(&error))?;
    found.ok_or_else(|| {
        Failure::new(ErrorType::NotFound, format!("no invocation `{id}` is known"))
            .hint("`bungee invocations NAME` shows those that are; of many successes only a sample has a record, unless `record = \"all\"`")
    })
}

/// The same, of this function.
async fn record_of(
    app: &App,
    (project, function, id): &(String, String, String),
) -> Result<Record, Failure> {
    let function = super::function(project, function)?;
    let id = invocation_id(id)?;
    let record = record(app, id).await?;
    if record.function == function {
        return Ok(record);
    }
    let message = format!("`{id}` is no invocation of `{function}`");
    Err(Failure::new(ErrorType::NotFound, message)
        .hint(format!("it is one of `{}`", record.function)))
}

/// The record of one invocation, whatever its function.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/invocations/{id}",
    operation_id = "findInvocation",
    tag = "invocations",
    security(("token" = ["deploy"])),
    params(("id" = model::InvocationId, Path)),
    responses((status = 200, description = "The record", body = model::Record)),
))]
pub(crate) async fn find(
    State(app): Server,
    _: MayDeploy,
    Path(id): Path<String>,
) -> Answer<Json<Record>> {
    Ok(Json(record(&app, invocation_id(&id)?).await?))
}

/// The record of one invocation of the function.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions/{function}/invocations/{id}",
    operation_id = "getInvocation",
    tag = "invocations",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path), ("id" = model::InvocationId, Path)),
    responses((status = 200, description = "The record", body = model::Record)),
))]
pub(crate) async fn show(
    State(app): Server,
    _: MayDeploy,
    Path(path): Path<(String, String, String)>,
) -> Answer<Json<Record>> {
    Ok(Json(record_of(&app, &path).await?))
}

/// What the invocation was asked and answered, as one file; there only if the function's `record` kept it.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions/{function}/invocations/{id}/recording",
    operation_id = "getRecording",
    tag = "invocations",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path), ("id" = model::InvocationId, Path)),
    responses((status = 200, description = "The recording", body = model::Recording)),
))]
pub(crate) async fn export(
    State(app): Server,
    _: MayDeploy,
    Path(path): Path<(String, String, String)>,
) -> Answer<Response> {
    let record = record_of(&app, &path).await?;
    let recording = recording(&app, &record).await?;
    let json = serde_json::to_vec(&recording)
        .map_err(|error| Failure::new(ErrorType::Internal, error.to_string()))?;
    let name = format!("attachment; filename=\"{}.bungee.json\"", record.id);
    let headers = [
        (CONTENT_TYPE, errors::JSON),
        (
            http::header::CONTENT_DISPOSITION,
            HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("attachment")),
        ),
    ];
    Ok((headers, Bytes::from(json)).into_response())
}

/// The recording of an invocation, with the digest of the version that ran.
async fn recording(app: &App, record: &Record) -> Result<Recording, Failure> {
    let found = app.store.recording(record.id).await;
    let Some(json) = found.map_err(|error| store_failure(&error))? else {
        let Record { id, function, .. } = record;
        let message = format!("invocation `{id}` of `{function}` was not recorded");
        let hint = format!(
            "set `record = \"failed\"` or `\"all\"` under `[functions.{}]` in bungee.toml and deploy: what comes after is kept",
            function.name
        );
        return Err(Failure::new(ErrorType::NotFound, message).hint(hint));
    };
    let mut recording = Recording::read(&json).map_err(|error| {
        let message = format!("the recording of `{}` cannot be used: {error}", record.id);
        Failure::new(ErrorType::Internal, message)
    })?;
    if let Some(number) = recording.version {
        let wanted = VersionRef::Number(number);
        let version = app.store.find_version(&record.function, &wanted).await;
        recording.digest = version.ok().map(|version| version.digest);
    }
    Ok(recording)
}

/// Ask again what a recording says, with the trigger `replay`, and wait for the outcome.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/projects/{project}/functions/{function}/replay",
    operation_id = "replay",
    tag = "invocations",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    request_body(content = Asked),
    responses((status = 200, description = "An invocation took place; it may have failed, and `outcome` says so", body = Invoked)),
))]
pub(crate) async fn replay(
    State(app): Server,
    _: MayDeploy,
    Path((project, function)): Path<(String, String)>,
    body: Body,
) -> Answer<Json<Invoked>> {
    let id = super::function(&project, &function)?;
    let bytes = super::whole(body, BodyLimit::recording(&app.limits)).await?;
    let asked: Asked = serde_json::from_slice(&bytes)
        .map_err(|error| bad(format!("the request body is not as expected: {error}")))?;
    let work = work(&app, &id, asked.id.as_deref(), asked.recording).await?;
    if !app.builds.is_quiet() {
        app.builds.settled(Some(&id)).await;
    }
    let serving = app.registry.table().serving(&id)?;
    let visit = match (&asked.version, &asked.alias) {
        (Some(_), Some(_)) => {
            return Err(bad("name a version or an alias, not both").into());
        }
        (Some(version), None) => {
            let version: VersionRef = version
                .parse()
                .map_err(|error: VersionRefError| bad(error.to_string()))?;
            Some(app.deploys.visit(&id, &version).await?)
        }
        (None, _) => None,
    };
    let target = match &visit {
        Some(visit) => Target::Version(visit.deployed.clone()),
        None => Target::Alias(asked.alias),
    };
    let errand = Errand {
        work,
        trigger: Trigger::Replay,
        target,
        wants_logs: true,
    };
    invoke::answer(&app, &serving, errand).await
}

/// What the named or given recording asks.
async fn work(
    app: &Arc<App>,
    function: &FunctionId,
    id: Option<&str>,
    given: Option<Value>,
) -> Result<Work, Failure> {
    let recording = match (id, given) {
        (Some(id), None) => {
            let path = (
                function.project.to_string(),
                function.name.to_string(),
                id.to_owned(),
            );
            let record = record_of(app, &path).await?;
            recording(app, &record).await?
        }
        (None, Some(given)) => {
            Recording::of(given).map_err(|error| bad(format!("cannot replay this: {error}")))?
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(bad("say what to replay: `id`, or `recording`"));
        }
    };
    match recording.request {
        RecordedRequest::Event(event) => {
            let event = event.whole().map_err(|why| not_whole("the event", &why))?;
            Ok(Work::Event(super::invoke::event(event.into())?))
        }
        RecordedRequest::Web(web) => request(web),
    }
}

fn not_whole(what: &str, why: &str) -> Failure {
    bad(format!("this recording cannot be replayed: {what} {why}"))
}

fn request(web: RecordedWeb) -> Result<Work, Failure> {
    let broken = |what: &str| bad(format!("the recording is damaged: {what} cannot be sent"));
    let body = web.body.whole();
    let body = body.map_err(|why| not_whole("the request's body", &why))?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(web.method.as_bytes()).map_err(|_| broken("the method"))?;
    parts.uri = web.url.parse::<Uri>().map_err(|_| broken("the URL"))?;
    for (name, value) in &web.headers {
        let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        let (Some(header), Some(value)) = (header, value) else {
            return Err(broken(&format!("the header `{name}`")));
        };
        parts.headers.append(header, value);
    }
    Ok(Work::Web {
        parts: Box::new(parts),
        params: web.params,
        body: body.into(),
    })
}
