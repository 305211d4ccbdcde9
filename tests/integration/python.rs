//! Python workers: what a handler is given, what it may give back, and what is wrong with one that does not load.
//! With our own bootstrap, and with AWS's runtime client where that is installed.

use std::{env, thread::scope};

use serde_json::{Value, json};

use crate::{
    process::until,
    serving::{House, Plan, Said},
};

/// A folder with one function in Python.
fn folder(house: &House, kind: &str, source: &str, settings: &str) -> Said {
    let table = format!(
        "[functions.f]\nentry = 'f/main.py'\nruntime = 'python'\nkind = '{kind}'\n{settings}\n"
    );
    house.save("bungee.toml", &table);
    house.save("f/main.py", source);
    house.deploy()
}

fn serving(kind: &str, source: &str, settings: &str) -> House {
    let house = House::serve().start();
    folder(&house, kind, source, settings).ok();
    house
}

/// A server on whose PATH AWS's client is importable.
fn with_awslambdaric() -> Plan {
    let bin = crate::peers::peers().join("python/bin");
    let path = env::var("PATH").expect("there is a PATH");
    House::serve().variable("PATH", format!("{}:{path}", bin.display()))
}

const EVENTS: &str = "
import asyncio, datetime, logging, os, sys, threading, time
meeting = threading.Barrier(3)
def handler(event, context):
    act = event.get('act')
    if act == 'log':
        print('printed', end=' ')
        print('line')
        print('no end', end='')
        logging.getLogger('x').error('logged')
        logging.getLogger().debug('too quiet')
        sys.stderr.write('on stderr\\n')
    if act == 'fail': raise ValueError('as asked')
    if act == 'date': return datetime.date(2026, 1, 1)
    if act == 'nan': return float('nan')
    if act == 'exit': sys.exit(3)
    if act == 'meet':
        meeting.wait(20)
        print('met', event['n'])
        return os.getpid()
    return {'event': event, 'id': context.aws_request_id, 'same': context.invocationId,
            'name': [context.function_name, context.functionName], 'memory': context.memory_limit_in_mb,
            'arn': context.invoked_function_arn, 'left': 0 < context.get_remaining_time_in_millis() <= 30000,
            'project': context.projectId, 'env': os.environ['AWS_EXECUTION_ENV'].startswith('AWS_Lambda_python3.'),
            'boot': 'BUNGEE_BOOT' in os.environ}
";

#[test]
fn a_python_handler_has_lambdas_context() {
    let house = serving("event", EVENTS, "memory = '192MB'");
    let said = house.invoke("f", &json!({"a": "ž"}));
    let result = &said["result"];
    assert_eq!(result["event"], json!({"a": "ž"}));
    assert_eq!(result["id"], said["invocation_id"]);
    assert_eq!(result["same"], said["invocation_id"]);
    assert_eq!(result["name"], json!(["f", "f"]));
    assert_eq!(result["memory"], "192");
    assert_eq!(
        result["arn"],
        "arn:aws:lambda:us-east-1:000000000000:function:f"
    );
    let rest = ["left", "env", "boot"].map(|name| result[name].as_bool());
    assert_eq!(rest, [Some(true), Some(true), Some(false)]);
    assert_eq!(result["project"], "default");
}

#[test]
fn python_writes_nothing_into_its_bundle_unless_it_is_told_to() {
    let source =
        "import os\nimport words\nhandler = lambda event, context: os.listdir(os.getcwd())\n";
    let has_cache = |settings: &str| {
        let house = House::serve().start();
        house.save("f/words.py", "");
        folder(&house, "event", source, settings).ok();
        let found = house.invoke("f", &json!({}))["result"].clone();
        let found = found.as_array().expect("names").clone();
        found.contains(&json!("__pycache__"))
    };
    assert!(!has_cache(""));
    assert!(has_cache("env = { PYTHONDONTWRITEBYTECODE = '' }"));
}

#[test]
fn what_python_prints_and_logs_belongs_to_its_invocation() {
    let house = serving("event", EVENTS, "");
    let id = house.invoke("f", &json!({"act": "log"}))["invocation_id"].clone();
    house.logged("f", "no end");
    let lines: Vec<(Value, Value)> = house
        .logs("f")
        .into_iter()
        .inspect(|line| assert_eq!(line["invocation"], id))
        .map(|line| (line["level"].clone(), line["text"].clone()))
        .collect();
    let line = |level: &str, text: &str| (json!(level), json!(text));
    assert_eq!(
        lines,
        [
            line("info", "printed line"),
            line("error", "logged"),
            line("warn", "on stderr"),
            line("info", "no end")
        ]
    );
}

