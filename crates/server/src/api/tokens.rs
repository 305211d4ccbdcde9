//! Tokens: made, listed, deleted. The secret is shown once and never kept.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use model::{ErrorType, Failure, Timestamp};
use serde::{Deserialize, Serialize};
use store::TokenId;

use super::{Answer, MayAdmin, Server, json};
use crate::{auth, deploys::store_failure, journal::Invocation};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = WantedToken))]
struct Wanted {
    role: String,
    /// Whom it stands for.
    #[serde(default)]
    user: Option<String>,
    /// Milliseconds from now.
    #[serde(default)]
    expires_ms: Option<u64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = NewToken))]
struct Created {
    id: String,
    token: String,
    role: &'static str,
    #[cfg_attr(test, schema(value_type = Option<String>))]
    user: Option<Arc<str>>,
    expires_at: Option<Timestamp>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Token))]
struct Listed {
    id: String,
    role: &'static str,
    #[cfg_attr(test, schema(value_type = Option<String>))]
    user: Option<Arc<str>>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Tokens))]
pub(crate) struct List {
    tokens: Vec<Listed>,
}

/// Make a token.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/tokens",
    operation_id = "createToken",
    tag = "tokens",
    security(("token" = ["admin"])),
    request_body(content = Wanted),
    responses((status = 201, description = "The token; its secret is shown this once", body = Created)),
))]
pub(crate) async fn create(State(app): Server, _: MayAdmin, body: Body) -> Answer<Response> {
    let wanted: Wanted = json(body).await?;
    let role = auth::parse_role(&wanted.role)?;
    let user = wanted.user.as_deref().map(auth::parse_user).transpose()?;
    let now = Invocation::now(&app.journal);
    let expires_at = wanted.expires_ms.map(|span| auth::after(now, span));
    let (new, secret) = auth::mint(role, user, expires_at)?;
    let token = app
        .store
        .add_token(new)
        .await
        .map_err(|error| store_failure(&error))?;
    app.reload_tokens().await?;
    let created = Created {
        id: token.id.0,
        token: secret,
        role: role.as_str(),
        user: token.user,
        expires_at,
    };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

/// Every token, oldest first, without secrets.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/tokens",
    operation_id = "listTokens",
    tag = "tokens",
    security(("token" = ["admin"])),
    responses((status = 200, description = "The tokens", body = List)),
))]
pub(crate) async fn list(State(app): Server, _: MayAdmin) -> Answer<Json<List>> {
    let tokens = app
        .store
        .tokens()
        .await
        .map_err(|error| store_failure(&error))?;
    let listed = |token: store::Token| Listed {
        id: token.id.0,
        role: token.role.as_str(),
        user: token.user,
        created_at: token.created_at,
        expires_at: token.expires_at,
    };
    Ok(Json(List {
        tokens: tokens.into_iter().map(listed).collect(),
    }))
}

/// From now on it opens nothing.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    operation_id = "deleteToken",
    tag = "tokens",
    security(("token" = ["admin"])),
    params(("id" = String, Path, description = "The token's name, not its secret")),
    responses((status = 204, description = "It is gone")),
))]
pub(crate) async fn delete(
    State(app): Server,
    _: MayAdmin,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let shown: String = id.chars().take(80).collect();
    let is_gone = app
        .store
        .delete_token(&TokenId(id))
        .await
        .map_err(|error| store_failure(&error))?;
    if !is_gone {
        return Err(
            Failure::new(ErrorType::NotFound, format!("there is no token `{shown}`")).into(),
        );
    }
    app.reload_tokens().await?;
    Ok(StatusCode::NO_CONTENT)
}
