//! The one test binary that knocks from outside, a module per behaviour.
//! Links none of our crates: it could judge another program that keeps the same promises.
//!
//! The small language: `serving` starts the real program, `project` writes the folders it serves,
//! `laptop` attaches to it, `knock` asks over HTTP, `signer` as clients of AWS do, `socket` over WebSockets, `frames` over the
//! framed socket, `schema` compares answers with the API's description,
//! `peers` runs other people's clients, `wrapper` runs Node programs with our wrapper at either end of a live channel, `proxy` puts nginx in front,
//! `toolchains` lends compilers, `process` looks at what runs and waits for states.

mod concurrency;
mod failure;
mod frames;
mod integration;
mod knock;
mod laptop;
mod peers;
mod process;
mod project;
mod proxy;
mod schema;
mod serving;
mod signer;
mod socket;
mod tidy;
mod toolchains;
mod wrapper;
