//! Death in every state of a worker, of the worker alone and of the whole server; and what must hold afterwards, however it came:
//! no orphan, no place lost, nothing sent to the dead, nothing run twice, records that agree with what was done.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread::{scope, sleep},
    time::Duration,
};

use crate::{
    knock::Wire,
    process::{Process, until},
    serving::House,
};

/// Writes what it does into a file of its own making, before and after; the file is what really happened.
/// It does not finish loading while there is a file called `closed`.
const LEDGER: &str = "
    import { appendFileSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
    const folder = process.env.LEDGER;
    const write = (line) => appendFileSync(folder + '/ledger', line + '\\n');
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    write('load ' + process.pid);
    while (existsSync(folder + '/closed')) await sleep(5);
    export default async (r) => {
      const id = r.headers.get('x-invocation-id');
      write('begin ' + id);
      const [, , , act, n] = new URL(r.url).pathname.split('/');
      if (act === 'wait') while (!existsSync(folder + '/' + n)) await sleep(5);
      if (act === 'sleep') await sleep(Number(n));
      if (act === 'meet') {
        writeFileSync(folder + '/met-' + id, '');
        while (readdirSync(folder).filter((name) => name.startsWith('met-')).length < Number(n)) await sleep(5);
      }
      write('end ' + id);
      return new Response('done');
    };";

/// Most invocations at once: two workers with two places.
const PLACES: usize = 4;

/// A server with one function, and what that function has really done.
struct Checked {
    house: House,
    folder: PathBuf,
}

/// What the ledger says of one invocation.
#[derive(Default, Debug, PartialEq)]
struct Done {
    begun: u32,
    ended: u32,
}

impl Checked {
    fn new(runtime: &'static str, more: &str) -> Checked {
        let plan = House::serve();
        let folder = plan.home().join("ledger");
        fs::create_dir_all(&folder).expect("a folder of ours");
        let settings = format!(
            "env = {{ LEDGER = '{}' }}\nconcurrency = 2\ntimeout = '60s'\n{more}",
            folder.display()
        );
        let house = plan
            .function("f", |f| f.on(runtime).web(LEDGER).setting(settings))
            .start();
        Checked { house, folder }
    }

    fn put(&self, name: &str) {
        fs::write(self.folder.join(name), "").expect("a folder of ours");
    }

    fn ledger(&self) -> String {
        fs::read_to_string(self.folder.join("ledger")).unwrap_or_default()
    }

    /// How many lines of the ledger begin like this.
    fn count(&self, verb: &str) -> usize {
        self.ledger()
            .lines()
            .filter(|line| line.starts_with(verb))
            .count()
    }

    fn done(&self) -> BTreeMap<String, Done> {
        let mut all: BTreeMap<String, Done> = BTreeMap::new();
        for line in self.ledger().lines() {
            match line.split_once(' ') {
                Some(("begin", id)) => all.entry(id.into()).or_default().begun += 1,
                Some(("end", id)) => all.entry(id.into()).or_default().ended += 1,
                _ => {}
            }
        }
        all
    }

    /// A caller who waits until a file of this name is put.
    fn held(&self, name: &str) -> Wire {
        let before = self.count("begin");
        let wire = self
            .house
            .ask("GET", &format!("/functions/f/wait/{name}"))
            .open();
        until("the handler runs", || self.count("begin") > before);
        wire
    }

    /// The workers by what they do, as the server says.
    fn state(&self, name: &str) -> u64 {
        let info = self.house.cli(&["info", "f", "--json"]).ok().json();
        info["workers"][name].as_u64().expect("a count")
    }

    /// Processes that run the function, on their way or there.
    fn workers(&self) -> Vec<Process> {
        let mut children = self.house.children();
        children.retain(|child| {
            child.command.contains("js") && child.command.contains("/run/") && !child.is_spare()
        });
        children
    }

    fn kill_workers(&self) {
        let workers = self.workers();
        assert!(!workers.is_empty());
        workers.iter().for_each(Process::kill);
        House::all_gone(&workers);
    }

    /// What must hold, whatever happened.
    fn check(&self) {
        self.house.get("/functions/f/now").ok();
        // As many as ever run at once: no place was lost.
        let answers: Vec<_> = scope(|scope| {
            let callers: Vec<_> = (0..PLACES)
                .map(|_| scope.spawn(|| self.house.get(&format!("/functions/f/meet/{PLACES}"))))
                .collect();
            let joined = callers.into_iter().map(|one| one.join());
            joined
                .map(|one| one.expect("a caller does not panic"))
                .collect()
        });
        answers.iter().for_each(|answer| drop(answer.ok()));
        until("nobody is busy", || self.state("busy") == 0);
        self.check_records();
    }

    /// Each invocation ran at most once; one that is recorded as done was done, and one that was done is recorded as done.
    fn check_records(&self) {
        let done = self.done();
        for (id, done) in &done {
            assert!(
                done.begun == 1 && done.ended <= 1,
                "{id} ran twice: {done:?}"
            );
        }
        until("records agree with what was done", || {
            let said = self
                .house
                .cli(&["invocations", "f", "--json", "--limit", "1000"]);
            let records = said.ok().json()["invocations"]
                .as_array()
                .cloned()
                .expect("a list");
            let outcome = |id: &str| -> Option<String> {
                let found = records.iter().find(|record| record["id"] == id)?;
                found["outcome"].as_str().map(String::from)
            };
            done.iter().all(|(id, done)| match outcome(id).as_deref() {
                Some("ok") => done.ended == 1,
                Some(_) => true,
                // The server died while it ran.
                None => done.ended == 0,
            })
        });
    }
}

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Workers,
    Server,
}

