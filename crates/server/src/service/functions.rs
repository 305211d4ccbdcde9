//! Functions as the profile shows them. What was said when one was made is shown again; one that came otherwise speaks
//! for itself.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
};
use model::{Digest, FunctionId, Name, Runtime, Timestamp};
use serde::Serialize;
use store::{CurrentFunction, Origin, Origins};

use super::{In, Named, codes::code_of, refusal::Refusal};
use crate::{
    api::{MayInvoke, MayLook},
    app::App,
    deploys::store_failure,
    serving,
};

/// One function.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ServiceFunction))]
pub(super) struct Function {
    id: String,
    function_name: Name,
    file_path: String,
    /// As it was said, `node18` for example.
    runtime: String,
    is_active: bool,
    /// Ever; nothing is pruned from it.
    invocation_count: u64,
    created_at: String,
    /// Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ServiceOne))]
pub(super) struct One {
    success: bool,
    function: Function,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ServiceList))]
pub(super) struct List {
    success: bool,
    functions: Vec<Function>,
    count: usize,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ServiceCode))]
pub(super) struct Code {
    success: bool,
    #[cfg_attr(test, schema(value_type = String))]
    code: Arc<str>,
}

/// One function.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/api/v1/functions/{project}/{function}",
    operation_id = "serviceShow",
    tag = "functions service",
    security(("token" = ["invoke"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    responses((status = 200, description = "The function", body = One)),
))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: In<MayInvoke>,
    Named(id): Named,
) -> Result<Json<One>, Refusal> {
    Ok(Json(one(&app, &id).await?))
}

/// Every function of a project, sorted; none for a project that nobody has heard of.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/api/v1/projects/{project}/functions",
    operation_id = "serviceList",
    tag = "functions service",
    security(("token" = ["invoke"])),
    params(("project" = model::Name, Path)),
    responses((status = 200, description = "Sorted by name", body = List)),
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: In<MayInvoke>,
    Path(project): Path<String>,
) -> Result<Json<List>, Refusal> {
    let project = crate::api::name(&project)?;
    let known = Known::look(&app).await?;
    let all = app.store.all_current().await;
    let all = all.map_err(|error| store_failure(&error))?;
    let table = app.registry.table();
    // What left its folder in `dev` is stored and not served.
    let wanted = all.iter().filter(|current| {
        let id = &current.function.id;
        id.project == project && table.state(id).is_some()
    });
    let mut functions: Vec<Function> = wanted.map(|current| known.shape(current)).collect();
    for function in &mut functions {
        function.updated_at = None;
    }
    Ok(Json(List {
        success: true,
        count: functions.len(),
        functions,
    }))
}

/// The code of a function: as it was handed in, or the entry of its bundle.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/api/functions/code/{project}/{function}",
    operation_id = "serviceCode",
    tag = "functions service",
    security(("token" = ["deploy"]), ("token" = ["live"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    responses((status = 200, description = "The code", body = Code)),
))]
pub(super) async fn code(
    State(app): State<Arc<App>>,
    _: In<MayLook>,
    Named(id): Named,
) -> Result<Json<Code>, Refusal> {
    let current = current(&app, &id).await?;
    let Some(version) = &current.version else {
        return Err(serving::not_deployed(&id).into());
    };
    match code_of(&app, version).await? {
        Some(code) => Ok(Json(Code {
            success: true,
            code: code.text,
        })),
        None => {
            let message = format!("`{}` is a program, or too large to show", version.entry);
            Err(Refusal::no_code(Some(message)))
        }
    }
}

/// One function, as answers show it.
pub(super) async fn one(app: &App, id: &FunctionId) -> Result<One, Refusal> {
    let current = current(app, id).await?;
    let known = Known::look(app).await?;
    Ok(One {
        success: true,
        function: known.shape(&current),
    })
}

/// What the store says of a function that is there.
pub(super) async fn current(app: &App, id: &FunctionId) -> Result<CurrentFunction, Refusal> {
    let table = app.registry.table();
    if table.state(id).is_none() {
        // Says what a call would be told.
        table.serving(id)?;
    }
    let current = app.store.current(id).await;
    Ok(current.map_err(|error| store_failure(&error))?)
}

/// What is known of all functions besides what they say themselves.
pub(super) struct Known {
    origins: Origins,
    counts: HashMap<FunctionId, u64>,
}

impl Known {
    async fn look(app: &App) -> Result<Known, Refusal> {
        let origins = app.store.origins().await;
        let counts = app.store.invocation_counts().await;
        Ok(Known {
            origins: origins.map_err(|error| store_failure(&error))?,
            counts: counts.map_err(|error| store_failure(&error))?,
        })
    }

    fn shape(&self, current: &CurrentFunction) -> Function {
        let function = &current.function;
        let Origin { file_path, runtime } = origin(&self.origins, current);
        Function {
            id: id_of(&function.id, function.created_at),
            function_name: function.id.name.clone(),
            file_path,
            runtime,
            is_active: function.enabled,
            invocation_count: self.counts.get(&function.id).copied().unwrap_or(0),
            created_at: shown(function.created_at),
            updated_at: Some(shown(function.updated_at)),
        }
    }
}

/// Where a function's current version came from, as it was said or else as it says itself.
pub(super) fn origin(origins: &Origins, current: &CurrentFunction) -> Origin {
    let said = origins.get(&(current.function.id.clone(), current.function.current));
    said.cloned().unwrap_or_else(|| {
        let version = current.version.as_ref();
        let patch = version.map(|version| &version.patch);
        let entry = patch.and_then(|patch| patch.entry.clone());
        let runtime = patch.and_then(|patch| patch.runtime);
        Origin {
            file_path: entry
                .or_else(|| version.map(|version| version.entry.clone()))
                .unwrap_or_default(),
            runtime: runtime.unwrap_or(Runtime::Isolate).to_string(),
        }
    })
}

/// The same as long as the function lives, and another once it is made anew.
fn id_of(id: &FunctionId, created_at: Timestamp) -> String {
    let digest = Digest::of(format!("{id} {}", created_at.0).as_bytes());
    format!("fn-{}", &digest.hex()[..16])
}

fn shown(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0);
    at.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
