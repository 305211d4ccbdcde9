//! Deadlines, and what becomes of whoever else is in the same worker.

use serde_json::json;

use crate::{process::until, serving::House};

/// Sleeps without blocking, blocks, or answers.
const WORK: &str = "
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    export default async (r) => {
      const url = new URL(r.url);
      const [, , , act, ms] = url.pathname.split('/');
      r.signal.addEventListener('abort', () => console.log(act + ' aborted'));
      console.log(act + ' begins');
      if (act === 'block') while (true);
      if (act === 'sleep') await sleep(Number(ms));
      if (act === 'trickle') return new Response(new ReadableStream({
        async start(c) { for (;;) { c.enqueue('x'); await sleep(20); } }
      }));
      return new Response(String(process.pid));
    };";

fn work(settings: &str) -> House {
    House::serve()
        .function("work", |f| f.bun().web(WORK).setting(settings))
        .start()
}

#[test]
fn a_slow_handler_gets_504_and_its_signal_fires() {
    let house = work("timeout = '300ms'");
    let answer = house.get("/functions/work/sleep/60000");
    answer.fails(504, "FunctionTimeout").says("300ms");
    assert!(answer.header("x-invocation-id").is_some());
    house.record("work", |record| {
        record["outcome"] == "FunctionTimeout" && record["status"] == 504
    });
    house.get("/functions/work/now").ok();
}

#[test]
fn a_worker_that_timed_out_alone_is_killed() {
    let house = work("timeout = '300ms'");
    let before = house.get("/functions/work/now").ok();
    house
        .get("/functions/work/sleep/60000")
        .fails(504, "FunctionTimeout");
    until("the worker is gone", || {
        !house
            .bun_workers()
            .iter()
            .any(|worker| worker.pid.to_string() == before)
    });
    assert_ne!(house.get("/functions/work/now").ok(), before);
}

#[test]
fn neighbours_of_a_timeout_finish_and_then_the_worker_goes() {
    let house = work("timeout = '2s'\nconcurrency = 3\nworkers = { max = 1 }");
    std::thread::scope(|scope| {
        let late = scope.spawn(|| house.get("/functions/work/sleep/60000"));
        house.logged("work", "sleep begins");
        // The neighbour begins a second later and would be past the other's deadline when it ends.
        std::thread::sleep(std::time::Duration::from_millis(1000));
        let neighbour = scope.spawn(|| house.get("/functions/work/sleep/1500"));
        late.join().unwrap().fails(504, "FunctionTimeout");
        let pid = neighbour.join().unwrap().ok();
        until("the worker is gone", || {
            !house
                .bun_workers()
                .iter()
                .any(|worker| worker.pid.to_string() == pid)
        });
    });
    house.get("/functions/work/now").ok();
}

#[test]
fn neighbours_of_a_blocked_loop_fail_with_that_cause() {
    let house = work("timeout = '1s'\nconcurrency = 3\nworkers = { max = 1 }");
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| house.get("/functions/work/sleep/60000"));
        house.logged("work", "sleep begins");
        let blocker = scope.spawn(|| house.get("/functions/work/block"));
        let (neighbour, blocker) = (neighbour.join().unwrap(), blocker.join().unwrap());
        // Whichever deadline comes first finds the loop blocked.
        let mut outcomes = [neighbour.failure(), blocker.failure()];
        outcomes.sort();
        let worst = |outcome: &(u16, String)| {
            outcome.1 == "FunctionTimeout" || outcome.1 == "WorkerCrashed"
        };
        assert!(
            outcomes.iter().all(worst) && outcomes.iter().any(|outcome| outcome.0 == 504),
            "{outcomes:?}"
        );
    });
    house.get("/functions/work/now").ok();
}

#[test]
fn timeout_counts_to_the_last_byte() {
    let house = work("timeout = '500ms'");
    let answer = house.get("/functions/work/trickle");
    assert_eq!(answer.status, 200);
    assert!(!answer.is_whole, "it never ends by itself");
    house.record("work", |record| record["outcome"] == "FunctionTimeout");
    house.get("/functions/work/now").ok();
}

#[test]
fn waiting_in_the_queue_does_not_count_as_running() {
    let house = work("timeout = '900ms'\nworkers = { max = 1 }");
    house.get("/functions/work/now").ok();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| house.get("/functions/work/sleep/600")))
            .collect();
        for call in calls {
            call.join().unwrap().ok();
        }
    });
}

#[test]
fn a_module_that_never_finishes_loading_is_an_init_error() {
    let source =
        "await new Promise(() => setInterval(() => {}, 1000)); export const handler = () => 1;";
    let house = House::serve()
        .function("f", |f| f.bun().event(source))
        .start();
    let invoked = house.invoke("f", &json!({}));
    assert_eq!(invoked["outcome"], "InitError", "{invoked}");
    assert!(
        invoked["error"]["message"]
            .as_str()
            .unwrap()
            .contains("10s"),
        "{invoked}"
    );
}
