//! `bungee list`: every function of the server, or of one project.

use clap::Args;

use crate::{
    commands::Door,
    connection,
    exit::{Exit, Stop},
    table,
};

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee list --project shop")]
pub struct List {}

impl List {
    /// Prints one row per function; with `--json` a list.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let functions = client.functions(door.global.project.as_ref()).await?;
        if door.printer.json {
            door.printer.json(&functions)?;
            return Ok(Exit::Done);
        }
        if functions.is_empty() {
            door.printer
                .note("no functions yet; `bungee deploy DIR` brings some");
            return Ok(Exit::Done);
        }
        let rows = functions.iter().map(|function| {
            let workers = function.workers;
            vec![
                format!("{}/{}", function.project, function.name),
                function
                    .current
                    .map_or("-".into(), |version| version.to_string()),
                function
                    .runtime
                    .map_or("-".into(), |runtime| runtime.to_string()),
                function.kind.map_or("-".into(), |kind| kind.to_string()),
                if function.enabled {
                    function.lifecycle.clone()
                } else {
                    "DISABLED".into()
                },
                (workers.starting + workers.warm + workers.busy + workers.idle).to_string(),
                function.url.clone(),
            ]
        });
        let header = [
            "FUNCTION", "CURRENT", "RUNTIME", "KIND", "STATE", "WORKERS", "PATH",
        ];
        door.printer.line(&table::render(&header, rows))?;
        Ok(Exit::Done)
    }
}
