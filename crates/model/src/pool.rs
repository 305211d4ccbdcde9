//! What a pool decides, as a function of values: start, reuse, wait or refuse; and what a worker may become.

use crate::{
    invocation::words,
    limits::Limits,
    units::{ByteSize, TimeSpan},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

words! {
    /// The life of one worker.
    WorkerState {
        /// The process is being started, or its module loads.
        Starting = "starting",
        /// Ready, and never used.
        Warm = "warm",
        /// At least one invocation is in flight.
        Busy = "busy",
        /// Ready, used before, nothing in flight.
        Idle = "idle",
        /// Takes no more; ends when what is in flight has ended.
        Retiring = "retiring",
        /// The process is gone and reaped.
        Terminated = "terminated",
    }
}

impl WorkerState {
    /// Whether the life of a worker may go from `self` to `next`.
    pub const fn may_become(self, next: WorkerState) -> bool {
        use WorkerState::{Busy, Idle, Retiring, Starting, Terminated, Warm};
        matches!(
            (self, next),
            (Starting, Warm | Retiring | Terminated)
                | (Warm | Idle, Busy | Retiring | Terminated)
                | (Busy, Idle | Retiring | Terminated)
                | (Retiring, Terminated)
        )
    }
}

/// What a pool knows when an invocation finds no free slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolView {
    /// Slots that are free right now.
    pub free: u32,
    /// Workers that are starting.
    pub starting: u32,
    /// Workers that exist and are not starting; retiring ones count until they are gone.
    pub alive: u32,
    /// Invocations already waiting.
    pub waiting: u32,
    /// Most workers, `workers.max`.
    pub max: u32,
    /// Invocations at once in one worker.
    pub concurrency: u32,
    /// Most invocations waiting beyond those that starting workers will take, `queue.depth`.
    pub depth: u32,
    /// No more work is taken.
    pub closed: bool,
}

/// What to do with an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take a free slot.
    Reuse,
    /// Start a worker, and wait for it or for whatever is free first.
    Start,
    /// Wait in line.
    Wait,
    /// Turn away.
    Refuse(Reason),
}

/// Why an arrival is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// As many wait as may.
    QueueFull,
    /// The pool takes no more.
    Closed,
}

/// Decides about one arrival. Those that wait are served in the order of their arrival.
pub fn next_step(pool: &PoolView) -> Step {
    if pool.closed {
        return Step::Refuse(Reason::Closed);
    }
    if pool.free > pool.waiting {
        return Step::Reuse;
    }
    let coming = pool.free + pool.starting * pool.concurrency;
    if pool.waiting < coming {
        return Step::Wait;
    }
    if pool.alive + pool.starting < pool.max {
        return Step::Start;
    }
    if pool.waiting - coming < pool.depth {
        return Step::Wait;
    }
    Step::Refuse(Reason::QueueFull)
}

/// What a worker has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wear {
    /// Since it was ready.
    pub age: TimeSpan,
    /// Invocations that it has run.
    pub invocations: u64,
    /// Anonymous memory that it held when it was last looked at.
    pub memory: ByteSize,
    /// The most that it may hold.
    pub memory_max: ByteSize,
}

/// Whether a worker is to make room for a fresh one: runtimes and modules leak, slowly.
/// What it holds counts only once it has run something: before, it is what its module needs.
pub fn is_worn(wear: &Wear, limits: &Limits) -> bool {
    let holds = wear.memory.0.saturating_mul(100);
    let may_hold = wear
        .memory_max
        .0
        .saturating_mul(limits.worker_memory.into());
    wear.age >= limits.worker_age
        || wear.invocations >= limits.worker_invocations
        || (wear.invocations > 0 && holds >= may_hold)
}

/// The patience of an arrival while the queue is under stress.
pub const STRESSED_WAIT: TimeSpan = TimeSpan(200);

