//! Spare workers: processes of a runtime that were booted ahead, know no function yet, and are given one when a worker is wanted.
//! A spare is used once. One that cannot become exactly what a fresh process would be is not used at all.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::Path,
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde::Serialize;

use crate::{
    house::House,
    process::{self, Door, Plan, Process, Role, Started},
    runtime::Load,
    version::Version,
};

/// Kept ready for each way of starting; two cover a burst of two.
const KEPT: usize = 2;

/// Kept ready altogether; beyond this the oldest makes room.
const KEPT_MAX: usize = 6;

/// After a spare was taken its place is filled this much later, so that the new one does not slow down what the old one was taken for.
const SETTLE: Duration = Duration::from_millis(100);

/// A pipe holds 64 KiB (pipe(7)), so a line up to here is taken at once, however busy its reader is.
const LINE_MAX: usize = 60 << 10;

/// Beginnings of the names of variables that a runtime, or what it is linked with, reads once and natively:
/// setting them later would come too late.
const READ_AT_BOOT: &[&str] = &[
    "AWS_", "BUN_", "GLIBC_", "ICU_", "LC_", "LD_", "MALLOC_", "NODE_", "OPENSSL_", "S3_", "SSL_",
    "UV_",
];

/// Whole names of such variables.
const READ_AT_BOOT_NAMES: &[&str] = &[
    "HOME",
    "LANG",
    "LANGUAGE",
    "PATH",
    "REDIS_URL",
    "TMPDIR",
    "TZ",
    "VALKEY_URL",
];

/// The spares of a server.
#[derive(Default)]
pub struct Spares(Mutex<Vec<Spare>>);

/// One spare, and how it was started.
struct Spare {
    recipe: Vec<OsString>,
    process: Process,
}

impl Spares {
    fn lock(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many there are.
    pub fn ready(&self) -> usize {
        self.lock().len()
    }

    /// Ends them all.
    pub fn clear(&self, house: &House) {
        let spares = std::mem::take(&mut *self.lock());
        for spare in spares {
            spare.process.discard(house);
        }
    }
}

/// What a spare is told, as one line of JSON on its lifeline; see docs/protocol.md.
#[derive(Serialize)]
struct Assignment<'a> {
    /// Where it works.
    cwd: &'a Path,
    /// Limit on its memory, in mebibytes.
    memory_mb: u64,
    /// What it loads.
    #[serde(flatten)]
    load: Load<'a>,
}

/// A spare that has become a worker of `version`, if there is one that can.
pub fn take(
    house: &Arc<House>,
    version: &Version,
    command: &Command,
    load: Load<'_>,
    role: Role,
) -> Option<Started> {
    let settings = &version.settings;
    if settings.env.keys().any(|name| is_read_at_boot(name)) {
        return None;
    }
    let env = environment(command);
    let assignment = Assignment {
        cwd: &version.dir,
        memory_mb: settings.memory.0 >> 20,
        load: Load {
            env: Some(&env),
            ..load
        },
    };
    let mut line = serde_json::to_string(&assignment).ok()?;
    line.push('\n');
    if line.len() > LINE_MAX {
        return None;
    }
    let recipe = recipe(command);
    loop {
        let mut process = {
            let mut spares = house.spares.lock();
            let place = spares.iter().position(|spare| spare.recipe == recipe)?;
            spares.remove(place).process
        };
        if process.is_alive() && process.tell(&line).is_ok() {
            return process.adopt(house, role).ok();
        }
        process.discard(house);
    }
}

/// Whether a variable is read where we cannot set it later.
fn is_read_at_boot(name: &str) -> bool {
    READ_AT_BOOT.iter().any(|start| name.starts_with(start))
        || READ_AT_BOOT_NAMES.contains(&name)
        || name.to_ascii_uppercase().ends_with("_PROXY")
}

/// What a fresh process would find in its environment beyond what every worker has.
fn environment(command: &Command) -> BTreeMap<String, String> {
    let text = |value: &OsStr| Some(value.to_str()?.to_owned());
    let pairs = command.get_envs();
    pairs
        .filter_map(|(name, value)| Some((text(name)?, text(value?)?)))
        .collect()
}

/// How a process is started: two with the same recipe are alike until they are given a function.
fn recipe(command: &Command) -> Vec<OsString> {
    let arguments = command.get_args().map(ToOwned::to_owned);
    std::iter::once(command.get_program().to_owned())
        .chain(arguments)
        .collect()
}

/// Starts what is missing of the kind that `command` starts, off the path of whoever asked.
pub fn refill(house: &Arc<House>, command: &Command, role: Role) {
    let recipe = recipe(command);
    if count(&house.spares.lock(), &recipe) >= KEPT {
        return;
    }
    let house = house.clone();
    let tasks = house.tasks.clone();
    tasks.spawn(async move {
        let stopped = house.stopping.cancelled();
        if tokio::time::timeout(SETTLE, stopped).await.is_ok() {
            return;
        }
        // A spare that is booted while the house stops is not kept: the count would never be reached.
        while !house.stopping.is_cancelled() && count(&house.spares.lock(), &recipe) < KEPT {
            if let Err(error) = boot_one(&house, &recipe, role).await {
                tracing::debug!(%error, "cannot boot a spare worker");
                return;
            }
        }
    });
}

fn count(spares: &[Spare], recipe: &[OsString]) -> usize {
    spares.iter().filter(|spare| spare.recipe == recipe).count()
}

async fn boot_one(house: &Arc<House>, recipe: &[OsString], role: Role) -> std::io::Result<()> {
    let [program, arguments @ ..] = recipe else {
        return Ok(());
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&house.options.run_dir);
    let plan = Plan {
        command,
        role,
        load: None,
        door: Door::Listens,
    };
    let process = process::boot(house, plan).await?;
    let spare = Spare {
        recipe: recipe.to_vec(),
        process,
    };
    let superfluous = {
        let mut spares = house.spares.lock();
        if house.stopping.is_cancelled() || count(&spares, recipe) >= KEPT {
            Some(spare)
        } else {
            spares.push(spare);
            (spares.len() > KEPT_MAX).then(|| spares.remove(0))
        }
    };
    if let Some(spare) = superfluous {
        spare.process.discard(house);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_a_runtime_reads_at_its_start_are_known() {
        for name in [
            "TZ",
            "NODE_OPTIONS",
            "BUN_CONFIG_X",
            "LD_PRELOAD",
            "https_proxy",
            "AWS_REGION",
        ] {
            assert!(is_read_at_boot(name), "{name}");
        }
        for name in ["GREETING", "DATABASE_URL", "TZ_NAME", "PROXY"] {
            assert!(!is_read_at_boot(name), "{name}");
        }
    }
}