#[test]
fn what_a_python_handler_raises_is_its_failure() {
    let house = serving("event", EVENTS, "");
    let fails = |act: &str| house.invoke("f", &json!({"act": act}))["error"].clone();
    let failed = fails("fail");
    assert_eq!(failed["message"], "ValueError: as asked");
    let stack = failed["fault"]["stack"].as_str().expect("a stack");
    assert!(stack.contains("main.py\", line 13, in handler"), "{stack}");
    assert!(!stack.contains("python.py"), "{stack}");
    assert!(failed["fault"].get("reported").is_none(), "{failed}");
    for (act, why) in [
        ("date", "date is not JSON serializable"),
        ("nan", "Out of range float"),
    ] {
        let failed = fails(act);
        assert_eq!(failed["fault"]["errorType"], "Runtime.MarshalError");
        let message = failed["message"].as_str().expect("a message");
        assert!(message.contains(why), "{message}");
    }
    let failed = fails("exit");
    assert_eq!(failed["type"], "WorkerCrashed");
    assert_eq!(house.invoke("f", &json!({}))["result"]["name"][0], "f");
}

#[test]
fn one_python_worker_runs_several_invocations_at_once() {
    let house = serving("event", EVENTS, "concurrency = 3\nworkers = { max = 1 }");
    let workers: Vec<Value> = scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|n| {
                let house = &house;
                scope.spawn(move || house.invoke("f", &json!({"act": "meet", "n": n})))
            })
            .collect();
        let said = callers.into_iter().map(|one| one.join());
        said.map(|said| said.expect("a caller does not panic"))
            .collect()
    });
    for said in &workers {
        assert_eq!(said["result"], workers[0]["result"], "{said}");
        let id = &said["invocation_id"];
        until("each line is its invocation's", || {
            let lines = house.logs("f");
            lines
                .iter()
                .filter(|line| line["invocation"] == *id)
                .count()
                == 1
        });
    }
}

#[test]
fn an_async_python_handler_is_awaited() {
    let source = "import asyncio\nasync def handler(event, context):\n    await asyncio.sleep(0)\n    return [event, context.function_name]\n";
    for plan in [House::serve(), with_awslambdaric()] {
        let house = plan.start();
        folder(&house, "event", source, "").ok();
        assert_eq!(house.invoke("f", &json!(1))["result"], json!([1, "f"]));
    }
}

#[test]
fn a_python_module_that_does_not_load_says_why() {
    for (source, message) in [
        (
            "import nowhere\ndef handler(event, context): pass\n",
            "Runtime.ImportModuleError: Unable to import module 'main': No module named 'nowhere'",
        ),
        (
            "def handler(event, context): pass\nraise KeyError('x')\n",
            "KeyError: 'x'",
        ),
        (
            "import sys\ndef handler(event, context): pass\nsys.stderr.write('no config\\n')\nsys.exit(4)\n",
            "the worker exited with code 4 before it asked for its first invocation",
        ),
        (
            "handler = 5\n",
            "Runtime.HandlerNotFound: Handler 'handler' of module 'main' is no function, but of type int",
        ),
    ] {
        let house = serving("event", source, "");
        let failed = house.invoke("f", &json!({}))["error"].clone();
        assert_eq!(failed["type"], "InitError", "{failed}");
        assert_eq!(failed["message"], message);
    }
}

#[test]
fn awslambdaric_calls_the_handlers_where_it_is_installed() {
    let source = "
import sys, threading
from os import getpid
def handler(event, context):
    if event.get('fail'): raise ValueError('as asked')
    return ['awslambdaric' in sys.modules, context.aws_request_id, context.invoked_function_arn, getpid()]
";
    let house = with_awslambdaric().start();
    folder(&house, "event", source, "").ok();
    let said = house.invoke("f", &json!({}));
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
    assert_eq!(said["result"][0], true);
    assert_eq!(said["result"][1], said["invocation_id"]);
    assert_eq!(said["result"][2], arn);
    let failed = house.invoke("f", &json!({"fail": 1}))["error"].clone();
    assert_eq!(failed["message"], "ValueError: as asked");
    // Several at once are several processes of one worker.
    folder(
        &house,
        "event",
        source,
        "concurrency = 4\nworkers = { max = 1 }",
    )
    .ok();
    for _ in 0..8 {
        assert_eq!(house.invoke("f", &json!({}))["result"][0], true);
    }
    let broken = source.replace("import sys", "import nowhere");
    folder(&house, "event", &broken, "")
        .ends(1)
        .says("InitError: Runtime.ImportModuleError: Unable to import module 'main'");
}

