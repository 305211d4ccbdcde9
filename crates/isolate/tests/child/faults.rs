//! What a handler throws, and a module that is none: each answered with its cause, and the child goes on.

use serde_json::{Value, json};

use crate::{
    Test,
    child::{Ask, Child, compile},
};

pub const TESTS: &[Test] = &[
    (
        "an_error_has_type_message_and_place",
        an_error_has_type_message_and_place,
    ),
    ("anything_can_be_thrown", anything_can_be_thrown),
    (
        "hostile_values_cannot_hide_or_stop_the_fault",
        hostile_values_cannot_hide_or_stop_the_fault,
    ),
    (
        "results_that_json_cannot_show_are_faults",
        results_that_json_cannot_show_are_faults,
    ),
    (
        "a_promise_that_never_settles_is_a_fault",
        a_promise_that_never_settles_is_a_fault,
    ),
    ("a_missing_module_is_named", a_missing_module_is_named),
    (
        "a_syntax_error_names_its_place",
        a_syntax_error_names_its_place,
    ),
    (
        "top_level_errors_name_their_place",
        top_level_errors_name_their_place,
    ),
    (
        "a_module_without_a_handler_lists_its_exports",
        a_module_without_a_handler_lists_its_exports,
    ),
    ("a_foreign_image_is_refused", a_foreign_image_is_refused),
    ("work_before_load_is_refused", work_before_load_is_refused),
];

fn an_error_has_type_message_and_place() {
    let mut child = Child::event(
        "class Mine extends TypeError { name = 'Mine'; }\n\
         const inner = () => { throw new Mine('no good'); };\n\
         export default async () => { await null; inner(); };",
    );
    let answer = child.send(&Value::Null);
    assert_eq!(answer.fault(), ("Mine".into(), "no good".into()));
    let stack = answer.stack();
    assert!(
        stack.starts_with("Mine: no good\n") && stack.contains("inner (hello.js:2:"),
        "{stack}"
    );
    assert!(stack.contains("hello.js:3:"), "{stack}");
}

/// One handler that does what the event says, and is asked again after each.
fn each(source: &str, cases: &[(&str, &str, &str)]) {
    let mut child = Child::event(source);
    for (event, error_type, message) in cases {
        let answer = child.send(&json!(event));
        assert_eq!(
            answer.fault(),
            ((*error_type).to_owned(), (*message).to_owned()),
            "{event}"
        );
        assert_eq!(child.send(&json!("fine")).json(), "fine", "after {event}");
    }
}

fn anything_can_be_thrown() {
    each(
        "export default async (event) => {
            switch (event) {
                case 'text': throw 'text';
                case 'number': throw 7;
                case 'nothing': throw undefined;
                case 'null': throw null;
                case 'object': throw { code: 'E1' };
                case 'symbol': throw Symbol('s');
                case 'function': throw function f() {};
                case 'rejected': return Promise.reject(new RangeError('far'));
                case 'dom': throw new DOMException('gone', 'AbortError');
                case 'reference': return missing;
                case 'empty': throw new Error();
                default: return event;
            }
        };",
        &[
            ("text", "Error", "text"),
            ("number", "Error", "7"),
            ("nothing", "Error", "undefined"),
            ("null", "Error", "null"),
            ("object", "Error", "{\"code\":\"E1\"}"),
            ("symbol", "Error", "Symbol(s)"),
            ("rejected", "RangeError", "far"),
            ("dom", "AbortError", "gone"),
            ("reference", "ReferenceError", "missing is not defined"),
            ("empty", "Error", ""),
        ],
    );
}

fn hostile_values_cannot_hide_or_stop_the_fault() {
    each(
        "const hostile = (error, key, get) => Object.defineProperty(error, key, { get });
         export default (event) => {
            switch (event) {
                case 'throwing message': throw hostile(new Error('x'), 'message', () => { throw 1; });
                case 'throwing name': throw hostile(new Error('x'), 'name', () => { throw 1; });
                case 'endless message': throw hostile(new Error('x'), 'message', () => { for (;;); });
                case 'hungry message': throw hostile(new Error('x'), 'message', () => { for (const a = [];;) a.push(new Array(1e5).fill(0)); });
                case 'number message': throw Object.assign(new Error('x'), { message: 5 });
                case 'lone': throw new Error('\\ud800');
                case 'proxy': throw new Proxy({}, { get() { throw 1; }, ownKeys() { throw 2; } });
                case 'toJSON': throw { toJSON() { throw 1; }, toString() { throw 2; } };
                case 'cycle': { const a = {}; a.a = a; a.toString = () => 'a cycle'; throw a; }
                default: return event;
            }
        };",
        &[
            ("throwing message", "Error", ""),
            ("throwing name", "Error", "x"),
            ("endless message", "Error", ""),
            ("hungry message", "Error", ""),
            ("number message", "Error", "5"),
            ("lone", "Error", "\u{fffd}"),
            ("proxy", "Error", "a value that cannot be shown"),
            ("toJSON", "Error", "a value that cannot be shown"),
            ("cycle", "Error", "a cycle"),
        ],
    );
}

