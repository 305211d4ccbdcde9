//! The server's overrides of a function's environment. Their values are shown here and in `info`, and logged nowhere.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
};
use serde::Serialize;

use super::{Answer, MayDeploy, MayLook, Server, json, to_its_end};
use crate::deploys::{EnvChange, store_failure};

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Env {
    /// What was set here, and lies over `bungee.toml`.
    overrides: BTreeMap<String, String>,
}

/// The server's overrides of its environment.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions/{function}/env",
    operation_id = "showEnv",
    tag = "functions",
    security(("token" = ["deploy"]), ("token" = ["live"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    responses((status = 200, description = "The overrides", body = Env)),
))]
pub(crate) async fn show(
    State(app): Server,
    _: MayLook,
    Path((project, function)): Path<(String, String)>,
) -> Answer<Json<Env>> {
    let id = super::function(&project, &function)?;
    let overrides = app.store.env(&id).await;
    let overrides = overrides.map_err(|error| store_failure(&error))?;
    Ok(Json(Env { overrides }))
}

/// Set and unset overrides, all or nothing.
///
/// They lie over bungee.toml and survive deployments.
#[cfg_attr(test, utoipa::path(
    patch,
    path = "/v1/projects/{project}/functions/{function}/env",
    operation_id = "changeEnv",
    tag = "functions",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    request_body(content = EnvChange),
    responses((status = 200, description = "The overrides as they are then", body = Env)),
))]
pub(crate) async fn change(
    State(app): Server,
    _: MayDeploy,
    Path((project, function)): Path<(String, String)>,
    body: Body,
) -> Answer<Json<Env>> {
    let id = super::function(&project, &function)?;
    let wanted: EnvChange = json(body).await?;
    let deploys = app.clone();
    let change = async move { deploys.deploys.change_env(&id, wanted).await };
    let overrides = to_its_end(&app, change).await?;
    Ok(Json(Env { overrides }))
}
