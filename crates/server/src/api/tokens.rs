//! Tokens and access keys: made, listed, deleted. The secret is shown once.

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
use store::{NewToken, Role, TokenId};
use zeroize::Zeroizing;

use super::{Answer, MayAdmin, Server, json};
use crate::{app::App, auth, deploys::store_failure, journal::Invocation, keys, rights::Right};

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
    /// An access key for AWS's clients instead of a token.
    #[serde(default)]
    aws: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = NewToken))]
struct Created {
    id: String,
    /// The secret of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// What requests name that an access key signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
    /// What it signs them with.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_access_key: Option<String>,
    role: &'static str,
    #[cfg_attr(test, schema(value_type = Option<String>))]
    user: Option<Arc<str>>,
    expires_at: Option<Timestamp>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Token))]
struct Listed {
    id: String,
    /// `token`, or `aws` for an access key.
    kind: &'static str,
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

/// Make a token, or an access key for AWS's clients.
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
    let (new, secret, key_secret) = if wanted.aws {
        let (new, secret) = access_key(&app, role, user, expires_at)?;
        (new, None, Some(secret.to_string()))
    } else {
        let (new, token) = auth::mint(role, user, expires_at)?;
        (new, Some(token), None)
    };
    let token = app
        .store
        .add_token(new)
        .await
        .map_err(|error| store_failure(&error))?;
    app.reload_tokens().await?;
    let created = Created {
        token: secret,
        access_key_id: key_secret.as_ref().map(|_| token.id.0.clone()),
        secret_access_key: key_secret,
        id: token.id.0,
        role: role.as_str(),
        user: token.user,
        expires_at,
    };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

/// A key for a role that does something by signed requests.
fn access_key(
    app: &App,
    role: Role,
    user: Option<Arc<str>>,
    expires_at: Option<Timestamp>,
) -> Result<(NewToken, Zeroizing<String>), Failure> {
    if !Right::Invoke.is_of(role) {
        let message = format!(
            "an access key of the role `{role}` would open nothing: it speaks on the live channel only"
        );
        return Err(Failure::new(ErrorType::BadRequest, message)
            .hint("use `admin`, `deploy`, `live` or `invoke`"));
    }
    keys::mint(&app.access.seal, role, user, expires_at)
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
        kind: if token.sealed.is_some() {
            "aws"
        } else {
            "token"
        },
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
