//! A web request for an event handler: the Lambda function-URL event (payload 2.0), and its answer made a response.
//! Pure; reading and limiting bodies is the gateway's work.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE, USER_AGENT},
    request::Parts,
};
use model::{ErrorType, Failure, InvocationId, Params, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::errors;

/// What the event says beside the request itself.
pub(crate) struct Origin<'a> {
    /// The invocation's id, which is the event's `requestId`.
    pub id: InvocationId,
    /// When it arrived.
    pub at: Timestamp,
    /// The function's name, which is the event's `apiId`.
    pub function: &'a str,
    /// The caller's address; `None` for the Unix socket.
    pub source: Option<std::net::IpAddr>,
    /// Parameters of a declared route.
    pub params: &'a Params,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    path_parameters: BTreeMap<&'a str, &'a str>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'static str,
    api_id: &'a str,
    domain_name: String,
    domain_prefix: &'a str,
    http: HttpContext<'a>,
    request_id: InvocationId,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpContext<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: String,
    user_agent: String,
}

/// The event for a request, as JSON.
pub(crate) fn event(parts: &Parts, body: &[u8], origin: &Origin<'_>) -> Result<Bytes, Failure> {
    let path = parts.uri.path();
    let (text, is_base64_encoded) = body_text(&parts.headers, body);
    let event = Event {
        version: "2.0",
        route_key: "$default",
        raw_path: path,
        raw_query_string: parts.uri.query().unwrap_or(""),
        cookies: cookies(&parts.headers),
        headers: joined_headers(&parts.headers),
        query_string_parameters: query_parameters(parts.uri.query().unwrap_or("")),
        path_parameters: origin
            .params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        request_context: RequestContext {
            account_id: "anonymous",
            api_id: origin.function,
            domain_name: header_text(&parts.headers, &HOST),
            domain_prefix: origin.function,
            http: HttpContext {
                method: parts.method.as_str(),
                path,
                protocol: "HTTP/1.1",
                source_ip: origin
                    .source
                    .map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string()),
                user_agent: header_text(&parts.headers, &USER_AGENT),
            },
            request_id: origin.id,
            route_key: "$default",
            stage: "$default",
            time: common_log_time(origin.at),
            time_epoch: origin.at.0,
        },
        body: text,
        is_base64_encoded,
    };
    let json = serde_json::to_vec(&event).map_err(|error| {
        Failure::new(
            ErrorType::Internal,
            format!("the request cannot be written as an event: {error}"),
        )
    })?;
    Ok(json.into())
}

/// The body as the event carries it: text as it is, everything else in base64, nothing when empty.
fn body_text(headers: &HeaderMap, body: &[u8]) -> (Option<String>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    let kind = header_text(headers, &CONTENT_TYPE);
    if is_text(&kind)
        && let Ok(text) = std::str::from_utf8(body)
    {
        return (Some(text.to_owned()), false);
    }
    (Some(STANDARD.encode(body)), true)
}

/// The content types that function URLs hand over as text.
fn is_text(content_type: &str) -> bool {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind.as_str(),
            "application/json"
                | "application/xml"
                | "application/javascript"
                | "application/x-www-form-urlencoded"
        )
}

fn header_text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}

/// Every header but cookies; those given more than once are joined by commas.
fn joined_headers(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut joined = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != COOKIE) {
        let value = String::from_utf8_lossy(value.as_bytes());
        joined
            .entry(name.as_str())
            .and_modify(|all: &mut String| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    joined
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(COOKIE).iter();
    all.flat_map(|value| {
        String::from_utf8_lossy(value.as_bytes())
            .split(';')
            .map(|cookie| cookie.trim().to_owned())
            .filter(|cookie| !cookie.is_empty())
            .collect::<Vec<_>>()
    })
    .collect()
}

/// Decoded parameters; those given more than once are joined by commas.
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        parameters
            .entry(decode(name))
            .and_modify(|all: &mut String| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert(value);
    }
    parameters
}

/// Decodes one part of a form-encoded query.
fn decode(part: &str) -> String {
    let spaced = part.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8_lossy()
        .into_owned()
}

