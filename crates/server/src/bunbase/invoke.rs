//! INVOKE: a web request that came in a frame, and its response in another. It goes wherever requests go.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header::SET_COOKIE, request::Parts,
};
use model::{Auth, ErrorType, Failure, Params, Trigger};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::command::Caller;
use crate::{
    app::App,
    bodies::BodyLimit,
    errors, forward, gateway,
    invoke::{self, Errand, Outcome, Target, Work},
    journal::Invocation,
};

/// What stands in a query as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A request as the client writes it. What is `null` is not there: so do clients in Go write what is empty.
#[derive(Deserialize)]
pub(super) struct Wanted<'a> {
    #[serde(borrow, default)]
    function_id: Cow<'a, str>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    headers: Option<BTreeMap<String, String>>,
    query: Option<BTreeMap<String, String>>,
    /// In base64.
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
}

/// A request that can be asked.
pub(super) struct Call {
    function_id: String,
    parts: Parts,
    body: Bytes,
}

/// How it went. A handler's own error statuses are successes: it answered.
#[derive(Serialize)]
pub(super) struct Answered {
    success: bool,
    status: u16,
    /// One value for each name; several of one name are joined by commas.
    headers: BTreeMap<String, String>,
    /// Cookies cannot be joined: here is each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    /// In base64.
    body: String,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<ErrorType>,
    /// In the worker, in whole milliseconds.
    execution_time_ms: u64,
    execution_id: String,
}

/// Reads a request.
pub(super) fn read(payload: &[u8]) -> Result<Call, Failure> {
    let wanted: Wanted<'_> = super::command::json(payload)?;
    if wanted.function_id.is_empty() {
        return Err(super::missing("function_id"));
    }
    let refuse = |message: String| Failure::new(ErrorType::BadRequest, message);
    let body = match wanted.body.as_deref() {
        None | Some("") => Bytes::new(),
        Some(text) => {
            let bytes = STANDARD.decode(text);
            let bytes = bytes.map_err(|error| refuse(format!("`body` is no base64: {error}")))?;
            bytes.into()
        }
    };
    let method = match wanted.method.as_deref() {
        None | Some("") if body.is_empty() => Method::GET,
        None | Some("") => Method::POST,
        Some(word) => Method::from_bytes(word.to_ascii_uppercase().as_bytes())
            .map_err(|_| refuse("`method` is no method of HTTP".into()))?,
    };
    gateway::check_method(&method)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri(wanted.path.as_deref().unwrap_or(""), wanted.query.as_ref())?;
    for (name, value) in wanted.headers.into_iter().flatten() {
        let names_host = name.eq_ignore_ascii_case("host");
        if names_host && value.is_empty() {
            continue;
        }
        if names_host && !is_host(&value) {
            let shown: String = value.chars().take(80).collect();
            return Err(refuse(format!(
                "the header `host` is `{shown}`, which is no host"
            )));
        }
        let header = HeaderName::from_bytes(name.as_bytes());
        let (Ok(header), Ok(value)) = (header, HeaderValue::from_bytes(value.as_bytes())) else {
            let shown: String = name.chars().take(40).collect();
            return Err(refuse(format!("the header `{shown}` cannot be sent")));
        };
        parts.headers.append(header, value);
    }
    Ok(Call {
        function_id: wanted.function_id.into_owned(),
        parts,
        body,
    })
}

/// Whether a URL can be made of it, and it is nothing but the host and its port.
fn is_host(text: &str) -> bool {
    let is_more = text.contains(|letter: char| "/?#@\\".contains(letter) || letter <= ' ');
    !is_more && url::Url::parse(&format!("http://{text}/")).is_ok()
}

