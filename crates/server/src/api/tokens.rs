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
struct Created {
    id: String,
    token: String,
    role: &'static str,
    user: Option<Arc<str>>,
    expires_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct Listed {
    id: String,
    role: &'static str,
    user: Option<Arc<str>>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

#[derive(Serialize)]
pub(crate) struct List {
    tokens: Vec<Listed>,
}

/// Makes a token.
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

/// Oldest first.
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
