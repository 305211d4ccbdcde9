//! Source that was handed in as text: its path, the word for its runtime, the text itself.
//! A version that came as a bundle has none.

use std::collections::BTreeMap;

use model::{FunctionId, Timestamp, VersionNumber};
use sqlx::{Row, SqliteConnection, query, query_scalar};

use crate::{
    Store, StoreError,
    fault::Trip,
    functions::{key_of, parsed, touch},
};

/// What a client said of one version, besides the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The path of the source, as it was given.
    pub file_path: String,
    /// The word for its runtime, as it was given.
    pub runtime: String,
}

/// Origins by function and version; `None` stands for a function without code.
pub type Origins = BTreeMap<(FunctionId, Option<VersionNumber>), Origin>;

impl Store {
    /// Keeps what was said of a version, or of a function that has none yet. What was said before is replaced.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn keep_source(
        &self,
        id: &FunctionId,
        version: Option<VersionNumber>,
        origin: Origin,
        code: Option<String>,
    ) -> Result<(), StoreError> {
        let (attempt, id, now) = (
            format!("keep the source of {id} in"),
            id.clone(),
            self.now(),
        );
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(keep(conn, id, (version, origin, code), now))
            })
            .await
    }

    /// Where every version that came as source came from.
    pub async fn origins(&self) -> Result<Origins, StoreError> {
        self.meta()
            .read("list the sources in", |conn| Box::pin(origins(conn)))
            .await
    }

    /// The code of a version, if it came as source.
    pub async fn code(
        &self,
        id: &FunctionId,
        version: VersionNumber,
    ) -> Result<Option<String>, StoreError> {
        let (attempt, id) = (format!("read the code of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(code(conn, id, version)))
            .await
    }
}

type Kept = (Option<VersionNumber>, Origin, Option<String>);

/// The number in the table: 0 is no version's.
fn number(version: Option<VersionNumber>) -> i64 {
    version.map_or(0, |version| i64::from(version.0))
}

async fn keep(
    conn: &mut SqliteConnection,
    id: FunctionId,
    (version, origin, code): Kept,
    now: Timestamp,
) -> Result<(), Trip> {
    let key = key_of(conn, &id).await?;
    query(
        "INSERT OR REPLACE INTO sources (function, version, file_path, runtime, code) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(key)
    .bind(number(version))
    .bind(origin.file_path)
    .bind(origin.runtime)
    .bind(code)
    .execute(&mut *conn)
    .await?;
    touch(conn, key, now).await
}

async fn origins(conn: &mut SqliteConnection) -> Result<Origins, Trip> {
    let rows = query(
        "SELECT f.project, f.name, s.version, s.file_path, s.runtime \
         FROM sources s JOIN functions f ON f.key = s.function",
    )
    .fetch_all(conn)
    .await?;
    let mut origins = Origins::new();
    for row in rows {
        let id = FunctionId {
            project: parsed(row.try_get(0)?, "a project's name")?,
            name: parsed(row.try_get(1)?, "a function's name")?,
        };
        let version: u32 = row.try_get(2)?;
        let origin = Origin {
            file_path: row.try_get(3)?,
            runtime: row.try_get(4)?,
        };
        let version = (version > 0).then_some(VersionNumber(version));
        origins.insert((id, version), origin);
    }
    Ok(origins)
}

async fn code(
    conn: &mut SqliteConnection,
    id: FunctionId,
    version: VersionNumber,
) -> Result<Option<String>, Trip> {
    let key = key_of(conn, &id).await?;
    let code: Option<Option<String>> =
        query_scalar("SELECT code FROM sources WHERE function = ? AND version = ?")
            .bind(key)
            .bind(number(Some(version)))
            .fetch_optional(conn)
            .await?;
    Ok(code.flatten())
}
