//! Making, changing and deleting functions by the profile's words.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use model::{ErrorType, Failure, FunctionId};
use serde::{Deserialize, Serialize};
use store::Origin;

use super::{
    In, Named,
    codes::code_of,
    functions::{self, Known, One},
    refusal::Refusal,
    sources::{self, Source},
};
use crate::{
    api::{self, MayDeploy},
    app::App,
    bodies::BodyLimit,
    deploys::store_failure,
};

/// The word for a runtime where none was said.
const DEFAULT_RUNTIME: &str = "node18";

/// What a function is to be. Clients write the names in either way.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ServiceWords))]
pub(super) struct Words {
    /// For `register` only: the project.
    #[serde(alias = "projectId", alias = "project")]
    project_id: Option<String>,
    /// Needed where a function is made.
    #[serde(alias = "functionName", alias = "name")]
    function_name: Option<String>,
    #[serde(alias = "filePath")]
    file_path: Option<String>,
    /// `node18` if absent.
    runtime: Option<String>,
    code: Option<String>,
    #[serde(alias = "isActive")]
    is_active: Option<bool>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = ServiceGone))]
pub(super) struct Gone {
    success: bool,
}

/// Make a function; its project comes into being with it.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/api/functions/projects/{project}",
    operation_id = "serviceCreate",
    tag = "functions service",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path)),
    request_body(content = Words),
    responses((status = 201, description = "It is there", body = One)),
))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _: In<MayDeploy>,
    Path(project): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let words = words(&app, body).await?;
    let id = new_id(&project, &words)?;
    let made = to_its_end(&app, |app| async move {
        let _naming = app.deploys.naming.lock().await;
        if app.registry.table().state(&id).is_some() {
            return Err(Refusal::exists(format!("there is a function `{id}`")));
        }
        introduce(&app, &id, words).await?;
        functions::one(&app, &id).await
    });
    Ok((StatusCode::CREATED, Json(made.await?)).into_response())
}

/// Make a function, or change the one that is there.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/api/functions/register",
    operation_id = "serviceRegister",
    tag = "functions service",
    security(("token" = ["deploy"])),
    request_body(content = Words),
    responses((status = 200, description = "It was there, and is as it was said", body = One), (status = 201, description = "It is new", body = One)),
))]
pub(super) async fn register(
    State(app): State<Arc<App>>,
    _: In<MayDeploy>,
    body: Body,
) -> Result<Response, Refusal> {
    let words = words(&app, body).await?;
    let project = words.project_id.as_deref();
    let project = project.unwrap_or(app.home_project.as_str()).to_owned();
    let id = new_id(&project, &words)?;
    let made = to_its_end(&app, |app| async move {
        let _naming = app.deploys.naming.lock().await;
        let is_there = app.registry.table().state(&id).is_some();
        let status = if is_there {
            update(&app, &id, words).await?;
            StatusCode::OK
        } else {
            introduce(&app, &id, words).await?;
            StatusCode::CREATED
        };
        Ok((status, functions::one(&app, &id).await?))
    });
    let (status, one) = made.await?;
    Ok((status, Json(one)).into_response())
}

/// Change code, path or runtime; let calls in, or keep them out.
#[cfg_attr(test, utoipa::path(
    patch,
    path = "/api/v1/functions/{project}/{function}",
    operation_id = "serviceChange",
    tag = "functions service",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    request_body(content = Words),
    responses((status = 200, description = "How it is now", body = One)),
))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    _: In<MayDeploy>,
    Named(id): Named,
    body: Body,
) -> Result<Json<One>, Refusal> {
    let words = words(&app, body).await?;
    let is_empty = words.code.is_none()
        && words.file_path.is_none()
        && words.runtime.is_none()
        && words.is_active.is_none();
    if is_empty {
        let message = "nothing is to be changed";
        let hint = "send `is_active`, `code`, `file_path` or `runtime`";
        return Err(Failure::new(ErrorType::BadRequest, message)
            .hint(hint)
            .into());
    }
    let changed = to_its_end(&app, |app| async move {
        update(&app, &id, words).await?;
        functions::one(&app, &id).await
    });
    Ok(Json(changed.await?))
}

