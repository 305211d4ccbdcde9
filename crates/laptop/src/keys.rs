//! The keys that ends elsewhere hold, made where the token comes to be known: the server never sees what seals.

use live::{ChannelKey, KeyError};

use crate::api::CreatedToken;

/// What `BUNGEE_KEY` is to be for a bridge that holds this token, with a seal key of its own.
///
/// # Errors
/// The token cannot be part of a key, or the system has no random bytes.
pub fn bridge_key(made: &CreatedToken) -> Result<ChannelKey, KeyError> {
    let ends = made
        .expires_at
        .and_then(|at| u64::try_from(at.0 / 1000).ok());
    ChannelKey::make(&made.token, ends)
}
