//! Faults of handlers: each costs only its own invocation; error, record and log name the true cause.

use serde_json::{Value, json};

use crate::serving::House;

/// An event handler that does what the event says, for Bun and Node.
const BUN: &str = "
    import { spawnSync } from 'node:child_process';
    import { writeSync } from 'node:fs';
    const acts = {
      good: () => 'good',
      throw: () => { throw new RangeError('thrown here'); },
      text: () => { throw 'just text'; },
      nothing: () => { throw undefined; },
      reject: () => Promise.reject(new TypeError('rejected here')),
      undefined: () => undefined,
      cyclic: () => { const a = {}; a.a = a; return a; },
      bigint: () => 1n,
      exit: () => process.exit(3),
      kill: () => { process.kill(process.pid, 'SIGKILL'); while (true); },
      memory: () => { const held = []; while (true) held.push(new Uint8Array(8 << 20).fill(1)); },
      heap: () => { const held = []; while (true) held.push({ a: [held.length] }); },
      later: () => new Promise(() => setTimeout(() => { throw new Error('thrown later'); }, 1)),
      loop: () => { while (true); },
      noise: () => { spawnSync('sh', ['-c', 'printf \"{\\\\\"t\\\\\":\\\\\"ready\\\\\"}\\\\n\"; head -c 200000 /dev/urandom'], { stdio: 'inherit' }); writeSync(1, 'HTTP/1.1 500 no\\r\\n\\r\\n'); return 'noisy'; },
      large: () => 'x'.repeat(6_000_000),
    };
    export const handler = (event) => acts[event.act]();";

const ISOLATE: &str = "
    const acts = {
      good: () => 'good',
      throw: () => { throw new RangeError('thrown here'); },
      text: () => { throw 'just text'; },
      nothing: () => { throw undefined; },
      reject: () => Promise.reject(new TypeError('rejected here')),
      undefined: () => undefined,
      cyclic: () => { const a = {}; a.a = a; return a; },
      bigint: () => 1n,
      memory: () => { const held = []; while (true) held.push(new Uint8Array(1 << 20).fill(1)); },
      deep: () => { const f = () => f() + 1; return f(); },
      loop: () => { while (true); },
      inside: () => { const many = new Array(1e6).fill(0); for (;;) many.indexOf(-1) },
      large: () => 'x'.repeat(6_000_000),
    };
    export const handler = (event) => acts[event.act]();";

fn house(settings: &str) -> House {
    House::serve()
        .function("bun", |f| f.bun().event(BUN).setting(settings))
        .function("node", |f| f.on("node").event(BUN).setting(settings))
        .function("isolated", |f| f.event(ISOLATE).setting(settings))
        .start()
}

/// One bad invocation, its record, and a good one after it.
fn act(house: &House, name: &str, act: &str) -> Value {
    let invoked = house.invoke(name, &json!({"act": act}));
    let record = house.record(name, |record| record["id"] == invoked["invocation_id"]);
    assert_eq!(record["outcome"], invoked["outcome"], "{record}");
    if invoked["outcome"] != "ok" {
        assert_eq!(record["message"], invoked["error"]["message"], "{record}");
    }
    let good = house.invoke(name, &json!({"act": "good"}));
    assert_eq!(good["result"], "good", "after {act} on {name}: {good}");
    invoked
}

fn fails(house: &House, name: &str, what: &str, error_type: &str, words: &str) -> Value {
    let invoked = act(house, name, what);
    assert_eq!(
        invoked["outcome"], error_type,
        "{what} on {name}: {invoked}"
    );
    let message = invoked["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains(words),
        "{what} on {name}: no {words:?} in {message:?}"
    );
    invoked
}

#[test]
fn what_a_handler_throws_reaches_the_caller_with_type_message_and_stack() {
    let house = house("");
    for name in ["bun", "node", "isolated"] {
        let invoked = fails(&house, name, "throw", "HandlerError", "thrown here");
        let fault = &invoked["error"]["fault"];
        assert_eq!(fault["errorType"], "RangeError");
        assert!(
            fault["stack"]
                .as_str()
                .unwrap()
                .contains(&format!("src/{name}.js")),
            "{fault}"
        );
        let invoked = fails(&house, name, "reject", "HandlerError", "rejected here");
        assert_eq!(invoked["error"]["fault"]["errorType"], "TypeError");
    }
}

