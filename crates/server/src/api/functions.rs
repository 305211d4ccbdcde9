//! Functions as people see them: what is deployed, how it is set, what its workers do.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
};
use model::{
    AliasPart, Digest, FunctionId, Kind, Limits, Name, Route, Runtime, Settings, SettingsPatch,
    Timestamp, VersionNumber,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::CurrentFunction;
use workers::Counts;

use super::{Answer, MayDeploy, MayInvoke, MayLook, Server, to_its_end};
use crate::{
    app::App,
    deploys::{Deleted, store_failure},
    registry::{State as Served, Table},
};

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Function))]
pub(crate) struct Summary {
    project: Name,
    name: Name,
    current: Option<VersionNumber>,
    digest: Option<Digest>,
    kind: Option<Kind>,
    runtime: Option<Runtime>,
    enabled: bool,
    routes: Vec<Route>,
    deployed_at: Option<Timestamp>,
    lifecycle: &'static str,
    workers: WorkerCounts,
    url: String,
}

/// Workers by state. How many invocations wait is told apart.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct WorkerCounts {
    starting: u32,
    warm: u32,
    busy: u32,
    idle: u32,
    retiring: u32,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Functions))]
pub(crate) struct List {
    functions: Vec<Summary>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = FunctionInfo))]
pub(crate) struct Info {
    #[serde(flatten)]
    summary: Summary,
    settings: BTreeMap<String, Setting>,
    /// Where each alias points, `current` too.
    aliases: BTreeMap<Name, Vec<AliasPart>>,
    waiting: u32,
    limits: Limits,
}

/// One setting, and where its value comes from.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct Setting {
    value: Value,
    from: &'static str,
}

/// Every function of a project, sorted.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions",
    operation_id = "listFunctions",
    tag = "functions",
    security(("token" = ["invoke"])),
    params(("project" = String, Path, description = "The project; `-` stands for all")),
    responses((status = 200, description = "The functions", body = List)),
))]
pub(crate) async fn list(
    State(app): Server,
    _: MayInvoke,
    Path(project): Path<String>,
) -> Answer<Json<List>> {
    let project = if project == "-" {
        None
    } else {
        Some(super::name(&project)?)
    };
    let all = app
        .store
        .all_current()
        .await
        .map_err(|error| store_failure(&error))?;
    let table = app.registry.table();
    // What left its folder in `dev` is stored and not served.
    let is_served = |id: &FunctionId| table.state(id).is_some();
    let wanted = all.into_iter().filter(|current| {
        let id = &current.function.id;
        is_served(id)
            && project
                .as_ref()
                .is_none_or(|project| id.project == *project)
    });
    let functions = wanted
        .map(|current| summary(&table, &current, counts(&table, &current.function.id)))
        .collect();
    Ok(Json(List { functions }))
}

/// One function in full.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions/{function}",
    operation_id = "showFunction",
    tag = "functions",
    security(("token" = ["deploy"]), ("token" = ["live"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    responses((status = 200, description = "The function", body = Info)),
))]
pub(crate) async fn show(
    State(app): Server,
    _: MayLook,
    Path((project, function)): Path<(String, String)>,
) -> Answer<Json<Info>> {
    let id = super::function(&project, &function)?;
    let current = app
        .store
        .current(&id)
        .await
        .map_err(|error| store_failure(&error))?;
    let table = app.registry.table();
    let counts = counts(&table, &id);
    Ok(Json(Info {
        summary: summary(&table, &current, counts),
        settings: settings(&app, &current),
        aliases: current
            .aliases
            .iter()
            .map(|(name, target)| (name.clone(), target.parts()))
            .collect(),
        waiting: counts.waiting,
        limits: (*app.limits).clone(),
    }))
}

/// What of a function can be changed without a deployment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct Change {
    enabled: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Changed {
    enabled: bool,
    /// `false` if it was so already.
    changed: bool,
}

/// Let calls in, or keep them out.
#[cfg_attr(test, utoipa::path(
    patch,
    path = "/v1/projects/{project}/functions/{function}",
    operation_id = "changeFunction",
    tag = "functions",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    request_body(content = Change),
    responses((status = 200, description = "How it is now; what is in flight ends by itself", body = Changed)),
))]
pub(crate) async fn change(
    State(app): Server,
    _: MayDeploy,
    Path((project, function)): Path<(String, String)>,
    body: Body,
) -> Answer<Json<Changed>> {
    let id = super::function(&project, &function)?;
    let Change { enabled } = super::json(body).await?;
    let deploys = app.clone();
    let change = async move { deploys.deploys.set_enabled(&id, enabled).await };
    let changed = to_its_end(&app, change).await?;
    Ok(Json(Changed { enabled, changed }))
}

