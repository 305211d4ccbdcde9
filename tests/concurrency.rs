//! Many at once: places, queues, deployments and deaths under load. Nothing is lost, nothing leaks.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::scope,
    time::Duration,
};

use serde_json::json;

use crate::{knock::Answer, process::until, serving::House};

/// Answers once as many handlers run at the same time as the path says, over all workers; or at once, or after a while.
/// The meeting is a folder: workers share nothing else.
const MEET: &str = "
    import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    export default async (r) => {
      const url = new URL(r.url);
      const [, , , act, count] = url.pathname.split('/');
      if (act === 'sleep') await sleep(Number(count));
      if (act === 'meet') {
        const folder = process.env.MEETING;
        mkdirSync(folder, { recursive: true });
        writeFileSync(folder + '/' + r.headers.get('x-invocation-id'), '');
        while (readdirSync(folder).length < Number(count)) await sleep(5);
      }
      return new Response(String(process.pid));
    };";

fn meeting(settings: &str) -> House {
    let plan = House::serve();
    let folder = plan.home().join("meeting");
    let env = format!(
        "env = {{ MEETING = '{}' }}\ntimeout = '60s'\n{settings}",
        folder.display()
    );
    plan.function("f", |f| f.bun().web(MEET).setting(env))
        .start()
}

/// Asks this often at once.
fn at_once(house: &House, count: usize, path: &str) -> Vec<Answer> {
    scope(|scope| {
        let asked: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| house.get(path)))
            .collect();
        asked
            .into_iter()
            .map(|one| one.join().expect("a caller does not panic"))
            .collect()
    })
}

fn workers(answers: &[Answer]) -> usize {
    let mut pids: Vec<String> = answers.iter().map(Answer::ok).collect();
    pids.sort();
    pids.dedup();
    pids.len()
}

#[test]
fn a_hundred_handlers_run_at_the_same_time_in_ten_workers() {
    let house = meeting("concurrency = 10\nworkers = { max = 10 }");
    let answers = at_once(&house, 100, "/functions/f/meet/100");
    assert_eq!(workers(&answers), 10);
}

#[test]
fn with_the_defaults_ten_run_and_the_eleventh_waits_and_is_served() {
    let house = meeting("");
    scope(|scope| {
        let ten: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| house.get("/functions/f/meet/11")))
            .collect();
        let waiting = || house.cli(&["info", "f", "--json"]).ok().json();
        until("ten are there", || {
            let there = std::fs::read_dir(house.home().join("meeting"));
            there.map_or(0, Iterator::count) == 10
        });
        let eleventh = scope.spawn(|| house.get("/functions/f/now"));
        until("the eleventh waits", || waiting()["waiting"] == 1);
        std::fs::write(house.home().join("meeting").join("the last"), "").unwrap();
        let answers: Vec<Answer> = ten.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(workers(&answers), 10);
        eleventh.join().unwrap().ok();
    });
}

#[test]
fn a_full_queue_refuses_at_once_with_429() {
    let house = meeting("workers = { max = 1 }\nqueue = { depth = 2, wait = '60s' }");
    scope(|scope| {
        let info = || house.cli(&["info", "f", "--json"]).ok().json();
        // One runs for long, two wait: that is all there is room for.
        let long: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| house.get("/functions/f/meet/10")))
            .collect();
        until("one runs and two wait", || {
            house.home().join("meeting").exists() && info()["waiting"] == 2
        });
        let refused = house.get("/functions/f/now");
        refused.fails(429, "QueueFull").says("2");
        assert!(refused.header("retry-after").is_some());
        for name in 0..10 {
            std::fs::write(house.home().join("meeting").join(name.to_string()), "").unwrap();
        }
        for one in long {
            one.join().unwrap().ok();
        }
    });
    house.get("/functions/f/now").ok();
}

#[test]
fn whoever_waits_too_long_gets_503() {
    let house = meeting("workers = { max = 1 }\nqueue = { depth = 10, wait = '200ms' }");
    house.get("/functions/f/now").ok();
    scope(|scope| {
        let held = scope.spawn(|| house.get("/functions/f/meet/2"));
        until("it runs", || house.home().join("meeting").exists());
        let late = house.get("/functions/f/now");
        late.fails(503, "QueueTimeout").says("200ms");
        assert!(late.header("retry-after").is_some());
        std::fs::write(house.home().join("meeting").join("the last"), "").unwrap();
        held.join().unwrap().ok();
    });
    house.get("/functions/f/now").ok();
}

