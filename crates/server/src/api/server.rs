//! `/v1/server`: what this server is, and what it can do.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use axum::{Json, extract::State, response::IntoResponse};
use http::{HeaderMap, header::CONTENT_TYPE};
use model::Limits;
use serde::Serialize;
use store::Role;

use super::{Answer, MayDeploy, MayInvoke, Server, Unguarded};
use crate::{errors, journal::Invocation, metrics::Metrics};

#[derive(Serialize)]
pub(crate) struct Info {
    version: &'static str,
    projects: Vec<String>,
    home_project: String,
    data_dir: PathBuf,
    limits: Limits,
    open: bool,
    /// Whether laptops may attach.
    live: bool,
    /// Where each runtime is; `null` where it is not.
    runtimes: BTreeMap<&'static str, Option<String>>,
    /// The caller's, if his token lets him in.
    role: Option<&'static str>,
    user: Option<Arc<str>>,
}

/// The API in OpenAPI's words; a test compares it with the router and with what is answered.
const DESCRIPTION: &str = include_str!("../../../../spec/openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn describe(_: Unguarded) -> impl IntoResponse {
    ([(CONTENT_TYPE, errors::JSON)], DESCRIPTION)
}

/// `GET /metrics`: everything that is counted, as Prometheus reads it.
pub(crate) async fn metrics(State(app): Server, _: MayDeploy) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, Metrics::CONTENT_TYPE)],
        app.metrics.render(&app),
    )
}

/// What this server is.
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
