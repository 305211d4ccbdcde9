//! Clients that other people use, unmodified, as `scripts/test` installs them: Python's and JavaScript's.

use std::{env, path::PathBuf, process::Command};

/// Where they are.
#[track_caller]
pub fn peers() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let peers = cache
        .expect("a home folder")
        .join("bungee")
        .join("tools")
        .join("peers");
    let is_whole = peers.join("installed").is_file();
    assert!(is_whole, "run scripts/test once: it installs {peers:?}");
    peers
}

/// A program of the Python peers: `python`, `schemathesis`, `cargo-lambda`.
#[track_caller]
pub fn python(program: &str) -> Command {
    Command::new(peers().join("python/bin").join(program))
}
