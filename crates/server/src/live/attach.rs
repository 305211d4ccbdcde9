//! `/v1/live`: a laptop, or a bridge, joins the channel over a WebSocket.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{
        SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    },
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use live::{Broker, Credentials, LIVE_PATH, SUBPROTOCOL};
use model::{ErrorType, Failure};

use crate::{door::Line, errors, forward, gateway::Visitor, journal::Invocation, reply::ReplyBody};

/// Whether a request is for the channel.
pub(crate) fn is_channel(request: &Request<Incoming>) -> bool {
    request.uri().path() == LIVE_PATH
}

impl Visitor {
    /// Lets an end of the channel in, or says why not.
    pub(crate) fn attach(&self, request: Request<Incoming>) -> Response<ReplyBody> {
        let response = match self.admit_end(request) {
            Ok(response) => response,
            Err(failure) => errors::response(&failure, None),
        };
        ReplyBody::whole(response, &self.line, &self.app.lines)
    }

    fn admit_end(&self, request: Request<Incoming>) -> Result<Response<Bytes>, Failure> {
        let app = &self.app;
        let now = Invocation::now(&app.journal);
        let (headers, uri) = (request.headers(), request.uri());
        let grant = app.access.live(self.peer, headers, uri, now)?;
        let who = Credentials {
            user: grant.user.map(|user| user.to_string()),
            token: None,
            may_attach: grant.may_claim,
            may_host: grant.may_host,
        };
        let_in(request, who, &app.live.broker, &self.line)
    }
}

/// Takes an end whose credentials are known onto the channel: its connection switches to a WebSocket.
pub(crate) fn let_in(
    request: Request<Incoming>,
    who: Credentials,
    broker: &Broker,
    line: &Line,
) -> Result<Response<Bytes>, Failure> {
    let (mut parts, _) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let key = parts.headers.get(SEC_WEBSOCKET_KEY).cloned();
    let is_asked = forward::asks_for_websocket(&parts) && names_protocol(&parts.headers);
    let (Some(upgrade), Some(key), true) = (upgrade, key, is_asked) else {
        let message = format!(
            "`{LIVE_PATH}` is the live channel: a WebSocket with the subprotocol `{SUBPROTOCOL}`"
        );
        let failure = Failure::new(ErrorType::BadRequest, message);
        return Err(failure.hint("`bungee dev --remote URL` attaches to it"));
    };
    if parts
        .headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let message = "the live channel speaks version 13 of the WebSocket protocol";
        return Err(Failure::new(ErrorType::BadRequest, message));
    }
    let port = broker.connect(who);
    line.switch_to(async move {
        // A caller who is gone before the answer is out has not come.
        if let Ok(io) = upgrade.await {
            live::serve(TokioIo::new(io), port).await;
        }
    });
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    forward::switch_protocol(headers);
    headers.insert(
        SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    let accept = HeaderValue::from_str(&live::accept_key(key.as_bytes()));
    headers.insert(
        SEC_WEBSOCKET_ACCEPT,
        accept.expect("base64 is a header's value"),
    );
    Ok(response)
}

fn names_protocol(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = lists.flat_map(|list| list.to_str().unwrap_or("").split(','));
    names.any(|name| name.trim() == SUBPROTOCOL)
}
