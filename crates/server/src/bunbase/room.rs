//! What frames of all connections may take in memory together: large ones on their way in, and answers that nobody has
//! read yet. Each may take as much as the limit `frames_memory`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use model::Limits;
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// What is counted at once, in bytes: a semaphore counts no further than 32 bits.
const UNIT: u64 = 1 << 10;

/// The room of all connections.
pub(crate) struct Room {
    coming: Arc<Semaphore>,
    /// All of `coming`, in units.
    units: u32,
    /// Bytes of answers that wait to be written.
    unread: AtomicU64,
    /// Most of them.
    most: u64,
}

impl Room {
    pub(crate) fn new(limits: &Limits) -> Room {
        let most = limits.frames_memory.0;
        let units = u32::try_from(most.div_ceil(UNIT)).unwrap_or(u32::MAX >> 3);
        Room {
            coming: Arc::new(Semaphore::new(units as usize)),
            units,
            unread: AtomicU64::new(0),
            most,
        }
    }

    /// A place in the line of those who wait for room.
    pub(super) fn line(&self) -> PollSemaphore {
        PollSemaphore::new(self.coming.clone())
    }

    /// What a frame of so many bytes takes, in units: all there is, where it is larger than that.
    pub(super) fn units(&self, bytes: usize) -> u32 {
        let units = bytes as u64 / UNIT;
        u32::try_from(units).unwrap_or(u32::MAX).min(self.units)
    }

    /// Whether one more answer may wait.
    pub(super) fn has_place(&self) -> bool {
        self.unread.load(Ordering::Relaxed) < self.most
    }

    /// Counts an answer for as long as it waits.
    pub(super) fn keep(self: &Arc<Room>, frame: Vec<u8>) -> Unread {
        self.unread.fetch_add(frame.len() as u64, Ordering::Relaxed);
        Unread {
            frame,
            room: self.clone(),
        }
    }
}

/// An answer that waits to be written.
pub(super) struct Unread {
    pub(super) frame: Vec<u8>,
    room: Arc<Room>,
}

impl Drop for Unread {
    fn drop(&mut self) {
        let bytes = self.frame.len() as u64;
        self.room.unread.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use model::ByteSize;

    use super::*;

    #[test]
    fn answers_are_counted_while_they_wait() {
        let limits = Limits {
            frames_memory: ByteSize(4 << 10),
            ..Limits::default()
        };
        let room = Arc::new(Room::new(&limits));
        let kept = [room.keep(vec![0; 4095]), room.keep(vec![0; 1])];
        assert!(!room.has_place());
        drop(kept);
        assert!(room.has_place());
        assert_eq!(
            [1, 1024, 1025, 1 << 30].map(|it| room.units(it)),
            [0, 1, 1, 4]
        );
    }
}
