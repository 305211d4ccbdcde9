//! Who may do what: tokens and their roles, the open server, and peers of the Unix socket.
//! Checks happen in memory; the store is asked only when a token is made or deleted.

use std::{collections::HashMap, net::IpAddr};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Uri, header::AUTHORIZATION};
use model::{Auth, Digest, ErrorType, Failure, Timestamp};
use rand::{TryRngCore, rngs::OsRng};
use store::{NewToken, Role, Token, TokenId};

use crate::guard;

/// Every token begins so, that people and scanners recognise one.
const PREFIX: &str = "bgt_";

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// TCP, from this address.
    Tcp(IpAddr),
    /// The Unix socket, from a process of our own user or of root.
    Owner,
    /// The Unix socket, from another user.
    Stranger,
}

impl Peer {
    /// The address, if it has one.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address),
            Peer::Owner | Peer::Stranger => None,
        }
    }
}

/// The tokens as the hot path sees them.
pub(crate) struct Access {
    /// By the digest of their secret: looking one up tells no time that depends on the secret.
    tokens: ArcSwap<HashMap<Digest, Token>>,
    /// No listener is wider than loopback, and nobody asked for tokens.
    may_be_open: bool,
}

impl Access {
    pub(crate) fn new(tokens: Vec<Token>, may_be_open: bool) -> Access {
        let access = Access {
            tokens: ArcSwap::default(),
            may_be_open,
        };
        access.replace(tokens);
        access
    }

    /// What the store holds from now on.
    pub(crate) fn replace(&self, tokens: Vec<Token>) {
        let by_secret = tokens
            .into_iter()
            .map(|token| (token.secret, token))
            .collect();
        self.tokens.store(std::sync::Arc::new(by_secret));
    }

    /// Whether local programs need no token. An expired token counts as one: time alone opens nothing.
    pub(crate) fn is_open(&self) -> bool {
        self.may_be_open && self.tokens.load().is_empty()
    }

    /// Whether this caller may invoke a function with this `auth`.
    pub(crate) fn check_function(
        &self,
        auth: Auth,
        peer: Peer,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if auth == Auth::None || self.is_open() || peer == Peer::Owner {
            return Ok(());
        }
        // Every role may invoke.
        self.role(headers, now).map(drop)
    }

    /// Whether this caller may do something outside function routes that needs `role`.
    pub(crate) fn check_api(
        &self,
        role: Role,
        peer: Peer,
        headers: &HeaderMap,
        uri: &Uri,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if peer == Peer::Owner {
            return Ok(());
        }
        if self.is_open() && peer != Peer::Stranger {
            return guard::check(headers, uri);
        }
        let held = self.role(headers, now)?;
        if rank(held) < rank(role) {
            let message = format!("the token's role is `{held}`; this needs `{role}`");
            return Err(Failure::new(ErrorType::Forbidden, message));
        }
        Ok(())
    }

    /// The role of the token that the request carries.
    fn role(&self, headers: &HeaderMap, now: Timestamp) -> Result<Role, Failure> {
        let Some(secret) = bearer(headers) else {
            let failure = Failure::new(
                ErrorType::Unauthorized,
                "this needs a token, and the request has none",
            );
            return Err(failure.hint("send `Authorization: Bearer bgt_…`, or set BUNGEE_TOKEN"));
        };
        let tokens = self.tokens.load();
        let Some(token) = tokens.get(&Digest::of(secret)) else {
            let failure = Failure::new(
                ErrorType::Unauthorized,
                "the token is not one of this server's",
            );
            return Err(failure.hint("`bungee token create` makes one"));
        };
        if token.expires_at.is_some_and(|end| end <= now) {
            let message = format!("the token {} has expired", token.id);
            return Err(Failure::new(ErrorType::Unauthorized, message)
                .hint("`bungee token create` makes a new one"));
        }
        Ok(token.role)
    }
}

/// The secret in the `Authorization` header, if there is one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| secret.trim_ascii())
}

/// Takes our own token out of the headers, so that no handler ever sees one.
pub(crate) fn strip_token(headers: &mut HeaderMap) {
    if bearer(headers).is_some_and(|secret| secret.starts_with(PREFIX.as_bytes())) {
        headers.remove(AUTHORIZATION);
    }
}

/// How much a role may do: each may do what those below it may.
fn rank(role: Role) -> u8 {
    match role {
        Role::Invoke => 0,
        Role::Deploy => 1,
        Role::Admin => 2,
    }
}

