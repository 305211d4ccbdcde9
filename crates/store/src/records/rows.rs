//! Rows of `records.db`: how records and lines are written, and read back.

use std::collections::HashMap;

use model::{
    FunctionId, HandlerFault, InvocationId, Level, LogLine, Record, Timestamp, VersionNumber,
};
use sqlx::{Row, SqliteConnection, query, query_scalar, sqlite::SqliteRow};

use super::{counts::Sampling, sink::Lost};
use crate::{
    database::say,
    error::{Fault, Trip},
    functions::parsed,
    versions::number_of,
};

/// Counts of ended invocations are kept by the hour.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// The place of a log line in the order of writing. It only grows, restarts included, unless the next start
/// finds the records corrupt and begins afresh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogCursor(pub u64);

/// A log line, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLine {
    /// Where it stands.
    pub cursor: LogCursor,
    /// The line.
    pub line: LogLine,
}

/// What one commit holds.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) records: &'a [Record],
    pub(crate) lines: &'a [LogLine],
    pub(crate) ended: &'a [(FunctionId, u64)],
    pub(crate) lost: &'a HashMap<FunctionId, Lost>,
    pub(crate) now: Timestamp,
}

/// Keys of functions that were looked up already.
pub(crate) type Keys = HashMap<FunctionId, i64>;

/// Writes all or nothing; the cursor that comes back is that of the last line.
pub(crate) async fn write(
    conn: &mut SqliteConnection,
    keys: &mut Keys,
    last: LogCursor,
    commit: &Commit<'_>,
) -> Result<LogCursor, Fault> {
    say(conn, "BEGIN IMMEDIATE").await?;
    let outcome = match insert_all(conn, keys, last, commit).await {
        Ok(last) => say(conn, "COMMIT").await.map(|()| last),
        Err(error) => Err(error.into()),
    };
    if outcome.is_err() {
        // Fails where the database took the transaction back by itself. Keys may have gone with it.
        let _ = say(conn, "ROLLBACK").await;
        keys.clear();
    }
    outcome
}

async fn insert_all(
    conn: &mut SqliteConnection,
    keys: &mut Keys,
    mut last: LogCursor,
    commit: &Commit<'_>,
) -> Result<LogCursor, sqlx::Error> {
    let mut counts: HashMap<i64, Sampling> = HashMap::new();
    for record in commit.records {
        let key = key_of(conn, keys, &record.function).await?;
        insert_record(conn, key, record).await?;
        counts.entry(key).or_default().recorded += 1;
    }
    for line in commit.lines {
        let key = key_of(conn, keys, &line.function).await?;
        last.0 += 1;
        insert_line(conn, key, last, line).await?;
    }
    for (function, lost) in commit.lost {
        let key = key_of(conn, keys, function).await?;
        counts.entry(key).or_default().lost += lost.records + lost.lines;
        if let Some(marker) = marker(function, *lost, commit.now) {
            last.0 += 1;
            insert_line(conn, key, last, &marker).await?;
        }
    }
    for (function, ended) in commit.ended {
        let key = key_of(conn, keys, function).await?;
        counts.entry(key).or_default().ended += ended;
    }
    for (key, counts) in counts {
        add_counts(conn, key, commit.now, counts).await?;
    }
    Ok(last)
}

/// The line that stands where lines are missing.
fn marker(function: &FunctionId, lost: Lost, now: Timestamp) -> Option<LogLine> {
    Some(LogLine {
        at: now,
        function: function.clone(),
        version: lost.version?,
        invocation: None,
        level: Level::Warn,
        text: format!(
            "{} log lines are missing: they came faster than they could be stored",
            lost.lines
        ),
    })
}

async fn key_of(
    conn: &mut SqliteConnection,
    keys: &mut Keys,
    function: &FunctionId,
) -> Result<i64, sqlx::Error> {
    if let Some(key) = keys.get(function) {
        return Ok(*key);
    }
    // The update changes nothing; without it a row that is there already would not be returned.
    let key = query_scalar(
        "INSERT INTO functions (project, name) VALUES (?, ?) \
         ON CONFLICT (project, name) DO UPDATE SET name = excluded.name RETURNING key",
    )
    .bind(function.project.as_str())
    .bind(function.name.as_str())
    .fetch_one(conn)
    .await?;
    keys.insert(function.clone(), key);
    Ok(key)
}

