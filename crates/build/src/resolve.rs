//! Where a relative import leads: to a file of the folder, to one outside of it, or nowhere.
//! Follows the endings that TypeScript and its bundlers follow; knows no packages.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use crate::error::shown;

/// Endings that are tried behind a specifier without one, and behind `/index`.
const ENDINGS: [&str; 7] = ["ts", "tsx", "mts", "js", "jsx", "mjs", "json"];

/// Endings of JavaScript that may stand for a TypeScript file, which TypeScript asks people to write.
const STANDS_FOR: [(&str, &[&str]); 4] = [
    (".js", &[".ts", ".tsx"]),
    (".jsx", &[".tsx"]),
    (".mjs", &[".mts"]),
    (".cjs", &[".cts"]),
];

/// A project's folder, links resolved.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    named: PathBuf,
    real: PathBuf,
}

/// Where an import leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// To this file, relative to the folder, `/` between parts.
    File(String),
    /// Out of the folder.
    Outside,
    /// Nowhere.
    Missing,
}

impl Folder {
    /// The folder as it was named, and as it really is.
    pub(crate) fn new(named: &Path) -> io::Result<Folder> {
        Ok(Folder {
            named: named.to_owned(),
            real: named.canonicalize()?,
        })
    }

    /// The folder without links.
    pub(crate) fn real(&self) -> &Path {
        &self.real
    }

    /// A path of the folder as it is shown in errors.
    pub(crate) fn shown(&self, path: &str) -> String {
        shown(&self.named, path)
    }

    /// Where `specifier`, written in the module `from`, leads.
    pub(crate) fn resolve(&self, from: &str, specifier: &str) -> Resolved {
        let base = Path::new(from).parent().unwrap_or(Path::new(""));
        let Some(wanted) = joined(base, specifier) else {
            return Resolved::Outside;
        };
        for candidate in candidates(&wanted) {
            let full = self.real.join(&candidate);
            if full.is_file() {
                return self.inside(&full);
            }
        }
        Resolved::Missing
    }

    /// The path of a file in the folder, links followed: one file has one path.
    pub(crate) fn inside(&self, file: &Path) -> Resolved {
        let Ok(real) = file.canonicalize() else {
            return Resolved::Missing;
        };
        let Ok(path) = real.strip_prefix(&self.real) else {
            return Resolved::Outside;
        };
        let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
        parts.map_or(Resolved::Missing, |parts| Resolved::File(parts.join("/")))
    }
}

/// Whether a specifier names a file rather than a package.
pub(crate) fn is_relative(specifier: &str) -> bool {
    matches!(specifier, "." | "..")
        || specifier.starts_with("./")
        || specifier.starts_with("../")
        || specifier.starts_with('/')
}

/// `specifier` from `base`, without `.` and `..`; `None` if it climbs out.
fn joined(base: &Path, specifier: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in base.components().chain(Path::new(specifier).components()) {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// The files that a path may mean, best first.
fn candidates(wanted: &str) -> Vec<String> {
    let mut found = vec![wanted.to_owned()];
    for (written, stands_for) in STANDS_FOR {
        if let Some(stem) = wanted.strip_suffix(written) {
            found.extend(stands_for.iter().map(|ending| format!("{stem}{ending}")));
        }
    }
    found.extend(ENDINGS.iter().map(|ending| format!("{wanted}.{ending}")));
    let index = if wanted.is_empty() {
        "index".into()
    } else {
        format!("{wanted}/index")
    };
    found.extend(ENDINGS.iter().map(|ending| format!("{index}.{ending}")));
    found
}

/// `target` as a specifier written in the module `from`; both are paths of the same tree.
pub(crate) fn specifier(from: &str, target: &str) -> String {
    let from: Vec<&str> = from.split('/').collect();
    let target: Vec<&str> = target.split('/').collect();
    let folders = from.len() - 1;
    let same = from[..folders]
        .iter()
        .zip(&target[..target.len() - 1])
        .take_while(|(a, b)| a == b)
        .count();
    let up = folders - same;
    let start = if up == 0 {
        "./".to_owned()
    } else {
        "../".repeat(up)
    };
    format!("{start}{}", target[same..].join("/"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn endings_and_index_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "src/a.ts",
            "src/b.mts",
            "src/deep/index.tsx",
            "data.json",
            "src/real.js",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let folder = Folder::new(dir.path()).unwrap();
        let resolve = |specifier| folder.resolve("src/main.ts", specifier);
        let file = |path: &str| Resolved::File(path.into());
        for (specifier, path) in [
            ("./a", "src/a.ts"),
            ("./a.ts", "src/a.ts"),
            ("./a.js", "src/a.ts"),
            ("./b.mjs", "src/b.mts"),
            ("./deep", "src/deep/index.tsx"),
            ("./deep/", "src/deep/index.tsx"),
            ("../data.json", "data.json"),
            ("../src/real.js", "src/real.js"),
        ] {
            assert_eq!(resolve(specifier), file(path), "{specifier}");
        }
        assert_eq!(resolve("./nowhere"), Resolved::Missing);
        assert_eq!(resolve("../../etc/passwd"), Resolved::Outside);
        assert_eq!(resolve("/etc/passwd"), Resolved::Outside);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_outside() {
        let outside = tempfile::NamedTempFile::with_suffix(".ts").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("x.ts")).unwrap();
        let folder = Folder::new(dir.path()).unwrap();
        assert_eq!(folder.resolve("main.ts", "./x"), Resolved::Outside);
    }

    #[test]
    fn specifiers_lead_from_one_file_to_another() {
        assert_eq!(specifier("src/a.js", "src/b.js"), "./b.js");
        assert_eq!(specifier("a.js", "src/b.js"), "./src/b.js");
        assert_eq!(specifier("src/deep/a.js", "src/b.js"), "../b.js");
        assert_eq!(specifier("src/deep/a.js", "other/b.js"), "../../other/b.js");
    }
}
