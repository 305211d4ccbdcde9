//! What happened: records of invocations, and log lines, past and to come.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use model::{ErrorType, Failure, FunctionId, Record, Timestamp};
use serde::Serialize;
use store::{InvocationFilter, LogFilter, LogFollower, StoredLine};

use super::{Answer, MayLook, Piece, Server};
use crate::{app::App, deploys::store_failure, journal::Invocation};

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Invocations))]
pub(crate) struct List {
    invocations: Vec<Record>,
    sampled: Sampled,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct Sampled {
    recorded: u64,
    ended: u64,
    lost: u64,
}

type Asked = Query<HashMap<String, String>>;

/// One value of a query, if it is there.
fn value<T: std::str::FromStr>(
    asked: &HashMap<String, String>,
    key: &str,
) -> Result<Option<T>, Failure> {
    let Some(text) = asked.get(key) else {
        return Ok(None);
    };
    let shown: String = text.chars().take(80).collect();
    let parsed = text.parse();
    parsed.map(Some).map_err(|_| {
        Failure::new(
            ErrorType::BadRequest,
            format!("`{key}` cannot be `{shown}`"),
        )
    })
}

/// A moment of a query: milliseconds before now, or a time as RFC 3339 writes it.
fn moment(
    asked: &HashMap<String, String>,
    key: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, Failure> {
    if let Some(at) = asked.get(key).and_then(|text| text.parse().ok()) {
        let at: jiff::Timestamp = at;
        return Ok(Some(Timestamp(at.as_millisecond())));
    }
    let ago = value::<i64>(asked, key)?;
    Ok(ago.map(|ago| Timestamp(now.0.saturating_sub(ago))))
}

/// `true` or `1`; absent, `false` and `0` mean no.
fn flag(asked: &HashMap<String, String>, key: &str) -> Result<bool, Failure> {
    match asked.get(key).map(String::as_str) {
        Some("1") => Ok(true),
        Some("0") => Ok(false),
        _ => Ok(value(asked, key)?.unwrap_or(false)),
    }
}

/// The function of a path, if there is one of that name.
async fn known(app: &App, project: &str, function: &str) -> Result<FunctionId, Failure> {
    let id = super::function(project, function)?;
    match app.registry.table().state(&id) {
        Some(_) => Ok(id),
        None => Err(store_failure(&store::StoreError::NoFunction(id))),
    }
}

/// Records of invocations, newest first.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions/{function}/invocations",
    operation_id = "listInvocations",
    tag = "invocations",
    security(("token" = ["deploy"]), ("token" = ["live"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path), ("failed" = Option<bool>, Query, description = "Failed ones only"), ("limit" = Option<u64>, Query, description = "At most this many"), ("before" = Option<model::InvocationId>, Query, description = "Older than this invocation")),
    responses((status = 200, description = "The records, and what part of the whole they are", body = List)),
))]
pub(crate) async fn list(
    State(app): Server,
    _: MayLook,
    Path((project, function)): Path<(String, String)>,
    Query(asked): Asked,
) -> Answer<Json<List>> {
    let id = known(&app, &project, &function).await?;
    let filter = InvocationFilter {
        failed_only: flag(&asked, "failed")?,
        limit: value(&asked, "limit")?.unwrap_or(InvocationFilter::default().limit),
        before: value(&asked, "before")?,
    };
    let found = app
        .store
        .invocations(&id, &filter)
        .await
        .map_err(|error| store_failure(&error))?;
    let sampled = Sampled {
        recorded: found.sampling.recorded,
        ended: found.sampling.ended,
        lost: found.sampling.lost,
    };
    Ok(Json(List {
        invocations: found.records,
        sampled,
    }))
}

/// Log lines, oldest first.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions/{function}/logs",
    operation_id = "logs",
    tag = "invocations",
    security(("token" = ["deploy"]), ("token" = ["live"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path), ("since" = Option<String>, Query, description = "Not older than this: milliseconds before now, or a time as RFC 3339 writes it"), ("until" = Option<String>, Query, description = "Not newer than this, given likewise"), ("contains" = Option<String>, Query, description = "With this somewhere in the text; ASCII letters in either case"), ("level" = Option<model::Level>, Query, description = "At least this loud"), ("invocation" = Option<model::InvocationId>, Query, description = "Of this invocation only"), ("limit" = Option<u64>, Query, description = "At most this many, the newest"), ("follow" = Option<bool>, Query, description = "Go on with what is written from now on")),
    responses((status = 200, description = "One JSON object per line; with `follow` the answer goes on until the server goes down", body = model::LogLine, content_type = "application/x-ndjson")),
))]
pub(crate) async fn logs(
    State(app): Server,
    _: MayLook,
    Path((project, function)): Path<(String, String)>,
    Query(asked): Asked,
) -> Answer<Response> {
    let id = known(&app, &project, &function).await?;
    let default = LogFilter::default();
    let now = Invocation::now(&app.journal);
    let filter = LogFilter {
        since: moment(&asked, "since", now)?,
        until: moment(&asked, "until", now)?,
        contains: asked.get("contains").cloned(),
        at_least: value(&asked, "level")?.unwrap_or(default.at_least),
        invocation: value(&asked, "invocation")?,
        limit: value(&asked, "limit")?.unwrap_or(default.limit),
        after: None,
    };
    let body = if flag(&asked, "follow")? {
        let follower = app.store.follow_logs(&id, filter);
        Body::from_stream(stream::unfold((app, follower), next_lines))
    } else {
        let lines = app
            .store
            .logs(&id, &filter)
            .await
            .map_err(|error| store_failure(&error))?;
        Body::from(ndjson(&lines))
    };
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The next piece of a followed log; ends when the server goes down.
async fn next_lines(
    (app, mut follower): (Arc<App>, LogFollower),
) -> Option<(Piece, (Arc<App>, LogFollower))> {
    let lines = app.stopping.run_until_cancelled(follower.next()).await?;
    let lines = lines.ok()?;
    Some((Ok(ndjson(&lines)), (app, follower)))
}

fn ndjson(lines: &[StoredLine]) -> Bytes {
    let mut text = Vec::new();
    for stored in lines {
        // A line that could be stored can be written.
        if serde_json::to_writer(&mut text, &stored.line).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}
