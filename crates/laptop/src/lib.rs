//! What runs on a developer's machine: the client of a server's API, the deploy flow, `init`, `dev` and what attaches it to a server elsewhere.
//! Prints nothing, reads no environment and never exits: whoever calls it does.

pub mod api;
pub mod bench;
pub mod deploy;
pub mod dev;
pub mod init;
pub mod keys;
pub mod remote;
