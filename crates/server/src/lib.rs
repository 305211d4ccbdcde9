//! The functions server: gateway, API, access, records and lifecycle. Where rooms meet.
//! Holds no SQL, starts no process that runs user code, and reads neither arguments nor environment.

mod api;
mod app;
mod auth;
mod bodies;
mod builds;
mod bunbase;
mod bundles;
mod clock;
mod context;
mod deploys;
mod door;
mod errors;
mod forward;
mod frames;
mod function_url;
mod gateway;
mod guard;
mod guests;
mod health;
mod invoke;
mod invoker;
mod journal;
mod jsonl;
mod keys;
mod lambda;
mod layers;
mod lifecycle;
mod listen;
mod live;
mod logs;
mod marks;
mod metrics;
mod options;
mod queue;
mod registry;
mod relay;
mod reply;
mod rights;
mod service;
mod serving;
mod sockets;
mod tape;
mod workbench;

pub use builds::Building;
pub use clock::SystemClock;
pub use guests::{Guest, GuestAnswer, GuestBody};
pub use journal::Ended;
pub use keys::SealError;
pub use lifecycle::{Server, start};
pub use live::{from_pairs, to_pairs};
pub use options::{Options, StartError};
pub use relay::{Relay, RelayError, RelayOptions};
pub use workbench::Workbench;
pub use workers::{
    Debugger, Debuggers, Inspect, find_program, is_debuggable, machine, run_sentinel,
};
