//! `GET /v1/routes`: which function of a project a path means, without calling it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{
    Json,
    extract::{Query, State},
};
use http::Method;
use model::{ErrorType, Failure, FunctionId, Name, Params};
use serde::Serialize;

use super::functions::Known;
use crate::{
    api::{self, Answer, MayInvoke},
    app::App,
    deploys::store_failure,
    registry::{Found, State as Served, Table},
};

/// Paths that stand before a function's name, with or without its project.
const ALIASES: [&str; 3] = ["/_functions/", "/api/v1/functions/", "/functions/"];

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ResolvedRoute))]
pub(super) struct Resolved {
    is_function: bool,
    project: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_name: Option<Name>,
    /// Where it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Whether calls are let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_active: Option<bool>,
    /// Parameters of a declared route.
    params: BTreeMap<String, String>,
}

/// Which function of a project a path means.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/routes",
    operation_id = "resolveRoute",
    tag = "functions",
    security(("token" = ["invoke"])),
    params(("project" = Option<model::Name>, Query, description = "The home project if absent"), ("path" = String, Query, description = "The path, from the project's root"), ("method" = Option<String>, Query, description = "Matters to declared routes only; `GET` if absent")),
    responses((status = 200, description = "It may be none, and `is_function` says so", body = Resolved)),
))]
pub(super) async fn resolve(
    State(app): State<Arc<App>>,
    _: MayInvoke,
    Query(asked): Query<HashMap<String, String>>,
) -> Answer<Json<Resolved>> {
    let project = asked.get("project").map(String::as_str);
    let project = api::name(project.unwrap_or(app.home_project.as_str()))?;
    let Some(path) = asked.get("path").filter(|path| !path.is_empty()) else {
        return Err(Failure::new(ErrorType::BadRequest, "`path` is missing")
            .hint("ask /v1/routes?project=PROJECT&path=/api/hello")
            .into());
    };
    let method = asked.get("method").map_or("GET", String::as_str);
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| {
        let message = "`method` is no method of HTTP";
        Failure::new(ErrorType::BadRequest, message)
    })?;
    let path = format!("/{}", path.trim_start_matches('/'));
    let table = app.registry.table();
    let (id, params) = match named(&table, &project, &path) {
        Some(id) => (Some(id), Params::new()),
        None => match app.registry.find(&method, &path) {
            Found::Function(serving, params) if serving.function.project == project => {
                (Some(serving.function.clone()), params)
            }
            Found::Function(..) | Found::Refused(_) | Found::Elsewhere => {
                (of_file(&app, &table, &project, &path).await?, Params::new())
            }
        },
    };
    let is_active = match &id {
        Some(id) => Some(is_active(&app, id).await?),
        None => None,
    };
    Ok(Json(Resolved {
        is_function: id.is_some(),
        project,
        url: id.as_ref().map(|id| table.url(id)),
        function_name: id.map(|id| id.name),
        is_active,
        params: params.into_iter().collect(),
    }))
}

/// The function that the path names.
fn named(table: &Table, project: &Name, path: &str) -> Option<FunctionId> {
    let below = ALIASES.iter().find_map(|alias| path.strip_prefix(alias))?;
    let mut parts = below.split('/');
    let first = parts.next().unwrap_or("");
    let second = parts.next().filter(|_| first == project.as_str());
    // A project may have a function of its own name.
    let candidates = [second, Some(first)].into_iter().flatten();
    let ids = candidates.filter_map(|name| {
        Some(FunctionId {
            project: project.clone(),
            name: name.parse().ok()?,
        })
    });
    ids.into_iter().find(|id| table.state(id).is_some())
}

/// The function whose source lies there: `/api/hello` is that of `api/hello.js`.
async fn of_file(
    app: &App,
    table: &Table,
    project: &Name,
    path: &str,
) -> Result<Option<FunctionId>, Failure> {
    let fail = |error| store_failure(&error);
    let known = Known::look(app).await?;
    let all = app.store.all_current().await.map_err(fail)?;
    let mut all = all.into_iter().filter(|current| {
        let id = &current.function.id;
        id.project == *project && table.state(id).is_some()
    });
    let found = all.find(|current| {
        let file = known.origin(current).file_path;
        let stem = file
            .rsplit_once('.')
            .map_or(file.as_str(), |(stem, _)| stem);
        path[1..] == *stem || path[1..] == file
    });
    Ok(found.map(|current| current.function.id))
}

async fn is_active(app: &App, id: &FunctionId) -> Result<bool, Failure> {
    match app.registry.table().state(id) {
        Some(Served::Deployed(_) | Served::Shut) => Ok(true),
        Some(Served::Disabled) => Ok(false),
        Some(Served::NotDeployed) | None => {
            let function = app.store.function(id).await;
            let function = function.map_err(|error| store_failure(&error))?;
            Ok(function.is_some_and(|function| function.enabled))
        }
    }
}
