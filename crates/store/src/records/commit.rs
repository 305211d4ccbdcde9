//! One commit to `records.db`: records, lines and counts, all or nothing.

use std::{collections::HashMap, slice};

use model::{FunctionId, Level, LogLine, Record, Timestamp};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, query, query_scalar};

use super::{
    counts::Sampling,
    recordings::{self, Written},
    rows::{LogCursor, id_bytes, level_rank, seq},
    sink::Lost,
};
use crate::{database::say, fault::Fault};

/// Counts of ended invocations are kept by the hour.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Lines in one statement: a trip to the database costs several times what a row does.
const LINES: usize = 32;

/// What one commit holds.
pub(crate) struct Commit<'a> {
    pub(crate) records: &'a [Record],
    pub(crate) recordings: &'a [Written],
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
    for recording in commit.recordings {
        recordings::insert(conn, recording).await?;
    }
    let mut markers = Vec::new();
    for (function, lost) in commit.lost {
        let key = key_of(conn, keys, function).await?;
        counts.entry(key).or_default().lost += lost.records + lost.recordings + lost.lines;
        markers.extend(marker(function, *lost, commit.now));
    }
    let mut placed = Vec::with_capacity(commit.lines.len() + markers.len());
    for line in commit.lines.iter().chain(&markers) {
        last.0 += 1;
        placed.push((last, key_of(conn, keys, &line.function).await?, line));
    }
    let (groups, rest) = placed.as_chunks::<LINES>();
    for group in groups {
        insert_lines(conn, group).await?;
    }
    for one in rest {
        insert_lines(conn, slice::from_ref(one)).await?;
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
        is_info: false,
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
    let attempts = Some(&record.attempts).filter(|attempts| !attempts.is_empty());
    let attempts = attempts.map(serde_json::to_string).transpose();
    let attempts = attempts.map_err(|error| sqlx::Error::Encode(error.into()))?;
    query(
        "INSERT OR REPLACE INTO invocations (id, function, version, \"trigger\", outcome, message, fault, \
         method, path, status, arrived, waited_us, ran_us, cold, worker, attempts) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
    .bind(attempts)
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_lines(
    conn: &mut SqliteConnection,
    lines: &[(LogCursor, i64, &LogLine)],
) -> Result<(), sqlx::Error> {
    let head = "INSERT INTO logs (seq, at, function, version, invocation, level, text) ";
    let mut sql = QueryBuilder::<Sqlite>::new(head);
    sql.push_values(lines, |mut row, (cursor, key, line)| {
        row.push_bind(seq(*cursor))
            .push_bind(line.at.0)
            .push_bind(*key)
            .push_bind(line.version.0)
            .push_bind(line.invocation.map(id_bytes))
            .push_bind(level_rank(line.level))
            .push_bind(line.text.as_str());
    });
    sql.build().execute(conn).await?;
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
    insert.execute(&mut *conn).await?;
    if counts.ended > 0 {
        query(
            "INSERT INTO totals (function, ended) VALUES (?, ?) \
             ON CONFLICT DO UPDATE SET ended = ended + excluded.ended",
        )
        .bind(key)
        .bind(i64::try_from(counts.ended).unwrap_or(i64::MAX))
        .execute(conn)
        .await?;
    }
    Ok(())
}
