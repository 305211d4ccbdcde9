//! `bungee serve`: the functions server, until a signal.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use model::{Limits, Name, TimeSpan};
use serde::Serialize;
use server::{Options, Server, StartError};

use crate::{
    arguments::{Limited, LogFormat, listen},
    commands::Door,
    ends::{self, Looks},
    exit::{Complaint, Exit, Stop, chain},
    later, service, system,
};

/// Where a server listens when nobody says.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9001";

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee serve --listen 127.0.0.1:9001 --data-dir /srv/bungee")]
pub struct Serve {
    /// Where to listen; may be given more than once [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDR", env = "BUNGEE_LISTEN", hide_env_values = true, value_delimiter = ',', value_parser = listen)]
    listen: Vec<SocketAddr>,
    /// Also speak frames over TCP there, as BunBase's clients do; the Unix socket speaks them always
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    frames_listen: Option<SocketAddr>,
    /// Where everything is kept [default: the user's state folder, /var/lib/bungee for root]
    #[arg(
        long,
        value_name = "DIR",
        env = "BUNGEE_DATA_DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,
    /// The Unix socket, for this machine and this user [default: bungee.sock in the data folder]
    #[arg(
        long,
        value_name = "PATH",
        env = "BUNGEE_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
    /// Ask everybody for a token, on loopback too: do this behind a proxy
    #[arg(long)]
    require_token: bool,
    /// Let no laptop attach: every claim is refused, and all invocations run here
    #[arg(long)]
    no_live: bool,
    /// Also write what functions log to logs/DATE.jsonl in the data folder, as `logs --json` shows it
    #[arg(long)]
    log_jsonl: bool,
    /// The key that seals the secrets of access keys at rest, as 64 hexadecimal digits [default: seal.key in the data folder]
    #[arg(
        long,
        value_name = "FILE",
        env = "BUNGEE_SEAL_KEY",
        hide_env_values = true
    )]
    seal_key: Option<PathBuf>,
    /// How long work in flight may go on after the first signal
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    grace: TimeSpan,
    #[command(flatten)]
    limited: Limited,
}

/// Where a server is, as `--json` shows it.
#[derive(Serialize)]
struct Ready<'a> {
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<SocketAddr>,
    socket: &'a std::path::Path,
    data_dir: &'a std::path::Path,
}

impl Serve {
    /// Serves until the first signal, then ends what is in flight; a second signal ends at once.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        refuse_settings()?;
        service::refuse_database()?;
        let mut signals = listen_for_signals()?;
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => system::data_dir().ok_or_else(|| {
                Complaint::new(Exit::Configuration, "no home folder is known")
                    .hint("name a folder with `--data-dir DIR`")
            })?,
        };
        let home = door
            .global
            .project
            .clone()
            .unwrap_or_else(Name::default_project);
        let options = Options {
            listen: listen_or_default(self.listen)?,
            frames_listen: self.frames_listen,
            next_free_port: false,
            data_dir: data_dir.clone(),
            socket: self.socket,
            home_project: home.clone(),
            require_token: self.require_token,
            live: !self.no_live,
            log_jsonl: self.log_jsonl,
            grace: self.grace.duration(),
            seal_key: self.seal_key,
            limits: limits(&self.limited)?,
            inspect: None,
            program: program()?,
            path: system::path(),
        };
        let server = tokio::select! {
            started = server::start(options) => started.map_err(cannot_start)?,
            () = signals.next() => return Ok(Exit::Done),
        };
        announce(door, &server, &data_dir)?;
        let lines = match (door.printer.quiet, server.ended()) {
            (false, Some(ends)) => {
                let looks = Looks {
                    format: door.global.log_format,
                    with_time: true,
                    palette: door.printer.palette_err(),
                    home,
                };
                ends::write_all(ends, looks).ok()
            }
            (true, _) | (false, None) => None,
        };
        signals.next().await;
        let exit = stop(door, &server, &mut signals, self.grace.duration()).await;
        drop(server);
        if let (Some(lines), Exit::Done) = (lines, exit) {
            // It ends with the server's last invocation; a panic in it has been printed.
            let _panicked = lines.join();
        }
        Ok(exit)
    }
}

/// Ends a server gracefully; the next signal ends it at once, which is a failure.
pub async fn stop(
    door: &Door,
    server: &Server,
    signals: &mut system::Signals,
    grace: Duration,
) -> Exit {
    if door.global.log_format == LogFormat::Text {
        let seconds = grace.as_secs();
        door.printer.note(&format!(
            "stopping; work in flight has up to {seconds} s, a second signal stops at once"
        ));
    }
    tokio::select! {
        () = server.stop() => Exit::Done,
        () = signals.next() => {
            server.kill();
            Exit::Failed
        }
    }
}

/// Starts to listen for the signals that end us.
pub fn listen_for_signals() -> Result<system::Signals, Stop> {
    system::Signals::listen().map_err(|error| {
        Complaint::new(Exit::Failed, format!("cannot listen for signals: {error}")).into()
    })
}

/// Our own program, for workers.
pub fn program() -> Result<PathBuf, Stop> {
    system::program().map_err(|error| {
        Complaint::new(
            Exit::Failed,
            format!("cannot find this program's own file: {error}"),
        )
        .into()
    })
}

/// Refuses a setting of the environment that would have no effect.
pub fn refuse_settings() -> Result<(), Stop> {
    match later::set_in_environment() {
        Some(name) => Err(Complaint::usage(format!("`{name}` arrives later"))
            .hint("unset it: the server would not do what it says")
            .into()),
        None => Ok(()),
    }
}

/// The limits that a server is to hold.
pub fn limits(limited: &Limited) -> Result<Limits, Complaint> {
    limited
        .limits()
        .map_err(|error| Complaint::new(Exit::Usage, error.to_string()))
}

/// What was given, or the default address, perhaps with another port.
pub fn listen_or_default(given: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Complaint> {
    if !given.is_empty() {
        return Ok(given);
    }
    let mut default: Vec<SocketAddr> = listen(DEFAULT_LISTEN).into_iter().collect();
    if let Some(port) = service::port()? {
        default.iter_mut().for_each(|addr| addr.set_port(port));
    }
    Ok(default)
}

/// A server that does not start: its configuration, unless it is the machine.
pub fn cannot_start(error: StartError) -> Complaint {
    Complaint {
        exit: Exit::Configuration,
        message: chain(&error),
        hint: error.hint(),
    }
}

fn announce(door: &Door, server: &Server, data_dir: &std::path::Path) -> Result<(), Stop> {
    let addresses: Vec<String> = server
        .addresses()
        .iter()
        .map(|at| format!("http://{at}"))
        .collect();
    for address in &addresses {
        door.printer.note(&format!("listening on {address}"));
    }
    if let Some(address) = server.frames_at() {
        door.printer.note(&format!("frames at {address}"));
    }
    door.printer
        .note(&format!("data in {}", data_dir.display()));
    if door.printer.json {
        door.printer.json(&Ready {
            addresses,
            frames: server.frames_at(),
            socket: server.socket(),
            data_dir,
        })?;
    }
    Ok(())
}