/// `12/Mar/2020:19:03:58 +0000`, as payload 2.0 writes time.
fn common_log_time(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

/// The envelope that a handler may answer with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    status_code: Option<serde_json::Value>,
    #[serde(default)]
    headers: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<serde_json::Value>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

/// The response for a handler's result: an envelope with `statusCode` says itself what it is,
/// everything else is answered as JSON with status 200.
pub(crate) fn response(result: Bytes) -> Result<Response<Bytes>, Failure> {
    if !is_envelope(&result) {
        let mut response = Response::new(result);
        response.headers_mut().insert(CONTENT_TYPE, errors::JSON);
        return Ok(response);
    }
    let envelope: Envelope = serde_json::from_slice(&result)
        .map_err(|error| fault(format!("the answer's envelope cannot be read: {error}")))?;
    let mut response = Response::new(envelope_body(&envelope)?);
    *response.status_mut() = envelope_status(envelope.status_code.as_ref())?;
    let headers = response.headers_mut();
    for (name, value) in envelope.headers.into_iter().flatten() {
        let (name, value) = envelope_header(&name, &value)?;
        headers.append(name, value);
    }
    for cookie in envelope.cookies.into_iter().flatten() {
        let value = HeaderValue::from_str(&cookie)
            .map_err(|_| fault(format!("`{cookie}` cannot stand in a cookie")))?;
        headers.append(SET_COOKIE, value);
    }
    headers.entry(CONTENT_TYPE).or_insert(errors::JSON);
    Ok(response)
}

/// Whether the result is an object with `statusCode`, without building it in memory.
fn is_envelope(result: &[u8]) -> bool {
    let first = result.iter().find(|byte| !byte.is_ascii_whitespace());
    first == Some(&b'{')
        && serde_json::from_slice::<BTreeMap<String, &RawValue>>(result)
            .is_ok_and(|object| object.contains_key("statusCode"))
}

fn fault(message: String) -> Failure {
    Failure::new(ErrorType::HandlerError, message)
        .hint("answer {statusCode, headers, body}, where body is a string")
}

fn envelope_status(status: Option<&serde_json::Value>) -> Result<StatusCode, Failure> {
    let number = match status {
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        // 1xx are no answers.
        .filter(|number| (200..=599).contains(number))
        .and_then(|number| StatusCode::from_u16(number).ok())
        .ok_or_else(|| {
            fault("the answer's `statusCode` is no number between 200 and 599".to_owned())
        })
}

fn envelope_body(envelope: &Envelope) -> Result<Bytes, Failure> {
    match &envelope.body {
        None | Some(serde_json::Value::Null) => Ok(Bytes::new()),
        Some(serde_json::Value::String(text)) if envelope.is_base64_encoded == Some(true) => {
            STANDARD
                .decode(text)
                .map(Bytes::from)
                .map_err(|_| fault("the answer's `body` is no base64".to_owned()))
        }
        Some(serde_json::Value::String(text)) => Ok(Bytes::from(text.clone())),
        Some(_) => Err(fault(
            "the answer's `body` is no string; use JSON.stringify".to_owned(),
        )),
    }
}

fn envelope_header(
    name: &str,
    value: &serde_json::Value,
) -> Result<(HeaderName, HeaderValue), Failure> {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => value.to_string(),
        _ => {
            return Err(fault(format!(
                "the answer's header `{name}` is neither text nor number"
            )));
        }
    };
    let parsed = (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_str(&text),
    );
    match parsed {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(fault(format!("the answer's header `{name}` is no header"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use serde_json::{Value, json};

    fn event_of(request: Request<()>, body: &[u8]) -> Value {
        let (parts, ()) = request.into_parts();
        let origin = Origin {
            id: InvocationId::new(Timestamp(1_600_000_000_000), [7; 10]),
            at: Timestamp(1_600_000_000_000),
            function: "hello",
            source: None,
            params: &vec![("name".to_owned(), "Ann".to_owned())],
        };
        serde_json::from_slice(&event(&parts, body, &origin).unwrap()).unwrap()
    }

    #[test]
    fn a_request_becomes_payload_two() {
        let request = Request::post("/functions/hello/a%20b?x=1&x=2&y=a+b%21")
            .header("Host", "localhost:9001")
            .header("Cookie", "a=1; b=2")
            .header("X-Many", "1")
            .header("X-Many", "2")
            .header("Content-Type", "application/json; charset=utf-8")
            .body(())
            .unwrap();
        let event = event_of(request, br#"{"n":1}"#);
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["rawPath"], "/functions/hello/a%20b");
        assert_eq!(event["rawQueryString"], "x=1&x=2&y=a+b%21");
        assert_eq!(
            event["queryStringParameters"],
            json!({"x": "1,2", "y": "a b!"})
        );
        assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
        assert_eq!(event["headers"]["x-many"], "1,2");
        assert_eq!(event["headers"].get("cookie"), None);
        assert_eq!(event["pathParameters"], json!({"name": "Ann"}));
        assert_eq!(event["body"], r#"{"n":1}"#);
        assert_eq!(event["isBase64Encoded"], false);
        assert_eq!(
            event["requestContext"]["time"],
            "13/Sep/2020:12:26:40 +0000"
        );
        assert_eq!(event["requestContext"]["http"]["method"], "POST");
    }

    #[test]
    fn bytes_travel_in_base64() {
        let request = || {
            Request::post("/x")
                .header("Content-Type", "image/png")
                .body(())
                .unwrap()
        };
        let event = event_of(request(), &[0xff, 0x00]);
        assert_eq!(event["body"], "/wA=");
        assert_eq!(event["isBase64Encoded"], true);
        assert_eq!(event_of(request(), b"").get("body"), None);
    }

    fn answer(result: Value) -> Result<Response<Bytes>, Failure> {
        response(Bytes::from(result.to_string()))
    }

    #[test]
    fn an_envelope_becomes_the_response() {
        let response = answer(json!({
            "statusCode": 201,
            "headers": {"X-Count": 3, "content-type": "image/png"},
            "cookies": ["a=1", "b=2"],
            "body": "/wA=",
            "isBase64Encoded": true,
        }))
        .unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["x-count"], "3");
        assert_eq!(response.headers()["content-type"], "image/png");
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert_eq!(&response.body()[..], [0xff, 0x00]);
    }

    #[test]
    fn everything_else_is_json() {
        for result in [json!({"ok": true}), json!("text"), json!(null), json!([1])] {
            let response = answer(result.clone()).unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.body(), &result.to_string());
        }
    }

    #[test]
    fn an_envelope_that_is_none_is_the_handlers_fault() {
        for result in [
            json!({"statusCode": 99}),
            json!({"statusCode": "ok"}),
            json!({"statusCode": 200, "body": {"a": 1}}),
            json!({"statusCode": 200, "body": "%", "isBase64Encoded": true}),
            json!({"statusCode": 200, "headers": {"bad name": "x"}}),
            json!({"statusCode": 200, "headers": {"a": "x\ny"}}),
        ] {
            let failure = answer(result.clone()).unwrap_err();
            assert_eq!(failure.error_type, ErrorType::HandlerError, "{result}");
        }
    }
}
