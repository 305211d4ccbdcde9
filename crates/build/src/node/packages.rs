//! The packages that go into a bundle: those that are imported, and what these depend on, laid out so that each finds the
//! versions it had in the project, whichever package manager put them there.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::error::BuildError;

/// Files that only help people and editors, by their endings; they are more than half of what packages hold.
const LEFT_OUT: [&str; 4] = [".d.ts", ".d.mts", ".d.cts", ".map"];

/// The packages that the folder's own modules import, by name.
#[derive(Default)]
pub(crate) struct Packages(BTreeMap<String, PathBuf>);

/// What is read of a `package.json`.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Described {
    dependencies: BTreeMap<String, serde::de::IgnoredAny>,
    optional_dependencies: BTreeMap<String, serde::de::IgnoredAny>,
    peer_dependencies: BTreeMap<String, serde::de::IgnoredAny>,
    exports: Option<serde::de::IgnoredAny>,
}

/// The name of the package in a specifier: `@scope/name/deep` is `@scope/name`.
pub(super) fn name_in(specifier: &str) -> &str {
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    let end = specifier
        .match_indices('/')
        .nth(parts - 1)
        .map_or(specifier.len(), |(at, _)| at);
    &specifier[..end]
}

/// The package that a specifier written in the file `from` names: its name, and its folder without links.
pub(super) fn package_of(specifier: &str, from: &Path) -> Option<(String, PathBuf)> {
    let name = name_in(specifier);
    Some((name.into(), installed(name, from.parent()?)?))
}

/// Whether a package lists what may be imported from it.
pub(super) fn has_exports(folder: &Path) -> bool {
    described(folder).exports.is_some()
}

/// Where a package is installed for who lies in `folder`: in the nearest `node_modules` that has it.
fn installed(name: &str, folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .filter(|above| above.file_name().is_none_or(|last| last != "node_modules"))
        .map(|above| above.join("node_modules").join(name))
        .find(|place| place.is_dir())
        .and_then(|place| place.canonicalize().ok())
}

/// A package's place in the bundle: the packages whose `node_modules` it lies in, outermost first, and its own name.
type Spot = Vec<String>;

impl Packages {
    /// Notes a package that a module imports.
    pub(super) fn need(&mut self, name: &str, folder: PathBuf) {
        self.0.entry(name.into()).or_insert(folder);
    }

    /// Copies them all.
    pub(crate) fn copy_to(&self, out: &Path) -> Result<(), BuildError> {
        for (spot, folder) in self.laid_out() {
            let target = spot.iter().fold(out.to_owned(), |to, name| {
                to.join("node_modules").join(name)
            });
            copy(&folder, &target).map_err(|error| {
                BuildError::io(
                    format!("cannot copy the package {}", folder.display()),
                    error,
                )
            })?;
        }
        Ok(())
    }

    /// Every package with its place: at the top, or, where another version is visible from there, inside its dependent.
    fn laid_out(&self) -> BTreeMap<Spot, PathBuf> {
        let mut placed: BTreeMap<Spot, PathBuf> = BTreeMap::new();
        let mut waiting = VecDeque::new();
        for (name, folder) in &self.0 {
            placed.insert(vec![name.clone()], folder.clone());
            waiting.push_back((vec![name.clone()], folder.clone()));
        }
        while let Some((spot, folder)) = waiting.pop_front() {
            for (name, needed) in dependencies(&folder) {
                let visible = (0..=spot.len()).rev().find_map(|depth| {
                    let mut seen = spot[..depth].to_vec();
                    seen.push(name.clone());
                    placed.get(&seen)
                });
                let mut place = match visible {
                    Some(there) if *there == needed => continue,
                    Some(_) => spot.clone(),
                    None => Vec::new(),
                };
                place.push(name);
                placed.insert(place.clone(), needed.clone());
                waiting.push_back((place, needed));
            }
        }
        placed
    }
}

fn described(folder: &Path) -> Described {
    let read = fs::read(folder.join("package.json")).unwrap_or_default();
    serde_json::from_slice(&read).unwrap_or_default()
}

