//! Which versions go when a function has many. Knows rows only: the folders of what goes are the caller's.

use model::{FunctionId, VersionNumber};
use sqlx::{QueryBuilder, SqliteConnection, query};

use crate::{Store, StoreError, fault::Trip, functions::key_of, versions::number_of};

impl Store {
    /// Forgets versions of the function but for the newest `keep`, those that an alias names or named just before,
    /// those with a label, those that AWS Lambda's API made or published, and those in `running`. Returns what went. A number is never given twice.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn prune_versions(
        &self,
        id: &FunctionId,
        keep: u32,
        running: Vec<VersionNumber>,
    ) -> Result<Vec<VersionNumber>, StoreError> {
        let (attempt, id) = (format!("prune the versions of {id} in"), id.clone());
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(prune(conn, id, keep, running))
            })
            .await
    }
}

/// `rollback` needs the last two moves of an alias, and nothing reads what lies before.
const TRIM_HISTORY: &str = "DELETE FROM alias_history WHERE function = ?1 AND seq < \
     (SELECT newer.seq FROM alias_history newer \
      WHERE newer.function = ?1 AND newer.name = alias_history.name ORDER BY newer.seq DESC LIMIT 1 OFFSET 1)";

/// Where versions are named that therefore stay.
const NAMED: [(&str, &str); 6] = [
    ("aliases", "version"),
    ("aliases", "second"),
    ("alias_history", "version"),
    ("alias_history", "second"),
    ("labels", "version"),
    ("lambda_states", "version"),
];

async fn prune(
    conn: &mut SqliteConnection,
    id: FunctionId,
    keep: u32,
    running: Vec<VersionNumber>,
) -> Result<Vec<VersionNumber>, Trip> {
    let key = key_of(conn, &id).await?;
    query(TRIM_HISTORY).bind(key).execute(&mut *conn).await?;
    let mut sql = QueryBuilder::new("DELETE FROM versions WHERE function = ");
    sql.push_bind(key);
    // The newest always stays, for the next number counts from it.
    sql.push(" AND number <= (SELECT number FROM versions WHERE function = ")
        .push_bind(key)
        .push(" ORDER BY number DESC LIMIT 1 OFFSET ")
        .push_bind(keep.max(1))
        .push(")");
    for (named, column) in NAMED {
        sql.push(format!(
            " AND NOT EXISTS (SELECT 1 FROM {named} named WHERE named.{column} = versions.number AND named.function = "
        ))
        .push_bind(key)
        .push(")");
    }
    for number in running {
        sql.push(" AND number <> ").push_bind(number.0);
    }
    sql.push(" RETURNING number");
    let gone: Vec<i64> = sql.build_query_scalar().fetch_all(conn).await?;
    gone.into_iter().map(number_of).collect()
}
