//! As much of the Extensions API as a runtime client needs that only wants to hear SIGTERM: it registers for no event,
//! and waits for one that never comes. Anything more is refused.

use std::future::pending;

use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;

use super::{
    Api,
    calls::{CallBody, Called, Posted, json, refused},
};

const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");

/// What an extension registers for.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Registration {
    events: Vec<String>,
}

impl Api {
    pub(super) async fn extension(&self, method: &Method, path: &str, body: Incoming) -> Called {
        match (method, path) {
            (&Method::POST, "/2020-01-01/extension/register") => match self.collect(body).await {
                Posted::Whole(body, _) => Ok(self.register(&body)),
                Posted::TooLarge | Posted::Truncated => Ok(not_supported()),
            },
            (&Method::GET, "/2020-01-01/extension/event/next") => {
                // Whoever registered did so for nothing.
                pending::<()>().await;
                Ok(not_supported())
            }
            _ => Ok(not_supported()),
        }
    }

    fn register(&self, body: &[u8]) -> Response<CallBody> {
        let wanted: Registration = serde_json::from_slice(body).unwrap_or_default();
        let Some(version) = self.version().filter(|_| wanted.events.is_empty()) else {
            return not_supported();
        };
        let told = serde_json::json!({
            "functionName": version.function.name.as_str(),
            "functionVersion": version.number.to_string(),
            "handler": version.settings.handler.as_deref().unwrap_or(&version.entry),
        });
        let mut response = json(StatusCode::OK, told.to_string());
        if let Ok(identifier) = HeaderValue::from_str(&identifier()) {
            response.headers_mut().insert(IDENTIFIER, identifier);
        }
        response
    }
}

/// A name that nobody else has, written as a UUID.
fn identifier() -> String {
    let random = hex::encode(rand::random::<[u8; 16]>());
    let parts = [
        &random[..8],
        &random[8..12],
        &random[12..16],
        &random[16..20],
        &random[20..],
    ];
    parts.join("-")
}

fn not_supported() -> Response<CallBody> {
    refused(
        StatusCode::NOT_FOUND,
        "Extension.NotSupported",
        "extensions get no events here, and there is no Telemetry or Logs API",
    )
}
