//! Programs that do not get as far as their first invocation; and what layers are for one that does.

use std::fs;

use model::{ErrorType, Failure};

use crate::world::{Plan, plan, until};

async fn refused(plan: Plan) -> Failure {
    let world = plan.start();
    let failure = world.fails("").await;
    assert_eq!(failure.error_type, ErrorType::InitError, "{failure}");
    until("nothing is left", || world.pool.counts().starting == 0).await;
    world.stop().await;
    failure
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_why() {
    let failure = refused(plan().mode(0o644)).await;
    assert_eq!(failure.message, "`bootstrap` is not executable");
    assert_eq!(
        failure.hint.as_deref(),
        Some("run `chmod +x bootstrap`, then deploy it again")
    );
    let failure = refused(plan().program("\x7fELF of another machine")).await;
    assert!(
        failure.message.contains("is no program for this machine"),
        "{failure}"
    );
    // As much of a program as tells that it is one of this machine.
    let ours = fs::read("/proc/self/exe").unwrap();
    let cut = tempfile::NamedTempFile::new().unwrap();
    fs::write(cut.path(), &ours[..20]).unwrap();
    let failure = refused(plan().built(cut.path(), "f")).await;
    assert_eq!(
        failure.message,
        "`bootstrap` cannot be started: exec format error"
    );
    let failure = refused(plan().program("#!/nowhere/at/all\n")).await;
    assert!(failure.message.contains("interpreter"), "{failure}");
}

#[tokio::test]
async fn a_program_that_ends_at_once_says_how_and_what_it_said_last() {
    let failure = refused(plan().program("#!/bin/sh\necho 'no such library' >&2\nexit 3\n")).await;
    assert_eq!(
        failure.message,
        "the worker exited with code 3 before it asked for its first invocation: no such library"
    );
    let failure = refused(plan().program("#!/bin/sh\nkill -SEGV $$\n")).await;
    assert!(failure.message.contains("SIGSEGV"), "{failure}");
}

#[tokio::test]
async fn a_program_that_reports_its_error_is_quoted() {
    let program = "#!/bin/sh\ncurl -s -X POST http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/init/error \
        -H 'Lambda-Runtime-Function-Error-Type: Runtime.NoConfig' -d '{\"errorMessage\":\"no config\",\"errorType\":\"ConfigError\"}'\nsleep 60\n";
    let failure = refused(plan().program(program)).await;
    assert_eq!(failure.message, "ConfigError: no config");
    let fault = failure.fault.unwrap();
    assert!(
        fault
            .reported
            .is_some_and(|report| report.contains("no config"))
    );
}

#[tokio::test]
async fn a_program_that_never_asks_meets_the_limit() {
    let failure = refused(
        plan()
            .limit("init", "200ms")
            .program("#!/bin/sh\nsleep 60\n"),
    )
    .await;
    assert_eq!(
        failure.message,
        "the worker did not ask for its first invocation within 200ms, the limit `init`"
    );
}

#[tokio::test]
async fn layers_lie_below_opt_for_this_worker_alone() {
    let layers = tempfile::tempdir().unwrap();
    fs::write(layers.path().join("greeting"), "hello").unwrap();
    let world = plan()
        .opt(layers.path())
        .setting("env = { PATH = '/usr/bin:/bin' }")
        .start();
    let run = "done(id, [open('/opt/greeting').read(), os.environ['PATH'], os.environ['LD_LIBRARY_PATH']])";
    assert_eq!(
        world.json(run).await,
        serde_json::json!(["hello", "/opt/bin:/usr/bin:/bin", "/opt/lib"])
    );
    assert!(!fs::exists("/opt/greeting").unwrap());
    let run = "
refused = []
for act in (lambda: open('/opt/greeting', 'w'), lambda: open('/opt/new', 'w'), lambda: os.remove('/opt/greeting')):
    try: act()
    except OSError as error: refused.append(error.errno)
done(id, refused)";
    let read_only = rustix::io::Errno::ROFS.raw_os_error();
    assert_eq!(
        world.json(run).await,
        serde_json::json!([read_only, read_only, read_only])
    );
    world.stop().await;
}
