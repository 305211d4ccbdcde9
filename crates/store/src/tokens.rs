//! Tokens and access keys: who may do what. Only the digest of a token's secret is ever here; that of an access key,
//! by which signatures are checked, is here sealed, and this room has no key to it.

use std::{fmt, str::FromStr, sync::Arc};

use model::{Digest, Timestamp};
use sqlx::{Row, SqliteConnection, query, query_scalar};

use crate::{Store, StoreError, fault::Trip, functions::parsed};

/// The public name of a token, by which it is listed and deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub String);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, tokens included.
    Admin,
    /// Deploy, roll back, look, invoke.
    Deploy,
    /// Attach a laptop, look, invoke.
    Live,
    /// Invoke.
    Invoke,
    /// Offer invocations from elsewhere to attached laptops, and nothing else.
    Bridge,
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role; use admin, deploy, live, invoke or bridge")]
pub struct RoleError(pub String);

impl Role {
    /// Every role, mightiest first.
    pub const ALL: [Role; 5] = [
        Role::Admin,
        Role::Deploy,
        Role::Live,
        Role::Invoke,
        Role::Bridge,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Deploy => "deploy",
            Role::Live => "live",
            Role::Invoke => "invoke",
            Role::Bridge => "bridge",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Role, RoleError> {
        let role = Role::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| RoleError(text.chars().take(80).collect()))
    }
}

/// What a new token is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its public name, new in this store.
    pub id: TokenId,
    /// The digest of its secret.
    pub secret: Digest,
    /// What it allows.
    pub role: Role,
    /// Whom it stands for, if for anybody.
    pub user: Option<Arc<str>>,
    /// From then on it opens nothing; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// The sealed secret, if this is an access key: its id is then what requests name, and its secret signs them.
    pub sealed: Option<Arc<[u8]>>,
}

/// A token that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public name.
    pub id: TokenId,
    /// The digest of its secret.
    pub secret: Digest,
    /// What it allows.
    pub role: Role,
    /// Whom it stands for, if for anybody.
    pub user: Option<Arc<str>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it opens nothing; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// The sealed secret, if this is an access key: its id is then what requests name, and its secret signs them.
    pub sealed: Option<Arc<[u8]>>,
}

impl Store {
    /// Keeps a token.
    pub async fn add_token(&self, new: NewToken) -> Result<Token, StoreError> {
        let token = Token {
            id: new.id,
            secret: new.secret,
            role: new.role,
            user: new.user,
            created_at: self.now(),
            expires_at: new.expires_at,
            sealed: new.sealed,
        };
        let kept = token.clone();
        self.meta()
            .write("add a token to", move |conn| Box::pin(add(conn, kept)))
            .await?;
        Ok(token)
    }

    /// Every token, oldest first, expired ones included: for lists, and for whoever checks secrets.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.meta()
            .read("list the tokens of", |conn| Box::pin(all(conn)))
            .await
    }

    /// Whether any token was handed out and not deleted.
    /// An expired one counts, so that a server does not become open by the passing of time.
    pub async fn has_any_token(&self) -> Result<bool, StoreError> {
        self.meta()
            .read("look for a token in", |conn| Box::pin(any(conn)))
            .await
    }

    /// Deletes a token; `false` if there is none of that name.
    pub async fn delete_token(&self, id: &TokenId) -> Result<bool, StoreError> {
        let (attempt, id) = (format!("delete the token {id} from"), id.clone());
        self.meta()
            .write(attempt, move |conn| Box::pin(delete(conn, id)))
            .await
    }
}

async fn add(conn: &mut SqliteConnection, token: Token) -> Result<(), Trip> {
    query(
        "INSERT INTO tokens (id, secret, role, created_at, expires_at, sub, sealed) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(token.id.0)
    .bind(token.secret.hex())
    .bind(token.role.as_str())
    .bind(token.created_at.0)
    .bind(token.expires_at.map(|at| at.0))
    .bind(token.user.as_deref())
    .bind(token.sealed.as_deref())
    .execute(conn)
    .await?;
    Ok(())
}

async fn all(conn: &mut SqliteConnection) -> Result<Vec<Token>, Trip> {
    let rows = query(
        "SELECT id, secret, role, created_at, expires_at, sub, sealed FROM tokens \
         ORDER BY created_at, id",
    )
    .fetch_all(conn)
    .await?;
    let mut tokens = Vec::with_capacity(rows.len());
    for row in &rows {
        tokens.push(Token {
            id: TokenId(row.try_get(0)?),
            secret: parsed(row.try_get(1)?, "a digest")?,
            role: parsed(row.try_get(2)?, "a role")?,
            created_at: Timestamp(row.try_get(3)?),
            expires_at: row.try_get::<Option<i64>, _>(4)?.map(Timestamp),
            user: row.try_get::<Option<String>, _>(5)?.map(Arc::from),
            sealed: row.try_get::<Option<Vec<u8>>, _>(6)?.map(Arc::from),
        });
    }
    Ok(tokens)
}

async fn any(conn: &mut SqliteConnection) -> Result<bool, Trip> {
    Ok(query_scalar("SELECT EXISTS (SELECT 1 FROM tokens)")
        .fetch_one(conn)
        .await?)
}

async fn delete(conn: &mut SqliteConnection, id: TokenId) -> Result<bool, Trip> {
    let deleted = query("DELETE FROM tokens WHERE id = ?")
        .bind(id.0)
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected() > 0)
}
