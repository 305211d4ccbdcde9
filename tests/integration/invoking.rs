//! `Invoke` as boto3 uses it, unmodified: results, errors, refusals, qualifiers, events that are run later.

use std::{fs, thread::scope};

use serde_json::{Value, json};

use crate::{
    peers::python,
    process::until,
    project::Function,
    serving::{House, Said},
    signer::Key,
};

pub const HELLO: &str = "export const handler = async (event) => { console.log('hi', event.name); return { hello: event.name ?? null }; }";

pub const BOOM: &str = "export const handler = () => { throw new TypeError('no good'); }";

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {value}"))
}

fn payload(answer: &Value) -> Value {
    serde_json::from_str(text(answer, "Payload"))
        .unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn a_result_and_an_error_of_every_runtime_are_what_aws_would_answer() {
    let on = |runtime, source: &'static str| move |f: Function| f.on(runtime).event(source);
    let mut plan = House::serve();
    let runtimes = ["isolate", "bun", "node"];
    for runtime in runtimes {
        plan = plan
            .function(runtime, on(runtime, HELLO))
            .function(&format!("{runtime}-boom"), on(runtime, BOOM));
    }
    let house = plan.start();
    let key = Key::made_up();
    for runtime in runtimes {
        let boom = format!("{runtime}-boom");
        let calls = json!([
            {"FunctionName": runtime, "Payload": r#"{"name": "ann"}"#, "LogType": "Tail"},
            {"FunctionName": runtime},
            {"FunctionName": boom, "Payload": "1"},
        ]);
        let [greeted, bare, failed] = &key.calls(&house, &calls)[..] else {
            panic!("three answers");
        };
        assert_eq!(payload(greeted), json!({"hello": "ann"}), "{runtime}");
        assert_eq!(
            (&greeted["StatusCode"], &greeted["FunctionError"]),
            (&json!(200), &Value::Null)
        );
        assert_eq!(greeted["ExecutedVersion"], "$LATEST");
        let (id, log) = (text(greeted, "RequestId"), text(greeted, "LogResult"));
        assert!(
            log.starts_with(&format!("START RequestId: {id} Version: $LATEST\n")),
            "{log}"
        );
        assert!(
            log.contains(&format!(
                "\t{id}\tINFO\thi ann\nEND RequestId: {id}\nREPORT"
            )),
            "{log}"
        );
        assert!(
            log.contains("\tMemory Size: 256 MB\tMax Memory Used: "),
            "{log}"
        );
        assert!(log.contains("\tInit Duration: "), "{log}");
        house.record(runtime, |record| {
            record["id"] == id && record["trigger"] == "lambda-api"
        });
        assert_eq!(
            payload(bare),
            json!({"hello": null}),
            "no payload is an empty object"
        );
        assert_eq!(
            (&failed["StatusCode"], &failed["FunctionError"]),
            (&json!(200), &json!("Unhandled"))
        );
        let error = payload(failed);
        assert_eq!(
            (&error["errorType"], &error["errorMessage"]),
            (&json!("TypeError"), &json!("no good"))
        );
        assert_eq!(error["trace"][0], "TypeError: no good", "{error}");
    }
}

#[test]
fn what_ends_a_worker_is_a_function_error_with_its_request_id() {
    let house = House::serve()
        .function("exits", |f| {
            f.bun()
                .event("export const handler = () => process.exit(3)")
        })
        .function("hangs", |f| {
            f.event("export const handler = () => { for (;;); }")
                .setting("timeout = '300ms'")
        })
        .function("large", |f| {
            f.event("export const handler = () => 'x'.repeat(7 << 20)")
        })
        .function("broken", |f| {
            f.bun()
                .event("throw new Error('not loaded'); export const handler = () => 1")
        })
        .start();
    let names = ["exits", "hangs", "large", "broken"];
    let calls: Vec<Value> = names
        .iter()
        .map(|name| json!({"FunctionName": name}))
        .collect();
    let answers = Key::made_up().calls(&house, &calls.into());
    let said = |at: usize| {
        let answer = &answers[at];
        assert_eq!(answer["FunctionError"], "Unhandled", "{answer}");
        let error = payload(answer);
        let message = text(&error, "errorMessage").replace(text(answer, "RequestId"), "ID");
        (text(&error, "errorType").to_owned(), message)
    };
    let is = |at, error_type: &str, message: &str| {
        assert_eq!(said(at), (error_type.into(), message.into()))
    };
    is(
        0,
        "Runtime.ExitError",
        "RequestId: ID Error: Runtime exited with error: exit status 3",
    );
    is(
        1,
        "Sandbox.Timedout",
        "RequestId: ID Error: Task timed out after 0.30 seconds",
    );
    is(
        2,
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size (6291456 bytes).",
    );
    is(3, "Error", "not loaded");
}

#[test]
fn the_end_of_the_log_says_how_it_failed() {
    let raises = "def handler(event, context):\n    raise ValueError('not today')\n";
    let house = House::serve()
        .function("boom", |f| f.on("node").event(BOOM))
        .function("hangs", |f| {
            f.event("export const handler = () => { for (;;); }")
                .setting("timeout = '300ms'")
        })
        .function("exits", |f| {
            f.bun()
                .event("export const handler = () => process.exit(3)")
        })
        .function("broken", |f| {
            f.bun()
                .event("throw new Error('not loaded'); export const handler = () => 1")
        })
        .function("py", |f| f.on("python").written_in("py").event(raises))
        .start();
    let names = ["boom", "hangs", "exits", "broken", "py"];
    let call = |name: &&str| json!({"FunctionName": name, "LogType": "Tail"});
    let calls: Vec<Value> = names.iter().map(call).collect();
    let answers = Key::made_up().calls(&house, &calls.into());
    let tail = |at: usize| {
        let (id, log) = (
            text(&answers[at], "RequestId"),
            text(&answers[at], "LogResult"),
        );
        let (before, _) = log.split_once("END RequestId").expect("an end");
        before.replace(id, "ID")
    };
    let boom = tail(0);
    let (_, error) = boom
        .split_once("\tID\tERROR\tInvoke Error \t")
        .expect(&boom);
    let error: Value = serde_json::from_str(error).expect("JSON");
    assert_eq!(
        (&error["errorType"], &error["stack"][0]),
        (&json!("TypeError"), &json!("TypeError: no good"))
    );
    let hangs = tail(1);
    assert!(
        hangs.ends_with(" ID Task timed out after 0.30 seconds\n\n"),
        "{hangs}"
    );
    let exits =
        "RequestId: ID Error: Runtime exited with error: exit status 3\nRuntime.ExitError\n";
    assert!(tail(2).ends_with(exits), "{}", tail(2));
    let broken = tail(3);
    assert!(
        broken.contains("\tID\tERROR\tUncaught Exception \t") && broken.contains("not loaded"),
        "{broken}"
    );
    let py = tail(4);
    assert_eq!(
        py.matches("[ERROR] ValueError: not today\n").count(),
        1,
        "{py}"
    );
    assert!(py.contains("Traceback (most recent call last):\n"), "{py}");
}

#[test]
fn node_s_load_errors_have_the_names_of_aws() {
    let house = House::serve().start();
    let zips = "
import boto3, io, json, sys, zipfile
def zipped(source):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as archive: archive.writestr('index.js', source)
    return out.getvalue()
c = boto3.client('lambda', endpoint_url=sys.argv[1], region_name='eu-west-1', aws_access_key_id='a', aws_secret_access_key='b')
said = []
for name, source in json.loads(sys.argv[2]):
    c.create_function(FunctionName=name, Runtime='nodejs22.x', Handler='index.handler', Role='arn:aws:iam::000000000000:role/a', Code={'ZipFile': zipped(source)})
    said.append(json.load(c.invoke(FunctionName=name)['Payload']))
print(json.dumps(said))
";
    let sources = json!([
        ["missing", "require('nowhere'); exports.handler = () => 1"],
        ["syntax", "exports.handler = () => {"],
        ["empty", "exports.other = () => 1"],
    ]);
    let url = format!("http://{}", house.address);
    let mut program = python("python");
    program.args(["-c", zips, &url, &sources.to_string()]);
    let said = Said::of(&program.output().expect("python runs"))
        .ok()
        .json();
    let types: Vec<&str> = (0..3).map(|at| text(&said[at], "errorType")).collect();
    assert_eq!(
        types,
        [
            "Runtime.ImportModuleError",
            "Runtime.UserCodeSyntaxError",
            "Runtime.HandlerNotFound"
        ],
        "{said}"
    );
    assert!(
        text(&said[0], "errorMessage").starts_with("Error: Cannot find module 'nowhere'"),
        "{said}"
    );
}

#[test]
fn whoever_waits_too_long_for_a_place_is_throttled_as_on_aws() {
    let mut plan = House::serve();
    let (began, go) = (plan.home().join("began"), plan.home().join("go"));
    let source = format!(
        "import {{ existsSync, writeFileSync }} from 'node:fs';
         export const handler = async () => {{ writeFileSync({began:?}, ''); while (!existsSync({go:?})) await Bun.sleep(10); return 1 }}"
    );
    plan = plan.function("f", |f| {
        f.bun()
            .event(&source)
            .setting("workers = { max = 1 }\nconcurrency = 1\nqueue = { wait = '100ms' }")
    });
    let house = plan.start();
    let path = "/2015-03-31/functions/f/invocations";
    scope(|scope| {
        let first = scope.spawn(|| house.post(path, "{}").ok());
        until("the first runs", || began.exists());
        let late = house.post(path, "{}");
        fs::write(&go, "").expect("a file");
        assert_eq!(
            (
                late.status,
                late.header("x-amzn-errortype"),
                late.header("retry-after")
            ),
            (429, Some("TooManyRequestsException"), Some("1"))
        );
        let said = late.json();
        assert_eq!(
            (&said["message"], &said["Reason"]),
            (
                &json!("Rate Exceeded."),
                &json!("ReservedFunctionConcurrentInvocationLimitExceeded")
            )
        );
        assert_eq!(first.join().expect("no panic"), "1");
    });
}

#[test]
fn an_event_waits_for_a_function_that_takes_no_calls_now() {
    let house = House::serve()
        .function("f", |f| f.bun().event(HELLO))
        .start();
    let key = Key::made_up();
    let event = |name: &str| json!({"FunctionName": "f", "InvocationType": "Event", "Payload": format!("{{\"name\": \"{name}\"}}")});
    let calls = json!([
        {"call": "put_function_concurrency", "FunctionName": "f", "ReservedConcurrentExecutions": 0},
        event("throttled"),
        {"FunctionName": "f"},
        {"call": "delete_function_concurrency", "FunctionName": "f"},
    ]);
    let answers = key.calls(&house, &calls);
    assert_eq!(answers[1]["StatusCode"], 202, "{}", answers[1]);
    assert_eq!(answers[2]["status"], 429);
    house.cli(&["disable", "f"]).ok();
    let answers = key.calls(&house, &json!([event("disabled"), {"FunctionName": "f"}]));
    assert_eq!(answers[0]["StatusCode"], 202, "{}", answers[0]);
    assert_eq!(answers[1]["status"], 403);
    house.cli(&["enable", "f"]).ok();
    house.logged("f", "hi throttled");
    house.logged("f", "hi disabled");
}

#[test]
fn what_is_asked_wrongly_is_refused_in_the_words_of_aws() {
    let house = House::serve().function("hello", |f| f.event(HELLO)).start();
    let large = format!("\"{}\"", "x".repeat(6 << 20));
    let calls = json!([
        {"FunctionName": "nobody"},
        {"FunctionName": "hello", "Qualifier": "nowhere"},
        {"FunctionName": "hello", "Payload": "{bad"},
        {"FunctionName": "hello", "Payload": large},
        {"FunctionName": "hello", "InvocationType": "Event", "Payload": large[..(1 << 20) + 1].to_owned() + "\""},
        {"FunctionName": "hello", "ClientContext": "[1]"},
        {"FunctionName": "hello", "ClientContext": format!("{{\"a\":\"{}\"}}", "x".repeat(2700))},
        {"FunctionName": "hello", "InvocationType": "DryRun"},
        {"FunctionName": "nobody", "InvocationType": "DryRun"},
        {"FunctionName": "hello:nowhere", "InvocationType": "Event"},
        {"call": "invoke_with_response_stream", "FunctionName": "nobody"},
    ]);
    let answers = Key::made_up().calls(&house, &calls);
    let arn = "arn:aws:lambda:eu-west-1:000000000000:function";
    for (at, (status, error, says)) in [
        (
            404,
            "ResourceNotFoundException",
            format!("Function not found: {arn}:nobody"),
        ),
        (
            404,
            "ResourceNotFoundException",
            format!("Function not found: {arn}:hello:nowhere"),
        ),
        (
            400,
            "InvalidRequestContentException",
            "Could not parse request body into json: ".into(),
        ),
        (413, "RequestTooLargeException", "6291456 bytes".into()),
        (
            413,
            "RequestTooLargeException",
            "1048578 byte payload is too large for the Event invocation type (limit 1048576 bytes"
                .into(),
        ),
        (
            400,
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.".into(),
        ),
        (
            400,
            "InvalidRequestContentException",
            "Client context must be no longer than 3583 bytes".into(),
        ),
        (204, "", String::new()),
        (404, "ResourceNotFoundException", "nobody".into()),
        (404, "ResourceNotFoundException", "hello:nowhere".into()),
        (404, "ResourceNotFoundException", "nobody".into()),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = &answers[at];
        if error.is_empty() {
            assert_eq!(
                (&answer["StatusCode"], &answer["error"]),
                (&json!(status), &Value::Null)
            );
            continue;
        }
        assert_eq!(
            (&answer["status"], &answer["error"]),
            (&json!(status), &json!(error)),
            "{at}"
        );
        assert!(text(answer, "message").contains(&says), "{answer}");
    }
}

#[test]
fn a_qualifier_is_an_alias_or_the_latest_and_may_stand_in_the_arn() {
    let house = House::serve()
        .function("f", |f| f.event("export const handler = () => 1"))
        .start();
    house.save("src/f.js", "export const handler = () => 2");
    house.deploy().ok();
    house.cli(&["alias", "f", "stable", "v1"]).ok();
    let arn = "arn:aws:lambda:eu-west-1:000000000000:function:f";
    let calls = json!([
        {"FunctionName": "f", "Qualifier": "stable"},
        {"FunctionName": format!("{arn}:stable")},
        {"FunctionName": "000000000000:function:f", "Qualifier": "$LATEST"},
        {"FunctionName": arn},
    ]);
    let answers = Key::made_up().calls(&house, &calls);
    let got: Vec<Value> = answers.iter().map(payload).collect();
    assert_eq!(got, [json!(1), json!(1), json!(2), json!(2)]);
}

#[test]
fn a_web_handler_gets_the_event_as_a_request_and_answers_with_its_body() {
    let source = "export default async (r) => r.headers.get('x-bungee-trigger') === 'lambda-api' && r.method === 'POST'
        ? (new URL(r.url).pathname === '/' && (await r.json()).json ? Response.json({ got: 1 }) : new Response('plain')) : new Response('?')";
    let house = House::serve()
        .function("web", |f| f.bun().web(source))
        .start();
    let calls = json!([
        {"FunctionName": "web", "Payload": r#"{"json": true}"#},
        {"FunctionName": "web"},
    ]);
    let answers = Key::made_up().calls(&house, &calls);
    assert_eq!(payload(&answers[0]), json!({"got": 1}));
    assert_eq!(payload(&answers[1]), json!("plain"));
}

#[test]
fn an_invocation_of_the_profile_goes_live_unless_it_names_a_version() {
    let house = House::serve()
        .function("f", |f| {
            f.bun().event("export const handler = () => 'deployed'")
        })
        .start();
    let _laptop = house
        .laptop()
        .function("f", |f| {
            f.bun().event("export const handler = () => 'laptop'")
        })
        .attach();
    let calls = json!([
        {"FunctionName": "f"},
        {"FunctionName": "f", "Qualifier": "$LATEST"},
        {"call": "invoke_with_response_stream", "FunctionName": "f"},
    ]);
    let answers = Key::made_up().calls(&house, &calls);
    assert_eq!(payload(&answers[0]), json!("laptop"));
    assert_eq!(payload(&answers[1]), json!("deployed"));
    assert_eq!(answers[2]["pieces"], json!([r#""laptop""#]));
}

#[test]
fn an_event_is_accepted_and_run_later_and_recorded_with_its_id() {
    let house = House::serve()
        .function("later", |f| {
            f.bun().event(HELLO).setting("workers = { max = 1 }")
        })
        .start();
    let call = json!({"FunctionName": "later", "InvocationType": "Event", "Payload": r#"{"name": "soon"}"#});
    let accepted = Key::made_up().call(&house, call);
    assert_eq!(accepted["StatusCode"], 202, "{accepted}");
    assert_eq!(accepted["Payload"], "");
    let line = house.logged("later", "hi soon");
    assert_eq!(line["invocation"], accepted["RequestId"]);
    let id = accepted["RequestId"].clone();
    let record = house.record("later", |record| record["id"] == id);
    assert_eq!(
        (&record["outcome"], &record["trigger"]),
        (&json!("ok"), &json!("lambda-api"))
    );
    until("the queue is empty", || {
        !house.get("/metrics").ok().contains("bungee_async_depth{")
    });
}

#[test]
fn a_python_function_sees_who_called_and_its_error_is_handed_on_as_it_wrote_it() {
    let source = "
def handler(event, context):
    if event.get('boom'):
        raise ValueError('not today')
    client = context.client_context
    return [context.invoked_function_arn, client and client.custom, context.aws_request_id]
";
    let house = House::serve()
        .function("py", |f| f.on("python").written_in("py").event(source))
        .start();
    let calls = json!([
        {"FunctionName": "py", "ClientContext": "{\"custom\": {\"n\": \"\u{17e}\"}}", "Qualifier": "$LATEST"},
        {"FunctionName": "py", "Payload": "{\"boom\": 1}"},
    ]);
    let answers = Key::made_up().calls(&house, &calls);
    let arn = "arn:aws:lambda:eu-west-1:000000000000:function:py:$LATEST";
    let id = &answers[0]["RequestId"];
    assert_eq!(payload(&answers[0]), json!([arn, {"n": "\u{17e}"}, id]));
    assert_eq!(answers[1]["FunctionError"], "Unhandled");
    let error = payload(&answers[1]);
    assert_eq!(
        (&error["errorType"], &error["errorMessage"]),
        (&json!("ValueError"), &json!("not today"))
    );
    assert!(
        error["stackTrace"][0]
            .as_str()
            .is_some_and(|line| line.contains("not today")),
        "{error}"
    );
}

#[test]
fn published_numbers_are_invoked_and_named_and_no_concurrency_lets_nothing_in() {
    let house = House::serve()
        .function("f", |f| f.event("export const handler = () => 1"))
        .start();
    let key = Key::made_up();
    let published = key.call(
        &house,
        json!({"call": "publish_version", "FunctionName": "f"}),
    );
    assert_eq!(published["Version"], "1", "{published}");
    house.save("src/f.js", "export const handler = () => 2");
    house.deploy().ok();
    let calls = json!([
        {"call": "create_alias", "FunctionName": "f", "Name": "stable", "FunctionVersion": "1"},
        {"FunctionName": "f", "Qualifier": "1"},
        {"FunctionName": "f:stable"},
        {"FunctionName": "f"},
        {"FunctionName": "f", "Qualifier": "2"},
        {"FunctionName": "f", "Qualifier": "1", "InvocationType": "Event"},
        {"call": "put_function_concurrency", "FunctionName": "f", "ReservedConcurrentExecutions": 0},
        {"FunctionName": "f"},
    ]);
    let answers = key.calls(&house, &calls);
    let got = |at: usize| {
        (
            payload(&answers[at]),
            answers[at]["ExecutedVersion"].clone(),
        )
    };
    assert_eq!(got(1), (json!(1), json!("1")));
    assert_eq!(got(2), (json!(1), json!("1")));
    assert_eq!(got(3), (json!(2), json!("$LATEST")));
    assert_eq!(answers[4]["error"], "ResourceNotFoundException");
    assert_eq!(answers[5]["StatusCode"], 202);
    assert_eq!(
        (&answers[7]["error"], &answers[7]["status"]),
        (&json!("TooManyRequestsException"), &json!(429))
    );
}
