//! The invocations that a worker held until lately: what it writes about one of them belongs there.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use model::InvocationId;

/// Most that are remembered: timers of a handler may log long after its answer, but not for ever.
const MOST: usize = 256;

/// A ring of the last ones. Who looks while a place is written may see half of each id; nobody has such a one.
pub struct Past {
    places: Box<[(AtomicU64, AtomicU64)]>,
    /// How many there were.
    count: AtomicUsize,
}

impl Default for Past {
    fn default() -> Past {
        Past {
            places: (0..MOST).map(|_| Default::default()).collect(),
            count: 0.into(),
        }
    }
}

impl Past {
    /// This one has ended.
    pub fn add(&self, id: InvocationId) {
        let (high, low) = id.to_words();
        let place = &self.places[self.count.fetch_add(1, SeqCst) % MOST];
        place.0.store(high, SeqCst);
        place.1.store(low, SeqCst);
    }

    /// The one that ended last, if any did.
    pub fn last(&self) -> Option<InvocationId> {
        let newest = self.count.load(SeqCst).checked_sub(1)?;
        read(&self.places[newest % MOST])
    }

    /// Whether this is one of them.
    pub fn holds(&self, id: InvocationId) -> bool {
        self.places.iter().any(|place| read(place) == Some(id))
    }
}

fn read(place: &(AtomicU64, AtomicU64)) -> Option<InvocationId> {
    InvocationId::from_words(place.0.load(SeqCst), place.1.load(SeqCst))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_lately_is_known_and_what_ended_long_ago_is_not() {
        let id = |n: u64| InvocationId::from_words(1, n + 1).unwrap();
        let past = Past::default();
        assert_eq!(past.last(), None);
        for n in 0..MOST as u64 + 1 {
            past.add(id(n));
            assert_eq!(past.last(), Some(id(n)));
        }
        assert!(!past.holds(id(0)) && past.holds(id(1)) && !past.holds(id(1000)));
    }
}
