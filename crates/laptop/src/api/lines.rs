//! Log lines as they stream in, one JSON object per line.

use model::{InvocationId, Level, LogLine, TimeSpan};
use percent_encoding::NON_ALPHANUMERIC;
use reqwest::Response;

use super::ApiError;

/// Longest line that is believed: 256 KiB of logs per invocation, escaped at worst sixfold.
const LINE_MAX: usize = 2 << 20;

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// So long ago.
    Ago(TimeSpan),
    /// A time as RFC 3339 writes it.
    At(String),
}

impl When {
    fn text(&self) -> String {
        match self {
            When::Ago(span) => span.0.to_string(),
            When::At(time) => time.clone(),
        }
    }
}

/// Which lines of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Not older than this.
    pub since: Option<When>,
    /// Not newer than this.
    pub until: Option<When>,
    /// With this somewhere in the text; ASCII letters in either case.
    pub contains: Option<String>,
    /// At least this loud.
    pub level: Option<Level>,
    /// Of this invocation only.
    pub invocation: Option<InvocationId>,
    /// At most this many, the newest.
    pub limit: Option<u32>,
    /// Go on with what is written from now on.
    pub follow: bool,
}

impl LogQuery {
    /// As a query string.
    pub(super) fn text(&self) -> String {
        let pairs = [
            ("since", self.since.as_ref().map(When::text)),
            ("until", self.until.as_ref().map(When::text)),
            ("contains", self.contains.clone()),
            ("level", self.level.map(|level| level.to_string())),
            ("invocation", self.invocation.map(|id| id.to_string())),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("follow", self.follow.then(|| "1".into())),
        ];
        let given = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let parts: Vec<String> = given
            .map(|(name, value)| {
                let value = percent_encoding::utf8_percent_encode(&value, NON_ALPHANUMERIC);
                format!("{name}={value}")
            })
            .collect();
        parts.join("&")
    }
}

/// Log lines, oldest first.
#[derive(Debug)]
pub struct LogLines {
    response: Response,
    server: String,
    pending: Vec<u8>,
}

impl LogLines {
    pub(super) fn new(response: Response, server: String) -> LogLines {
        LogLines {
            response,
            server,
            pending: Vec::new(),
        }
    }

    /// The next line; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<LogLine>, ApiError> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return self.parse(&line).map(Some);
            }
            if self.pending.len() > LINE_MAX {
                return Err(self.unreadable(format!("a log line longer than {LINE_MAX} bytes")));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.pending.extend_from_slice(&chunk),
                Ok(None) if self.pending.trim_ascii().is_empty() => return Ok(None),
                Ok(None) => {
                    let rest = std::mem::take(&mut self.pending);
                    return self.parse(&rest).map(Some);
                }
                Err(error) => return Err(ApiError::of_request(self.server.clone(), error)),
            }
        }
    }

    fn parse(&self, line: &[u8]) -> Result<LogLine, ApiError> {
        serde_json::from_slice(line).map_err(|error| self.unreadable(error.to_string()))
    }

    fn unreadable(&self, what: String) -> ApiError {
        ApiError::Unreadable {
            server: self.server.clone(),
            what,
        }
    }
}
