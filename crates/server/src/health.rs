//! Whether the server is alive and ready, and how much it has done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, extract::State, response::IntoResponse};
use http::{HeaderMap, StatusCode, header::ACCEPT};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{api::Unguarded, app::App, journal::Totals};

/// How soon an engine or a store that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What is known of the server's own state.
pub(crate) struct Health {
    started: Instant,
    is_ready: AtomicBool,
    is_draining: AtomicBool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Health))]
struct Report {
    status: &'static str,
    /// In seconds.
    uptime: f64,
    total_invocations: u64,
    successful_invocations: u64,
    failed_invocations: u64,
    ready: bool,
}

impl Health {
    pub(crate) fn new() -> Health {
        Health {
            started: Instant::now(),
            is_ready: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
        }
    }

    /// Work may come, and will be done.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed) && !self.is_draining.load(Ordering::Relaxed)
    }

    /// From now on work may come.
    pub(crate) fn ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// Since the start, in seconds.
    pub(crate) fn uptime(&self) -> f64 {
        let millis = self.started.elapsed().as_millis();
        f64::from(u32::try_from(millis / 100).unwrap_or(u32::MAX)) / 10.0
    }

    /// From now on work should go elsewhere.
    pub(crate) fn draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }
}

/// Finds out whether the engine answers and the store can be written, until both are so.
pub(crate) async fn become_ready(app: Arc<App>, stop: CancellationToken) {
    let mut told = None;
    loop {
        let (engine, store) = tokio::join!(app.workers.probe(), app.store.probe_write());
        match (engine, store) {
            (Ok(()), Ok(())) => {
                app.health.ready();
                return;
            }
            (engine, store) => {
                let engine = engine.err().map(|failure| failure.to_string());
                let store = store.err().map(|error| crate::bundles::chain(&error));
                // The same trouble every second is no news.
                let trouble = Some((engine, store));
                if told != trouble
                    && let Some((engine, store)) = &trouble
                {
                    tracing::error!(engine, store, "not ready");
                }
                told = trouble;
            }
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(RETRY))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Alive, ready, and how much was done.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "server",
    security(()),
    responses((status = 200, description = "The report, or `OK` for `Accept: text/plain`", body = Report)),
))]
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    _: Unguarded,
    headers: HeaderMap,
) -> impl IntoResponse {
    if wants_text(&headers) {
        return "OK".into_response();
    }
    let Totals { succeeded, failed } = app.journal.totals();
    Json(Report {
        status: "ok",
        uptime: app.health.uptime(),
        total_invocations: succeeded + failed,
        successful_invocations: succeeded,
        failed_invocations: failed,
        ready: app.health.is_ready(),
    })
    .into_response()
}

/// Whether a checker reads no JSON.
pub(crate) fn wants_text(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.trim_start().starts_with("text/plain"))
}

/// Whether the process answers.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/health/live",
    operation_id = "live",
    tag = "server",
    security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
))]
pub(crate) async fn live(_: Unguarded) -> &'static str {
    "OK"
}

/// Whether work should come.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct Ready {
    ready: bool,
}

/// Whether work may come.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "ready",
    tag = "server",
    security(()),
    responses((status = 200, description = "It may: the engine answered a probe and the store took a write", body = Ready), (status = 503, description = "Not yet, or not any more", body = Ready)),
))]
pub(crate) async fn ready(State(app): State<Arc<App>>, _: Unguarded) -> impl IntoResponse {
    let ready = app.health.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready }))
}