#[test]
fn while_a_queue_does_not_empty_who_comes_is_told_soon() {
    let house = meeting("workers = { max = 1 }\nqueue = { depth = 10, wait = '2s' }");
    house.get("/functions/f/now").ok();
    let late = || house.get("/functions/f/now");
    let told = |answer: &crate::knock::Answer, words: &str| {
        answer.fails(503, "QueueTimeout").says(words);
    };
    scope(|scope| {
        let held = scope.spawn(|| house.get("/functions/f/meet/2"));
        until("it runs", || house.home().join("meeting").exists());
        let first = scope.spawn(late);
        // The second keeps the queue from being empty when the first has given up.
        std::thread::sleep(std::time::Duration::from_millis(1200));
        let second = scope.spawn(late);
        told(&first.join().unwrap(), "waited 2s");
        told(&late(), "waited 200ms");
        told(&second.join().unwrap(), "waited 2s");
        // The queue is empty now, so that patience is whole again.
        told(&late(), "waited 2s");
        std::fs::write(house.home().join("meeting").join("the last"), "").unwrap();
        held.join().unwrap().ok();
    });
    house.get("/functions/f/now").ok();
}

#[test]
fn callers_that_leave_the_queue_are_forgotten() {
    let house = meeting("workers = { max = 1 }\nqueue = { depth = 5, wait = '60s' }");
    let info = || house.cli(&["info", "f", "--json"]).ok().json();
    scope(|scope| {
        let held = scope.spawn(|| house.get("/functions/f/meet/2"));
        until("it runs", || house.home().join("meeting").exists());
        let gone: Vec<_> = (0..5)
            .map(|_| house.ask("GET", "/functions/f/now").open())
            .collect();
        until("five wait", || info()["waiting"] == 5);
        drop(gone);
        until("nobody waits", || info()["waiting"] == 0);
        std::fs::write(house.home().join("meeting").join("the last"), "").unwrap();
        held.join().unwrap().ok();
    });
    house.get("/functions/f/now").ok();
}

/// Asks again and again from several threads until told to stop; returns what was not a 200.
fn under_load(
    house: &House,
    path: &str,
    threads: usize,
    act: impl FnOnce(),
) -> (usize, Vec<(u16, String)>) {
    let stop = AtomicBool::new(false);
    scope(|scope| {
        let callers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let (mut count, mut bad) = (0, Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let answer = house.get(path);
                        count += 1;
                        if answer.status != 200 {
                            bad.push((answer.status, answer.text()));
                        }
                    }
                    (count, bad)
                })
            })
            .collect();
        act();
        stop.store(true, Ordering::Relaxed);
        let mut all = (0, Vec::new());
        for caller in callers {
            let (count, bad) = caller.join().expect("a caller does not panic");
            all.0 += count;
            all.1.extend(bad);
        }
        all
    })
}

#[test]
fn deployments_under_load_lose_no_request() {
    for runtime in ["bun", "isolate"] {
        let source = |n: u32| format!("export default async (r) => new Response('{n}')");
        let house = House::serve()
            .function("f", |f| f.on(runtime).web(source(0)))
            .start();
        let (count, bad) = under_load(&house, "/functions/f", 8, || {
            for n in 1..=4 {
                house.save("src/f.js", &source(n));
                house.deploy().ok();
                until("the new version answers", || {
                    house.get("/functions/f").text() == n.to_string()
                });
            }
            house.cli(&["rollback", "f"]).ok();
        });
        assert!(
            bad.is_empty(),
            "{runtime}: {} of {count}: {:?}",
            bad.len(),
            bad.first()
        );
    }
}

