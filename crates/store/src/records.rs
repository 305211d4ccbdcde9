//! `records.db`: what happened. Losing it costs history, not function, so it is set aside when it is damaged.
//! One task writes, off the hot path; a few connections read, and see all that was sent before they asked.

mod commit;
mod counts;
mod follow;
mod prune;
mod queries;
mod recordings;
mod rows;
mod sink;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use model::{Clock, FunctionId, Limits};
use sqlx::{SqliteConnection, SqlitePool, sqlite::SqliteSynchronous};
use tokio::{
    sync::{Mutex, RwLock, watch},
    task::JoinHandle,
};

pub(crate) use self::rows::{id_bytes, id_of};
use self::writer::{Surroundings, Writer};
pub use self::{
    counts::{Sampler, Sampling},
    follow::LogFollower,
    queries::{InvocationFilter, Invocations, LogFilter, ROWS_MAX},
    recordings::RecordingDraft,
    rows::{LogCursor, StoredLine},
    sink::RecordSink,
};
use crate::{
    DataFolder,
    database::{self, BeforeMigrating, Schema},
    error::{OpenError, StorageError, StoreError, Trouble, Warning},
    fault::{Fault, Trip},
    meta::Doing,
};

const SCHEMA: Schema = Schema(&[
    (
        1,
        "records",
        include_str!("../migrations/records/0001_records.sql"),
    ),
    (
        2,
        "attempts",
        include_str!("../migrations/records/0002_attempts.sql"),
    ),
    (
        3,
        "recordings",
        include_str!("../migrations/records/0003_recordings.sql"),
    ),
    (
        4,
        "totals",
        include_str!("../migrations/records/0004_totals.sql"),
    ),
]);

#[derive(Clone)]
pub(crate) struct Records(Arc<Inner>);

struct Inner {
    path: PathBuf,
    sink: RecordSink,
    readers: Arc<RwLock<Readers>>,
    /// The highest sequence of a log line that is committed.
    written: watch::Receiver<LogCursor>,
    /// The writer; taken by whoever closes.
    task: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

/// Connections to the present file. Reading holds the lock shared, putting another file there holds it alone.
struct Readers {
    pool: SqlitePool,
    /// Counts the files that were set aside, so that one fault seen twice sets aside one file.
    generation: u64,
}

impl Records {
    /// Opens the file; sets it aside first, and says so, if it is corrupt.
    pub(crate) async fn open(
        folder: &DataFolder,
        limits: &Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<(Records, Option<Warning>), OpenError> {
        let path = folder.path().join("records.db");
        let (mut conn, warning) = open_or_set_aside(&path, &*clock).await?;
        let first = rows::last_cursor(&mut conn).await;
        let first = first.map_err(|error| Fault::from(error).during("read", &path))?;
        let (sink, intake) = RecordSink::new(limits.records_per_second);
        let readers = Arc::new(RwLock::new(Readers {
            pool: database::readers(&path),
            generation: 0,
        }));
        let (written, committed) = watch::channel(first);
        let around = Surroundings {
            path: path.clone(),
            readers: Arc::clone(&readers),
            written,
            limits: limits.clone(),
            clock,
            folder: folder.clone(),
        };
        let inner = Inner {
            path,
            sink,
            readers,
            written: committed,
            task: Mutex::new(Some(tokio::spawn(Writer::new(around, conn, intake).run()))),
        };
        Ok((Records(Arc::new(inner)), warning))
    }

    pub(crate) fn sink(&self) -> &RecordSink {
        &self.0.sink
    }

    /// Waits until all that was sent before can be read.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.0.sink.flush().await
    }

    pub(crate) async fn prune_now(&self) -> Result<(), StoreError> {
        self.0.sink.prune().await
    }

    pub(crate) async fn forget(&self, function: FunctionId) -> Result<(), StoreError> {
        self.0.sink.forget(function).await
    }

    /// Does `work` on a connection that only reads. A corrupt file is set aside, and the work done on the fresh one.
    pub(crate) async fn read<T: Send>(
        &self,
        attempt: &str,
        work: impl for<'c> Fn(&'c mut SqliteConnection) -> Doing<'c, Result<T, Trip>>,
    ) -> Result<T, StoreError> {
        let (mut done, generation) = self.read_once(&work).await;
        if let Err(Trip::Fault(fault)) = &done
            && fault.trouble == Trouble::Corrupt
        {
            let error = fault.clone().during(attempt, &self.0.path);
            self.0.sink.set_aside(generation, error).await?;
            (done, _) = self.read_once(&work).await;
        }
        done.map_err(|trip| trip.during(attempt, &self.0.path))
    }

    async fn read_once<T: Send>(
        &self,
        work: &impl for<'c> Fn(&'c mut SqliteConnection) -> Doing<'c, Result<T, Trip>>,
    ) -> (Result<T, Trip>, u64) {
        let readers = self.0.readers.read().await;
        let done = match readers.pool.acquire().await {
            Ok(mut conn) => work(&mut conn).await,
            Err(error) => Err(Trip::from(error)),
        };
        (done, readers.generation)
    }

    /// Writes what waits, then closes the file. A second call does nothing.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let Some(task) = self.0.task.lock().await.take() else {
            return Ok(());
        };
        self.0.sink.stop().await;
        match task.await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "the writer of {} ended early", self.0.path.display());
                Ok(())
            }
        }
    }
}

async fn open_file(path: &Path) -> Result<SqliteConnection, OpenError> {
    let options = database::writer_options(path, SqliteSynchronous::Normal);
    database::open(path, options, SCHEMA, BeforeMigrating::Proceed).await
}

async fn open_or_set_aside(
    path: &Path,
    clock: &dyn Clock,
) -> Result<(SqliteConnection, Option<Warning>), OpenError> {
    let error = match open_and_glance(path).await {
        Ok(conn) => return Ok((conn, None)),
        Err(OpenError::Storage(error)) if error.trouble == Trouble::Corrupt => error,
        Err(error) => return Err(error),
    };
    let moved_to = move_away(path, clock)?;
    let warning = Warning::RecordsSetAside { moved_to, error };
    Ok((open_file(path).await?, Some(warning)))
}

/// Opens the file and reads a little of every table. A whole check of a gigabyte would hold up the start;
/// damage that lies deeper is found when it is first met.
async fn open_and_glance(path: &Path) -> Result<SqliteConnection, OpenError> {
    let mut conn = open_file(path).await?;
    match rows::glance(&mut conn).await {
        Ok(()) => Ok(conn),
        Err(error) => {
            // It is about to be set aside as it is.
            let _ = sqlx::Connection::close(conn).await;
            Err(Fault::from(error).during("read", path).into())
        }
    }
}

/// Renames a database, and what belongs to it, to `FILE.corrupt-<milliseconds>`.
fn move_away(path: &Path, clock: &dyn Clock) -> Result<PathBuf, StorageError> {
    let moved_to = database::beside(path, &format!("corrupt-{}", clock.now().0));
    let failed = |error: std::io::Error| Fault::from(error).during("set aside", path);
    for suffix in ["-wal", "-shm", ""] {
        let part = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        match std::fs::rename(part(path), part(&moved_to)) {
            Err(error) if suffix.is_empty() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    Ok(moved_to)
}
