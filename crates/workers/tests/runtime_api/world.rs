//! A pool with one function whose program runs the Python that each event brings.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response, request::Builder};
use http_body_util::BodyExt;
use model::{
    Clock, Failure, FunctionId, InvocationId, Kind, Limits, LogLine, SettingsPatch, Timestamp,
    VersionNumber,
};
use serde_json::Value;
use tempfile::TempDir;
use workers::{Answer, Body, LogSink, Options, Pool, Version, Workers};

/// The smallest client there is, and a loop that does what it is told.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import http.client, json, os, signal, socket, subprocess, sys, threading, time
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
BASE = "/2018-06-01/runtime/"
def call(method, path, body=None, headers={}, base=BASE):
    wire = http.client.HTTPConnection(host, int(port))
    wire.request(method, base + path, body, headers)
    answer = wire.getresponse()
    return answer.status, answer.headers, answer.read()
def kind(answer):
    return [answer[0], json.loads(answer[2]).get("errorType")]
def poll():
    _, head, event = call("GET", "invocation/next")
    return head["Lambda-Runtime-Aws-Request-Id"], head, event
def done(id, value):
    return call("POST", f"invocation/{id}/response", json.dumps(value))
def raw(text):
    wire = socket.create_connection((host, int(port)))
    wire.sendall(text.encode())
    return wire
def stream(id, *parts, kind="text/plain", trailers=""):
    wire = raw(f"POST {BASE}invocation/{id}/response HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
               "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in parts:
        if callable(part): part()
        else: wire.sendall(b"%x\r\n%s\r\n" % (len(part), part))
    wire.sendall(b"0\r\n" + trailers.encode() + b"\r\n")
    return wire.recv(1000)
def until(name):
    while not os.path.exists(name): time.sleep(0.005)
seen = []
while True:
    id, head, event = poll()
    exec(json.loads(event.split(b"\0" * 8)[-1])["run"])
"#;

struct Clocks;

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        Timestamp(now.as_millis() as i64)
    }
}

#[derive(Default)]
struct Lines(Mutex<Vec<LogLine>>);

impl LogSink for Lines {
    fn line(&self, line: LogLine) {
        self.0.lock().unwrap().push(line);
    }
}

/// What is about to be a world.
pub struct Plan {
    program: String,
    built: Option<PathBuf>,
    name: &'static str,
    mode: u32,
    kind: Kind,
    settings: String,
    opt: Option<PathBuf>,
    limits: Limits,
}

/// A world with one function.
pub struct World {
    pub workers: Workers,
    pub pool: Pool,
    lines: Arc<Lines>,
    next_id: AtomicU8,
    folder: TempDir,
}

pub fn plan() -> Plan {
    Plan {
        program: PROGRAM.into(),
        built: None,
        name: "f",
        mode: 0o755,
        kind: Kind::Event,
        settings: "workers = { max = 1 }\n".into(),
        opt: None,
        limits: Limits::default(),
    }
}

impl Plan {
    pub fn program(mut self, program: impl Into<String>) -> Plan {
        self.program = program.into();
        self
    }

    pub fn named(mut self, name: &'static str) -> Plan {
        self.name = name;
        self
    }

    /// A program that was built, under the name by which it tells what to do.
    pub fn built(mut self, program: &Path, name: &'static str) -> Plan {
        self.built = Some(program.into());
        self.name = name;
        self
    }

    pub fn mode(mut self, mode: u32) -> Plan {
        self.mode = mode;
        self
    }

    pub fn web(mut self) -> Plan {
        self.kind = Kind::Web;
        self
    }

    pub fn setting(mut self, line: &str) -> Plan {
        self.settings.push_str(line);
        self.settings.push('\n');
        self
    }

    pub fn opt(mut self, folder: &Path) -> Plan {
        self.opt = Some(folder.into());
        self
    }

    pub fn limit(mut self, name: &str, value: &str) -> Plan {
        self.limits.set(name, value).unwrap();
        self
    }

