//! Which queued event is run next, and what its end means for it. Told the time and what there is room for; does nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use model::{ErrorType, FunctionId, InvocationId, TimeSpan, Timestamp};

/// An event is tried again so often after it failed.
pub(super) const RETRIES: u32 = 2;

/// What could not be tried comes again after this, after twice that, and so on.
const FIRST_DELAY: i64 = 1_000;

/// … but never later than this.
const LONGEST_DELAY: i64 = 300_000;

/// A queued event, without what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slip {
    pub id: InvocationId,
    pub function: FunctionId,
    pub accepted_at: Timestamp,
    /// Attempts that failed.
    pub failed: u32,
    /// How often in a row it could not be tried.
    pub deferred: u32,
}

/// All queued events, by function.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    lanes: BTreeMap<FunctionId, Lane>,
    size: u32,
    running: u32,
}

/// The events of one function.
#[derive(Debug, Default)]
struct Lane {
    /// Those that wait, by when they are due.
    waiting: BTreeMap<(Timestamp, InvocationId), Slip>,
    running: u32,
    /// When each of them was accepted, those that run among them.
    accepted: BTreeSet<(Timestamp, InvocationId)>,
}

/// What can be seen of one function's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub function: FunctionId,
    /// How many there are.
    pub depth: usize,
    /// When the oldest was accepted.
    pub oldest: Timestamp,
}

/// What becomes of an event whose attempt ended badly.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The attempt counts, and there is another one at this time.
    Retry(Timestamp),
    /// It was no attempt; the next is not before this time.
    Defer(Timestamp),
    /// There is none.
    GiveUp,
}

impl Agenda {
    /// How many events there are, those that run among them.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// An event waits.
    pub(super) fn add(&mut self, slip: Slip, due: Timestamp) {
        let lane = self.lanes.entry(slip.function.clone()).or_default();
        lane.accepted.insert((slip.accepted_at, slip.id));
        lane.waiting.insert((due, slip.id), slip);
        self.size += 1;
    }

    /// The events that are due and may run now, longest due first; they run until they are told to be done or to wait.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        most: u32,
        room: impl Fn(&FunctionId) -> u32,
    ) -> Vec<Slip> {
        let mut taken = Vec::new();
        while self.running < most {
            let lanes = self.lanes.iter_mut();
            let ready = lanes.filter_map(|(function, lane)| {
                let (due, _) = lane.waiting.first_key_value()?;
                (due.0 <= now && lane.running < room(function)).then_some((*due, lane))
            });
            let Some((due, lane)) = ready.min_by_key(|(due, _)| *due) else {
                break;
            };
            let Some(slip) = lane.waiting.remove(&due) else {
                break;
            };
            lane.running += 1;
            self.running += 1;
            taken.push(slip);
        }
        taken
    }

    /// When the next event becomes due that is not due now.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let firsts = self.lanes.values().filter_map(|lane| {
            let (due, _) = lane.waiting.first_key_value()?;
            (due.0 > now).then_some(due.0)
        });
        firsts.min()
    }

    /// An event that ran waits again.
    pub(super) fn again(&mut self, slip: Slip, due: Timestamp) {
        if let Some(lane) = self.lanes.get_mut(&slip.function) {
            lane.running = lane.running.saturating_sub(1);
            lane.waiting.insert((due, slip.id), slip);
            self.running = self.running.saturating_sub(1);
        }
    }

    /// An event that ran is done.
    pub(super) fn done(&mut self, slip: &Slip) {
        let Some(lane) = self.lanes.get_mut(&slip.function) else {
            return;
        };
        lane.running = lane.running.saturating_sub(1);
        lane.accepted.remove(&(slip.accepted_at, slip.id));
        self.running = self.running.saturating_sub(1);
        self.size = self.size.saturating_sub(1);
        if lane.accepted.is_empty() {
            self.lanes.remove(&slip.function);
        }
    }

    /// Nothing of a function waits any more; what runs comes to its own end.
    pub(super) fn forget(&mut self, function: &FunctionId) {
        let Some(lane) = self.lanes.get_mut(function) else {
            return;
        };
        for (_, slip) in std::mem::take(&mut lane.waiting) {
            lane.accepted.remove(&(slip.accepted_at, slip.id));
            self.size = self.size.saturating_sub(1);
        }
        if lane.accepted.is_empty() {
            self.lanes.remove(function);
        }
    }

    /// What there is of each function.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let lanes = self.lanes.iter();
        let seen = lanes.filter_map(|(function, lane)| {
            Some(Seen {
                function: function.clone(),
                depth: lane.accepted.len(),
                oldest: lane.accepted.first()?.0,
            })
        });
        seen.collect()
    }
}

impl Slip {
    /// What becomes of it after an attempt that ended so.
    pub(super) fn fate(
        &self,
        why: ErrorType,
        now: Timestamp,
        retry: TimeSpan,
        age: TimeSpan,
    ) -> Fate {
        let later = |millis: i64| Timestamp(now.0.saturating_add(millis));
        let span = |span: TimeSpan| i64::try_from(span.0).unwrap_or(i64::MAX);
        let is_attempt = why.is_of_function();
        if is_attempt && self.failed >= RETRIES {
            return Fate::GiveUp;
        }
        let next = if is_attempt {
            later(span(retry).saturating_mul(1 << self.failed))
        } else {
            let delay = FIRST_DELAY.saturating_mul(1 << self.deferred.min(20));
            later(delay.min(LONGEST_DELAY))
        };
        if next.0.saturating_sub(self.accepted_at.0) > span(age) {
            return Fate::GiveUp;
        }
        match is_attempt {
            true => Fate::Retry(next),
            false => Fate::Defer(next),
        }
    }
}

#[cfg(test)]
mod tests;
