//! What crosses between a caller and a laptop: bodies, streams, headers, errors, deadlines, cancellation, logs, environment.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{laptop::Laptop, process::until, project::Function, serving::House};

const DEPLOYED: &str = "export default () => new Response('deployed')";

/// A server, and a laptop that has `far`, whose handler is this one.
fn across(describe: impl Fn(Function) -> Function) -> (House, Laptop) {
    let house = House::serve().function("far", |f| f.web(DEPLOYED)).start();
    let laptop = house.laptop().function("far", describe).attach();
    (house, laptop)
}

#[test]
fn a_request_and_its_answer_cross_unchanged() {
    let (house, _laptop) = across(|f| {
        f.bun().web(
            "export default async (r) => new Response(new Uint8Array(await r.arrayBuffer()).reverse(), {
               status: 418,
               headers: [['x-method', r.method], ['x-path', new URL(r.url).pathname + new URL(r.url).search],
                 ['x-two', 'a'], ['x-two', 'b'], ['x-own', r.headers.get('x-own')], ['x-host', r.headers.get('host')]],
             });",
        )
    });
    let every: Vec<u8> = (0..=255).collect();
    let ask = house.ask("PUT", "/functions/far/a%20b?x=1&y=%C3%A9");
    let answer = ask.header("x-own", "caf\u{e9}").body(&every).send();
    let reversed: Vec<u8> = every.into_iter().rev().collect();
    assert_eq!((answer.status, &answer.body), (418, &reversed));
    assert_eq!(answer.header("x-method"), Some("PUT"));
    let path = answer.header("x-path");
    assert_eq!(path, Some("/functions/far/a%20b?x=1&y=%C3%A9"));
    assert_eq!(answer.header("x-two"), Some("a, b"));
    assert_eq!(answer.header("x-host"), Some(house.address.as_str()));
    let own = answer.header("x-own").expect("it came back");
    assert!(own.starts_with("caf"), "{own}");
}

#[test]
fn an_event_and_a_result_of_6_mib_cross() {
    let house = House::serve()
        .function("big", |f| {
            f.event("export const handler = () => 'deployed'")
        })
        .start();
    let _laptop = house
        .laptop()
        .function("big", |f| {
            f.bun().event("export const handler = (event) => event;")
        })
        .attach();
    let event = json!({ "text": "x".repeat((6 << 20) - 20) });
    let invoked = house.invoke("big", &event);
    assert!(invoked["result"] == event, "{:.300}", invoked.to_string());
    let more = json!({ "text": "x".repeat(6 << 20) });
    let path = "/v1/projects/default/functions/big/invoke";
    let refused = house.ask("POST", path).json(&more).send();
    refused.fails(413, "PayloadTooLarge");
}

#[test]
fn chunks_of_both_bodies_cross_as_they_come() {
    let (house, _laptop) = across(|f| {
        f.bun().web(
            "export default (r) => new Response(async function* () {
               yield 'ready\\n';
               for await (const chunk of r.body) yield 'got ' + new TextDecoder().decode(chunk) + '\\n';
               yield 'the end\\n';
             }());",
        )
    });
    let ask = house.ask("POST", "/functions/far");
    let mut wire = ask.header("transfer-encoding", "chunked").open();
    wire.hear("ready");
    wire.send("3\r\none\r\n");
    wire.hear("got one");
    wire.send("3\r\ntwo\r\n");
    wire.hear("got two");
    wire.send("0\r\n\r\n");
    wire.hear("the end");
}

#[test]
fn events_of_a_stream_cross_one_by_one_and_the_handler_hears_the_reader_leave() {
    let bag = House::serve().function("far", |f| f.web(DEPLOYED)).start();
    let (house, bag) = (&bag, bag.laptop());
    let left = bag.home().join("left");
    let source = format!(
        "import {{ writeFileSync }} from 'node:fs';
         export default (r) => {{
           r.signal.addEventListener('abort', () => writeFileSync('{}', ''));
           return new Response(new ReadableStream({{
             start(c) {{ c.enqueue(new TextEncoder().encode('data: one\\n\\n')); }},
           }}), {{ headers: {{ 'content-type': 'text/event-stream' }} }});
         }};",
        left.display()
    );
    let _laptop = bag.function("far", |f| f.bun().web(source)).attach();
    let mut wire = house.ask("GET", "/functions/far").open();
    wire.hear("data: one");
    assert!(!left.exists());
    drop(wire);
    until("the handler hears that its reader left", || left.exists());
}

#[test]
fn errors_cross_with_type_message_and_stack() {
    let (house, mut laptop) = across(|f| {
        f.bun().written_in("ts").web(
            "class Odd extends Error { override name = 'Odd' }
             export default async (r: Request): Promise<Response> => {
               throw new Odd('on the laptop');
             };",
        )
    });
    let answer = house.get("/functions/far");
    answer.fails(502, "HandlerError").says("on the laptop");
    let record = house.record("far", |record| record["outcome"] == "HandlerError");
    assert_eq!(record["attempts"][0]["place"], "live");
    let invoked = house.invoke("far", &Value::Null);
    let error = &invoked["error"];
    assert_eq!(error["type"], "HandlerError");
    let stack = invoked.to_string();
    assert!(
        stack.contains("Odd") && stack.contains("far.ts:3"),
        "{stack}"
    );
    laptop.says("on the laptop");
}

