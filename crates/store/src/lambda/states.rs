//! Rows of states, of aliases as they are numbered, and of tags.

use std::collections::BTreeMap;

use model::{Digest, FunctionId, Name, Timestamp, VersionNumber};
use sqlx::{Row, SqliteConnection, query, query_as, query_scalar, sqlite::SqliteRow};

use super::{LambdaAlias, LambdaState, UsedLayer};
use crate::{
    Store, StoreError,
    fault::Trip,
    functions::{key_of, parsed},
    versions::number_of,
};

impl Store {
    /// Notes what its version is to this API; whatever failed before is forgotten.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn set_lambda_state(
        &self,
        id: &FunctionId,
        state: LambdaState,
    ) -> Result<(), StoreError> {
        self.note(id, move |conn, key| {
            Box::pin(async move {
                put(conn, key, -i64::from(state.version.0), &state).await?;
                let sql = "UPDATE lambda_functions SET failed_code = NULL, failed_reason = NULL \
                     WHERE function = ?";
                query(sql).bind(key).execute(conn).await?;
                Ok(())
            })
        })
        .await
    }

    /// Gives a state the next number. One that has a number gets that again, with what stands there; so does one in
    /// which nothing has changed since the last number.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn publish(
        &self,
        id: &FunctionId,
        state: LambdaState,
    ) -> Result<(u32, LambdaState), StoreError> {
        self.note(id, move |conn, key| {
            Box::pin(async move {
                let published = of(conn, key).await?.published;
                let last = published.keys().next_back().copied();
                let is_it = |number: u32, there: &LambdaState| {
                    // What was made of the same once more is a state of its own.
                    let is_same = there.modified_at == state.modified_at;
                    there.content == state.content && (is_same || Some(number) == last)
                };
                let mut newest_first = published.into_iter().rev();
                let found = newest_first.find(|(number, there)| is_it(*number, there));
                if let Some(found) = found {
                    return Ok(found);
                }
                let sql = "UPDATE lambda_functions SET last_number = last_number + 1 \
                     WHERE function = ? RETURNING last_number";
                let number: u32 = query_scalar(sql).bind(key).fetch_one(&mut *conn).await?;
                put(conn, key, i64::from(number), &state).await?;
                Ok((number, state))
            })
        })
        .await
    }

    /// Whether a state of any function, or a layer, was made of this zip.
    pub async fn has_code(&self, code: &Digest) -> Result<bool, StoreError> {
        let code = code.hex();
        self.meta()
            .read("look for code in", move |conn| {
                Box::pin(async move {
                    let sql = "SELECT EXISTS (SELECT 1 FROM lambda_states WHERE code = ?1) \
                         OR EXISTS (SELECT 1 FROM lambda_layers WHERE code = ?1)";
                    Ok(query_scalar(sql).bind(code).fetch_one(conn).await?)
                })
            })
            .await
    }

    /// The zips that states of a function were made of.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn codes(&self, id: &FunctionId) -> Result<Vec<Digest>, StoreError> {
        let (attempt, id) = (format!("list the code of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| {
                Box::pin(async move {
                    let key = key_of(conn, &id).await?;
                    let sql = "SELECT DISTINCT code FROM lambda_states WHERE function = ?";
                    let codes: Vec<String> = query_scalar(sql).bind(key).fetch_all(conn).await?;
                    codes.iter().map(|code| parsed(code, "a digest")).collect()
                })
            })
            .await
    }

    /// Deletes a published state; `false` if there was none.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn unpublish(&self, id: &FunctionId, number: u32) -> Result<bool, StoreError> {
        self.note(id, move |conn, key| {
            Box::pin(async move {
                let sql =
                    "DELETE FROM lambda_states WHERE function = ? AND number = ? AND number > 0";
                let gone = query(sql).bind(key).bind(number).execute(conn).await?;
                Ok(gone.rows_affected() > 0)
            })
        })
        .await
    }
}

