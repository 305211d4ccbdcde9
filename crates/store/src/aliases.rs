//! Aliases: names that point at versions, and where they pointed before.

use std::collections::BTreeMap;

use model::{AliasTarget, FunctionId, Name, Timestamp, VersionNumber};
use sqlx::{SqliteConnection, query, query_as, query_scalar};

use crate::{
    Store, StoreError,
    fault::Trip,
    functions::{key_of, parsed, touch},
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
    pub previous: Option<AliasTarget>,
    /// `false` if it pointed there already.
    pub changed: bool,
}

impl Store {
    /// Points an alias at one version, or at two by weight, and notes the move in the alias's history.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`], [`StoreError::NoVersion`].
    pub async fn point_alias(
        &self,
        id: &FunctionId,
        alias: &Alias,
        target: impl Into<AliasTarget>,
    ) -> Result<AliasChange, StoreError> {
        let target = target.into();
        let attempt = format!("point `{}` of {id} at {target} in", alias.0);
        let (id, alias, now) = (id.clone(), alias.clone(), self.now());
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(point(conn, id, alias, target, now))
            })
            .await
    }

    /// Deletes an alias and its history; `false` if there was none.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn delete_alias(&self, id: &FunctionId, alias: &Alias) -> Result<bool, StoreError> {
        let attempt = format!("delete `{}` of {id} in", alias.0);
        let (id, alias, now) = (id.clone(), alias.clone(), self.now());
        self.meta()
            .write(attempt, move |conn| Box::pin(delete(conn, id, alias, now)))
            .await
    }

    /// Where every alias of a function points.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn aliases(
        &self,
        id: &FunctionId,
    ) -> Result<BTreeMap<Name, AliasTarget>, StoreError> {
        let (attempt, id) = (format!("list the aliases of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(all(conn, id)))
            .await
    }

    /// Where `current` pointed before the present: where `rollback` goes.
    ///
    /// A rollback is a move like any other, so two in a row lead back to where they began.
    /// `None` if nothing was current before.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn previous_of(&self, id: &FunctionId) -> Result<Option<AliasTarget>, StoreError> {
        let (attempt, id) = (format!("read the history of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(previous(conn, id)))
            .await
    }
}

/// Version, second version, percent of the second: as they stand in a row.
type Row = (i64, Option<i64>, Option<i64>);

fn target_of((first, second, percent): Row) -> Result<AliasTarget, Trip> {
    let first = number_of(first)?;
    let (Some(second), Some(percent)) = (second, percent) else {
        return Ok(AliasTarget::One(first));
    };
    match u8::try_from(percent) {
        Ok(percent @ 1..100) => Ok(AliasTarget::Two {
            first,
            second: number_of(second)?,
            percent,
        }),
        Ok(_) | Err(_) => Err(Trip::unreadable(percent, "a weight from 1 to 99")),
    }
}

/// The second version and its percent, if there is one.
fn second_of(target: AliasTarget) -> (Option<u32>, Option<u8>) {
    match target {
        AliasTarget::One(_) => (None, None),
        AliasTarget::Two {
            second, percent, ..
        } => (Some(second.0), Some(percent)),
    }
}

async fn point(
    conn: &mut SqliteConnection,
    id: FunctionId,
    alias: Alias,
    target: AliasTarget,
    now: Timestamp,
) -> Result<AliasChange, Trip> {
    let key = key_of(conn, &id).await?;
    for part in target.parts() {
        check_version(conn, &id, key, part.version).await?;
    }
    let row: Option<Row> =
        query_as("SELECT version, second, percent FROM aliases WHERE function = ? AND name = ?")
            .bind(key)
            .bind(alias.0.as_str())
            .fetch_optional(&mut *conn)
            .await?;
    let previous = row.map(target_of).transpose()?;
    let changed = previous != Some(target);
    if changed {
        let (second, percent) = second_of(target);
        for sql in [
            "INSERT OR REPLACE INTO aliases (function, name, version, second, percent, pointed_at) \
             VALUES (?, ?, ?, ?, ?, ?)",
            "INSERT INTO alias_history (function, name, version, second, percent, pointed_at) \
             VALUES (?, ?, ?, ?, ?, ?)",
        ] {
            let moved = query(sql)
                .bind(key)
                .bind(alias.0.as_str())
                .bind(target.first().0)
                .bind(second)
                .bind(percent)
                .bind(now.0);
            moved.execute(&mut *conn).await?;
        }
        touch(conn, key, now).await?;
    }
    lead_followers(conn, key, &alias, target, now).await?;
    Ok(AliasChange { previous, changed })
}

/// Aliases that follow `$LATEST` go where `current` goes; one that is pointed itself follows no more.
async fn lead_followers(
    conn: &mut SqliteConnection,
    key: i64,
    alias: &Alias,
    target: AliasTarget,
    now: Timestamp,
) -> Result<(), Trip> {
    if *alias != Alias::current() {
        let sql = "DELETE FROM lambda_aliases WHERE function = ? AND name = ? AND number = 0";
        let gone = query(sql).bind(key).bind(alias.0.as_str());
        gone.execute(conn).await?;
        return Ok(());
    }
    let (second, percent) = second_of(target);
    let sql = "UPDATE aliases SET version = ?, second = ?, percent = ?, pointed_at = ? WHERE function = ? \
         AND name IN (SELECT name FROM lambda_aliases WHERE function = ? AND number = 0)";
    let moved = query(sql)
        .bind(target.first().0)
        .bind(second)
        .bind(percent)
        .bind(now.0)
        .bind(key)
        .bind(key);
    moved.execute(conn).await?;
    Ok(())
}

async fn check_version(
    conn: &mut SqliteConnection,
    function: &FunctionId,
    key: i64,
    version: VersionNumber,
) -> Result<(), Trip> {
    let exists: i64 =
        query_scalar("SELECT count(*) FROM versions WHERE function = ? AND number = ?")
            .bind(key)
            .bind(version.0)
            .fetch_one(conn)
            .await?;
    if exists == 0 {
        let function = function.clone();
        return Err(StoreError::NoVersion { function, version }.into());
    }
    Ok(())
}

async fn delete(
    conn: &mut SqliteConnection,
    id: FunctionId,
    alias: Alias,
    now: Timestamp,
) -> Result<bool, Trip> {
    let key = key_of(conn, &id).await?;
    let mut is_gone = false;
    for sql in [
        "DELETE FROM aliases WHERE function = ? AND name = ?",
        "DELETE FROM alias_history WHERE function = ? AND name = ?",
        "DELETE FROM lambda_aliases WHERE function = ? AND name = ?",
    ] {
        let deleted = query(sql).bind(key).bind(alias.0.as_str());
        is_gone |= deleted.execute(&mut *conn).await?.rows_affected() > 0;
    }
    touch(conn, key, now).await?;
    Ok(is_gone)
}

async fn all(
    conn: &mut SqliteConnection,
    id: FunctionId,
) -> Result<BTreeMap<Name, AliasTarget>, Trip> {
    let key = key_of(conn, &id).await?;
    aliases_of(conn, key).await
}

pub(crate) async fn aliases_of(
    conn: &mut SqliteConnection,
    key: i64,
) -> Result<BTreeMap<Name, AliasTarget>, Trip> {
    let rows: Vec<(String, i64, Option<i64>, Option<i64>)> =
        query_as("SELECT name, version, second, percent FROM aliases WHERE function = ?")
            .bind(key)
            .fetch_all(conn)
            .await?;
    let read = rows.into_iter().map(|(name, first, second, percent)| {
        let name = parsed(&name, "an alias's name")?;
        Ok((name, target_of((first, second, percent))?))
    });
    read.collect()
}

async fn previous(
    conn: &mut SqliteConnection,
    id: FunctionId,
) -> Result<Option<AliasTarget>, Trip> {
    let key = key_of(conn, &id).await?;
    let row: Option<Row> = query_as(
        "SELECT version, second, percent FROM alias_history WHERE function = ? AND name = 'current' \
         ORDER BY seq DESC LIMIT 1 OFFSET 1",
    )
    .bind(key)
    .fetch_optional(conn)
    .await?;
    row.map(target_of).transpose()
}
