//! What runs on this machine, as /proc shows it, and waiting for states. Knows nothing of HTTP.

use std::{
    env, fs,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks at a state.
const PAUSE: Duration = Duration::from_millis(10);

/// After this long a state will not come any more: far longer than the slowest machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary beside this test, which `scripts/test` builds first.
pub fn bungee() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let deps = test.parent().expect("a test lies in a folder");
    let binary = deps.with_file_name("bungee");
    assert!(binary.exists(), "build it first: cargo build -p bungee");
    binary
}

/// Waits until the look shows something, and returns it.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        sleep(PAUSE);
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, || is_so().then_some(()));
}

/// A process that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    parent: i32,
    /// Its arguments, with spaces between.
    pub command: String,
    /// Ticks after boot: tells it from a later process of the same number.
    started: String,
}

impl Process {
    /// What /proc knows of it; nothing once it has ended, reaped or not.
    pub fn find(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // The first thread of a killed process is a zombie while the others still end, and its sockets are open until then.
        let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        if matches!(fields[0], "Z" | "X") && threads() <= 1 {
            return None;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Process {
            pid,
            parent: fields[1].parse().ok()?,
            command: String::from_utf8_lossy(&command).replace('\0', " "),
            started: fields[19].to_owned(),
        })
    }

    /// Every process.
    pub fn all() -> Vec<Process> {
        let entries = fs::read_dir("/proc").expect("this is Linux");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Process::find).collect()
    }

    /// Whether this very process still runs.
    pub fn runs(&self) -> bool {
        Process::find(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Whether it is a worker that waits for a function: it works in the folder of no bundle.
    pub fn is_spare(&self) -> bool {
        let folder = fs::read_link(format!("/proc/{}/cwd", self.pid));
        folder.is_ok_and(|folder| folder.ends_with("run"))
    }

    /// SIGKILL. One that is gone already is as good.
    pub fn kill(&self) {
        if self.runs() {
            signal(self.pid, Signal::KILL);
        }
    }
}

/// The processes below one, its children's children too.
pub fn descendants(pid: i32) -> Vec<Process> {
    let all = Process::all();
    let (mut found, mut open) = (Vec::new(), vec![pid]);
    while let Some(parent) = open.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            open.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("no process has the number 0");
    // It may have ended meanwhile.
    let _ = kill_process(pid, signal);
}
