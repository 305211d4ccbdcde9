//! What AWS Lambda's API says of functions: states, published numbers, aliases as it numbers them, tags, layers.
//! What runs, and where calls go, stands in versions and aliases like everybody's.

mod layers;
pub(crate) mod states;

use std::collections::BTreeMap;

use model::{Auth, Digest, FunctionId, Name, Timestamp, VersionNumber};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, Row, SqliteConnection, query, query_as};

pub use self::layers::{LayerVersion, NewLayer};
use crate::{
    CurrentFunction, Store, StoreError,
    fault::Trip,
    functions::{current_in, key_of, keys_in, parsed},
};

/// One state of a function, besides what its version says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LambdaState {
    /// The version of ours that it is.
    pub version: VersionNumber,
    /// What a later state differs in, if it is to get a number of its own.
    pub content: Digest,
    /// The runtime in the caller's words, such as `nodejs22.x`.
    pub runtime: String,
    /// The handler in the caller's words, such as `index.handler`.
    pub handler: String,
    /// The role, which means nothing here.
    pub role: String,
    /// Free text.
    pub description: String,
    /// SHA-256 of the code as it was uploaded.
    pub code: Digest,
    /// Bytes of the code as it was uploaded.
    pub code_size: u64,
    /// MiB of `/tmp` that were asked for.
    pub storage: u32,
    /// Its layers, lowest first.
    pub layers: Vec<UsedLayer>,
    /// Changes with every change of the state.
    pub revision: String,
    /// When it last changed.
    pub modified_at: Timestamp,
}

/// A layer of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedLayer {
    /// The ARN of the layer's version.
    pub arn: String,
    /// Bytes of its zip.
    pub size: u64,
}

/// How an alias is numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LambdaAlias {
    /// The published number; 0 follows `$LATEST`.
    pub number: u32,
    /// That of the second version, if there is one.
    pub second: Option<u32>,
    /// Free text.
    pub description: String,
    /// Changes with every change of the alias.
    pub revision: String,
}

/// A function's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionUrl {
    /// Who may call it.
    pub auth: Auth,
    /// `BUFFERED` or `RESPONSE_STREAM`.
    pub mode: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub modified_at: Timestamp,
}

/// Why the last change of a function did not become its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedUpdate {
    /// One of AWS's codes.
    pub code: String,
    /// In words.
    pub reason: String,
}

/// All that is known of a function here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LambdaFunction {
    /// What everybody knows of it.
    pub current: CurrentFunction,
    /// States that this API made, by version: those that aliases lead to, `current` first of all, and the last one made.
    pub made: BTreeMap<VersionNumber, LambdaState>,
    /// Published states by number.
    pub published: BTreeMap<u32, LambdaState>,
    /// Aliases as they are numbered.
    pub aliases: BTreeMap<Name, LambdaAlias>,
    /// Most invocations at once.
    pub reserved: Option<u32>,
    /// Its URL, if one was made.
    pub url: Option<FunctionUrl>,
    /// Why the last change failed, if it did.
    pub failed: Option<FailedUpdate>,
    /// Tags by name.
    pub tags: BTreeMap<String, String>,
}

