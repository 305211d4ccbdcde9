//! What this process asks of the system around it: who it is, where its state lies, which program it is, and when it
//! is told to stop. The one place of the crate that differs between systems.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

/// The name of a server's Unix socket inside its data folder.
pub const SOCKET: &str = "bungee.sock";

/// The server's data folder when nobody names one: of the system for root, else of the user's state folder.
/// `None` where no home is known.
pub fn data_dir() -> Option<PathBuf> {
    if is_root() {
        return Some(PathBuf::from("/var/lib/bungee"));
    }
    let state = env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let state = state.or_else(|| Some(env::home_dir()?.join(".local/state")))?;
    Some(state.join("bungee"))
}

/// The folder of this user's settings. `None` where no home is known.
pub fn config_dir() -> Option<PathBuf> {
    let config = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let config = config.or_else(|| Some(env::home_dir()?.join(".config")))?;
    Some(config.join("bungee"))
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// This program, to be started again as a worker. On Linux the name that stays true when the file is replaced.
pub fn program() -> io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() {
        return Ok(own.to_owned());
    }
    env::current_exe()
}

/// `PATH`, where runtimes are looked for.
pub fn path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// The text of the key that seals what crosses a live channel. Only the environment holds it: what is typed is seen by
/// others, and kept by shells.
pub fn channel_key() -> Option<String> {
    let key = env::var("BUNGEE_KEY").ok();
    key.filter(|key| !key.is_empty())
}

/// Who develops here, as others see it: `ann@laptop`.
pub fn developer() -> String {
    let named = |name: &str| env::var(name).ok().filter(|name| !name.is_empty());
    let user = named("USER").or_else(|| named("USERNAME"));
    let user = user.unwrap_or_else(|| "somebody".into());
    match host() {
        Some(host) => format!("{user}@{host}"),
        None => user,
    }
}

#[cfg(unix)]
fn host() -> Option<String> {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().into_owned();
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(not(unix))]
fn host() -> Option<String> {
    env::var("COMPUTERNAME").ok()
}

/// What is typed, line by line, until there is nothing more.
pub fn typed() -> tokio::sync::mpsc::Receiver<String> {
    let (sender, lines) = tokio::sync::mpsc::channel(16);
    // A read of a terminal cannot be called off: the thread ends with the process.
    let reading = std::thread::Builder::new().name("typed".into());
    let reading = reading.spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    // Without the thread nothing typed is heard, as with a closed stdin.
    drop(reading);
    lines
}

/// Whether a flag was typed, and does not merely stand in the environment.
pub fn is_typed(flag: &str) -> bool {
    env::args().any(|word| {
        let rest = word.strip_prefix(flag);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// The signals that ask for an end, from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens from now on.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Listens from now on.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {})
    }

    /// The next one.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The next one.
    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
