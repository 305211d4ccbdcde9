//! Versions: immutable, numbered per function, found by number or by the first digits of their digest.

use model::{Digest, FunctionId, Kind, SettingsPatch, Timestamp, VersionNumber, VersionRef};
use sqlx::{Row, SqliteConnection, query_scalar, sqlite::SqliteRow};

use crate::{
    Store, StoreError,
    fault::Trip,
    functions::{key_of, parsed, touch},
};

/// What a new version is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// Over bundle and settings; the same digest is the same version.
    pub digest: Digest,
    /// The bundle that it runs.
    pub bundle: Digest,
    /// The entry module inside the bundle.
    pub entry: String,
    /// The shape of its handler.
    pub kind: Kind,
    /// Its settings, as they were deployed.
    pub patch: SettingsPatch,
    /// Digests of what it finds under `/opt`, lowest first.
    pub layers: Vec<Digest>,
}

/// A version that was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The function it belongs to.
    pub function: FunctionId,
    /// Its ordinal.
    pub number: VersionNumber,
    /// Over bundle and settings.
    pub digest: Digest,
    /// The bundle that it runs.
    pub bundle: Digest,
    /// The entry module inside the bundle.
    pub entry: String,
    /// The shape of its handler.
    pub kind: Kind,
    /// Its settings, as they were deployed.
    pub patch: SettingsPatch,
    /// Digests of what it finds under `/opt`, lowest first.
    pub layers: Vec<Digest>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Why a name leads to no version.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FindError {
    /// None of that number or digest.
    #[error("{function} has no version {}", words(reference))]
    NotFound {
        /// The function.
        function: FunctionId,
        /// What was asked for.
        reference: VersionRef,
    },
    /// Several digests begin so.
    #[error("{} versions of {function} have a digest that begins with {prefix}", candidates.len())]
    Ambiguous {
        /// The function.
        function: FunctionId,
        /// What was asked for.
        prefix: String,
        /// Whom it could mean, newest first.
        candidates: Vec<VersionNumber>,
    },
    /// The store failed, or there is no such function.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn words(reference: &VersionRef) -> String {
    match reference {
        VersionRef::Number(number) => number.to_string(),
        VersionRef::Prefix(prefix) => format!("whose digest begins with {prefix}"),
    }
}

