//! Recordings of what must not be kept, of what is too large, and of what is none.

use std::fs;

use serde_json::{Value, json};

use crate::serving::{House, cli_in};

const SWALLOWS: &str = "
    export default async (request) => {
      if (request.method === 'GET') return new Response('up');
      let size = 0;
      for await (const piece of request.body) size += piece.length;
      console.log('swallowed', size);
      if (request.headers.get('x-fail')) throw new Error('full');
      return new Response(String(size));
    };";

fn id_of(house: &House, name: &str) -> String {
    let record = house.record(name, |record| record["recording"] == true);
    record["id"].as_str().expect("an id").to_owned()
}

fn export(house: &House, id: &str) -> String {
    house.cli(&["replay", id, "--export", "-"]).ok().stdout
}

/// All that the server has written anywhere.
fn written(house: &House) -> Vec<u8> {
    let files = fs::read_dir(house.data()).expect("the data folder is there");
    let files = files.map(|file| file.expect("a file").path());
    let mut all = house.said().into_bytes();
    for file in files.filter(|file| file.is_file()) {
        all.extend(fs::read(file).expect("a file can be read"));
    }
    all
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|part| part == needle.as_bytes())
}

#[test]
fn a_secret_that_is_redacted_is_written_nowhere() {
    let source = "
        export default async (request) => {
          const { card, users } = await request.json();
          const answer = { card: { number: card.number }, users, marker: 'MARKER' };
          const headers = { 'set-cookie': 'id=SECRET-six', 'x-own': 'SECRET-seven' };
          if (request.headers.get('x-fail')) throw new Error('failed');
          return Response.json(answer, { headers });
        };";
    let rules =
        "record = 'all'\nredact = ['header:X-Own', 'json:$.card.number', 'json:$.users[*].email']";
    let house = House::serve()
        .function("pay", |f| f.bun().web(source).setting(rules))
        .start();
    let body = json!({"card": {"number": "SECRET-one"}, "users": [{"email": "SECRET-two"}]});
    let ask = || {
        house
            .ask("POST", "/functions/pay")
            .header("x-own", "SECRET-three")
            .header("authorization", "Bearer SECRET-four")
            .header("cookie", "a=SECRET-five")
            .json(&body)
    };
    assert!(
        ask().send().ok().contains("SECRET-one"),
        "the handler gets it all"
    );
    let id = id_of(&house, "pay");
    ask()
        .header("x-fail", "1")
        .send()
        .fails(502, "HandlerError");
    house.record("pay", |record| record["outcome"] == "HandlerError");
    let not_json = house
        .ask("POST", "/functions/pay")
        .body("card=SECRET-eight");
    not_json.send().fails(502, "HandlerError");
    let exported = export(&house, &id);
    for needle in [
        "MARKER",
        "[redacted]",
        "json:$.card.number",
        "header:set-cookie",
    ] {
        assert!(exported.contains(needle), "no {needle} in {exported}");
    }
    assert!(!exported.contains("SECRET"), "{exported}");
    let written = written(&house);
    assert!(
        contains(&written, "MARKER"),
        "the recordings are in these files"
    );
    assert!(!contains(&written, "SECRET"), "a secret was written");
    let said = house.cli(&["replay", &id]).ok();
    said.says("stands for what was taken out");
}

#[test]
fn kill_9_keeps_what_was_recorded() {
    let mut house = House::serve()
        .function("f", |f| {
            f.event("export const handler = (event) => event")
                .setting("record = 'all'")
        })
        .start();
    house.invoke("f", &json!({"kept": true}));
    let id = id_of(&house, "f");
    house.kill9();
    house.restart();
    let said = house.cli(&["replay", &id]).ok();
    assert_eq!(said.stdout, "{\"kept\":true}\n");
}

#[test]
fn a_body_past_the_limit_is_kept_cut_and_says_so() {
    let house = House::serve()
        .function("swallow", |f| {
            f.bun()
                .web(SWALLOWS)
                .setting("record = 'all'\nmemory = '512MB'")
        })
        .flag("--limit=recorded_request=1MB")
        .start();
    let body = vec![b'x'; (1 << 20) + 7];
    assert_eq!(house.post("/functions/swallow", body).ok(), "1048583");
    let id = id_of(&house, "swallow");
    let exported: Value = serde_json::from_str(&export(&house, &id)).expect("JSON");
    let body = &exported["request"]["web"]["body"];
    assert_eq!(
        (&body["size"], &body["cut"]),
        (&json!(1_048_583), &json!(true))
    );
    assert_eq!(body["text"].as_str().map(str::len), Some(1 << 20));
    let said = house.cli(&["replay", &id]).ends(2);
    said.says("was cut: 1048576 of 1048583 bytes were kept");
}

