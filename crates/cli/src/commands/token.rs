//! `bungee token`: access. The first token comes over the server's Unix socket, which only the user that runs it may use.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use laptop::{
    api::{Address, ApiError, Client, CreatedToken},
    keys,
};
use model::{TimeSpan, nearest};
use serde::Serialize;
use server::Server;

use crate::{
    commands::{Door, serve},
    connection,
    exit::{Complaint, Exit, Stop},
    system, table,
};

/// Roles that a token may have.
const ROLES: [&str; 5] = ["admin", "deploy", "live", "invoke", "bridge"];

/// The role whose token is worth little without the key that seals.
const BRIDGE: &str = "bridge";

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
    /// The server's Unix socket [default: bungee.sock in the data folder]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "BUNGEE_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
    /// The server's seal key, for a data folder that nobody serves [default: seal.key in it]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "BUNGEE_SEAL_KEY",
        hide_env_values = true
    )]
    seal_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token; it is shown once
    #[command(after_help = "\
Example:
  bungee token create --role deploy --expires 30d
  bungee token create --role live --user ann
  bungee token create --role deploy --aws
  export BUNGEE_KEY=$(bungee token create --role bridge)

A bridge's is printed as its whole BUNGEE_KEY: the token, and a key that seals what it sends, which no server knows.")]
    Create {
        /// What it allows: admin, deploy, live (attach a laptop), invoke or bridge (offer invocations from elsewhere)
        #[arg(long)]
        role: String,
        /// Whom it stands for: live sessions may ask for this user's requests
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// It ends after this, like `30d` [default: never]
        #[arg(long, value_name = "SPAN")]
        expires: Option<TimeSpan>,
        /// Make an access key instead, by which boto3 and other clients of AWS Lambda sign what they ask
        #[arg(long)]
        aws: bool,
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

/// Refuses a role that is none.
fn check_role(text: &str) -> Result<(), Complaint> {
    if ROLES.contains(&text) {
        return Ok(());
    }
    let complaint = Complaint::usage(format!("`{text}` is no role"));
    Err(match nearest(text, ROLES) {
        Some(near) => complaint.hint(format!("did you mean `{near}`?")),
        None => complaint.hint(format!("use one of: {}", ROLES.join(", "))),
    })
}

/// How a server's tokens are reached.
struct Via {
    client: Client,
    /// A server of our own without any address, for a data folder that nobody serves.
    own: Option<Server>,
}

impl Token {
    /// Makes, shows or revokes.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        if let Action::Create { role, .. } = &self.action {
            check_role(role)?;
        }
        let Via { client, own } = self.connect(door).await?;
        let done = match self.action {
            Action::Create {
                role,
                user,
                expires,
                aws: false,
            } => create(door, &client, &role, user.as_deref(), expires).await,
            Action::Create {
                role,
                user,
                expires,
                aws: true,
            } => create_access_key(door, &client, &role, user.as_deref(), expires).await,
            Action::List => list(door, &client).await,
            Action::Revoke { id } => revoke(door, &client, &id).await,
        };
        if let Some(server) = own {
            server.stop().await;
        }
        done.map(|()| Exit::Done)
    }

    /// With a token, typed or kept, or with a server that was named, over that; else over the Unix socket; else on the data folder.
    async fn connect(&self, door: &Door) -> Result<Via, Stop> {
        let named = self
            .socket
            .clone()
            .or(self.data_dir.as_ref().map(|dir| dir.join(system::SOCKET)));
        if let Some(socket) = named {
            let via = over(socket, door)?;
            let is_silent = matches!(
                via.client.server().await,
                Err(ApiError::Unreachable { .. } | ApiError::NoSocket { .. })
            );
            return match (&self.socket, &self.data_dir) {
                (None, Some(dir)) if is_silent && dir.is_dir() => {
                    on_folder(dir, self.seal_key.clone()).await
                }
                _ => Ok(via),
            };
        }
        let logged_in = connection::kept_token(&connection::address(&door.global)?).is_some();
        if door.global.token.is_some() || door.global.server.is_some() || logged_in {
            let client = connection::connect(&door.global)?;
            return Ok(Via { client, own: None });
        }
        let here = PathBuf::from(".bungee").join(system::SOCKET);
        let default = system::data_dir().map(|dir| dir.join(system::SOCKET));
        match default
            .into_iter()
            .chain([here])
            .find(|socket| socket.exists())
        {
            Some(socket) => over(socket, door),
            None => {
                let complaint = Complaint::new(
                    Exit::Unreachable,
                    "no server's Unix socket is where it lies by default",
                );
                Err(complaint
                    .hint("start `bungee serve`, or name its folder with `--data-dir DIR`")
                    .into())
            }
        }
    }
}

fn over(socket: PathBuf, door: &Door) -> Result<Via, Stop> {
    let client = Client::new(Address::Socket(socket), door.global.token.clone())?;
    Ok(Via { client, own: None })
}

