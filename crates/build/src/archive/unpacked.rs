//! One archive on its way to disk: each entry is checked before a byte of it is written.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use model::{BundleFile, Digest, Limits, Manifest, ManifestError};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::UnpackError;
use crate::files::CHUNK;

/// What has been unpacked so far.
pub(super) struct Unpacked<'u> {
    dest: &'u Path,
    limits: &'u Limits,
    files: Vec<BundleFile>,
    size: u64,
    /// Folders that hold something new, relative to `dest`.
    folders: BTreeSet<PathBuf>,
}

impl<'u> Unpacked<'u> {
    pub(super) fn new(dest: &'u Path, limits: &'u Limits) -> Unpacked<'u> {
        Unpacked {
            dest,
            limits,
            files: Vec::new(),
            size: 0,
            folders: BTreeSet::new(),
        }
    }

    pub(super) fn too_many(&self) -> UnpackError {
        UnpackError::TooMany {
            limit: self.limits.bundle_files,
        }
    }

    pub(super) fn entry(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        kind: EntryType,
        path: &[u8],
    ) -> Result<(), UnpackError> {
        let shown: String = String::from_utf8_lossy(path).chars().take(120).collect();
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous => {
                let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
                let size = entry.size();
                return self.file(entry, path, size, executable);
            }
            // Folders come with their files; their entries say nothing.
            EntryType::Directory if entry.size() == 0 => return Ok(()),
            EntryType::Directory => "a folder with content",
            EntryType::Symlink => "a symbolic link",
            EntryType::Link => "a hard link",
            EntryType::Char | EntryType::Block => "a device",
            EntryType::Fifo => "a pipe",
            _ => "an entry of an unknown kind",
        };
        Err(UnpackError::Kind { kind, path: shown })
    }

    /// One plain file: `size` bytes of the reader, and no more.
    pub(super) fn file(
        &mut self,
        reader: &mut impl Read,
        path: &[u8],
        size: u64,
        executable: bool,
    ) -> Result<(), UnpackError> {
        if self.files.len() as u64 >= self.limits.bundle_files {
            return Err(self.too_many());
        }
        // By what the header says, before a byte is written.
        self.size = self.size.saturating_add(size);
        if self.size > self.limits.bundle_unpacked.0 {
            return Err(UnpackError::TooLarge {
                limit: self.limits.bundle_unpacked,
            });
        }
        let path = String::from_utf8(path.to_vec()).map_err(|error| {
            ManifestError::Path(
                String::from_utf8_lossy(error.as_bytes())
                    .chars()
                    .take(120)
                    .collect(),
            )
        })?;
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        let mut listed = BundleFile {
            path,
            size,
            digest: Digest::of(b""),
            executable,
        };
        // The model's own rule for paths, before anything is made.
        Manifest::new(vec![listed.clone()])?;
        listed.digest = self.write(reader, &listed)?;
        self.files.push(listed);
        Ok(())
    }

    fn write(
        &mut self,
        reader: &mut impl Read,
        listed: &BundleFile,
    ) -> Result<Digest, UnpackError> {
        let path = self.dest.join(&listed.path);
        let fail = |cause| UnpackError::Write {
            path: path.clone(),
            cause,
        };
        let parents = Path::new(&listed.path).ancestors().skip(1);
        self.folders.extend(parents.map(Path::to_owned));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|cause| match cause.kind() {
                // A file of the archive lies where this one needs a folder.
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                    UnpackError::Manifest(ManifestError::Twice(listed.path.clone()))
                }
                _ => fail(cause),
            })?;
        }
        let mut file = match new_file(&path, listed.executable) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ManifestError::Twice(listed.path.clone()).into());
            }
            file => file.map_err(fail)?,
        };
        let mut hash = Sha256::new();
        let mut left = listed.size;
        let mut chunk = vec![0; CHUNK];
        while left > 0 {
            let count = reader.read(&mut chunk).map_err(UnpackError::Corrupt)?;
            if count == 0 {
                return Err(UnpackError::Corrupt(io::ErrorKind::UnexpectedEof.into()));
            }
            hash.update(&chunk[..count]);
            file.write_all(&chunk[..count]).map_err(fail)?;
            left = left.saturating_sub(count as u64);
        }
        file.sync_all().map_err(fail)?;
        Ok(Digest::from_bytes(hash.finalize().into()))
    }

    /// Makes the folders last, and lists what they hold.
    pub(super) fn finish(self) -> Result<Manifest, UnpackError> {
        for folder in &self.folders {
            let path = self.dest.join(folder);
            sync_folder(&path).map_err(|cause| UnpackError::Write { path, cause })?;
        }
        Ok(Manifest::new(self.files)?)
    }
}

#[cfg(unix)]
fn new_file(path: &Path, executable: bool) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mode = if executable { 0o755 } else { 0o644 };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

#[cfg(not(unix))]
fn new_file(path: &Path, _: bool) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
