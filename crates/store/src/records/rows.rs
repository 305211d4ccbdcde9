//! Rows of `records.db` as words of the model, and back.

use model::{
    Attempt, FunctionId, HandlerFault, InvocationId, Level, LogLine, Record, Timestamp,
    VersionNumber,
};
use sqlx::{Row, SqliteConnection, query, query_scalar, sqlite::SqliteRow};

use crate::{fault::Trip, functions::parsed, versions::number_of};

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

pub(crate) fn id_of(bytes: &[u8]) -> Result<InvocationId, Trip> {
    let words = bytes.split_first_chunk::<8>().and_then(|(high, low)| {
        let low = low.try_into().ok()?;
        InvocationId::from_words(u64::from_be_bytes(*high), u64::from_be_bytes(low))
    });
    words.ok_or_else(|| Trip::unreadable(format!("{bytes:?}"), "the id of an invocation"))
}

/// The columns that [`record_of`] reads, in its order.
pub(crate) const RECORD: &str = "id, version, \"trigger\", outcome, message, fault, method, path, status, \
    arrived, waited_us, ran_us, cold, worker, attempts, \
    EXISTS (SELECT 1 FROM recordings WHERE invocation = invocations.id)";

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
        attempts: row
            .try_get::<Option<&str>, _>(14)?
            .map_or(Ok(Vec::new()), attempts_of)?,
        recording: row.try_get(15)?,
    })
}

fn optional_version(number: Option<i64>) -> Result<Option<VersionNumber>, Trip> {
    number.map(number_of).transpose()
}

fn fault_of(json: &str) -> Result<HandlerFault, Trip> {
    serde_json::from_str(json).map_err(|_| Trip::unreadable(json, "what a handler threw"))
}

fn attempts_of(json: &str) -> Result<Vec<Attempt>, Trip> {
    serde_json::from_str(json).map_err(|_| Trip::unreadable(json, "the attempts of an invocation"))
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
        is_info: false,
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
        "SELECT bytes FROM recordings ORDER BY seq DESC LIMIT 1",
        "SELECT ended FROM counts ORDER BY function DESC LIMIT 1",
        "SELECT ended FROM totals ORDER BY function DESC LIMIT 1",
    ] {
        query(sql).fetch_optional(&mut *conn).await?;
    }
    Ok(())
}
