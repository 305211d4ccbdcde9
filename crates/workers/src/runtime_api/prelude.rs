//! The JSON in front of a body that streams, cut off by eight NUL bytes: of a web request on its way to a web handler,
//! and of a response on its way back.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, SET_COOKIE, TRANSFER_ENCODING},
    request,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::delivery;

/// Cuts a prelude from what follows.
const SEPARATOR: [u8; 8] = [0; 8];

/// Longest prelude of a response, its separator included.
const PRELUDE_MAX: usize = 16 << 10;

/// Content type of a response that begins with a prelude.
pub const RESPONSE: &str = "application/vnd.awslambda.http-integration-response";

/// What a web handler is told before the body of its request.
#[derive(Serialize)]
struct RequestHead<'a> {
    method: &'a str,
    target: &'a str,
    headers: Vec<(&'a str, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<Box<RawValue>>,
}

/// The prelude of a web request. Bytes of a header that are no text are read as Latin-1, as HTTP has it.
pub fn of_request(parts: &request::Parts) -> Bytes {
    let params = parts.headers.get("x-bungee-params");
    let params = params.and_then(|params| serde_json::from_slice(params.as_bytes()).ok());
    let headers = parts.headers.iter();
    let headers = headers.filter(|(name, _)| !delivery::is_of_the_wire(name));
    let head = RequestHead {
        method: parts.method.as_str(),
        target: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        headers: headers
            .map(|(name, value)| (name.as_str(), latin(value)))
            .collect(),
        params,
    };
    let mut prelude = serde_json::to_vec(&head).unwrap_or_default();
    prelude.extend_from_slice(&SEPARATOR);
    prelude.into()
}

fn latin(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

/// Status and headers of a response.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// A response's prelude as its client writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default = "ok")]
    status_code: u16,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    multi_value_headers: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    cookies: Vec<String>,
}

const fn ok() -> u16 {
    200
}

/// Collects a prelude from the beginning of a body.
#[derive(Default)]
pub struct Reading(BytesMut);

impl Reading {
    /// Takes the next bytes; the head and the first bytes of the body once it is whole.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<(Head, Bytes)>, String> {
        let seen = self.0.len().saturating_sub(SEPARATOR.len());
        self.0.extend_from_slice(bytes);
        let found = self.0[seen..]
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR);
        let Some(end) = found.map(|at| seen + at) else {
            return match self.0.len() > PRELUDE_MAX {
                true => Err(too_long()),
                false => Ok(None),
            };
        };
        if end + SEPARATOR.len() > PRELUDE_MAX {
            return Err(too_long());
        }
        let head = head(&self.0[..end])?;
        let body = self.0.split_off(end + SEPARATOR.len()).freeze();
        Ok(Some((head, body)))
    }

    /// The head of a body that ended before its separator: a response without a body.
    pub fn end(self) -> Result<Head, String> {
        head(&self.0)
    }
}

fn too_long() -> String {
    format!(
        "the head of the response is longer than {} KiB, or does not end with eight NUL bytes",
        PRELUDE_MAX >> 10
    )
}

fn head(prelude: &[u8]) -> Result<Head, String> {
    let written: Written = serde_json::from_slice(prelude).map_err(|error| {
        format!(
            "the head of the response is no JSON object of status, headers and cookies: {error}"
        )
    })?;
    let status = StatusCode::from_u16(written.status_code)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| {
            format!(
                "the response has the status {}, which none can have",
                written.status_code
            )
        })?;
    let mut headers = HeaderMap::new();
    for (name, value) in &written.headers {
        match value {
            Value::Array(values) => {
                for value in values {
                    add(&mut headers, name, &text(value))?;
                }
            }
            value => add(&mut headers, name, &text(value))?,
        }
    }
    for (name, values) in &written.multi_value_headers {
        for value in values {
            add(&mut headers, name, &text(value))?;
        }
    }
    for cookie in &written.cookies {
        add(&mut headers, SET_COOKIE.as_str(), cookie)?;
    }
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    Ok(Head { status, headers })
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let known = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("the response has a header `{name}`, which is no name"))?;
    // A text whose letters are all Latin-1 was bytes before it was text; any other goes as UTF-8.
    let latin: Option<Vec<u8>> = value
        .chars()
        .map(|letter| u8::try_from(u32::from(letter)).ok())
        .collect();
    let bytes = latin.unwrap_or_else(|| value.as_bytes().to_vec());
    let value = HeaderValue::from_bytes(&bytes)
        .map_err(|_| format!("the value of the response's header `{name}` is none"))?;
    headers.append(known, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let whole =
            b"{\"statusCode\":201,\"headers\":{\"A\":\"1\"},\"cookies\":[\"x=1\",\"y=2\"]}\0\0\0\0\0\0\0\0body";
        for size in 1..whole.len() {
            let mut reading = Reading::default();
            let mut rest = Vec::new();
            let mut head = None;
            for piece in whole.chunks(size) {
                match head {
                    Some(_) => rest.extend_from_slice(piece),
                    None => {
                        if let Some((found, body)) = reading.take(piece).unwrap() {
                            head = Some(found);
                            rest.extend_from_slice(&body);
                        }
                    }
                }
            }
            let head = head.unwrap();
            assert_eq!((head.status.as_u16(), &*rest), (201, &b"body"[..]));
            assert_eq!(head.headers["a"], "1");
            assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
        }
    }

    #[test]
    fn a_head_that_makes_no_sense_says_so() {
        let said = |text: &str| Reading(BytesMut::from(text)).end().unwrap_err();
        assert!(said("nonsense").contains("no JSON object"));
        assert!(said(r#"{"statusCode":101}"#).contains("status 101"));
        assert!(said(r#"{"statusCode":99}"#).contains("status 99"));
        assert!(said(r#"{"headers":{"a b":"1"}}"#).contains("`a b`"));
        assert!(said(r#"{"headers":{"a":"1\r\nb: 2"}}"#).contains("`a`"));
        let long = Reading::default().take(&[b' '; PRELUDE_MAX + 1]);
        assert!(long.unwrap_err().contains("16 KiB"));
    }

    #[test]
    fn a_request_is_told_without_what_is_the_servers() {
        let request = http::Request::get("/a?b=1")
            .header("x-bungee-params", r#"{"id":"7"}"#)
            .header("x-bungee-deadline", "1")
            .header("accept", &b"caf\xe9"[..]);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let prelude = of_request(&parts);
        let json = prelude.strip_suffix(&SEPARATOR).unwrap();
        let json: Value = serde_json::from_slice(json).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"method":"GET","target":"/a?b=1","headers":[["accept","café"]],"params":{"id":"7"}})
        );
    }
}
