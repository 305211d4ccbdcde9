//! Every limit has a name, a default, and stands here.

use serde::{Deserialize, Serialize};

use serde_json::Value;

use crate::{
    nearest,
    units::{ByteSize, TimeSpan},
};

/// The server's limits. `bungee info` shows them; errors name them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest event, and largest result of an event handler.
    pub event: ByteSize,
    /// Largest streamed response of a web handler.
    pub streamed_response: ByteSize,
    /// Largest body of a web request.
    pub web_request_body: ByteSize,
    /// Largest bundle, unpacked.
    pub bundle_unpacked: ByteSize,
    /// Most files in one bundle.
    pub bundle_files: u64,
    /// All environment variables of one function, names and values.
    pub env: ByteSize,
    /// Logs of one invocation; then a marker line, then nothing.
    pub logs_per_invocation: ByteSize,
    /// Longest `timeout` that a function may ask for.
    pub timeout: TimeSpan,
    /// From the start of a worker to its readiness.
    pub init: TimeSpan,
    /// Deepest `queue.depth` that a function may ask for.
    pub queue_depth: u32,
    /// Most `workers.max` that a function may ask for.
    pub workers: u32,
    /// Most `concurrency` that a function may ask for.
    pub concurrency: u32,
    /// Most aliases of one function, `current` among them: each may hold workers of its own.
    pub aliases: u32,
    /// Request line and headers together.
    pub header_block: ByteSize,
    /// A client has this long to send its request head.
    pub header_read: TimeSpan,
    /// A client may leave its request body silent this long.
    pub body_idle: TimeSpan,
    /// Server-sent events and WebSockets may pass no byte for this long.
    pub stream_idle: TimeSpan,
    /// Client connections open at once.
    pub connections: u32,
    /// Requests of one connection that speaks frames which are worked on at once; the next is read when one is answered.
    pub frames_in_flight: u32,
    /// Large frames of all connections that come or are worked on, and as much again of answers that nobody has read yet.
    pub frames_memory: ByteSize,
    /// A worker this old takes no more, and another takes its place.
    pub worker_age: TimeSpan,
    /// … and so does one that has run this many invocations, …
    pub worker_invocations: u64,
    /// … or one that holds this much of its `memory` between invocations, in percent.
    pub worker_memory: u32,
    /// Records and logs are kept this long.
    pub keep_time: TimeSpan,
    /// … or until they take this much, …
    pub keep_size: ByteSize,
    /// … or until a function has this many, whichever is first.
    pub keep_invocations: u64,
    /// Bytes of one recording's request; what is longer is kept cut.
    pub recorded_request: ByteSize,
    /// Bytes of one recording's answer; what is longer is kept cut.
    pub recorded_answer: ByteSize,
    /// All recordings together; the oldest go first.
    pub keep_recordings: ByteSize,
    /// Successful synchronous invocations recorded per function and second; the rest are counted.
    pub records_per_second: u32,
    /// Source code that is kept in memory for whoever asks for it: bytes of all together …
    pub code_cache: ByteSize,
    /// … and how long each is kept.
    pub code_cache_age: TimeSpan,
    /// Largest event that is queued.
    pub async_event: ByteSize,
    /// Most events in the queue, those that run among them.
    pub async_depth: u32,
    /// Most queued events that run at once.
    pub async_running: u32,
    /// A queued event is tried again this long after it failed, and after twice that once more.
    pub async_retry: TimeSpan,
    /// An event that is still queued after this is given up.
    pub async_age: TimeSpan,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            event: ByteSize::mebibytes(6),
            streamed_response: ByteSize::mebibytes(200),
            web_request_body: ByteSize::mebibytes(100),
            bundle_unpacked: ByteSize::mebibytes(250),
            bundle_files: 20_000,
            env: ByteSize(64 << 10),
            logs_per_invocation: ByteSize(256 << 10),
            timeout: TimeSpan::seconds(900),
            init: TimeSpan::seconds(10),
            queue_depth: 100_000,
            workers: 1000,
            concurrency: 1000,
            aliases: 100,
            header_block: ByteSize(64 << 10),
            header_read: TimeSpan::seconds(10),
            body_idle: TimeSpan::seconds(30),
            stream_idle: TimeSpan::seconds(300),
            connections: 10_000,
            frames_in_flight: 64,
            frames_memory: ByteSize::mebibytes(256),
            worker_age: TimeSpan::seconds(86_400),
            worker_invocations: 10_000_000,
            worker_memory: 80,
            keep_time: TimeSpan::seconds(7 * 86_400),
            keep_size: ByteSize(1 << 30),
            keep_invocations: 100_000,
            recorded_request: ByteSize::mebibytes(6),
            recorded_answer: ByteSize(256 << 10),
            keep_recordings: ByteSize::mebibytes(256),
            records_per_second: 200,
            code_cache: ByteSize::mebibytes(16),
            code_cache_age: TimeSpan::seconds(600),
            async_event: ByteSize::mebibytes(1),
            async_depth: 100_000,
            async_running: 100,
            async_retry: TimeSpan::seconds(60),
            async_age: TimeSpan::seconds(6 * 3600),
        }
    }
}

