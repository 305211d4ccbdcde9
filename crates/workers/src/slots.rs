//! Free slots of a pool: a lock-free stack, last used first, and the gate that each worker stands behind.
//! Atomics only: no processes, no messages, no clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// End of the list.
const NONE: u32 = u32::MAX;

/// A stack of slot numbers below a fixed capacity; each number is in it at most once.
pub struct FreeSlots {
    /// High half: a tag that changes with each push and pop (against ABA); low half: the top slot, or [`NONE`].
    head: AtomicU64,
    /// For a slot in the stack: the one below it.
    below: Box<[AtomicU32]>,
}

impl FreeSlots {
    /// An empty stack for the slots `0..capacity`.
    pub fn new(capacity: u32) -> FreeSlots {
        let below = (0..capacity).map(|_| AtomicU32::new(NONE)).collect();
        FreeSlots {
            head: AtomicU64::new(u64::from(NONE)),
            below,
        }
    }

    /// Puts a slot on top. The caller holds the slot, so nobody else pushes it.
    pub fn push(&self, slot: u32) {
        let mut head = self.head.load(SeqCst);
        loop {
            self.below[slot as usize].store(head as u32, SeqCst);
            let next = tagged(head, slot);
            match self.head.compare_exchange_weak(head, next, SeqCst, SeqCst) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    /// Takes the top slot.
    pub fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(SeqCst);
        loop {
            let top = head as u32;
            if top == NONE {
                return None;
            }
            let next = tagged(head, self.below[top as usize].load(SeqCst));
            match self.head.compare_exchange_weak(head, next, SeqCst, SeqCst) {
                Ok(_) => return Some(top),
                Err(seen) => head = seen,
            }
        }
    }
}

/// The next head: a fresh tag over `top`.
fn tagged(head: u64, top: u32) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | u64::from(top)
}

/// Whether a worker takes invocations, and how many it has: one word, so that closing and entering never overlap.
pub struct Gate(AtomicU32);

/// Set when the worker takes no more.
const CLOSED: u32 = 1 << 31;

impl Gate {
    /// An open gate with nothing in flight.
    pub const fn open() -> Gate {
        Gate(AtomicU32::new(0))
    }

    /// Enters, unless the gate is closed.
    pub fn enter(&self) -> bool {
        self.0
            .fetch_update(SeqCst, SeqCst, |word| {
                (word & CLOSED == 0).then_some(word + 1)
            })
            .is_ok()
    }

    /// Leaves, and tells whether that was the last one behind a closed gate.
    pub fn leave(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) == CLOSED | 1
    }

    /// Takes no more from now on; tells how many are still inside.
    pub fn close(&self) -> u32 {
        self.0.fetch_or(CLOSED, SeqCst) & !CLOSED
    }

    /// Closes only if nobody is inside; tells whether it did.
    pub fn close_if_empty(&self) -> bool {
        self.0.compare_exchange(0, CLOSED, SeqCst, SeqCst).is_ok()
    }

    /// Whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.0.load(SeqCst) & CLOSED != 0
    }

    /// How many are inside.
    pub fn inside(&self) -> u32 {
        self.0.load(SeqCst) & !CLOSED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, thread};

    #[test]
    fn the_last_used_slot_comes_first() {
        let free = FreeSlots::new(3);
        free.push(0);
        free.push(2);
        assert_eq!(
            (free.pop(), free.pop(), free.pop()),
            (Some(2), Some(0), None)
        );
    }

    #[test]
    fn a_slot_is_held_by_one_at_a_time_under_contention() {
        let free = FreeSlots::new(4);
        let held: Vec<AtomicU32> = (0..4).map(|_| AtomicU32::new(0)).collect();
        (0..4).for_each(|slot| free.push(slot));
        let work = || {
            for _ in 0..50_000 {
                if let Some(slot) = free.pop() {
                    assert_eq!(held[slot as usize].fetch_add(1, SeqCst), 0);
                    held[slot as usize].fetch_sub(1, SeqCst);
                    free.push(slot);
                }
            }
        };
        thread::scope(|scope| {
            (0..4).for_each(|_| {
                scope.spawn(work);
            });
        });
        let left: HashSet<u32> = std::iter::from_fn(|| free.pop()).collect();
        assert_eq!(left.len(), 4);
    }

    #[test]
    fn nobody_enters_a_closed_gate_and_the_last_one_out_knows() {
        let gate = Gate::open();
        assert!(gate.enter() && gate.enter());
        assert_eq!(gate.close(), 2);
        assert!(!gate.enter());
        assert!(!gate.leave());
        assert!(gate.leave());
        assert!(!Gate::open().leave_after_enter());
    }

    impl Gate {
        fn leave_after_enter(&self) -> bool {
            self.enter();
            self.leave()
        }
    }
}
