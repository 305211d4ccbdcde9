//! `bungee deploy`: every function of a folder, or some of them, built and uploaded; only when all of them are ready
//! do calls reach the new versions.

use std::{path::PathBuf, sync::Arc};

use build::{Project, Tools};
use clap::Args;
use laptop::{
    api::Client,
    deploy::{self, DeployError, Deployed, Order, Step},
};
use model::{Name, nearest};
use serde::Serialize;

use crate::{
    commands::Door,
    connection,
    exit::{Complaint, Exit, Stop},
    output::{Style, escape},
    table,
};

/// Arguments of `deploy`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  bungee deploy examples/hello --server https://functions.example.com"
)]
pub struct Deploy {
    /// The folder with the functions
    #[arg(default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Only this function; may be given more than once
    #[arg(long, value_name = "NAME")]
    function: Vec<Name>,
}

/// One deployed function, as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    project: &'a Name,
    function: &'a Name,
    version: model::VersionNumber,
    digest: model::Digest,
    previous: Option<model::VersionNumber>,
    changed: bool,
    took_ms: u128,
}

impl Deploy {
    /// Deploys, and prints each function with its version; with `--json` a list.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let project = Project::load(&self.dir)?;
        let names = self.names(&project)?;
        let client = connection::connect(&door.global)?;
        // Nobody there is better said before the build than after it.
        client.server().await?;
        let scratch = tempfile::tempdir().map_err(|error| {
            Complaint::new(
                Exit::Configuration,
                format!("no folder to build in: {error}"),
            )
        })?;
        let mut prepared = Vec::new();
        for name in &names {
            let order = Order {
                project: &project,
                function: name,
                target: door.global.project.as_ref(),
                out: &scratch.path().join(name.as_str()),
                tools: &Tools {
                    is_ahead: true,
                    heard: Some(hearer(door)),
                    ..Tools::default()
                },
            };
            let ready = deploy::prepare(&client, order, |step| tell(door, name, step)).await;
            prepared.push(ready.map_err(complaint)?);
        }
        let deployed = activate(&client, prepared).await?;
        print(door, &deployed)?;
        Ok(Exit::Done)
    }

    fn names(&self, project: &Project) -> Result<Vec<Name>, Complaint> {
        if self.function.is_empty() {
            return Ok(project.functions.keys().cloned().collect());
        }
        for name in &self.function {
            if !project.functions.contains_key(name) {
                let known = project.functions.keys().map(Name::as_str);
                let complaint = Complaint::new(
                    Exit::NotFound,
                    format!("{} has no function `{name}`", self.dir.display()),
                );
                return Err(match nearest(name.as_str(), known) {
                    Some(meant) => complaint.hint(format!("did you mean `{meant}`?")),
                    None => complaint,
                });
            }
        }
        Ok(self.function.clone())
    }
}

async fn activate(client: &Client, prepared: Vec<deploy::Prepared>) -> Result<Vec<Deployed>, Stop> {
    let mut deployed = Vec::new();
    for ready in prepared {
        deployed.push(deploy::activate(client, ready).await?);
    }
    Ok(deployed)
}

/// A deployment's error as a person reads it.
pub fn complaint(error: DeployError) -> Complaint {
    match error {
        DeployError::Build(error) => (*error).into(),
        DeployError::Server(error) => (*error).into(),
        DeployError::Folder { folder, error } => Complaint::new(
            Exit::Configuration,
            format!("cannot use {}: {error}", folder.display()),
        ),
    }
}

/// Says what takes long.
fn hearer(door: &Door) -> Arc<dyn Fn(&str) + Send + Sync> {
    let printer = door.printer;
    Arc::new(move |line| printer.note(line))
}

/// Warnings always, the rest with `--verbose`.
fn tell(door: &Door, name: &Name, step: Step) {
    let palette = door.printer.palette_err();
    let detail = match step {
        Step::Built {
            bundle,
            files,
            size,
            warnings,
        } => {
            for warning in warnings {
                let word = palette.paint(Style::Warning, "warning:");
                door.printer
                    .note(&format!("{word} {}", escape(&warning, "  ")));
            }
            format!("built {bundle}: {files} files, {size} bytes")
        }
        Step::Uploaded { is_new: true } => "uploaded".to_owned(),
        Step::Uploaded { is_new: false } => "the server has the bundle already".to_owned(),
        Step::Versioned {
            version,
            is_new: true,
        } => format!("{version} is new"),
        Step::Versioned {
            version,
            is_new: false,
        } => format!("{version} is the same"),
    };
    if door.global.verbose {
        door.printer.note(&format!("{name}: {detail}"));
    }
}

fn print(door: &Door, deployed: &[Deployed]) -> Result<(), Stop> {
    if door.printer.json {
        let rows: Vec<Row<'_>> = deployed.iter().map(row).collect();
        return door.printer.json(&rows);
    }
    for one in deployed {
        let function = &one.function;
        let took = table::micros(u64::try_from(one.took.as_micros()).unwrap_or(u64::MAX));
        let note = match (one.changed, one.created, one.previous) {
            (false, _, _) => format!("{function} is at {} already: nothing changed", one.version),
            (true, _, Some(previous)) if previous == one.version => {
                format!("{function} is at {previous} alone, without weights, in {took}")
            }
            (true, false, Some(previous)) => {
                format!(
                    "{function} went from {previous} back to {}, which is the same, in {took}",
                    one.version
                )
            }
            (true, _, Some(previous)) => format!(
                "{function} went from {previous} to {} in {took}",
                one.version
            ),
            (true, _, None) => format!("{function} is at {} in {took}", one.version),
        };
        door.printer.note(&note);
        door.printer
            .line(&format!("{} {}", function.name, one.version))?;
    }
    Ok(())
}

fn row(deployed: &Deployed) -> Row<'_> {
    Row {
        project: &deployed.function.project,
        function: &deployed.function.name,
        version: deployed.version,
        digest: deployed.digest,
        previous: deployed.previous,
        changed: deployed.changed,
        took_ms: deployed.took.as_millis(),
    }
}
