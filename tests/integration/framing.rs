//! `InvokeWithResponseStream` in frames, and the clients besides boto3: the SDK for JavaScript and cargo-lambda.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::invoking::{BOOM, HELLO, text};
use crate::{
    peers::{peers, python},
    serving::{House, Said},
    signer::Key,
};

/// Gives a piece, and the next only when there is a file; below `boom` it breaks off instead.
const PIECES: &str = "
    import { existsSync } from 'node:fs';
    const sleep = () => new Promise((resolve) => setTimeout(resolve, 5));
    export default async (r) => {
      const { file, boom } = await r.json();
      return new Response(new ReadableStream({
        async start(out) {
          out.enqueue(new TextEncoder().encode('one'));
          while (!existsSync(file)) await sleep();
          if (boom) { process.exit(7); }
          out.enqueue(new TextEncoder().encode('two'));
          out.close();
        },
      }));
    };";

#[test]
fn pieces_come_as_they_are_given_and_the_last_frame_tells_the_end() {
    let house = House::serve()
        .function("pieces", |f| f.bun().web(PIECES))
        .function("hello", |f| f.event(HELLO))
        .function("boom", |f| f.event(BOOM))
        .start();
    let stream = |name: &str, event: Value, touch: Value| json!({"call": "invoke_with_response_stream", "FunctionName": name, "Payload": event.to_string(), "LogType": "Tail", "touch": touch});
    let file = |name: &str| Value::from(house.home().join(name).display().to_string());
    let calls = json!([
        stream("pieces", json!({"file": file("a")}), file("a")),
        stream(
            "pieces",
            json!({"file": file("b"), "boom": true}),
            file("b")
        ),
        stream("hello", json!({"name": "ann"}), Value::Null),
        stream("boom", json!({}), Value::Null),
    ]);
    let answers = Key::made_up().calls(&house, &calls);
    let [whole, broken, plain, failed] = &answers[..] else {
        panic!("four answers");
    };
    assert_eq!(whole["pieces"], json!(["one", "two"]));
    assert_eq!(whole["ErrorCode"], Value::Null);
    assert!(
        text(whole, "LogResult").contains("REPORT RequestId: "),
        "{whole}"
    );
    assert_eq!(broken["pieces"], json!(["one"]));
    assert_eq!(broken["ErrorCode"], "Runtime.ExitError");
    assert!(
        text(broken, "ErrorDetails").contains("exit status 7"),
        "{broken}"
    );
    assert_eq!(plain["pieces"], json!([r#"{"hello":"ann"}"#]));
    assert!(text(plain, "LogResult").contains("hi ann"), "{plain}");
    assert_eq!(
        (&failed["pieces"], &failed["ErrorCode"]),
        (&json!([]), &json!("TypeError"))
    );
    house.record("pieces", |record| {
        record["outcome"] == "WorkerCrashed" && record["id"] == broken["RequestId"]
    });
}

#[test]
fn the_sdk_for_javascript_signs_invokes_and_streams() {
    let house = House::serve().function("hello", |f| f.event(HELLO)).start();
    let key = Key::of(&house, "invoke");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/invoke.mjs");
    let mut node = Command::new("node");
    node.arg(program).arg(peers().join("node"));
    node.args([&format!("http://{}", house.address), &key.id, &key.secret]);
    let got = Said::of(&node.output().expect("node runs")).ok().json();
    assert_eq!(got["payload"], r#"{"hello":"js"}"#);
    assert_eq!(
        (&got["status"], &got["version"]),
        (&json!(200), &json!("$LATEST"))
    );
    assert!(text(&got, "log").contains(text(&got, "id")), "{got}");
    assert_eq!(got["pieces"], json!([r#"{"hello":"js"}"#]));
    assert_eq!(got["complete"], json!({}));
    assert_eq!(
        (&got["refused"]["name"], &got["refused"]["status"]),
        (&json!("ResourceNotFoundException"), &json!(404))
    );
}

#[test]
fn cargo_lambda_invokes_as_if_it_were_its_own_emulator_and_as_if_it_were_aws() {
    let house = House::serve()
        .function("hello", |f| f.event(HELLO))
        .function("boom", |f| f.event(BOOM))
        .start();
    let key = Key::made_up();
    let (host, port) = house.address.rsplit_once(':').expect("an address");
    let invoke = |arguments: &[&str]| {
        let mut command = python("cargo-lambda");
        command.args(["lambda", "invoke"]).args(arguments);
        command.env("AWS_ACCESS_KEY_ID", &key.id);
        command.env("AWS_SECRET_ACCESS_KEY", &key.secret);
        command
            .env("AWS_REGION", "us-east-1")
            .env("HOME", house.home());
        Said::of(&command.output().expect("cargo-lambda runs"))
    };
    let local = ["-A", host, "-P", port];
    let event = ["--data-ascii", r#"{"name":"cargo"}"#];
    let greeted = invoke(&[&local[..], &["hello"], &event].concat()).ok();
    assert_eq!(greeted.json(), json!({"hello": "cargo"}));
    let url = format!("http://{}", house.address);
    let remote = ["--remote", "--endpoint-url", &url];
    let greeted = invoke(&[&remote[..], &["hello"], &event].concat()).ok();
    assert_eq!(greeted.json(), json!({"hello": "cargo"}));
    let failed = invoke(&[&remote[..], &["boom"], &event].concat());
    assert!(
        failed.code != 0 && failed.stderr.contains("no good"),
        "{failed:?}"
    );
}

#[test]
fn a_function_written_for_lambda_streams_with_its_head_and_its_error() {
    let source = "export const handler = awslambda.streamifyResponse(async (event, stream) => {
        if (event.head) stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'x-a': 'b' }, cookies: ['c=1'] });
        stream.write('one');
        if (event.boom) { await new Promise((done) => setTimeout(done, 20)); throw new RangeError('midway'); }
        stream.end('two');
    });";
    let house = House::serve()
        .function("bun", |f| f.bun().event(source))
        .function("node", |f| f.on("node").event(source))
        .start();
    let stream = |name: &str, event: Value| json!({"call": "invoke_with_response_stream", "FunctionName": name, "Payload": event.to_string()});
    for name in ["bun", "node"] {
        let calls = json!([
            stream(name, json!({})),
            stream(name, json!({"head": true})),
            stream(name, json!({"boom": true})),
            {"FunctionName": name},
        ]);
        let answers = Key::made_up().calls(&house, &calls);
        let all = |at: usize| {
            let pieces = answers[at]["pieces"].as_array().expect("pieces");
            pieces.iter().filter_map(Value::as_str).collect::<String>()
        };
        assert_eq!(
            (all(0), &answers[0]["ErrorCode"]),
            ("onetwo".into(), &Value::Null)
        );
        let with_head = all(1);
        let (head, body) = with_head.split_once("\0\0\0\0\0\0\0\0").expect("a head");
        let head: Value = serde_json::from_str(head).expect("the head is JSON");
        assert_eq!(
            (
                &head["statusCode"],
                &head["headers"]["x-a"],
                &head["cookies"]
            ),
            (&json!(201), &json!("b"), &json!(["c=1"]))
        );
        assert_eq!(body, "onetwo");
        assert_eq!(
            (all(2), &answers[2]["ErrorCode"]),
            ("one".into(), &json!("RangeError"))
        );
        assert!(
            text(&answers[2], "ErrorDetails").contains("midway"),
            "{}",
            answers[2]
        );
        assert_eq!(answers[3]["Payload"], "onetwo");
    }
}
