//! Functions as the profile shows them. What was said when one was made is shown again; one that came otherwise speaks
//! for itself.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
};
use model::{Digest, Failure, FunctionId, Name, Runtime, Timestamp};
use serde::Serialize;
use store::{CurrentFunction, Origin, Origins, Registration, StoreError};

use super::{In, Named, codes::code_of, refusal::Refusal, sources};
use crate::{
    api::{MayInvoke, MayLook},
    app::App,
    bunbase,
    deploys::store_failure,
    registry::State as Served,
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
    /// Of functions that were registered by the BunBase profile and have no code.
    registrations: HashMap<FunctionId, Registration>,
}

impl Known {
    pub(super) async fn look(app: &App) -> Result<Known, Failure> {
        let fail = |error: StoreError| store_failure(&error);
        let table = app.registry.table();
        let mut registrations = HashMap::new();
        for id in app.store.registered().await.map_err(fail)? {
            let is_bare = matches!(table.state(&id), Some(Served::NotDeployed));
            if is_bare && let Some(how) = app.store.registration(&id).await.map_err(fail)? {
                registrations.insert(id, how);
            }
        }
        Ok(Known {
            origins: app.store.origins().await.map_err(fail)?,
            counts: app.store.invocation_counts().await.map_err(fail)?,
            registrations,
        })
    }

    /// Where a function's current version came from, or its first will: as it was said, or else as it says itself.
    pub(super) fn origin(&self, current: &CurrentFunction) -> Origin {
        let id = &current.function.id;
        if let Some(said) = self.origins.get(&(id.clone(), current.function.current)) {
            return said.clone();
        }
        let version = current.version.as_ref();
        let patch = version.map(|version| &version.patch);
        let registered = self.registrations.get(id);
        let registered = registered.and_then(|how| bunbase::runtime(&how.runtime).ok());
        let runtime = patch.and_then(|patch| patch.runtime).or(registered);
        let runtime = runtime.unwrap_or(Runtime::Isolate);
        let entry = patch.and_then(|patch| patch.entry.clone());
        let path = entry.or_else(|| version.map(|version| version.entry.clone()));
        Origin {
            file_path: path.unwrap_or_else(|| sources::default_path(id, runtime)),
            runtime: runtime.to_string(),
        }
    }

    fn shape(&self, current: &CurrentFunction) -> Function {
        let function = &current.function;
        let Origin { file_path, runtime } = self.origin(current);
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

/// The same as long as the function lives, and another once it is made anew.
fn id_of(id: &FunctionId, created_at: Timestamp) -> String {
    let digest = Digest::of(format!("{id} {}", created_at.0).as_bytes());
    format!("fn-{}", &digest.hex()[..16])
}

fn shown(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0);
    // With three digits always: texts of one length sort as times do.
    format!("{:.3}", at.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_digits_behind_its_seconds() {
        assert_eq!(shown(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(Timestamp(1_500)), "1970-01-01T00:00:01.500Z");
    }
}
