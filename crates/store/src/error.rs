//! What can go wrong with the data folder and the databases, told as what was attempted on what.

use std::{error::Error, fmt, path::PathBuf, sync::Arc};

use model::{FunctionId, VersionNumber};

/// What lies underneath an error; not repeated in its message.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// A file that could not be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {attempt} {}{trouble}", path.display())]
pub struct StorageError {
    /// What was attempted, such as `point an alias of default/hello in`.
    pub attempt: String,
    /// On what.
    pub path: PathBuf,
    /// The kind of trouble, for whoever has to decide.
    pub trouble: Trouble,
    /// What the system or the database said.
    #[source]
    pub cause: Cause,
}

/// Kinds of trouble with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No space left, or a quota reached.
    Full,
    /// The file, its folder or its file system is read-only.
    ReadOnly,
    /// The permissions do not allow it.
    Denied,
    /// The content is damaged, or no database at all.
    Corrupt,
    /// Something else; the cause says what.
    Other,
}

/// Why the store did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the folder.
    #[error("the data folder {} is held by {}", path.display(), holder(*pid))]
    Held {
        /// The folder.
        path: PathBuf,
        /// Who holds it; `None` in the instant before the holder has written its id.
        pid: Option<u32>,
    },
    /// A newer program has written the database.
    #[error("{} has schema {found}, this program knows schemas up to {known}", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// A file could not be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl OpenError {
    /// The next step for whoever starts the server.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            OpenError::Held { .. } => Some(
                "stop that process; one folder has one server (`serve --data-dir DIR` names another, for `dev` copy the project)",
            ),
            OpenError::NewerSchema { .. } => {
                Some("start the newer program again; its backup copy lies beside the database")
            }
            OpenError::Storage(error) => match error.trouble {
                Trouble::Full => {
                    Some("free some space, or choose another folder with `--data-dir`")
                }
                Trouble::ReadOnly | Trouble::Denied => {
                    Some("choose a folder that can be written with `--data-dir`")
                }
                Trouble::Corrupt => {
                    Some("put a backup in its place, or move it away to start empty")
                }
                Trouble::Other => None,
            },
        }
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No function of that name.
    #[error("there is no function {0}")]
    NoFunction(FunctionId),
    /// The function has no such version.
    #[error("{function} has no version {version}")]
    NoVersion {
        /// The function.
        function: FunctionId,
        /// The version that was asked for.
        version: VersionNumber,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A database holds a value that this program did not write.
    #[error("{} holds `{value}` where {expected} should stand", path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// What stands there, cut to 80 characters.
        value: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// A database could not be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Something that did not stop the start, and that people should read.
#[derive(Debug, Clone)]
pub enum Warning {
    /// The records were corrupt; a fresh database took their place.
    RecordsSetAside {
        /// Where the corrupt file lies now.
        moved_to: PathBuf,
        /// What was wrong with it.
        error: StorageError,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::RecordsSetAside { moved_to, error } => write!(
                f,
                "{} is corrupt and now lies at {}; invocations and logs start afresh ({})",
                error.path.display(),
                moved_to.display(),
                error.cause
            ),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::Full => ": the disk is full",
            Trouble::ReadOnly => ": it is read-only",
            Trouble::Denied => ": the permissions do not allow it",
            Trouble::Corrupt => ": it is corrupt",
            Trouble::Other => "",
        })
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".into(),
    }
}
