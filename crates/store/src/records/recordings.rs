//! Recordings of what invocations were asked: bytes to the store, which were redacted before they came here.

use std::fmt;

use model::{FunctionId, InvocationId};
use sqlx::{SqliteConnection, query, query_scalar};

use super::rows::id_bytes;
use crate::{Store, StoreError};

/// A recording of this size or more, in bytes, is written out on a thread of its own.
const LARGE: usize = 64 << 10;

/// Recordings that one step of a pruning deletes, at most: each may stand on thousands of pages.
const ROWS: i64 = 50;

/// Of 16 parts of `keep_recordings`, those that are left once it was passed.
const LEFT: u64 = 15;

/// A recording that is yet to be written out, by the writer of the records and on its time.
pub struct RecordingDraft {
    /// The invocation, whose record was sent before.
    pub invocation: InvocationId,
    /// The function that it asked.
    pub function: FunctionId,
    /// What it takes while it waits, about, in bytes.
    pub size: usize,
    /// Writes it out, secrets taken out.
    pub write: Box<dyn FnOnce() -> Vec<u8> + Send>,
}

impl fmt::Debug for RecordingDraft {
    /// What is in it may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordingDraft")
            .field(&self.invocation)
            .finish_non_exhaustive()
    }
}

/// A recording as it is stored.
pub(crate) struct Written {
    pub(crate) invocation: InvocationId,
    pub(crate) function: FunctionId,
    /// What it took while it waited.
    pub(crate) size: usize,
    pub(crate) content: Vec<u8>,
}

impl RecordingDraft {
    /// `None` if the draft cannot be written out.
    pub(crate) async fn written(self) -> Option<Written> {
        let RecordingDraft {
            invocation,
            function,
            size,
            write,
        } = self;
        let content = if size < LARGE {
            write()
        } else {
            tokio::task::spawn_blocking(write).await.ok()?
        };
        Some(Written {
            invocation,
            function,
            size,
            content,
        })
    }
}

impl Store {
    /// The recording of an invocation, if there is one that is still kept.
    pub async fn recording(&self, id: InvocationId) -> Result<Option<Vec<u8>>, StoreError> {
        self.flush_if_possible().await?;
        self.history()
            .read("look up a recording in", move |conn| {
                Box::pin(async move {
                    let found = query_scalar("SELECT content FROM recordings WHERE invocation = ?");
                    Ok(found.bind(id_bytes(id)).fetch_optional(conn).await?)
                })
            })
            .await
    }
}

/// Stores a recording, if its invocation has a record.
pub(crate) async fn insert(
    conn: &mut SqliteConnection,
    recording: &Written,
) -> Result<(), sqlx::Error> {
    query(
        "INSERT OR REPLACE INTO recordings (invocation, bytes, content) \
         SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM invocations WHERE id = ?1)",
    )
    .bind(id_bytes(recording.invocation))
    .bind(i64::try_from(recording.content.len()).unwrap_or(i64::MAX))
    .bind(&recording.content)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether all recordings together take more than `limit` bytes.
pub(crate) async fn are_too_large(
    conn: &mut SqliteConnection,
    limit: u64,
) -> Result<bool, sqlx::Error> {
    let sum: i64 = query_scalar("SELECT coalesce(sum(bytes), 0) FROM recordings")
        .fetch_one(conn)
        .await?;
    Ok(u64::try_from(sum).unwrap_or(0) > limit)
}

/// Deletes some of the oldest beyond `limit`; whether more are left.
pub(crate) async fn prune(conn: &mut SqliteConnection, limit: u64) -> Result<bool, sqlx::Error> {
    let kept = i64::try_from(limit / 16 * LEFT).unwrap_or(i64::MAX);
    let deleted = query(
        "DELETE FROM recordings WHERE seq IN (SELECT seq FROM \
         (SELECT seq, sum(bytes) OVER (ORDER BY seq DESC) AS newer FROM recordings) \
         WHERE newer > ? ORDER BY seq LIMIT ?)",
    )
    .bind(kept)
    .bind(ROWS)
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected() >= ROWS.unsigned_abs())
}
