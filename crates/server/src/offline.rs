//! A first token, made on the data folder while no server holds it.

use std::{path::Path, sync::Arc};

use model::{Clock, Failure, Limits, Timestamp};
use store::{DataFolder, OpenError, Store, StoreError};

use crate::{SystemClock, auth};

/// A token just made. The secret is nowhere else.
#[derive(Debug, Clone)]
pub struct MadeToken {
    /// Names it in lists.
    pub id: String,
    /// The secret, `bgt_…`.
    pub token: String,
    /// What it allows.
    pub role: String,
    /// When it ends; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The data folder cannot be used; a server that holds it makes tokens over its socket.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such role, or one that arrives later.
    #[error("{}", .0.message)]
    Refused(Failure),
}

/// Makes a token on a data folder that no server holds. `role` is admin, deploy or invoke; `expires_ms` counts from now.
///
/// # Errors
/// See [`TokenError`].
pub async fn create_token(
    data_dir: &Path,
    role: &str,
    expires_ms: Option<u64>,
) -> Result<MadeToken, TokenError> {
    let role = auth::parse_role(role).map_err(TokenError::Refused)?;
    let folder = DataFolder::open(data_dir)?;
    let clock = SystemClock;
    let (store, _) = Store::open(&folder, &Limits::default(), Arc::new(clock)).await?;
    let expires_at = expires_ms.map(|span| auth::after(clock.now(), span));
    let (new, token) = auth::mint(role, expires_at).map_err(TokenError::Refused)?;
    let kept = store.add_token(new).await?;
    store.close().await?;
    Ok(MadeToken {
        id: kept.id.0,
        token,
        role: role.to_string(),
        expires_at,
    })
}
