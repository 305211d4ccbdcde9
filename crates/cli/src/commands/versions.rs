//! `bungee versions`: the versions of a function, newest first.

use clap::Args;
use laptop::api::VersionRow;

use crate::{
    arguments::FunctionName,
    commands::Door,
    connection,
    exit::{Exit, Stop},
    table,
};

/// Hex digits of a digest that a person sees: enough to name a version by.
const DIGITS: usize = 12;

/// Arguments of `versions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee versions hello --json")]
pub struct Versions {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
}

/// `current`, or `current 90%, live`.
fn aliases(version: &VersionRow) -> String {
    let each = version.aliases.iter().map(|alias| match alias.weight {
        100 => alias.name.to_string(),
        weight => format!("{} {weight}%", alias.name),
    });
    each.collect::<Vec<_>>().join(", ")
}

impl Versions {
    /// Prints one row per version; with `--json` a list.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let versions = client.versions(&function).await?;
        if door.printer.json {
            door.printer.json(&versions)?;
            return Ok(Exit::Done);
        }
        let rows = versions.iter().map(|version| {
            vec![
                version.version.to_string(),
                aliases(version),
                version.digest.hex()[..DIGITS].to_owned(),
                version.runtime.to_string(),
                version.kind.to_string(),
                table::time(version.created_at),
            ]
        });
        let header = ["VERSION", "ALIAS", "DIGEST", "RUNTIME", "KIND", "CREATED"];
        door.printer.line(&table::render(&header, rows))?;
        Ok(Exit::Done)
    }
}
