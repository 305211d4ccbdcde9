//! What is counted, for Prometheus; docs/metrics.md describes each family.
//! A function's counters are found once, when it is served: counting looks nothing up and takes no lock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use model::{ErrorType, FunctionId, Outcome};
use prometheus::core::Metric;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use workers::{Counts, Kept};

use crate::{app::App, journal::Invocation};

/// Upper bounds of the latencies, in seconds: from a warm isolate to the longest timeout.
const BUCKETS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0, 900.0,
];

/// The labels of everything about one function.
const FUNCTION: [&str; 2] = ["project", "function"];

/// All families of metrics.
pub(crate) struct Metrics {
    registry: Registry,
    invocations: IntCounterVec,
    seconds: HistogramVec,
    cold_starts: IntCounterVec,
    offers: IntCounterVec,
    functions: Mutex<HashMap<FunctionId, Arc<FunctionMetrics>>>,
    /// What is looked at, and not counted, when somebody asks; one at a time.
    seen: Mutex<Seen>,
}

/// Families whose values are looked up when somebody asks.
struct Seen {
    queue: IntGaugeVec,
    workers: IntGaugeVec,
    kept: IntGaugeVec,
    kept_starts: IntCounterVec,
    queued: IntGaugeVec,
    oldest_queued: IntGaugeVec,
    connections: IntGauge,
    claims: IntGauge,
    codes: IntGauge,
    code_bytes: IntGauge,
    is_ready: IntGauge,
}

/// One function's counters.
pub(crate) struct FunctionMetrics {
    ok: IntCounter,
    /// By the number of the error's type; made when one happens first.
    failed: Vec<OnceLock<IntCounter>>,
    invocations: IntCounterVec,
    id: FunctionId,
    queue: Histogram,
    start: Histogram,
    handler: Histogram,
    cold_starts: IntCounter,
    /// Offers that a developer accepted, and those left to the deployed code.
    offers: [IntCounter; 2],
}

/// An invocation that reached a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    /// The worker was started for it.
    pub is_cold: bool,
    pub waited_us: u64,
    pub ran_us: u64,
}

impl Metrics {
    /// The content type of what [`Metrics::render`] gives.
    pub(crate) const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;

    pub(crate) fn new() -> Metrics {
        let families = Families(Registry::new());
        let by_function = |more: &[&'static str]| [&FUNCTION[..], more].concat();
        let version = families.gauges(
            "bungee_build_info",
            "Always 1; the label says which version of Bungee runs.",
            &["version"],
        );
        version
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        Metrics {
            invocations: families.counters(
                "bungee_invocations_total",
                "Invocations that ended, by how: ok or the type of the error.",
                &by_function(&["outcome"]),
            ),
            seconds: families.histograms(
                "bungee_invocation_duration_seconds",
                "Time of invocations that reached a worker, by leg: queue or start before it, handler in it.",
                &by_function(&["leg"]),
            ),
            cold_starts: families.counters(
                "bungee_cold_starts_total",
                "Invocations for which a worker was started.",
                &FUNCTION,
            ),
            offers: families.counters(
                "bungee_live_offers_total",
                "Invocations offered to developers, by the result: accepted, or free to run deployed.",
                &by_function(&["result"]),
            ),
            functions: Mutex::default(),
            seen: Mutex::new(Seen::new(&families)),
            registry: families.0,
        }
    }

    /// A function's counters, the same for all its versions.
    pub(crate) fn function(&self, id: &FunctionId) -> Arc<FunctionMetrics> {
        let functions = self.functions.lock();
        let mut functions = functions.unwrap_or_else(PoisonError::into_inner);
        let known = functions.entry(id.clone());
        known.or_insert_with(|| Arc::new(self.fresh(id))).clone()
    }

    fn fresh(&self, id: &FunctionId) -> FunctionMetrics {
        let (project, name) = (id.project.as_str(), id.name.as_str());
        let leg = |leg| self.seconds.with_label_values(&[project, name, leg]);
        FunctionMetrics {
            ok: self
                .invocations
                .with_label_values(&[project, name, Outcome::Ok.as_str()]),
            failed: ErrorType::ALL.iter().map(|_| OnceLock::new()).collect(),
            invocations: self.invocations.clone(),
            id: id.clone(),
            queue: leg("queue"),
            start: leg("start"),
            handler: leg("handler"),
            cold_starts: self.cold_starts.with_label_values(&[project, name]),
            offers: ["accepted", "free"]
                .map(|result| self.offers.with_label_values(&[project, name, result])),
        }
    }

    /// Everything as text.
    pub(crate) fn render(&self, app: &App) -> Vec<u8> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look(app);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be written");
        }
        text
    }
}

