//! One function becomes one bundle: its own build command, its entry, its bundler, its kind, its manifest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use model::{ErrorType, Kind, Limits, Manifest, Name, Runtime, SettingsPatch};
use tokio::{process::Command, task};

use crate::{
    bun, child,
    error::{BuildError, Place},
    exports::{self, Exports},
    files::manifest_of,
    kind::{self, Question},
    maps, modules, node,
    project::Project,
    resolve::{Folder, Resolved},
};

mod inputs;

/// Lines of a failed build command that are shown.
const LINES: usize = 20;

/// The programs that builds may run.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Bun: a path, or a name that is looked up on `PATH`.
    pub bun: PathBuf,
    /// Whether large bundles for Bun are minified and compiled to bytecode: they start sooner, and take longer to build.
    pub is_ahead: bool,
    /// Whether source maps say where on this machine the sources lie, as debuggers want to know. Such a bundle has a digest
    /// of its own.
    pub is_for_debuggers: bool,
    /// Whether Bun's macros run, which are code of the function's that runs while it is built. Only on the machine of
    /// whoever wrote them.
    pub has_macros: bool,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools {
            bun: "bun".into(),
            is_ahead: false,
            is_for_debuggers: false,
            has_macros: true,
        }
    }
}

/// A bundle that lies in its folder, and what was found out on the way.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its files; the digest names the bundle.
    pub manifest: Manifest,
    /// The module to load, as a path in the bundle.
    pub entry: String,
    /// The shape of the handler.
    pub kind: Kind,
    /// What works, but perhaps not as meant; one line each.
    pub warnings: Vec<String>,
    /// Files whose change asks for a new build, absolute, sorted. With a `build` command of the user's own,
    /// what lies in the folder except packages, hidden files and the build's own output; folders stand for all they hold.
    pub inputs: Vec<PathBuf>,
}

/// What a bundler left, before it is listed.
struct Bundled {
    entry: String,
    inputs: Vec<PathBuf>,
    warnings: Vec<String>,
}

/// Builds one function into `out`, which must be an empty folder. Nothing else is written, except by the user's own `build` command.
/// Errors are `InitError` with file and line for what is wrong with the module, its imports or the tools it needs.
pub async fn build(
    project: &Project,
    name: &Name,
    out: &Path,
    tools: &Tools,
) -> Result<Built, BuildError> {
    let Some(patch) = project.functions.get(name) else {
        return Err(project.entry(name).map_or_else(BuildError::from, |entry| {
            BuildError::new(None, format!("`{entry}` belongs to no function"))
        }));
    };
    let settings = project.place(name, "build");
    if let Some(command) = &patch.build {
        own_build(project, command, settings).await?;
    }
    let folder = Folder::new(&project.dir)
        .map_err(|error| BuildError::io(format!("cannot open {}", project.dir.display()), error))?;
    let entry = project.entry(name)?;
    let entry = match folder.inside(&folder.real().join(&entry)) {
        Resolved::File(path) => path,
        Resolved::Outside | Resolved::Missing => {
            let message = format!(
                "the entry `{entry}` lies outside the folder, and a bundle holds only what is inside"
            );
            return Err(BuildError::new(project.place(name, "entry"), message));
        }
    };
    let (bundled, exports) = bundle(&folder, &entry, patch, out, tools).await?;
    let kind = kind::decide(&Question {
        function: name,
        patch,
        exports: &exports,
        entry: Some(Place {
            file: folder.shown(&entry),
            line: 1,
            column: None,
        }),
        handler: project.place(name, "handler"),
    })?;
    let inputs = match patch.build {
        Some(_) => inputs::around(folder.real(), &entry),
        None => bundled
            .inputs
            .iter()
            .map(|path| folder.real().join(path))
            .collect(),
    };
    if tools.is_for_debuggers {
        let (out, root) = (out.to_owned(), folder.real().to_owned());
        blocking(move || maps::point_at(&out, &root)).await?;
    }
    let manifest = list(out).await?;
    Ok(Built {
        manifest,
        entry: bundled.entry,
        kind,
        warnings: bundled.warnings,
        inputs: inputs::with_beside(inputs, folder.real()),
    })
}

