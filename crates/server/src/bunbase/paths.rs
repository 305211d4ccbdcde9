//! The profile's paths on HTTP. What they do stands in the files beside.

use std::collections::HashMap;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
};
use http::Request;
use model::{ErrorType, Failure};

#[cfg(test)]
use super::Refusal;
use super::{
    Refused,
    deploy::{self, Deployment},
    logs::{self, Line},
    register::{self, Registered},
};
use crate::{
    api::{ApiError, MayDeploy, MayLook, Server, function, json},
    app::App,
};

/// The path of a function's log lines, around its name.
const LOGS: (&str, &str) = ("/functions/", "/logs");

/// Whether a request is for the log lines of a function that was registered here; of any other, the path is its own.
pub(crate) fn is_logs<B>(app: &App, request: &Request<B>) -> bool {
    let name = request.uri().path().strip_suffix(LOGS.1);
    let Some(name) = name.and_then(|path| path.strip_prefix(LOGS.0)) else {
        return false;
    };
    request.method() == http::Method::GET && app.registry.is_registered(name)
}

/// Register a function, as BunBase does. The same again changes nothing.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/functions/register",
    operation_id = "registerFunction",
    tag = "bunbase",
    security(("token" = ["deploy"])),
    request_body(content = register::Wanted),
    responses((status = 200, description = "It is registered", body = Registered), (status = "default", description = "It failed; `type` says how", body = Refusal)),
))]
pub(crate) async fn register(
    State(app): Server,
    may: Result<MayDeploy, ApiError>,
    body: Body,
) -> Result<Json<Registered>, Refused> {
    may?;
    Ok(Json(register::register(&app, json(body).await?).await?))
}

/// Deploy a file of the server's disk under a label, as BunBase does. A label means one content for ever.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/functions/deploy",
    operation_id = "deployFunction",
    tag = "bunbase",
    security(("token" = ["deploy"])),
    request_body(content = deploy::Wanted),
    responses((status = 200, description = "It is current", body = Deployment), (status = "default", description = "It failed; `type` says how", body = Refusal)),
))]
pub(crate) async fn deploy(
    State(app): Server,
    may: Result<MayDeploy, ApiError>,
    body: Body,
) -> Result<Json<Deployment>, Refused> {
    may?;
    Ok(Json(deploy::deploy(&app, json(body).await?).await?))
}

/// Log lines of a function that was registered, oldest first; of any other function the path is its own.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/functions/{function}/logs",
    operation_id = "registeredLogs",
    tag = "bunbase",
    security(("token" = ["deploy"]), ("token" = ["live"])),
    params(("function" = model::Name, Path), ("since" = Option<String>, Query, description = "Not older than this, as RFC 3339 writes it"), ("limit" = Option<u64>, Query, description = "At most this many, the newest")),
    responses((status = 200, description = "The lines", body = Vec<Line>), (status = "default", description = "It failed; `type` says how", body = Refusal)),
))]
pub(crate) async fn logs(
    State(app): Server,
    may: Result<MayLook, ApiError>,
    Path(name): Path<String>,
    Query(mut asked): Query<HashMap<String, String>>,
) -> Result<Json<Vec<Line>>, Refused> {
    may?;
    let id = function(app.home_project.as_str(), &name)?;
    let limit = asked.remove("limit").filter(|text| !text.is_empty());
    let limit = limit.map(|text| text.parse()).transpose();
    let wanted = logs::Wanted {
        since: asked.remove("since"),
        limit: limit.map_err(|_| {
            Failure::new(ErrorType::BadRequest, "`limit` is a whole number of lines")
        })?,
        ..logs::Wanted::default()
    };
    Ok(Json(logs::lines(&app, &id, &wanted).await?))
}
