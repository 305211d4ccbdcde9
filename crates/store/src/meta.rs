//! `meta.db`: what must not be lost. One connection writes, in groups; a few read.
//! Every commit is synced before anybody hears of it.

mod writer;

use std::path::{Path, PathBuf};

use sqlx::{SqliteConnection, SqlitePool, sqlite::SqliteSynchronous};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};

pub(crate) use self::writer::Doing;
use self::writer::Request;
use crate::{
    DataFolder,
    database::{self, BeforeMigrating, Schema},
    error::{OpenError, StoreError},
    fault::Trip,
};

const SCHEMA: Schema = Schema(&[
    (
        1,
        "functions",
        include_str!("../migrations/meta/0001_functions.sql"),
    ),
    (
        2,
        "alias weights",
        include_str!("../migrations/meta/0002_alias_weights.sql"),
    ),
    (
        3,
        "token users",
        include_str!("../migrations/meta/0003_token_users.sql"),
    ),
    (
        4,
        "lambda",
        include_str!("../migrations/meta/0004_lambda.sql"),
    ),
    (
        5,
        "access keys",
        include_str!("../migrations/meta/0005_keys.sql"),
    ),
    (
        6,
        "queue",
        include_str!("../migrations/meta/0006_queue.sql"),
    ),
    (
        7,
        "sources",
        include_str!("../migrations/meta/0007_service.sql"),
    ),
    (
        8,
        "labels",
        include_str!("../migrations/meta/0008_labels.sql"),
    ),
]);

/// Writes that may wait for the writer; whoever comes after them waits for room.
const WAITING_MAX: usize = 256;

pub(crate) struct Meta {
    path: PathBuf,
    readers: SqlitePool,
    requests: mpsc::Sender<Request>,
    /// The writer; taken by whoever closes.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Meta {
    pub(crate) async fn open(folder: &DataFolder) -> Result<Meta, OpenError> {
        let path = folder.path().join("meta.db");
        let options = database::writer_options(&path, SqliteSynchronous::Full);
        let mut conn = database::open(&path, options, SCHEMA, BeforeMigrating::BackUp).await?;
        database::check(&mut conn, &path).await?;
        Ok(Meta::start(path, conn, folder.clone()))
    }

    fn start(path: PathBuf, conn: SqliteConnection, folder: DataFolder) -> Meta {
        let (requests, incoming) = mpsc::channel(WAITING_MAX);
        Meta {
            readers: database::readers(&path),
            task: Mutex::new(Some(tokio::spawn(writer::run(conn, incoming, folder)))),
            requests,
            path,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does `work` on a connection that only reads. `attempt` ends before the path: "list functions of".
    pub(crate) async fn read<T: Send>(
        &self,
        attempt: impl Into<String>,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> Doing<'c, Result<T, Trip>>,
    ) -> Result<T, StoreError> {
        let done = match self.readers.acquire().await {
            Ok(mut conn) => work(&mut conn).await,
            Err(error) => Err(Trip::from(error)),
        };
        done.map_err(|trip| trip.during(attempt, &self.path))
    }

    /// Does `work` inside the next commit, and answers once that is on the disk.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        attempt: impl Into<String>,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> Doing<'c, Result<T, Trip>>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Write(writer::job(work, answer));
        let sent = self.requests.send(request).await;
        sent.map_err(|_| StoreError::Closed)?;
        match answered.await {
            Ok(done) => done.map_err(|trip| trip.during(attempt, &self.path)),
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Finishes the writes that wait, then closes the file. A second call does nothing.
    pub(crate) async fn close(&self) {
        let Some(task) = self.task.lock().await.take() else {
            return;
        };
        self.readers.close().await;
        // A writer that is gone already has nothing left to finish.
        let _ = self.requests.send(Request::Stop).await;
        if let Err(error) = task.await {
            tracing::error!(%error, "the writer of {} ended early", self.path.display());
        }
    }
}