#[test]
fn the_deployed_timeout_holds_on_the_laptop_too() {
    let house = House::serve()
        .function("far", |f| f.web(DEPLOYED).setting("timeout = '500ms'"))
        .start();
    let source = "export default async (r) => {
      if (r.url.endsWith('/sleep')) await Bun.sleep(60_000);
      return new Response('laptop');
    };";
    let _laptop = house
        .laptop()
        .function("far", |f| f.bun().web(source).setting("timeout = '60s'"))
        .attach();
    let answer = house.get("/functions/far/sleep");
    answer.fails(504, "FunctionTimeout");
    assert_eq!(house.get("/functions/far").ok(), "laptop");
}

/// Sets the clock of a program back by a day, for what asks the C library.
const YESTERDAY: &str = "
    #define _GNU_SOURCE
    #include <time.h>
    #include <unistd.h>
    #include <sys/syscall.h>
    int clock_gettime(clockid_t clock, struct timespec *at) {
        int failed = syscall(SYS_clock_gettime, clock, at);
        if (!failed && clock == CLOCK_REALTIME) at->tv_sec -= 86400;
        return failed;
    }";

#[test]
fn clocks_that_differ_by_a_day_change_nothing() {
    let plan = House::serve();
    let library = plan.home().join("yesterday.so");
    let source = plan.home().join("yesterday.c");
    fs::write(&source, YESTERDAY).expect("a file can be written");
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(compile.status().expect("a C compiler runs").success());
    let house = plan
        .variable("LD_PRELOAD", library.to_str().expect("a readable path"))
        .function("left", |f| {
            f.event("export const handler = () => 0")
                .setting("timeout = '20s'")
        })
        .start();
    let source = "export const handler = (e, c) => { console.log('said'); return c.getRemainingTimeInMillis(); }";
    let mut laptop = house
        .laptop()
        .function("left", |f| f.bun().event(source).setting("timeout = '3s'"))
        .attach();
    let left = house.invoke("left", &json!({}))["result"].clone();
    let left = left.as_f64().expect("a number");
    assert!((15_000.0..=20_000.0).contains(&left), "{left}");
    // Each side's records and logs follow its own clock.
    let now = Command::new("date").arg("+%s%3N").output();
    let now = now.expect("`date` is there").stdout;
    let now: f64 = String::from_utf8_lossy(&now)
        .trim()
        .parse()
        .expect("a number");
    let record = house.record("left", |_| true);
    let ago = now - record["arrived"].as_f64().expect("a time");
    assert!((86_000_000.0..87_000_000.0).contains(&ago), "{ago}");
    let line = house.logged("left", "said");
    let ago = now - line["at"].as_f64().expect("a time");
    assert!((86_000_000.0..87_000_000.0).contains(&ago), "{line}");
    laptop.says("said");
}

#[test]
fn a_caller_who_leaves_is_heard_on_the_laptop() {
    let house = House::serve().function("far", |f| f.web(DEPLOYED)).start();
    let bag = house.laptop();
    let gate = crate::laptop::Gate::at(bag.home());
    let _laptop = bag
        .function("far", |f| f.bun().web(gate.handler("laptop")))
        .attach();
    let wire = house.ask("GET", "/functions/far/wait").open();
    gate.sees("began", 1);
    drop(wire);
    gate.sees("left", 1);
    until("its record says so", || {
        let record = house.record("far", |_| true);
        record["outcome"] != "ok"
    });
}

#[test]
fn an_invocation_has_one_id_and_one_trace_on_both_sides() {
    let (house, mut laptop) = across(|f| {
        f.bun().web(
            "export default (r) => {
               console.log('seen by ' + r.headers.get('x-invocation-id'));
               return Response.json([r.headers.get('x-invocation-id'), r.headers.get('traceparent')]);
             }",
        )
    });
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let ask = house.ask("GET", "/functions/far");
    let answer = ask.header("traceparent", &parent).send();
    let id = answer.header("x-invocation-id").expect("an id").to_owned();
    let seen = answer.json();
    assert_eq!(seen[0], id.as_str());
    let seen = seen[1].as_str().expect("a trace");
    assert!(seen.contains(trace), "{seen}");
    let record = house.record("far", |record| record["id"] == id.as_str());
    assert_eq!(record["attempts"][0]["place"], "live");
    // What it logs stands in both logs, under that id.
    let line = house.logged("far", &format!("seen by {id}"));
    assert_eq!(line["invocation"], id.as_str(), "{line}");
    laptop.says(&format!("seen by {id}"));
}

#[test]
fn the_deployed_environment_is_lent_and_rests_on_no_disk() {
    let secret = "lent-and-not-kept-4711";
    let house = House::serve()
        .function("far", |f| {
            f.web(DEPLOYED)
                .setting(format!("env = {{ WHO = '{secret}', ONE = '1' }}"))
        })
        .start();
    house.cli(&["env", "far", "set", "ONE=2"]).ok();
    let source =
        "export default () => Response.json([process.env.WHO, process.env.ONE, process.env.OWN])";
    let mut laptop = house
        .laptop()
        .function("far", |f| {
            f.bun()
                .web(source)
                .setting("env = { OWN = 'own', WHO = 'nobody' }")
        })
        .attach();
    assert_eq!(
        house.get("/functions/far").json(),
        json!([secret, "2", "own"])
    );
    assert!(laptop.said().contains("ONE, WHO"), "{}", laptop.said());
    laptop.interrupt();
    laptop.ended();
    let kept = Command::new("grep")
        .args(["-rlaF", secret])
        .arg(laptop.home())
        .output();
    let kept = kept.expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
    assert!(fs::exists(laptop.folder.join(".bungee")).expect("a folder can be looked at"));
}
