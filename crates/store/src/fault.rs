//! How errors travel inside the store, before anybody says what was attempted on what.
//! The database library's own errors go no further than this file: they become a [`Trouble`] and a cause.

use std::{error::Error, fmt, io, path::PathBuf, sync::Arc};

use crate::error::{Cause, StorageError, StoreError, Trouble};

/// The kind of trouble and its cause, not yet told as an attempt on a path.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) trouble: Trouble,
    pub(crate) cause: Cause,
}

impl Fault {
    /// Content that is damaged in a way that only we can see.
    pub(crate) fn corrupt(what: String) -> Fault {
        Fault {
            trouble: Trouble::Corrupt,
            cause: Arc::new(Said(what)),
        }
    }

    pub(crate) fn other(error: impl Error + Send + Sync + 'static) -> Fault {
        Fault {
            trouble: Trouble::Other,
            cause: Arc::new(error),
        }
    }

    pub(crate) fn during(
        self,
        attempt: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> StorageError {
        StorageError {
            attempt: attempt.into(),
            path: path.into(),
            trouble: self.trouble,
            cause: self.cause,
        }
    }
}

/// Words of the database, without the layers that would print them twice.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Fault {
        Fault {
            trouble: error.trouble,
            cause: error.cause,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        let trouble = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::Full,
            io::ErrorKind::ReadOnlyFilesystem => Trouble::ReadOnly,
            io::ErrorKind::PermissionDenied => Trouble::Denied,
            _ => Trouble::Other,
        };
        Fault {
            trouble,
            cause: Arc::new(error),
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Fault {
        match error {
            sqlx::Error::Io(error) => error.into(),
            sqlx::Error::Database(error) => {
                let code = error.code().and_then(|code| code.parse::<i32>().ok());
                Fault {
                    trouble: code.map_or(Trouble::Other, trouble_of_code),
                    cause: Arc::new(Said(error.message().to_owned())),
                }
            }
            error => Fault::other(error),
        }
    }
}

/// SQLite's result codes; the low byte is the kind, the rest the detail.
fn trouble_of_code(code: i32) -> Trouble {
    match code & 0xff {
        3 => Trouble::Denied,
        8 => Trouble::ReadOnly,
        11 | 26 => Trouble::Corrupt,
        13 => Trouble::Full,
        _ => Trouble::Other,
    }
}

impl From<sqlx::migrate::MigrateError> for Fault {
    fn from(error: sqlx::migrate::MigrateError) -> Fault {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            error => Fault::other(error),
        }
    }
}

/// What a piece of work inside a database may end with, before anybody knows what was attempted.
#[derive(Debug)]
pub(crate) enum Trip {
    /// The database failed.
    Fault(Fault),
    /// A rule said no.
    Refused(StoreError),
    /// A value that this program did not write.
    Unreadable {
        value: String,
        expected: &'static str,
    },
    /// The database was closed meanwhile.
    Closed,
}

impl Trip {
    pub(crate) fn unreadable(value: impl fmt::Display, expected: &'static str) -> Trip {
        let value = value.to_string().chars().take(80).collect();
        Trip::Unreadable { value, expected }
    }

    pub(crate) fn during(self, attempt: impl Into<String>, path: impl Into<PathBuf>) -> StoreError {
        match self {
            Trip::Fault(fault) => fault.during(attempt, path).into(),
            Trip::Refused(error) => error,
            Trip::Unreadable { value, expected } => StoreError::Unreadable {
                path: path.into(),
                value,
                expected,
            },
            Trip::Closed => StoreError::Closed,
        }
    }
}

impl From<sqlx::Error> for Trip {
    fn from(error: sqlx::Error) -> Trip {
        match error {
            sqlx::Error::PoolClosed => Trip::Closed,
            error => Trip::Fault(error.into()),
        }
    }
}

impl From<StoreError> for Trip {
    fn from(error: StoreError) -> Trip {
        Trip::Refused(error)
    }
}
