//! The server's overrides of a function's environment; they survive deployments.

use std::collections::BTreeMap;

use model::{FunctionId, Timestamp};
use sqlx::{SqliteConnection, query, query_as};

use crate::{
    Store, StoreError,
    fault::Trip,
    functions::{key_of, touch},
};

impl Store {
    /// The overrides of one function.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn env(&self, id: &FunctionId) -> Result<BTreeMap<String, String>, StoreError> {
        let (attempt, id) = (format!("read the environment of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(read(conn, id)))
            .await
    }

    /// Sets what has a value and unsets what has none, all or nothing. Names and sizes are the caller's to check.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn change_env(
        &self,
        id: &FunctionId,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), StoreError> {
        let (attempt, id, now) = (
            format!("change the environment of {id} in"),
            id.clone(),
            self.now(),
        );
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(change(conn, id, changes, now))
            })
            .await
    }
}

async fn read(
    conn: &mut SqliteConnection,
    id: FunctionId,
) -> Result<BTreeMap<String, String>, Trip> {
    let key = key_of(conn, &id).await?;
    env_of(conn, key).await
}

pub(crate) async fn env_of(
    conn: &mut SqliteConnection,
    key: i64,
) -> Result<BTreeMap<String, String>, Trip> {
    let rows: Vec<(String, String)> =
        query_as("SELECT name, value FROM env_overrides WHERE function = ?")
            .bind(key)
            .fetch_all(conn)
            .await?;
    Ok(rows.into_iter().collect())
}

async fn change(
    conn: &mut SqliteConnection,
    id: FunctionId,
    changes: BTreeMap<String, Option<String>>,
    now: Timestamp,
) -> Result<(), Trip> {
    let key = key_of(conn, &id).await?;
    for (name, value) in changes {
        let change = match &value {
            Some(value) => query(
                "INSERT OR REPLACE INTO env_overrides (function, name, value) VALUES (?, ?, ?)",
            )
            .bind(key)
            .bind(name)
            .bind(value),
            None => query("DELETE FROM env_overrides WHERE function = ? AND name = ?")
                .bind(key)
                .bind(name),
        };
        change.execute(&mut *conn).await?;
    }
    touch(conn, key, now).await
}