const ASGI: &str = "
import asyncio
async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        await receive()
        scope['state']['started'] = 'yes'
        await send({'type': 'lifespan.startup.complete'})
        await receive()
        print('the end')
        await send({'type': 'lifespan.shutdown.complete'})
        return
    path = scope['path'][len(scope['root_path']):]
    if path == '/early': raise ValueError('early')
    head = [(b'x-started', scope['state']['started'].encode()), (b'set-cookie', b'a=1'), (b'set-cookie', b'b=2')]
    await send({'type': 'http.response.start', 'status': 201, 'headers': head})
    if path == '/late':
        await send({'type': 'http.response.body', 'body': b'part', 'more_body': True})
        raise ValueError('late')
    if path == '/forever':
        while True:
            await send({'type': 'http.response.body', 'body': b'x' * 1000, 'more_body': True})
            if (await asyncio.wait_for(receive(), 20))['type'] == 'http.disconnect':
                print('nobody listens')
                return
    while True:
        message = await receive()
        more = message.get('more_body', False)
        await send({'type': 'http.response.body', 'body': message['body'].upper(), 'more_body': more})
        if not more: break
";

#[test]
fn an_asgi_app_streams_both_ways_and_has_its_lifespan() {
    let house = serving("web", ASGI, "concurrency = 4\nworkers = { max = 1 }");
    let answer = house.post("/functions/f/x", "hello");
    assert_eq!((answer.status, &*answer.text()), (201, "HELLO"));
    assert_eq!(answer.header("x-started"), Some("yes"));
    let mut wire = house
        .ask("POST", "/functions/f/x")
        .header("transfer-encoding", "chunked")
        .open();
    wire.send_chunk("one");
    wire.hear("ONE");
    wire.send_chunk("two");
    wire.hear("TWO");
    wire.send_chunk("");
    assert_eq!(wire.answer().text(), "ONETWO");
    house
        .get("/functions/f/early")
        .fails(502, "HandlerError")
        .says("ValueError: early");
    let answer = house.get("/functions/f/late");
    assert_eq!((answer.text().as_str(), answer.is_whole), ("part", false));
    let record = house.record("f", |record| record["path"] == "/functions/f/late");
    assert_eq!(record["message"], "ValueError: late");
    folder(&house, "web", &format!("{ASGI}\n# another\n"), "").ok();
    house.logged("f", "the end");
}

#[test]
fn an_asgi_app_hears_that_its_caller_left() {
    let house = serving("web", ASGI, "");
    let mut wire = house.ask("POST", "/functions/f/forever").open();
    wire.hear("xxx");
    drop(wire);
    house.logged("f", "nobody listens");
    let answer = house.post("/functions/f/x", "next");
    assert_eq!(answer.text(), "NEXT");
}

#[test]
fn a_wsgi_app_is_called_as_the_standard_says() {
    let source = "
def app(environ, start_response):
    if environ['PATH_INFO'] == '/early': raise ValueError('early')
    body = environ['wsgi.input'].read()
    start_response('202 Accepted', [('X-Two', '1'), ('X-Two', '2')])
    if environ['PATH_INFO'] == '/late':
        yield b'part'
        raise ValueError('late')
    asked = [environ[name] for name in ['REQUEST_METHOD', 'SCRIPT_NAME', 'PATH_INFO', 'QUERY_STRING', 'CONTENT_LENGTH', 'HTTP_X_A']]
    yield '|'.join(asked).encode() + b'|'
    yield body
";
    let house = serving("web", source, "concurrency = 2");
    let ask = house
        .ask("PUT", "/functions/f/a%20b?c=d")
        .header("x-a", "1");
    let answer = ask.body("body").send();
    assert_eq!(answer.status, 202);
    assert_eq!(answer.text(), "PUT|/functions/f|/a b|c=d|4|1|body");
    house
        .get("/functions/f/early")
        .fails(502, "HandlerError")
        .says("ValueError: early");
    let answer = house.get("/functions/f/late");
    assert_eq!((answer.text().as_str(), answer.is_whole), ("part", false));
    let record = house.record("f", |record| record["path"] == "/functions/f/late");
    assert_eq!(record["message"], "ValueError: late");
}
