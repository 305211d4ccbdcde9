//! A server of its own for each test: the real program, a folder that cleans up after itself, a free port.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    knock::{Answer, Ask, Wire},
    process::{self, Process, bungee, descendants, eventually, until},
    project::{self, Function},
};

/// A server that is about to start.
pub struct Plan {
    home: TempDir,
    functions: Vec<(String, Function)>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    program: Program,
}

/// Which program a house is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    Serve,
    /// On this folder.
    Dev(PathBuf),
    Relay,
}

/// A server that runs, and the folders it lives in.
pub struct House {
    home: TempDir,
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    program: Program,
    /// The folder that is deployed, or watched.
    pub folder: PathBuf,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// The exit code; -1 for a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// What a command that has ended said.
    pub fn of(output: &Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that it was done.
    #[track_caller]
    pub fn ok(self) -> Said {
        self.ends(0)
    }

    /// Asserts how it ended.
    #[track_caller]
    pub fn ends(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Asserts that stderr contains the text.
    #[track_caller]
    pub fn says(self, text: &str) -> Said {
        assert!(self.stderr.contains(text), "no {text:?} in {self:?}");
        self
    }
}

impl Plan {
    /// A function of the folder, which is deployed once the server answers.
    pub fn function(mut self, name: &str, describe: impl FnOnce(Function) -> Function) -> Plan {
        self.functions
            .push((name.into(), describe(Function::new())));
        self
    }

    /// An argument of the server.
    pub fn flag(mut self, flag: impl Into<String>) -> Plan {
        self.flags.push(flag.into());
        self
    }

    /// A variable of the server's environment.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Plan {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Where its folders will lie.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts it and deploys the folder.
    pub fn start(self) -> House {
        self.start_with("")
    }

    /// The same, on a server that asks for a token.
    pub fn start_with(self, token: &str) -> House {
        let deploys = self.program == Program::Serve && !self.functions.is_empty();
        let folder = match &self.program {
            Program::Dev(folder) => folder.clone(),
            Program::Serve | Program::Relay => self.home.path().join("project"),
        };
        if !self.functions.is_empty() {
            project::write(&folder, &self.functions);
        }
        let mut command = self.program.in_home(self.home.path());
        if !self.flags.iter().any(|flag| flag == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let (child, address) = start(&mut command, &self.flags, &self.environment, &self.home);
        let house = House {
            home: self.home,
            child,
            address,
            flags: self.flags,
            environment: self.environment,
            program: self.program,
            folder,
        };
        if deploys {
            let folder = house.folder.to_str().expect("a readable path");
            let mut deploy = house.command(&["deploy", folder]);
            if !token.is_empty() {
                deploy.env("BUNGEE_TOKEN", token);
            }
            run(&mut deploy).ok();
        }
        house
    }

    /// Starts it in the expectation that it refuses, and returns what it said.
    pub fn refuses(self) -> Said {
        let is_relay = self.program == Program::Relay;
        let mut command = match is_relay {
            true => self.program.in_home(self.home.path()),
            false => serve(self.home.path()),
        };
        if !is_relay && !self.flags.iter().any(|flag| flag == "--data-dir") {
            command.arg("--data-dir").arg(self.home.path().join("data"));
        }
        if !self.flags.iter().any(|flag| flag == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(&self.flags).envs(self.environment);
        run(&mut command)
    }
}

impl House {
    /// A server on an empty data folder.
    pub fn serve() -> Plan {
        Plan {
            home: tempfile::tempdir().expect("a folder can be made"),
            functions: Vec::new(),
            flags: Vec::new(),
            environment: Vec::new(),
            program: Program::Serve,
        }
    }

    /// `bungee relay`.
    pub fn relay() -> Plan {
        let mut plan = House::serve();
        plan.program = Program::Relay;
        plan
    }

    /// `bungee dev` on a folder of its own, which the plan's functions fill.
    pub fn dev() -> Plan {
        let mut plan = House::serve();
        plan.program = Program::Dev(plan.home.path().join("project"));
        plan
    }

    /// `bungee dev` on a copy of one of the examples.
    pub fn dev_example(name: &str) -> Plan {
        let plan = House::dev();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        project::copy(&examples.join(name), &plan.home().join("project"));
        plan
    }

    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(&self.address, method, path)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send()
    }

    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("POST", path).body(body).send()
    }

    /// A connection with nothing on it yet.
    pub fn wire(&self) -> Wire {
        Wire::connect(&self.address)
    }

    /// Runs one invocation by the API: what `invoke` gets.
    pub fn invoke(&self, name: &str, event: &Value) -> Value {
        let path = format!("/v1/projects/default/functions/{name}/invoke");
        self.ask("POST", &path).json(event).send().json()
    }

    /// A command of the program that talks to this server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(self.home.path());
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("BUNGEE_SERVER", format!("http://{}", self.address));
        command
    }

    /// Runs such a command to its end.
    pub fn cli(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    /// Runs such a command, with something on its stdin.
    pub fn cli_with(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        // Who does not read its stdin does not need it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Said::of(&child.wait_with_output().expect("the program ends"))
    }

    /// Deploys the folder as it is now.
    pub fn deploy(&self) -> Said {
        self.cli(&["deploy", self.folder.to_str().expect("a readable path")])
    }

    /// Writes a file of the folder.
    pub fn save(&self, path: &str, text: &str) {
        project::put(&self.folder, path, text);
    }

    /// The lines that a function logged, as the API gives them.
    pub fn logs(&self, name: &str) -> Vec<Value> {
        let said = self.cli(&["logs", name, "--json"]).ok();
        let lines = said.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a log line is JSON"))
            .collect()
    }

    /// Waits until a log line contains the text, and returns that line.
    pub fn logged(&self, name: &str, text: &str) -> Value {
        eventually(&format!("{name} logs {text:?}"), || {
            let lines = self.logs(name);
            lines.into_iter().find(|line| {
                line["text"]
                    .as_str()
                    .is_some_and(|said| said.contains(text))
            })
        })
    }

    /// The newest record of a function, once there is one that satisfies.
    pub fn record(&self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("a record of {name}"), || {
            let found = self.cli(&["invocations", name, "--json"]).ok().json();
            let records = found["invocations"].as_array().cloned().unwrap_or_default();
            records.into_iter().find(&is_it)
        })
    }

    /// What the program wrote to its stderr so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.home.path().join("stderr")).unwrap_or_default()
    }

