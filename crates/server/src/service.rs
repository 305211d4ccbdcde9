//! The Functions Service profile: the paths and shapes of a service that keeps functions as source, so that its clients
//! find here what they know. Everything behind the paths is what the rest of the server does anyway.

mod changes;
mod codes;
#[cfg(test)]
pub(crate) mod description;
mod functions;
mod invoke;
mod refusal;
mod routes;
mod sources;

use std::{marker::PhantomData, sync::Arc};

use axum::{
    Router,
    extract::{FromRequestParts, Path},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{Method, Uri, request::Parts};
use model::{ErrorType, Failure, FunctionId};

pub(crate) use self::codes::CodeCache;
use self::refusal::Refusal;
use crate::{
    api::{self, ApiError, Unguarded},
    app::App,
};

/// Its paths. `/_functions/{function}` and `/api/v1/functions/{function}` mean the home project.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/api/v1/functions/{project}/{function}",
            get(functions::show)
                .post(invoke::invoke)
                .patch(changes::change),
        )
        .route(
            "/api/v1/functions/{function}",
            get(functions::show)
                .post(invoke::invoke)
                .patch(changes::change),
        )
        .route(
            "/_functions/{function}",
            get(functions::show)
                .post(invoke::invoke)
                .patch(changes::change),
        )
        .route("/api/v1/projects/{project}/functions", get(functions::list))
        .route(
            "/api/functions/projects/{project}",
            get(functions::list).post(changes::create),
        )
        .route(
            "/api/functions/{project}/{function}",
            get(functions::show)
                .patch(changes::change)
                .delete(changes::delete),
        )
        .route(
            "/api/functions/code/{project}/{function}",
            get(functions::code),
        )
        .route("/api/functions/register", post(changes::register))
        .route("/v1/routes", get(routes::resolve))
        .method_not_allowed_fallback(method_not_allowed)
}

/// The answer to a path below the profile's that leads nowhere.
pub(crate) fn nowhere(uri: &Uri) -> Response {
    let shown: String = uri.path().chars().take(120).collect();
    let failure = Failure::new(ErrorType::NotFound, format!("nothing is at `{shown}`"));
    let hint = "functions are at /api/v1/functions/PROJECT/NAME";
    Refusal::from(failure.hint(hint)).into_response()
}

async fn method_not_allowed(_: In<Unguarded>, method: Method, uri: Uri) -> Refusal {
    Refusal::method_not_allowed(format!("`{}` does not take {method}", uri.path()))
}

/// The proof `T`, whose refusal has the profile's shape.
struct In<T>(PhantomData<T>);

impl<T> FromRequestParts<Arc<App>> for In<T>
where
    T: FromRequestParts<Arc<App>, Rejection = ApiError> + Send,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<In<T>, Refusal> {
        match T::from_request_parts(parts, app).await {
            Ok(_) => Ok(In(PhantomData)),
            Err(ApiError(failure)) => Err(failure.into()),
        }
    }
}

/// What a path names: a function, of the home project if it names none. No function has a name that is none.
struct Named(FunctionId);

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Named, Refusal> {
        let named = Path::<Vec<String>>::from_request_parts(parts, app).await;
        let Path(named) = named.map_err(|error| {
            Failure::new(
                ErrorType::BadRequest,
                format!("the path cannot be read: {error}"),
            )
        })?;
        let id = match named.as_slice() {
            [project, function] => api::function(project, function),
            [function] => api::function(app.home_project.as_str(), function),
            _ => Err(Failure::new(ErrorType::FunctionNotFound, "")),
        };
        id.map(Named)
            .map_err(|failure| Failure::new(ErrorType::FunctionNotFound, failure.message).into())
    }
}