impl Seen {
    fn new(families: &Families) -> Seen {
        Seen {
            queue: families.gauges(
                "bungee_queue_depth",
                "Invocations that wait for a worker now.",
                &FUNCTION,
            ),
            workers: families.gauges(
                "bungee_workers",
                "Workers of the versions that are served now, by what they do.",
                &[&FUNCTION[..], &["state"]].concat(),
            ),
            kept: families.gauges(
                "bungee_kept_processes",
                "Processes kept ready for the next start now: blank isolate children, spare workers.",
                &["kind"],
            ),
            kept_starts: families.counters(
                "bungee_kept_process_starts_total",
                "Starts of workers, by whether a process was kept ready for them: hit or miss.",
                &["kind", "result"],
            ),
            queued: families.gauges(
                "bungee_async_depth",
                "Queued events now, those that run among them.",
                &FUNCTION,
            ),
            oldest_queued: families.gauges(
                "bungee_async_oldest_seconds",
                "Age of the oldest queued event.",
                &FUNCTION,
            ),
            connections: families.gauge(
                "bungee_connections",
                "Client connections that are open now.",
            ),
            claims: families.gauge(
                "bungee_live_claims",
                "Claims that developers hold now.",
            ),
            codes: families.gauge(
                "bungee_code_cache_entries",
                "Functions whose source code is kept in memory now.",
            ),
            code_bytes: families.gauge(
                "bungee_code_cache_bytes",
                "Bytes of source code that are kept in memory now.",
            ),
            is_ready: families.gauge(
                "bungee_ready",
                "Whether the server takes work: 1 or 0.",
            ),
        }
    }

    fn look(&self, app: &App) {
        self.queue.reset();
        self.workers.reset();
        for serving in app.registry.table().served() {
            let id = &serving.function;
            let (project, name) = (id.project.as_str(), id.name.as_str());
            let Counts {
                starting,
                warm,
                busy,
                idle,
                retiring,
                waiting,
            } = serving.counts();
            let queue = self.queue.with_label_values(&[project, name]);
            queue.set(waiting.into());
            for (state, count) in [
                ("starting", starting),
                ("warm", warm),
                ("busy", busy),
                ("idle", idle),
                ("retiring", retiring),
            ] {
                let workers = self.workers.with_label_values(&[project, name, state]);
                workers.set(count.into());
            }
        }
        self.kept_starts.reset();
        for (kind, kept) in [
            ("blank", app.workers.blanks()),
            ("spare", app.workers.spares()),
        ] {
            let Kept {
                ready,
                hits,
                misses,
            } = kept;
            let gauge = self.kept.with_label_values(&[kind]);
            gauge.set(i64::try_from(ready).unwrap_or(i64::MAX));
            for (result, count) in [("hit", hits), ("miss", misses)] {
                let starts = self.kept_starts.with_label_values(&[kind, result]);
                starts.inc_by(count);
            }
        }
        self.look_at_queue(app);
        let open = i64::try_from(app.lines.count()).unwrap_or(i64::MAX);
        self.connections.set(open);
        let claims = app.live.broker.claim_count();
        self.claims.set(i64::try_from(claims).unwrap_or(i64::MAX));
        let (codes, bytes) = app.deploys.codes.size();
        self.codes.set(i64::try_from(codes).unwrap_or(i64::MAX));
        self.code_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.is_ready.set(app.health.is_ready().into());
    }

    fn look_at_queue(&self, app: &App) {
        self.queued.reset();
        self.oldest_queued.reset();
        let now = Invocation::now(&app.journal);
        for seen in app.queue.seen() {
            let (project, name) = (seen.function.project.as_str(), seen.function.name.as_str());
            let depth = self.queued.with_label_values(&[project, name]);
            depth.set(i64::try_from(seen.depth).unwrap_or(i64::MAX));
            let oldest = self.oldest_queued.with_label_values(&[project, name]);
            oldest.set((now.0 - seen.oldest.0).max(0) / 1000);
        }
    }
}

/// What became of one function's invocations since the start.
pub(crate) struct Measured {
    /// How many, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    pub cold_starts: u64,
    /// Time in the worker.
    pub handler: Spread,
}