/// Nobody serves the folder: a server without an address does, for as long as this command takes.
async fn on_folder(dir: &Path, seal_key: Option<PathBuf>) -> Result<Via, Stop> {
    let mut options = server::Options::new(dir.to_owned(), serve::program()?);
    options.listen.clear();
    options.seal_key = seal_key;
    let server = server::start(options).await.map_err(serve::cannot_start)?;
    let client = Client::new(Address::Socket(server.socket().to_owned()), None)?;
    Ok(Via {
        client,
        own: Some(server),
    })
}

async fn revoke(door: &Door, client: &Client, id: &str) -> Result<(), Stop> {
    client.revoke_token(id).await?;
    door.printer.note(&format!("token {id} is revoked"));
    Ok(())
}

async fn create(
    door: &Door,
    client: &Client,
    role: &str,
    user: Option<&str>,
    expires: Option<TimeSpan>,
) -> Result<(), Stop> {
    let made = client
        .create_token(role, user, expires.map(|span| span.0))
        .await?;
    let key = match made.role.as_str() {
        BRIDGE => Some(keys::bridge_key(&made).map_err(|error| {
            let says = format!(
                "token {} was made, and its BUNGEE_KEY was not: {error}",
                made.id
            );
            Complaint::new(Exit::Failed, says).hint(format!("`bungee token revoke {}`", made.id))
        })?),
        _ => None,
    };
    let key = key.map(|key| key.to_text());
    if door.printer.json {
        let key = key.as_deref().map(String::as_str);
        door.printer.json(&Made { token: &made, key })?;
        return Ok(());
    }
    let end = made.expires_at.map_or("never ends".into(), |at| {
        format!("ends {}", table::time(at))
    });
    door.printer.note(&format!(
        "token {} with the role {}{} {end}; {} is shown only now:",
        made.id,
        made.role,
        made.user
            .as_ref()
            .map_or(String::new(), |user| format!(" for {user}")),
        if key.is_some() {
            "its BUNGEE_KEY"
        } else {
            "it"
        },
    ));
    door.printer.line(key.as_deref().unwrap_or(&made.token))?;
    Ok(())
}

async fn create_access_key(
    door: &Door,
    client: &Client,
    role: &str,
    user: Option<&str>,
    expires: Option<TimeSpan>,
) -> Result<(), Stop> {
    let made = client
        .create_access_key(role, user, expires.map(|span| span.0))
        .await?;
    if door.printer.json {
        door.printer.json(&made)?;
        return Ok(());
    }
    let end = made.expires_at.map_or("never ends".into(), |at| {
        format!("ends {}", table::time(at))
    });
    let (id, secret) = (&made.access_key_id, &made.secret_access_key);
    door.printer.note(&format!(
        "access key {id} with the role {} {end}; its secret is shown only now:",
        made.role
    ));
    door.printer.line(&format!("AccessKeyId      {id}"))?;
    door.printer.line(&format!("SecretAccessKey  {secret}"))?;
    let server = match connection::address(&door.global)? {
        Address::Url(url) => url.to_string(),
        Address::Socket(_) => connection::DEFAULT_SERVER.to_owned(),
    };
    door.printer.note(&format!(
        "for AWS's clients:\n  export AWS_ACCESS_KEY_ID={id}\n  export AWS_SECRET_ACCESS_KEY={secret}\n  export AWS_ENDPOINT_URL_LAMBDA={}",
        server.trim_end_matches('/')
    ));
    Ok(())
}

/// A token as `--json` shows it, with what a bridge is to hold.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    token: &'a CreatedToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

async fn list(door: &Door, client: &Client) -> Result<(), Stop> {
    let tokens = client.tokens().await?;
    if door.printer.json {
        door.printer.json(&tokens)?;
        return Ok(());
    }
    if tokens.is_empty() {
        door.printer
            .note("no tokens yet; `bungee token create --role admin` makes one");
        return Ok(());
    }
    let rows = tokens.iter().map(|token| {
        vec![
            token.id.clone(),
            token.kind.clone(),
            token.role.clone(),
            token.user.clone().unwrap_or_else(|| "-".into()),
            token.created_at.map_or("-".into(), table::time),
            token.expires_at.map_or("never".into(), table::time),
        ]
    });
    door.printer.line(&table::render(
        &["ID", "KIND", "ROLE", "USER", "CREATED", "ENDS"],
        rows,
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_role_is_met_with_those_that_are() {
        assert!(ROLES.into_iter().all(|role| check_role(role).is_ok()));
        assert_eq!(check_role("root").unwrap_err().exit, Exit::Usage);
        let hint = |text| check_role(text).unwrap_err().hint.unwrap();
        assert_eq!(hint("deplo"), "did you mean `deploy`?");
        assert!(hint("root").contains("admin, deploy, live, invoke, bridge"));
    }
}
