//! Recordings and replays: what an invocation was asked is kept, asked again, and carried elsewhere as one file.

use std::fs;

use serde_json::{Value, json};

use crate::{
    process::until,
    project::Function,
    serving::{House, Said},
};

const ECHO: &str = "
    export default async (request) => {
      const body = new Uint8Array(await request.arrayBuffer());
      return Response.json({
        method: request.method, url: new URL(request.url).pathname + new URL(request.url).search,
        own: request.headers.get('x-own'), trigger: request.headers.get('x-bungee-trigger'),
        params: request.params, bytes: Array.from(body),
      }, { status: 201 });
    };";

const PICKY: &str =
    "export const handler = (event) => { if (event.bad) throw new Error('bad'); return event; }";

fn recorded(name: &str, describe: impl FnOnce(Function) -> Function) -> House {
    House::serve().function(name, describe).start()
}

/// The id of the newest invocation that has a recording.
fn id_of(house: &House, name: &str) -> String {
    let record = house.record(name, |record| record["recording"] == true);
    record["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn result(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn a_web_request_is_asked_again_as_it_was() {
    let house = recorded("echo", |f| {
        f.bun()
            .web(ECHO)
            .setting("record = 'all'\nroutes = ['POST /echo/:what']")
    });
    let ask = house
        .ask("POST", "/echo/a%20b?x=1")
        .header("x-own", "kept")
        .body([0, 255, 10]);
    let first = ask.send();
    assert_eq!(
        (first.status, &first.json()["trigger"]),
        (201, &Value::Null)
    );
    let id = id_of(&house, "echo");
    let said = house.cli(&["replay", &id]).ok();
    let mut again = result(&said);
    assert_eq!(again["trigger"], "replay");
    again["trigger"] = Value::Null;
    assert_eq!(again, first.json());
    assert_eq!(again["bytes"], json!([0, 255, 10]));
    assert_eq!(again["own"], "kept");
    let record = house.record("echo", |record| record["trigger"] == "replay");
    assert_eq!(
        (&record["outcome"], &record["path"]),
        (&json!("ok"), &json!("/echo/a%20b?x=1"))
    );
}

#[test]
fn failures_are_recorded_and_successes_are_not() {
    let house = recorded("picky", |f| f.event(PICKY).setting("record = 'failed'"));
    house.invoke("picky", &json!({"good": 1}));
    house.invoke("picky", &json!({"bad": 1}));
    let id = id_of(&house, "picky");
    let good = house.record("picky", |record| record["outcome"] == "ok");
    assert_eq!(good.get("recording"), None);
    let said = house.cli(&["replay", &id]).ends(1);
    said.says("HandlerError: Error: bad")
        .says("as it was recorded: HandlerError");
    let table = house.cli(&["invocations", "picky"]).ok().stdout;
    assert!(table.contains("RECORDING"), "{table}");
    let unknown = good["id"].as_str().expect("an id");
    let said = house.cli(&["replay", unknown]).ends(4);
    said.says("was not recorded").says("record = \"failed\"");
}

#[test]
fn a_fix_shows_as_a_difference() {
    let house = recorded("picky", |f| f.event(PICKY).setting("record = 'failed'"));
    house.invoke("picky", &json!({"bad": 1}));
    let id = id_of(&house, "picky");
    house.save(
        "src/picky.js",
        "export const handler = (event) => ({ fixed: event.bad });",
    );
    house.deploy().ok();
    let said = house.cli(&["replay", &id]).ok();
    assert_eq!(said.stdout, "{\"fixed\":1}\n");
    said.says("! outcome differs\n- HandlerError: Error: bad\n+ ok");
    let said = house.cli(&["replay", &id, "--json"]).ok().json();
    assert_eq!(said["replayed"]["result"], json!({"fixed": 1}));
    assert_eq!(said["recorded"]["outcome"], "HandlerError");
    assert_eq!(said["differences"][0]["what"], "outcome");
}

#[test]
fn a_replay_runs_on_a_version_that_nothing_points_at() {
    let house = recorded("picky", |f| {
        f.bun().event(PICKY).setting("record = 'failed'")
    });
    house.invoke("picky", &json!({"bad": 1}));
    let id = id_of(&house, "picky");
    house.save("src/picky.js", "export const handler = () => 'new';");
    house.deploy().ok();
    house.cli(&["alias", "picky", "canary", "v2"]).ok();
    house
        .cli(&["replay", &id, "--version", "v1"])
        .ends(1)
        .says("Error: bad");
    let said = house.cli(&["replay", &id, "--alias", "canary"]).ok();
    assert_eq!(said.stdout, "\"new\"\n");
    house.cli(&["replay", &id, "--version", "v9"]).ends(4);
    house.cli(&["replay", &id, "--alias", "nobody"]).ends(4);
    let both = ["replay", &id, "--alias", "canary", "--version", "v1"];
    house.cli(&both).ends(2);
    assert_eq!(house.invoke("picky", &json!({}))["result"], "new");
    until("the worker of v1 has gone with its replay", || {
        house.bun_workers().len() == 1
    });
}

#[test]
fn a_web_request_to_an_event_handler_is_replayed_as_one() {
    let source = "export const handler = (event) => ({ statusCode: 202, body: event.rawPath + ' ' + event.body });";
    let house = recorded("lambda", |f| f.event(source).setting("record = 'all'"));
    let answer = house.post("/functions/lambda/a", "text");
    assert_eq!(answer.status, 202);
    let id = id_of(&house, "lambda");
    let said = house.cli(&["replay", &id, "--json"]).ok().json();
    assert_eq!(said["replayed"]["result"], answer.text());
    assert_eq!(
        (&said["replayed"]["status"], &said["differences"]),
        (&json!(202), &json!([]))
    );
}

#[test]
fn a_recording_travels_as_one_file() {
    let house = recorded("echo", |f| f.bun().web(ECHO).setting("record = 'all'"));
    house.post("/functions/echo/a", "text");
    let id = id_of(&house, "echo");
    let file = house.home().join("bug.bungee.json");
    let path = file.to_str().expect("a readable path");
    house
        .cli(&["replay", &id, "--export", path])
        .ok()
        .says("runs it again");
    let exported: Value =
        serde_json::from_slice(&fs::read(&file).expect("the file is there")).expect("JSON");
    assert_eq!(exported["bungee_recording"], 1);
    assert!(
        exported["digest"]
            .as_str()
            .expect("a digest")
            .starts_with("sha256:")
    );
    let shown = house.cli(&["replay", &id, "--export", "-"]).ok().json();
    assert_eq!(shown, exported);
    let elsewhere = recorded("other", |f| f.bun().web(ECHO));
    elsewhere
        .cli(&["replay", path])
        .ends(4)
        .says("--function NAME");
    let said = elsewhere.cli(&["replay", path, "--function", "other"]).ok();
    assert_eq!(result(&said)["url"], "/functions/echo/a");
}

#[test]
fn a_recording_of_another_server_runs_here() {
    let remote = recorded("echo", |f| f.bun().web(ECHO).setting("record = 'all'"));
    remote.post("/functions/echo/a", "text");
    let id = id_of(&remote, "echo");
    let here = House::dev()
        .function("echo", |f| {
            f.bun()
                .web("export default () => new Response('from here')")
        })
        .start();
    let url = format!("http://{}", remote.address);
    let said = here.cli(&["replay", &id, "--remote", &url]).ok();
    assert_eq!(said.stdout, "from here");
    said.says("! status differs\n- 201\n+ 200")
        .says("! answer differs");
    here.cli(&["replay", &id]).ends(4).says("no invocation");
}

#[test]
fn what_ran_live_is_recorded_on_the_laptop_too() {
    let server = recorded("echo", |f| {
        f.bun().web("export default () => new Response('deployed')")
    });
    let laptop = House::dev()
        .function("echo", |f| f.bun().web(ECHO).setting("record = 'all'"))
        .flag(format!("--remote=http://{}", server.address))
        .start();
    until("the laptop is attached", || {
        laptop.said().contains("runs here")
    });
    let first = server.post("/functions/echo/a", "text");
    assert_eq!(first.status, 201, "it ran on the laptop");
    let id = id_of(&laptop, "echo");
    assert_eq!(first.header("x-invocation-id"), Some(id.as_str()));
    let again = result(&laptop.cli(&["replay", &id]).ok());
    assert_eq!(again["bytes"], first.json()["bytes"]);
}

#[test]
fn everything_is_recorded_where_all_is_asked_for() {
    let house = House::serve()
        .function("picky", |f| f.event(PICKY).setting("record = 'all'"))
        .flag("--limit=records_per_second=1")
        .start();
    for number in 0..20 {
        house.invoke("picky", &json!({"number": number}));
    }
    let found = house.cli(&["invocations", "picky", "--json"]).ok().json();
    let records = found["invocations"].as_array().expect("records");
    let kept = records.iter().filter(|record| record["recording"] == true);
    assert_eq!(kept.count(), 20);
}

#[test]
fn only_who_may_deploy_reads_and_replays() {
    let house = recorded("picky", |f| f.event(PICKY).setting("record = 'all'"));
    house.invoke("picky", &json!({"a": 1}));
    let id = id_of(&house, "picky");
    let socket = house.socket();
    let token = |role| {
        let socket = socket.to_str().expect("a readable path");
        let made = house.cli(&["token", "create", "--role", role, "--socket", socket]);
        made.ok().stdout.trim().to_owned()
    };
    let (invoke, deploy) = (token("invoke"), token("deploy"));
    let base = "/v1/projects/default/functions/picky";
    let replay = json!({"id": id});
    for (method, path) in [
        ("GET", format!("/v1/invocations/{id}")),
        ("GET", format!("{base}/invocations/{id}")),
        ("GET", format!("{base}/invocations/{id}/recording")),
        ("POST", format!("{base}/replay")),
    ] {
        let ask = |token: &str| house.ask(method, &path).json(&replay).token(token).send();
        ask(&invoke).fails(403, "Forbidden");
        ask(&deploy).ok();
    }
    house.cli(&["replay", &id, "--token", &invoke]).ends(6);
    house.cli(&["replay", &id, "--token", &deploy]).ok();
}
