//! `bungee rollback`: `current` goes back to what it was before, or to a named version.

use clap::Args;
use model::{VersionRef, VersionRefError};

use crate::{
    arguments::FunctionName,
    commands::{Door, alias},
    connection,
    exit::{Exit, Stop},
};

/// Arguments of `rollback`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee rollback hello v2")]
pub struct Rollback {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    /// Where to: `v2`, `2`, or the first digits of a digest [default: what was current before]
    #[arg(value_parser = version)]
    version: Option<String>,
}

/// Any way to name a version, kept as it was typed: the server knows which one is meant.
fn version(text: &str) -> Result<String, VersionRefError> {
    text.parse::<VersionRef>().map(|_named| text.to_owned())
}

impl Rollback {
    /// Moves the alias and prints the version that is current now.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let moved = client.rollback(&function, self.version).await?;
        if door.printer.json {
            door.printer.json(&moved)?;
            return Ok(Exit::Done);
        }
        let place = alias::words(&moved.versions);
        match (moved.changed, moved.previous) {
            (true, Some(previous)) if previous != moved.version => door
                .printer
                .note(&format!("{function} went from {previous} to {place}")),
            (true, _) => door.printer.note(&format!("{function} is at {place}")),
            (false, _) => door
                .printer
                .note(&format!("{function} is at {place} already")),
        }
        door.printer.line(&moved.version.to_string())?;
        Ok(Exit::Done)
    }
}
