//! A web request through the gateway, and its answer as it streams in.

use bytes::Bytes;
use reqwest::{Method, Response};

use super::{ApiError, ErrorBody, error::ErrorAnswer};

/// A web request to a function.
#[derive(Debug, Clone)]
pub struct WebRequest {
    /// Its method.
    pub method: Method,
    /// Path and query, from the server's root.
    pub path: String,
    /// Headers, as typed.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// The answer to a web request.
#[derive(Debug)]
pub struct WebAnswer {
    response: Response,
    server: String,
}

impl WebAnswer {
    pub(super) fn new(response: Response, server: String) -> WebAnswer {
        WebAnswer { response, server }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|error| ApiError::of_request(self.server.clone(), error))
    }

    /// The whole body as the error object of a failed invocation, or as it is.
    pub async fn failure(self) -> Result<Result<ErrorBody, Bytes>, ApiError> {
        let body = self.response.bytes().await;
        let body = body.map_err(|error| ApiError::of_request(self.server, error))?;
        Ok(match serde_json::from_slice::<ErrorAnswer>(&body) {
            Ok(answer) if answer.error.docs.is_some() => Ok(answer.error),
            Ok(_) | Err(_) => Err(body),
        })
    }
}
