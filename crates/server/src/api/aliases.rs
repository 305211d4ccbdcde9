//! Aliases: names that point at a version, or at two by weight. `current` is the one that calls follow.

use std::{collections::BTreeMap, time::Instant};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
};
use http::StatusCode;
use model::{AliasPart, AliasTarget, ErrorType, Failure, Name, VersionRef, VersionRefError};
use serde::{Deserialize, Serialize};
use store::Alias;

use super::{Answer, MayDeploy, MayLook, Server, json, to_its_end};
use crate::deploys::{Activated, store_failure};

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Aliases))]
pub(crate) struct List {
    /// Each version with its share of a hundred, by the alias's name.
    aliases: BTreeMap<Name, Vec<AliasPart>>,
}

/// One version, or a list of them with weights.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = AliasTarget))]
struct Target {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    versions: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = AliasTargetPart))]
struct Part {
    version: String,
    #[serde(default)]
    weight: Option<u32>,
}

/// Where each alias points.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions/{function}/aliases",
    operation_id = "listAliases",
    tag = "versions",
    security(("token" = ["deploy"]), ("token" = ["live"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    responses((status = 200, description = "The aliases", body = List)),
))]
pub(crate) async fn list(
    State(app): Server,
    _: MayLook,
    Path((project, function)): Path<(String, String)>,
) -> Answer<Json<List>> {
    let id = super::function(&project, &function)?;
    let aliases = app.store.aliases(&id).await;
    let aliases = aliases.map_err(|error| store_failure(&error))?;
    let parts = |(name, target): (Name, AliasTarget)| (name, target.parts());
    Ok(Json(List {
        aliases: aliases.into_iter().map(parts).collect(),
    }))
}

/// Point an alias at a version, or at two by weight.
#[cfg_attr(test, utoipa::path(
    put,
    path = "/v1/projects/{project}/functions/{function}/aliases/{alias}",
    operation_id = "pointAlias",
    tag = "versions",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path), ("alias" = model::Name, Path, description = "`current` is the one that calls follow")),
    request_body(content = Target),
    responses((status = 200, description = "Where it points now", body = Activated)),
))]
pub(crate) async fn point(
    State(app): Server,
    _: MayDeploy,
    Path((project, function, alias)): Path<(String, String, String)>,
    body: Body,
) -> Answer<Json<Activated>> {
    let id = super::function(&project, &function)?;
    let alias = Alias(super::name(&alias)?);
    if let Ok(VersionRef::Number(_)) = alias.0.as_str().parse() {
        let message = format!(
            "an alias cannot be called `{}`: that names a version",
            alias.0
        );
        return Err(Failure::new(ErrorType::BadRequest, message).into());
    }
    let wanted = wanted(json(body).await?)?;
    let deploys = app.clone();
    let change = async move {
        let activated = deploys.deploys.activate(&id, &alias, &wanted).await;
        deploys.deploys.bundles.sweep(Instant::now()).await;
        activated
    };
    Ok(Json(to_its_end(&app, change).await?))
}

/// Delete an alias other than `current`.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/projects/{project}/functions/{function}/aliases/{alias}",
    operation_id = "deleteAlias",
    tag = "versions",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path), ("alias" = model::Name, Path, description = "`current` is the one that calls follow")),
    responses((status = 204, description = "It is gone")),
))]
pub(crate) async fn delete(
    State(app): Server,
    _: MayDeploy,
    Path((project, function, alias)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    let id = super::function(&project, &function)?;
    let alias = Alias(super::name(&alias)?);
    let deploys = app.clone();
    let change = async move { deploys.deploys.drop_alias(&id, &alias).await };
    to_its_end(&app, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The versions that a body names.
fn wanted(target: Target) -> Result<Vec<(VersionRef, Option<u32>)>, Failure> {
    let only = target.version.map(|version| Part {
        version,
        weight: None,
    });
    let parts = only.into_iter().chain(target.versions);
    let parsed = parts.map(|part| Ok((part.version.parse()?, part.weight)));
    let parsed: Result<Vec<_>, VersionRefError> = parsed.collect();
    let wanted = parsed.map_err(|error| Failure::new(ErrorType::BadRequest, error.to_string()))?;
    if wanted.is_empty() {
        let message = "the request body names no `version`";
        return Err(Failure::new(ErrorType::BadRequest, message).hint(r#"send {"version":"v3"}"#));
    }
    Ok(wanted)
}
