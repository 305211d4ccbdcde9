//! A developer's laptop beside a served house: `bungee dev --remote` over a folder of its own, whose code answers differently.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    process::{descendants, eventually, signal, until},
    project::{self, Function},
    serving::{House, Said, program},
};

/// A laptop that is about to attach.
pub struct Bag {
    home: TempDir,
    remote: String,
    functions: Vec<(String, Function)>,
    flags: Vec<String>,
    developer: String,
    key: Option<String>,
}

/// A laptop that is attached, or tries to be.
pub struct Laptop {
    home: TempDir,
    child: Child,
    /// The folder that it watches.
    pub folder: PathBuf,
    /// How much of what it said was listened to.
    heard: usize,
}

/// Where a handler on Bun notes what it does, and waits until it may go on.
#[derive(Clone)]
pub struct Gate(PathBuf);

impl Gate {
    /// One in this folder.
    pub fn at(home: &Path) -> Gate {
        Gate(home.join("gate"))
    }

    /// A web handler that answers with the word; below `/wait` only when the gate is open.
    pub fn handler(&self, word: &str) -> String {
        GATED
            .replace("GATE", self.0.to_str().expect("a readable path"))
            .replace("WORD", word)
    }

    pub fn open(&self) {
        fs::write(&self.0, "").expect("a file can be written");
    }

    /// What it noted so far: `began ID`, `left ID`, `ended ID`.
    pub fn notes(&self) -> Vec<String> {
        let notes = fs::read_to_string(self.0.with_file_name("gate-notes"));
        notes
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// How many notes there are of this.
    pub fn count(&self, what: &str) -> usize {
        let notes = self.notes();
        notes.iter().filter(|note| note.starts_with(what)).count()
    }

    /// Waits until there are so many.
    #[track_caller]
    pub fn sees(&self, what: &str, count: usize) {
        until(&format!("{count} {what}"), || self.count(what) >= count);
    }
}

/// Notes the id of each invocation, waits below `/wait`, and notes when its caller leaves and when it ends.
const GATED: &str = "
    import { appendFileSync, existsSync } from 'node:fs';
    export default async (request) => {
      const id = request.headers.get('x-invocation-id');
      const note = (what) => appendFileSync('GATE-notes', `${what} ${id}\\n`);
      note('began');
      request.signal.addEventListener('abort', () => note('left'));
      const waits = new URL(request.url).pathname.endsWith('/wait');
      while (waits && !request.signal.aborted && !existsSync('GATE')) await Bun.sleep(5);
      note('ended');
      return new Response('WORD');
    };";

impl House {
    /// A laptop that will attach to this server.
    pub fn laptop(&self) -> Bag {
        Bag {
            home: tempfile::tempdir().expect("a folder can be made"),
            // A server for everybody listens here too.
            remote: format!("http://{}", self.address.replace("0.0.0.0", "127.0.0.1")),
            functions: Vec::new(),
            flags: Vec::new(),
            developer: "ann".into(),
            key: None,
        }
    }
}

impl Bag {
    /// A function of its folder.
    pub fn function(mut self, name: &str, describe: impl FnOnce(Function) -> Function) -> Bag {
        self.functions
            .push((name.into(), describe(Function::new())));
        self
    }

    /// An argument of `bungee dev`.
    pub fn flag(mut self, flag: impl Into<String>) -> Bag {
        self.flags.push(flag.into());
        self
    }

    /// Whose it is; `ann`'s otherwise.
    pub fn of(mut self, developer: &str) -> Bag {
        self.developer = developer.into();
        self
    }

    /// What seals what it sends.
    pub fn key(mut self, key: impl Into<String>) -> Bag {
        self.key = Some(key.into());
        self
    }

    /// Where it attaches instead.
    pub fn to(mut self, remote: impl Into<String>) -> Bag {
        self.remote = remote.into();
        self
    }

    /// Where its folders will lie.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts it, and waits until it has every function of its folder.
    pub fn attach(self) -> Laptop {
        let count = self.functions.len();
        let mut laptop = self.start();
        for _ in 0..count {
            laptop.says(" runs here (");
        }
        laptop
    }

    /// Starts it, whatever becomes of it.
    pub fn start(self) -> Laptop {
        let mut command = self.command();
        let stderr = File::create(self.home.path().join("stderr")).expect("a file can be made");
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the program starts");
        Laptop {
            child,
            folder: self.home.path().join("project"),
            home: self.home,
            heard: 0,
        }
    }

    /// Starts it in the expectation that it ends by itself, and returns what it said.
    pub fn refused(self) -> Said {
        Said::of(&self.command().output().expect("the program starts"))
    }

    fn command(&self) -> Command {
        let folder = self.home.path().join("project");
        project::write(&folder, &self.functions);
        let mut command = program(self.home.path());
        command
            .arg("dev")
            .arg(&folder)
            .args(["--remote", &self.remote])
            .args(&self.flags)
            .env("USER", &self.developer)
            .envs(self.key.iter().map(|key| ("BUNGEE_KEY", key)));
        command
    }
}

impl Laptop {
    /// Waits until it says the text, after all that was waited for before.
    #[track_caller]
    pub fn says(&mut self, text: &str) {
        let so_far = self.said();
        let (heard, child) = (self.heard, &mut self.child);
        let stderr = self.home.path().join("stderr");
        self.heard = eventually(&format!("the laptop says {text:?} after {so_far}"), || {
            let ended = child.try_wait().expect("the laptop is our child");
            let said = fs::read(&stderr).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).into_owned();
            let found = said.get(heard..).and_then(|news| news.find(text));
            if let (None, Some(status)) = (found, ended) {
                panic!("the laptop ended with {status} before it said {text:?}: {said}");
            }
            Some(heard + found? + text.len())
        });
    }

    /// All that it said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.home.path().join("stderr")).unwrap_or_default()
    }

    /// Writes a file of its folder.
    pub fn save(&self, path: &str, text: &str) {
        project::put(&self.folder, path, text);
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is a pipe");
        writeln!(stdin, "{line}").expect("it listens to what is typed");
    }

    /// Where it keeps what is its own.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its process, and everything that it has started.
    fn processes(&self) -> Vec<i32> {
        let pid = self.pid();
        let below = descendants(pid).into_iter().map(|process| process.pid);
        [pid].into_iter().chain(below).collect()
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number")
    }

    /// Its lid is closed: nothing of it runs.
    pub fn freeze(&self) {
        // Itself first: afterwards it starts nothing more.
        signal(self.pid(), Signal::STOP);
        for pid in self.processes() {
            signal(pid, Signal::STOP);
        }
    }

    /// Its lid is open again.
    pub fn thaw(&self) {
        for pid in self.processes() {
            signal(pid, Signal::CONT);
        }
    }

    /// SIGKILL for itself alone.
    pub fn kill9(&mut self) {
        self.child.kill().expect("the laptop can be killed");
        self.child.wait().expect("the laptop ends");
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        signal(self.pid(), Signal::INT);
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the laptop ends", || {
            child.try_wait().expect("the laptop is our child")
        })
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        // What is frozen would never see that its parent is gone.
        self.thaw();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