/// Why a limit was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// There is no limit of this name.
    #[error("there is no limit `{name}`{}", did_you_mean(.nearest.as_deref()))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The limit that was probably meant.
        nearest: Option<String>,
    },
    /// The value is none of its kind.
    #[error("the limit `{name}` cannot be `{value}`: {reason}")]
    Value {
        /// The limit.
        name: String,
        /// What it should have become.
        value: String,
        /// Why not.
        reason: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!("; did you mean `{name}`?"))
}

impl Limits {
    /// Changes the limit of this name; sizes and spans are written with their unit.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
        let refused = |reason: &str| LimitError::Value {
            name: name.into(),
            value: value.into(),
            reason: reason.into(),
        };
        let Ok(Value::Object(mut all)) = serde_json::to_value(&*self) else {
            return Err(refused("the limits cannot be listed"));
        };
        let Some(place) = all.get_mut(name) else {
            let nearest = nearest(name, all.keys().map(String::as_str)).map(String::from);
            let name = name.into();
            return Err(LimitError::Unknown { name, nearest });
        };
        if value.trim_start().starts_with('0') {
            return Err(refused("a limit is more than zero"));
        }
        *place = if place.is_number() {
            let number: u64 = value.parse().map_err(|_| refused("it is a whole number"))?;
            number.into()
        } else {
            value.into()
        };
        let changed: Limits = serde_json::from_value(Value::Object(all))
            .map_err(|error| refused(&error.to_string()))?;
        if changed.worker_memory > 100 {
            return Err(refused("it is a percentage"));
        }
        *self = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_changed_by_name() {
        let mut limits = Limits::default();
        limits.set("worker_age", "5m").unwrap();
        limits.set("event", "1MB").unwrap();
        limits.set("workers", "7").unwrap();
        assert_eq!(limits.worker_age, TimeSpan::seconds(300));
        assert_eq!(limits.event, ByteSize::mebibytes(1));
        assert_eq!(limits.workers, 7);
        let says = |name, value| Limits::default().set(name, value).unwrap_err().to_string();
        assert_eq!(
            says("worker_agee", "5m"),
            "there is no limit `worker_agee`; did you mean `worker_age`?"
        );
        for (name, value, why) in [
            ("worker_age", "5", "5"),
            ("workers", "many", "whole number"),
            ("workers", "0", "more than zero"),
            ("event", "0MB", "more than zero"),
            ("connections", "99999999999", "invalid value"),
            ("worker_memory", "200", "percentage"),
        ] {
            assert!(says(name, value).contains(why), "{}", says(name, value));
        }
    }
}
