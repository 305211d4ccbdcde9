//! The built-in JavaScript engine, as the whole of a sealed child process: no files, no network, no processes.
//! Linked into our binary, but never runs in the server's own process. The wire is described in docs/protocol.md.

mod clock;
mod console;
mod context;
mod engine;
mod fault;
mod globals;
mod handler;
mod heap;
mod image;
mod modules;
mod seal;
mod serve;
mod wire;

use std::process::ExitCode;

/// For this crate's own test and bench, which need the parts without the process around them.
#[doc(hidden)]
pub mod inside {
    pub use crate::{
        engine::Engine,
        seal::seal,
        wire::{Answer, Request},
    };
}

/// Seals this process and prints the layers that could not be had, one a line. Called by the hidden command `isolate-seal`,
/// for `doctor`.
pub fn check_seal() -> ExitCode {
    let (text, code) = match seal::seal(CHECK_MEMORY_MB) {
        Ok(gaps) => (gaps.join("\n"), ExitCode::SUCCESS),
        Err(error) => (format!("cannot be sealed: {error}"), ExitCode::FAILURE),
    };
    let said = if code == ExitCode::SUCCESS {
        std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())
    } else {
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes())
    };
    match said {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Enough for a process that prints a few lines, in MiB.
const CHECK_MEMORY_MB: u64 = 64;

/// The life of an isolate child: seals itself, says that it is ready, and answers on descriptor 4 until that closes.
///
/// Reads `BUNGEE_BOOT` from the environment. Called by the hidden command `isolate-worker` before anything else runs.
pub fn run_worker() -> ExitCode {
    match serve::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Descriptor 2 is read by the server and becomes a log line.
            std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("isolate: {error}\n").as_bytes(),
            )
            .ok();
            ExitCode::FAILURE
        }
    }
}
