//! What each runtime needs of a bundle: the bundlers of JavaScript, and the folders of the runtimes that have none.

use std::{
    fs,
    path::{Path, PathBuf},
};

use model::{Kind, Name, Runtime, SettingsPatch};

use super::blocking;
use crate::{
    bun,
    error::{BuildError, Place},
    exports,
    kind::{self, Question},
    modules, node,
    project::Project,
    provided, python,
    resolve::Folder,
    tools::Tools,
};

/// What a bundler left, before it is listed.
pub(super) struct Bundled {
    pub(super) entry: String,
    pub(super) inputs: Vec<PathBuf>,
    pub(super) warnings: Vec<String>,
    pub(super) kind: Kind,
    pub(super) handler: Option<String>,
}

/// What is built.
pub(super) struct Work<'w> {
    pub(super) project: &'w Project,
    pub(super) name: &'w Name,
    pub(super) patch: &'w SettingsPatch,
    pub(super) folder: &'w Folder,
    /// The file it starts with, as a path in the folder.
    pub(super) entry: &'w str,
    pub(super) out: &'w Path,
    pub(super) tools: &'w Tools,
}

impl Work<'_> {
    /// Runs what the runtime needs.
    pub(super) async fn bundle(&self) -> Result<Bundled, BuildError> {
        match self.patch.runtime.unwrap_or(Runtime::Isolate) {
            Runtime::Isolate | Runtime::Bun | Runtime::Node => self.javascript().await,
            Runtime::Python => {
                let order = python::Order {
                    folder: self.folder,
                    entry: self.entry,
                    function: self.name,
                    patch: self.patch,
                    handler: self.project.place(self.name, "handler"),
                    out: self.out,
                    tools: self.tools,
                };
                let made = python::bundle(&order).await?;
                Ok(Bundled {
                    entry: made.entry,
                    inputs: made.inputs.into_iter().map(PathBuf::from).collect(),
                    warnings: Vec::new(),
                    kind: made.kind,
                    handler: Some(made.handler),
                })
            }
            Runtime::Provided => {
                let (folder, entry, out) = self.owned();
                let place = self.project.place(self.name, "entry");
                let inside =
                    blocking(move || provided::bundle(&folder, &entry, place, &out)).await?;
                let around = self.entry.rsplit_once('/').map_or("", |(around, _)| around);
                Ok(Bundled {
                    entry: inside,
                    inputs: vec![around.into()],
                    warnings: Vec::new(),
                    kind: self.patch.kind.unwrap_or(Kind::Event),
                    handler: None,
                })
            }
        }
    }

    /// Runs the bundler of the runtime, after the entry has been read.
    async fn javascript(&self) -> Result<Bundled, BuildError> {
        let (folder, entry, _) = self.owned();
        let exports = blocking(move || exports::of_file(&folder, &entry)).await?;
        let (folder, entry, out) = self.owned();
        let written = match self.patch.runtime.unwrap_or(Runtime::Isolate) {
            Runtime::Bun => {
                let order = bun::Order {
                    bun: &self.tools.bun,
                    folder: self.folder,
                    entry: self.entry,
                    format: exports.format,
                    patch: self.patch,
                    out: self.out,
                    is_ahead: self.tools.is_ahead,
                    has_macros: self.tools.has_macros,
                };
                let done = bun::bundle(&order).await?;
                Written {
                    entry: done.entry,
                    inputs: done.inputs,
                    warnings: done.warnings,
                }
            }
            Runtime::Node => blocking(move || node(&folder, &entry, &out)).await?,
            Runtime::Isolate | Runtime::Python | Runtime::Provided => {
                blocking(move || isolate(&folder, &entry, &out)).await?
            }
        };
        let kind = kind::decide(&Question {
            function: self.name,
            patch: self.patch,
            exports: &exports,
            entry: Some(Place {
                file: self.folder.shown(self.entry),
                line: 1,
                column: None,
            }),
            handler: self.project.place(self.name, "handler"),
        })?;
        Ok(Bundled {
            entry: written.entry,
            inputs: written.inputs,
            warnings: written.warnings,
            kind,
            handler: None,
        })
    }

    /// What goes along to another thread.
    fn owned(&self) -> (Folder, String, PathBuf) {
        (
            self.folder.clone(),
            self.entry.to_owned(),
            self.out.to_owned(),
        )
    }
}

/// What a bundler of JavaScript wrote.
struct Written {
    entry: String,
    inputs: Vec<PathBuf>,
    warnings: Vec<String>,
}

/// Bundles for the isolate, and writes the files.
fn isolate(folder: &Folder, entry: &str, out: &Path) -> Result<Written, BuildError> {
    write(modules::bundle(folder, entry)?, out)
}

/// Bundles for Node, and writes the files; packages go along as they are.
fn node(folder: &Folder, entry: &str, out: &Path) -> Result<Written, BuildError> {
    let (modules, packages) = node::bundle(folder, entry)?;
    packages.copy_to(out)?;
    write(modules, out)
}

fn write(modules: modules::Modules, out: &Path) -> Result<Written, BuildError> {
    for (path, content) in &modules.files {
        let file = out.join(path);
        let written = file
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&file, content));
        written
            .map_err(|error| BuildError::io(format!("cannot write {}", file.display()), error))?;
    }
    Ok(Written {
        entry: modules.entry,
        inputs: modules.inputs.into_iter().map(PathBuf::from).collect(),
        warnings: modules.warnings,
    })
}
