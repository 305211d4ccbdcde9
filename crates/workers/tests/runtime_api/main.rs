//! Runtime clients behind a real pool: what the Runtime API answers them, what their callers get, what their deaths cost.
//! The client is a program of our own that does whatever an event says, right or wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(
    clippy::disallowed_methods,
    reason = "here the world outside begins: its clock and its environment"
)]

mod calls;
mod clients;
mod deaths;
mod init;
mod streams;
mod world;