async fn put(
    conn: &mut SqliteConnection,
    key: i64,
    number: i64,
    state: &LambdaState,
) -> Result<(), Trip> {
    let layers = serde_json::to_string(&state.layers)
        .map_err(|error| Trip::unreadable(error, "layers that can be written as JSON"))?;
    let sql = "INSERT OR REPLACE INTO lambda_states (function, number, version, content, runtime, \
         handler, role, description, code, code_size, storage, layers, revision, modified_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let put = query(sql)
        .bind(key)
        .bind(number)
        .bind(state.version.0)
        .bind(state.content.hex())
        .bind(&state.runtime)
        .bind(&state.handler)
        .bind(&state.role)
        .bind(&state.description)
        .bind(state.code.hex())
        .bind(i64::try_from(state.code_size).unwrap_or(i64::MAX))
        .bind(state.storage)
        .bind(layers)
        .bind(&state.revision)
        .bind(state.modified_at.0);
    put.execute(conn).await?;
    Ok(())
}

/// The states of a function.
#[derive(Default)]
pub(super) struct States {
    pub published: BTreeMap<u32, LambdaState>,
    pub made: BTreeMap<VersionNumber, LambdaState>,
}

/// What is published, and what was made: not all of it, for it grows with every change.
pub(super) async fn of(conn: &mut SqliteConnection, key: i64) -> Result<States, Trip> {
    let sql = "SELECT number, version, content, runtime, handler, role, description, code, \
         code_size, storage, layers, revision, modified_at FROM lambda_states WHERE function = ?1 \
         AND (number > 0 \
         OR version IN (SELECT version FROM aliases WHERE function = ?1) \
         OR version IN (SELECT second FROM aliases WHERE function = ?1) \
         OR number = (SELECT number FROM lambda_states WHERE function = ?1 AND number < 0 \
         ORDER BY modified_at DESC, number LIMIT 1))";
    let rows = query(sql).bind(key).fetch_all(conn).await?;
    let mut states = States::default();
    for row in &rows {
        let (number, state) = (row.try_get::<i64, _>(0)?, state_of(row)?);
        match u32::try_from(number) {
            Ok(number) => drop(states.published.insert(number, state)),
            Err(_) => drop(states.made.insert(state.version, state)),
        }
    }
    Ok(states)
}

fn state_of(row: &SqliteRow) -> Result<LambdaState, Trip> {
    let digest = |text: &str| -> Result<Digest, Trip> { parsed(text, "a digest") };
    let layers: &str = row.try_get(10)?;
    let layers: Vec<UsedLayer> =
        serde_json::from_str(layers).map_err(|_| Trip::unreadable(layers, "a list of layers"))?;
    Ok(LambdaState {
        version: number_of(row.try_get(1)?)?,
        content: digest(row.try_get(2)?)?,
        runtime: row.try_get(3)?,
        handler: row.try_get(4)?,
        role: row.try_get(5)?,
        description: row.try_get(6)?,
        code: digest(row.try_get(7)?)?,
        code_size: row.try_get::<i64, _>(8)?.try_into().unwrap_or(0),
        storage: row.try_get(9)?,
        layers,
        revision: row.try_get(11)?,
        modified_at: Timestamp(row.try_get(12)?),
    })
}

/// The version behind each published number.
pub(crate) async fn published_of(
    conn: &mut SqliteConnection,
    key: i64,
) -> Result<BTreeMap<u32, VersionNumber>, Trip> {
    let sql = "SELECT number, version FROM lambda_states WHERE function = ? AND number > 0";
    let rows: Vec<(u32, i64)> = query_as(sql).bind(key).fetch_all(conn).await?;
    let read = rows.into_iter();
    read.map(|(number, version)| Ok((number, number_of(version)?)))
        .collect()
}

pub(super) async fn aliases_of(
    conn: &mut SqliteConnection,
    key: i64,
) -> Result<BTreeMap<Name, LambdaAlias>, Trip> {
    let sql =
        "SELECT name, number, second, description, revision FROM lambda_aliases WHERE function = ?";
    let rows = query(sql).bind(key).fetch_all(conn).await?;
    let read = |row: &SqliteRow| {
        let alias = LambdaAlias {
            number: row.try_get(1)?,
            second: row.try_get(2)?,
            description: row.try_get(3)?,
            revision: row.try_get(4)?,
        };
        Ok((parsed(row.try_get(0)?, "an alias's name")?, alias))
    };
    rows.iter().map(read).collect()
}

pub(super) async fn tags_of(
    conn: &mut SqliteConnection,
    key: i64,
) -> Result<BTreeMap<String, String>, Trip> {
    let sql = "SELECT name, value FROM lambda_tags WHERE function = ?";
    let rows: Vec<(String, String)> = query_as(sql).bind(key).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}