impl Store {
    /// Adds a version, or finds the one with the same digest; `true` if it is new.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn add_version(
        &self,
        id: &FunctionId,
        new: NewVersion,
    ) -> Result<(VersionNumber, bool), StoreError> {
        let (attempt, id, now) = (format!("add a version of {id} to"), id.clone(), self.now());
        self.meta()
            .write(attempt, move |conn| Box::pin(add(conn, id, new, now)))
            .await
    }

    /// Every version, newest first.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn versions(&self, id: &FunctionId) -> Result<Vec<Version>, StoreError> {
        let (attempt, id) = (format!("list the versions of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(all(conn, id)))
            .await
    }

    /// One version by number, if it is there.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn version(
        &self,
        id: &FunctionId,
        number: VersionNumber,
    ) -> Result<Option<Version>, StoreError> {
        let (attempt, id) = (format!("look up {number} of {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(one(conn, id, number)))
            .await
    }

    /// The version that a person means. Digits that are no version's number are tried as a digest's beginning.
    pub async fn find_version(
        &self,
        id: &FunctionId,
        reference: &VersionRef,
    ) -> Result<Version, FindError> {
        let prefix = match reference {
            VersionRef::Number(number) => match self.version(id, *number).await? {
                Some(version) => return Ok(version),
                None => number.0.to_string(),
            },
            VersionRef::Prefix(prefix) => prefix.clone(),
        };
        let mut found = Vec::new();
        if prefix.len() >= PREFIX_MIN {
            let (attempt, id, prefix) = (
                format!("look up {prefix} of {id} in"),
                id.clone(),
                prefix.clone(),
            );
            found = self
                .meta()
                .read(attempt, move |conn| Box::pin(beginning(conn, id, prefix)))
                .await?;
        }
        match (found.pop(), found.is_empty()) {
            (Some(version), true) => Ok(version),
            (None, _) => Err(FindError::NotFound {
                function: id.clone(),
                reference: reference.clone(),
            }),
            (Some(oldest), false) => Err(FindError::Ambiguous {
                function: id.clone(),
                prefix,
                candidates: found
                    .iter()
                    .chain([&oldest])
                    .map(|version| version.number)
                    .collect(),
            }),
        }
    }
}

/// Fewer digits than this are no digest's beginning, as in [`VersionRef`].
const PREFIX_MIN: usize = 4;

const SELECT: &str =
    "SELECT number, digest, bundle, entry, kind, settings, created_at, layers FROM versions ";

fn version_from(row: &SqliteRow, function: &FunctionId) -> Result<Version, Trip> {
    let settings: &str = row.try_get(5)?;
    let layers: &str = row.try_get(7)?;
    Ok(Version {
        function: function.clone(),
        number: number_of(row.try_get(0)?)?,
        digest: parsed(row.try_get(1)?, "a digest")?,
        bundle: parsed(row.try_get(2)?, "a digest")?,
        entry: row.try_get(3)?,
        kind: parsed(row.try_get(4)?, "the kind of a handler")?,
        patch: serde_json::from_str(settings)
            .map_err(|_| Trip::unreadable(settings, "a version's settings"))?,
        created_at: Timestamp(row.try_get(6)?),
        layers: serde_json::from_str(layers)
            .map_err(|_| Trip::unreadable(layers, "a version's layers"))?,
    })
}

pub(crate) fn number_of(number: i64) -> Result<VersionNumber, Trip> {
    u32::try_from(number)
        .map(VersionNumber)
        .map_err(|_| Trip::unreadable(number, "a version's number"))
}

async fn add(
    conn: &mut SqliteConnection,
    id: FunctionId,
    new: NewVersion,
    now: Timestamp,
) -> Result<(VersionNumber, bool), Trip> {
    let key = key_of(conn, &id).await?;
    let digest = new.digest.hex();
    let known: Option<i64> =
        query_scalar("SELECT number FROM versions WHERE function = ? AND digest = ?")
            .bind(key)
            .bind(&digest)
            .fetch_optional(&mut *conn)
            .await?;
    if let Some(number) = known {
        return Ok((number_of(number)?, false));
    }
    let settings = serde_json::to_string(&new.patch)
        .map_err(|error| Trip::unreadable(error, "settings that can be written as JSON"))?;
    let layers = serde_json::to_string(&new.layers)
        .map_err(|error| Trip::unreadable(error, "layers that can be written as JSON"))?;
    let number: i64 = query_scalar(
        "INSERT INTO versions (function, number, digest, bundle, entry, kind, settings, created_at, layers) \
         VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM versions WHERE function = ?1), \
         ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING number",
    )
    .bind(key)
    .bind(digest)
    .bind(new.bundle.hex())
    .bind(new.entry)
    .bind(new.kind.as_str())
    .bind(settings)
    .bind(now.0)
    .bind(layers)
    .fetch_one(&mut *conn)
    .await?;
    touch(conn, key, now).await?;
    Ok((number_of(number)?, true))
}

async fn all(conn: &mut SqliteConnection, id: FunctionId) -> Result<Vec<Version>, Trip> {
    let key = key_of(conn, &id).await?;
    let mut sql = sqlx::QueryBuilder::new(SELECT);
    sql.push("WHERE function = ")
        .push_bind(key)
        .push(" ORDER BY number DESC");
    let rows = sql.build().fetch_all(conn).await?;
    rows.iter().map(|row| version_from(row, &id)).collect()
}

async fn one(
    conn: &mut SqliteConnection,
    id: FunctionId,
    number: VersionNumber,
) -> Result<Option<Version>, Trip> {
    let key = key_of(conn, &id).await?;
    version_of(conn, &id, key, number).await
}

pub(crate) async fn version_of(
    conn: &mut SqliteConnection,
    id: &FunctionId,
    key: i64,
    number: VersionNumber,
) -> Result<Option<Version>, Trip> {
    let mut sql = sqlx::QueryBuilder::new(SELECT);
    sql.push("WHERE function = ").push_bind(key);
    sql.push(" AND number = ").push_bind(i64::from(number.0));
    let row = sql.build().fetch_optional(conn).await?;
    row.as_ref().map(|row| version_from(row, id)).transpose()
}

/// Newest first. `g` sorts after every hex digit, so the range holds what begins with the prefix.
async fn beginning(
    conn: &mut SqliteConnection,
    id: FunctionId,
    prefix: String,
) -> Result<Vec<Version>, Trip> {
    let key = key_of(conn, &id).await?;
    let end = format!("{prefix}g");
    let mut sql = sqlx::QueryBuilder::new(SELECT);
    sql.push("WHERE function = ").push_bind(key);
    sql.push(" AND digest >= ").push_bind(prefix);
    sql.push(" AND digest < ").push_bind(end);
    sql.push(" ORDER BY number DESC");
    let rows = sql.build().fetch_all(conn).await?;
    rows.iter().map(|row| version_from(row, &id)).collect()
}