fn results_that_json_cannot_show_are_faults() {
    let mut child = Child::event(
        "export default (event) => {
            const cyclic = {}; cyclic.self = cyclic;
            return { cyclic, big: 1n, nothing: undefined, fn: () => 1, lone: '\\ud800', hostile: { toJSON() { throw new RangeError('mine'); } },
                date: new Date(0), nested: { a: [undefined] }, response: new Promise((done) => done(1)), thenable: { then: (done) => done('t') } }[event];
        };",
    );
    for (event, error_type) in [
        ("cyclic", "TypeError"),
        ("big", "TypeError"),
        ("hostile", "RangeError"),
    ] {
        assert_eq!(child.send(&json!(event)).fault().0, error_type, "{event}");
    }
    for (event, shown) in [
        ("nothing", "null"),
        ("fn", "null"),
        ("lone", "\"\\ud800\""),
        ("date", "\"1970-01-01T00:00:00.000Z\""),
        ("nested", "{\"a\":[null]}"),
        ("response", "1"),
        ("thenable", "\"t\""),
    ] {
        assert_eq!(child.send(&json!(event)).text(), shown, "{event}");
    }
}

fn a_promise_that_never_settles_is_a_fault() {
    let mut child = Child::event("export default (event) => event ?? new Promise(() => {});");
    let (error_type, message) = child.send(&Value::Null).fault();
    assert_eq!(error_type, "Error");
    assert!(
        message.starts_with("the handler's promise never settles"),
        "{message}"
    );
    assert_eq!(child.send(&json!(1)).json(), 1);
}

fn a_missing_module_is_named() {
    for specifier in ["lodash", "node:fs", "../../gone.js"] {
        let source = format!("import _ from '{specifier}';\nexport default () => 1;");
        let refused = compile("event", &[("hello.js", &source)]).unwrap_err();
        let message = format!("Module not found: '{specifier}'");
        assert_eq!(refused.fault(), ("Error".to_owned(), message));
    }
}

fn a_syntax_error_names_its_place() {
    let modules = [
        (
            "hello.js",
            "import './lib/bad.js';\nexport default () => 1;",
        ),
        ("lib/bad.js", "const a = 1;\nconst b = = 2;\n"),
    ];
    let refused = compile("event", &modules).unwrap_err();
    assert_eq!(refused.fault().0, "SyntaxError");
    assert!(
        refused.stack().contains("lib/bad.js:2:"),
        "{}",
        refused.stack()
    );
    let refused = compile(
        "event",
        &[
            ("hello.js", "export default () => 1;"),
            ("late.js", "const = 1"),
        ],
    )
    .unwrap_err();
    assert!(
        refused.stack().contains("late.js:1:"),
        "{}",
        refused.stack()
    );
    let names = [
        (
            "hello.js",
            "import { two } from './one.js';\nexport default two;",
        ),
        ("one.js", "export const one = 1;"),
    ];
    let refused = compile("event", &names).unwrap_err();
    assert_eq!(refused.fault().0, "SyntaxError");
    assert!(refused.fault().1.contains("two"), "{}", refused.fault().1);
}

fn top_level_errors_name_their_place() {
    let refused = compile(
        "event",
        &[(
            "src/hello.js",
            "const a = 1;\nnull.x;\nexport default () => 1;",
        )],
    )
    .unwrap_err();
    assert_eq!(refused.fault().0, "TypeError");
    assert!(
        refused.stack().contains("src/hello.js:2:"),
        "{}",
        refused.stack()
    );
    let refused = compile(
        "event",
        &[("hello.js", "export default () => 1; new Function('1');")],
    )
    .unwrap_err();
    assert!(
        refused.stack().contains("hello.js:1:"),
        "{}",
        refused.stack()
    );
    let refused = compile(
        "event",
        &[(
            "hello.js",
            "export default () => 1; await new Promise(() => {});",
        )],
    )
    .unwrap_err();
    assert!(
        refused.fault().1.contains("never settles"),
        "{}",
        refused.fault().1
    );
}

fn a_module_without_a_handler_lists_its_exports() {
    let refused = compile("event", &[("hello.js", "export const a = 1, b = 2;")]).unwrap_err();
    assert_eq!(
        refused.fault().1,
        "the module exports no handler; it exports: a, b"
    );
    let refused = compile("event", &[("hello.js", "globalThis.x = 1;")]).unwrap_err();
    assert_eq!(
        refused.fault().1,
        "the module exports no handler; it exports: nothing"
    );
}

fn a_foreign_image_is_refused() {
    let mut child = Child::blank();
    let target = format!("/{}/load", crate::child::NONCE);
    let boot = json!({"entry": "hello.js", "handler": null, "kind": "event", "project": "p", "function": "f", "version": "v1"});
    let answer = child.ask(&Ask {
        method: "PUT",
        target: &target,
        headers: &[("x-bungee-boot", &boot.to_string())],
        body: b"another build",
        ..Ask::default()
    });
    assert_eq!(answer.fault().0, "ImageMismatch");
}

fn work_before_load_is_refused() {
    let mut child = Child::blank();
    assert_eq!(
        child.send(&Value::Null).fault().1,
        "this child has loaded nothing"
    );
}