/// The packages that one depends on and that are installed: optional ones and peers may be absent.
fn dependencies(folder: &Path) -> Vec<(String, PathBuf)> {
    let described = described(folder);
    let mut names: Vec<String> = [
        described.dependencies,
        described.optional_dependencies,
        described.peer_dependencies,
    ]
    .into_iter()
    .flat_map(BTreeMap::into_keys)
    .collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let place = installed(&name, folder)?;
            Some((name, place))
        })
        .collect()
}

/// Copies a package without the packages inside it, which have places of their own.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let text = name.to_string_lossy();
        if text == "node_modules" || text == ".git" {
            continue;
        }
        let meta = fs::metadata(&path);
        if meta.as_ref().is_ok_and(fs::Metadata::is_dir) {
            // A link could lead back up, for ever.
            if !entry.file_type()?.is_symlink() {
                copy(&path, &to.join(&name))?;
            }
        } else if meta.is_ok_and(|meta| meta.is_file())
            && !LEFT_OUT.iter().any(|ending| text.ends_with(ending))
        {
            let target = to.join(&name);
            // A second name for the same bytes costs nothing; another file system wants a copy.
            if fs::hard_link(&path, &target).is_err() {
                fs::copy(&path, &target)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(root: &Path, path: &str, needs: &[&str]) {
        let folder = root.join(path);
        fs::create_dir_all(&folder).unwrap();
        let needs: BTreeMap<&str, &str> = needs.iter().map(|name| (*name, "*")).collect();
        let text =
            serde_json::json!({ "dependencies": needs, "peerDependencies": {"absent": "*"} });
        fs::write(folder.join("package.json"), text.to_string()).unwrap();
    }

    /// The places of everything that `names` need, as paths.
    fn laid_out(root: &Path, names: &[&str]) -> Vec<String> {
        let mut packages = Packages::default();
        for name in names {
            let (name, folder) = package_of(name, &root.join("src/main.ts")).unwrap();
            packages.need(&name, folder);
        }
        let real = root.canonicalize().unwrap();
        packages
            .laid_out()
            .iter()
            .map(|(spot, folder)| {
                let folder = folder.strip_prefix(&real).unwrap();
                format!("{} = {}", spot.join(" > "), folder.display())
            })
            .collect()
    }

    #[test]
    fn each_package_finds_the_version_that_it_had() {
        let dir = tempfile::tempdir().unwrap();
        package(dir.path(), "node_modules/a", &["b", "c"]);
        package(dir.path(), "node_modules/a/node_modules/b", &["c"]);
        package(dir.path(), "node_modules/b", &[]);
        package(dir.path(), "node_modules/c", &["a"]);
        package(dir.path(), "node_modules/unused", &[]);
        assert_eq!(
            laid_out(dir.path(), &["a/deep/file.js", "b"]),
            [
                "a = node_modules/a",
                "a > b = node_modules/a/node_modules/b",
                "b = node_modules/b",
                "c = node_modules/c"
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn packages_behind_links_are_found_where_the_links_lead() {
        let dir = tempfile::tempdir().unwrap();
        let store = "node_modules/.pnpm";
        package(
            dir.path(),
            &format!("{store}/@s+a@1/node_modules/@s/a"),
            &["b"],
        );
        package(dir.path(), &format!("{store}/b@1/node_modules/b"), &[]);
        fs::create_dir_all(dir.path().join("node_modules/@s")).unwrap();
        let link = |from: &str, to: String| {
            std::os::unix::fs::symlink(dir.path().join(from), dir.path().join(to)).unwrap();
        };
        link(
            &format!("{store}/@s+a@1/node_modules/@s/a"),
            "node_modules/@s/a".into(),
        );
        link(
            &format!("{store}/b@1/node_modules/b"),
            format!("{store}/@s+a@1/node_modules/b"),
        );
        assert_eq!(
            laid_out(dir.path(), &["@s/a"]),
            [
                format!("@s/a = {store}/@s+a@1/node_modules/@s/a"),
                format!("b = {store}/b@1/node_modules/b")
            ]
        );
    }

    #[test]
    fn a_specifier_names_its_package() {
        assert_eq!(name_in("lodash/fp"), "lodash");
        assert_eq!(name_in("@aws-sdk/client-s3/dist"), "@aws-sdk/client-s3");
        assert_eq!(name_in("@aws-sdk/client-s3"), "@aws-sdk/client-s3");
    }
}
