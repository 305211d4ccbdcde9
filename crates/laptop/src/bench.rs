//! Asks a function again and again, from several clients at once, and counts how long it took and how it ended.
//! Prints nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use model::{FunctionId, Outcome};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiError, Client, WebRequest};

/// What is sent each time.
#[derive(Debug, Clone)]
pub enum Shot {
    /// A web request through the gateway.
    Web(WebRequest),
    /// An event, as `invoke` sends it.
    Event(FunctionId, Bytes),
}

/// When it is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this long; what is under way is waited for.
    After(Duration),
    /// After so many.
    Sent(u64),
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is sent each time.
    pub shot: Shot,
    /// How many ask at once; each waits for its answer before it asks again.
    pub clients: u32,
    /// When it is enough.
    pub until: Until,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Microseconds from sending to the last byte, of what succeeded.
    latencies: Histogram<u64>,
    /// How many failed, by the error's type.
    pub errors: BTreeMap<String, u64>,
    /// From the first to the last.
    pub took: Duration,
}

/// One bar of the histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// The shortest latency that counts here, in microseconds.
    pub from_us: u64,
    /// The longest one.
    pub to_us: u64,
    /// How many there were.
    pub count: u64,
}

/// The longest latency that is told apart from longer ones: an hour, longer than any invocation may take.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Two digits more than a person reads.
const DIGITS: u8 = 3;

/// Rows of a histogram that fit a small terminal.
const BARS: u32 = 14;

impl Tally {
    fn new() -> Tally {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS)
            .expect("three digits between a microsecond and an hour are allowed");
        Tally {
            latencies,
            errors: BTreeMap::new(),
            took: Duration::ZERO,
        }
    }

    /// How many succeeded.
    pub fn succeeded(&self) -> u64 {
        self.latencies.len()
    }

    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Successes in a second.
    pub fn rate(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 {
            self.succeeded() as f64 / seconds
        } else {
            0.0
        }
    }

    /// The latency that so many percent of the successes did not exceed, in microseconds.
    pub fn percentile_us(&self, percent: f64) -> u64 {
        self.latencies.value_at_percentile(percent)
    }

    /// The mean latency, in microseconds.
    pub fn mean_us(&self) -> u64 {
        self.latencies.mean() as u64
    }

    /// The shortest and the longest latency, in microseconds.
    pub fn range_us(&self) -> (u64, u64) {
        (self.latencies.min(), self.latencies.max())
    }

    /// The latencies in bars, each of which is wider than the one before by the same factor.
    pub fn bars(&self) -> Vec<Bar> {
        let (min, max) = self.range_us();
        if self.succeeded() == 0 {
            return Vec::new();
        }
        let min = min.max(1);
        let factor = (max as f64 / min as f64)
            .powf(1.0 / f64::from(BARS))
            .max(1.01);
        let mut bars = Vec::new();
        let (mut from_us, mut edge) = (min, min as f64);
        while from_us <= max {
            edge *= factor;
            let to_us = (edge as u64).clamp(from_us, max.max(from_us));
            let is_last = bars.len() as u32 + 1 == BARS;
            let to_us = if is_last { max } else { to_us };
            let below = |value: u64| self.latencies.count_between(0, value);
            let before = if from_us == min {
                0
            } else {
                below(from_us - 1)
            };
            let count = below(to_us) - before;
            bars.push(Bar {
                from_us,
                to_us,
                count,
            });
            from_us = to_us + 1;
        }
        bars
    }

    fn add(&mut self, other: &Tally) {
        self.latencies += &other.latencies;
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
    }
}

/// Runs the plan, or as much of it as there is time for before `stop`.
pub async fn run(client: &Client, plan: Plan, stop: CancellationToken) -> Tally {
    let plan = Arc::new(plan);
    let sent = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..plan.clients {
        let (client, plan, sent) = (client.clone(), plan.clone(), sent.clone());
        let stop = stop.clone();
        clients.spawn(async move { ask_on(&client, &plan, &sent, started, &stop).await });
    }
    let mut all = Tally::new();
    for tally in clients.join_all().await {
        all.add(&tally);
    }
    all.took = started.elapsed();
    all
}

/// One client, until it is enough.
async fn ask_on(
    client: &Client,
    plan: &Plan,
    sent: &AtomicU64,
    started: Instant,
    stop: &CancellationToken,
) -> Tally {
    let mut tally = Tally::new();
    loop {
        let is_enough = match plan.until {
            Until::After(span) => started.elapsed() >= span,
            Until::Sent(most) => sent.fetch_add(1, Relaxed) >= most,
        };
        if is_enough {
            return tally;
        }
        let asked = Instant::now();
        let answered = tokio::select! {
            answered = fire(client, &plan.shot) => answered,
            () = stop.cancelled() => return tally,
        };
        match answered {
            Ok(()) => {
                let took = u64::try_from(asked.elapsed().as_micros()).unwrap_or(LATENCY_MAX_US);
                tally.latencies.saturating_record(took.max(1));
            }
            Err(name) => *tally.errors.entry(name).or_default() += 1,
        }
    }
}

/// Sends one, and waits for the last byte. What failed is named by its type.
async fn fire(client: &Client, shot: &Shot) -> Result<(), String> {
    match shot {
        Shot::Event(function, event) => {
            let invoked = client.invoke(function, None, event.clone()).await;
            match invoked.map_err(|error| name_of(&error))?.outcome {
                Outcome::Ok => Ok(()),
                Outcome::Failed(error_type) => Err(error_type.to_string()),
            }
        }
        Shot::Web(request) => {
            let answer = client.web(request.clone()).await;
            let mut answer = answer.map_err(|error| name_of(&error))?;
            let status = answer.status();
            if status < 400 {
                while answer
                    .chunk()
                    .await
                    .map_err(|error| name_of(&error))?
                    .is_some()
                {}
                return Ok(());
            }
            match answer.failure().await.map_err(|error| name_of(&error))? {
                Ok(error) => Err(error.error_type),
                Err(_) => Err(format!("status {status}")),
            }
        }
    }
}

fn name_of(error: &ApiError) -> String {
    match error {
        ApiError::Answered { error, .. } => error.error_type.clone(),
        ApiError::Unreachable { .. } | ApiError::NoSocket { .. } | ApiError::Setup { .. } => {
            "unreachable".into()
        }
        ApiError::Silent { .. } => "no answer".into(),
        ApiError::Broken { .. } => "connection broke".into(),
        ApiError::Unreadable { .. } => "unreadable answer".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_stands_in_one_bar() {
        let mut tally = Tally::new();
        assert!(tally.bars().is_empty());
        for us in [1, 2, 3, 250, 251, 999, 40_000, 40_001, 2_000_000] {
            tally.latencies.saturating_record(us);
        }
        let bars = tally.bars();
        assert!(bars.len() <= BARS as usize, "{bars:?}");
        let counted: u64 = bars.iter().map(|bar| bar.count).sum();
        assert_eq!(counted, 9, "{bars:?}");
        for pair in bars.windows(2) {
            assert_eq!(pair[0].to_us + 1, pair[1].from_us);
        }
    }

    #[test]
    fn equal_latencies_are_one_bar() {
        let mut tally = Tally::new();
        for _ in 0..5 {
            tally.latencies.saturating_record(700);
        }
        let counts: Vec<u64> = tally.bars().iter().map(|bar| bar.count).collect();
        assert_eq!(counts, [5]);
    }
}
