//! Functions: that they exist, whether they are enabled, what is current.

use std::collections::BTreeMap;

use model::{AliasTarget, Auth, Digest, FunctionId, Name, Timestamp, VersionNumber};
use sqlx::{Connection, Row, SqliteConnection, query, query_as, query_scalar, sqlite::SqliteRow};

use crate::{
    Store, StoreError, Version,
    aliases::aliases_of,
    environment::env_of,
    fault::Trip,
    lambda::{over_of, states::published_of},
    versions::{number_of, version_of},
};

/// A function that was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its project and name.
    pub id: FunctionId,
    /// Whether it may be invoked.
    pub enabled: bool,
    /// The version that the alias `current` points at, the first of two; `None` until the first deployment.
    pub current: Option<VersionNumber>,
    /// When `current` was last pointed elsewhere.
    pub deployed_at: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When anything about it changed last.
    pub updated_at: Timestamp,
    /// Whether it has a version at all.
    pub is_built: bool,
}

/// All that is needed to serve a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentFunction {
    /// The function.
    pub function: Function,
    /// Its current version, whole.
    pub version: Option<Version>,
    /// Where each of its aliases points, `current` too.
    pub aliases: BTreeMap<Name, AliasTarget>,
    /// The version behind each number that was published.
    pub published: BTreeMap<u32, VersionNumber>,
    /// Every version that an alias points at, or that was published.
    pub pointed: BTreeMap<VersionNumber, Version>,
    /// What lies over the settings of its versions.
    pub over: Over,
}

impl CurrentFunction {
    /// Whether an alias leads to this version.
    pub fn is_named(&self, number: VersionNumber) -> bool {
        let parts = self.aliases.values().flat_map(AliasTarget::parts);
        parts.into_iter().any(|part| part.version == number)
    }
}

/// What lies over the settings of all versions of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Over {
    /// The server's overrides of its environment.
    pub env: BTreeMap<String, String>,
    /// Who may call it, if its URL says so.
    pub auth: Option<Auth>,
    /// Most invocations at once; 0: none at all.
    pub reserved: Option<u32>,
}

impl Store {
    /// Registers a function; `true` if it was not there before.
    pub async fn create_function(&self, id: &FunctionId) -> Result<bool, StoreError> {
        let (attempt, id, now) = (format!("register {id} in"), id.clone(), self.now());
        self.meta()
            .write(attempt, move |conn| Box::pin(create(conn, id, now)))
            .await
    }

    /// Every function, by project and name.
    pub async fn functions(&self) -> Result<Vec<Function>, StoreError> {
        self.meta()
            .read("list the functions of", |conn| Box::pin(all(conn)))
            .await
    }

    /// One function, if it is there.
    pub async fn function(&self, id: &FunctionId) -> Result<Option<Function>, StoreError> {
        let (attempt, id) = (format!("look up {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(one(conn, id)))
            .await
    }

    /// Every function with its current version and overrides, as of one moment: the route table at start.
    pub async fn all_current(&self) -> Result<Vec<CurrentFunction>, StoreError> {
        self.meta()
            .read("load the functions of", |conn| Box::pin(current(conn)))
            .await
    }

    /// One function with all that is needed to serve it, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn current(&self, id: &FunctionId) -> Result<CurrentFunction, StoreError> {
        let (attempt, id) = (format!("load {id} from"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(current_one(conn, id)))
            .await
    }

    /// What lies over the settings of a function's versions.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn over(&self, id: &FunctionId) -> Result<Over, StoreError> {
        let (attempt, id) = (format!("read the overrides of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| {
                Box::pin(async move {
                    let key = key_of(conn, &id).await?;
                    all_over(conn, key).await
                })
            })
            .await
    }

    /// Deletes a function with its versions, aliases and overrides; the bundles that no version uses any more come back.
    /// Its history in the records goes by [`Store::forget`].
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn delete_function(&self, id: &FunctionId) -> Result<Vec<Digest>, StoreError> {
        let (attempt, id) = (format!("delete {id} from"), id.clone());
        self.meta()
            .write(attempt, move |conn| Box::pin(delete(conn, id)))
            .await
    }

    /// Deletes all that was recorded of a function.
    pub async fn forget(&self, id: &FunctionId) -> Result<(), StoreError> {
        self.history().forget(id.clone()).await
    }

    /// Enables or disables a function; `false` if it was so already.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn set_enabled(&self, id: &FunctionId, enabled: bool) -> Result<bool, StoreError> {
        let (attempt, id, now) = (format!("change {id} in"), id.clone(), self.now());
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(enable(conn, id, enabled, now))
            })
            .await
    }
}

