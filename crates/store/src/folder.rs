//! The data folder: one process at a time may use it. Knows nothing of what lies inside.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{error::OpenError, fault::Fault};

/// A data folder that this process holds, until the last clone is dropped.
///
/// The system takes the lock from a process that dies, however it dies, so the next one may start at once.
#[derive(Debug, Clone)]
pub struct DataFolder(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// Open for as long as the folder is held: the lock is the kernel's, on this open file.
    _lock: File,
}

impl DataFolder {
    /// Creates the folder (mode 0700) if need be, and takes its lock.
    ///
    /// # Errors
    /// [`OpenError::Held`] names the process that has it; otherwise what could not be written.
    pub fn open(path: impl Into<PathBuf>) -> Result<DataFolder, OpenError> {
        let path = path.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| Fault::from(error).during("create the data folder", &path))?;
        let lock = take_lock(&path)?;
        Ok(DataFolder(Arc::new(Held { path, _lock: lock })))
    }

    /// The folder, as it was given.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Removed while it is still locked: nobody else can have put another file in its place.
        // If it cannot be removed it stays, unlocked, and harms nobody.
        let _ = fs::remove_file(lock_path(&self.path));
    }
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.join("lock")
}

fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let path = lock_path(folder);
    let failed = |attempt: &str, error: io::Error| {
        OpenError::from(Fault::from(error).during(attempt, &path))
    };
    // Goes round again only when a holder has left, and removed the file, since it was opened here.
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("open", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Held {
                    path: folder.into(),
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
        }
        if is_at(&file, &path).map_err(|error| failed("look at", error))? {
            write_pid(&mut file).map_err(|error| failed("write", error))?;
            return Ok(file);
        }
    }
}

/// Whether the path still leads to this very file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}
