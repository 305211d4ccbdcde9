//! `bungee init`: a working project in one command.

use std::path::PathBuf;

use clap::Args;
use laptop::init::{self, Ide, InitError, TEMPLATES};
use model::nearest;
use serde::Serialize;

use crate::{
    commands::Door,
    exit::{Complaint, Exit, Stop, chain},
};

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee init shop --template bun --ide
  bungee dev shop

Files that are there already are never written over.")]
pub struct Init {
    /// The folder, made if need be
    #[arg(default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// What it begins with: isolate, bun, node, python, go, rust or bash
    #[arg(long, value_name = "NAME", default_value = "isolate")]
    template: String,
    /// Add launch files for VS Code and JetBrains, which attach to Bun and Node workers of `bungee dev --inspect`
    #[arg(long)]
    ide: bool,
}

#[derive(Serialize)]
struct Made<'a> {
    dir: &'a std::path::Path,
    template: &'a str,
    files: &'a [&'static str],
}

impl Init {
    /// Writes the project, and says what to do with it.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let Some(template) = init::template(&self.template) else {
            let names = TEMPLATES.map(|template| template.name);
            let complaint = Complaint::usage(format!("there is no template `{}`", self.template));
            let hint = match nearest(&self.template, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of: {}", names.join(", ")),
            };
            return Err(complaint.hint(hint).into());
        };
        let ide = if self.ide { Ide::Attach } else { Ide::Without };
        let files = init::write(&self.dir, template, ide).map_err(failed)?;
        if door.printer.json {
            door.printer.json(&Made {
                dir: &self.dir,
                template: template.name,
                files: &files,
            })?;
            return Ok(Exit::Done);
        }
        for file in &files {
            door.printer
                .line(&self.dir.join(file).display().to_string())?;
        }
        let dir = self.dir.display();
        door.printer.note(&format!("run it: bungee dev {dir}"));
        if files.contains(&"package.json") {
            door.printer
                .note("types for your editor, if you like: npm install");
        }
        Ok(Exit::Done)
    }
}

fn failed(error: InitError) -> Complaint {
    let complaint = Complaint::new(Exit::Configuration, chain(&error));
    match error {
        InitError::Exists(_) => complaint.hint("nothing was written; choose another folder"),
        InitError::Write { .. } => complaint,
    }
}
