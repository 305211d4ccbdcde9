//! Node programs with our wrapper, each a process of its own: one that is deployed somewhere, one on a laptop.

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    knock::{Answer, Ask},
    process::{self, eventually, until},
    project,
};

/// A deployed program: whoever posts an event to it gets what its handler returned.
const DEPLOYED: &str = r#"
import { createServer } from "node:http";
import { appendFileSync } from "node:fs";
import { live } from "bungee";
const handler = live("shop/hello", async (event) => {
  appendFileSync(process.env.RAN, `${event.n}\n`);
  return { from: "deployed", n: event.n };
});
const server = createServer(async (incoming, outgoing) => {
  let text = "";
  for await (const piece of incoming) text += piece;
  try {
    outgoing.end(JSON.stringify(await handler(JSON.parse(text), {})));
  } catch (error) {
    outgoing.statusCode = 502;
    outgoing.end(JSON.stringify({ error: { type: error.name, message: error.message } }));
  }
});
server.listen(0, "127.0.0.1", () => console.log(`at 127.0.0.1:${server.address().port}`));
"#;

/// The same handler on a laptop. An event may ask it to take its time.
const LAPTOP: &str = r#"
import { appendFileSync } from "node:fs";
import { live } from "bungee";
live("shop/hello", async (event) => {
  appendFileSync(process.env.RAN, `${event.n}\n`);
  if (event.wait) await new Promise((resolve) => setTimeout(resolve, event.wait));
  return { from: "laptop", n: event.n };
});
"#;

/// The wrapper with what it needs, and a file in which every run of a handler leaves its line.
pub struct Wrapper(TempDir);

/// A program that runs.
pub struct Program {
    child: Child,
    said: std::path::PathBuf,
}

impl Wrapper {
    /// Installs the wrapper as a user would, without what only its own tests need.
    pub fn install() -> Wrapper {
        let home = tempfile::tempdir().expect("a folder can be made");
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdks/node");
        let package = home.path().join("node_modules/bungee");
        project::copy(&sdk, &package);
        let install = Command::new("npm")
            .args(["ci", "--omit=dev", "--no-audit", "--no-fund"])
            .arg("--prefer-offline")
            .current_dir(&package)
            .output()
            .expect("npm is installed: scripts/test brings it");
        let complaint = String::from_utf8_lossy(&install.stderr);
        assert!(install.status.success(), "npm ci: {complaint}");
        fs::write(home.path().join("ran"), "").expect("a file can be written");
        Wrapper(home)
    }

    /// Starts a module; the environment says nothing of this machine.
    pub fn run(&self, name: &str, source: &str, environment: &[(&str, &str)]) -> Program {
        let file = self.0.path().join(format!("{name}.mjs"));
        fs::write(&file, source).expect("a file can be written");
        let said = self.0.path().join(format!("{name}.said"));
        let out = File::create(&said).expect("a file can be made");
        let errors = out.try_clone().expect("a file can be written twice");
        let child = Command::new("node")
            .arg(&file)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("RAN", self.0.path().join("ran"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .expect("node is installed: scripts/test brings it");
        Program { child, said }
    }

    /// Starts a deployed program of `shop/hello`.
    pub fn deployed(&self, channel: &str, environment: &[(&str, &str)]) -> Deployed {
        let ends = [("BUNGEE_CHANNEL", channel), ("BUNGEE_ROLE", "host")];
        let program = self.run("deployed", DEPLOYED, &[&ends[..], environment].concat());
        let said = program.hears("at 127.0.0.1:");
        let address = said.split("at ").nth(1).and_then(|at| at.lines().next());
        Deployed {
            address: address.expect("an address").to_owned(),
            program,
            events: AtomicU64::new(0),
        }
    }

    /// Starts the program of a developer who claims `shop/hello`.
    pub fn laptop(&self, channel: &str, environment: &[(&str, &str)]) -> Program {
        let ends = [("BUNGEE_CHANNEL", channel), ("BUNGEE_ROLE", "session")];
        self.run("laptop", LAPTOP, &[&ends[..], environment].concat())
    }

    /// Which events a handler ran, at either end, in order.
    pub fn ran(&self) -> Vec<u64> {
        let lines = fs::read_to_string(self.0.path().join("ran")).expect("the file is there");
        let number = |line: &str| line.parse().expect("a number");
        lines.lines().map(number).collect()
    }

    /// Asserts that no event ran twice.
    #[track_caller]
    pub fn ran_nothing_twice(&self) {
        let ran = self.ran();
        let mut once = ran.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), ran.len(), "{ran:?}");
    }
}

impl Program {
    /// What it wrote so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Waits until it has written the text, and returns all that it wrote.
    pub fn hears(&self, text: &str) -> String {
        eventually(&format!("a program says {text:?}"), || {
            Some(self.said()).filter(|said| said.contains(text))
        })
    }

    /// How often it wrote the text.
    pub fn times(&self, text: &str) -> usize {
        self.said().matches(text).count()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process number");
        process::signal(pid, signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        // One that ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended by itself; its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let status = eventually("a program ends", || {
            child.try_wait().expect("the program is our child")
        });
        status.code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A deployed program, and where it takes events.
pub struct Deployed {
    pub address: String,
    pub program: Program,
    /// The number of the last event.
    events: AtomicU64,
}

impl Deployed {
    /// Runs its handler, or whoever has claimed it.
    pub fn call(&self, event: &Value) -> Answer {
        Ask::new(&self.address, "POST", "/").json(event).send()
    }

    /// Where a new event ran: `deployed` or `laptop`. They are numbered from 1.
    #[track_caller]
    pub fn from(&self) -> String {
        let number = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = self.call(&json!({ "n": number }));
        answer.ok();
        answer.json()["from"].as_str().expect("a place").to_owned()
    }

    /// Calls it with new events until one runs there.
    pub fn until_from(&self, place: &str) {
        until(&format!("an event runs at: {place}"), || {
            self.from() == place
        });
    }
}
