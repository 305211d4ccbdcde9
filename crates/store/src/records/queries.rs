//! Asking what happened. Every question first waits until all that was sent before is there.

use std::collections::HashMap;

use model::{FunctionId, InvocationId, Level, Record, Timestamp};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, query, query_as, sqlite::SqliteRow};

use super::{
    LogFollower, RecordSink,
    counts::Sampling,
    rows::{LINE, LogCursor, RECORD, StoredLine, id_bytes, level_rank, line_of, record_of, seq},
};
use crate::{Store, StoreError, fault::Trip, functions::parsed};

/// Rows that one question is answered with, at most.
pub const ROWS_MAX: u32 = 10_000;

/// Rows where nobody said how many.
const ROWS: u32 = 100;

/// Which invocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationFilter {
    /// Only those that failed.
    pub failed_only: bool,
    /// At most this many, the newest; never more than [`ROWS_MAX`].
    pub limit: u32,
    /// Only those that come after this one in a list, newest first: the next page.
    /// Nothing comes after one that was pruned.
    pub before: Option<InvocationId>,
}

impl Default for InvocationFilter {
    fn default() -> InvocationFilter {
        InvocationFilter {
            failed_only: false,
            limit: ROWS,
            before: None,
        }
    }
}

/// What a function did.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocations {
    /// Newest first.
    pub records: Vec<Record>,
    /// How much of what ended these are drawn from.
    pub sampling: Sampling,
}

/// Which log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Not newer than this.
    pub until: Option<Timestamp>,
    /// With this somewhere in the text; ASCII letters in either case.
    pub contains: Option<String>,
    /// At least this loud.
    pub at_least: Level,
    /// Of this invocation only.
    pub invocation: Option<InvocationId>,
    /// At most this many; never more than [`ROWS_MAX`].
    pub limit: u32,
    /// The first lines written after this place; `None`: the newest lines.
    pub after: Option<LogCursor>,
}

impl Default for LogFilter {
    fn default() -> LogFilter {
        LogFilter {
            since: None,
            until: None,
            contains: None,
            at_least: Level::Trace,
            invocation: None,
            limit: 1000,
            after: None,
        }
    }
}

impl Store {
    /// Where ended invocations and log lines go.
    pub fn records(&self) -> RecordSink {
        self.history().sink().clone()
    }

