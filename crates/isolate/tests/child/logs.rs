//! Log lines on descriptor 3: whole, attributed, and before the answer.

use serde_json::{Value, json};

use crate::{
    Test,
    child::{Ask, Child},
};

pub const TESTS: &[Test] = &[
    ("log_lines_have_id_and_level", log_lines_have_id_and_level),
    (
        "what_is_left_running_ends_before_the_answer",
        what_is_left_running_ends_before_the_answer,
    ),
];

fn log_lines_have_id_and_level() {
    let mut child = Child::event(
        "console.log('top');
         export default (event) => {
             console.info('a %s', 'b'); console.warn({ a: [1, 'x'] }); console.error(new Error('boom').message);
             console.debug('line\\none'); console.log('\\ud800 lone'); console.log(event); console.assert(false, 'no');
             const hostile = new Proxy({}, { get() { throw 1; }, ownKeys() { throw 2; } });
             console.log(hostile, { get a() { throw 3; } });
         };",
    );
    let answer = child.ask(&Ask {
        headers: &[("x-invocation-id", "id-7")],
        body: b"\"event\"",
        ..Ask::default()
    });
    assert_eq!(answer.json(), Value::Null);
    let logs = child.logs();
    assert!(
        logs.iter()
            .all(|line| line["t"] == "log" && line["id"] == "id-7"),
        "{logs:?}"
    );
    let pairs: Vec<(&str, &str)> = logs
        .iter()
        .map(|line| {
            (
                line["level"].as_str().unwrap(),
                line["text"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("info", "top"),
        ("info", "a b"),
        ("warn", "{ a: [ 1, 'x' ] }"),
        ("error", "boom"),
        ("debug", "line\none"),
        ("info", "\u{fffd} lone"),
        ("info", "event"),
        ("error", "Assertion failed no"),
    ];
    assert_eq!(pairs[..8], expected);
    assert_eq!(pairs.len(), 9);
}

fn what_is_left_running_ends_before_the_answer() {
    for source in [
        "const later = async () => { await null; await null; console.log('later'); };
         export default (event) => { later(); return event; };",
        "const later = async () => { await null; await null; console.log('later'); };
         export default async (event) => { later(); return event; };",
    ] {
        let mut child = Child::event(source);
        assert_eq!(child.send(&json!(1)).json(), 1);
        assert_eq!(child.logs().len(), 1);
    }
}
