//! The watch: deadlines and memory of what is in flight. Asleep while nothing is.

use std::{
    fs,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use model::{ByteSize, InvocationId};
use tokio::time::MissedTickBehavior;

use crate::{
    house::House,
    limit::Limit,
    worker::{Cause, Worker},
};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(10);

/// Memory of a worker in flight is read on every second tick: 20 ms.
const MEMORY_EVERY: u32 = 2;

/// Memory of a worker without work is read on every hundredth tick, or once a second when the watch sleeps.
const IDLE_MEMORY_EVERY: u32 = 100;

/// A worker past a deadline must answer a ping within this time, or it is blocked.
const PING_LIMIT: Duration = Duration::from_millis(100);

/// Runs until the house stops.
pub async fn run(house: Arc<House>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for tick in 1u32.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = house.stopping.cancelled() => return,
        }
        let is_busy = look(&house, tick);
        if !is_busy && !sleep(&house).await {
            return;
        }
    }
}

/// Waits for an invocation, looking at memory once a second; false when the house stops.
async fn sleep(house: &Arc<House>) -> bool {
    house.set_dormant();
    // An invocation that began before the line above did not wake us.
    if house.live().iter().any(|worker| worker.gate.inside() > 0) {
        house.wake_watch();
        house.woken.notified().await;
        return true;
    }
    loop {
        let live = house.live();
        live.iter().for_each(check_memory);
        tokio::select! {
            () = house.woken.notified() => return true,
            () = house.stopping.cancelled() => return false,
            () = tokio::time::sleep(Duration::from_secs(1)), if !live.is_empty() => {}
        }
    }
}

/// One look at every worker; tells whether any has work.
fn look(house: &Arc<House>, tick: u32) -> bool {
    let now = house.ticks();
    let mut is_busy = false;
    for worker in house.live() {
        let has_work = worker.gate.inside() > 0;
        is_busy |= has_work;
        if has_work {
            expire(house, &worker, now);
        }
        if tick.is_multiple_of(if has_work {
            MEMORY_EVERY
        } else {
            IDLE_MEMORY_EVERY
        }) {
            check_memory(&worker);
        }
    }
    is_busy
}

/// Deals with invocations past their deadline.
fn expire(house: &Arc<House>, worker: &Arc<Worker>, now: u64) {
    if worker.is_debugged() {
        // Once the debugger is gone, what it held has its whole time again.
        worker.slots.iter().for_each(|slot| slot.hold(now));
        return;
    }
    for slot in &worker.slots {
        let holder = slot.holder();
        if !slot.expire(now) {
            continue;
        }
        let Some(id) = holder else { continue };
        let limit = slot.limit();
        worker.gate.close();
        if worker.gate.inside() <= 1 {
            worker.kill(Cause::Timeout(id, limit));
        } else {
            worker.overdue.set((id, limit)).ok();
            // Neighbours may end; what is held open gets a last deadline, or this worker would keep its place for hours.
            let open = worker.slots.iter().filter(|slot| slot.is_held_open());
            open.for_each(|slot| slot.bound_again(now + slot.limit().millis()));
            house
                .tasks
                .spawn(kill_if_blocked(worker.clone(), id, limit));
        }
        slot.waker.wake();
    }
}

/// Neighbours are in flight: they may end, unless nobody can, because the event loop is blocked.
async fn kill_if_blocked(worker: Arc<Worker>, culprit: InvocationId, limit: Limit) {
    let ping = tokio::time::timeout(PING_LIMIT, worker.ping());
    if !matches!(ping.await, Ok(Some(_))) {
        worker.kill(Cause::Blocked(culprit, limit));
    }
}

/// Kills a worker that uses more anonymous memory than it may.
fn check_memory(worker: &Arc<Worker>) {
    if worker.exit.get().is_some() {
        return;
    }
    if let Some(used) = anonymous_memory(worker.pid) {
        worker.holds.store(used.0, Relaxed);
        if used > worker.memory {
            worker.kill(Cause::OutOfMemory(used));
        }
    }
}

/// RssAnon of a process: resident minus shared pages of `/proc/PID/statm` (proc(5)), four times cheaper than `status`.
pub(crate) fn anonymous_memory(pid: u32) -> Option<ByteSize> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut fields = statm
        .split_ascii_whitespace()
        .skip(1)
        .map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    let page = rustix::param::page_size() as u64;
    Some(ByteSize(resident.saturating_sub(shared) * page))
}