async fn insert_record(
    conn: &mut SqliteConnection,
    key: i64,
    record: &Record,
) -> Result<(), sqlx::Error> {
    let fault = record.fault.as_ref().map(serde_json::to_string).transpose();
    let fault = fault.map_err(|error| sqlx::Error::Encode(error.into()))?;
    query(
        "INSERT OR REPLACE INTO invocations (id, function, version, \"trigger\", outcome, message, fault, \
         method, path, status, arrived, waited_us, ran_us, cold, worker) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id_bytes(record.id))
    .bind(key)
    .bind(record.version.map(|version| version.0))
    .bind(record.trigger.as_str())
    .bind(record.outcome.as_str())
    .bind(record.message.as_deref())
    .bind(fault)
    .bind(record.method.as_deref())
    .bind(record.path.as_deref())
    .bind(record.status)
    .bind(record.arrived.0)
    .bind(i64::try_from(record.waited_us).unwrap_or(i64::MAX))
    .bind(i64::try_from(record.ran_us).unwrap_or(i64::MAX))
    .bind(record.cold)
    .bind(record.worker.as_deref())
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_line(
    conn: &mut SqliteConnection,
    key: i64,
    cursor: LogCursor,
    line: &LogLine,
) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO logs (seq, at, function, version, invocation, level, text) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(seq(cursor))
    .bind(line.at.0)
    .bind(key)
    .bind(line.version.0)
    .bind(line.invocation.map(id_bytes))
    .bind(level_rank(line.level))
    .bind(line.text.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_counts(
    conn: &mut SqliteConnection,
    key: i64,
    now: Timestamp,
    counts: Sampling,
) -> Result<(), sqlx::Error> {
    let mut insert = query(
        "INSERT INTO counts (function, hour, ended, recorded, lost) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT DO UPDATE SET ended = ended + excluded.ended, \
         recorded = recorded + excluded.recorded, lost = lost + excluded.lost",
    )
    .bind(key)
    .bind(now.0 / HOUR_MS);
    for count in [counts.ended, counts.recorded, counts.lost] {
        insert = insert.bind(i64::try_from(count).unwrap_or(i64::MAX));
    }
    insert.execute(conn).await?;
    Ok(())
}

/// The cursor as the database holds it.
pub(crate) fn seq(cursor: LogCursor) -> i64 {
    i64::try_from(cursor.0).unwrap_or(i64::MAX)
}

/// Where a level stands among the levels, quietest first.
pub(crate) fn level_rank(level: Level) -> i64 {
    match level {
        Level::Trace => 0,
        Level::Debug => 1,
        Level::Info => 2,
        Level::Warn => 3,
        Level::Error => 4,
    }
}

fn level_of(rank: i64) -> Result<Level, Trip> {
    let level = Level::ALL
        .iter()
        .copied()
        .find(|level| level_rank(*level) == rank);
    level.ok_or_else(|| Trip::unreadable(rank, "the rank of a level"))
}

pub(crate) fn id_bytes(id: InvocationId) -> Vec<u8> {
    let (high, low) = id.to_words();
    [high.to_be_bytes(), low.to_be_bytes()].concat()
}

fn id_of(bytes: &[u8]) -> Result<InvocationId, Trip> {
    let words = bytes.split_first_chunk::<8>().and_then(|(high, low)| {
        let low = low.try_into().ok()?;
        InvocationId::from_words(u64::from_be_bytes(*high), u64::from_be_bytes(low))
    });
    words.ok_or_else(|| Trip::unreadable(format!("{bytes:?}"), "the id of an invocation"))
}

/// The columns that [`record_of`] reads, in its order.
pub(crate) const RECORD: &str = "id, version, \"trigger\", outcome, message, fault, method, path, status, \
    arrived, waited_us, ran_us, cold, worker";

pub(crate) fn record_of(row: &SqliteRow, function: &FunctionId) -> Result<Record, Trip> {
    let micros = |at| Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(at)?).unwrap_or(0));
    Ok(Record {
        id: id_of(row.try_get(0)?)?,
        function: function.clone(),
        version: optional_version(row.try_get(1)?)?,
        trigger: parsed(row.try_get(2)?, "a trigger")?,
        outcome: parsed(row.try_get(3)?, "an outcome")?,
        message: row.try_get(4)?,
        fault: row
            .try_get::<Option<&str>, _>(5)?
            .map(fault_of)
            .transpose()?,
        method: row.try_get(6)?,
        path: row.try_get(7)?,
        status: row.try_get(8)?,
        arrived: Timestamp(row.try_get(9)?),
        waited_us: micros(10)?,
        ran_us: micros(11)?,
        cold: row.try_get(12)?,
        worker: row.try_get(13)?,
    })
}

fn optional_version(number: Option<i64>) -> Result<Option<VersionNumber>, Trip> {
    number.map(number_of).transpose()
}

fn fault_of(json: &str) -> Result<HandlerFault, Trip> {
    serde_json::from_str(json).map_err(|_| Trip::unreadable(json, "what a handler threw"))
}

/// The columns that [`line_of`] reads, in its order.
pub(crate) const LINE: &str = "seq, at, version, invocation, level, text";

pub(crate) fn line_of(row: &SqliteRow, function: &FunctionId) -> Result<StoredLine, Trip> {
    let line = LogLine {
        at: Timestamp(row.try_get(1)?),
        function: function.clone(),
        version: number_of(row.try_get(2)?)?,
        invocation: row.try_get::<Option<&[u8]>, _>(3)?.map(id_of).transpose()?,
        level: level_of(row.try_get(4)?)?,
        text: row.try_get(5)?,
    };
    let cursor = cursor_of(row.try_get(0)?);
    Ok(StoredLine { cursor, line })
}

fn cursor_of(seq: i64) -> LogCursor {
    LogCursor(u64::try_from(seq).unwrap_or(0))
}

/// The cursor of the last line that was ever written, pruned or not.
pub(crate) async fn last_cursor(conn: &mut SqliteConnection) -> Result<LogCursor, sqlx::Error> {
    let last: Option<i64> = query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'logs'")
        .fetch_optional(conn)
        .await?;
    Ok(cursor_of(last.unwrap_or(0)))
}

/// Reads the newest row of each table, so that plain damage shows at once.
pub(crate) async fn glance(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for sql in [
        "SELECT 1 FROM functions ORDER BY key DESC LIMIT 1",
        "SELECT length(id) FROM invocations ORDER BY seq DESC LIMIT 1",
        "SELECT length(text) FROM logs ORDER BY seq DESC LIMIT 1",
        "SELECT ended FROM counts ORDER BY function DESC LIMIT 1",
    ] {
        query(sql).fetch_optional(&mut *conn).await?;
    }
    Ok(())
}