#[test]
fn a_thrown_value_that_is_no_error_is_shown_as_it_is() {
    let house = house("");
    for name in ["bun", "node", "isolated"] {
        fails(&house, name, "text", "HandlerError", "just text");
        fails(&house, name, "nothing", "HandlerError", "undefined");
    }
}

#[test]
fn an_event_handler_that_returns_undefined_gives_null() {
    let house = house("");
    for name in ["bun", "node", "isolated"] {
        let invoked = act(&house, name, "undefined");
        assert_eq!(
            (&invoked["outcome"], &invoked["result"]),
            (&json!("ok"), &json!(null))
        );
    }
}

#[test]
fn a_result_that_is_no_json_is_a_handler_error() {
    let house = house("");
    for name in ["bun", "node", "isolated"] {
        fails(&house, name, "cyclic", "HandlerError", "c");
        fails(&house, name, "bigint", "HandlerError", "BigInt");
    }
}

#[test]
fn exit_costs_only_its_own_invocation_and_names_the_code() {
    let house = house("");
    for name in ["bun", "node"] {
        fails(&house, name, "exit", "WorkerCrashed", "code 3");
    }
}

#[test]
fn a_worker_killed_by_a_signal_is_named_by_it() {
    let house = house("");
    for name in ["bun", "node"] {
        fails(&house, name, "kill", "WorkerCrashed", "SIGKILL");
    }
}

#[test]
fn an_error_that_nobody_catches_is_named() {
    let house = house("");
    for name in ["bun", "node"] {
        fails(&house, name, "later", "WorkerCrashed", "thrown later");
    }
}

#[test]
fn too_much_memory_is_named_with_its_limit() {
    let house = house("memory = '128MB'");
    for name in ["bun", "node", "isolated"] {
        fails(&house, name, "memory", "OutOfMemory", "128");
    }
}

#[test]
fn a_heap_that_node_finds_full_is_out_of_memory() {
    let house = house("memory = '128MB'");
    fails(&house, "node", "heap", "OutOfMemory", "the limit 128MB");
    let source = "const held = []; while (true) held.push({ a: [held.length] });\nexport const handler = () => 1;";
    house.save("src/node.js", source);
    house.deploy().ends(1).says("OutOfMemory").says("128MB");
}

#[test]
fn a_recursion_without_end_is_a_range_error() {
    let invoked = fails(&house(""), "isolated", "deep", "HandlerError", "");
    assert_eq!(
        invoked["error"]["fault"]["errorType"], "RangeError",
        "{invoked}"
    );
}

#[test]
fn a_loop_without_end_is_killed_at_its_deadline() {
    let house = house("timeout = '300ms'");
    for name in ["bun", "node", "isolated"] {
        let invoked = fails(&house, name, "loop", "FunctionTimeout", "300ms");
        assert!(invoked["ran_us"].as_i64().unwrap() >= 290_000, "{invoked}");
    }
}

#[test]
fn a_call_that_stays_inside_a_built_in_is_killed_at_its_deadline() {
    fails(
        &house("timeout = '300ms'"),
        "isolated",
        "inside",
        "FunctionTimeout",
        "300ms",
    );
}

#[test]
fn noise_on_stdout_harms_nothing() {
    let house = house("");
    for name in ["bun", "node"] {
        let invoked = act(&house, name, "noise");
        assert_eq!(invoked["result"], "noisy", "{invoked}");
    }
}

#[test]
fn an_answer_of_six_megabytes_arrives_whole() {
    let house = house("");
    for name in ["bun", "node", "isolated"] {
        let invoked = act(&house, name, "large");
        assert_eq!(
            invoked["result"].as_str().unwrap().len(),
            6_000_000,
            "{name}"
        );
    }
}

