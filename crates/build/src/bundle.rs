//! One function becomes one bundle: its own build command, its entry, its bundler, its kind, its manifest.

use std::path::{Path, PathBuf};

use model::{ErrorType, Kind, Limits, Manifest, Name};
use tokio::{process::Command, task};

use crate::{
    child,
    error::{BuildError, Place},
    files::manifest_of,
    maps,
    project::Project,
    resolve::{Folder, Resolved},
    tools::Tools,
};
use work::Work;

mod inputs;
mod work;

/// Lines of a failed build command that are shown.
const LINES: usize = 20;

/// A bundle that lies in its folder, and what was found out on the way.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its files; the digest names the bundle.
    pub manifest: Manifest,
    /// The module to load, as a path in the bundle.
    pub entry: String,
    /// The shape of the handler.
    pub kind: Kind,
    /// What in the module is called, where the build found it out: this stands in the version's settings.
    pub handler: Option<String>,
    /// What works, but perhaps not as meant; one line each.
    pub warnings: Vec<String>,
    /// Files whose change asks for a new build, absolute, sorted. With a `build` command of the user's own,
    /// what lies in the folder except packages, hidden files and the build's own output; folders stand for all they hold.
    pub inputs: Vec<PathBuf>,
}

/// Builds one function into `out`, which must be an empty folder. Nothing else is written, except by the user's own `build`
/// command, and the packages of a Python function, which are kept in the project's `.bungee`.
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
    let before = patch.build.as_ref().map(|_| inputs::Seen::of(&project.dir));
    if let Some(command) = &patch.build {
        own_build(project, command, project.place(name, "build")).await?;
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
    let work = Work {
        project,
        name,
        patch,
        folder: &folder,
        entry: &entry,
        out,
        tools,
    };
    let bundled = work.bundle().await?;
    let inputs = match before {
        Some(before) => before.inputs(folder.real(), &entry),
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
        kind: bundled.kind,
        handler: bundled.handler,
        warnings: bundled.warnings,
        inputs: inputs::with_beside(inputs, folder.real()),
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
pub(crate) async fn blocking<T: Send + 'static>(
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
