//! Who may do what: tokens and their roles, the open server, and peers of the Unix socket.
//! Checks happen in memory; the store is asked only when a token is made or deleted.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Uri, header::AUTHORIZATION};
use model::{Auth, Digest, ErrorType, Failure, Timestamp};
use rand::{TryRngCore, rngs::OsRng};
use store::{NewToken, Role, Token, TokenId};
use zeroize::Zeroizing;

use crate::{bundles::chain, guard, keys::Seal, rights::Right};

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
    known: ArcSwap<Known>,
    /// What the secrets of access keys are sealed with.
    pub seal: Seal,
    /// No listener is wider than loopback, and nobody asked for tokens.
    may_be_open: bool,
}

/// All that opens something.
#[derive(Default)]
struct Known {
    /// By the digest of their secret: looking one up tells no time that depends on the secret.
    tokens: HashMap<Digest, Token>,
    /// By their id, which is no secret.
    keys: HashMap<String, AccessKey>,
}

/// An access key, by which requests are signed.
#[derive(Clone)]
pub(crate) struct AccessKey {
    pub role: Role,
    pub secret: Zeroizing<String>,
    expires_at: Option<Timestamp>,
}

impl Access {
    pub(crate) fn new(tokens: Vec<Token>, seal: Seal, may_be_open: bool) -> Access {
        let access = Access {
            known: ArcSwap::default(),
            seal,
            may_be_open,
        };
        access.replace(tokens);
        access
    }

    /// What the store holds from now on.
    pub(crate) fn replace(&self, tokens: Vec<Token>) {
        let mut known = Known::default();
        for token in tokens {
            let Some(sealed) = &token.sealed else {
                known.tokens.insert(token.secret, token);
                continue;
            };
            let id = token.id.0.clone();
            let secret = self.seal.open(&id, sealed).unwrap_or_else(|error| {
                let error = chain(&error);
                tracing::error!(error, "nobody can sign with the access key {id}");
                Zeroizing::default()
            });
            let key = AccessKey {
                role: token.role,
                secret,
                expires_at: token.expires_at,
            };
            known.keys.insert(id, key);
        }
        self.known.store(Arc::new(known));
    }

    /// The access key of this id, if requests may be signed with it.
    pub(crate) fn key(&self, id: &str, now: Timestamp) -> Option<AccessKey> {
        let known = self.known.load();
        let key = known.keys.get(id).filter(|key| !key.secret.is_empty())?;
        key.expires_at
            .is_none_or(|end| end > now)
            .then(|| key.clone())
    }

    /// Whether local programs need no token. An expired token counts as one: time alone opens nothing. So does an access
    /// key, whoever holds it.
    pub(crate) fn is_open(&self) -> bool {
        let known = self.known.load();
        self.may_be_open && known.tokens.is_empty() && known.keys.is_empty()
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
        Right::Invoke.check(self.token(headers, now)?.role)
    }

    /// Whether this caller may do something outside function routes that needs `right`.
    pub(crate) fn check_api(
        &self,
        right: Right,
        peer: Peer,
        headers: &HeaderMap,
        uri: &Uri,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match self.credential(peer, headers, uri, now)? {
            Credential::Local => Ok(()),
            Credential::Token(token) => right.check(token.role),
        }
    }

    /// The role of a caller outside function routes who shows a token; `None`: he is this machine's own, and may do all.
    pub(crate) fn standing(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        uri: &Uri,
        now: Timestamp,
    ) -> Result<Option<Role>, Failure> {
        match self.credential(peer, headers, uri, now)? {
            Credential::Local => Ok(None),
            Credential::Token(token) => Ok(Some(token.role)),
        }
    }

    /// What this caller may do on the live channel.
    pub(crate) fn live(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        uri: &Uri,
        now: Timestamp,
    ) -> Result<Grant, Failure> {
        let token = match self.credential(peer, headers, uri, now)? {
            Credential::Token(token) => token,
            Credential::Local => {
                return Ok(Grant {
                    may_claim: true,
                    may_host: true,
                    user: None,
                });
            }
        };
        let grant = Grant {
            may_claim: Right::Claim.is_of(token.role),
            may_host: Right::Host.is_of(token.role),
            user: token.user,
        };
        if !grant.may_claim && !grant.may_host {
            let message = format!(
                "the token's role is `{}`; attaching a laptop needs `live`, a bridge needs `bridge`",
                token.role
            );
            return Err(Failure::new(ErrorType::Forbidden, message)
                .hint("`bungee token create --role live` makes one"));
        }
        Ok(grant)
    }

