//! Who asks an operation of the profile, and all of what he asked: bodies are signed, so they are read first.
//! By a signature he is the holder of an access key; by a token of ours, or on an open server, what he is elsewhere.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use model::{ErrorType, Failure, Timestamp};
use store::Role;

use super::{
    Kind, REGION, Refusal,
    sigv4::{Asked, Disbelief, Signed},
};
use crate::{
    api,
    app::App,
    auth::{Access, AccessKey},
    journal::Invocation,
    rights::Right,
};

/// What AWS says to who neither signs nor shows anything.
const MISSING: &str = "Missing Authentication Token";

/// A caller who may do something here, and his request's body.
pub(crate) struct Caller {
    /// The region that his signature names.
    pub region: String,
    pub body: Bytes,
    /// What he may; `None`: everything, for he is this machine's own.
    role: Option<Role>,
}

/// The holder of an access key, if the body is what he signed.
pub(crate) struct Signer {
    signed: Signed,
    key: AccessKey,
}

impl Caller {
    /// Refuses him if he does not have the right.
    pub(crate) fn may(&self, right: Right) -> Result<(), Refusal> {
        check(self.role, right)
    }
}

fn check(role: Option<Role>, right: Right) -> Result<(), Refusal> {
    let Some(role) = role else { return Ok(()) };
    right.check(role).map_err(|failure| {
        let message = failure.message.replacen("token", "key", 1);
        Refusal::new(Kind::AccessDenied, message)
    })
}

impl FromRequest<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Caller, Refusal> {
        let (parts, body) = request.into_parts();
        let limit = super::limit_of(&parts.method, parts.uri.path(), &app.limits);
        let too_large = |failure: model::Failure| match failure.error_type {
            ErrorType::PayloadTooLarge => super::too_large(limit),
            _ => failure.into(),
        };
        limit.check_announced(&parts.headers).map_err(too_large)?;
        let now = Invocation::now(&app.journal);
        let (role, signer) = stand(&app.access, &parts, now)?;
        check(role, Right::Invoke)?;
        let body = api::whole(body, limit).await.map_err(too_large)?;
        if let Some(signer) = &signer {
            signer.check(Asked::of(&parts), &body)?;
        }
        let named = signer.as_ref().map(|signer| signer.signed.region.as_str());
        let region = named.or_else(|| region(&parts.headers)).unwrap_or(REGION);
        Ok(Caller {
            region: region.to_owned(),
            body,
            role,
        })
    }
}

/// What the caller may do, and whose signature is still to be checked, if he came by one.
fn stand(
    access: &Access,
    parts: &Parts,
    now: Timestamp,
) -> Result<(Option<Role>, Option<Signer>), Refusal> {
    let (headers, peer) = (&parts.headers, api::peer(parts));
    let may_pass = access.standing(peer, headers, &parts.uri, now);
    let refused = match may_pass {
        Ok(role) => return Ok((role, None)),
        Err(failure) if failure.error_type == ErrorType::Forbidden => return Err(failure.into()),
        Err(failure) => failure,
    };
    if let Some(signer) = Signer::of(access, Asked::of(parts), now)? {
        return Ok((Some(signer.key.role), Some(signer)));
    }
    if crate::auth::bearer(headers).is_some() {
        return Err(Refusal::new(Kind::UnrecognizedClient, refused.message));
    }
    let query = parts.uri.query().unwrap_or_default();
    if query.contains("X-Amz-Signature=") {
        let message = "a signature in the query is not read here; sign the headers";
        return Err(Refusal::new(Kind::MissingAuthenticationToken, message));
    }
    Err(Refusal::new(Kind::MissingAuthenticationToken, MISSING))
}

impl Signer {
    /// Whoever signed the request; `None` if nobody did.
    pub(crate) fn of(
        access: &Access,
        asked: Asked<'_>,
        now: Timestamp,
    ) -> Result<Option<Signer>, Refusal> {
        let authorization = asked.headers.get(AUTHORIZATION);
        let authorization = authorization.and_then(|value| value.to_str().ok());
        let Some(authorization) = authorization.filter(|text| Signed::is_one(text)) else {
            return Ok(None);
        };
        let moment = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
        let signed = Signed::read(asked, authorization, moment)?;
        // Ours are never lent for a while.
        let is_lent = asked.headers.contains_key("x-amz-security-token");
        match access.key(&signed.key_id, now).filter(|_| !is_lent) {
            Some(key) => Ok(Some(Signer { signed, key })),
            None => {
                let message = "The security token included in the request is invalid.";
                Err(Refusal::new(Kind::UnrecognizedClient, message))
            }
        }
    }

    /// Checks that it is this request that he signed.
    pub(crate) fn check(&self, asked: Asked<'_>, body: &[u8]) -> Result<(), Refusal> {
        Ok(self.signed.check(&self.key.secret, asked, body)?)
    }
}

/// Whether a request carries a signature.
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    let authorization = headers.get(AUTHORIZATION);
    authorization
        .and_then(|value| value.to_str().ok())
        .is_some_and(Signed::is_one)
}

/// At a function's own path failures are said in our words.
impl Signer {
    /// Whoever signed a call of a function, if he may invoke.
    pub(crate) fn of_url(
        access: &Access,
        parts: &Parts,
        now: Timestamp,
    ) -> Result<Signer, Failure> {
        let signer = Signer::of(access, Asked::of(parts), now).map_err(unauthorized)?;
        let signer = signer.ok_or_else(|| Failure::new(ErrorType::Unauthorized, MISSING))?;
        Right::Invoke.check(signer.key.role)?;
        Ok(signer)
    }

    /// Checks that it is this call that he signed.
    pub(crate) fn check_url(&self, parts: &Parts, body: &[u8]) -> Result<(), Failure> {
        self.check(Asked::of(parts), body).map_err(unauthorized)
    }
}

fn unauthorized(refusal: Refusal) -> Failure {
    Failure::new(ErrorType::Unauthorized, refusal.message)
        .hint("sign with a key of `bungee token create --aws`, for the service `lambda`")
}

impl<'a> Asked<'a> {
    /// A request, but for its body.
    pub(crate) fn of(parts: &'a Parts) -> Asked<'a> {
        Asked {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
        }
    }
}

impl From<Disbelief> for Refusal {
    fn from(disbelief: Disbelief) -> Refusal {
        let kind = match &disbelief {
            Disbelief::Incomplete(_) => Kind::IncompleteSignature,
            Disbelief::Invalid(_) => Kind::InvalidSignature,
        };
        Refusal::new(kind, disbelief.to_string())
    }
}

/// The region in the scope of a signature that nobody checks.
fn region(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let scope = text.split_once("Credential=")?.1.split(',').next()?;
    let region = scope.split('/').nth(2)?;
    super::arn::is_region(region).then_some(region)
}
