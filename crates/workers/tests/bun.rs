//! Real Bun workers behind a real pool: what a handler does, what its caller and the log get.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(
    clippy::disallowed_methods,
    reason = "here the world outside begins: its clock and its environment"
)]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use model::{
    Clock, ErrorType, Failure, FunctionId, InvocationId, Kind, Level, Limits, LogLine,
    SettingsPatch, Timestamp, VersionNumber,
};
use tempfile::TempDir;
use workers::{Body, LogSink, Options, Pool, Version, Workers};

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

/// A world with one function.
struct World {
    workers: Workers,
    pool: Pool,
    lines: Arc<Lines>,
    next_id: Mutex<u8>,
    _folder: TempDir,
}

fn bun() -> PathBuf {
    workers::find_program("bun", &std::env::var_os("PATH").unwrap())
        .expect("bun is on PATH: scripts/test installs it")
}

fn world(kind: Kind, source: &str, settings: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("index.js"), source).unwrap();
    let lines = Arc::new(Lines::default());
    let limits = Arc::new(Limits::default());
    let workers = Workers::start(Options {
        run_dir: folder.path().join("run"),
        limits: limits.clone(),
        clock: Arc::new(Clocks),
        // Stands in for our own binary: no isolate here, and a sentinel that leaves at once.
        program: Path::new("/bin/true").into(),
        bun: Some(bun()),
        node: None,
        python: None,
        debuggers: None,
        logs: lines.clone(),
    })
    .unwrap();
    let patch: SettingsPatch = toml::from_str(&format!("runtime = 'bun'\n{settings}")).unwrap();
    let pool = workers.pool(Arc::new(Version {
        function: FunctionId {
            project: "default".parse().unwrap(),
            name: "f".parse().unwrap(),
        },
        number: VersionNumber(1),
        kind,
        entry: "index.js".into(),
        settings: patch.resolve(&limits).unwrap(),
        opt: None,
        image: folder.path().join("image"),
        dir,
    }));
    World {
        workers,
        pool,
        lines,
        next_id: Mutex::new(0),
        _folder: folder,
    }
}

impl World {
    async fn call(&self, body: &str) -> Result<Response<String>, Failure> {
        let id = {
            let mut next = self.next_id.lock().unwrap();
            *next += 1;
            InvocationId::new(Clocks.now(), [*next; 10])
        };
        let lease = self.pool.acquire(id).await?;
        let worker = lease.worker();
        let request = Request::post("/functions/f/x?y=1")
            .header("host", "example.test")
            .header("x-invocation-id", id.to_string())
            .body(Body::from(body.as_bytes().to_vec()))
            .unwrap();
        let answer = lease.send(request).await;
        worker.drained().await;
        let (head, body) = answer?.into_parts();
        let text = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
        Ok(Response::from_parts(head, text))
    }

    fn said(&self) -> Vec<(Level, String, bool)> {
        let lines = self.lines.0.lock().unwrap();
        lines
            .iter()
            .map(|line| (line.level, line.text.clone(), line.invocation.is_some()))
            .collect()
    }
}

