//! Pruning: what is past the limits goes, in small pieces, oldest first.

use std::collections::VecDeque;

use model::{FunctionId, Limits, Timestamp};
use sqlx::{SqliteConnection, query, query_as, query_scalar};

use super::{commit::HOUR_MS, recordings};
use crate::fault::Fault;

/// Rows that one step deletes, at most: more than one commit brings, or a busy writer would outrun the pruning.
const ROWS: i64 = 1000;

/// Pages that one step gives back to the file system.
const SHRINK: &str = "PRAGMA incremental_vacuum(1024)";

/// Of 16 parts of `keep_size`, those that are left once it was passed; the rest is room for what comes.
const LEFT: u64 = 15;

/// A pruning, as the pieces that are left of it.
#[derive(Debug, Default)]
pub(crate) struct Prune {
    chores: VecDeque<Chore>,
    /// Deleted functions, of which nothing stays.
    forgetting: VecDeque<FunctionId>,
}

#[derive(Debug, Clone, Copy)]
enum Chore {
    /// Find out which functions there are.
    Plan,
    /// What is too old, or too many, of the function of this key.
    Function(i64),
    /// Counts of hours long past.
    Counts,
    /// See whether the recordings are too large.
    Recordings,
    /// Delete some of them.
    OldRecordings,
    /// See whether all together is too large.
    Measure,
    /// Delete until it takes no more than this many bytes.
    DownTo(u64),
    /// Give back pages that nothing stands on.
    Shrink,
}

impl Prune {
    /// Begins anew.
    pub(crate) fn start(&mut self) {
        self.chores = [
            Chore::Plan,
            Chore::Counts,
            Chore::Recordings,
            Chore::Measure,
            Chore::Shrink,
        ]
        .into();
    }

    /// Looks at the size only.
    pub(crate) fn measure(&mut self) {
        if !self.goes_on() {
            self.chores = [Chore::Recordings, Chore::Measure, Chore::Shrink].into();
        }
    }

    /// Deletes everything of a function, before all else.
    pub(crate) fn forget(&mut self, function: FunctionId) {
        self.forgetting.push_back(function);
    }

    pub(crate) fn stop(&mut self) {
        self.chores.clear();
        self.forgetting.clear();
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.chores.is_empty() || !self.forgetting.is_empty()
    }

