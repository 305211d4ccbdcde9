//! The store's contract, told from outside: what is promised to the rooms that use it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod damage;
mod folder;
mod labels;
mod lambda;
mod logs;
mod records;
mod retention;
mod sources;
mod story;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use model::{
    Clock, Digest, FunctionId, InvocationId, Kind, Level, Limits, LogLine, Outcome, Record,
    SettingsPatch, Timestamp, Trigger, VersionNumber,
};
use store::{DataFolder, NewVersion, OpenError, Store, Warning};
use tempfile::TempDir;

/// A clock that stands until it is moved.
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(SeqCst))
    }
}

/// A data folder of its own, limits and a clock.
struct World {
    root: TempDir,
    limits: Limits,
    clock: Arc<TestClock>,
}

impl World {
    fn new() -> World {
        World {
            root: tempfile::tempdir().unwrap(),
            limits: Limits::default(),
            clock: Arc::new(TestClock(AtomicI64::new(1_800_000_000_000))),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.root.path().join("data")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.path().join(name)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn pass_ms(&self, ms: i64) {
        self.clock.0.fetch_add(ms, SeqCst);
    }

    async fn try_open(&self) -> Result<(Store, Vec<Warning>), OpenError> {
        let folder = DataFolder::open(self.path())?;
        let clock: Arc<dyn Clock> = self.clock.clone();
        Store::open(&folder, &self.limits, clock).await
    }

    async fn open(&self) -> Store {
        let (store, warnings) = self.try_open().await.unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        store
    }

    /// A successful call that ended just now.
    fn call(&self, function: &FunctionId, chance: u8) -> Record {
        Record {
            id: InvocationId::new(self.now(), [chance; 10]),
            function: function.clone(),
            version: Some(VersionNumber(1)),
            trigger: Trigger::Http,
            outcome: Outcome::Ok,
            message: None,
            fault: None,
            method: Some("GET".into()),
            path: Some("/functions/hello?x=1".into()),
            status: Some(200),
            arrived: self.now(),
            waited_us: 12,
            ran_us: 345,
            cold: false,
            worker: Some("w1".into()),
            attempts: Vec::new(),
            recording: false,
        }
    }

    fn line(&self, function: &FunctionId, level: Level, text: &str) -> LogLine {
        LogLine {
            at: self.now(),
            function: function.clone(),
            version: VersionNumber(1),
            invocation: None,
            level,
            is_info: false,
            text: text.into(),
        }
    }
}

fn function(text: &str) -> FunctionId {
    let (project, name) = text.split_once('/').unwrap();
    FunctionId {
        project: project.parse().unwrap(),
        name: name.parse().unwrap(),
    }
}

/// A version whose digest depends on `source` alone.
fn version(source: &str) -> NewVersion {
    NewVersion {
        digest: Digest::of(source.as_bytes()),
        bundle: Digest::of(format!("bundle of {source}").as_bytes()),
        entry: "src/hello.js".into(),
        kind: Kind::Web,
        patch: SettingsPatch {
            concurrency: Some(1),
            ..SettingsPatch::default()
        },
        layers: Vec::new(),
    }
}

/// The texts of lines, in order.
fn texts(lines: &[store::StoredLine]) -> Vec<&str> {
    lines
        .iter()
        .map(|stored| stored.line.text.as_str())
        .collect()
}
