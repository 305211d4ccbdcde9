//! From global arguments to a server's client, and from a typed name to a function.

use laptop::api::{Address, Client};
use model::{FunctionId, Name};

use crate::{
    arguments::{FunctionName, Global},
    exit::{Complaint, Stop},
};

/// Where a server is when nobody says.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:9001";

/// A client of the server that was named, or of the default one.
pub fn connect(global: &Global) -> Result<Client, Stop> {
    let address = match &global.server {
        Some(address) => address.clone(),
        None => default_address()?,
    };
    Ok(Client::new(address, global.token.clone())?)
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