/// Path and query of the request.
fn uri(path: &str, query: Option<&BTreeMap<String, String>>) -> Result<Uri, Failure> {
    let mut target = match path {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    for (name, value) in query.into_iter().flatten() {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.extend(utf8_percent_encode(name, QUERY));
        target.push('=');
        target.extend(utf8_percent_encode(value, QUERY));
    }
    let uri = target.starts_with('/').then(|| target.parse());
    uri.and_then(Result::ok).ok_or_else(|| {
        let shown: String = path.chars().take(80).collect();
        let message = format!("`path` is `{shown}`, which is no path of a request");
        Failure::new(ErrorType::BadRequest, message).hint("begin it with `/`, and encode blanks")
    })
}

/// Asks the function, and waits for its whole answer.
pub(super) async fn invoke(
    app: &Arc<App>,
    caller: Caller,
    call: Call,
) -> Result<Answered, Failure> {
    let Call {
        function_id,
        parts,
        body,
    } = call;
    if !app.builds.is_quiet() {
        let id = super::function(app, &function_id)?;
        app.builds.settled(Some(&id)).await;
    }
    let serving = match app.registry.at_home(&function_id) {
        Some(serving) => serving,
        None => {
            let id = super::function(app, &function_id)?;
            app.registry.table().serving(&id)?
        }
    };
    let alias = forward::alias(&parts.headers).map(str::to_owned);
    let settings = match (&alias, &serving.current) {
        (None, Some(current)) => Some(&current.first.version.settings),
        (Some(_), _) | (None, None) => None,
    };
    // Whoever names an alias needs a token, even where the function asks for none.
    let auth = settings.map_or(Auth::Token, |settings| settings.auth);
    let now = Invocation::now(&app.journal);
    caller.check_function(app, auth, &parts.headers, now)?;
    if let Some(settings) = settings {
        BodyLimit::web_request(settings.runtime, &app.limits).check(body.len())?;
    }
    let work = Work::Web {
        parts: Box::new(parts),
        params: Params::new(),
        body,
    };
    let errand = Errand {
        work,
        trigger: Trigger::Socket,
        target: Target::Alias(alias),
        wants_logs: false,
    };
    Ok(shape(invoke::invoke(app, &serving, errand).await?))
}

fn shape(outcome: Outcome) -> Answered {
    let mut answered = Answered {
        success: true,
        status: 200,
        headers: BTreeMap::new(),
        cookies: Vec::new(),
        body: String::new(),
        error: None,
        error_type: None,
        execution_time_ms: outcome.timing.ran_us / 1000,
        execution_id: outcome.id.to_string(),
    };
    match outcome.result {
        Ok(answer) => {
            if let Some((status, headers)) = answer.head {
                answered.status = status.as_u16();
                answered.take(&headers);
            }
            answered.body = STANDARD.encode(&answer.body);
        }
        Err(failure) => {
            answered.success = false;
            answered.status = errors::status(failure.error_type).as_u16();
            answered.error_type = Some(failure.error_type);
            answered.error = Some(failure.message);
        }
    }
    answered
}

impl Answered {
    fn take(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            if name == SET_COOKIE {
                self.cookies.push(value.clone().into_owned());
            }
            match self.headers.get_mut(name.as_str()) {
                // The first cookie is better than several in one.
                Some(_) if name == SET_COOKIE => {}
                Some(joined) => {
                    joined.push_str(", ");
                    joined.push_str(&value);
                }
                None => {
                    self.headers
                        .insert(name.as_str().to_owned(), value.into_owned());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(json: &str) -> Call {
        read(json.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let plain = call(r#"{"function_id":"a","headers":null,"query":null,"body":null}"#);
        assert_eq!(plain.parts.method, Method::GET);
        assert_eq!(plain.parts.uri, "/");
        let posted = call(r#"{"function_id":"a","body":"aGk="}"#);
        assert_eq!(posted.parts.method, Method::POST);
        assert_eq!(&posted.body[..], b"hi");
        let hosts = |host: &str| {
            let asked = call(&format!(
                r#"{{"function_id":"a","headers":{{"Host":"{host}"}}}}"#
            ));
            asked.parts.headers.get("host").cloned()
        };
        assert_eq!(hosts(""), None);
        for host in ["a.example:8080", "[::1]:80", "127.0.0.1"] {
            assert_eq!(hosts(host).unwrap(), host);
        }
    }

    #[test]
    fn path_and_query_become_one_target() {
        let asked = call(r#"{"function_id":"a","path":"/x?y=1","query":{"q":"a b&c","z":"é"}}"#);
        assert_eq!(asked.parts.uri, "/x?y=1&q=a%20b%26c&z=%C3%A9");
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        for bad in [
            r#"{}"#,
            r#"{"function_id":"a","path":"x"}"#,
            r#"{"function_id":"a","path":"/a b"}"#,
            r#"{"function_id":"a","method":"TRACE"}"#,
            r#"{"function_id":"a","body":"%"}"#,
            r#"{"function_id":"a","headers":{"a b":"c"}}"#,
            r#"{"function_id":"a","headers":{"a":"b\nc"}}"#,
            r#"{"function_id":"a","headers":{"Host":"a b"}}"#,
            r#"{"function_id":"a","headers":{"host":"a/b"}}"#,
            r#"{"function_id":"a","headers":{"host":"a:99999"}}"#,
            r#"{"function_id":1}"#,
            r#"["function_id"]"#,
            "",
        ] {
            let refused = read(bad.as_bytes()).err();
            let refused = refused.unwrap_or_else(|| panic!("{bad} was taken"));
            assert_eq!(refused.error_type, ErrorType::BadRequest, "{bad}");
        }
    }
}
