//! The built-in runtime: what a handler finds in it, and what it does not.

use serde_json::{Value, json};

use crate::serving::House;

/// Runs an expression, or statements that return, in the isolate.
fn value_of(body: &str) -> Value {
    let source = format!("export const handler = async (event, context) => {{ {body} }}");
    let house = House::serve().function("f", |f| f.event(source)).start();
    let invoked = house.invoke("f", &json!({"a": 1}));
    assert_eq!(invoked["outcome"], "ok", "{invoked}");
    invoked["result"].clone()
}

#[test]
fn the_promised_globals_are_there_and_work() {
    let value = value_of(
        "const url = new URL('/b?x=1#h', 'http://a.example:8080/c');
         const params = new URLSearchParams('a=1&a=2');
         const headers = new Headers({ A: 'b' });
         const request = new Request('http://a/', { method: 'POST', body: 'text' });
         return {
           url: [url.href, url.port, url.searchParams.get('x')],
           params: params.getAll('a'),
           header: headers.get('a'),
           request: [request.method, await request.text()],
           response: await Response.json({ a: 1 }).json(),
           text: new TextDecoder().decode(new TextEncoder().encode('é')),
           base64: [btoa('hi'), atob('aGk=')],
           clone: structuredClone({ a: [1, new Date(0)] }).a[1].getTime(),
           uuid: crypto.randomUUID().length,
           random: crypto.getRandomValues(new Uint8Array(8)).length,
         };",
    );
    let expected = json!({
        "url": ["http://a.example:8080/b?x=1#h", "8080", "1"], "params": ["1", "2"], "header": "b",
        "request": ["POST", "text"], "response": {"a": 1}, "text": "é", "base64": ["aGk=", "hi"],
        "clone": 0, "uuid": 36, "random": 8,
    });
    assert_eq!(value, expected);
}

#[test]
fn timers_network_files_and_process_are_not_there() {
    let names = "['setTimeout', 'setInterval', 'fetch', 'process', 'require', 'WebSocket', 'Bun', 'Deno', 'WebAssembly', 'XMLHttpRequest']";
    assert_eq!(
        value_of(&format!(
            "return {names}.filter((name) => name in globalThis)"
        )),
        json!([])
    );
}

#[test]
fn eval_and_function_are_refused() {
    let value = value_of(
        "const tries = [
           () => eval('1'), () => (0, eval)('1'), () => new Function('return 1')(),
           () => (() => {}).constructor('return 1')(), () => (async () => {}).constructor('return 1')(),
           () => (function* () {}).constructor('return 1')(),
         ];
         return tries.map((run) => { try { run(); return 'ran'; } catch (error) { return 'refused'; } });",
    );
    assert_eq!(value, json!(vec!["refused"; 6]));
}

#[test]
fn importing_code_at_run_time_is_refused() {
    let value = value_of(
        "const tries = ['data:text/javascript,export default 1', 'node:fs', '/etc/passwd', './gone.js'];
         const ran = [];
         for (const name of tries) { try { await import(name); ran.push(name); } catch {} }
         return ran;",
    );
    assert_eq!(value, json!([]));
}

#[test]
fn every_invocation_gets_a_fresh_context() {
    let source = "let n = 0; export const handler = () => { globalThis.seen = (globalThis.seen ?? 0) + 1; Array.prototype.bad = 1; return [++n, globalThis.seen, [].bad]; }";
    let house = House::serve().function("f", |f| f.event(source)).start();
    for _ in 0..3 {
        assert_eq!(house.invoke("f", &json!({}))["result"], json!([1, 1, 1]));
    }
    let clean = "export const handler = () => [].bad ?? 'clean'";
    let other = House::serve().function("g", |f| f.event(clean)).start();
    assert_eq!(other.invoke("g", &json!({}))["result"], "clean");
}

#[test]
fn relative_imports_and_json_are_part_of_the_bundle() {
    let house = House::serve()
        .function("f", |f| {
            f.written_in("ts").event("import { twice } from './lib/twice'; import data from './data.json'; export const handler = () => twice(data.n)")
        });
    let folder = house.home().join("project");
    crate::project::put(
        &folder,
        "src/lib/twice.ts",
        "export const twice = (n: number): number => 2 * n;",
    );
    crate::project::put(&folder, "src/data.json", r#"{"n": 21}"#);
    let house = house.start();
    assert_eq!(house.invoke("f", &json!({}))["result"], 42);
}

#[test]
fn a_package_import_is_refused_with_the_way_out() {
    let house = House::serve().start();
    let folder = house.home_folder();
    crate::project::put(
        &folder,
        "functions/f.js",
        "import _ from 'lodash'; export const handler = () => 1",
    );
    house
        .cli(&["deploy", folder.to_str().unwrap()])
        .ends(3)
        .says("functions/f.js:1")
        .says("Module not found: 'lodash'")
        .says("bun");
}

#[test]
fn a_worker_of_the_isolate_has_no_network_and_no_secrets_to_read() {
    let house = House::serve()
        .function("f", |f| f.event("export const handler = () => 1"))
        .start();
    house.invoke("f", &json!({}));
    let children = house.children();
    let sealed = children.iter().filter(|child| {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap_or_default();
        status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1")
    });
    assert!(sealed.count() >= 1, "{children:?}");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let apart = children.iter().any(|child| {
        std::fs::read_link(format!("/proc/{}/ns/net", child.pid)).is_ok_and(|net| net != own)
    });
    let may = std::fs::read_to_string("/proc/sys/user/max_net_namespaces")
        .is_ok_and(|max| max.trim() != "0");
    assert!(
        apart || !may,
        "no child has a network namespace of its own: {children:?}"
    );
}

#[test]
fn unfinished_promises_fail_instead_of_hanging() {
    let house = House::serve()
        .function("f", |f| {
            f.event("export const handler = () => new Promise(() => {})")
        })
        .start();
    let invoked = house.invoke("f", &json!({}));
    assert_eq!(invoked["outcome"], "HandlerError", "{invoked}");
}
