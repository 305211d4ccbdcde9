//! What the BunBase profile keeps beside functions and versions: how a function was registered, and what its labels mean.

use model::{Digest, FunctionId, Timestamp, VersionNumber};
use sqlx::{SqliteConnection, query, query_as};

use crate::{
    Store, StoreError,
    fault::Trip,
    functions::{create, key_of, parsed, touch},
    versions::number_of,
};

/// How a function was registered; its next deployment by label is made so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The runtime, in the word that was used.
    pub runtime: String,
    /// The export, in the word that was used.
    pub handler: String,
}

/// What a label means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The version that it was given to.
    pub version: VersionNumber,
    /// Over the file that the version was made of.
    pub source: Digest,
}

impl Store {
    /// Registers a function, which comes into being if it is not there; the same again changes how it is registered.
    pub async fn register(&self, id: &FunctionId, how: Registration) -> Result<(), StoreError> {
        let (attempt, id, now) = (format!("register {id} in"), id.clone(), self.now());
        self.meta()
            .write(attempt, move |conn| Box::pin(register(conn, id, how, now)))
            .await
    }

    /// How a function was registered, if it was.
    pub async fn registration(&self, id: &FunctionId) -> Result<Option<Registration>, StoreError> {
        let (attempt, id) = (format!("look up {id} in"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(registration(conn, id)))
            .await
    }

    /// Every function that was registered.
    pub async fn registered(&self) -> Result<Vec<FunctionId>, StoreError> {
        self.meta()
            .read("list the registrations of", |conn| {
                Box::pin(registered(conn))
            })
            .await
    }

    /// What a label of a function means, if it was ever given.
    pub async fn label(&self, id: &FunctionId, label: &str) -> Result<Option<Label>, StoreError> {
        let attempt = format!("look up a label of {id} in");
        let (id, label) = (id.clone(), label.to_owned());
        self.meta()
            .read(attempt, move |conn| Box::pin(one(conn, id, label)))
            .await
    }

    /// Gives a label to a version, for good: one that was given before keeps its meaning.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn give_label(
        &self,
        id: &FunctionId,
        label: &str,
        meaning: Label,
    ) -> Result<(), StoreError> {
        let attempt = format!("label {} of {id} in", meaning.version);
        let (id, label, now) = (id.clone(), label.to_owned(), self.now());
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(give(conn, id, label, meaning, now))
            })
            .await
    }
}

async fn register(
    conn: &mut SqliteConnection,
    id: FunctionId,
    how: Registration,
    now: Timestamp,
) -> Result<(), Trip> {
    create(conn, id.clone(), now).await?;
    let key = key_of(conn, &id).await?;
    query(
        "INSERT INTO registrations (function, runtime, handler, registered_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (function) DO UPDATE SET runtime = ?2, handler = ?3",
    )
    .bind(key)
    .bind(how.runtime)
    .bind(how.handler)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

async fn registration(
    conn: &mut SqliteConnection,
    id: FunctionId,
) -> Result<Option<Registration>, Trip> {
    let row: Option<(String, String)> = query_as(
        "SELECT r.runtime, r.handler FROM registrations r JOIN functions f ON f.key = r.function \
         WHERE f.project = ? AND f.name = ?",
    )
    .bind(id.project.as_str())
    .bind(id.name.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|(runtime, handler)| Registration { runtime, handler }))
}

async fn registered(conn: &mut SqliteConnection) -> Result<Vec<FunctionId>, Trip> {
    let rows: Vec<(String, String)> = query_as(
        "SELECT f.project, f.name FROM registrations r JOIN functions f ON f.key = r.function",
    )
    .fetch_all(conn)
    .await?;
    let read = rows.into_iter().map(|(project, name)| {
        Ok(FunctionId {
            project: parsed(&project, "a project's name")?,
            name: parsed(&name, "a function's name")?,
        })
    });
    read.collect()
}

async fn one(
    conn: &mut SqliteConnection,
    id: FunctionId,
    label: String,
) -> Result<Option<Label>, Trip> {
    let row: Option<(i64, String)> = query_as(
        "SELECT l.version, l.source FROM labels l JOIN functions f ON f.key = l.function \
         WHERE f.project = ? AND f.name = ? AND l.label = ?",
    )
    .bind(id.project.as_str())
    .bind(id.name.as_str())
    .bind(label)
    .fetch_optional(conn)
    .await?;
    row.map(|(version, source)| {
        Ok(Label {
            version: number_of(version)?,
            source: parsed(&source, "a digest")?,
        })
    })
    .transpose()
}

async fn give(
    conn: &mut SqliteConnection,
    id: FunctionId,
    label: String,
    meaning: Label,
    now: Timestamp,
) -> Result<(), Trip> {
    let key = key_of(conn, &id).await?;
    query(
        "INSERT INTO labels (function, label, version, source, labelled_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(key)
    .bind(label)
    .bind(meaning.version.0)
    .bind(meaning.source.hex())
    .bind(now.0)
    .execute(&mut *conn)
    .await?;
    touch(conn, key, now).await
}
