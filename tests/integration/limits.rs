//! Limits: each is named, each refusal says which, and the next request is served.

use crate::serving::House;

const ECHO: &str =
    "export default async (r) => new Response(String((await r.arrayBuffer()).byteLength))";

fn echo() -> House {
    House::serve()
        .function("bun", |f| f.bun().web(ECHO))
        .function("isolated", |f| f.web(ECHO))
        .function("event", |f| {
            f.event("export const handler = (e) => (e.body ?? e.text).length")
        })
        .start()
}

#[test]
fn an_event_of_seven_mebibytes_is_refused_with_the_limit() {
    let house = echo();
    let event = format!("{{\"text\":\"{}\"}}", "x".repeat(7 << 20));
    let answer = house.post("/v1/projects/default/functions/event/invoke", &event);
    answer.fails(413, "PayloadTooLarge").says("6");
    house
        .post("/functions/event", &event)
        .fails(413, "PayloadTooLarge");
    let small = format!("{{\"text\":\"{}\"}}", "x".repeat(5 << 20));
    let answer = house.post("/v1/projects/default/functions/event/invoke", small);
    assert_eq!(answer.json()["result"], 5 << 20);
}

#[test]
fn a_body_past_what_the_isolate_takes_is_refused() {
    let house = echo();
    house
        .post("/functions/isolated", vec![0; 7 << 20])
        .fails(413, "PayloadTooLarge");
    assert_eq!(
        house.post("/functions/isolated", vec![0; 5 << 20]).ok(),
        (5 << 20).to_string()
    );
    assert_eq!(
        house.post("/functions/bun", vec![0; 7 << 20]).ok(),
        (7 << 20).to_string()
    );
}

#[test]
fn a_body_past_100_mebibytes_is_refused_before_it_is_sent() {
    let house = echo();
    let ask = house
        .ask("POST", "/functions/bun")
        .header("content-length", "104857601");
    ask.open()
        .answer()
        .fails(413, "PayloadTooLarge")
        .says("100");
    assert_eq!(house.post("/functions/bun", "x").ok(), "1");
}

#[test]
fn a_chunked_body_past_the_limit_is_cut_off() {
    let house = echo();
    let ask = house
        .ask("POST", "/functions/isolated")
        .header("transfer-encoding", "chunked");
    let mut wire = ask.open();
    for _ in 0..8 {
        wire.send_chunk(vec![0; 1 << 20]);
    }
    wire.answer().fails(413, "PayloadTooLarge");
}

#[test]
fn a_mebibyte_of_headers_is_refused_with_431() {
    let house = echo();
    let answer = house
        .ask("GET", "/functions/bun")
        .header("x-big", &"x".repeat(1 << 20))
        .open()
        .answer();
    answer.fails(431, "PayloadTooLarge").says("64");
    let many = (0..2000).fold(house.ask("GET", "/functions/bun"), |ask, n| {
        ask.header(&format!("x-{n}"), &"y".repeat(500))
    });
    assert_eq!(many.open().answer().status, 431);
    house.get("/functions/bun").ok();
}

#[test]
fn an_event_s_result_past_six_mebibytes_is_refused() {
    let house = House::serve()
        .function("bun", |f| {
            f.bun()
                .event("export const handler = (e) => 'x'.repeat(e.size)")
        })
        .function("isolated", |f| {
            f.event("export const handler = (e) => 'x'.repeat(e.size)")
        })
        .start();
    for name in ["bun", "isolated"] {
        let big = house.invoke(name, &serde_json::json!({"size": 7 << 20}));
        assert_eq!(big["outcome"], "PayloadTooLarge", "{name}");
        let fits = house.invoke(name, &serde_json::json!({"size": 6_000_000}));
        assert_eq!(fits["result"].as_str().unwrap().len(), 6_000_000, "{name}");
    }
}

#[test]
fn a_client_that_never_finishes_its_head_is_let_go() {
    let house = echo();
    let mut slow = house.wire();
    slow.send("GET /functions/bun HTTP/1.1\r\nhost: x\r\n");
    house.get("/functions/bun").ok();
    let heard = slow.hear_the_end();
    assert!(
        heard.is_empty() || heard.starts_with("HTTP/1.1 408"),
        "{heard}"
    );
}

#[test]
fn settings_past_a_limit_are_refused_by_name() {
    let house = echo();
    let source = "[functions.bun]\nentry = 'src/bun.js'\n";
    for (line, word) in [
        ("timeout = '901s'", "timeout"),
        ("memory = '1TB'", "memory"),
        ("concurrency = 0", "concurrency"),
        ("env = { BIG = '''{}''' }", "env"),
    ] {
        let line = line.replace("{}", &"x".repeat(70_000));
        house.save("bungee.toml", &format!("{source}{line}\n"));
        house.deploy().ends(3).says("bungee.toml:3").says(word);
    }
}
