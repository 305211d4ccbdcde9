//! Time, memory, stack and size: what goes past them is stopped with its name, and the same child serves the next.

use serde_json::{Value, json};

use crate::{
    Test,
    child::{Ask, Child},
};

pub const TESTS: &[Test] = &[
    (
        "whatever_runs_is_stopped_at_the_deadline",
        whatever_runs_is_stopped_at_the_deadline,
    ),
    (
        "whatever_hoards_runs_out_of_memory",
        whatever_hoards_runs_out_of_memory,
    ),
    (
        "recursion_ends_in_a_range_error",
        recursion_ends_in_a_range_error,
    ),
    (
        "bodies_past_6_mib_are_refused",
        bodies_past_6_mib_are_refused,
    ),
    (
        "memory_comes_back_after_thousands",
        memory_comes_back_after_thousands,
    ),
];

fn whatever_runs_is_stopped_at_the_deadline() {
    let mut child = Child::event(
        "const twice = () => Promise.resolve().then(twice);
         export default (event) => {
            switch (event) {
                case 'loop': for (;;);
                case 'caught': for (;;) try { for (;;); } catch {} finally { continue; }
                case 'regex': return /^(a+)+$/.test('a'.repeat(40) + 'b');
                case 'jobs': return twice();
                case 'json': return { toJSON() { for (;;); } };
                case 'then': return { then() { for (;;); } };
                case 'getter': return { get then() { for (;;); } };
                case 'sort': return [3, 2, 1].sort(() => { for (;;); });
                default: return event;
            }
        };",
    );
    for event in [
        "loop", "caught", "regex", "jobs", "json", "then", "getter", "sort",
    ] {
        let body = json!(event).to_string();
        let answer = child.ask(&Ask {
            body: body.as_bytes(),
            time: 30,
            ..Ask::default()
        });
        assert_eq!(
            answer.fault(),
            (
                "FunctionTimeout".into(),
                "interrupted at the deadline".into()
            ),
            "{event}"
        );
        assert_eq!(child.send(&json!("fine")).json(), "fine", "after {event}");
    }
    let mut child = Child::event(
        "if (Math.random() >= 0) { const at = globalThis.stop; } export default () => 1;",
    );
    let late = child.ask(&Ask {
        time: 0,
        ..Ask::default()
    });
    assert!(late.status == 200 || late.fault().0 == "FunctionTimeout");
    assert_eq!(child.send(&Value::Null).json(), 1);
}

fn whatever_hoards_runs_out_of_memory() {
    let mut child = Child::event(
        "export default async (event) => {
            const hoard = [];
            switch (event) {
                case 'arrays': for (;;) hoard.push(new Array(1000).fill(0));
                case 'small': for (;;) hoard.push({ a: { b: 1 } });
                case 'bytes': for (;;) hoard.push(new Uint8Array(1 << 20).fill(1));
                case 'huge': return new Uint8Array(1 << 30).length;
                case 'text': { let text = 'x'; for (;;) text += text + Math.random(); }
                case 'strings': for (let i = 0;; i++) hoard.push('x'.repeat(100) + i);
                case 'map': { const map = new Map(); for (let i = 0;; i++) map.set(i, i); }
                case 'caught': for (;;) try { for (;;) hoard.push(new Array(1000).fill(0)); } catch (e) { hoard.length = 0; throw e; }
                default: return event;
            }
        };",
    );
    for event in [
        "arrays", "small", "bytes", "huge", "strings", "map", "caught",
    ] {
        let answer = child.send(&json!(event));
        assert_eq!(
            answer.fault(),
            ("OutOfMemory".into(), "out of memory".into()),
            "{event}"
        );
        assert_eq!(child.send(&json!("fine")).json(), "fine", "after {event}");
    }
    // The engine has a limit of its own on the length of a string.
    let named = child.send(&json!("text")).fault().0;
    assert!(
        ["OutOfMemory", "RangeError", "InternalError"].contains(&named.as_str()),
        "{named}"
    );
    assert_eq!(child.send(&json!("fine")).json(), "fine");
}

fn recursion_ends_in_a_range_error() {
    let mut child = Child::event(
        "const deep = (n) => deep(n + 1) + 1;
         export default (event) => {
            if (event === 'calls') return deep(0);
            if (event === 'json') { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a; }
            if (event === 'parse') return JSON.parse('['.repeat(1e6));
            if (event === 'regex') return /(?:(?:(a)|b)*)*c/.test('ab'.repeat(1e5));
            if (event === 'getter') { const o = { get a() { return this.a; } }; return o.a; }
            return event;
        };",
    );
    for event in ["calls", "json", "getter"] {
        let answer = child.send(&json!(event));
        assert_eq!(answer.fault().0, "RangeError", "{event}: {}", answer.text());
        assert_eq!(child.send(&json!("fine")).json(), "fine", "after {event}");
    }
    for event in ["parse", "regex"] {
        child.send(&json!(event));
        assert_eq!(child.send(&json!("fine")).json(), "fine", "after {event}");
    }
}

fn bodies_past_6_mib_are_refused() {
    let mut child = Child::web(
        "export default async (request) => new Response('x'.repeat(Number(new URL(request.url).searchParams.get('n'))));",
    );
    let too_large = vec![b'x'; (6 << 20) + 1];
    let (error_type, message) = child
        .ask(&Ask {
            target: "/?n=1",
            body: &too_large,
            ..Ask::default()
        })
        .fault();
    assert_eq!(error_type, "PayloadTooLarge");
    assert!(
        message.starts_with("the request body has 6291457 bytes"),
        "{message}"
    );
    let (error_type, message) = child
        .ask(&Ask {
            target: "/?n=6291457",
            ..Ask::default()
        })
        .fault();
    assert_eq!(error_type, "PayloadTooLarge");
    assert!(
        message.starts_with("the answer has 6291457 bytes"),
        "{message}"
    );
    let answer = child.ask(&Ask {
        target: "/?n=6291456",
        ..Ask::default()
    });
    assert_eq!((answer.status, answer.body.len()), (200, 6 << 20));
}

/// More than the limit in all, so that a leak of even a hundredth would be the end.
fn memory_comes_back_after_thousands() {
    let mut child = Child::event(
        "export default (n) => { const a = []; for (let i = 0; i < n; i++) a.push({ i, text: 'x' + i }); a.self = a; return a.length; };",
    );
    for _ in 0..2000 {
        assert_eq!(child.send(&json!(1000)).json(), 1000);
    }
    assert_eq!(child.send(&json!(20_000)).json(), 20_000);
}
