//! Who asks an operation of the profile, and all of what he asked: bodies are signed, so they are read first.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderMap;
use model::ErrorType;

use super::{REGION, Refusal};
use crate::{api, app::App, journal::Invocation, rights::Right};

/// A caller who may do something here, and his request's body.
pub(crate) struct Caller {
    /// The region that his signature names.
    pub region: String,
    pub body: Bytes,
    app: Arc<App>,
    peer: crate::auth::Peer,
    headers: HeaderMap,
    uri: http::Uri,
}

impl Caller {
    /// Refuses him if he does not have the right.
    pub(crate) fn may(&self, right: Right) -> Result<(), Refusal> {
        let now = Invocation::now(&self.app.journal);
        let checked = self
            .app
            .access
            .check_api(right, self.peer, &self.headers, &self.uri, now);
        checked.map_err(Refusal::from)
    }
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
        let caller = Caller {
            region: region(&parts.headers).unwrap_or(REGION).to_owned(),
            body: Bytes::new(),
            app: app.clone(),
            peer: api::peer(&parts),
            headers: parts.headers,
            uri: parts.uri,
        };
        caller.may(Right::Invoke)?;
        let body = api::whole(body, limit).await.map_err(too_large)?;
        Ok(Caller { body, ..caller })
    }
}

/// The region in the scope of a signature.
fn region(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let scope = text.split_once("Credential=")?.1.split(',').next()?;
    let region = scope.split('/').nth(2)?;
    super::arn::is_region(region).then_some(region)
}
