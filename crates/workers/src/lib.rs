//! Starts, watches and stops the processes that run user code, and exchanges invocations with them.
//! Knows nothing of routes, callers or the database.

mod blank;
mod body;
mod breaks;
mod cgroup;
mod environment;
mod exchange;
mod exec;
mod house;
mod inspect;
mod limit;
pub mod machine;
mod opt;
mod output;
mod owner;
mod past;
mod pool;
mod process;
mod runtime;
mod runtime_api;
mod slots;
mod socket;
mod spare;
mod spawner;
mod start;
mod trace;
mod version;
mod watch;
mod wire;
mod worker;

pub use body::{Body, BodyError, Streamed};
pub use exchange::Answer;
pub use house::{Kept, LogSink, Options, Workers};
pub use inspect::{Debugger, Debuggers, Inspect, is_debuggable};
pub use pool::{Counts, Lease, Pool};
pub use runtime::{INSTALL_NODE, INSTALL_PYTHON, find_program};
pub use socket::Socket;
pub use spawner::run_sentinel;
pub use version::Version;
pub use worker::WorkerRef;