    /// Whom the request's token stands for, if it is a good one and stands for somebody.
    pub(crate) fn user(&self, headers: &HeaderMap, now: Timestamp) -> Option<Arc<str>> {
        // Most requests carry none, and pay nothing for that.
        bearer(headers)?;
        self.token(headers, now).ok()?.user
    }

    /// The role of the request's token, if it is a good one.
    pub(crate) fn role(&self, headers: &HeaderMap, now: Timestamp) -> Option<Role> {
        Some(self.token(headers, now).ok()?.role)
    }

    /// By what a caller outside function routes comes in.
    fn credential(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        uri: &Uri,
        now: Timestamp,
    ) -> Result<Credential, Failure> {
        if peer == Peer::Owner {
            return Ok(Credential::Local);
        }
        if self.is_open() && peer != Peer::Stranger {
            guard::check(headers, uri)?;
            return Ok(Credential::Local);
        }
        self.token(headers, now).map(Credential::Token)
    }

    /// What the token that the request carries says.
    fn token(&self, headers: &HeaderMap, now: Timestamp) -> Result<Held, Failure> {
        let Some(secret) = bearer(headers) else {
            let failure = Failure::new(
                ErrorType::Unauthorized,
                "this needs a token, and the request has none",
            );
            return Err(failure.hint("send `Authorization: Bearer bgt_…`, or set BUNGEE_TOKEN"));
        };
        let known = self.known.load();
        let Some(token) = known.tokens.get(&Digest::of(secret)) else {
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
        Ok(Held {
            role: token.role,
            user: token.user.clone(),
        })
    }
}

/// By what a caller comes in.
enum Credential {
    /// He is this machine's own: over the socket, or on an open server.
    Local,
    /// A token of ours.
    Token(Held),
}

/// What a good token says.
struct Held {
    role: Role,
    user: Option<Arc<str>>,
}

/// What a caller may do on the live channel: at least one of the two.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Claim functions, as a laptop.
    pub may_claim: bool,
    /// Offer invocations, as a bridge.
    pub may_host: bool,
    /// Whom his token stands for.
    pub user: Option<Arc<str>>,
}

/// The secret in the `Authorization` header, if there is one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
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

/// Reads the role that somebody asks for.
pub(crate) fn parse_role(text: &str) -> Result<Role, Failure> {
    text.parse()
        .map_err(|error: store::RoleError| Failure::new(ErrorType::BadRequest, error.to_string()))
}

/// Most characters of a user's name: more than any address that people are known by.
const USER_MAX: usize = 128;

