//! What each call is answered, and what becomes of the invocation.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use http::Request;
use model::{ErrorType, Level};
use serde_json::json;

use crate::world::{plan, until};

#[tokio::test]
async fn an_event_comes_with_what_a_client_needs_to_know() {
    let world = plan().start();
    let request = Request::post("/")
        .header(
            "x-bungee-arn",
            "arn:aws:lambda:eu-west-1:000000000000:function:f:7",
        )
        .header("x-bungee-client-context", r#"{"custom":{"a":"1"}}"#)
        .header("x-bungee-tenant-id", "t-1");
    let run = "done(id, {k.lower(): v for k, v in head.items()} | {'id': id, 'left': int(head['Lambda-Runtime-Deadline-Ms']) > time.time() * 1000})";
    let told = world.open_as(request, run).await.unwrap();
    let told = crate::world::whole(told).await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let name = |name: &str| told[format!("lambda-runtime-{name}")].as_str();
    assert_eq!(
        name("invoked-function-arn"),
        Some("arn:aws:lambda:eu-west-1:000000000000:function:f:7")
    );
    assert_eq!(name("client-context"), Some(r#"{"custom":{"a":"1"}}"#));
    assert_eq!(name("aws-tenant-id"), Some("t-1"));
    assert_eq!(
        name("trace-id"),
        Some("Root=1-01234567-89abcdef0123456789abcdef;Parent=0123456789abcdef;Sampled=1")
    );
    assert_eq!(told["content-type"], "application/json");
    assert_eq!(told["left"], true);
    let plain = world.json("done(id, [head.get('Lambda-Runtime-Client-Context'), head['Lambda-Runtime-Invoked-Function-Arn']])").await;
    assert_eq!(
        plain,
        json!([null, "arn:aws:lambda:us-east-1:000000000000:function:f"])
    );
    world.stop().await;
}

#[tokio::test]
async fn the_environment_is_the_one_that_clients_expect() {
    let world = plan()
        .setting("env = { GREETING = 'hi', AWS_REGION = 'eu-west-1', AWS_LAMBDA_FUNCTION_NAME = 'forged', _HANDLER = 'forged' }\nmemory = '512MB'\nconcurrency = 2")
        .start();
    let env = world
        .json("done(id, dict(os.environ) | {'cwd': os.getcwd()})")
        .await;
    for (name, value) in [
        ("_HANDLER", "f"),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "v1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_MAX_CONCURRENCY", "2"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("GREETING", "hi"),
        ("TZ", "UTC"),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
    assert_eq!(env["LAMBDA_TASK_ROOT"], env["cwd"]);
    assert!(env.get("BUNGEE_BOOT").is_none());
    world.stop().await;
}

#[tokio::test]
async fn answers_twice_for_another_or_for_nobody_are_refused_and_nothing_is_lost() {
    let world = plan().start();
    let other = world.id();
    let run = format!(
        "seen += [kind(done('{other}', 1)), kind(done('x', 1)), done(id, 'mine')[0], kind(done(id, 'again')), kind(call('POST', 'init/error', '{{}}'))]"
    );
    assert_eq!(world.json(&run).await, "mine");
    let seen = world.json("old = seen; done(id, old)").await;
    assert_eq!(
        seen,
        json!([
            [400, "InvalidRequestID"],
            [400, "InvalidRequestID"],
            202,
            [403, "InvalidStateTransition"],
            [403, "InvalidStateTransition"]
        ])
    );
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_call_or_comes_too_early_is_refused_in_words() {
    let world = plan().start();
    let seen = world
        .json(
            "done(id, [kind(call('GET', 'invocation/next')),
              kind(call('POST', f'invocation/{id}/response', '1', {'Lambda-Runtime-Function-Response-Mode': 'slowly'})),
              kind(call('GET', 'restore/next')), kind(call('GET', 'ping', base='/')),
              kind(call('POST', 'register', json.dumps({'events': ['INVOKE']}), base='/2020-01-01/extension/')),
              call('POST', 'register', json.dumps({'events': []}), base='/2020-01-01/extension/')[0]])",
        )
        .await;
    assert_eq!(
        seen,
        json!([
            [403, "InvalidStateTransition"],
            [400, "InvalidFunctionResponseMode"],
            [404, "NotFound"],
            [404, "NotFound"],
            [404, "Extension.NotSupported"],
            200
        ])
    );
    world.stop().await;
}

#[tokio::test]
async fn an_answer_past_its_limit_fails_and_the_worker_goes_on() {
    let world = plan().start();
    let answer = |length: usize| {
        format!("seen.append(call('POST', f'invocation/{{id}}/response', b'x' * {length})[0::2])")
    };
    assert_eq!(
        world.run(&answer(6_291_556)).await.unwrap().len(),
        6_291_556
    );
    let failure = world.fails(&answer(6_291_557)).await;
    assert_eq!(failure.error_type, ErrorType::PayloadTooLarge);
    assert!(failure.message.contains("6291556 bytes"), "{failure}");
    let seen = world
        .json("done(id, [[status, body.decode()] for status, body in seen])")
        .await;
    assert_eq!(seen[0][0], 202);
    assert_eq!(seen[1][0], 413);
    let said = seen[1][1].as_str().unwrap();
    assert!(
        said.contains("Exceeded maximum allowed payload size (6291556 bytes)."),
        "{said}"
    );
    world.stop().await;
}

#[tokio::test]
async fn an_answer_that_says_that_it_is_too_large_is_refused_before_it_is_read() {
    let world = plan().start();
    for path in ["response", "error"] {
        let run = format!(
            "wire = raw(f'POST {{BASE}}invocation/{{id}}/{path} HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 99999999999999\\r\\n\\r\\nx')
seen.append(wire.recv(1000).decode())"
        );
        let failure = world.fails(&run).await;
        assert_eq!(failure.error_type, ErrorType::PayloadTooLarge);
    }
    let seen = world.json("done(id, seen)").await;
    for said in seen.as_array().unwrap() {
        let said = said.as_str().unwrap();
        assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_error_keeps_the_words_in_which_it_was_reported() {
    let world = plan().start();
    let report =
        r#"{"errorType": "OutOfMemory", "errorMessage": "so they say", "stackTrace": ["  at f"]}"#;
    let failure = world
        .fails(&format!(
            "call('POST', f'invocation/{{id}}/error', '{report}')"
        ))
        .await;
    assert_eq!(failure.error_type, ErrorType::HandlerError);
    assert_eq!(failure.message, "OutOfMemory: so they say");
    let fault = failure.fault.unwrap();
    assert_eq!(fault.reported.as_deref(), Some(report));
    assert_eq!(fault.stack.as_deref(), Some("  at f"));
    let failure = world
        .fails("call('POST', f'invocation/{id}/error', 'no json', {'Lambda-Runtime-Function-Error-Type': 'Runtime.Oops'})")
        .await;
    assert_eq!(failure.message, "Runtime.Oops: no json");
    world.stop().await;
}

#[tokio::test]
async fn a_body_that_is_cut_short_fails_its_invocation() {
    let world = plan().start();
    let failure = world
        .fails("w = raw(f'POST {BASE}invocation/{id}/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 10\\r\\n\\r\\nabc'); w.shutdown(socket.SHUT_WR); seen.append(w.recv(1000).decode())")
        .await;
    assert_eq!(failure.error_type, ErrorType::HandlerError);
    assert!(
        failure.message.starts_with("Runtime.TruncatedResponse"),
        "{failure}"
    );
    let seen = world.json("done(id, seen)").await;
    assert!(
        seen[0].as_str().unwrap().contains("TruncatedHTTPRequest"),
        "{seen}"
    );
    world.stop().await;
}

#[tokio::test]
async fn nobody_else_gets_the_invocations_of_a_worker() {
    let world = plan().start();
    let address = world
        .json("done(id, os.environ['AWS_LAMBDA_RUNTIME_API'])")
        .await;
    let stolen = tokio::task::spawn_blocking(move || {
        let mut wire = TcpStream::connect(address.as_str().unwrap()).unwrap();
        wire.write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut said = String::new();
        wire.read_to_string(&mut said).unwrap();
        said
    });
    // This process is none of the worker's, and is sent away although nothing else waits.
    let said = stolen.await.unwrap();
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
    assert!(said.contains("none of them"), "{said}");
    // A child of the worker is one of its processes.
    let child = "import os,http.client as h; w = h.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API']); w.request('POST', f'/2018-06-01/runtime/invocation/{id}/response', '1'); print(w.getresponse().status)";
    let run = format!(
        "seen.append(subprocess.check_output(['python3', '-c', \"id = '\" + id + \"'; {child}\"]).decode())"
    );
    assert_eq!(world.json(&run).await, 1);
    assert_eq!(world.json("done(id, seen)").await, json!(["202\n"]));
    world.stop().await;
}

#[tokio::test]
async fn one_who_asks_one_thing_after_another_meets_the_same_worker() {
    let world = plan().setting("").start();
    let mut met = Vec::new();
    for _ in 0..20 {
        met.push(world.process().await);
    }
    met.dedup();
    assert_eq!(met.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_runtime_that_is_slow_to_ask_again_keeps_its_place_until_it_does() {
    let world = plan().start();
    let answer = world.json("done(id, 1); until('go')").await;
    assert_eq!(answer, 1, "the answer does not wait for long");
    assert_eq!(world.pool.counts().busy, 1);
    let next = world.json("done(id, 2)");
    let go = async {
        until("the next one waits", || world.pool.counts().waiting == 1).await;
        world.put("go");
    };
    assert_eq!(tokio::join!(next, go).0, 2);
    world.stop().await;
}

#[tokio::test]
async fn as_many_polls_as_the_function_may_have_at_once() {
    let world = plan().setting("concurrency = 3").start();
    // Two more pollers beside the loop, each of which answers one.
    let more = "def one():\n  i, h, e = poll()\n  open(i, 'w'); until('go')\n  done(i, 'thread')\nfor _ in range(2): threading.Thread(target=one).start()\ndone(id, 'ready')";
    assert_eq!(world.json(more).await, "ready");
    let hold = "open(id, 'w'); until('go'); done(id, 'loop')";
    let go = async {
        let begun = || {
            let names = std::fs::read_dir(world.file("")).unwrap();
            names
                .filter(|name| name.as_ref().unwrap().file_name().len() == 36)
                .count()
        };
        until("all three run", || begun() == 3).await;
        world.put("go");
    };
    let (a, b, c, ()) = tokio::join!(world.run(hold), world.run(hold), world.run(hold), go);
    let mut said: Vec<String> = [a, b, c].map(Result::unwrap).into();
    said.sort();
    assert_eq!(said, ["\"loop\"", "\"thread\"", "\"thread\""]);
    world.stop().await;
}

#[tokio::test]
async fn what_a_program_writes_belongs_to_its_invocation() {
    let world = plan().start();
    let line = r#"os.write(3, json.dumps({"t": "log", "id": id, "level": "debug", "text": "told"}).encode() + b"\n")"#;
    world
        .json(&format!("print('plain', flush=True); {line}; done(id, 1)"))
        .await;
    until("both lines are there", || world.lines().len() == 2).await;
    let mut lines = world.lines();
    lines.sort_by_key(|line| line.text.clone());
    assert_eq!((lines[0].level, &*lines[0].text), (Level::Info, "plain"));
    assert_eq!((lines[1].level, &*lines[1].text), (Level::Debug, "told"));
    assert!(lines.iter().all(|line| line.invocation.is_some()));
    world.stop().await;
}

#[tokio::test]
async fn a_line_is_nobody_s_whose_invocation_its_worker_never_had() {
    let world = plan().start();
    let line = r#"os.write(3, json.dumps({"t": "log", "id": ID, "level": "info", "text": TEXT}).encode() + b"\n")"#;
    let line = |id: &str, text: &str| line.replace("ID", id).replace("TEXT", text);
    let own = line("id", "'own'");
    let run = format!("seen.append(id); {own}; done(id, id)");
    let first = world.json(&run).await;
    let forged = line("id[:-1] + ('0' if id[-1] != '0' else '1')", "'forged'");
    let late = line("seen[0]", "'late'");
    world.json(&format!("{forged}; {late}; done(id, 1)")).await;
    until("all lines are there", || world.lines().len() == 3).await;
    for line in world.lines() {
        let id = line.invocation.map(|id| id.to_string());
        let expected = (line.text != "forged").then(|| first.as_str().unwrap().to_owned());
        assert_eq!(id, expected, "{}", line.text);
    }
    world.stop().await;
}
