//! What a server is told at its start, and why it may refuse to start.

use std::{ffi::OsString, io, net::SocketAddr, path::PathBuf, time::Duration};

use model::{Limits, Name};
use store::{OpenError, StoreError};
use workers::Inspect;

use crate::keys::SealError;

/// What a server is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where frames of the BunBase profile are spoken over TCP, if anywhere; port 0 takes a free one.
    pub frames_listen: Option<SocketAddr>,
    /// Where a port is taken, the next free one is used.
    pub next_free_port: bool,
    /// Everything that survives a restart lies here; created if need be.
    pub data_dir: PathBuf,
    /// The Unix socket; `<data_dir>/bungee.sock` if not given.
    pub socket: Option<PathBuf>,
    /// The project of paths and names that name none.
    pub home_project: Name,
    /// Ask for a token even on loopback, and even while there is none.
    pub require_token: bool,
    /// Laptops may attach and claim functions.
    pub live: bool,
    /// Log lines also go to daily files in `<data_dir>/logs`.
    pub log_jsonl: bool,
    /// How long what is in flight may take when the server goes down.
    pub grace: Duration,
    /// The key that seals secrets at rest; `<data_dir>/seal.key`, made at first need, if not given.
    pub seal_key: Option<PathBuf>,
    /// Every limit.
    pub limits: Limits,
    /// Let debuggers attach to workers, on these ports.
    pub inspect: Option<Inspect>,
    /// Our own binary: it also is the isolate child and the sentinel.
    pub program: PathBuf,
    /// `PATH`, where runtimes are looked for.
    pub path: OsString,
}

impl Options {
    /// A server on 127.0.0.1:9001 with a data folder, started from `program`; everything else by default.
    pub fn new(data_dir: PathBuf, program: PathBuf) -> Options {
        Options {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 9001))],
            frames_listen: None,
            next_free_port: false,
            data_dir,
            socket: None,
            home_project: Name::default_project(),
            require_token: false,
            live: true,
            log_jsonl: false,
            grace: Duration::from_secs(30),
            seal_key: None,
            limits: Limits::default(),
            inspect: None,
            program,
            path: OsString::new(),
        }
    }
}

/// Why a server did not start. Nothing of it stays behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error("the address {addr} is in use")]
    PortTaken {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The address is open to others, and nobody has a token.
    #[error(
        "{addr} can be reached by other machines, and there is no token to tell friends from strangers"
    )]
    NeedsToken {
        /// The address.
        addr: SocketAddr,
        /// The data folder, where the first token can be made while nobody serves it.
        data_dir: PathBuf,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The store was opened and then failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another server answers on the Unix socket.
    #[error("another server listens on the socket {}", path.display())]
    SocketTaken {
        /// The socket.
        path: PathBuf,
    },
    /// The Unix socket cannot be made.
    #[error("cannot listen on the socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// No port can be opened for a debugger.
    #[error("cannot listen for debuggers on port {port}")]
    DebuggerPort {
        /// The first port.
        port: u16,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// There is nothing to seal secrets with.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What starts workers cannot be started.
    #[error("cannot prepare the workers")]
    Workers(#[source] io::Error),
}

impl StartError {
    /// The next step, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            StartError::PortTaken { .. } => Some(
                "stop the other program, or choose another address with `--listen 127.0.0.1:PORT`, or `--frames-listen` for frames"
                    .into(),
            ),
            StartError::Listen { .. } => Some("choose another address with `--listen`".into()),
            StartError::NeedsToken { data_dir, .. } => Some(format!(
                "make one first: bungee token create --role admin --data-dir {}",
                data_dir.display()
            )),
            StartError::Folder(error) => error.hint().map(str::to_owned),
            StartError::SocketTaken { .. } => Some("choose another one with `--socket`".into()),
            StartError::Socket { .. } => {
                Some("choose a shorter or a writable path with `--socket`".into())
            }
            StartError::DebuggerPort { .. } => {
                Some("stop the other program, or choose another port with `--inspect=PORT`".into())
            }
            StartError::Seal(_) => Some(
                "make one with `openssl rand -hex 32 > FILE`, and name it with `--seal-key FILE`"
                    .into(),
            ),
            StartError::Store(_) | StartError::Workers(_) => None,
        }
    }
}