const SELECT: &str = "SELECT f.key, f.project, f.name, f.enabled, a.version, a.pointed_at, \
    f.created_at, f.updated_at, \
    EXISTS (SELECT 1 FROM versions v WHERE v.function = f.key) \
    FROM functions f LEFT JOIN aliases a ON a.function = f.key AND a.name = 'current' ";

fn function_of(row: &SqliteRow) -> Result<Function, Trip> {
    Ok(Function {
        id: FunctionId {
            project: parsed(row.try_get(1)?, "a project's name")?,
            name: parsed(row.try_get(2)?, "a function's name")?,
        },
        enabled: row.try_get(3)?,
        current: row
            .try_get::<Option<i64>, _>(4)?
            .map(number_of)
            .transpose()?,
        deployed_at: row.try_get::<Option<i64>, _>(5)?.map(Timestamp),
        created_at: Timestamp(row.try_get(6)?),
        updated_at: Timestamp(row.try_get(7)?),
        is_built: row.try_get(8)?,
    })
}

/// Reads a word that this program wrote.
pub(crate) fn parsed<T: std::str::FromStr>(text: &str, expected: &'static str) -> Result<T, Trip> {
    text.parse().map_err(|_| Trip::unreadable(text, expected))
}

pub(crate) async fn create(
    conn: &mut SqliteConnection,
    id: FunctionId,
    now: Timestamp,
) -> Result<bool, Trip> {
    let inserted = query(
        "INSERT INTO functions (project, name, created_at, updated_at) VALUES (?1, ?2, ?3, ?3) \
         ON CONFLICT DO NOTHING",
    )
    .bind(id.project.as_str())
    .bind(id.name.as_str())
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

async fn all(conn: &mut SqliteConnection) -> Result<Vec<Function>, Trip> {
    let mut sql = sqlx::QueryBuilder::new(SELECT);
    let rows = sql
        .push("ORDER BY f.project, f.name")
        .build()
        .fetch_all(conn)
        .await?;
    rows.iter().map(function_of).collect()
}

async fn one(conn: &mut SqliteConnection, id: FunctionId) -> Result<Option<Function>, Trip> {
    let row = row_of(conn, &id).await?;
    row.as_ref().map(function_of).transpose()
}

async fn row_of(conn: &mut SqliteConnection, id: &FunctionId) -> Result<Option<SqliteRow>, Trip> {
    let mut sql = sqlx::QueryBuilder::new(SELECT);
    sql.push("WHERE f.project = ")
        .push_bind(id.project.as_str().to_owned());
    sql.push(" AND f.name = ")
        .push_bind(id.name.as_str().to_owned());
    Ok(sql.build().fetch_optional(conn).await?)
}

async fn current(conn: &mut SqliteConnection) -> Result<Vec<CurrentFunction>, Trip> {
    let mut moment = conn.begin().await?;
    let mut sql = sqlx::QueryBuilder::new(SELECT);
    let rows = sql
        .push("ORDER BY f.project, f.name")
        .build()
        .fetch_all(&mut *moment)
        .await?;
    let mut loaded = Vec::with_capacity(rows.len());
    for row in &rows {
        loaded.push(whole(&mut moment, row).await?);
    }
    moment.commit().await?;
    Ok(loaded)
}

async fn current_one(conn: &mut SqliteConnection, id: FunctionId) -> Result<CurrentFunction, Trip> {
    let mut moment = conn.begin().await?;
    let loaded = current_in(&mut moment, id).await?;
    moment.commit().await?;
    Ok(loaded)
}

/// The same, as a part of a larger moment.
pub(crate) async fn current_in(
    conn: &mut SqliteConnection,
    id: FunctionId,
) -> Result<CurrentFunction, Trip> {
    match row_of(conn, &id).await? {
        Some(row) => whole(conn, &row).await,
        None => Err(StoreError::NoFunction(id).into()),
    }
}

/// The functions of a project by name, with their keys inside the database.
pub(crate) async fn keys_in(
    conn: &mut SqliteConnection,
    project: &Name,
) -> Result<Vec<(i64, FunctionId)>, Trip> {
    let sql = "SELECT key, name FROM functions WHERE project = ? ORDER BY name";
    let rows: Vec<(i64, String)> = query_as(sql).bind(project.as_str()).fetch_all(conn).await?;
    let read = |(key, name): (i64, String)| {
        let id = FunctionId {
            project: project.clone(),
            name: parsed(&name, "a function's name")?,
        };
        Ok((key, id))
    };
    rows.into_iter().map(read).collect()
}

async fn all_over(conn: &mut SqliteConnection, key: i64) -> Result<Over, Trip> {
    let env = env_of(conn, key).await?;
    let (auth, reserved) = over_of(conn, key).await?;
    Ok(Over {
        env,
        auth,
        reserved,
    })
}

/// A function's row with all that belongs to it.
async fn whole(conn: &mut SqliteConnection, row: &SqliteRow) -> Result<CurrentFunction, Trip> {
    let function = function_of(row)?;
    let key = row.try_get(0)?;
    let aliases = aliases_of(conn, key).await?;
    let published = published_of(conn, key).await?;
    let mut pointed = BTreeMap::new();
    let parts = aliases.values().flat_map(AliasTarget::parts);
    let named = parts.map(|part| part.version);
    for number in named.chain(published.values().copied()) {
        if let Some(version) = version_of(conn, &function.id, key, number).await? {
            pointed.insert(number, version);
        }
    }
    let version = function.current.and_then(|number| pointed.get(&number));
    Ok(CurrentFunction {
        version: version.cloned(),
        over: all_over(conn, key).await?,
        function,
        aliases,
        published,
        pointed,
    })
}

async fn delete(conn: &mut SqliteConnection, id: FunctionId) -> Result<Vec<Digest>, Trip> {
    let key = key_of(conn, &id).await?;
    let unused: Vec<String> = query_scalar(
        "SELECT DISTINCT bundle FROM versions WHERE function = ?1 \
         AND bundle NOT IN (SELECT bundle FROM versions WHERE function <> ?1)",
    )
    .bind(key)
    .fetch_all(&mut *conn)
    .await?;
    for sql in [
        "DELETE FROM lambda_tags WHERE function = ?",
        "DELETE FROM lambda_aliases WHERE function = ?",
        "DELETE FROM lambda_states WHERE function = ?",
        "DELETE FROM lambda_functions WHERE function = ?",
        "DELETE FROM aliases WHERE function = ?",
        "DELETE FROM alias_history WHERE function = ?",
        "DELETE FROM env_overrides WHERE function = ?",
        "DELETE FROM sources WHERE function = ?",
        "DELETE FROM labels WHERE function = ?",
        "DELETE FROM registrations WHERE function = ?",
        "DELETE FROM versions WHERE function = ?",
        "DELETE FROM functions WHERE key = ?",
    ] {
        query(sql).bind(key).execute(&mut *conn).await?;
    }
    let digests = unused.iter().map(|text| parsed(text, "a digest"));
    digests.collect()
}

async fn enable(
    conn: &mut SqliteConnection,
    id: FunctionId,
    enabled: bool,
    now: Timestamp,
) -> Result<bool, Trip> {
    let key = key_of(conn, &id).await?;
    let changed = query(
        "UPDATE functions SET enabled = ?1, updated_at = ?2 WHERE key = ?3 AND enabled <> ?1",
    )
    .bind(enabled)
    .bind(now.0)
    .bind(key)
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// The function's key inside the database.
pub(crate) async fn key_of(conn: &mut SqliteConnection, id: &FunctionId) -> Result<i64, Trip> {
    query_scalar("SELECT key FROM functions WHERE project = ? AND name = ?")
        .bind(id.project.as_str())
        .bind(id.name.as_str())
        .fetch_optional(conn)
        .await?
        .ok_or_else(|| StoreError::NoFunction(id.clone()).into())
}

/// Notes that something about the function changed.
pub(crate) async fn touch(
    conn: &mut SqliteConnection,
    key: i64,
    now: Timestamp,
) -> Result<(), Trip> {
    query("UPDATE functions SET updated_at = ? WHERE key = ?")
        .bind(now.0)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}