    /// Does one piece, of bounded size.
    pub(crate) async fn step(
        &mut self,
        conn: &mut SqliteConnection,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<(), Fault> {
        if let Some(function) = self.forgetting.front() {
            if !forget_some(conn, function).await? {
                self.forgetting.pop_front();
            }
            return Ok(());
        }
        let Some(chore) = self.chores.pop_front() else {
            return Ok(());
        };
        let cutoff = Timestamp(now.0.saturating_sub_unsigned(limits.keep_time.0));
        let unfinished = match chore {
            Chore::Plan => {
                let keys = query_scalar("SELECT key FROM functions ORDER BY key DESC");
                for key in keys.fetch_all(conn).await? {
                    self.chores.push_front(Chore::Function(key));
                }
                None
            }
            Chore::Function(key) => {
                let more = prune_function(conn, key, cutoff, limits.keep_invocations).await?;
                more.then_some(chore)
            }
            Chore::Counts => {
                let old = query("DELETE FROM counts WHERE hour < ?").bind(cutoff.0 / HOUR_MS);
                old.execute(conn).await?;
                None
            }
            Chore::Recordings => {
                let limit = limits.keep_recordings.0;
                let too_large = recordings::are_too_large(conn, limit).await?;
                too_large.then_some(Chore::OldRecordings)
            }
            Chore::OldRecordings => {
                let more = recordings::prune(conn, limits.keep_recordings.0).await?;
                more.then_some(chore)
            }
            Chore::Measure => {
                let limit = limits.keep_size.0;
                (used(conn).await? > limit).then_some(Chore::DownTo(limit / 16 * LEFT))
            }
            Chore::DownTo(size) => {
                let more = prune_oldest(conn, size).await?;
                more.then_some(chore)
            }
            Chore::Shrink => {
                query(SHRINK).execute(&mut *conn).await?;
                let free: i64 = query_scalar("PRAGMA freelist_count")
                    .fetch_one(conn)
                    .await?;
                (free > 0).then_some(chore)
            }
        };
        if let Some(chore) = unfinished {
            self.chores.push_front(chore);
        }
        Ok(())
    }
}

/// Deletes a piece of what there is of a function; whether more is left. Its own row stays, and means nothing.
async fn forget_some(
    conn: &mut SqliteConnection,
    function: &FunctionId,
) -> Result<bool, sqlx::Error> {
    let key: Option<i64> = query_scalar("SELECT key FROM functions WHERE project = ? AND name = ?")
        .bind(function.project.as_str())
        .bind(function.name.as_str())
        .fetch_optional(&mut *conn)
        .await?;
    let Some(key) = key else { return Ok(false) };
    let mut more = false;
    for sql in [
        "DELETE FROM invocations WHERE seq IN (SELECT seq FROM invocations WHERE function = ? LIMIT ?)",
        "DELETE FROM logs WHERE seq IN (SELECT seq FROM logs WHERE function = ? LIMIT ?)",
        "DELETE FROM counts WHERE (function, hour) IN (SELECT function, hour FROM counts WHERE function = ? LIMIT ?)",
        "DELETE FROM totals WHERE function IN (SELECT function FROM totals WHERE function = ? LIMIT ?)",
    ] {
        let deleted = query(sql).bind(key).bind(ROWS).execute(&mut *conn).await?;
        more |= deleted.rows_affected() >= ROWS.unsigned_abs();
    }
    Ok(more)
}

/// Bytes that rows and indexes stand on.
async fn used(conn: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let used: i64 = query_scalar(
        "SELECT (page_count - freelist_count) * page_size \
         FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(used).unwrap_or(0))
}

/// Whether more is left to delete. Lines go with the invocations that they are as old as.
async fn prune_function(
    conn: &mut SqliteConnection,
    key: i64,
    cutoff: Timestamp,
    keep: u64,
) -> Result<bool, sqlx::Error> {
    let surplus: Option<(i64, i64)> = query_as(
        "SELECT arrived, seq FROM invocations WHERE function = ? \
         ORDER BY arrived DESC, seq DESC LIMIT 1 OFFSET ?",
    )
    .bind(key)
    .bind(i64::try_from(keep).unwrap_or(i64::MAX))
    .fetch_optional(&mut *conn)
    .await?;
    let too_old = (cutoff.0, 0);
    let (arrived, seq) = surplus.unwrap_or(too_old).max(too_old);
    let invocations = query(
        "DELETE FROM invocations WHERE seq IN (SELECT seq FROM invocations \
         WHERE function = ? AND (arrived, seq) <= (?, ?) ORDER BY arrived, seq LIMIT ?)",
    )
    .bind(key)
    .bind(arrived)
    .bind(seq)
    .bind(ROWS)
    .execute(&mut *conn)
    .await?;
    let lines = query(
        "DELETE FROM logs WHERE seq IN (SELECT seq FROM logs \
         WHERE function = ? AND at < ? ORDER BY at, seq LIMIT ?)",
    )
    .bind(key)
    .bind(arrived)
    .bind(ROWS)
    .execute(conn)
    .await?;
    let most = invocations.rows_affected().max(lines.rows_affected());
    Ok(most >= ROWS.unsigned_abs())
}

/// Deletes from whichever table has the older first row; `false` once all takes no more than `size` bytes.
async fn prune_oldest(conn: &mut SqliteConnection, size: u64) -> Result<bool, sqlx::Error> {
    let excess = used(conn).await?.saturating_sub(size);
    let (record, line, rows): (Option<i64>, Option<i64>, i64) = query_as(
        "SELECT (SELECT arrived FROM invocations ORDER BY seq LIMIT 1), \
         (SELECT at FROM logs ORDER BY seq LIMIT 1), \
         coalesce((SELECT max(seq) FROM invocations) - (SELECT min(seq) FROM invocations) + 1, 0) \
         + coalesce((SELECT max(seq) FROM logs) - (SELECT min(seq) FROM logs) + 1, 0)",
    )
    .fetch_one(&mut *conn)
    .await?;
    let sql = match (record, line) {
        (None, None) => return Ok(false),
        _ if excess == 0 => return Ok(false),
        (Some(record), line) if line.is_none_or(|line| record <= line) => {
            "DELETE FROM invocations WHERE seq IN (SELECT seq FROM invocations ORDER BY seq LIMIT ?)"
        }
        _ => "DELETE FROM logs WHERE seq IN (SELECT seq FROM logs ORDER BY seq LIMIT ?)",
    };
    // As if all rows were of one size; lines can be large, and no more should go than has to.
    let average = (size + excess) / rows.unsigned_abs().max(1);
    let surplus = i64::try_from(excess / average.max(1)).unwrap_or(ROWS);
    query(sql)
        .bind(surplus.clamp(1, ROWS))
        .execute(conn)
        .await?;
    Ok(true)
}
