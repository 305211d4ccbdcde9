//! `Invoke` as boto3 uses it, unmodified: results, errors, refusals, qualifiers, events that are run later.

use serde_json::{Value, json};

use crate::{process::until, project::Function, serving::House, signer::Key};

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
    let (error_type, message) = said(2);
    assert_eq!(error_type, "Function.ResponseSizeTooLarge");
    assert!(message.contains("6MB"), "{message}");
    is(3, "Error", "not loaded");
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
