//! Counting what ended, and deciding what is recorded, without a lock and without the writer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use model::{Outcome, Timestamp, Trigger};

/// An invocation that took longer than this, in microseconds, is always recorded.
const SLOW_US: u64 = 1_000_000;

/// How much of what ended was recorded, over the time that records are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sampling {
    /// Invocations that have a record.
    pub recorded: u64,
    /// All invocations that ended.
    pub ended: u64,
    /// Records and log lines that came faster than they could be stored.
    pub lost: u64,
}

/// Counts and samples the invocations of one function. Clones share their counts.
#[derive(Debug, Clone)]
pub struct Sampler {
    counts: Arc<Counts>,
    per_second: u32,
}

/// What ended since the writer last looked.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ended: AtomicU64,
    /// The second in the upper half, what was granted in it in the lower.
    granted: AtomicU64,
}

impl Sampler {
    pub(crate) fn new(counts: Arc<Counts>, per_second: u32) -> Sampler {
        Sampler { counts, per_second }
    }

    /// Counts one ended invocation, and says whether it gets a record. To be asked exactly once for each.
    ///
    /// Failed and slow ones do, and those that nobody waited for; successful synchronous ones do
    /// `records_per_second` times in each second. `took_us` is all the time since the arrival.
    pub fn ended(&self, trigger: Trigger, outcome: Outcome, took_us: u64, now: Timestamp) -> bool {
        self.counts.ended.fetch_add(1, Relaxed);
        let sampled = match trigger {
            Trigger::Http | Trigger::Socket | Trigger::LambdaApi | Trigger::Cli => true,
            Trigger::Schedule | Trigger::Event | Trigger::Replay => false,
        };
        !sampled || outcome != Outcome::Ok || took_us > SLOW_US || self.grant(now)
    }

    /// One of this second's records, if any is left.
    fn grant(&self, now: Timestamp) -> bool {
        // Only told apart from the neighbouring seconds, so the lower half of the number will do.
        let second = u64::try_from(now.0 / 1000).unwrap_or(0) & 0xffff_ffff;
        let next = |state: u64| {
            let granted = if state >> 32 == second {
                state & 0xffff_ffff
            } else {
                0
            };
            (granted < u64::from(self.per_second)).then_some((second << 32) | (granted + 1))
        };
        self.counts
            .granted
            .try_update(Relaxed, Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use model::ErrorType;

    use super::*;

    const FAST: u64 = 100;

    #[test]
    fn each_second_grants_its_share() {
        let sampler = Sampler::new(Arc::default(), 2);
        let mut granted = Vec::new();
        for at in [0, 1, 999, 1000, 1001, 1002, 5000] {
            granted.push(sampler.ended(Trigger::Http, Outcome::Ok, FAST, Timestamp(at)));
        }
        assert_eq!(granted, [true, true, false, true, true, false, true]);
        assert_eq!(sampler.counts.ended.load(Relaxed), 7);
    }

    #[test]
    fn failed_slow_and_unattended_ones_are_always_recorded() {
        let sampler = Sampler::new(Arc::default(), 0);
        let ended = |trigger, outcome, took| sampler.ended(trigger, outcome, took, Timestamp(0));
        assert!(!ended(Trigger::Cli, Outcome::Ok, FAST));
        assert!(ended(
            Trigger::Cli,
            Outcome::Failed(ErrorType::HandlerError),
            FAST
        ));
        assert!(ended(Trigger::Cli, Outcome::Ok, SLOW_US + 1));
        assert!(ended(Trigger::Schedule, Outcome::Ok, FAST));
    }
}
