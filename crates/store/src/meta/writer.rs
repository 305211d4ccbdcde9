//! The one writer of `meta.db`: takes whatever waits, commits it together, then answers everybody.
//! A piece of work that fails takes back only what it did itself.

use std::pin::Pin;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::{
    DataFolder,
    database::say,
    fault::{Fault, Trip},
};

/// Pieces of work in one commit, at most: enough to share a sync, few enough that nobody waits long.
const GROUP_MAX: usize = 64;

/// A future that borrows the connection.
pub(crate) type Doing<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// What the writer is asked.
pub(crate) enum Request {
    /// Do this inside the next commit.
    Write(Job),
    /// Finish what waits, then end.
    Stop,
}

/// Work that answers its asker, at the commit if it succeeded, at once if not.
/// It gets a fault instead of a connection if there is none to be had.
pub(crate) type Job = Box<
    dyn for<'c> FnOnce(
            Result<&'c mut SqliteConnection, Fault>,
        ) -> Doing<'c, Result<Answer, Option<Fault>>>
        + Send,
>;

/// Told how the commit ended.
type Answer = Box<dyn FnOnce(Result<(), Fault>) + Send>;

/// Ties work to the one who waits for it.
pub(crate) fn job<T: Send + 'static>(
    work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> Doing<'c, Result<T, Trip>> + Send + 'static,
    asker: oneshot::Sender<Result<T, Trip>>,
) -> Job {
    Box::new(move |conn| {
        Box::pin(async move {
            let done = match conn {
                Ok(conn) => work(conn).await,
                Err(fault) => Err(Trip::Fault(fault)),
            };
            // An asker that has left misses the answer; the work stands all the same.
            match done {
                Ok(value) => Ok(Box::new(move |committed: Result<(), Fault>| {
                    let _ = asker.send(committed.map(|()| value).map_err(Trip::Fault));
                }) as Answer),
                Err(trip) => {
                    let fault = match &trip {
                        Trip::Fault(fault) => Some(fault.clone()),
                        Trip::Refused(_) | Trip::Unreadable { .. } | Trip::Closed => None,
                    };
                    let _ = asker.send(Err(trip));
                    Err(fault)
                }
            }
        })
    })
}

/// Runs until it is told to stop, or until nobody is left who could ask. The folder stays held as long.
pub(crate) async fn run(
    mut conn: SqliteConnection,
    mut requests: mpsc::Receiver<Request>,
    _folder: DataFolder,
) {
    let mut waiting = Vec::with_capacity(GROUP_MAX);
    while requests.recv_many(&mut waiting, GROUP_MAX).await > 0 {
        let mut jobs = Vec::with_capacity(waiting.len());
        for request in waiting.drain(..) {
            match request {
                Request::Write(job) => jobs.push(job),
                Request::Stop => requests.close(),
            }
        }
        commit(&mut conn, jobs).await;
    }
    if let Err(error) = conn.close().await {
        tracing::warn!(%error, "meta.db did not close cleanly");
    }
}

async fn commit(conn: &mut SqliteConnection, jobs: Vec<Job>) {
    let mut jobs = jobs.into_iter();
    let mut answers = Vec::with_capacity(jobs.len());
    let outcome = apply(conn, &mut jobs, &mut answers).await;
    for answer in answers {
        answer(outcome.clone());
    }
    if let Err(fault) = outcome {
        for job in jobs {
            // It tells its asker by itself.
            let _ = job(Err(fault.clone())).await;
        }
    }
}

/// Does the jobs in one transaction. Those that it did not come to stay in `jobs`.
async fn apply(
    conn: &mut SqliteConnection,
    jobs: &mut std::vec::IntoIter<Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), Fault> {
    if jobs.len() == 0 {
        return Ok(());
    }
    say(conn, "BEGIN IMMEDIATE").await?;
    let applied = apply_each(conn, jobs, answers).await;
    let outcome = match applied {
        Ok(()) => say(conn, "COMMIT").await,
        Err(fault) => Err(fault),
    };
    if outcome.is_err() {
        // Fails where the database took the transaction back by itself, as it does on a full disk.
        let _ = say(conn, "ROLLBACK").await;
    }
    outcome
}

async fn apply_each(
    conn: &mut SqliteConnection,
    jobs: &mut std::vec::IntoIter<Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), Fault> {
    while jobs.len() > 0 {
        say(conn, "SAVEPOINT own").await?;
        let Some(job) = jobs.next() else { break };
        match job(Ok(&mut *conn)).await {
            Ok(answer) => {
                answers.push(answer);
                say(conn, "RELEASE own").await?;
            }
            // If the database took back the whole group there is nothing to return to:
            // then its fault, not the missing savepoint, is what the neighbours hear.
            Err(fault) => match say(conn, "ROLLBACK TO own").await {
                Ok(()) => say(conn, "RELEASE own").await?,
                Err(missing) => return Err(fault.unwrap_or(missing)),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions, query, query_scalar, sqlite::SqliteSynchronous};

    use super::*;
    use crate::{StoreError, Trouble, database::writer_options, meta::Meta};

    /// A writer on a database that may grow to a hundred pages, where a full disk begins.
    async fn on_a_small_disk(folder: &std::path::Path) -> Meta {
        let path = folder.join("meta.db");
        let options =
            writer_options(&path, SqliteSynchronous::Full).pragma("max_page_count", "100");
        let mut conn = options.create_if_missing(true).connect().await.unwrap();
        query("CREATE TABLE notes (text TEXT NOT NULL)")
            .execute(&mut conn)
            .await
            .unwrap();
        Meta::start(path, conn, DataFolder::open(folder).unwrap())
    }

    async fn note(meta: &Meta, text: String) -> Result<(), StoreError> {
        meta.write("write a note to", move |conn| Box::pin(insert(conn, text)))
            .await
    }

    async fn insert(conn: &mut SqliteConnection, text: String) -> Result<(), Trip> {
        query("INSERT INTO notes VALUES (?)")
            .bind(text.clone())
            .execute(conn)
            .await?;
        if text == "refuse" {
            return Err(Trip::unreadable(text, "a note"));
        }
        Ok(())
    }

    async fn notes(meta: &Meta) -> Vec<String> {
        let mut conn = meta.readers.acquire().await.unwrap();
        let all = query_scalar("SELECT text FROM notes ORDER BY rowid");
        all.fetch_all(&mut *conn).await.unwrap()
    }

    #[tokio::test]
    async fn one_refusal_does_not_take_back_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let meta = on_a_small_disk(folder.path()).await;
        let (one, refused, two) = tokio::join!(
            note(&meta, "one".into()),
            note(&meta, "refuse".into()),
            note(&meta, "two".into())
        );
        assert!(one.is_ok() && refused.is_err() && two.is_ok());
        assert_eq!(notes(&meta).await, ["one", "two"]);
    }

    #[tokio::test]
    async fn a_full_disk_is_named_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let meta = on_a_small_disk(folder.path()).await;
        note(&meta, "kept".into()).await.unwrap();
        let StoreError::Storage(error) = note(&meta, "x".repeat(1 << 20)).await.unwrap_err() else {
            panic!("a full disk is a storage error");
        };
        assert_eq!(error.trouble, Trouble::Full);
        let words = format!(
            "cannot write a note to {}: the disk is full",
            meta.path().display()
        );
        assert_eq!(error.to_string(), words);
        note(&meta, "after".into()).await.unwrap();
        assert_eq!(notes(&meta).await, ["kept", "after"]);
    }
}
