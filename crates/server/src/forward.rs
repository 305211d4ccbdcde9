//! What changes in a web request on its way to a handler, and in its response on the way back.
//! Everything else passes as the caller sent it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{
        CONNECTION, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
        SEC_WEBSOCKET_KEY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
    request, response,
};
use hyper::ext::ReasonPhrase;
use model::{ErrorType, Failure, Params};

use crate::marks::Marks;

/// The invocation's id, on requests and on responses.
pub(crate) const INVOCATION_ID: HeaderName = HeaderName::from_static("x-invocation-id");

/// W3C trace context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where an event came from, if not from the gateway.
pub(crate) const TRIGGER: HeaderName = HeaderName::from_static("x-bungee-trigger");

/// The alias that a caller wants, where it is not to be `current`.
const ALIAS: HeaderName = HeaderName::from_static("x-bungee-alias");

/// Parameters of a declared route, as JSON.
pub(crate) const PARAMS: HeaderName = HeaderName::from_static("x-bungee-params");

/// When the invocation will be killed; set where it starts to run.
const DEADLINE: HeaderName = HeaderName::from_static("x-bungee-deadline");

/// On the answer of an event handler that streams: `stream` for bytes as they come, `response` for a whole response of its
/// own. Between servers and workers only.
pub(crate) const ANSWER: HeaderName = HeaderName::from_static("x-bungee-answer");

/// The ARN by which a caller of the Lambda profile named the function.
pub(crate) const ARN: HeaderName = HeaderName::from_static("x-bungee-arn");

/// What such a caller says of himself, as JSON.
pub(crate) const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("x-bungee-client-context");

/// The tenant that an invocation is for.
pub(crate) const TENANT_ID: HeaderName = HeaderName::from_static("x-bungee-tenant-id");

/// AWS's own trace context, which passes as everything of the caller's does.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// The answer of an event handler is a web response.
pub(crate) const RESPONSE: &[u8] = b"response";

/// What only this server says of an invocation; a caller that does is not believed.
const OURS: [HeaderName; 5] = [PARAMS, TRIGGER, ARN, CLIENT_CONTEXT, TENANT_ID];

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers about one connection only, which end here (RFC 9110 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// Removes what speaks of one connection only, and what `Connection` itself lists.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        headers.remove(CONNECTION);
        let names = listed
            .iter()
            .flat_map(|list| list.to_str().unwrap_or("").split(','));
        for name in names.map(str::trim).filter(|name| !name.is_empty()) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The alias that a caller names.
pub(crate) fn alias(headers: &HeaderMap) -> Option<&str> {
    // What is no text is no alias either, and is refused as such.
    headers
        .get(ALIAS)
        .map(|value| value.to_str().unwrap_or("?"))
}

/// The one protocol that a request may be upgraded to.
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Whether the caller asks for a WebSocket (RFC 6455 4.1).
pub(crate) fn asks_for_websocket(parts: &request::Parts) -> bool {
    let headers = &parts.headers;
    headers.contains_key(SEC_WEBSOCKET_KEY)
        && parts.method == Method::GET
        && headers
            .get(UPGRADE)
            .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The failure of a request for a WebSocket to a handler that cannot have one.
pub(crate) fn no_websocket(why: &str) -> Failure {
    Failure::new(ErrorType::BadRequest, why).hint(
        "WebSockets need `runtime = \"bun\"` and a default export with `fetch` and `websocket`",
    )
}

/// Names the protocol that follows; [`request()`] and [`response()`] have taken away what the other side said of it.
pub(crate) fn switch_protocol(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// Whether a response is a stream of server-sent events, which has no end by itself.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().get(..EVENTS.len()))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
}

/// Makes a client's request the one that the handler sees.
pub(crate) fn request(parts: &mut request::Parts, marks: &Marks, params: &Params) {
    let headers = &mut parts.headers;
    for name in &OURS {
        headers.remove(name);
    }
    crate::auth::strip_token(headers);
    if !params.is_empty() {
        headers.insert(PARAMS, params_header(params));
    }
    brought(parts, marks);
}

/// Makes a request that a server has forwarded already the one that the handler sees.
pub(crate) fn brought(parts: &mut request::Parts, marks: &Marks) {
    let headers = &mut parts.headers;
    strip_hop_by_hop(headers);
    headers.remove(DEADLINE);
    headers.insert(INVOCATION_ID, marks.id_header.clone());
    headers.insert(TRACEPARENT, marks.traceparent.clone());
    if parts.uri.authority().is_some() {
        // An absolute target names the host better than the header does (RFC 9112 3.2.2).
        if let Some(Ok(host)) = parts
            .uri
            .authority()
            .map(|host| HeaderValue::from_str(host.as_str()))
        {
            headers.insert(HOST, host);
        }
        parts.uri = origin_form(&parts.uri);
    } else if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::from_static("localhost"));
    }
    parts.version = Version::HTTP_11;
}

