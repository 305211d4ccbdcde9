//! The `/v1` API and health: paths, who may use them, and how bodies are read. What they do stands in the files below.

mod aliases;
mod bundles;
mod description;
mod env;
mod functions;
mod invocations;
mod invoke;
mod replay;
mod server;
mod tokens;
mod versions;

pub(crate) use self::invoke::event;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use bytes::Bytes;
use http::{Uri, request::Parts};
use http_body_util::BodyExt;
use model::{ErrorType, Failure, FunctionId, Name, NameError, RESERVED_NAMES};
use serde::de::DeserializeOwned;
use workers::BodyError;

use crate::{
    app::App, auth::Peer, bodies::BodyLimit, bunbase, errors, health, journal::Invocation, lambda,
    rights::Right, service,
};

/// Every path that is no function's.
pub(crate) fn router(app: Arc<App>) -> Router {
    let function = "/v1/projects/{project}/functions/{function}";
    let below = |rest: &str| format!("{function}{rest}");
    Router::new()
        .route("/health", get(health::report))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/openapi.json", get(server::describe))
        .route("/metrics", get(server::metrics))
        .route("/v1/server", get(server::show))
        .route("/v1/functions/register", post(bunbase::register))
        .route("/v1/functions/deploy", post(bunbase::deploy))
        .route("/functions/{function}/logs", get(bunbase::logs))
        .route("/v1/projects/{project}/functions", get(functions::list))
        .route(
            function,
            get(functions::show)
                .patch(functions::change)
                .delete(functions::delete),
        )
        .route(&below("/env"), get(env::show).patch(env::change))
        .route(&below("/aliases"), get(aliases::list))
        .route(
            &below("/versions"),
            get(versions::list).post(versions::create),
        )
        .route(
            &below("/aliases/{alias}"),
            put(aliases::point).delete(aliases::delete),
        )
        .route(&below("/rollback"), post(versions::roll_back))
        .route(&below("/invoke"), post(invoke::invoke))
        .route(&below("/invocations/{id}"), get(replay::show))
        .route(&below("/invocations/{id}/recording"), get(replay::export))
        .route(&below("/replay"), post(replay::replay))
        .route("/v1/invocations/{id}", get(replay::find))
        .route(&below("/logs"), get(invocations::logs))
        .route(&below("/invocations"), get(invocations::list))
        .route(
            "/v1/bundles/{digest}",
            put(bundles::take).head(bundles::look),
        )
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::delete))
        .merge(service::router())
        .merge(lambda::router())
        .fallback(nowhere)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

/// A failure as an answer of the API.
pub(crate) struct ApiError(pub Failure);

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        ApiError(failure)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        errors::response(&self.0, None).map(Body::from)
    }
}

/// First path parts that the product names and that are not built yet.
const LATER: [&str; 3] = ["dispatch", "dashboard", "channel"];

async fn nowhere(_: Unguarded, method: http::Method, uri: Uri) -> Response {
    let path = uri.path();
    let mut parts = path.trim_start_matches('/').split('/');
    let first = parts.next().unwrap_or("");
    let second = parts.next().unwrap_or("");
    if matches!(first, "api" | "_functions") {
        return service::nowhere(&uri);
    }
    let shown: String = path.chars().take(120).collect();
    if lambda::is_date(first) {
        return lambda::unknown(method, uri).await;
    }
    if LATER.contains(&first) || (first == "v1" && second == "live") {
        let message = format!("`{shown}` arrives later");
        return ApiError(Failure::new(ErrorType::ArrivesLater, message)).into_response();
    }
    let failure = Failure::new(
        ErrorType::NotFound,
        format!("nothing is at `{shown}`, and no route matches it"),
    );
    let hint = "functions are at /functions/NAME; `bungee list` shows them with their routes";
    ApiError(failure.hint(hint)).into_response()
}

async fn method_not_allowed(_: Unguarded, method: http::Method, uri: Uri) -> Response {
    let message = format!("`{}` does not take {method}", uri.path());
    errors::method_not_allowed(&Failure::new(ErrorType::BadRequest, message)).map(Body::from)
}

/// Proof that the caller passed the guard of an open server; asks for no token.
pub(crate) struct Unguarded;

/// Proof that the caller may invoke.
pub(crate) struct MayInvoke;

