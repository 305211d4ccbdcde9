//! `/v1/server`: what this server is, and what it can do.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use axum::{Json, extract::State, response::IntoResponse};
use http::{HeaderMap, header::CONTENT_TYPE};
use model::Limits;
use serde::Serialize;
use store::Role;

use super::{Answer, MayDeploy, MayInvoke, Server, Unguarded, description::DESCRIPTION};
use crate::{errors, journal::Invocation, metrics::Metrics};

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Server))]
pub(crate) struct Info {
    version: &'static str,
    projects: Vec<String>,
    home_project: String,
    #[cfg_attr(test, schema(value_type = String))]
    data_dir: PathBuf,
    limits: Limits,
    open: bool,
    /// Whether laptops may attach.
    live: bool,
    /// Where each runtime is; `null` where it is not.
    runtimes: BTreeMap<&'static str, Option<String>>,
    /// The caller's, if his token lets him in.
    role: Option<&'static str>,
    #[cfg_attr(test, schema(value_type = Option<String>))]
    user: Option<Arc<str>>,
}

/// This description.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "describe",
    tag = "server",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Map<String, serde_json::Value>)),
))]
pub(crate) async fn describe(_: Unguarded) -> impl IntoResponse {
    ([(CONTENT_TYPE, errors::JSON)], DESCRIPTION)
}

/// Everything that is counted, for Prometheus.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "server",
    security(("token" = ["deploy"])),
    responses((status = 200, description = "The text format of Prometheus", body = String, content_type = "text/plain")),
))]
pub(crate) async fn metrics(State(app): Server, _: MayDeploy) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, Metrics::CONTENT_TYPE)],
        app.metrics.render(&app),
    )
}

/// What this server is, and what it can do.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/server",
    operation_id = "server",
    tag = "server",
    security(("token" = ["invoke"])),
    responses((status = 200, description = "The server", body = Info)),
))]
pub(crate) async fn show(
    State(app): Server,
    _: MayInvoke,
    headers: HeaderMap,
) -> Answer<Json<Info>> {
    let now = Invocation::now(&app.journal);
    let table = app.registry.table();
    let shown = |program: &Option<PathBuf>| program.as_ref().map(|path| path.display().to_string());
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        projects: table.projects().into_iter().map(str::to_owned).collect(),
        home_project: app.home_project.to_string(),
        data_dir: app.data_dir.clone(),
        limits: (*app.limits).clone(),
        open: app.access.is_open(),
        live: app.allows_live,
        runtimes: BTreeMap::from([
            ("isolate", Some("built in".to_owned())),
            ("bun", shown(&app.deploys.bun)),
            ("node", shown(&app.deploys.node)),
        ]),
        role: app.access.role(&headers, now).map(Role::as_str),
        user: app.access.user(&headers, now),
    }))
}