/// Delete a function; what is in flight ends within the grace.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/api/functions/{project}/{function}",
    operation_id = "serviceDelete",
    tag = "functions service",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    responses((status = 200, description = "It is gone", body = Gone)),
))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    _: In<MayDeploy>,
    Named(id): Named,
) -> Result<Json<Gone>, Refusal> {
    let gone = to_its_end(&app, |app| async move {
        app.deploys.delete(&id).await?;
        Ok(Gone { success: true })
    });
    Ok(Json(gone.await?))
}

/// Makes a change to its end, whether or not the caller stays to hear of it.
async fn to_its_end<T, F>(app: &Arc<App>, change: impl FnOnce(Arc<App>) -> F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Refusal>> + Send + 'static,
{
    let change = change(app.clone());
    // What it says is passed on as it is: it may be a refusal.
    api::to_its_end(app, async move { Ok(change.await) }).await?
}

/// Reads a body, whose code may be as large as an event.
async fn words(app: &App, body: Body) -> Result<Words, Refusal> {
    let bytes = api::whole(body, BodyLimit::source(&app.limits)).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("the request body is not as expected: {error}");
        Failure::new(ErrorType::BadRequest, message).into()
    })
}

/// The function that comes into being.
fn new_id(project: &str, words: &Words) -> Result<FunctionId, Failure> {
    let Some(name) = &words.function_name else {
        let message = "`function_name` is missing";
        return Err(Failure::new(ErrorType::BadRequest, message)
            .hint("send `function_name`, `file_path`, `runtime` and `code`"));
    };
    api::new_function(project, name)
}

/// A function that was not there before, with code or still without.
async fn introduce(app: &App, id: &FunctionId, words: Words) -> Result<(), Refusal> {
    let word = words.runtime.unwrap_or_else(|| DEFAULT_RUNTIME.to_owned());
    let runtime = sources::runtime_of(&word)?;
    let path = words.file_path;
    let path = path.unwrap_or_else(|| sources::default_path(id, runtime));
    sources::check_path(&path)?;
    let origin = Origin {
        file_path: path,
        runtime: word,
    };
    match words.code {
        Some(code) => {
            let deployed = sources::deploy(app, id, Source { origin, code }).await;
            if deployed.is_err() && app.registry.table().state(id).is_none() {
                // What was made of it goes again; most often nothing was.
                let _gone = app.deploys.delete(id).await;
            }
            deployed?;
        }
        None => {
            app.deploys.introduce(id).await?;
            keep(app, id, origin).await?;
        }
    }
    if words.is_active == Some(false) {
        app.deploys.set_enabled(id, false).await?;
    }
    Ok(())
}

/// Changes what was said, of a function that is there.
async fn update(app: &App, id: &FunctionId, words: Words) -> Result<(), Refusal> {
    let current = functions::current(app, id).await?;
    let mut origin = Known::look(app).await?.origin(&current);
    let is_other = words.file_path.is_some() || words.runtime.is_some();
    if let Some(word) = words.runtime {
        sources::runtime_of(&word)?;
        origin.runtime = word;
    }
    if let Some(path) = words.file_path {
        sources::check_path(&path)?;
        origin.file_path = path;
    }
    let code = match (words.code, &current.version) {
        (Some(code), _) => Some(code),
        (None, Some(version)) if is_other => match code_of(app, version).await? {
            Some(code) if code.is_source => Some(code.text.to_string()),
            Some(_) | None => return Err(came_as_bundle(id).into()),
        },
        (None, _) => None,
    };
    if let Some(code) = code {
        sources::deploy(app, id, Source { origin, code }).await?;
    } else if is_other {
        keep(app, id, origin).await?;
    }
    if let Some(is_active) = words.is_active {
        app.deploys.set_enabled(id, is_active).await?;
    }
    Ok(())
}

async fn keep(app: &App, id: &FunctionId, origin: Origin) -> Result<(), Failure> {
    let kept = app.store.keep_source(id, None, origin, None).await;
    kept.map_err(|error| store_failure(&error))
}

fn came_as_bundle(id: &FunctionId) -> Failure {
    let message = format!("`{id}` was deployed as a bundle, and its source is not here");
    Failure::new(ErrorType::BadRequest, message)
        .hint("send `code` too, or change the folder and `bungee deploy` it")
}
