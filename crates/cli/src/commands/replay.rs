//! `bungee replay`: what an invocation was asked, again; exporting that as one file, and replaying such a file.

mod differences;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use laptop::api::{Address, ApiError, Client, Invoked, Replay as Asked};
use model::{FunctionId, InvocationId, Name, Outcome, REDACTED, Recording};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::{
    arguments::FunctionName,
    commands::{Door, invoke},
    connection,
    exit::{Complaint, Exit, Stop},
};
use differences::Difference;

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee replay 019a9d3c-52aa-7c40-b3f1-6f2d61ef0f1a
  bungee replay 019a9d3c-52aa-7c40-b3f1-6f2d61ef0f1a --export bug.bungee.json
  bungee replay bug.bungee.json --version v7

What is kept for replay: `record` in bungee.toml; `bungee invocations NAME` shows of which there is a recording.
With `--remote`, a token goes to that server.")]
pub struct Replay {
    /// The id of a recorded invocation, or a file that `--export` wrote
    #[arg(value_name = "ID|FILE")]
    what: String,
    /// Run it on this function, as NAME or PROJECT/NAME [default: the one that was recorded]
    #[arg(long, value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: Option<FunctionName>,
    /// Run it on this version: `v7`, `7`, or the first digits of a digest
    #[arg(long, value_name = "VERSION", conflicts_with = "alias")]
    version: Option<String>,
    /// Follow this alias instead of `current`
    #[arg(long, value_name = "ALIAS")]
    alias: Option<Name>,
    /// Take the recording from this server, and run it here
    #[arg(long, value_name = "URL")]
    remote: Option<Address>,
    /// Write the recording to a file, `-` for stdout, and run nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["function", "version", "alias"])]
    export: Option<PathBuf>,
}

/// Where a recording comes from.
enum Source {
    Server(InvocationId),
    File(Box<Recording>),
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    replayed: &'a Invoked,
    recorded: Recorded,
    differences: &'a [Difference],
}

#[derive(Serialize)]
struct Recorded {
    id: InvocationId,
    function: FunctionId,
    outcome: Outcome,
    status: Option<u16>,
}

