//! Blank isolate children, sealed and ready, so that an isolate's first invocation does not wait for a process.

use std::sync::{Arc, Mutex, MutexGuard};

use model::{ByteSize, Failure, Runtime};

use crate::{
    house::House,
    process::{self, Door, Plan, Role, Started},
    runtime, start,
    worker::{Cause, Worker},
};

/// Kept ready. A child takes about 2 ms to start; two cover a burst of two.
const KEPT: usize = 2;

/// The memory that a kept child may use; others are started when asked for.
const MEMORY: ByteSize = ByteSize::mebibytes(256);

/// The children that wait for work.
#[derive(Default)]
pub struct Blanks(Mutex<Vec<Arc<Worker>>>);

impl Blanks {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many there are.
    pub fn ready(&self) -> usize {
        self.lock().len()
    }

    /// Ends them all.
    pub fn clear(&self) {
        self.lock()
            .drain(..)
            .for_each(|worker| worker.kill(Cause::Retired));
    }
}

/// A ready child that may use `memory`: a kept one, or a new one.
pub async fn take(house: &Arc<House>, memory: ByteSize) -> Result<Arc<Worker>, Failure> {
    if memory != MEMORY {
        house.blank_starts.count(false);
        return start_one(house, memory).await;
    }
    loop {
        let kept = house.blanks.lock().pop();
        refill(house);
        match kept {
            Some(worker) if worker.exit.get().is_none() => {
                house.blank_starts.count(true);
                return Ok(worker);
            }
            Some(_) => {}
            None => {
                house.blank_starts.count(false);
                return start_one(house, memory).await;
            }
        }
    }
}

/// Starts what is missing, off the path of whoever asked.
fn refill(house: &Arc<House>) {
    if house.blanks.lock().len() >= KEPT || house.stopping.is_cancelled() {
        return;
    }
    let house = house.clone();
    let tasks = house.tasks.clone();
    tasks.spawn(async move {
        let Ok(worker) = start_one(&house, MEMORY).await else {
            return;
        };
        let mut kept = house.blanks.lock();
        if kept.len() < KEPT && !house.stopping.is_cancelled() {
            kept.push(worker);
        } else {
            drop(kept);
            worker.kill(Cause::Idle);
        }
    });
}

async fn start_one(house: &Arc<House>, memory: ByteSize) -> Result<Arc<Worker>, Failure> {
    let command = runtime::isolate_command(&house.options);
    let plan = Plan {
        command,
        role: Role {
            runtime: Runtime::Isolate,
            memory,
            concurrency: 1,
        },
        load: None,
        door: Door::Connected,
    };
    let Started { worker, first_word } = process::start(house, plan)
        .await
        .map_err(|error| start::cannot_start(&error))?;
    start::wait_ready(house, &worker, first_word).await?;
    Ok(worker)
}
