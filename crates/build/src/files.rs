//! The files of a bundle as they lie in a folder: found, hashed, and listed in a manifest.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use model::{BundleFile, Digest, Manifest, ManifestError};
use sha2::{Digest as _, Sha256};

/// Bytes that are hashed or copied at a time.
pub(crate) const CHUNK: usize = 64 << 10;

/// Why a folder is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A link, a device, or a name that is not UTF-8.
    #[error("{} is no plain file, and a bundle holds nothing else", path.display())]
    Odd {
        /// What it is called.
        path: PathBuf,
    },
    /// A path that cannot stand in a bundle.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Lists every file below `dir` with its size, digest and whether its owner may execute it.
/// Links and devices are refused; empty folders are no part of a bundle.
pub fn manifest_of(dir: &Path) -> Result<Manifest, FilesError> {
    let mut files = Vec::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let fail = |cause| FilesError::Read {
            path: folder.clone(),
            cause,
        };
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let path = entry.path();
            let file_type = entry.file_type().map_err(fail)?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(FilesError::Odd { path });
            };
            let inside = format!("{prefix}{name}");
            if file_type.is_dir() {
                folders.push((path, format!("{inside}/")));
            } else if file_type.is_file() {
                files.push(read(&path, inside).map_err(|cause| FilesError::Read { path, cause })?);
            } else {
                return Err(FilesError::Odd { path });
            }
        }
    }
    Ok(Manifest::new(files)?)
}

fn read(path: &Path, inside: String) -> io::Result<BundleFile> {
    let mut file = File::open(path)?;
    let executable = is_executable(&file.metadata()?);
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        size += count as u64;
    }
    Ok(BundleFile {
        path: inside,
        size,
        digest: Digest::from_bytes(hash.finalize().into()),
        executable,
    })
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_with_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/c.js"), "hello").unwrap();
        fs::write(dir.path().join("index.js"), "").unwrap();
        let manifest = manifest_of(dir.path()).unwrap();
        let [deep, index] = manifest.files() else {
            panic!("{manifest:?}");
        };
        assert_eq!((deep.path.as_str(), deep.size), ("a/b/c.js", 5));
        assert_eq!(deep.digest, Digest::of(b"hello"));
        assert_eq!((index.path.as_str(), index.size), ("index.js", 0));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_no_files() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("x")).unwrap();
        assert!(matches!(
            manifest_of(dir.path()),
            Err(FilesError::Odd { .. })
        ));
    }
}