/// Delete a function with its versions, overrides, logs and records.
///
/// Nothing is routed to it at once; what is in flight gets the server's grace.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/projects/{project}/functions/{function}",
    operation_id = "deleteFunction",
    tag = "functions",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    responses((status = 200, description = "It is gone", body = Deleted)),
))]
pub(crate) async fn delete(
    State(app): Server,
    _: MayDeploy,
    Path((project, function)): Path<(String, String)>,
) -> Answer<Json<Deleted>> {
    let id = super::function(&project, &function)?;
    let deploys = app.clone();
    let change = async move {
        let deleted = deploys.deploys.delete(&id).await?;
        deploys.queue.forget_function(&id);
        Ok(deleted)
    };
    Ok(Json(to_its_end(&app, change).await?))
}

fn counts(table: &Table, id: &FunctionId) -> Counts {
    match table.state(id) {
        Some(Served::Deployed(serving)) => serving.counts(),
        Some(Served::NotDeployed | Served::Disabled | Served::Shut) | None => Counts::default(),
    }
}

fn summary(table: &Table, current: &CurrentFunction, counts: Counts) -> Summary {
    let CurrentFunction {
        function, version, ..
    } = current;
    let patch = version.as_ref().map(|version| &version.patch);
    let Counts {
        starting,
        warm,
        busy,
        idle,
        retiring,
        ..
    } = counts;
    Summary {
        project: function.id.project.clone(),
        name: function.id.name.clone(),
        current: function.current,
        digest: version.as_ref().map(|version| version.digest),
        kind: version.as_ref().map(|version| version.kind),
        runtime: patch.map(|patch| patch.runtime.unwrap_or(Runtime::Isolate)),
        enabled: function.enabled,
        routes: patch
            .and_then(|patch| patch.routes.clone())
            .unwrap_or_default(),
        deployed_at: function.deployed_at,
        lifecycle: table.lifecycle(function),
        workers: WorkerCounts {
            starting,
            warm,
            busy,
            idle,
            retiring,
        },
        url: table.url(&function.id),
    }
}

/// Every setting by its name in `bungee.toml`, and whether it was written there.
fn settings(app: &App, current: &CurrentFunction) -> BTreeMap<String, Setting> {
    let Some(version) = &current.version else {
        return BTreeMap::new();
    };
    let Ok(settings) = version.patch.resolve(&app.limits) else {
        return BTreeMap::new();
    };
    let mut shown = written(&version.patch, &settings);
    let mut show =
        |key: &str, value: Value, from| shown.insert(key.to_owned(), Setting { value, from });
    show(
        "entry",
        json!(version.entry),
        if version.patch.entry.is_some() {
            FILE
        } else {
            DEFAULT
        },
    );
    show(
        "kind",
        json!(version.kind),
        if version.patch.kind.is_some() {
            FILE
        } else {
            DEFAULT
        },
    );
    for (name, value) in settings
        .env
        .iter()
        .filter(|(name, _)| !current.over.env.contains_key(*name))
    {
        show(&format!("env.{name}"), json!(value), FILE);
    }
    for (name, value) in &current.over.env {
        show(&format!("env.{name}"), json!(value), "override");
    }
    shown
}

const FILE: &str = "bungee.toml";
const DEFAULT: &str = "default";

fn written(patch: &SettingsPatch, settings: &Settings) -> BTreeMap<String, Setting> {
    let workers = patch.workers.as_ref();
    let queue = patch.queue.as_ref();
    let table = [
        ("handler", json!(settings.handler), patch.handler.is_some()),
        ("runtime", json!(settings.runtime), patch.runtime.is_some()),
        ("routes", json!(settings.routes), patch.routes.is_some()),
        ("timeout", json!(settings.timeout), patch.timeout.is_some()),
        ("memory", json!(settings.memory), patch.memory.is_some()),
        (
            "concurrency",
            json!(settings.concurrency),
            patch.concurrency.is_some(),
        ),
        (
            "workers.min",
            json!(settings.workers_min),
            workers.is_some_and(|workers| workers.min.is_some()),
        ),
        (
            "workers.max",
            json!(settings.workers_max),
            workers.is_some_and(|workers| workers.max.is_some()),
        ),
        (
            "workers.idle",
            json!(settings.workers_idle),
            workers.is_some_and(|workers| workers.idle.is_some()),
        ),
        (
            "queue.depth",
            json!(settings.queue_depth),
            queue.is_some_and(|queue| queue.depth.is_some()),
        ),
        (
            "queue.wait",
            json!(settings.queue_wait),
            queue.is_some_and(|queue| queue.wait.is_some()),
        ),
        ("auth", json!(settings.auth), patch.auth.is_some()),
        ("record", json!(settings.record), patch.record.is_some()),
        ("redact", json!(settings.redact), patch.redact.is_some()),
        ("live", json!(settings.live), patch.live.is_some()),
    ];
    let setting = |(key, value, is_written): (&str, Value, bool)| {
        (
            key.to_owned(),
            Setting {
                value,
                from: if is_written { FILE } else { DEFAULT },
            },
        )
    };
    table.into_iter().map(setting).collect()
}
