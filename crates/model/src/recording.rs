//! A recording: what an invocation was asked and what became of it, as one JSON file that can be replayed.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Digest, FunctionId, HandlerFault, InvocationId, Outcome, REDACTED, Timestamp, Trigger,
    VersionNumber,
};

/// The newest format of a recording that this program reads, and the one that it writes.
pub const RECORDING_FORMAT: u64 = 1;

/// The key that names the format, by which a file is known as a recording.
const MARK: &str = "bungee_recording";

/// What an invocation was asked, and what became of it. Secrets were taken out before it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct Recording {
    /// The format, 1 today.
    pub bungee_recording: u64,
    /// The invocation.
    pub id: InvocationId,
    /// The function that was asked.
    pub function: FunctionId,
    /// The version that ran; `None` if none was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionNumber>,
    /// That version's digest, if it was still there when the recording was exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Where the invocation came from.
    pub trigger: Trigger,
    /// When it arrived.
    pub arrived: Timestamp,
    /// What was asked.
    pub request: RecordedRequest,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RecordedFailure>,
    /// What the handler answered, or began to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<RecordedAnswer>,
    /// The rules that took something out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub enum RecordedRequest {
    /// A web request, to a handler of either kind.
    Web(RecordedWeb),
    /// An event, as JSON.
    Event(Payload),
}

impl RecordedRequest {
    /// Those of the recording's rules that took something out of what was asked.
    pub fn redacted_by<'r>(&self, rules: &'r [String]) -> Vec<&'r str> {
        let (headers, body) = match self {
            RecordedRequest::Web(web) => (web.headers.as_slice(), &web.body),
            RecordedRequest::Event(event) => (&[][..], event),
        };
        let is_here = |rule: &&str| match rule.strip_prefix("header:") {
            Some(name) => headers.iter().any(|(header, _)| header == name),
            None => body
                .text
                .as_deref()
                .is_some_and(|text| text.contains(REDACTED)),
        };
        rules.iter().map(String::as_str).filter(is_here).collect()
    }
}

/// A web request, as the handler got it: without its token, and without what speaks of one connection only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct RecordedWeb {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub url: String,
    /// Its headers, names in small letters, each byte of a value as one character.
    pub headers: Vec<(String, String)>,
    /// Parameters of a declared route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
    /// Its body.
    pub body: Payload,
}

/// What a handler answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct RecordedAnswer {
    /// The status, for web requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The headers, for web requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The response's body, or the result as JSON.
    pub body: Payload,
}

/// Why an invocation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct RecordedFailure {
    /// The message.
    pub message: String,
    /// What the handler threw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<HandlerFault>,
}

/// Bytes in a recording: as text if they are plain text, else in base64, or not there at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct Payload {
    /// How many bytes there were.
    pub size: u64,
    /// The bytes, if they are UTF-8 without control characters other than line breaks and tabs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes in base64, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Whether there were more bytes than were kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Why none of the bytes are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

impl Payload {
    /// The first bytes of so many.
    pub fn of(kept: &[u8], size: u64) -> Payload {
        let mut payload = Payload {
            size,
            cut: (kept.len() as u64) < size,
            ..Payload::default()
        };
        match std::str::from_utf8(kept) {
            Ok("") => {}
            // Control characters take six times their room in JSON.
            Ok(text) if !text.contains(|c: char| c < ' ' && !matches!(c, '\n' | '\r' | '\t')) => {
                payload.text = Some(text.to_owned());
            }
            Ok(_) | Err(_) => payload.base64 = Some(STANDARD.encode(kept)),
        }
        payload
    }

    /// So many bytes, none of which are kept.
    pub fn withheld(size: u64, why: &str) -> Payload {
        Payload {
            size,
            withheld: Some(why.to_owned()),
            ..Payload::default()
        }
    }

    /// The bytes that are here, whole or not; `None` for base64 that is none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.text, &self.base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => STANDARD.decode(base64).ok(),
            (None, None) => Some(Vec::new()),
        }
    }

    /// All bytes, or why they are not here.
    pub fn whole(&self) -> Result<Vec<u8>, String> {
        if let Some(why) = &self.withheld {
            return Err(format!("was not kept: {why}"));
        }
        let bytes = self.bytes().ok_or("is no base64")?;
        if self.cut {
            return Err(format!(
                "was cut: {} of {} bytes were kept",
                bytes.len(),
                self.size
            ));
        }
        Ok(bytes)
    }
}

/// Why something is no recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Something else altogether.
    #[error("it is no recording of Bungee: {0}")]
    Foreign(String),
    /// Written by a later release.
    #[error(
        "it is a recording of format {found}, and this release reads formats up to {RECORDING_FORMAT}; a newer bungee reads it"
    )]
    Newer {
        /// Its format.
        found: u64,
    },
    /// A recording with something wrong in it.
    #[error("the recording is damaged: {0}")]
    Damaged(#[source] serde_json::Error),
}

impl Recording {
    /// A recording as it is written; what a later format adds is not guessed at.
    pub fn read(json: &[u8]) -> Result<Recording, RecordingError> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| RecordingError::Foreign(error.to_string()))?;
        Recording::of(value)
    }

    /// The same, from JSON that was read already.
    pub fn of(value: Value) -> Result<Recording, RecordingError> {
        match value.get(MARK).and_then(Value::as_u64) {
            Some(1..=RECORDING_FORMAT) => {}
            Some(found) => return Err(RecordingError::Newer { found }),
            None => {
                return Err(RecordingError::Foreign(format!(
                    "there is no `{MARK}` in it"
                )));
            }
        }
        serde_json::from_value(value).map_err(RecordingError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [&b""[..], b"text\n", b"\x01", &[0xff, 0]] {
            let payload = Payload::of(bytes, bytes.len() as u64);
            let json = serde_json::to_string(&payload).unwrap();
            let back: Payload = serde_json::from_str(&json).unwrap();
            assert_eq!(back.whole().unwrap(), bytes, "{json}");
        }
    }

    #[test]
    fn what_is_not_whole_says_so() {
        let cut = Payload::of(b"abc", 9);
        assert_eq!(cut.whole().unwrap_err(), "was cut: 3 of 9 bytes were kept");
        let withheld = Payload::withheld(9, "secret");
        assert_eq!(withheld.whole().unwrap_err(), "was not kept: secret");
    }

    #[test]
    fn other_files_and_later_formats_are_refused() {
        let says = |value: Value| Recording::of(value).unwrap_err().to_string();
        assert!(says(json!({})).contains("no recording of Bungee"));
        assert!(says(json!({"bungee_recording": 2})).contains("format 2"));
        assert!(says(json!({"bungee_recording": 1})).contains("damaged"));
        assert!(
            Recording::read(b"{")
                .unwrap_err()
                .to_string()
                .contains("no recording")
        );
    }
}