impl Checked {
    /// Kills, and waits until nothing of what was killed is left; a server is started again.
    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Workers => self.kill_workers(),
            Victim::Server => {
                let children = self.house.children();
                assert!(!children.is_empty());
                self.house.kill9();
                House::all_gone(&children);
                self.house.restart();
            }
        }
    }
}

/// Brings a fresh function into a state, kills, and checks what must hold; `after` says what the callers then learn.
fn each(
    more: &str,
    enter: impl Fn(&mut Checked) -> Vec<Wire>,
    after: impl Fn(&Checked, Victim, Vec<Wire>),
) {
    for runtime in ["bun", "node"] {
        for victim in [Victim::Workers, Victim::Server] {
            let mut checked = Checked::new(runtime, more);
            let wires = enter(&mut checked);
            checked.kill(victim);
            after(&checked, victim, wires);
            checked.check();
        }
    }
}

/// A caller whose worker died learns so; one whose server died sees the connection end without an answer.
fn learn(victim: Victim, wires: Vec<Wire>, error_type: &str) {
    for mut wire in wires {
        match victim {
            Victim::Workers => drop(wire.answer().fails(502, error_type).says("SIGKILL")),
            Victim::Server => assert_eq!(wire.hear_the_end(), ""),
        }
    }
}

#[test]
fn death_while_starting() {
    each(
        "workers = { max = 2 }",
        |checked| {
            checked.put("closed");
            let wire = checked.house.ask("GET", "/functions/f/now").open();
            until("the module loads", || checked.count("load") == 1);
            assert_eq!(checked.state("starting"), 1);
            vec![wire]
        },
        |checked, victim, wires| {
            learn(victim, wires, "InitError");
            assert_eq!(checked.count("begin"), 0, "nothing was run");
            fs::remove_file(checked.folder.join("closed")).unwrap();
        },
    );
}

#[test]
fn death_while_warm() {
    each(
        "workers = { min = 2, max = 2 }",
        |checked| {
            until("two are warm", || checked.state("warm") == 2);
            Vec::new()
        },
        |checked, _, _| until("two are warm again", || checked.state("warm") == 2),
    );
}

#[test]
fn death_while_busy() {
    each(
        "workers = { max = 2 }",
        |checked| {
            let wires = (0..PLACES).map(|_| checked.held("open")).collect();
            assert_eq!(checked.state("busy"), 2);
            wires
        },
        |checked, victim, wires| {
            learn(victim, wires, "WorkerCrashed");
            assert!(checked.done().values().all(|done| done.ended == 0));
        },
    );
}

#[test]
fn death_while_idle() {
    each(
        "workers = { max = 2 }",
        |checked| {
            checked.house.get("/functions/f/now").ok();
            until("it is idle", || checked.state("idle") == 1);
            checked.check_records();
            Vec::new()
        },
        |checked, _, _| until("the server knows", || checked.state("idle") == 0),
    );
}

#[test]
fn death_while_retiring() {
    each(
        "workers = { max = 2 }",
        |checked| {
            let wire = checked.held("open");
            let source = format!("{LEDGER}\n// another version\n");
            checked.house.save("src/f.js", &source);
            checked.house.deploy().ok();
            let old = checked.workers();
            assert_eq!(old.len(), 2, "one ends what it runs, one is new: {old:?}");
            vec![wire]
        },
        |_, victim, wires| learn(victim, wires, "WorkerCrashed"),
    );
}

#[test]
fn deaths_at_random_under_load() {
    for runtime in ["bun", "node"] {
        let checked = Checked::new(runtime, "workers = { max = 2 }\nqueue = { wait = '60s' }");
        let is_over = AtomicBool::new(false);
        let failures = scope(|scope| {
            let callers: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        let mut failures = 0;
                        while !is_over.load(Ordering::Relaxed) {
                            let answer = checked.house.get("/functions/f/sleep/40");
                            if answer.status != 200 {
                                // Killed while it ran this, or while it was started for this.
                                let (status, error_type) = answer.failure();
                                assert_eq!(status, 502, "{}", answer.text());
                                assert!(["WorkerCrashed", "InitError"].contains(&&*error_type));
                                answer.says("SIGKILL");
                                failures += 1;
                            }
                        }
                        failures
                    })
                })
                .collect();
            for _ in 0..15 {
                sleep(Duration::from_millis(70));
                if let Some(worker) = checked.workers().first() {
                    worker.kill();
                }
            }
            is_over.store(true, Ordering::Relaxed);
            callers
                .into_iter()
                .map(|one| one.join().unwrap())
                .sum::<u32>()
        });
        // A place is taken anew as soon as it fails, and perhaps once more before the death itself is seen.
        assert!(
            failures <= 15 * 2 * 2,
            "each death costs at most its two places, twice: {failures}"
        );
        let done = checked.done();
        let unfinished = done.values().filter(|done| done.ended == 0).count();
        assert!(
            unfinished <= failures as usize,
            "who did not finish was told so"
        );
        checked.check();
    }
}
