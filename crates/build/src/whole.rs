//! A folder that goes into a bundle as it is: what is left out of it, and where its links may lead.
//! For the runtimes that have no bundler.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::{ErrorType, Limits};

use crate::{error::BuildError, resolve::Folder};

/// Names that are made by tools and mean nothing to a worker, besides everything hidden.
const LEFT_OUT: [&str; 3] = ["__pycache__", "node_modules", "bungee.toml"];

/// Files that mark the folder around them as made by a tool: a virtual environment, a cache such as Cargo's `target`.
const MARKS: [&str; 2] = ["pyvenv.cfg", "CACHEDIR.TAG"];

/// Copies what lies below `root`, a path of the folder, into `out`, with its mode bits. Stops past the limit on bundles.
pub(crate) fn copy(folder: &Folder, root: &str, out: &Path) -> Result<(), BuildError> {
    let mut copying = Copying {
        folder,
        root,
        size: 0,
        files: 0,
        limits: Limits::default(),
    };
    let mut waiting = vec![(folder.real().join(root), out.to_owned())];
    while let Some((from, to)) = waiting.pop() {
        let failed = |error| BuildError::io(format!("cannot read {}", from.display()), error);
        for entry in fs::read_dir(&from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (name, path) = (entry.file_name(), entry.path());
            if is_left_out(&name.to_string_lossy()) {
                continue;
            }
            if !entry.file_type().map_err(failed)?.is_dir() {
                copying.file(&path, &to, &to.join(&name))?;
            } else if !MARKS.iter().any(|mark| path.join(mark).is_file()) {
                waiting.push((path, to.join(&name)));
            }
        }
    }
    Ok(())
}

/// Whether a file or folder of this name stays at home.
pub(crate) fn is_left_out(name: &str) -> bool {
    name.starts_with('.') || LEFT_OUT.contains(&name)
}

/// How far the copying is.
struct Copying<'f> {
    folder: &'f Folder,
    root: &'f str,
    /// Bytes copied.
    size: u64,
    files: u64,
    limits: Limits,
}

impl Copying<'_> {
    fn file(&mut self, path: &Path, parent: &Path, to: &Path) -> Result<(), BuildError> {
        let inside = self.inside(path)?;
        let meta = fs::metadata(&inside);
        let size = meta.map_err(|error| self.failed(path, error))?.len();
        self.size += size;
        self.files += 1;
        if self.size > self.limits.bundle_unpacked.0 || self.files > self.limits.bundle_files {
            return Err(self.too_large());
        }
        let copied = fs::create_dir_all(parent).and_then(|()| fs::copy(&inside, to));
        copied.map(drop).map_err(|error| self.failed(path, error))
    }

    /// The plain file itself, or the one that a link leads to, if that lies in the project.
    fn inside(&self, path: &Path) -> Result<PathBuf, BuildError> {
        let shown = || self.shown(path);
        let real = path.canonicalize().map_err(|_| {
            BuildError::new(None, format!("{} is a link that leads nowhere", shown()))
        })?;
        if !real.starts_with(self.folder.real()) {
            let message = format!(
                "{} is a link out of the project, and a bundle holds only what is inside",
                shown()
            );
            return Err(BuildError::new(None, message).hint("put a copy in its place"));
        }
        if !real.is_file() {
            let message = format!(
                "{} is no plain file, and a bundle holds nothing else",
                shown()
            );
            return Err(BuildError::new(None, message));
        }
        Ok(real)
    }

    fn shown(&self, path: &Path) -> String {
        let inside = path.strip_prefix(self.folder.real()).unwrap_or(path);
        self.folder.shown(&inside.to_string_lossy())
    }

    fn failed(&self, path: &Path, error: io::Error) -> BuildError {
        BuildError::io(format!("cannot copy {}", self.shown(path)), error)
    }

    fn too_large(&self) -> BuildError {
        let limits = &self.limits;
        let message = format!(
            "the bundle is the folder {}, which holds more than a bundle may: {} and {} files",
            self.folder.shown(self.root),
            limits.bundle_unpacked,
            limits.bundle_files
        );
        BuildError {
            error_type: ErrorType::PayloadTooLarge,
            ..BuildError::new(None, message)
                .hint("give the function a folder of its own, with nothing else in it")
        }
    }
}
