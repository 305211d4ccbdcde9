//! The clock of leases: it goes on while the machine sleeps, and nobody can set it.

/// Milliseconds since the machine started, sleep included.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn ticks() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Boottime);
    let millis = now.tv_sec * 1000 + now.tv_nsec / 1_000_000;
    u64::try_from(millis).unwrap_or(0)
}