    /// Call it inside a tokio runtime.
    pub fn start(self) -> World {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("bundle");
        fs::create_dir(&dir).unwrap();
        match self.built {
            Some(program) => drop(fs::copy(program, dir.join("bootstrap")).unwrap()),
            None => fs::write(dir.join("bootstrap"), self.program).unwrap(),
        }
        fs::set_permissions(dir.join("bootstrap"), PermissionsExt::from_mode(self.mode)).unwrap();
        let lines = Arc::new(Lines::default());
        let limits = Arc::new(self.limits);
        let workers = Workers::start(Options {
            run_dir: folder.path().join("run"),
            limits: limits.clone(),
            clock: Arc::new(Clocks),
            // Stands in for our own binary: no isolate here, and a sentinel that leaves at once.
            program: Path::new("/bin/true").into(),
            bun: None,
            node: None,
            python: None,
            debuggers: None,
            logs: lines.clone(),
        })
        .unwrap();
        let settings = format!("runtime = 'provided'\n{}", self.settings);
        let patch: SettingsPatch = toml::from_str(&settings).unwrap();
        let pool = workers.pool(Arc::new(Version {
            function: FunctionId {
                project: "default".parse().unwrap(),
                name: self.name.parse().unwrap(),
            },
            number: VersionNumber(1),
            kind: self.kind,
            entry: "bootstrap".into(),
            settings: patch.resolve(&limits).unwrap(),
            opt: self.opt,
            image: folder.path().join("image"),
            dir,
        }));
        World {
            workers,
            pool,
            lines,
            next_id: AtomicU8::new(1),
            folder,
        }
    }
}

impl World {
    pub fn id(&self) -> InvocationId {
        InvocationId::new(Clocks.now(), [self.next_id.fetch_add(1, SeqCst); 10])
    }

    /// Sends Python for the program to run, and returns the head of what comes back.
    pub async fn open(&self, run: &str) -> Result<Response<Answer>, Failure> {
        self.open_as(Request::post("/functions/f/x?y=1"), run).await
    }

    pub async fn open_as(&self, request: Builder, run: &str) -> Result<Response<Answer>, Failure> {
        self.send(request, serde_json::json!({ "run": run })).await
    }

    /// Sends an event.
    pub async fn send(&self, request: Builder, event: Value) -> Result<Response<Answer>, Failure> {
        let id = self.id();
        let lease = self.pool.acquire(id).await?;
        let event = event.to_string();
        let request = request
            .header("host", "example.test")
            .header("x-invocation-id", id.to_string())
            .header(
                "traceparent",
                "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
            )
            .body(Body::from(event.into_bytes()))
            .unwrap();
        lease.send(request).await
    }

    /// The same, to the end.
    pub async fn run(&self, run: &str) -> Result<String, Failure> {
        whole(self.open(run).await?).await
    }

    /// What comes back, as JSON.
    pub async fn json(&self, run: &str) -> Value {
        serde_json::from_str(&self.run(run).await.unwrap()).unwrap()
    }

    /// The failure that comes back.
    pub async fn fails(&self, run: &str) -> Failure {
        self.run(run).await.unwrap_err()
    }

    /// Asks a client that chooses its answer by `act`.
    pub async fn act(&self, act: &str) -> Result<String, Failure> {
        whole(self.open_act(act).await?).await
    }

    /// The same, to the head of its answer.
    pub async fn open_act(&self, act: &str) -> Result<Response<Answer>, Failure> {
        self.send(Request::post("/"), serde_json::json!({ "act": act }))
            .await
    }

    /// A file in the folder where the program runs.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("bundle").join(name)
    }

    pub fn put(&self, name: &str) {
        fs::write(self.file(name), "").unwrap();
    }

    pub fn lines(&self) -> Vec<LogLine> {
        self.lines.0.lock().unwrap().clone()
    }

    /// The process of the worker.
    pub async fn process(&self) -> i32 {
        self.json("done(id, os.getpid())").await.as_i64().unwrap() as i32
    }

    pub async fn stop(&self) {
        self.workers.stop(Duration::from_secs(5)).await;
    }
}

/// An answer to its end.
pub async fn whole(answer: Response<Answer>) -> Result<String, Failure> {
    let body = answer.into_body().collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// Waits until something is so.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}