/// Reads whom a token shall stand for: one word, as a rule has to name it.
pub(crate) fn parse_user(text: &str) -> Result<Arc<str>, Failure> {
    let is_word = |c: char| !c.is_whitespace() && !c.is_control();
    if text.is_empty() || text.chars().count() > USER_MAX || !text.chars().all(is_word) {
        let message =
            format!("a user is 1 to {USER_MAX} characters without spaces or control characters");
        return Err(Failure::new(ErrorType::BadRequest, message));
    }
    Ok(text.into())
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
    user: Option<Arc<str>>,
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
        user,
        expires_at,
        sealed: None,
    };
    Ok((kept, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);
    const WEB: Peer = Peer::Tcp(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn access(tokens: Vec<Token>) -> Access {
        let seal = Seal::of(std::path::Path::new("/nowhere"));
        Access::new(tokens, seal, true)
    }

    fn with(role: Role, expires_at: Option<Timestamp>) -> (Access, HeaderMap) {
        let (new, secret) = mint(role, Some("ann".into()), expires_at).unwrap();
        let token = Token {
            id: new.id,
            secret: new.secret,
            role: new.role,
            user: new.user,
            created_at: NOW,
            expires_at,
            sealed: None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {secret}").parse().unwrap());
        (access(vec![token]), headers)
    }

    fn api(access: &Access, right: Right, peer: Peer, headers: &HeaderMap) -> Option<ErrorType> {
        let uri = Uri::from_static("/v1/server");
        access
            .check_api(right, peer, headers, &uri, NOW)
            .err()
            .map(|failure| failure.error_type)
    }

    #[test]
    fn a_token_opens_what_its_role_may() {
        let (access, headers) = with(Role::Live, None);
        assert_eq!(api(&access, Right::Look, WEB, &headers), None);
        assert_eq!(
            api(&access, Right::Deploy, WEB, &headers),
            Some(ErrorType::Forbidden)
        );
    }

    #[test]
    fn the_live_channel_tells_laptops_from_bridges() {
        let uri = Uri::from_static("/v1/live");
        let grant = |access: &Access, peer, headers: &HeaderMap| {
            let grant = access.live(peer, headers, &uri, NOW);
            grant.map(|grant| (grant.may_claim, grant.may_host, grant.user))
        };
        let ann = || Some("ann".into());
        for (role, granted) in [
            (Role::Admin, Some((true, true, ann()))),
            (Role::Live, Some((true, false, ann()))),
            (Role::Bridge, Some((false, true, ann()))),
            (Role::Deploy, None),
            (Role::Invoke, None),
        ] {
            let (access, headers) = with(role, None);
            assert_eq!(grant(&access, WEB, &headers).ok(), granted, "{role}");
            let none = HeaderMap::new();
            let refused = grant(&access, WEB, &none).unwrap_err().error_type;
            assert_eq!(refused, ErrorType::Unauthorized);
            assert_eq!(grant(&access, Peer::Owner, &none), Ok((true, true, None)));
        }
        let open = access(vec![]);
        let mut headers = HeaderMap::new();
        assert_eq!(grant(&open, WEB, &headers), Ok((true, true, None)));
        headers.insert("origin", "https://evil.example".parse().unwrap());
        let refused = grant(&open, WEB, &headers).unwrap_err().error_type;
        assert_eq!(refused, ErrorType::Forbidden);
    }

    #[test]
    fn a_token_stands_for_its_user_until_it_expires() {
        let (access, headers) = with(Role::Invoke, None);
        assert_eq!(access.user(&headers, NOW).as_deref(), Some("ann"));
        assert_eq!(access.user(&HeaderMap::new(), NOW), None);
        let (access, headers) = with(Role::Invoke, Some(NOW));
        assert_eq!(access.user(&headers, NOW), None);
    }

    #[test]
    fn one_token_closes_the_open_server_even_when_it_has_expired() {
        let none = HeaderMap::new();
        assert_eq!(api(&access(vec![]), Right::Admin, WEB, &none), None);
        let (access, headers) = with(Role::Admin, Some(NOW));
        assert_eq!(
            api(&access, Right::Admin, WEB, &none),
            Some(ErrorType::Unauthorized)
        );
        assert_eq!(
            api(&access, Right::Admin, WEB, &headers),
            Some(ErrorType::Unauthorized)
        );
        assert_eq!(api(&access, Right::Admin, Peer::Owner, &none), None);
        assert_eq!(
            api(&access, Right::Admin, Peer::Stranger, &none),
            Some(ErrorType::Unauthorized)
        );
    }

    #[test]
    fn an_access_key_closes_the_server_and_is_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let seal = Seal::of(folder.path());
        let (new, secret) =
            crate::keys::mint(&seal, Role::Deploy, None, Some(Timestamp(5))).unwrap();
        let id = new.id.0.clone();
        let token = Token {
            id: new.id,
            secret: new.secret,
            role: new.role,
            user: new.user,
            created_at: NOW,
            expires_at: new.expires_at,
            sealed: new.sealed,
        };
        let access = Access::new(vec![token.clone()], seal, true);
        assert!(!access.is_open());
        assert_eq!(*access.key(&id, Timestamp(4)).unwrap().secret, *secret);
        assert!(access.key(&id, Timestamp(5)).is_none(), "it has ended");
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", *secret);
        headers.insert(AUTHORIZATION, bearer.parse().unwrap());
        let refused = api(&access, Right::Invoke, WEB, &headers);
        assert_eq!(refused, Some(ErrorType::Unauthorized));
        // Under another seal nobody can sign with it, and the server stays closed.
        let other = super::tests::access(vec![token]);
        assert!(other.key(&id, Timestamp(4)).is_none() && !other.is_open());
    }

    #[test]
    fn a_stranger_on_the_socket_needs_a_token_even_where_it_is_open() {
        let access = access(vec![]);
        let refused = api(&access, Right::Invoke, Peer::Stranger, &HeaderMap::new());
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
    fn a_role_and_a_user_are_words() {
        assert_eq!(parse_role("live").unwrap(), Role::Live);
        assert_eq!(
            parse_role("root").unwrap_err().error_type,
            ErrorType::BadRequest
        );
        assert_eq!(
            &*parse_user("ann@shop.example").unwrap(),
            "ann@shop.example"
        );
        for bad in ["", "ann b", "a\n", &"a".repeat(129)] {
            assert!(parse_user(bad).is_err(), "{bad}");
        }
    }
}
