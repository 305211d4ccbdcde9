//! `bungee enable` and `bungee disable`: whether a function takes calls. Both are told to the server and survive its restart.

use clap::Args;

use crate::{
    arguments::FunctionName,
    commands::Door,
    connection,
    exit::{Exit, Stop},
};

/// Arguments of `enable`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee enable hello")]
pub struct Enable {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
}

/// Arguments of `disable`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee disable hello

Calls are refused with 403 FunctionDisabled; what is in flight ends by itself.")]
pub struct Disable {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
}

impl Enable {
    /// Lets calls in.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        switch(door, &self.function, true).await
    }
}

impl Disable {
    /// Keeps calls out.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        switch(door, &self.function, false).await
    }
}

async fn switch(door: &Door, function: &FunctionName, enabled: bool) -> Result<Exit, Stop> {
    let client = connection::connect(&door.global)?;
    let function = connection::function(&client, &door.global, function).await?;
    let done = client.set_enabled(&function, enabled).await?;
    if door.printer.json {
        door.printer.json(&done)?;
        return Ok(Exit::Done);
    }
    let word = if done.enabled { "enabled" } else { "disabled" };
    let already = if done.changed { "" } else { " already" };
    door.printer.note(&format!("{function} is {word}{already}"));
    Ok(Exit::Done)
}
