//! Opening a SQLite file: options, integrity, schema, backup copy. Knows no table of ours.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqlSafeStr, SqliteConnection, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    query, query_scalar,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};

use crate::{error::OpenError, fault::Fault};

/// Connections that read one database at once. Each is a thread; reads are short.
const READERS: u32 = 2;

/// A reader unused this long is closed, and its memory given back.
const READER_IDLE: Duration = Duration::from_secs(60);

/// The write-ahead log is cut back to this many bytes after a checkpoint.
const WAL_KEPT: &str = "16777216";

/// One step of a schema: its number, what it adds, its SQL.
pub(crate) type Step = (i64, &'static str, &'static str);

/// The steps of one database, oldest first; forward only, and never edited once released.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema(pub(crate) &'static [Step]);

/// What happens to an existing database before its schema changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeforeMigrating {
    /// A copy is left as `FILE.backup-<old schema>`.
    BackUp,
    /// Nothing: what is in there expires by itself.
    Proceed,
}

/// Options of the one connection that writes.
pub(crate) fn writer_options(path: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .pragma("journal_size_limit", WAL_KEPT)
        .disable_statement_logging()
}

/// Connections that only read; none is opened before the first use.
pub(crate) fn readers(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .disable_statement_logging();
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .idle_timeout(READER_IDLE)
        .connect_lazy_with(options)
}

/// Opens for writing, creating the file (mode 0600) if need be, and brings the schema up to date.
pub(crate) async fn open(
    path: &Path,
    options: SqliteConnectOptions,
    schema: Schema,
    before: BeforeMigrating,
) -> Result<SqliteConnection, OpenError> {
    let failed = |fault: Fault| OpenError::from(fault.during("open", path));
    create_private(path).map_err(|error| failed(error.into()))?;
    let mut conn = options
        .connect()
        .await
        .map_err(|error| failed(error.into()))?;
    match prepare(&mut conn, path, schema, before).await {
        Ok(()) => Ok(conn),
        Err(error) => {
            // Nothing was written through it; what closing could say is less than what we know.
            let _ = conn.close().await;
            Err(error)
        }
    }
}

/// SQLite gives its other files the permissions of the first one.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map(drop)
}

async fn prepare(
    conn: &mut SqliteConnection,
    path: &Path,
    schema: Schema,
    before: BeforeMigrating,
) -> Result<(), OpenError> {
    let reading = |error: sqlx::Error| Fault::from(error).during("read the schema of", path);
    let found = schema_of(conn).await.map_err(reading)?;
    let known = schema.0.last().map_or(0, |(number, ..)| *number);
    if found > known {
        return Err(OpenError::NewerSchema {
            path: path.into(),
            found,
            known,
        });
    }
    if found > 0 && found < known && before == BeforeMigrating::BackUp {
        back_up(conn, path, found).await?;
    }
    migrator(schema)
        .run_direct(None, conn, false)
        .await
        .map_err(|error| Fault::from(error).during("bring up to date", path))?;
    Ok(())
}

/// The newest step that was applied; 0 for an empty database.
async fn schema_of(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let tables: i64 =
        query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
            .fetch_one(&mut *conn)
            .await?;
    if tables == 0 {
        return Ok(0);
    }
    query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(conn)
        .await
}

fn migrator(schema: Schema) -> Migrator {
    let migration = |(number, adds, sql): &Step| {
        let sql = sql.into_sql_str();
        Migration::new(*number, (*adds).into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(schema.0.iter().map(migration).collect())
}

/// Leaves a consistent copy beside the database; a half-written one never carries the name.
async fn back_up(conn: &mut SqliteConnection, path: &Path, schema: i64) -> Result<(), OpenError> {
    let copy = beside(path, &format!("backup-{schema}"));
    let unfinished = beside(path, &format!("backup-{schema}.unfinished"));
    let failed = |fault: Fault| fault.during("write the backup copy", &copy);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(error.into()).into());
        }
        _ => {}
    }
    create_private(&unfinished).map_err(|error| failed(error.into()))?;
    query("VACUUM INTO ?")
        .bind(unfinished.to_string_lossy().into_owned())
        .execute(conn)
        .await
        .map_err(|error| failed(error.into()))?;
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, &copy))
        .map_err(|error| failed(error.into()))?;
    Ok(())
}

/// `FILE.SUFFIX`, in the same folder.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Reads the whole database and says what is damaged.
pub(crate) async fn check(conn: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let verdict: String = query_scalar("PRAGMA quick_check(1)")
        .fetch_one(conn)
        .await
        .map_err(|error| Fault::from(error).during("check", path))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(Fault::corrupt(verdict).during("use", path).into())
    }
}

/// Says a word of a transaction. They are spoken by hand: sqlx counts the open ones, and its count stays wrong for good
/// once the database has taken one back by itself.
pub(crate) async fn say(conn: &mut SqliteConnection, sql: &'static str) -> Result<(), Fault> {
    query(sql).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Step = (1, "notes", "CREATE TABLE notes (text TEXT NOT NULL)");
    const SECOND: Step = (2, "authors", "ALTER TABLE notes ADD COLUMN author TEXT");

    async fn open_with(path: &Path, steps: &'static [Step]) -> Result<SqliteConnection, OpenError> {
        let options = writer_options(path, SqliteSynchronous::Full);
        open(path, options, Schema(steps), BeforeMigrating::BackUp).await
    }

    #[tokio::test]
    async fn an_older_database_is_copied_and_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.db");
        let mut old = open_with(&path, &[FIRST]).await.unwrap();
        query("INSERT INTO notes VALUES ('kept')")
            .execute(&mut old)
            .await
            .unwrap();
        old.close().await.unwrap();

        let mut new = open_with(&path, &[FIRST, SECOND]).await.unwrap();
        let kept: (String, Option<String>) = sqlx::query_as("SELECT text, author FROM notes")
            .fetch_one(&mut new)
            .await
            .unwrap();
        assert_eq!(kept, ("kept".into(), None));
        new.close().await.unwrap();

        let mut copy = open_with(&folder.path().join("meta.db.backup-1"), &[FIRST])
            .await
            .unwrap();
        let kept: String = query_scalar("SELECT text FROM notes")
            .fetch_one(&mut copy)
            .await
            .unwrap();
        assert_eq!(kept, "kept");
    }

    #[tokio::test]
    async fn a_newer_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.db");
        open_with(&path, &[FIRST, SECOND])
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
        let refused = open_with(&path, &[FIRST]).await.unwrap_err();
        let words = format!(
            "{} has schema 2, this program knows schemas up to 1",
            path.display()
        );
        assert_eq!(refused.to_string(), words);
        open_with(&path, &[FIRST, SECOND]).await.unwrap();
    }
}