/// Proof that the caller may read how functions are set, and what they did.
pub(crate) struct MayLook;

/// Proof that the caller may change what is deployed.
pub(crate) struct MayDeploy;

/// Proof that the caller may do everything.
pub(crate) struct MayAdmin;

fn check(parts: &Parts, app: &App, right: Right) -> Result<(), ApiError> {
    let now = Invocation::now(&app.journal);
    Ok(app
        .access
        .check_api(right, peer(parts), &parts.headers, &parts.uri, now)?)
}

/// Where the request comes from; nowhere known counts as the least trusted.
pub(crate) fn peer(parts: &Parts) -> Peer {
    parts
        .extensions
        .get::<Peer>()
        .copied()
        .unwrap_or(Peer::Stranger)
}

impl FromRequestParts<Arc<App>> for Unguarded {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Unguarded, ApiError> {
        if app.access.is_open() && matches!(peer(parts), Peer::Tcp(_)) {
            crate::guard::check(&parts.headers, &parts.uri)?;
        }
        Ok(Unguarded)
    }
}

impl FromRequestParts<Arc<App>> for MayInvoke {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<MayInvoke, ApiError> {
        check(parts, app, Right::Invoke).map(|()| MayInvoke)
    }
}

impl FromRequestParts<Arc<App>> for MayLook {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<MayLook, ApiError> {
        check(parts, app, Right::Look).map(|()| MayLook)
    }
}

impl FromRequestParts<Arc<App>> for MayDeploy {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<MayDeploy, ApiError> {
        check(parts, app, Right::Deploy).map(|()| MayDeploy)
    }
}

impl FromRequestParts<Arc<App>> for MayAdmin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<MayAdmin, ApiError> {
        check(parts, app, Right::Admin).map(|()| MayAdmin)
    }
}

/// A name in a path.
pub(crate) fn name(text: &str) -> Result<Name, Failure> {
    text.parse()
        .map_err(|error: NameError| Failure::new(ErrorType::BadRequest, error.to_string()))
}

/// The function that a path names.
pub(crate) fn function(project: &str, function: &str) -> Result<FunctionId, Failure> {
    Ok(FunctionId {
        project: name(project)?,
        name: name(function)?,
    })
}

/// The function that a path names, where it may come into being.
pub(crate) fn new_function(project: &str, function: &str) -> Result<FunctionId, Failure> {
    let reserved = |text: &str| {
        let message = NameError::Reserved(text.to_owned()).to_string();
        Failure::new(ErrorType::NameTaken, message)
    };
    let id = self::function(project, function)?;
    if RESERVED_NAMES.contains(&function) {
        return Err(reserved(function));
    }
    if RESERVED_NAMES.contains(&project) && project != Name::default_project().as_str() {
        return Err(reserved(project));
    }
    Ok(id)
}

/// All of a body, within its limit.
pub(crate) async fn whole(body: Body, limit: BodyLimit) -> Result<Bytes, Failure> {
    let mut body = body;
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(body_failure)?.into_data() else {
            continue;
        };
        limit.check(bytes.len() + data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Why a body broke off: our own limits and the caller's leaving travel inside axum's error.
pub(crate) fn body_failure(error: axum::Error) -> Failure {
    match error.into_inner().downcast::<BodyError>() {
        Ok(error) => error.0,
        Err(error) => Failure::new(
            ErrorType::BadRequest,
            format!("the request body broke off: {error}"),
        ),
    }
}

/// Reads a JSON body.
pub(crate) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let bytes = whole(body, BodyLimit::api()).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(
            ErrorType::BadRequest,
            format!("the request body is not as expected: {error}"),
        )
    })
}

/// Makes a change to its end, whether or not the caller stays to hear of it.
pub(crate) async fn to_its_end<T: Send + 'static>(
    app: &Arc<App>,
    change: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let task = app.deploys.tasks.spawn(change);
    task.await.unwrap_or_else(|error| {
        let message = format!("the change broke off: {error}");
        Err(Failure::new(ErrorType::Internal, message))
    })
}

/// What every handler of the API is given.
pub(crate) type Server = State<Arc<App>>;

/// The answer of the API, one way or the other.
pub(crate) type Answer<T> = Result<T, ApiError>;

/// For streams that cannot fail.
pub(crate) type Piece = Result<Bytes, Infallible>;
