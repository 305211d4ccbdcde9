//! Which files' change asks for a new build, apart from those that a bundler says it read.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use crate::whole;

/// Files beside the sources that change what a bundler does.
const BESIDE: [&str; 10] = [
    "bungee.toml",
    "package.json",
    "tsconfig.json",
    "jsconfig.json",
    "bunfig.toml",
    "bun.lock",
    "bun.lockb",
    "package-lock.json",
    "pnpm-lock.yaml",
    "yarn.lock",
];

/// What lay in the folder before a build command ran.
pub(super) struct Seen(BTreeMap<PathBuf, SystemTime>);

impl Seen {
    /// Every file that may be a source, with the time of its last change.
    pub(super) fn of(folder: &Path) -> Seen {
        let mut seen = BTreeMap::new();
        let mut folders = vec![folder.canonicalize().unwrap_or(folder.to_owned())];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let is_target = name == "target";
                if is_target || whole::is_left_out(&name.to_string_lossy()) {
                    continue;
                }
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if let Ok(changed) = meta.modified() {
                    seen.insert(entry.path(), changed);
                }
            }
        }
        Seen(seen)
    }

    /// What the command may have read: all of the folder but packages, hidden files and its own output. Where the entry
    /// lies, that is what it left as it was, the entry itself perhaps among it.
    pub(super) fn inputs(self, folder: &Path, entry: &str) -> Vec<PathBuf> {
        let output = match Path::new(entry).components().next() {
            Some(Component::Normal(part)) => folder.join(part),
            Some(_) | None => return Vec::new(),
        };
        let is_unchanged = |(path, before): (PathBuf, SystemTime)| {
            let now = fs::metadata(&path).and_then(|meta| meta.modified());
            (path.starts_with(&output) && now.is_ok_and(|now| now == before)).then_some(path)
        };
        let beside = self.0.into_iter().filter_map(is_unchanged);
        let Ok(entries) = fs::read_dir(folder) else {
            return beside.collect();
        };
        let others = entries
            .flatten()
            .filter(|other| !whole::is_left_out(&other.file_name().to_string_lossy()))
            .map(|other| other.path())
            .filter(|other| *other != output);
        others.chain(beside).collect()
    }
}

/// Adds the files beside the sources, sorts, and leaves nothing twice.
pub(super) fn with_beside(mut inputs: Vec<PathBuf>, folder: &Path) -> Vec<PathBuf> {
    let beside = BESIDE.iter().map(|name| folder.join(name));
    inputs.extend(beside.filter(|file| file.exists()));
    inputs.sort();
    inputs.dedup();
    inputs
}
