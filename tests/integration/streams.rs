//! Streams of events, which have no end by themselves.

use crate::{process::until, serving::House};

/// Says `n` events and ends, or goes on until its caller leaves.
const EVENTS: &str = "
    const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
    export default (r) => {
      const most = Number(new URL(r.url).searchParams.get('n') ?? Infinity);
      r.signal.addEventListener('abort', () => console.log('told'));
      async function* events() {
        for (let n = 0; n < most; n++) { yield `data: ${n}\\n\\n`; await sleep(50); }
      }
      return new Response(events(), { headers: { 'content-type': 'text/event-stream; charset=utf-8' } });
    };";

fn events(settings: &str) -> House {
    House::serve()
        .function("f", |f| f.bun().web(EVENTS).setting(settings))
        .start()
}

#[test]
fn server_sent_events_outlive_the_timeout() {
    let house = events("timeout = '300ms'");
    let text = house.get("/functions/f?n=20").ok();
    assert!(text.ends_with("data: 19\n\n"), "{text}");
    let record = house.record("f", |record| record["outcome"] == "ok");
    assert!(record["ran_us"].as_i64().unwrap() > 900_000, "{record}");
}

#[test]
fn events_without_a_byte_are_broken_off() {
    let source = "
        export default () => new Response(new ReadableStream({ start(c) { c.enqueue('data: 1\\n\\n'); } }),
          { headers: { 'content-type': 'text/event-stream' } });";
    let house = House::serve()
        .flag("--limit")
        .flag("stream_idle=500ms")
        .function("f", |f| f.bun().web(source))
        .start();
    let answer = house.get("/functions/f");
    assert!(!answer.is_whole, "{answer:?}");
    assert_eq!(answer.text(), "data: 1\n\n");
    let record = house.record("f", |record| record["outcome"] == "FunctionTimeout");
    let message = record["message"].as_str().unwrap();
    assert!(message.contains("stream_idle"), "{message}");
}

#[test]
fn who_stops_listening_frees_the_slot() {
    let house = events("workers = { max = 1 }");
    let mut wire = house.ask("GET", "/functions/f").open();
    wire.hear("data: 3");
    drop(wire);
    house.logged("f", "told");
    house.record("f", |record| record["outcome"] == "Cancelled");
    house.get("/functions/f?n=1").ok();
}

#[test]
fn a_slow_reader_holds_up_nobody() {
    let source = "
        export default (r) => r.url.endsWith('now') ? new Response('now') : new Response(new ReadableStream({
          pull(c) { c.enqueue(new Uint8Array(65536).fill(97)); }
        }));";
    let house = House::serve()
        .function("f", |f| {
            f.bun()
                .web(source)
                .setting("concurrency = 8\nworkers = { max = 1 }")
        })
        .start();
    let mut slow: Vec<_> = (0..4)
        .map(|_| house.ask("GET", "/functions/f/flood").open())
        .collect();
    slow.iter_mut().for_each(|wire| drop(wire.hear("\r\n\r\n")));
    for _ in 0..20 {
        assert_eq!(house.get("/functions/f/now").ok(), "now");
    }
    until("the server holds little of it", || house.memory_mib() < 150);
}

#[test]
fn invoke_tells_an_answer_that_breaks_off_as_a_failure_of_the_function() {
    let source = "export default () => new Response(new ReadableStream({
        async pull(c) { c.enqueue('begun '); await Bun.sleep(50); c.error(new Error('midway')); },
    }))";
    let house = House::serve()
        .function("f", |f| f.bun().web(source))
        .start();
    let said = house.cli(&["invoke", "f", "--http", "GET /"]);
    let said = said.ends(1).says("default/f broke off before its end");
    assert!(said.stdout.starts_with("begun"), "{said:?}");
}