impl Store {
    /// One function, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn lambda(&self, id: &FunctionId) -> Result<LambdaFunction, StoreError> {
        let (attempt, id) = (format!("load {id} from"), id.clone());
        self.meta()
            .read(attempt, move |conn| Box::pin(one(conn, id)))
            .await
    }

    /// Every function of a project, by name.
    pub async fn lambdas(&self, project: &Name) -> Result<Vec<LambdaFunction>, StoreError> {
        let (attempt, project) = (
            format!("list the functions of {project} in"),
            project.clone(),
        );
        self.meta()
            .read(attempt, move |conn| Box::pin(all(conn, project)))
            .await
    }

    /// Limits how many invocations of a function run at once; `None`: as its settings say.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn reserve(&self, id: &FunctionId, most: Option<u32>) -> Result<(), StoreError> {
        self.note(id, move |conn, key| {
            Box::pin(async move {
                let sql = "UPDATE lambda_functions SET reserved = ? WHERE function = ?";
                query(sql).bind(most).bind(key).execute(conn).await?;
                Ok(())
            })
        })
        .await
    }

    /// Notes why a change failed, or that the last one did not.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn set_failed_update(
        &self,
        id: &FunctionId,
        failed: Option<FailedUpdate>,
    ) -> Result<(), StoreError> {
        self.note(id, move |conn, key| {
            Box::pin(async move {
                let (code, reason) = failed
                    .map(|failed| (failed.code, failed.reason))
                    .unzip();
                let sql = "UPDATE lambda_functions SET failed_code = ?, failed_reason = ? WHERE function = ?";
                query(sql).bind(code).bind(reason).bind(key).execute(conn).await?;
                Ok(())
            })
        })
        .await
    }

    /// Gives a function a URL, changes it, or takes it away.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn set_function_url(
        &self,
        id: &FunctionId,
        url: Option<FunctionUrl>,
    ) -> Result<(), StoreError> {
        self.note(id, move |conn, key| {
            Box::pin(async move {
                let sql = "UPDATE lambda_functions SET url_auth = ?, url_mode = ?, \
                     url_created_at = ?, url_modified_at = ? WHERE function = ?";
                let changed = match url {
                    Some(url) => query(sql)
                        .bind(url.auth.as_str())
                        .bind(url.mode)
                        .bind(url.created_at.0)
                        .bind(url.modified_at.0),
                    None => query(sql)
                        .bind(None::<&str>)
                        .bind(None::<&str>)
                        .bind(None::<i64>)
                        .bind(None::<i64>),
                };
                changed.bind(key).execute(conn).await?;
                Ok(())
            })
        })
        .await
    }

    /// Sets tags and takes others away.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn change_tags(
        &self,
        id: &FunctionId,
        set: BTreeMap<String, String>,
        unset: Vec<String>,
    ) -> Result<(), StoreError> {
        self.note(id, move |conn, key| {
            Box::pin(async move {
                for name in unset {
                    let sql = "DELETE FROM lambda_tags WHERE function = ? AND name = ?";
                    query(sql).bind(key).bind(name).execute(&mut *conn).await?;
                }
                for (name, value) in set {
                    let sql = "INSERT OR REPLACE INTO lambda_tags (function, name, value) VALUES (?, ?, ?)";
                    let put = query(sql).bind(key).bind(name).bind(value);
                    put.execute(&mut *conn).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Numbers an alias that was pointed.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn number_alias(
        &self,
        id: &FunctionId,
        name: &Name,
        alias: LambdaAlias,
    ) -> Result<(), StoreError> {
        let name = name.clone();
        self.note(id, move |conn, key| {
            Box::pin(async move {
                let sql = "INSERT OR REPLACE INTO lambda_aliases \
                     (function, name, number, second, description, revision) VALUES (?, ?, ?, ?, ?, ?)";
                let put = query(sql)
                    .bind(key)
                    .bind(name.as_str())
                    .bind(alias.number)
                    .bind(alias.second)
                    .bind(alias.description)
                    .bind(alias.revision);
                put.execute(conn).await?;
                Ok(())
            })
        })
        .await
    }

    /// Changes what stands here of a function, whose row is there.
    async fn note<T: Send + 'static>(
        &self,
        id: &FunctionId,
        work: impl for<'c> FnOnce(
            &'c mut SqliteConnection,
            i64,
        ) -> crate::meta::Doing<'c, Result<T, Trip>>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        let (attempt, id) = (format!("change {id} in"), id.clone());
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(async move {
                    let key = key_of(conn, &id).await?;
                    let sql =
                        "INSERT INTO lambda_functions (function) VALUES (?) ON CONFLICT DO NOTHING";
                    query(sql).bind(key).execute(&mut *conn).await?;
                    work(conn, key).await
                })
            })
            .await
    }
}

/// What lies over a function's settings, whatever its version: its URL's `auth`, and most invocations at once.
pub(crate) async fn over_of(
    conn: &mut SqliteConnection,
    key: i64,
) -> Result<(Option<Auth>, Option<u32>), Trip> {
    let row: Option<(Option<String>, Option<u32>)> =
        query_as("SELECT url_auth, reserved FROM lambda_functions WHERE function = ?")
            .bind(key)
            .fetch_optional(conn)
            .await?;
    let (auth, reserved) = row.unwrap_or_default();
    let auth = auth.map(|word| parsed(&word, "who may call a function"));
    Ok((auth.transpose()?, reserved))
}

async fn one(conn: &mut SqliteConnection, id: FunctionId) -> Result<LambdaFunction, Trip> {
    let mut moment = conn.begin().await?;
    let key = key_of(&mut moment, &id).await?;
    let loaded = whole(&mut moment, id, key).await?;
    moment.commit().await?;
    Ok(loaded)
}

async fn all(conn: &mut SqliteConnection, project: Name) -> Result<Vec<LambdaFunction>, Trip> {
    let mut moment = conn.begin().await?;
    let mut loaded = Vec::new();
    for (key, id) in keys_in(&mut moment, &project).await? {
        loaded.push(whole(&mut moment, id, key).await?);
    }
    moment.commit().await?;
    Ok(loaded)
}

async fn whole(
    conn: &mut SqliteConnection,
    id: FunctionId,
    key: i64,
) -> Result<LambdaFunction, Trip> {
    let states = states::of(conn, key).await?;
    let sql = "SELECT reserved, failed_code, failed_reason, url_auth, url_mode, url_created_at, \
         url_modified_at FROM lambda_functions WHERE function = ?";
    let row = query(sql).bind(key).fetch_optional(&mut *conn).await?;
    let (mut reserved, mut failed, mut url) = (None, None, None);
    if let Some(row) = row {
        reserved = row.try_get(0)?;
        let told = (row.try_get(1)?, row.try_get(2)?);
        if let (Some(code), Some(reason)) = told {
            failed = Some(FailedUpdate { code, reason });
        }
        if let Some(auth) = row.try_get::<Option<&str>, _>(3)? {
            url = Some(FunctionUrl {
                auth: parsed(auth, "who may call a function")?,
                mode: row.try_get(4)?,
                created_at: Timestamp(row.try_get(5)?),
                modified_at: Timestamp(row.try_get(6)?),
            });
        }
    }
    Ok(LambdaFunction {
        current: current_in(conn, id).await?,
        made: states.made,
        published: states.published,
        aliases: states::aliases_of(conn, key).await?,
        reserved,
        url,
        failed,
        tags: states::tags_of(conn, key).await?,
    })
}
