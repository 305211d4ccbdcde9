//! Every limit has a name, a default, and stands here.

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, TimeSpan};

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
    /// Request line and headers together.
    pub header_block: ByteSize,
    /// A client has this long to send its request head.
    pub header_read: TimeSpan,
    /// A client may leave its request body silent this long.
    pub body_idle: TimeSpan,
    /// Client connections open at once.
    pub connections: u32,
    /// Records and logs are kept this long.
    pub keep_time: TimeSpan,
    /// … or until they take this much, …
    pub keep_size: ByteSize,
    /// … or until a function has this many, whichever is first.
    pub keep_invocations: u64,
    /// Successful synchronous invocations recorded per function and second; the rest are counted.
    pub records_per_second: u32,
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
            header_block: ByteSize(64 << 10),
            header_read: TimeSpan::seconds(10),
            body_idle: TimeSpan::seconds(30),
            connections: 10_000,
            keep_time: TimeSpan::seconds(7 * 86_400),
            keep_size: ByteSize(1 << 30),
            keep_invocations: 100_000,
            records_per_second: 200,
        }
    }
}