/// Runs the bundler of the runtime, after the entry has been read.
async fn bundle(
    folder: &Folder,
    entry: &str,
    patch: &SettingsPatch,
    out: &Path,
    tools: &Tools,
) -> Result<(Bundled, Exports), BuildError> {
    let runtime = patch.runtime.unwrap_or(Runtime::Isolate);
    let exports = if matches!(runtime, Runtime::Python | Runtime::Provided) {
        Exports {
            open: true,
            ..Exports::default()
        }
    } else {
        let (folder, entry) = (folder.clone(), entry.to_owned());
        blocking(move || exports::of_file(&folder, &entry)).await?
    };
    let bundled = match runtime {
        Runtime::Isolate => {
            let (folder, entry, out) = (folder.clone(), entry.to_owned(), out.to_owned());
            blocking(move || isolate(&folder, &entry, &out)).await?
        }
        Runtime::Bun => {
            let order = bun::Order {
                bun: &tools.bun,
                folder,
                entry,
                format: exports.format,
                patch,
                out,
                is_ahead: tools.is_ahead,
                has_macros: tools.has_macros,
            };
            let done = bun::bundle(&order).await?;
            Bundled {
                entry: done.entry,
                inputs: done.inputs,
                warnings: done.warnings,
            }
        }
        Runtime::Node => {
            let (folder, entry, out) = (folder.clone(), entry.to_owned(), out.to_owned());
            blocking(move || node(&folder, &entry, &out)).await?
        }
        Runtime::Python | Runtime::Provided => {
            let (folder, entry, out) = (folder.clone(), entry.to_owned(), out.to_owned());
            blocking(move || as_it_is(&folder, &entry, &out)).await?
        }
    };
    Ok((bundled, exports))
}

/// Bundles for the isolate, and writes the files.
fn isolate(folder: &Folder, entry: &str, out: &Path) -> Result<Bundled, BuildError> {
    write(modules::bundle(folder, entry)?, out)
}

/// Bundles for Node, and writes the files; packages go along as they are.
fn node(folder: &Folder, entry: &str, out: &Path) -> Result<Bundled, BuildError> {
    let (modules, packages) = node::bundle(folder, entry)?;
    packages.copy_to(out)?;
    write(modules, out)
}

/// The folder of the entry, file by file.
fn as_it_is(folder: &Folder, entry: &str, out: &Path) -> Result<Bundled, BuildError> {
    let above = Path::new(entry).parent().unwrap_or(Path::new(""));
    let cannot = |error| BuildError::io(format!("cannot read the folder of {entry}"), error);
    let files = fs::read_dir(folder.real().join(above)).map_err(cannot)?;
    let mut inputs = Vec::new();
    for file in files {
        let file = file.map_err(cannot)?;
        if file.path().is_file() {
            fs::copy(file.path(), out.join(file.file_name())).map_err(cannot)?;
            inputs.push(above.join(file.file_name()));
        }
    }
    let name = Path::new(entry).file_name().unwrap_or_default();
    Ok(Bundled {
        entry: name.to_string_lossy().into_owned(),
        inputs,
        warnings: Vec::new(),
    })
}

fn write(modules: modules::Modules, out: &Path) -> Result<Bundled, BuildError> {
    for (path, content) in &modules.files {
        let file = out.join(path);
        let written = file
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&file, content));
        written
            .map_err(|error| BuildError::io(format!("cannot write {}", file.display()), error))?;
    }
    Ok(Bundled {
        entry: modules.entry,
        inputs: modules.inputs.into_iter().map(PathBuf::from).collect(),
        warnings: modules.warnings,
    })
}

/// Lists the bundle and holds it against the limits that the server will hold it against.
async fn list(out: &Path) -> Result<Manifest, BuildError> {
    let limits = Limits::default();
    let out = out.to_owned();
    let manifest = blocking(move || {
        manifest_of(&out).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            match cause {
                Some(cause) => BuildError::io(error, cause),
                None => BuildError::new(None, error.to_string()),
            }
        })
    })
    .await?;
    let (size, files) = (manifest.size(), manifest.files().len() as u64);
    let past = if size > limits.bundle_unpacked.0 {
        format!(
            "the bundle takes {size} bytes, the limit is {}",
            limits.bundle_unpacked
        )
    } else if files > limits.bundle_files {
        format!(
            "the bundle holds {files} files, the limit is {}",
            limits.bundle_files
        )
    } else {
        return Ok(manifest);
    };
    Err(BuildError {
        error_type: ErrorType::PayloadTooLarge,
        ..BuildError::new(None, past)
    })
}

/// Work that reads many files or much text, away from the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(BuildError::io("the build stopped", error)),
    }
}

/// Runs the user's own build command in the folder.
async fn own_build(
    project: &Project,
    command: &str,
    place: Option<Place>,
) -> Result<(), BuildError> {
    let mut shell = if cfg!(windows) {
        let mut shell = Command::new("cmd");
        shell.args(["/C", command]);
        shell
    } else {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        shell
    };
    shell.current_dir(&project.dir);
    let ran = child::run(shell).await;
    let ran = ran.map_err(|error| BuildError::io(format!("cannot run `{command}`"), error))?;
    if ran.is_success() {
        return Ok(());
    }
    let message = format!("`build` failed with {}: {command}", ran.how());
    let error = BuildError::new(place, message);
    let last = ran.last_lines(LINES);
    Err(if last.is_empty() {
        error
    } else {
        error.frame(last)
    })
}

#[cfg(test)]
mod tests;