    /// The server's process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number")
    }

    /// Everything that the server has started and that still runs.
    pub fn children(&self) -> Vec<Process> {
        descendants(self.pid())
    }

    /// The workers on Bun that have a function.
    pub fn bun_workers(&self) -> Vec<Process> {
        let mut children = self.bun_processes();
        children.retain(|child| !child.is_spare());
        children
    }

    /// The spare workers on Bun.
    pub fn bun_spares(&self) -> Vec<Process> {
        let mut children = self.bun_processes();
        children.retain(Process::is_spare);
        children
    }

    /// The spare workers on Node.
    pub fn node_spares(&self) -> Vec<Process> {
        let mut children = self.children();
        children.retain(|child| child.command.contains("node.cjs") && child.is_spare());
        children
    }

    fn bun_processes(&self) -> Vec<Process> {
        let mut children = self.children();
        children.retain(|child| child.command.contains("bun.js"));
        children
    }

    /// What the server itself holds in memory, in mebibytes.
    pub fn memory_mib(&self) -> u64 {
        let statm =
            fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("the server runs");
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        (pages.expect("a number of pages") * rustix::param::page_size() as u64) >> 20
    }

    /// The folder of everything that is this server's.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A folder that nothing else uses.
    pub fn home_folder(&self) -> PathBuf {
        self.home.path().join("beside")
    }

    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.data().join("bungee.sock")
    }

    /// A new token of this role, made over the socket.
    #[track_caller]
    pub fn token(&self, role: &str) -> String {
        let socket = self.socket();
        let socket = socket.to_str().expect("a readable path");
        let made = self.cli(&["token", "create", "--role", role, "--socket", socket]);
        made.ok().stdout.trim().to_owned()
    }

    /// SIGKILL for the server alone.
    pub fn kill9(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server ends");
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Waits until the server has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the server ends", || {
            child.try_wait().expect("the server is our child")
        })
    }

    /// The same server again: the same folder, the same port, the same flags.
    pub fn restart(&mut self) {
        let mut command = self.program.in_home(self.home.path());
        command.args(["--listen", &self.address]);
        let (child, address) = start(&mut command, &self.flags, &self.environment, &self.home);
        assert_eq!(address, self.address);
        self.child = child;
    }

    /// Waits until nothing of the server's is left.
    pub fn all_gone(processes: &[Process]) {
        until("every process has ended", || {
            !processes.iter().any(Process::runs)
        });
    }
}

impl Program {
    /// The command that starts it, with what it keeps in its home.
    fn in_home(&self, home: &Path) -> Command {
        match self {
            Program::Serve => serve_in(home),
            Program::Dev(folder) => dev_in(home, folder),
            Program::Relay => {
                let mut command = program(home);
                command.args(["relay", "--json"]);
                command
            }
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // It may have ended already; its workers end by themselves.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, with an environment that says nothing of this machine.
pub fn program(home: &Path) -> Command {
    let mut command = Command::new(bungee());
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .stdin(Stdio::null());
    command
}

/// A command of the program without any server.
pub fn cli_in(folder: &Path, arguments: &[&str]) -> Said {
    run(program(folder).args(arguments).current_dir(folder))
}

fn serve(home: &Path) -> Command {
    let mut command = program(home);
    command.args(["serve", "--json"]);
    command
}

fn dev_in(home: &Path, folder: &Path) -> Command {
    let mut command = program(home);
    command.arg("dev").arg(folder);
    command
}

/// The same, with its data in its home.
fn serve_in(home: &Path) -> Command {
    let mut command = serve(home);
    command.arg("--data-dir").arg(home.join("data"));
    command
}

fn run(command: &mut Command) -> Said {
    Said::of(&command.output().expect("the program starts"))
}

/// Starts a server and waits until it has said where it listens.
fn start(
    command: &mut Command,
    flags: &[String],
    environment: &[(String, String)],
    home: &TempDir,
) -> (Child, String) {
    let errors = home.path().join("stderr");
    let stderr = File::create(&errors).expect("a file can be made");
    let mut child = command
        .args(flags)
        .envs(environment.iter().cloned())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the program starts");
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let is_dev = command
        .get_args()
        .next()
        .is_some_and(|first| first == "dev");
    if is_dev {
        let address = eventually("dev says where it listens", || {
            let said = fs::read_to_string(&errors).unwrap_or_default();
            if let Ok(Some(status)) = child.try_wait() {
                panic!("dev ended with {status}: {said}");
            }
            said.contains("watching").then_some(())?;
            Some(said.split("http://").nth(1)?.split('/').next()?.to_owned())
        });
        return (child, address);
    }
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line);
    let ready: Option<Value> = read.ok().and_then(|_| serde_json::from_str(&line).ok());
    let Some(ready) = ready else {
        let status = child.wait();
        let said = fs::read_to_string(&errors).unwrap_or_default();
        panic!("the server ended with {status:?}: {line}{said}");
    };
    let address = ready["addresses"][0].as_str().expect("an address");
    let address = address.split("//").nth(1).unwrap_or(address).to_owned();
    (child, address)
}