    /// Waits until everything sent before can be read.
    ///
    /// # Errors
    /// Why it could not be written. It is held, and tried again, if the disk is full.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.history().flush().await
    }

    /// Deletes the records and log lines that are past the limits, now.
    pub async fn prune_now(&self) -> Result<(), StoreError> {
        self.history().prune_now().await
    }

    /// What a function did, newest first. Nothing for a function that nobody has heard of.
    pub async fn invocations(
        &self,
        function: &FunctionId,
        filter: &InvocationFilter,
    ) -> Result<Invocations, StoreError> {
        self.flush_if_possible().await?;
        let asked = (function.clone(), filter.clone());
        self.history()
            .read("list invocations in", move |conn| {
                let (function, filter) = asked.clone();
                Box::pin(invocations(conn, function, filter))
            })
            .await
    }

    /// One invocation, if it has a record that is still kept.
    pub async fn invocation(&self, id: InvocationId) -> Result<Option<Record>, StoreError> {
        self.flush_if_possible().await?;
        self.history()
            .read("look up an invocation in", move |conn| {
                Box::pin(invocation(conn, id))
            })
            .await
    }

    /// How many invocations of each function ended, ever; functions of which none did are left out.
    pub async fn invocation_counts(&self) -> Result<HashMap<FunctionId, u64>, StoreError> {
        self.flush_if_possible().await?;
        self.history()
            .read("count the invocations in", |conn| Box::pin(totals(conn)))
            .await
    }

    /// Log lines of a function, oldest first.
    pub async fn logs(
        &self,
        function: &FunctionId,
        filter: &LogFilter,
    ) -> Result<Vec<StoredLine>, StoreError> {
        self.flush_if_possible().await?;
        self.history().lines(function, filter, None).await
    }

    /// Log lines of a function, and those to come. Begins with what [`Store::logs`] would say.
    pub fn follow_logs(&self, function: &FunctionId, filter: LogFilter) -> LogFollower {
        LogFollower::new(self.history().clone(), function.clone(), filter)
    }

    /// What is there can be read while a full disk holds up what is not.
    pub(super) async fn flush_if_possible(&self) -> Result<(), StoreError> {
        match self.flush().await {
            Err(StoreError::Storage(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl super::Records {
    /// The lines that fit the filter, none written after `upto`.
    pub(crate) async fn lines(
        &self,
        function: &FunctionId,
        filter: &LogFilter,
        upto: Option<LogCursor>,
    ) -> Result<Vec<StoredLine>, StoreError> {
        let asked = (function.clone(), filter.clone());
        self.read("read logs in", move |conn| {
            let (function, filter) = asked.clone();
            Box::pin(lines(conn, function, filter, upto))
        })
        .await
    }
}

/// The function's key inside the database, if it ever wrote anything.
async fn key_of(conn: &mut SqliteConnection, function: &FunctionId) -> Result<Option<i64>, Trip> {
    let key = sqlx::query_scalar("SELECT key FROM functions WHERE project = ? AND name = ?")
        .bind(function.project.as_str())
        .bind(function.name.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(key)
}

async fn invocations(
    conn: &mut SqliteConnection,
    function: FunctionId,
    filter: InvocationFilter,
) -> Result<Invocations, Trip> {
    let Some(key) = key_of(conn, &function).await? else {
        return Ok(Invocations {
            records: Vec::new(),
            sampling: Sampling::default(),
        });
    };
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT ");
    sql.push(RECORD)
        .push(" FROM invocations WHERE function = ")
        .push_bind(key);
    if filter.failed_only {
        sql.push(" AND outcome <> 'ok'");
    }
    if let Some(before) = filter.before {
        sql.push(" AND (arrived, seq) < (SELECT arrived, seq FROM invocations WHERE id = ");
        sql.push_bind(id_bytes(before)).push(")");
    }
    sql.push(" ORDER BY arrived DESC, seq DESC LIMIT ");
    sql.push_bind(filter.limit.min(ROWS_MAX));
    let rows = sql.build().fetch_all(&mut *conn).await?;
    let records: Result<_, _> = rows.iter().map(|row| record_of(row, &function)).collect();
    Ok(Invocations {
        records: records?,
        sampling: sampling(conn, key).await?,
    })
}

async fn totals(conn: &mut SqliteConnection) -> Result<HashMap<FunctionId, u64>, Trip> {
    let rows = query(
        "SELECT f.project, f.name, t.ended FROM totals t JOIN functions f ON f.key = t.function",
    )
    .fetch_all(conn)
    .await?;
    let count = |row: &SqliteRow| -> Result<(FunctionId, u64), Trip> {
        let ended: i64 = row.try_get(2)?;
        Ok((function_of(row)?, u64::try_from(ended).unwrap_or(0)))
    };
    rows.iter().map(count).collect()
}

async fn sampling(conn: &mut SqliteConnection, key: i64) -> Result<Sampling, Trip> {
    let (recorded, ended, lost): (i64, i64, i64) = query_as(
        "SELECT coalesce(sum(recorded), 0), coalesce(sum(ended), 0), coalesce(sum(lost), 0) \
         FROM counts WHERE function = ?",
    )
    .bind(key)
    .fetch_one(conn)
    .await?;
    let count = |count| u64::try_from(count).unwrap_or(0);
    Ok(Sampling {
        recorded: count(recorded),
        // A record may be stored a moment before its count.
        ended: count(ended).max(count(recorded)),
        lost: count(lost),
    })
}

async fn invocation(conn: &mut SqliteConnection, id: InvocationId) -> Result<Option<Record>, Trip> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT ");
    sql.push(RECORD)
        .push(", function FROM invocations WHERE id = ");
    let row = sql
        .push_bind(id_bytes(id))
        .build()
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let key: i64 = row.try_get("function")?;
    let function = query("SELECT project, name FROM functions WHERE key = ?")
        .bind(key)
        .fetch_one(conn)
        .await?;
    Ok(Some(record_of(&row, &function_of(&function)?)?))
}

fn function_of(row: &SqliteRow) -> Result<FunctionId, Trip> {
    Ok(FunctionId {
        project: parsed(row.try_get(0)?, "a project's name")?,
        name: parsed(row.try_get(1)?, "a function's name")?,
    })
}

async fn lines(
    conn: &mut SqliteConnection,
    function: FunctionId,
    filter: LogFilter,
    upto: Option<LogCursor>,
) -> Result<Vec<StoredLine>, Trip> {
    let Some(key) = key_of(conn, &function).await? else {
        return Ok(Vec::new());
    };
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT ");
    sql.push(LINE).push(" FROM logs WHERE ");
    // What comes after a place is found by the place; the plus keeps the function's index out of it.
    sql.push(if filter.after.is_some() {
        "+function = "
    } else {
        "function = "
    });
    sql.push_bind(key);
    if let Some(after) = filter.after {
        sql.push(" AND seq > ").push_bind(seq(after));
    }
    if let Some(upto) = upto {
        sql.push(" AND seq <= ").push_bind(seq(upto));
    }
    if let Some(since) = filter.since {
        sql.push(" AND at >= ").push_bind(since.0);
    }
    if let Some(until) = filter.until {
        sql.push(" AND at <= ").push_bind(until.0);
    }
    if let Some(text) = filter.contains {
        sql.push(" AND instr(lower(text), lower(").push_bind(text);
        sql.push(")) > 0");
    }
    if let Some(id) = filter.invocation {
        sql.push(" AND invocation = ").push_bind(id_bytes(id));
    }
    if filter.at_least != Level::Trace {
        sql.push(" AND level >= ")
            .push_bind(level_rank(filter.at_least));
    }
    let newest = filter.after.is_none();
    sql.push(if newest {
        " ORDER BY at DESC, seq DESC LIMIT "
    } else {
        " ORDER BY seq LIMIT "
    });
    sql.push_bind(filter.limit.min(ROWS_MAX));
    let mut rows = sql.build().fetch_all(conn).await?;
    if newest {
        rows.reverse();
    }
    rows.iter().map(|row| line_of(row, &function)).collect()
}
