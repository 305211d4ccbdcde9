//! What a relay is told at its start, and why it may refuse to start.

use std::net::SocketAddr;

use model::Digest;

use crate::StartError;

/// Fewest characters of a secret that other machines may try to guess.
const SECRET_MIN: usize = 16;

/// How every key begins that holds a token, and more.
const KEY_PREFIX: &str = "bk1.";

/// What a relay is told.
#[derive(Clone)]
pub struct RelayOptions {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// What everybody on the channel has to show.
    pub secret: Option<String>,
}

/// Why a relay did not start. Nothing of it stays behind. No secret is ever shown.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] StartError),
    /// The address is open to others, and nothing tells friends from strangers.
    #[error(
        "{addr} can be reached by other machines, and there is no secret to tell friends from strangers"
    )]
    NeedsSecret {
        /// The address.
        addr: SocketAddr,
    },
    /// It can be guessed.
    #[error("the secret has {0} characters; it needs at least {SECRET_MIN}")]
    Short(usize),
    /// No header can carry it.
    #[error("the secret holds a space or a character that no header can carry")]
    Unsendable,
    /// The sealing half in it is what a relay must not know.
    #[error("the secret is a whole BUNGEE_KEY, whose seal key no relay may know")]
    WholeKey,
}

impl RelayError {
    /// The next step.
    pub fn hint(&self) -> Option<String> {
        match self {
            RelayError::Listen(error) => error.hint(),
            RelayError::NeedsSecret { .. } | RelayError::Short(_) | RelayError::Unsendable => Some(
                "make one with `openssl rand -hex 32`, and set BUNGEE_SECRET here and BUNGEE_TOKEN at both ends"
                    .into(),
            ),
            RelayError::WholeKey => Some("give the relay the key's second part alone".into()),
        }
    }
}

/// The digest of a secret that can be sent, and hardly be guessed.
pub(super) fn read_secret(text: &str) -> Result<Digest, RelayError> {
    if text.starts_with(KEY_PREFIX) {
        return Err(RelayError::WholeKey);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RelayError::Unsendable);
    }
    if text.len() < SECRET_MIN {
        return Err(RelayError::Short(text.len()));
    }
    Ok(Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_can_be_sent() {
        let refused = |text: &str| read_secret(text).map_err(|error| error.to_string());
        assert!(refused("0123456789abcdef").is_ok());
        for (text, words) in [
            ("0123456789abcde", "has 15 characters"),
            ("", "has 0 characters"),
            ("0123456789 abcdef", "a space"),
            ("0123456789abcdéf", "no header can carry"),
            ("bk1.0123456789abcdef.x.0.", "a whole BUNGEE_KEY"),
        ] {
            let error = refused(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
