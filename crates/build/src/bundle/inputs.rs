//! Which files' change asks for a new build, apart from those that a bundler says it read.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

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

/// What a build command may read: all of the folder but packages, hidden files and its own output.
pub(super) fn around(folder: &Path, entry: &str) -> Vec<PathBuf> {
    let output = match Path::new(entry).components().next() {
        Some(Component::Normal(part)) => part.to_owned(),
        Some(_) | None => return Vec::new(),
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    names
        .filter(|name| {
            let is_hidden = name.to_string_lossy().starts_with('.');
            !is_hidden && name != "node_modules" && *name != output
        })
        .map(|name| folder.join(name))
        .collect()
}

/// Adds the files beside the sources, sorts, and leaves nothing twice.
pub(super) fn with_beside(mut inputs: Vec<PathBuf>, folder: &Path) -> Vec<PathBuf> {
    let beside = BESIDE.iter().map(|name| folder.join(name));
    inputs.extend(beside.filter(|file| file.exists()));
    inputs.sort();
    inputs.dedup();
    inputs
}
