//! `bungee token`: access. The first token comes over the server's Unix socket, which only the user that runs it may use.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use laptop::api::{Address, Client};
use model::TimeSpan;

use crate::{
    commands::Door,
    connection,
    exit::{Complaint, Exit, Stop},
    later, system, table,
};

/// Roles that a token may have.
const ROLES: [&str; 3] = ["admin", "deploy", "invoke"];

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  bungee token create --role deploy --expires 30d\n  bungee token list"
)]
pub struct Token {
    #[command(subcommand)]
    action: Action,
    /// The server's data folder, whose socket is used when no token is given
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "BUNGEE_DATA_DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,
    /// The server's Unix socket [default: <data-dir>/bungee.sock]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "BUNGEE_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token; it is shown once
    #[command(after_help = "Example:\n  bungee token create --role deploy --expires 30d")]
    Create {
        /// What it allows: admin, deploy or invoke
        #[arg(long, value_parser = role)]
        role: String,
        /// It ends after this, like `30d` [default: never]
        #[arg(long, value_name = "SPAN")]
        expires: Option<TimeSpan>,
    },
    /// Show every token, without its secret
    #[command(after_help = "Example:\n  bungee token list --json")]
    List,
    /// End a token
    #[command(after_help = "Example:\n  bungee token revoke ID")]
    Revoke {
        /// The token's id, as `token list` shows it
        id: String,
    },
}

fn role(text: &str) -> Result<String, String> {
    if later::ROLES.contains(&text) {
        return Err(format!("the role `{text}` arrives later"));
    }
    match ROLES.iter().find(|role| **role == text) {
        Some(role) => Ok((*role).to_owned()),
        None => Err(format!("`{text}` is none of: {}", ROLES.join(", "))),
    }
}

impl Token {
    /// Makes, shows or revokes.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = self.connect(door)?;
        match self.action {
            Action::Create { role, expires } => create(door, &client, &role, expires).await,
            Action::List => list(door, &client).await,
            Action::Revoke { id } => {
                client.revoke_token(&id).await?;
                door.printer.note(&format!("token {id} is revoked"));
                Ok(Exit::Done)
            }
        }
    }

    /// With a token, or with a server that was named, over that; else over the Unix socket.
    fn connect(&self, door: &Door) -> Result<Client, Stop> {
        let named = self
            .socket
            .clone()
            .or(self.data_dir.as_ref().map(|dir| dir.join(system::SOCKET)));
        if let Some(socket) = named {
            return Ok(Client::new(
                Address::Socket(socket),
                door.global.token.clone(),
            )?);
        }
        if door.global.token.is_some() || door.global.server.is_some() {
            return connection::connect(&door.global);
        }
        let here = PathBuf::from(".bungee").join(system::SOCKET);
        let default = system::data_dir().map(|dir| dir.join(system::SOCKET));
        match default
            .into_iter()
            .chain([here])
            .find(|socket| socket.exists())
        {
            Some(socket) => Ok(Client::new(Address::Socket(socket), None)?),
            None => Err(Complaint::new(
                Exit::Unreachable,
                "no server's Unix socket is where it lies by default",
            )
            .hint("start `bungee serve`, or name its folder with `--data-dir DIR`")
            .into()),
        }
    }
}

async fn create(
    door: &Door,
    client: &Client,
    role: &str,
    expires: Option<TimeSpan>,
) -> Result<Exit, Stop> {
    let made = client
        .create_token(role, expires.map(|span| span.0))
        .await?;
    if door.printer.json {
        door.printer.json(&made)?;
        return Ok(Exit::Done);
    }
    let end = made.expires_at.map_or("never ends".into(), |at| {
        format!("ends {}", table::time(at))
    });
    door.printer.note(&format!(
        "token {} with the role {} {end}; it is shown only now:",
        made.id, made.role
    ));
    door.printer.line(&made.token)?;
    Ok(Exit::Done)
}

async fn list(door: &Door, client: &Client) -> Result<Exit, Stop> {
    let tokens = client.tokens().await?;
    if door.printer.json {
        door.printer.json(&tokens)?;
        return Ok(Exit::Done);
    }
    if tokens.is_empty() {
        door.printer
            .note("no tokens yet; `bungee token create --role admin` makes one");
        return Ok(Exit::Done);
    }
    let rows = tokens.iter().map(|token| {
        vec![
            token.id.clone(),
            token.role.clone(),
            token.created_at.map_or("-".into(), table::time),
            token.expires_at.map_or("never".into(), table::time),
        ]
    });
    door.printer
        .line(&table::render(&["ID", "ROLE", "CREATED", "ENDS"], rows))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_are_not_built_say_so() {
        assert_eq!(role("admin").unwrap(), "admin");
        assert_eq!(role("live").unwrap_err(), "the role `live` arrives later");
        assert!(role("root").unwrap_err().contains("admin, deploy, invoke"));
    }
}