/// A histogram as it stands: upper bounds in seconds, each with how many lie at or below it, and how many there are.
pub(crate) struct Spread {
    bounds: Vec<(f64, u64)>,
    all: u64,
}

impl Spread {
    fn of(histogram: &Histogram) -> Spread {
        let seen = histogram.metric();
        let seen = seen.get_histogram();
        let bounds = seen.get_bucket().iter();
        Spread {
            bounds: bounds
                .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                .collect(),
            all: seen.get_sample_count(),
        }
    }

    /// The value below which this share of all lies, in seconds: estimated within its bucket as Prometheus does.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        if self.all == 0 {
            return None;
        }
        // Counts are far below what a float holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let float = |count: u64| count as f64;
        let rank = share * float(self.all);
        let (mut below, mut low) = (0, 0.0);
        for &(high, count) in &self.bounds {
            if float(count) >= rank && count > below {
                let part = (rank - float(below)) / float(count - below);
                return Some(low + (high - low) * part.clamp(0.0, 1.0));
            }
            (below, low) = (count, high);
        }
        Some(low)
    }
}

impl FunctionMetrics {
    /// What was counted until now.
    pub(crate) fn measured(&self) -> Measured {
        let failed = ErrorType::ALL.iter().zip(&self.failed);
        let failed = failed.filter_map(|(kind, count)| Some((kind.as_str(), count.get()?.get())));
        let mut outcomes = BTreeMap::from([(Outcome::Ok.as_str(), self.ok.get())]);
        outcomes.extend(failed);
        Measured {
            outcomes,
            cold_starts: self.cold_starts.get(),
            handler: Spread::of(&self.handler),
        }
    }

    /// An invocation was offered to a developer, who accepted it or left it to the deployed code.
    pub(crate) fn offered(&self, is_accepted: bool) {
        let [accepted, free] = &self.offers;
        if is_accepted {
            accepted.inc()
        } else {
            free.inc()
        }
    }

    /// An invocation ended; `reached` tells of those that a worker took.
    pub(crate) fn ended(&self, outcome: Outcome, reached: Option<Reached>) {
        match outcome {
            Outcome::Ok => self.ok.inc(),
            Outcome::Failed(error_type) => self.failed(error_type),
        }
        let Some(reached) = reached else {
            return;
        };
        let waited = if reached.is_cold {
            self.cold_starts.inc();
            &self.start
        } else {
            &self.queue
        };
        waited.observe(seconds(reached.waited_us));
        self.handler.observe(seconds(reached.ran_us));
    }

    fn failed(&self, error_type: ErrorType) {
        if let Some(place) = self.failed.get(error_type as usize) {
            let labels = [
                self.id.project.as_str(),
                self.id.name.as_str(),
                error_type.as_str(),
            ];
            place
                .get_or_init(|| self.invocations.with_label_values(&labels))
                .inc();
        }
    }
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

/// Makes families that are in the registry from the beginning.
struct Families(Registry);

impl Families {
    const VALID: &str = "names and labels are written above, each once";

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let family = IntCounterVec::new(Opts::new(name, help), labels).expect(Self::VALID);
        self.0
            .register(Box::new(family.clone()))
            .expect(Self::VALID);
        family
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let family = IntGaugeVec::new(Opts::new(name, help), labels).expect(Self::VALID);
        self.0
            .register(Box::new(family.clone()))
            .expect(Self::VALID);
        family
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let gauge = IntGauge::new(name, help).expect(Self::VALID);
        self.0.register(Box::new(gauge.clone())).expect(Self::VALID);
        gauge
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let family = HistogramVec::new(options, labels).expect(Self::VALID);
        self.0
            .register(Box::new(family.clone()))
            .expect(Self::VALID);
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let spread = |bounds: &[(f64, u64)], all| Spread {
            bounds: bounds.to_vec(),
            all,
        };
        assert_eq!(spread(&[(1.0, 0)], 0).quantile(0.5), None);
        let even = spread(&[(1.0, 10), (2.0, 10), (4.0, 20)], 20);
        assert_eq!(even.quantile(0.25), Some(0.5));
        assert_eq!(even.quantile(0.5), Some(1.0));
        assert_eq!(even.quantile(0.75), Some(3.0));
        let beyond = spread(&[(1.0, 0), (2.0, 1)], 10);
        assert_eq!(beyond.quantile(0.99), Some(2.0));
    }
}
