//! What survives a restart: functions, versions, aliases, labels, tokens, invocations and logs.
//! The only SQL. Knows neither HTTP nor what runs a function, and no row type leaves it.

mod aliases;
mod database;
mod environment;
mod error;
mod fault;
mod folder;
mod functions;
mod labels;
mod lambda;
mod meta;
mod queue;
mod records;
mod retention;
mod sources;
mod tokens;
mod versions;

use std::{fmt, sync::Arc};

use model::{Clock, Limits, Timestamp};

pub use crate::{
    aliases::{Alias, AliasChange},
    error::{Cause, OpenError, StorageError, StoreError, Trouble, Warning},
    folder::DataFolder,
    functions::{CurrentFunction, Function, Over},
    labels::{Label, Registration},
    lambda::{
        FailedUpdate, FunctionUrl, LambdaAlias, LambdaFunction, LambdaState, LayerVersion,
        NewLayer, UsedLayer,
    },
    queue::{QueuedEvent, Waiting},
    records::{
        InvocationFilter, Invocations, LogCursor, LogFilter, LogFollower, ROWS_MAX, RecordSink,
        RecordingDraft, Sampler, Sampling, StoredLine,
    },
    sources::{Origin, Origins},
    tokens::{NewToken, Role, RoleError, Token, TokenId},
    versions::{FindError, NewVersion, Version},
};
use crate::{fault::Trip, meta::Meta, records::Records};

/// The databases of one data folder. Clones are cheap and mean the same store.
///
/// Dropping the last clone without [`Store::close`] ends its tasks as well, after they wrote what they had.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    meta: Meta,
    records: Records,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens or creates the databases, brings their schemas up to date, and starts the writers.
    /// The folder stays held until the writers have ended, even if `folder` is dropped earlier.
    ///
    /// # Errors
    /// A corrupt `meta.db`, a newer schema, or a file that cannot be used.
    /// Corrupt records do not stop the start: they are set aside, and told as a [`Warning`].
    pub async fn open(
        folder: &DataFolder,
        limits: &Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<(Store, Vec<Warning>), OpenError> {
        let meta = Meta::open(folder).await?;
        let (records, warning) = Records::open(folder, limits, Arc::clone(&clock)).await?;
        let inner = Inner {
            meta,
            records,
            clock,
        };
        Ok((Store(Arc::new(inner)), warning.into_iter().collect()))
    }

    /// Commits a row and syncs it: whether the store can be written now.
    pub async fn probe_write(&self) -> Result<(), StoreError> {
        let now = self.now();
        self.meta()
            .write("write a probe to", move |conn| Box::pin(probe(conn, now)))
            .await
    }

    /// Writes what waits, then closes the files. Everything asked later gets [`StoreError::Closed`].
    ///
    /// # Errors
    /// Records that could not be written; the rest is closed all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        let records = self.0.records.close().await;
        self.0.meta.close().await;
        records
    }

    fn meta(&self) -> &Meta {
        &self.0.meta
    }

    fn history(&self) -> &Records {
        &self.0.records
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.meta().path()).finish()
    }
}

async fn probe(conn: &mut sqlx::SqliteConnection, now: Timestamp) -> Result<(), Trip> {
    sqlx::query("INSERT OR REPLACE INTO probe (one, at) VALUES (1, ?)")
        .bind(now.0)
        .execute(conn)
        .await?;
    Ok(())
}
