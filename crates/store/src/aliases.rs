//! Aliases: names that point at versions, and where they pointed before.

use model::{FunctionId, Name, Timestamp, VersionNumber};
use sqlx::{SqliteConnection, query, query_scalar};

use crate::{
    Store, StoreError,
    fault::Trip,
    functions::{key_of, touch},
    versions::number_of,
};

/// The name of an alias.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Alias(pub Name);

impl Alias {
    /// The alias that calls follow.
    pub fn current() -> Alias {
        Alias("current".parse().expect("seven letters are a name"))
    }
}

/// What pointing an alias changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasChange {
    /// Where it pointed until now; `None` if it did not exist.
    pub previous: Option<VersionNumber>,
    /// `false` if it pointed there already.
    pub changed: bool,
}

impl Store {
    /// Points an alias at a version, and notes the move in the alias's history.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`], [`StoreError::NoVersion`].
    pub async fn point_alias(
        &self,
        id: &FunctionId,
        alias: &Alias,
        version: VersionNumber,
    ) -> Result<AliasChange, StoreError> {
        let attempt = format!("point `{}` of {id} at {version} in", alias.0);
        let (id, alias, now) = (id.clone(), alias.clone(), self.now());
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(point(conn, id, alias, version, now))
            })
            .await
    }

    /// What was current before the present version: where `rollback` goes.
    ///
    /// A rollback is a move like any other, so two in a row lead back to where they began.
    /// `None` if nothing was current before.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn previous_of(&self, id: &FunctionId) -> Result<Option<VersionNumber>, StoreError> {
        let (attempt, id) = (format!("read the history of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(previous(conn, id)))
            .await
    }
}

async fn point(
    conn: &mut SqliteConnection,
    id: FunctionId,
    alias: Alias,
    version: VersionNumber,
    now: Timestamp,
) -> Result<AliasChange, Trip> {
    let key = key_of(conn, &id).await?;
    let exists: i64 =
        query_scalar("SELECT count(*) FROM versions WHERE function = ? AND number = ?")
            .bind(key)
            .bind(version.0)
            .fetch_one(&mut *conn)
            .await?;
    if exists == 0 {
        let function = id;
        return Err(StoreError::NoVersion { function, version }.into());
    }
    let previous: Option<i64> =
        query_scalar("SELECT version FROM aliases WHERE function = ? AND name = ?")
            .bind(key)
            .bind(alias.0.as_str())
            .fetch_optional(&mut *conn)
            .await?;
    let previous = previous.map(number_of).transpose()?;
    let changed = previous != Some(version);
    if changed {
        for sql in [
            "INSERT OR REPLACE INTO aliases (function, name, version, pointed_at) VALUES (?, ?, ?, ?)",
            "INSERT INTO alias_history (function, name, version, pointed_at) VALUES (?, ?, ?, ?)",
        ] {
            let moved = query(sql)
                .bind(key)
                .bind(alias.0.as_str())
                .bind(version.0)
                .bind(now.0);
            moved.execute(&mut *conn).await?;
        }
        touch(conn, key, now).await?;
    }
    Ok(AliasChange { previous, changed })
}

async fn previous(
    conn: &mut SqliteConnection,
    id: FunctionId,
) -> Result<Option<VersionNumber>, Trip> {
    let key = key_of(conn, &id).await?;
    let number: Option<i64> = query_scalar(
        "SELECT version FROM alias_history WHERE function = ? AND name = 'current' \
         ORDER BY seq DESC LIMIT 1 OFFSET 1",
    )
    .bind(key)
    .fetch_optional(conn)
    .await?;
    number.map(number_of).transpose()
}