/// Whether an event handler answers by streaming, with status and headers, and not with a result.
pub(crate) fn streams(headers: &HeaderMap) -> bool {
    headers.contains_key(ANSWER)
}

/// Makes a handler's response the one that the client gets.
pub(crate) fn response(parts: &mut response::Parts, marks: &Marks) {
    strip_hop_by_hop(&mut parts.headers);
    parts.headers.remove(ANSWER);
    parts.headers.insert(INVOCATION_ID, marks.id_header.clone());
    // An empty reason is no reason; the usual one says more.
    let reason = parts.extensions.get::<ReasonPhrase>();
    if reason.is_some_and(|reason| reason.as_bytes().is_empty()) {
        parts.extensions.remove::<ReasonPhrase>();
    }
    parts.version = Version::HTTP_11;
}

fn origin_form(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    path.map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// The parameters that a forwarded request carries, which are no headers of its caller's.
pub(crate) fn take_params(headers: &mut HeaderMap) -> Params {
    let header = headers.remove(PARAMS);
    let object = header.and_then(|header| serde_json::from_slice(header.as_bytes()).ok());
    let object: std::collections::BTreeMap<String, String> = object.unwrap_or_default();
    object.into_iter().collect()
}

/// The parameters as a JSON object.
fn params_header(params: &Params) -> HeaderValue {
    let object: serde_json::Map<String, serde_json::Value> = params
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    json_header(&serde_json::Value::Object(object).to_string())
}

/// JSON in ASCII: other bytes do not survive a header in every runtime.
pub(crate) fn json_header(json: &str) -> HeaderValue {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\t' | '\n' | '\r') {
            // Never inside a string of JSON.
            ascii.push(' ');
        } else if c.is_ascii() && !c.is_ascii_control() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    HeaderValue::from_str(&ascii).unwrap_or_else(|_| HeaderValue::from_static("{}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use model::Timestamp;

    fn forwarded(request: http::request::Builder) -> request::Parts {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let marks = Marks::new(Timestamp(1), parts.headers.get(TRACEPARENT));
        super::request(&mut parts, &marks, &Params::new());
        parts
    }

    #[test]
    fn what_speaks_of_the_connection_ends_here() {
        let parts = forwarded(
            Request::get("/functions/hello?x=1")
                .header("Host", "shop.example")
                .header("Connection", "close, X-Private")
                .header("X-Private", "1")
                .header("Keep-Alive", "timeout=5")
                .header("Transfer-Encoding", "chunked")
                .header("Expect", "100-continue")
                .header("Accept", "*/*"),
        );
        let mut names: Vec<&str> = parts.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host", "traceparent", "x-invocation-id"]);
        assert_eq!(parts.headers["host"], "shop.example");
        assert_eq!(parts.uri, "/functions/hello?x=1");
    }

    #[test]
    fn a_caller_cannot_speak_for_the_server() {
        let parts = forwarded(
            Request::get("/x")
                .header("x-bungee-params", r#"{"admin":"1"}"#)
                .header("x-bungee-deadline", "9")
                .header("x-bungee-trigger", "schedule")
                .header("x-bungee-arn", "arn:aws:lambda:us-east-1:1:function:admin")
                .header("x-bungee-client-context", "{}")
                .header("x-bungee-tenant-id", "theirs")
                .header("x-invocation-id", "forged"),
        );
        assert!(
            !parts
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("x-bungee-"))
        );
        assert_ne!(parts.headers["x-invocation-id"], "forged");
    }

    #[test]
    fn an_absolute_target_becomes_host_and_path() {
        let parts = forwarded(Request::get("http://shop.example:8080/a?b").header("Host", "other"));
        assert_eq!(parts.headers["host"], "shop.example:8080");
        assert_eq!(parts.uri, "/a?b");
    }

    #[test]
    fn parameters_travel_in_ascii() {
        let params = vec![("name".to_owned(), "Žofie \u{1f600}\n".to_owned())];
        let header = params_header(&params);
        let text = header.to_str().unwrap();
        let back: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(back["name"], "Žofie \u{1f600}\n");
        let mut headers = HeaderMap::from_iter([(PARAMS, header)]);
        assert_eq!(take_params(&mut headers), params);
        assert!(headers.is_empty());
    }
}