/// How long an arrival may wait, where the queue has not been empty for `crowded_for`: `wait`, until the queue has
/// been filled for longer than that. Then it does not catch up, and who comes now is better told soon.
pub fn patience(wait: TimeSpan, crowded_for: TimeSpan) -> TimeSpan {
    if crowded_for > wait {
        wait.min(STRESSED_WAIT)
    } else {
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_wears_out_by_age_by_invocations_and_by_memory() {
        let limits = Limits::default();
        let fresh = Wear {
            age: TimeSpan::seconds(1),
            invocations: 1,
            memory: ByteSize::mebibytes(10),
            memory_max: ByteSize::mebibytes(100),
        };
        let table = [
            (fresh, false),
            (
                Wear {
                    age: limits.worker_age,
                    ..fresh
                },
                true,
            ),
            (
                Wear {
                    invocations: limits.worker_invocations,
                    ..fresh
                },
                true,
            ),
            (
                Wear {
                    memory: ByteSize::mebibytes(79),
                    ..fresh
                },
                false,
            ),
            (
                Wear {
                    memory: ByteSize::mebibytes(80),
                    ..fresh
                },
                true,
            ),
            (
                Wear {
                    memory: ByteSize::mebibytes(99),
                    invocations: 0,
                    ..fresh
                },
                false,
            ),
        ];
        for (wear, expected) in table {
            assert_eq!(is_worn(&wear, &limits), expected, "{wear:?}");
        }
    }

    #[test]
    fn an_arrival_reuses_before_it_starts_and_starts_before_it_waits() {
        let pool = PoolView {
            max: 2,
            concurrency: 1,
            depth: 1,
            ..PoolView::default()
        };
        let table = [
            (
                PoolView {
                    free: 1,
                    alive: 1,
                    ..pool
                },
                Step::Reuse,
            ),
            (PoolView { ..pool }, Step::Start),
            (
                PoolView {
                    starting: 1,
                    ..pool
                },
                Step::Wait,
            ),
            (
                PoolView {
                    starting: 1,
                    waiting: 1,
                    ..pool
                },
                Step::Start,
            ),
            (PoolView { alive: 2, ..pool }, Step::Wait),
            (
                PoolView {
                    alive: 2,
                    waiting: 1,
                    ..pool
                },
                Step::Refuse(Reason::QueueFull),
            ),
            (
                PoolView {
                    alive: 1,
                    starting: 1,
                    waiting: 2,
                    ..pool
                },
                Step::Refuse(Reason::QueueFull),
            ),
            (
                PoolView {
                    free: 1,
                    alive: 1,
                    closed: true,
                    ..pool
                },
                Step::Refuse(Reason::Closed),
            ),
        ];
        for (view, step) in table {
            assert_eq!(next_step(&view), step, "{view:?}");
        }
    }

    #[test]
    fn a_queue_of_depth_zero_still_waits_for_the_worker_it_starts() {
        let pool = PoolView {
            max: 1,
            concurrency: 1,
            ..PoolView::default()
        };
        assert_eq!(next_step(&pool), Step::Start);
        assert_eq!(
            next_step(&PoolView { alive: 1, ..pool }),
            Step::Refuse(Reason::QueueFull)
        );
    }

    #[test]
    fn patience_ends_with_the_queue_s_own() {
        let ten = TimeSpan::seconds(10);
        let table = [
            (ten, TimeSpan(0), ten),
            (ten, ten, ten),
            (ten, TimeSpan(10_001), STRESSED_WAIT),
            (TimeSpan(50), TimeSpan(51), TimeSpan(50)),
            (TimeSpan(0), TimeSpan(1), TimeSpan(0)),
        ];
        for (wait, crowded_for, patience) in table {
            assert_eq!(
                super::patience(wait, crowded_for),
                patience,
                "{wait} {crowded_for}"
            );
        }
    }

    #[test]
    fn nothing_comes_back_from_retiring() {
        for state in WorkerState::ALL {
            let allowed = WorkerState::Retiring.may_become(*state);
            assert_eq!(allowed, *state == WorkerState::Terminated);
            assert!(!WorkerState::Terminated.may_become(*state));
        }
    }
}