#[test]
fn killing_workers_under_load_costs_only_what_they_ran() {
    let house = meeting("concurrency = 4\nworkers = { max = 3 }");
    let (count, bad) = under_load(&house, "/functions/f/sleep/10", 12, || {
        for _ in 0..8 {
            until("there are workers", || !house.bun_workers().is_empty());
            if let Some(worker) = house.bun_workers().last() {
                worker.kill();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let crashed = |(status, text): &&(u16, String)| {
        *status == 502 && text.contains("WorkerCrashed") && text.contains("SIGKILL")
    };
    let others: Vec<_> = bad.iter().filter(|one| !crashed(one)).collect();
    assert!(others.is_empty(), "of {count}: {others:?}");
    assert!(
        bad.len() <= 8 * 4,
        "each death costs at most its four places: {}",
        bad.len()
    );
    // No place was lost: as many as ever run at once.
    let answers = at_once(&house, 12, "/functions/f/meet/12");
    assert_eq!(workers(&answers), 3);
    let idle = || house.cli(&["info", "f", "--json"]).ok().json()["workers"]["busy"].clone();
    until("all are idle again", || idle() == 0);
}

#[test]
fn timeouts_and_callers_that_leave_give_their_places_back() {
    let house =
        meeting("concurrency = 2\nworkers = { max = 2 }\nqueue = { depth = 100, wait = '60s' }");
    for _ in 0..5 {
        let leaving: Vec<_> = (0..6)
            .map(|_| house.ask("GET", "/functions/f/sleep/50").open())
            .collect();
        drop(leaving);
    }
    let answers = at_once(&house, 4, "/functions/f/meet/4");
    assert_eq!(workers(&answers), 2);
}

#[test]
fn isolate_invocations_run_side_by_side_and_apart() {
    let source = "let seen = 0; export const handler = (event) => { let x = 0; for (let i = 0; i < 200000; i++) x += i; return [event.n, ++seen]; }";
    let house = House::serve().function("f", |f| f.event(source)).start();
    scope(|scope| {
        let house = &house;
        let asked: Vec<_> = (0..40)
            .map(|n| scope.spawn(move || (n, house.invoke("f", &json!({"n": n})))))
            .collect();
        for one in asked {
            let (n, invoked) = one.join().unwrap();
            assert_eq!(invoked["result"], json!([n, 1]), "{invoked}");
        }
    });
}

#[test]
fn two_deployments_at_once_both_end_well() {
    let house = House::serve()
        .function("a", |f| f.web("export default () => new Response('a')"))
        .function("b", |f| {
            f.bun().web("export default () => new Response('b')")
        })
        .start();
    house.save("src/a.js", "export default () => new Response('a2')");
    house.save("src/b.js", "export default () => new Response('b2')");
    scope(|scope| {
        for one in [(); 4].map(|()| scope.spawn(|| house.deploy())) {
            one.join().unwrap().ok();
        }
    });
    assert_eq!(house.get("/functions/a").ok(), "a2");
    assert_eq!(house.get("/functions/b").ok(), "b2");
    let versions = house.cli(&["versions", "a", "--json"]).ok().json();
    assert_eq!(versions.as_array().unwrap().len(), 2, "{versions}");
}

#[test]
fn minimum_workers_are_warm_before_the_first_request() {
    let house = meeting("workers = { min = 2, max = 4 }");
    until("two are warm", || house.bun_workers().len() == 2);
    house.get("/functions/f/now").ok();
}

#[test]
fn idle_workers_end_after_their_time() {
    let house = meeting("workers = { idle = '300ms' }");
    house.get("/functions/f/now").ok();
    until("the idle worker ended", || house.bun_workers().is_empty());
    house.get("/functions/f/now").ok();
}

#[test]
fn worn_workers_make_room_under_load_and_nothing_is_lost() {
    for (limit, settings) in [
        ("worker_invocations=20", "workers = { min = 2, max = 2 }"),
        ("worker_age=1s", "concurrency = 4\nworkers = { max = 2 }"),
    ] {
        let plan = House::serve().flag("--limit").flag(limit);
        let house = plan
            .function("f", |f| f.bun().web(MEET).setting(settings))
            .start();
        let first = house.get("/functions/f/now").ok();
        let (count, bad) = under_load(&house, "/functions/f/sleep/5", 8, || {
            let mut seen = vec![first];
            until("three others have answered", || {
                let pid = house.get("/functions/f/now").ok();
                if !seen.contains(&pid) {
                    seen.push(pid);
                }
                seen.len() > 3
            });
        });
        assert!(
            bad.is_empty(),
            "{limit}: {} of {count}: {:?}",
            bad.len(),
            bad.first()
        );
    }
}
