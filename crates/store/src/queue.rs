//! The queue: events that were accepted, until they are done. Nothing of it is lost with the process: what an attempt
//! was doing when it ended stands here as if it had not begun.

use model::{FunctionId, InvocationId, Timestamp};
use sqlx::{Row, SqliteConnection, query, sqlite::SqliteRow};

use crate::{
    Store, StoreError,
    fault::Trip,
    functions::{key_of, parsed},
    records::{id_bytes, id_of},
};

/// An event, and all that its invocation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedEvent {
    /// The invocation, the same in every attempt.
    pub id: InvocationId,
    /// Whom it is for.
    pub function: FunctionId,
    /// The event as JSON.
    pub event: Vec<u8>,
    /// The version or alias that its sender named.
    pub qualifier: Option<String>,
    /// The ARN by which its sender named the function.
    pub arn: Option<String>,
    /// What its sender said of himself, as JSON.
    pub client_context: Option<String>,
    /// The tenant that it is for.
    pub tenant_id: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// An event that waits, without what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The invocation.
    pub id: InvocationId,
    /// Whom it is for.
    pub function: FunctionId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Not before then.
    pub due_at: Timestamp,
    /// Attempts that failed.
    pub failed: u32,
}

impl Store {
    /// Accepts an event, due at once. When this returns it is on the disk.
    ///
    /// # Errors
    /// [`StoreError::NoFunction`].
    pub async fn enqueue(&self, event: QueuedEvent) -> Result<(), StoreError> {
        let attempt = format!("queue an event for {} in", event.function);
        self.meta()
            .write(attempt, move |conn| Box::pin(add(conn, event)))
            .await
    }

    /// Everything that waits, oldest first.
    pub async fn queued(&self) -> Result<Vec<Waiting>, StoreError> {
        self.meta()
            .read("list the queue of", |conn| Box::pin(all(conn)))
            .await
    }

    /// One event; `None` if it is done, or its function is gone.
    pub async fn queued_event(&self, id: InvocationId) -> Result<Option<QueuedEvent>, StoreError> {
        let attempt = format!("read the queued event {id} from");
        self.meta()
            .read(attempt, move |conn| Box::pin(one(conn, id)))
            .await
    }

    /// An event is to be tried again, not before `due_at`; `failed` attempts count.
    pub async fn put_off(
        &self,
        id: InvocationId,
        due_at: Timestamp,
        failed: u32,
    ) -> Result<(), StoreError> {
        let attempt = format!("put off the queued event {id} in");
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(change(conn, id, due_at, failed))
            })
            .await
    }

    /// An event is done.
    pub async fn dequeue(&self, id: InvocationId) -> Result<(), StoreError> {
        let attempt = format!("take the queued event {id} from");
        self.meta()
            .write(attempt, move |conn| Box::pin(delete(conn, id)))
            .await
    }
}

const FUNCTION: &str = "FROM queue q JOIN functions f ON f.key = q.function";

fn function_of(row: &SqliteRow) -> Result<FunctionId, Trip> {
    Ok(FunctionId {
        project: parsed(row.try_get(1)?, "a project's name")?,
        name: parsed(row.try_get(2)?, "a function's name")?,
    })
}

async fn add(conn: &mut SqliteConnection, event: QueuedEvent) -> Result<(), Trip> {
    let key = key_of(conn, &event.function).await?;
    query(
        "INSERT INTO queue (id, function, event, qualifier, arn, client_context, tenant_id, \
         trace_id, accepted_at, due_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)",
    )
    .bind(id_bytes(event.id))
    .bind(key)
    .bind(event.event)
    .bind(event.qualifier)
    .bind(event.arn)
    .bind(event.client_context)
    .bind(event.tenant_id)
    .bind(event.trace_id)
    .bind(event.accepted_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

async fn all(conn: &mut SqliteConnection) -> Result<Vec<Waiting>, Trip> {
    let mut sql = sqlx::QueryBuilder::new(
        "SELECT q.id, f.project, f.name, q.accepted_at, q.due_at, q.failed ",
    );
    let rows = sql
        .push(FUNCTION)
        .push(" ORDER BY q.accepted_at, q.id")
        .build()
        .fetch_all(conn)
        .await?;
    let mut waiting = Vec::with_capacity(rows.len());
    for row in &rows {
        waiting.push(Waiting {
            id: id_of(row.try_get(0)?)?,
            function: function_of(row)?,
            accepted_at: Timestamp(row.try_get(3)?),
            due_at: Timestamp(row.try_get(4)?),
            failed: row.try_get(5)?,
        });
    }
    Ok(waiting)
}

async fn one(conn: &mut SqliteConnection, id: InvocationId) -> Result<Option<QueuedEvent>, Trip> {
    let mut sql = sqlx::QueryBuilder::new(
        "SELECT q.event, f.project, f.name, q.qualifier, q.arn, q.client_context, q.tenant_id, \
         q.trace_id, q.accepted_at ",
    );
    let row = sql
        .push(FUNCTION)
        .push(" WHERE q.id = ")
        .push_bind(id_bytes(id))
        .build()
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(QueuedEvent {
        id,
        function: function_of(&row)?,
        event: row.try_get(0)?,
        qualifier: row.try_get(3)?,
        arn: row.try_get(4)?,
        client_context: row.try_get(5)?,
        tenant_id: row.try_get(6)?,
        trace_id: row.try_get(7)?,
        accepted_at: Timestamp(row.try_get(8)?),
    }))
}

async fn change(
    conn: &mut SqliteConnection,
    id: InvocationId,
    due_at: Timestamp,
    failed: u32,
) -> Result<(), Trip> {
    query("UPDATE queue SET due_at = ?, failed = ? WHERE id = ?")
        .bind(due_at.0)
        .bind(failed)
        .bind(id_bytes(id))
        .execute(conn)
        .await?;
    Ok(())
}

async fn delete(conn: &mut SqliteConnection, id: InvocationId) -> Result<(), Trip> {
    query("DELETE FROM queue WHERE id = ?")
        .bind(id_bytes(id))
        .execute(conn)
        .await?;
    Ok(())
}
