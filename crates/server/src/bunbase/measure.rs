//! What became of a function's invocations since the server started, and what its workers do now.

use std::collections::BTreeMap;

use model::{Failure, FunctionId};
use serde::Serialize;
use workers::Counts;

use crate::{app::App, deploys::store_failure, metrics::Measured, registry::State};

/// The figures of one function.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    function_id: String,
    status: &'static str,
    /// All that ended.
    total: u64,
    /// The same by how they ended: `ok`, or the type of the error.
    invocations: BTreeMap<&'static str, u64>,
    cold_starts: u64,
    /// Time in the worker of those that reached one, estimated from the histogram that `/metrics` shows.
    duration_ms: Quantiles,
    workers: Workers,
    /// Invocations that wait for a worker.
    waiting: u32,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

/// Workers by state.
#[derive(Debug, Serialize)]
struct Workers {
    starting: u32,
    warm: u32,
    busy: u32,
    idle: u32,
    retiring: u32,
}

/// Looks at one function.
pub(super) async fn figures(app: &App, id: &FunctionId) -> Result<Figures, Failure> {
    let function = app.store.function(id).await;
    let function = function.map_err(|error| store_failure(&error))?;
    let function =
        function.ok_or_else(|| store_failure(&store::StoreError::NoFunction(id.clone())))?;
    let table = app.registry.table();
    let counts = match table.state(id) {
        Some(State::Deployed(serving)) => serving.counts(),
        Some(State::NotDeployed | State::Disabled | State::Shut) | None => Counts::default(),
    };
    let Measured {
        outcomes,
        cold_starts,
        handler,
    } = app.metrics.function(id).measured();
    // To the microsecond: an estimate has no more.
    let in_ms = |share| {
        let seconds = handler.quantile(share);
        seconds.map(|seconds: f64| (seconds * 1e6).round() / 1e3)
    };
    Ok(Figures {
        function_id: id.name.to_string(),
        status: table.lifecycle(&function),
        total: outcomes.values().sum(),
        invocations: outcomes,
        cold_starts,
        duration_ms: Quantiles {
            p50: in_ms(0.5),
            p95: in_ms(0.95),
            p99: in_ms(0.99),
        },
        workers: Workers {
            starting: counts.starting,
            warm: counts.warm,
            busy: counts.busy,
            idle: counts.idle,
            retiring: counts.retiring,
        },
        waiting: counts.waiting,
    })
}
