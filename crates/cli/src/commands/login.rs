//! `bungee login`: keeps a token for a server, once the server has said that it is one of its own.

use std::io::{self, IsTerminal};

use clap::Args;
use laptop::api::{Address, ApiError, Client};
use serde::Serialize;

use crate::{
    commands::Door,
    connection,
    credentials::Credentials,
    exit::{Complaint, Exit, Stop},
};

/// Arguments of `login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee login https://functions.example.com < token.txt
  bungee login --logout https://functions.example.com

The token comes from stdin, where a terminal does not show it, or from `--token`.
It is kept in tokens.json of the user's configuration folder, for its owner only, and goes with every command to that server.")]
pub struct Login {
    /// The server [default: that of `--server`]
    #[arg(value_name = "URL")]
    url: Option<Address>,
    /// Forget the server's token
    #[arg(long)]
    logout: bool,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    server: &'a str,
    /// Whether a token is kept for the server now.
    kept: bool,
}

impl Login {
    /// Verifies and keeps a token, or forgets it.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let server = match self.url {
            Some(url) => url,
            None => connection::address(&door.global)?,
        };
        let mut kept = Credentials::load()?;
        let name = server.to_string();
        if self.logout {
            if !kept.forget(&server)? {
                let message = format!("no token is kept for {name}");
                return Err(Complaint::new(Exit::NotFound, message).into());
            }
            door.printer
                .note(&format!("the token for {name} is forgotten"));
            return tell(door, &name, false);
        }
        if is_open(&server).await? {
            door.printer
                .note(&format!("{name} asks nobody for a token; nothing was kept"));
            return tell(door, &name, false);
        }
        let token = match &door.global.token {
            Some(token) => token.clone(),
            None => read_token(&name)?,
        };
        Client::new(server.clone(), Some(token.clone()))?
            .server()
            .await?;
        kept.keep(&server, token)?;
        door.printer.note(&format!(
            "the token for {name} is kept in {}",
            kept.path().display()
        ));
        tell(door, &name, true)
    }
}

fn tell(door: &Door, server: &str, kept: bool) -> Result<Exit, Stop> {
    if door.printer.json {
        door.printer.json(&LoggedIn { server, kept })?;
    }
    Ok(Exit::Done)
}

/// Whether the server answers whoever has no token.
async fn is_open(server: &Address) -> Result<bool, Stop> {
    match Client::new(server.clone(), None)?.server().await {
        Ok(_) => Ok(true),
        Err(ApiError::Answered { status: 401, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The first line of stdin; a terminal does not show what is typed.
fn read_token(server: &str) -> Result<String, Stop> {
    let failed =
        |error: io::Error| Complaint::new(Exit::Failed, format!("cannot read the token: {error}"));
    let line = if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("token for {server}: ")).map_err(failed)?
    } else {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(failed)?;
        line
    };
    let token = line.trim();
    if token.is_empty() {
        return Err(Complaint::usage("no token came on stdin")
            .hint(
                "pipe it in, like `bungee login URL < token.txt`; `bungee token create` makes one",
            )
            .into());
    }
    Ok(token.to_owned())
}
