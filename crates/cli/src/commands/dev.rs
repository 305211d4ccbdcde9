//! `bungee dev`: the folder's functions, served and reloaded, until Ctrl-C.

mod remote;
mod terminal;
mod way;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use laptop::dev::{self, DevError, Inspect, Options};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    arguments::{Limited, listen},
    commands::{Door, serve},
    ends::Looks,
    exit::{Complaint, Exit, Stop, chain},
    system,
};
use terminal::{Sources, Terminal};

/// How long work in flight may go on after Ctrl-C: whoever develops does not wait for it.
const GRACE: Duration = Duration::from_secs(2);

/// Arguments of `dev`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee dev examples/hello
  curl http://127.0.0.1:9001/functions/hello/Ann

Attached to a server, whose invocations then run here:
  bungee dev --remote https://functions.example.com --when header:x-dev=ann --inspect")]
pub struct Dev {
    /// The folder with the functions
    #[arg(default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Where to listen; may be given more than once [default: 127.0.0.1:9001, or the next free port]
    #[arg(long, value_name = "ADDR", env = "BUNGEE_LISTEN", hide_env_values = true, value_delimiter = ',', value_parser = listen)]
    listen: Vec<SocketAddr>,
    /// Also speak frames over TCP there, as BunBase's clients do; the Unix socket in DIR/.bungee speaks them always
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    frames_listen: Option<SocketAddr>,
    /// Let debuggers attach to Bun and Node workers: a port for each function, from this one on [default: 9229, or the next free port]
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true)]
    inspect: Option<Option<u16>>,
    /// Let no other laptop attach to the server that runs here
    #[arg(long, conflicts_with = "remote")]
    no_live: bool,
    #[command(flatten)]
    remote: remote::Remote,
    #[command(flatten)]
    limited: Limited,
}

/// The first port of debuggers, which editors look at by themselves.
const INSPECT_PORT: u16 = 9229;

impl Dev {
    /// Serves and reloads until a signal.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        serve::refuse_settings()?;
        let mut signals = serve::listen_for_signals()?;
        let place = self.remote.place(door)?;
        if let Some(place) = &place {
            remote::look_at(place).await?;
        }
        let is_explicit = !self.listen.is_empty();
        // Attached, it has nothing to listen for unless that is typed: the environment speaks of servers.
        let listen = match place.is_some() && !system::is_typed("--listen") {
            true => Vec::new(),
            false => serve::listen_or_default(self.listen)?,
        };
        let options = Options {
            dir: self.dir.clone(),
            listen: listen.clone(),
            frames_listen: self.frames_listen,
            next_free_port: !is_explicit,
            grace: GRACE,
            limits: serve::limits(&self.limited)?,
            program: serve::program()?,
            path: system::path(),
            live: !self.no_live,
            inspect: self.inspect.map(|port| Inspect {
                port: port.unwrap_or(INSPECT_PORT),
                is_explicit: port.is_some(),
            }),
            lender: place.as_ref().and_then(|place| place.api.clone()),
        };
        let (sender, events) = unbounded_channel();
        let started = tokio::select! {
            started = dev::Dev::start(options, sender) => started,
            () = signals.next() => return Ok(Exit::Done),
        };
        let dev = started.map_err(cannot_start)?;
        let looks = Looks {
            format: door.global.log_format,
            with_time: false,
            palette: door.printer.palette_err(),
            home: dev.home().clone(),
        };
        let mut terminal = Terminal::new(door, looks, dev.server().debuggers().cloned());
        let mut sources = Sources {
            events,
            ends: dev.server().ended(),
            lines: dev.server().logs(),
            live: None,
            far: None,
            typed: None,
        };
        if let Some(place) = &place {
            self.remote
                .attach(place, &dev, &mut terminal, &mut sources)?;
        }
        terminal
            .welcome(&self.dir, &listen, &dev, &mut sources)
            .await?;
        let over = terminal.watch(&mut sources, &mut signals).await;
        terminal.leave(&mut sources, &mut signals).await;
        let server = dev.unwatch().await;
        let exit = serve::stop(door, &server, &mut signals, GRACE).await;
        terminal.rest(&mut sources);
        match over {
            Some(complaint) => Err(complaint.into()),
            None => Ok(exit),
        }
    }
}

/// What keeps `dev` from starting: the folder, its configuration, or the port.
fn cannot_start(error: DevError) -> Stop {
    match error {
        DevError::Config(error) => error.into(),
        DevError::Server(error) => serve::cannot_start(error).into(),
        DevError::Api(error) => error.into(),
        error @ DevError::State { .. } => Complaint::new(Exit::Configuration, chain(&error)).into(),
    }
}