#[test]
fn a_web_handler_that_gives_no_response_is_a_handler_error() {
    let source = "
        const acts = {
          good: () => new Response('good'), undefined: () => undefined, number: () => 7, plain: () => ({ status: 200 }),
          cyclic: () => { const a = {}; a.a = a; return a; }, throw: () => { throw 'text'; },
        };
        export default (r) => acts[new URL(r.url).searchParams.get('act')]();";
    let house = House::serve()
        .function("bun", |f| f.bun().web(source))
        .function("node", |f| f.on("node").web(source))
        .function("isolated", |f| f.web(source))
        .start();
    for name in ["bun", "node", "isolated"] {
        let get = |act: &str| house.get(&format!("/functions/{name}?act={act}"));
        get("undefined")
            .fails(502, "HandlerError")
            .says("undefined")
            .says("not a Response");
        for act in ["number", "plain", "cyclic"] {
            get(act).fails(502, "HandlerError").says("not a Response");
        }
        get("throw").fails(502, "HandlerError").says("text");
        assert_eq!(get("good").ok(), "good");
    }
}

#[test]
fn a_stream_that_breaks_is_broken_off_and_not_ended() {
    let source = "
        export default (r) => r.url.endsWith('good') ? new Response('good') : new Response(new ReadableStream({
          start(c) { c.enqueue('first'); setTimeout(() => c.error(new Error('broke')), 20); }
        }))";
    let house = House::serve()
        .function("bun", |f| f.bun().web(source))
        .function("node", |f| f.on("node").web(source))
        .start();
    for name in ["bun", "node"] {
        let answer = house.get(&format!("/functions/{name}"));
        assert!(!answer.is_whole, "{answer:?}");
        let good = house.get(&format!("/functions/{name}/good"));
        assert_eq!(good.ok(), "good");
        house.record(name, |record| record["outcome"] != "ok");
    }
}

#[test]
fn a_module_that_fails_to_load_is_an_init_error_with_file_and_line() {
    let source = "\nthrow new Error('no database');\nexport const handler = () => 1;\n";
    let house = House::serve()
        .function("bun", |f| f.bun().event(source))
        .function("node", |f| f.on("node").event(source))
        .start();
    for name in ["bun", "node"] {
        let invoked = house.invoke(name, &json!({}));
        assert_eq!(invoked["outcome"], "InitError", "{invoked}");
        let message = invoked["error"]["message"].as_str().unwrap();
        let place = format!("src/{name}.js:2");
        assert!(
            message.contains("no database") && message.contains(&place),
            "{message}"
        );
        assert!(!message.contains('\n'), "{message}");
        house.save(
            &place[..place.len() - 2],
            "export const handler = () => 'mended'",
        );
    }
    house.deploy().ok();
    for name in ["bun", "node"] {
        assert_eq!(house.invoke(name, &json!({}))["result"], "mended");
    }
}

#[test]
fn a_module_that_fails_to_load_in_the_isolate_says_so() {
    let source = "\nthrow new Error('no luck');\nexport const handler = () => 1;\n";
    let house = House::serve().start();
    let folder = house.home_folder();
    crate::project::put(&folder, "functions/f.js", source);
    let said = house.cli(&["deploy", folder.to_str().unwrap()]);
    if said.code == 0 {
        let invoked = house.invoke("f", &json!({}));
        assert_eq!(invoked["outcome"], "InitError", "{invoked}");
        let message = invoked["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("no luck") && message.contains("functions/f.js:2"),
            "{message}"
        );
    } else {
        said.says("no luck").says("functions/f.js:2");
    }
}

#[test]
fn a_function_that_breaks_json_for_itself_breaks_it_for_no_other() {
    let source = "export const handler = () => { JSON.stringify = () => 'no'; JSON.parse = () => 'no'; return { a: 1 }; };";
    let house = House::serve()
        .function("bun", |f| f.bun().event(source))
        .function("node", |f| f.on("node").event(source))
        .start();
    for name in ["bun", "node"] {
        for _ in 0..2 {
            assert_eq!(
                house.invoke(name, &json!({}))["result"],
                json!({ "a": 1 }),
                "{name}"
            );
        }
    }
}
