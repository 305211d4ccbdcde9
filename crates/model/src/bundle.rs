//! A bundle's manifest: which files, how large, with what content. Its digest names the bundle.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Longest path inside a bundle, in bytes.
const PATH_MAX: usize = 1024;

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BundleFile {
    /// Path inside the bundle: relative, `/` between parts.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the content.
    pub digest: Digest,
    /// Whether the owner may execute it.
    pub executable: bool,
}

/// The files of a bundle, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Sorted by path, no path twice.
    files: Vec<BundleFile>,
}

/// Why a list of files is no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A path that leaves the bundle, or that a file system would read differently.
    #[error("the bundle holds `{0}`, a path that leaves it or is not plain")]
    Path(String),
    /// The same path twice.
    #[error("the bundle holds `{0}` twice")]
    Twice(String),
}

impl Manifest {
    /// Checks every path and sorts.
    pub fn new(mut files: Vec<BundleFile>) -> Result<Manifest, ManifestError> {
        files.sort();
        for file in &files {
            if !is_plain(&file.path) {
                return Err(ManifestError::Path(file.path.chars().take(120).collect()));
            }
        }
        if let Some(twice) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(ManifestError::Twice(twice[0].path.clone()));
        }
        Ok(Manifest { files })
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[BundleFile] {
        &self.files
    }

    /// All sizes together, in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The digest over one line per file: path, size, digest and `x` or `-`, NUL between, newline after.
    pub fn digest(&self) -> Digest {
        let mut text = String::new();
        for BundleFile {
            path,
            size,
            digest,
            executable,
        } in &self.files
        {
            let mode = if *executable { 'x' } else { '-' };
            text.push_str(&format!("{path}\0{size}\0{digest}\0{mode}\n"));
        }
        Digest::of(text.as_bytes())
    }
}

/// Whether a path stays where it is put: relative, no empty, `.` or `..` part, no backslash or control character.
fn is_plain(path: &str) -> bool {
    path.len() <= PATH_MAX
        && !path.contains(|c: char| c == '\\' || c.is_control())
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> BundleFile {
        BundleFile {
            path: path.into(),
            size: 1,
            digest: Digest::of(b"x"),
            executable: false,
        }
    }

    #[test]
    fn paths_that_climb_out_are_refused() {
        for bad in [
            "../x",
            "/etc/passwd",
            "a//b",
            "a/./b",
            "a\\b",
            "a/..",
            "",
            "a\nb",
        ] {
            assert!(Manifest::new(vec![file(bad)]).is_err(), "{bad}");
        }
        assert!(Manifest::new(vec![file("a"), file("a")]).is_err());
    }

    #[test]
    fn the_digest_does_not_depend_on_order() {
        let one = Manifest::new(vec![file("a"), file("b/c")]).unwrap();
        let other = Manifest::new(vec![file("b/c"), file("a")]).unwrap();
        assert_eq!(one.digest(), other.digest());
    }
}
