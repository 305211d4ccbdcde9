//! The end of an invocation's log, as AWS hands it to the caller who asks for it.

use base64::{Engine, engine::general_purpose::STANDARD};
use model::{ByteSize, InvocationId, LogLine, Runtime};

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

    /// One line. On AWS those of JavaScript carry time, id and level; the others are as they were written.
    fn line(&self, line: &LogLine) -> String {
        let LogLine {
            at, level, text, ..
        } = line;
        match self.deployed.version.settings.runtime {
            Runtime::Isolate | Runtime::Bun | Runtime::Node => {
                let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
                let at = at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
                let level = level.as_str().to_ascii_uppercase();
                format!("{at}\t{}\t{level}\t{text}\n", self.id)
            }
            Runtime::Python | Runtime::Provided => format!("{text}\n"),
        }
    }
}
