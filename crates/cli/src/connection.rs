//! From global arguments to a server's client, and from a typed name to a function.

use laptop::api::{Address, Client};
use model::{FunctionId, Name};

use crate::{
    arguments::{FunctionName, Global},
    credentials::Credentials,
    exit::{Complaint, Stop},
    service,
};

/// Where a server is when nobody says.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:9001";

/// A client of the server that was named, or of the default one. Without a token, that of `bungee login` goes along.
pub fn connect(global: &Global) -> Result<Client, Stop> {
    let address = address(global)?;
    let token = global.token.clone().or_else(|| kept_token(&address));
    Ok(Client::new(address, token)?)
}

/// The server that was named, or the default one.
pub fn address(global: &Global) -> Result<Address, Stop> {
    match &global.server {
        Some(address) => Ok(address.clone()),
        None => match service::endpoint()? {
            Some(address) => Ok(address),
            None => default_address(),
        },
    }
}

/// The token that `bungee login` keeps for a server. A file that cannot be read is `login`'s and `doctor`'s to tell of.
pub fn kept_token(server: &Address) -> Option<String> {
    let kept = Credentials::load().ok()?;
    kept.token(server).map(str::to_owned)
}

fn default_address() -> Result<Address, Stop> {
    DEFAULT_SERVER
        .parse()
        .map_err(|error| Complaint::usage(format!("{error}")).into())
}

/// The function that was typed. Without a project, it lies in the server's own.
pub async fn function(
    client: &Client,
    global: &Global,
    typed: &FunctionName,
) -> Result<FunctionId, Stop> {
    if typed.project.is_some() {
        return Ok(typed.within(Name::default_project()));
    }
    if let Some(project) = &global.project {
        return Ok(typed.within(project.clone()));
    }
    let home = client.server().await?.home_project;
    Ok(typed.within(home))
}