#[tokio::test]
async fn a_web_handler_answers_and_its_log_lines_belong_to_the_invocation() {
    let world = world(
        Kind::Web,
        "export default async (req) => { console.warn('at', new URL(req.url).pathname, {a: 1}); process.stdout.write('raw\\n'); return new Response(req.url + await req.text()) }",
        "",
    );
    let answer = world.call(" body").await.unwrap();
    assert_eq!(answer.body(), "http://example.test/functions/f/x?y=1 body");
    let said = world.said();
    assert_eq!(
        said[0],
        (Level::Warn, "at /functions/f/x { a: 1 }".into(), true),
        "{said:?}"
    );
    assert_eq!(said[1], (Level::Info, "raw".into(), true));
    world.workers.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_event_handler_gets_event_and_context() {
    let world = world(
        Kind::Event,
        "export const handler = (event, context) => ({ got: event.n + 1, fn: context.functionName, left: context.getRemainingTimeInMillis() > 1000 })",
        "",
    );
    let answer = world.call(r#"{"n":1}"#).await.unwrap();
    assert_eq!(answer.body(), r#"{"got":2,"fn":"f","left":true}"#);
}

#[tokio::test]
async fn each_failure_names_its_true_cause_and_the_next_invocation_is_served() {
    let source = "export default async (req) => {
        const what = await req.text();
        if (what === 'throw') throw new TypeError('no');
        if (what === 'nothing') return;
        if (what === 'exit') process.exit(3);
        if (what === 'kill') process.kill(process.pid, 'SIGKILL');
        if (what === 'loop') for (;;);
        if (what === 'sleep') await new Promise((wake) => setTimeout(wake, 60000));
        if (what === 'uncaught') { setTimeout(() => { throw new RangeError('later') }, 1); await new Promise(() => {}) }
        if (what === 'memory') { const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1)) }
        return new Response('fine') }";
    let patient = world(Kind::Web, source, "memory = '128MB'");
    let hasty = world(Kind::Web, source, "timeout = '300ms'");
    for (world, what, error_type, words) in [
        (&patient, "throw", ErrorType::HandlerError, "TypeError: no"),
        (
            &patient,
            "nothing",
            ErrorType::HandlerError,
            "the handler returned undefined, not a Response",
        ),
        (
            &patient,
            "exit",
            ErrorType::WorkerCrashed,
            "exited with code 3",
        ),
        (
            &patient,
            "kill",
            ErrorType::WorkerCrashed,
            "killed by signal 9 (SIGKILL)",
        ),
        (
            &patient,
            "uncaught",
            ErrorType::WorkerCrashed,
            "RangeError: later",
        ),
        (
            &patient,
            "memory",
            ErrorType::OutOfMemory,
            "the limit is 128MB",
        ),
        (
            &hasty,
            "loop",
            ErrorType::FunctionTimeout,
            "`timeout` is 300ms",
        ),
        (
            &hasty,
            "sleep",
            ErrorType::FunctionTimeout,
            "`timeout` is 300ms",
        ),
    ] {
        let failure = world.call(what).await.unwrap_err();
        assert_eq!(failure.error_type, error_type, "{what}: {failure}");
        assert!(failure.message.contains(words), "{what}: {failure}");
        assert_eq!(world.call("").await.unwrap().body(), "fine", "after {what}");
    }
    patient.workers.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_pool_made_during_the_stop_is_closed_and_the_stop_ends() {
    let mut world = world(
        Kind::Web,
        "export default async () => { await new Promise((d) => setTimeout(d, 500)); return new Response('done') }",
        "",
    );
    let version = world.pool.version().clone();
    let (stopping, late) = {
        let call = world.call("");
        tokio::pin!(call);
        let in_flight = async {
            while world.pool.counts().busy == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = &mut call => panic!("it ended early: {answer:?}"),
            () = in_flight => {}
        }
        let workers = world.workers.clone();
        let stopping = tokio::spawn(async move { workers.stop(Duration::from_secs(20)).await });
        while !world.pool.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let late = world.workers.pool(version);
        assert_eq!(call.await.unwrap().body(), "done");
        (stopping, late)
    };
    tokio::time::timeout(Duration::from_secs(10), stopping)
        .await
        .expect("the stop ends")
        .unwrap();
    assert!(late.is_done());
    world.pool = late;
    let failure = world.call("").await.unwrap_err();
    assert_eq!(failure.error_type, ErrorType::ShuttingDown);
}

#[tokio::test]
async fn a_module_that_throws_fails_its_callers_with_the_cause() {
    let world = world(Kind::Web, "throw new Error('no database')", "");
    let failure = world.call("").await.unwrap_err();
    assert_eq!(failure.error_type, ErrorType::InitError);
    assert!(failure.message.contains("no database"), "{failure}");
}

#[tokio::test]
async fn a_module_without_a_handler_says_what_it_exports() {
    let world = world(Kind::Web, "export const helper = 1", "");
    let failure = world.call("").await.unwrap_err();
    assert_eq!(failure.error_type, ErrorType::InitError);
    assert!(
        failure
            .message
            .contains("exports no handler; it exports: helper"),
        "{failure}"
    );
}

#[tokio::test]
async fn neighbours_of_a_timeout_end_in_peace_unless_they_are_blocked() {
    let source = "let here; const neighbour = new Promise((resolve) => { here = resolve });
    let gone; const timedOut = new Promise((resolve) => { gone = resolve });
    export default async (req) => {
        const what = await req.text();
        if (what === 'stuck') { req.signal.onabort = gone; await new Promise(() => {}); }
        if (what === 'block') { await neighbour; for (;;); }
        if (what === 'beside a block') { here(); await new Promise(() => {}); }
        if (what === 'beside a stuck one') await timedOut;
        return new Response('fine') }";
    let settings = "timeout = '2s'\nconcurrency = 2\nworkers = { max = 1 }";
    let one_second_later = || tokio::time::sleep(Duration::from_secs(1));
    for (culprit, beside) in [("stuck", "beside a stuck one"), ("block", "beside a block")] {
        let world = world(Kind::Web, source, settings);
        let (timed_out, neighbour) = tokio::join!(world.call(culprit), async {
            one_second_later().await;
            world.call(beside).await
        });
        assert_eq!(
            timed_out.unwrap_err().error_type,
            ErrorType::FunctionTimeout,
            "{culprit}"
        );
        match neighbour {
            Ok(answer) => assert_eq!((culprit, answer.body().as_str()), ("stuck", "fine")),
            Err(failure) => assert!(
                culprit == "block" && failure.message.contains("blocked the event loop"),
                "{failure}"
            ),
        }
    }
}
