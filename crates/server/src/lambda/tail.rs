//! The end of an invocation's log, as AWS hands it to the caller who asks for it.

use base64::{Engine, engine::general_purpose::STANDARD};
use model::{ByteSize, InvocationId, LogLine, Runtime, Timestamp};
use serde_json::Value;

use super::verdict::{FunctionError, How};
use crate::serving::Deployed;

/// Bytes of the log that the caller gets.
const TAIL: usize = 4096;

/// What is reported of an invocation.
pub(crate) struct Report<'a> {
    pub id: InvocationId,
    pub deployed: &'a Deployed,
    /// The version as the caller knows it.
    pub version: &'a str,
    pub ran_us: u64,
    /// How long the start of a worker took, if one was started for it.
    pub init_us: Option<u64>,
    pub memory: Option<ByteSize>,
    /// How it failed, if it did.
    pub error: Option<&'a FunctionError>,
}

impl Report<'_> {
    /// The last of these lines, between those of the platform, in base64.
    pub(crate) fn tail(&self, lines: &[LogLine]) -> String {
        let text = self.text(lines);
        let from = text.len().saturating_sub(TAIL);
        STANDARD.encode(&text.as_bytes()[from..])
    }

    fn text(&self, lines: &[LogLine]) -> String {
        let Report { id, version, .. } = self;
        let mut text = format!("START RequestId: {id} Version: {version}\n");
        for line in lines {
            text.push_str(&self.line(line));
        }
        if let Some(error) = self.error {
            text.push_str(&self.failed(error, lines));
        }
        let settings = &self.deployed.version.settings;
        let millis = |us: u64| us as f64 / 1000.0;
        text.push_str(&format!("END RequestId: {id}\nREPORT RequestId: {id}\t"));
        text.push_str(&format!(
            "Duration: {:.2} ms\tBilled Duration: {} ms\tMemory Size: {} MB\t",
            millis(self.ran_us),
            self.ran_us.div_ceil(1000),
            settings.memory.0 >> 20
        ));
        if let Some(memory) = self.memory {
            text.push_str(&format!(
                "Max Memory Used: {} MB\t",
                memory.0.div_ceil(1 << 20)
            ));
        }
        if let Some(us) = self.init_us {
            text.push_str(&format!("Init Duration: {:.2} ms\t", millis(us)));
        }
        text.push('\n');
        text
    }

    /// How it failed, as runtimes and the platform of AWS write it.
    fn failed(&self, error: &FunctionError, lines: &[LogLine]) -> String {
        let id = self.id;
        // An id begins with the milliseconds of its making.
        let at = (id.to_words().0 >> 16).saturating_add(self.ran_us / 1000);
        let at = moment(Timestamp(i64::try_from(at).unwrap_or(0)));
        let FunctionError {
            error_type, body, ..
        } = error;
        let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = body["errorMessage"].as_str().unwrap_or_default().to_owned();
        match error.how {
            How::TimedOut => {
                let words = message
                    .split_once("Error: ")
                    .map_or(&*message, |(_, it)| it);
                format!("{at} {id} {words}\n\n")
            }
            How::Ended => format!("{message}\n{error_type}\n"),
            How::Thrown | How::NotLoaded if self.is_javascript() => {
                let what = match error.how {
                    How::Thrown => "Invoke Error",
                    _ => "Uncaught Exception",
                };
                if let Value::Object(body) = &mut body
                    && let Some(trace) = body.remove("trace")
                {
                    body.insert("stack".into(), trace);
                }
                format!("{at}\t{id}\tERROR\t{what} \t{body}\n")
            }
            How::Thrown | How::NotLoaded => {
                let first = format!("[ERROR] {error_type}: {message}");
                // Some clients of the Runtime API write it themselves.
                if lines.iter().any(|line| line.text.starts_with(&first)) {
                    return String::new();
                }
                let stack = body["stackTrace"].as_array().into_iter().flatten();
                let stack = stack.filter_map(Value::as_str).map(str::trim_end);
                let stack: Vec<&str> = stack.collect();
                match stack.is_empty() {
                    true => format!("{first}\n"),
                    false => format!(
                        "{first}\nTraceback (most recent call last):\n{}\n",
                        stack.join("\n")
                    ),
                }
            }
        }
    }

    fn is_javascript(&self) -> bool {
        match self.deployed.version.settings.runtime {
            Runtime::Isolate | Runtime::Bun | Runtime::Node => true,
            Runtime::Python | Runtime::Provided => false,
        }
    }

    /// One line. On AWS those of JavaScript carry time, id and level; the others are as they were written.
    fn line(&self, line: &LogLine) -> String {
        let LogLine {
            at, level, text, ..
        } = line;
        if !self.is_javascript() {
            return format!("{text}\n");
        }
        let (at, level) = (moment(*at), level.as_str().to_ascii_uppercase());
        format!("{at}\t{}\t{level}\t{text}\n", self.id)
    }
}

/// A time as AWS writes it in logs.
fn moment(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
