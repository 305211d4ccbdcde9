//! `bungee relay`: the live channel on its own, until a signal.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;
use server::{RelayError, RelayOptions};

use crate::{
    arguments::{LogFormat, listen},
    commands::{Door, serve::listen_for_signals},
    exit::{Complaint, Exit, Stop, chain},
};

/// Where a relay listens when nobody says.
const DEFAULT_LISTEN: &str = "127.0.0.1:24193";

/// Arguments of `relay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  BUNGEE_SECRET=$(openssl rand -hex 32) bungee relay --listen 0.0.0.0:24193"
)]
pub struct Relay {
    /// Where to listen; may be given more than once [default: 127.0.0.1:24193]
    #[arg(long, value_name = "ADDR", env = "BUNGEE_LISTEN", hide_env_values = true, value_delimiter = ',', value_parser = listen)]
    listen: Vec<SocketAddr>,
    /// What everybody on the channel has to show, as BUNGEE_TOKEN or within BUNGEE_KEY; local programs need none without it
    #[arg(
        long,
        value_name = "SECRET",
        env = "BUNGEE_SECRET",
        hide_env_values = true
    )]
    secret: Option<String>,
}

/// Where a relay is, as `--json` shows it.
#[derive(Serialize)]
struct Ready {
    addresses: Vec<String>,
    /// Local programs need no secret.
    open: bool,
}

impl Relay {
    /// Relays until the first signal, then says goodbye to everybody; a second signal ends at once.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let mut signals = listen_for_signals()?;
        let listen = if self.listen.is_empty() {
            listen(DEFAULT_LISTEN).into_iter().collect()
        } else {
            self.listen
        };
        let secret = self.secret;
        let relay = server::Relay::start(&RelayOptions { listen, secret }).map_err(cannot_start)?;
        announce(door, &relay)?;
        signals.next().await;
        if door.global.log_format == LogFormat::Text {
            door.printer.note("stopping; a second signal stops at once");
        }
        tokio::select! {
            () = relay.stop() => Ok(Exit::Done),
            () = signals.next() => Ok(Exit::Failed),
        }
    }
}

/// A relay that does not start: its configuration.
fn cannot_start(error: RelayError) -> Complaint {
    Complaint {
        exit: Exit::Configuration,
        message: chain(&error),
        hint: error.hint(),
    }
}

fn announce(door: &Door, relay: &server::Relay) -> Result<(), Stop> {
    let addresses: Vec<String> = relay
        .addresses()
        .iter()
        .map(|at| format!("ws://{at}"))
        .collect();
    for address in &addresses {
        door.printer.note(&format!("relaying on {address}"));
    }
    let open = relay.is_open();
    if open {
        door.printer
            .note("open to programs of this machine; with BUNGEE_SECRET it asks for that");
    }
    if door.printer.json {
        door.printer.json(&Ready { addresses, open })?;
    }
    Ok(())
}
