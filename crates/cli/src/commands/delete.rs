//! `bungee delete`: a function goes, with its versions, overrides, logs and records.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::{
    arguments::FunctionName,
    commands::Door,
    connection,
    exit::{Complaint, Exit, Stop},
};

/// Arguments of `delete`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee delete hello --yes

Calls are refused at once; what is in flight may end within the server's grace.
On a terminal it asks first, elsewhere it does not.")]
pub struct Delete {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    /// Do not ask, on a terminal either
    #[arg(long, short)]
    yes: bool,
}

impl Delete {
    /// Deletes, and says what went.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        if !self.yes && io::stdin().is_terminal() {
            // Asks about what is there only.
            let versions = client.versions(&function).await?.len();
            let question = format!(
                "delete {function} with its {versions} versions, its overrides, logs and records? [y/N] "
            );
            if !agrees(&question)? {
                return Err(Complaint::new(Exit::Refused, "nothing was deleted").into());
            }
        }
        let gone = client.delete(&function).await?;
        if door.printer.json {
            door.printer.json(&gone)?;
            return Ok(Exit::Done);
        }
        let rest = if gone.cut_off {
            "; what still ran after the grace was cut off"
        } else {
            ""
        };
        let plural = if gone.versions == 1 { "" } else { "s" };
        let words = format!(
            "{function} is deleted, with {} version{plural}{rest}",
            gone.versions
        );
        door.printer.note(&words);
        Ok(Exit::Done)
    }
}

/// Whether the person at the terminal types yes.
fn agrees(question: &str) -> Result<bool, Stop> {
    let failed = |error: io::Error| {
        Complaint::new(
            Exit::Failed,
            format!("cannot ask on this terminal: {error}"),
        )
    };
    let mut out = io::stderr().lock();
    out.write_all(question.as_bytes())
        .and_then(|()| out.flush())
        .map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