impl Replay {
    /// Exports, or asks again and ends with the outcome.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let source = self.source()?;
        if let Some(file) = &self.export {
            let Source::Server(id) = source else {
                let message = format!(
                    "`--export` needs the id of an invocation, and `{}` is a file",
                    self.what
                );
                return Err(Complaint::usage(message).into());
            };
            return self.write(door, id, file).await;
        }
        let client = self.runs_on(door)?;
        let recording = match source {
            Source::File(recording) => *recording,
            Source::Server(id) => self.fetched(door, id).await?,
        };
        let function = match &self.function {
            Some(typed) => connection::function(&client, &door.global, typed).await?,
            None => recording.function.clone(),
        };
        let asked = Asked {
            recording: &recording,
            version: self.version.as_deref(),
            alias: self.alias.as_ref(),
        };
        tell_redacted(door, &recording);
        let invoked = client.replay(&function, &asked).await;
        let invoked = invoked.map_err(|error| self.elsewhere(error, &function))?;
        show(door, &recording, &invoked)
    }

    /// The id that was typed, or the file, read and believed.
    fn source(&self) -> Result<Source, Complaint> {
        if let Ok(id) = self.what.parse() {
            return Ok(Source::Server(id));
        }
        let json = fs::read(&self.what).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                let message = format!("`{}` is neither an invocation's id nor a file", self.what);
                Complaint::usage(message).hint("`bungee invocations NAME` shows the ids")
            } else {
                Complaint::usage(format!("cannot read {}: {error}", self.what))
            }
        })?;
        if self.remote.is_some() {
            let message = format!(
                "`--remote` needs the id of an invocation, and `{}` is a file",
                self.what
            );
            return Err(Complaint::usage(message));
        }
        let recording = Recording::read(&json);
        recording
            .map(|recording| Source::File(Box::new(recording)))
            .map_err(|error| {
                let message = format!("{}: {error}", self.what);
                Complaint::new(Exit::Configuration, message)
                    .hint("`bungee replay ID --export FILE` writes one")
            })
    }

    /// The server that has the recording. A token that was given is for the one that is named by hand.
    fn comes_from(&self, door: &Door) -> Result<Client, Stop> {
        let Some(remote) = &self.remote else {
            return connection::connect(&door.global);
        };
        let token = door.global.token.clone();
        let token = token.or_else(|| connection::kept_token(remote));
        Ok(Client::new(remote.clone(), token)?)
    }

    /// The server that runs it.
    fn runs_on(&self, door: &Door) -> Result<Client, Stop> {
        if self.remote.is_none() {
            return connection::connect(&door.global);
        }
        let address = connection::address(&door.global)?;
        let token = connection::kept_token(&address);
        Ok(Client::new(address, token)?)
    }

    async fn fetched(&self, door: &Door, id: InvocationId) -> Result<Recording, Stop> {
        let client = self.comes_from(door)?;
        let record = client.invocation(id).await?;
        let json = client.recording(&record.function, id).await?;
        Recording::of(json).map_err(|error| {
            let message = format!("the recording of {id} at {}: {error}", client.address());
            Complaint::new(Exit::Configuration, message).into()
        })
    }

    /// A function that is here under another name, if at all.
    fn elsewhere(&self, error: ApiError, function: &FunctionId) -> Complaint {
        let is_missing = error.error_type() == Some("FunctionNotFound") && self.function.is_none();
        let complaint = Complaint::from(error);
        if is_missing {
            let hint =
                format!("`{function}` was recorded; name the one to run with `--function NAME`");
            return complaint.hint(hint);
        }
        complaint
    }

    async fn write(&self, door: &Door, id: InvocationId, file: &Path) -> Result<Exit, Stop> {
        let recording = self.fetched(door, id).await?;
        let mut json = serde_json::to_string_pretty(&recording)
            .map_err(|error| Complaint::new(Exit::Failed, error.to_string()))?;
        json.push('\n');
        if file == Path::new("-") {
            door.printer.bytes(json.as_bytes())?;
            return Ok(Exit::Done);
        }
        // It holds what users sent, so it is for its owner only; a crash leaves no half of it.
        let folder = file.parent().filter(|folder| *folder != Path::new(""));
        let written =
            NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).and_then(|mut kept| {
                kept.write_all(json.as_bytes())?;
                kept.persist(file).map_err(|error| error.error)
            });
        if let Err(error) = written {
            let message = format!("cannot write {}: {error}", file.display());
            return Err(Complaint::new(Exit::Configuration, message).into());
        }
        let function = &recording.function;
        door.printer.note(&format!(
            "{} holds invocation {id} of {function}; `bungee replay {}` runs it again",
            file.display(),
            file.display()
        ));
        Ok(Exit::Done)
    }
}

/// Says what the function will not get as it was.
fn tell_redacted(door: &Door, recording: &Recording) {
    let rules = recording.request.redacted_by(&recording.redacted);
    if !rules.is_empty() {
        let rules = rules.join(", ");
        door.printer.note(&format!(
            "`{REDACTED}` stands for what was taken out by {rules}"
        ));
    }
}

/// Prints as `invoke` does, and what differs from the recording.
fn show(door: &Door, recording: &Recording, invoked: &Invoked) -> Result<Exit, Stop> {
    let found = differences::between(recording, invoked);
    if door.printer.json {
        door.printer.json(&Printed {
            replayed: invoked,
            recorded: Recorded {
                id: recording.id,
                function: recording.function.clone(),
                outcome: recording.outcome,
                status: recording.answer.as_ref().and_then(|answer| answer.status),
            },
            differences: &found,
        })?;
        return Ok(invoke::exit(invoked));
    }
    let exit = invoke::print(door, invoked)?;
    for difference in &found {
        door.printer.note(&difference.to_string());
    }
    if found.is_empty() {
        let outcome = recording.outcome.as_str();
        door.printer.note(&format!("as it was recorded: {outcome}"));
    }
    Ok(exit)
}