#[test]
fn an_upload_is_not_gathered_whether_recorded_or_not() {
    for (setting, most) in [("record = 'none'", 12), ("record = 'failed'", 24)] {
        let house = House::serve()
            .function("swallow", |f| f.bun().web(SWALLOWS).setting(setting))
            .start();
        house.get("/functions/swallow").ok();
        let before = house.memory_mib();
        let mut wire = house.wire();
        wire.send(
            "POST /functions/swallow HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        for _ in 0..64 {
            wire.send_chunk(vec![b'x'; 1 << 20]);
        }
        let now = house.memory_mib();
        assert!(
            now < before + most,
            "{setting}: {before} MiB became {now} MiB"
        );
        wire.send_chunk("");
        assert_eq!(wire.answer().ok(), (64 << 20).to_string());
        house.record("swallow", |record| record["method"] == "POST");
        let found = house.cli(&["invocations", "swallow", "--json"]).ok();
        assert!(!found.stdout.contains("\"recording\""), "{found:?}");
    }
}

#[test]
fn what_is_no_recording_is_refused_in_words() {
    let house = House::serve()
        .function("f", |f| f.event("export const handler = (event) => event"))
        .start();
    let replay = |text: &str| {
        let file = house.home().join("file.json");
        fs::write(&file, text).expect("a file can be written");
        house.cli(&["replay", file.to_str().expect("a readable path")])
    };
    replay("{").ends(3).says("no recording of Bungee");
    replay("{\"a\":1}").ends(3).says("no recording of Bungee");
    replay("{\"bungee_recording\":2}")
        .ends(3)
        .says("format 2")
        .says("newer bungee");
    replay("{\"bungee_recording\":1}").ends(3).says("damaged");
    house
        .cli(&["replay", "nothing.json"])
        .ends(2)
        .says("neither an invocation's id nor a file");
    let unknown = "019a9d3c-52aa-7c40-b3f1-6f2d61ef0f1a";
    let said = house.cli(&["replay", unknown]).ends(4);
    said.says(unknown).says("record = \"all\"");
    let post = |body: Value| {
        let path = "/v1/projects/default/functions/f/replay";
        house.ask("POST", path).json(&body).send()
    };
    post(json!({}))
        .fails(400, "BadRequest")
        .says("`id`, or `recording`");
    post(json!({"id": "x"}))
        .fails(400, "BadRequest")
        .says("no id");
    post(json!({"recording": {"bungee_recording": 9}}))
        .fails(400, "BadRequest")
        .says("format 9");
    let mut recording = json!({
        "bungee_recording": 1, "id": unknown, "function": {"project": "default", "name": "f"},
        "trigger": "http", "arrived": 0, "outcome": "ok",
        "request": {"web": {"method": "GET", "url": "/", "headers": [["a b", "c"]], "body": {"size": 0}}},
    });
    post(json!({"recording": recording}))
        .fails(400, "BadRequest")
        .says("the header `a b`");
    recording["request"] = json!({"event": {"size": 1, "text": "{"}});
    post(json!({"recording": recording}))
        .fails(400, "BadRequest")
        .says("no JSON");
    recording["request"] = json!({"event": {"size": 2, "base64": "%"}});
    post(json!({"recording": recording}))
        .fails(400, "BadRequest")
        .says("no base64");
    recording["request"] = json!({"event": {"size": 2, "text": "{}"}});
    post(json!({"recording": recording})).ok();
}

#[test]
fn settings_of_recording_are_checked_to_the_line() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (line, says) in [
        ("record = 'sometimes'", "none of: none, failed, all"),
        ("record = 'fialed'", "did you mean `failed`?"),
        ("redact = 'header:x'", "must be a list"),
        ("redact = ['cookie']", "header:NAME"),
        ("redact = ['header:a b']", "names no header"),
        ("redact = ['json:card.number']", "is no JSON path"),
    ] {
        let text = format!("[functions.f]\nentry = 'f.js'\n{line}\n");
        fs::write(folder.path().join("bungee.toml"), text).expect("a file can be written");
        fs::write(folder.path().join("f.js"), "").expect("a file can be written");
        let said = cli_in(folder.path(), &["deploy"]).ends(3);
        said.says("bungee.toml:3").says(says);
    }
}

#[test]
fn recordings_past_their_size_go_oldest_first() {
    let mut house = House::serve()
        .function("f", |f| {
            f.event("export const handler = () => 1")
                .setting("record = 'all'")
        })
        .flag("--limit=keep_recordings=1MB")
        .start();
    let large = "x".repeat(200 << 10);
    for number in 0..8 {
        house.invoke("f", &json!({"number": number, "large": large}));
    }
    let kept = |house: &House| -> Vec<bool> {
        let found = house.cli(&["invocations", "f", "--json"]).ok().json();
        let records = found["invocations"].as_array().cloned().unwrap_or_default();
        records
            .iter()
            .map(|record| record["recording"] == true)
            .collect()
    };
    crate::process::until("all have records", || kept(&house).len() == 8);
    // Pruning begins with the start.
    house.kill9();
    house.restart();
    crate::process::until("the oldest are gone", || {
        let kept = kept(&house);
        let newest = kept.iter().take_while(|kept| **kept).count();
        kept.len() == 8 && (2..=5).contains(&newest) && !kept[newest..].contains(&true)
    });
}