/// Reads the role that somebody asks for.
pub(crate) fn parse_role(text: &str) -> Result<Role, Failure> {
    match text {
        "live" | "bridge" => {
            let message = format!("the role `{text}` arrives later, with live development");
            Err(Failure::new(ErrorType::ArrivesLater, message).hint("use admin, deploy or invoke"))
        }
        _ => text.parse().map_err(|error: store::RoleError| {
            Failure::new(ErrorType::BadRequest, error.to_string())
        }),
    }
}

/// The time `span` milliseconds after `now`.
pub(crate) fn after(now: Timestamp, span: u64) -> Timestamp {
    Timestamp(
        now.0
            .saturating_add(i64::try_from(span).unwrap_or(i64::MAX)),
    )
}

/// A new token: what is kept, and the secret that is shown once.
pub(crate) fn mint(
    role: Role,
    expires_at: Option<Timestamp>,
) -> Result<(NewToken, String), Failure> {
    let mut secret = [0; 32];
    let mut id = [0; 6];
    for bytes in [&mut secret[..], &mut id[..]] {
        OsRng.try_fill_bytes(bytes).map_err(|error| {
            Failure::new(
                ErrorType::Internal,
                format!("the system gives no random bytes: {error}"),
            )
        })?;
    }
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let kept = NewToken {
        id: TokenId(format!("tok_{}", hex::encode(id))),
        secret: Digest::of(secret.as_bytes()),
        role,
        expires_at,
    };
    Ok((kept, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);
    const WEB: Peer = Peer::Tcp(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn with(role: Role, expires_at: Option<Timestamp>) -> (Access, HeaderMap) {
        let (new, secret) = mint(role, expires_at).unwrap();
        let token = Token {
            id: new.id,
            secret: new.secret,
            role: new.role,
            created_at: NOW,
            expires_at,
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {secret}").parse().unwrap());
        (Access::new(vec![token], true), headers)
    }

    fn api(access: &Access, role: Role, peer: Peer, headers: &HeaderMap) -> Option<ErrorType> {
        let uri = Uri::from_static("/v1/server");
        access
            .check_api(role, peer, headers, &uri, NOW)
            .err()
            .map(|failure| failure.error_type)
    }

    #[test]
    fn a_role_may_what_those_below_it_may() {
        for held in Role::ALL {
            let (access, headers) = with(held, None);
            for asked in Role::ALL {
                let refused = (rank(held) < rank(asked)).then_some(ErrorType::Forbidden);
                assert_eq!(
                    api(&access, asked, WEB, &headers),
                    refused,
                    "{held} for {asked}"
                );
            }
        }
    }

    #[test]
    fn one_token_closes_the_open_server_even_when_it_has_expired() {
        let none = HeaderMap::new();
        assert_eq!(
            api(&Access::new(vec![], true), Role::Admin, WEB, &none),
            None
        );
        let (access, headers) = with(Role::Admin, Some(NOW));
        assert_eq!(
            api(&access, Role::Admin, WEB, &none),
            Some(ErrorType::Unauthorized)
        );
        assert_eq!(
            api(&access, Role::Admin, WEB, &headers),
            Some(ErrorType::Unauthorized)
        );
        assert_eq!(api(&access, Role::Admin, Peer::Owner, &none), None);
        assert_eq!(
            api(&access, Role::Admin, Peer::Stranger, &none),
            Some(ErrorType::Unauthorized)
        );
    }

    #[test]
    fn a_stranger_on_the_socket_needs_a_token_even_where_it_is_open() {
        let access = Access::new(vec![], true);
        let refused = api(&access, Role::Invoke, Peer::Stranger, &HeaderMap::new());
        assert_eq!(refused, Some(ErrorType::Unauthorized));
    }

    #[test]
    fn functions_ask_by_their_auth() {
        let (access, headers) = with(Role::Invoke, None);
        let check =
            |auth, headers: &HeaderMap| access.check_function(auth, WEB, headers, NOW).is_ok();
        assert!(check(Auth::Token, &headers));
        assert!(!check(Auth::Token, &HeaderMap::new()));
        assert!(check(Auth::None, &HeaderMap::new()));
    }

    #[test]
    fn a_handler_never_sees_our_token_and_keeps_its_own() {
        let (_, mut headers) = with(Role::Invoke, None);
        strip_token(&mut headers);
        assert!(headers.is_empty());
        headers.insert(AUTHORIZATION, "Bearer theirs".parse().unwrap());
        strip_token(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn roles_of_later_are_refused_by_name() {
        assert_eq!(
            parse_role("live").unwrap_err().error_type,
            ErrorType::ArrivesLater
        );
        assert_eq!(
            parse_role("root").unwrap_err().error_type,
            ErrorType::BadRequest
        );
    }
}
