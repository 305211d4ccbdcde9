//! Sudden deaths: of the server, of workers. No orphans, nothing lost, the next start finds everything.

use serde_json::json;

use crate::{
    process::{Process, until},
    serving::House,
};

const SPAWNS: &str = "
    import { spawn } from 'node:child_process';
    export const handler = () => {
      const plain = spawn('sleep', ['1000'], { stdio: 'ignore' });
      return [process.pid, plain.pid];
    };";

fn process(value: &serde_json::Value) -> Process {
    let pid = i32::try_from(value.as_i64().expect("a number")).expect("a process number");
    Process::find(pid).unwrap_or_else(|| panic!("{pid} runs"))
}

#[test]
fn kill_9_of_the_server_leaves_no_orphan_not_even_of_user_code() {
    let mut house = House::serve()
        .function("spawns", |f| f.bun().event(SPAWNS))
        .function("isolated", |f| f.event("export const handler = () => 1"))
        .start();
    let result = house.invoke("spawns", &json!({}))["result"].clone();
    house.invoke("isolated", &json!({}));
    let mut all = house.children();
    all.extend([process(&result[0]), process(&result[1])]);
    assert!(all.len() >= 4, "{all:?}");
    house.kill9();
    House::all_gone(&all);
}

#[test]
fn kill_9_in_the_middle_of_an_invocation_leaves_no_orphan() {
    let house_of = |f: crate::project::Function| {
        f.bun().event("export const handler = async () => { console.log('begins'); await new Promise((r) => setTimeout(r, 1e6)); }")
    };
    let mut house = House::serve().function("f", house_of).start();
    let path = "/v1/projects/default/functions/f/invoke";
    let _wire = house.ask("POST", path).json(&json!({})).open();
    house.logged("f", "begins");
    let all = house.children();
    house.kill9();
    House::all_gone(&all);
}

#[test]
fn after_kill_9_the_next_start_takes_lock_socket_and_port_and_knows_everything() {
    let mut house = House::serve()
        .function("hello", |f| {
            f.web("export default () => new Response('hello')")
                .setting("routes = ['GET /hi/:x']")
        })
        .function("bun", |f| {
            f.bun().web("export default () => new Response('bun')")
        })
        .start();
    house.get("/functions/bun").ok();
    house.kill9();
    assert!(house.socket().exists(), "kill -9 leaves the socket's file");
    house.restart();
    assert_eq!(house.get("/functions/hello").ok(), "hello");
    assert_eq!(house.get("/hi/1").ok(), "hello");
    assert_eq!(house.get("/functions/bun").ok(), "bun");
    let socket = format!("unix:{}", house.socket().display());
    house.cli(&["list", "--server", &socket]).ok();
}

#[test]
fn kill_9_during_deployments_leaves_a_function_that_answers() {
    let mut house = House::serve()
        .function("f", |f| f.web("export default () => new Response('0')"))
        .start();
    for round in 1..=3 {
        house.save(
            "src/f.js",
            &format!("export default () => new Response('{round}')"),
        );
        let folder = house.folder.to_str().unwrap().to_owned();
        let mut deploying = house
            .command(&["deploy", &folder])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Somewhere in the middle; wherever it is, the promise is the same.
        std::thread::sleep(std::time::Duration::from_millis(15 * round));
        house.kill9();
        deploying.wait().unwrap();
        house.restart();
        let answered: u64 = house.get("/functions/f").ok().parse().unwrap();
        assert!(answered <= round);
        house.deploy().ok();
        assert_eq!(house.get("/functions/f").ok(), round.to_string());
    }
}

#[test]
fn a_killed_idle_worker_is_replaced_and_the_request_succeeds() {
    let house = House::serve()
        .function("f", |f| {
            f.bun()
                .web("export default () => new Response(String(process.pid))")
        })
        .start();
    for _ in 0..3 {
        let first = house.get("/functions/f").ok();
        let worker = process(&first.parse::<i64>().unwrap().into());
        worker.kill();
        House::all_gone(&[worker]);
        until("the server knows", || {
            house.cli(&["info", "f", "--json"]).ok().json()["workers"]["idle"] == 0
        });
        assert_ne!(house.get("/functions/f").ok(), first);
    }
}

#[test]
fn a_killed_busy_worker_fails_only_what_it_ran() {
    let source = "export default async (r) => { if (r.url.endsWith('wait')) { console.log('waits'); await new Promise((d) => setTimeout(d, 1e6)); } return new Response('ok'); }";
    let house = House::serve()
        .function("f", |f| f.bun().web(source))
        .start();
    let mut wire = house.ask("GET", "/functions/f/wait").open();
    house.logged("f", "waits");
    for worker in house.bun_workers() {
        worker.kill();
    }
    wire.answer().fails(502, "WorkerCrashed").says("SIGKILL");
    house.get("/functions/f").ok();
}

#[test]
fn a_killed_isolate_child_is_replaced() {
    let house = House::serve()
        .function("f", |f| f.event("export const handler = () => 'ok'"))
        .start();
    for _ in 0..3 {
        assert_eq!(house.invoke("f", &json!({}))["result"], "ok");
        for child in house.children() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid));
            if status.is_ok_and(|status| status.contains("Seccomp:\t2")) {
                child.kill();
            }
        }
        until("a good answer again", || {
            house.invoke("f", &json!({}))["result"] == "ok"
        });
    }
}

#[test]
fn children_of_user_code_die_with_their_worker() {
    let house = House::serve()
        .function("f", |f| f.bun().event(SPAWNS).setting("timeout = '30s'"))
        .start();
    let result = house.invoke("f", &json!({}))["result"].clone();
    let (worker, child) = (process(&result[0]), process(&result[1]));
    worker.kill();
    House::all_gone(&[worker, child]);
}
