//! What a handler is told of its invocation besides what every one has, because the caller's profile knows it.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::forward;

/// Whatever of it the caller said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// By which ARN the function was named.
    pub arn: Option<String>,
    /// What the client says of itself, as JSON.
    pub client: Option<String>,
    /// Which tenant it is for.
    pub tenant_id: Option<String>,
    /// AWS's trace header.
    pub trace_id: Option<String>,
}

impl Context {
    /// Writes it into the request that brings the event.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let mut write = |name: HeaderName, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        };
        let plain = |text: &Option<String>| HeaderValue::from_str(text.as_deref()?).ok();
        write(forward::ARN, plain(&self.arn));
        write(forward::TENANT_ID, plain(&self.tenant_id));
        write(forward::TRACE_ID, plain(&self.trace_id));
        write(
            forward::CLIENT_CONTEXT,
            self.client.as_deref().map(forward::json_header),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_becomes_headers_in_ascii() {
        let context = Context {
            arn: Some("arn:x".into()),
            client: Some("{\n\"custom\": {\"n\": \"\u{17e}\"}}".into()),
            tenant_id: Some("blue".into()),
            trace_id: None,
        };
        let mut headers = HeaderMap::new();
        context.write(&mut headers);
        assert_eq!(headers["x-bungee-arn"], "arn:x");
        assert_eq!(headers["x-bungee-tenant-id"], "blue");
        assert_eq!(
            headers["x-bungee-client-context"],
            "{ \"custom\": {\"n\": \"\\u017e\"}}"
        );
        assert_eq!(headers.len(), 3);
    }
}
