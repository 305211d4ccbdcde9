//! What functions write: whose it is, how loud, how much, and how people get to see it.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::json;

use crate::serving::House;

#[test]
fn a_line_that_is_too_long_is_cut_and_says_so() {
    let source = "console.log('é'.repeat(200 << 10)); export const handler = () => 1;";
    let house = House::serve()
        .function("bun", |f| f.bun().event(source))
        .function("node", |f| f.on("node").event(source))
        .start();
    for name in ["bun", "node"] {
        house.invoke(name, &json!({}));
        let line = house.logged(name, "é");
        assert_eq!(line["text"].as_str().map(str::len), Some(256 << 10));
        let marker = house.logged(name, "one line may hold");
        assert_eq!(marker["level"], "warn");
    }
}

#[test]
fn console_lines_belong_to_their_invocation_with_their_level() {
    let source = "export const handler = () => { console.log('l', { a: [1] }); console.info('i'); console.warn('w'); console.error('e'); console.debug('d'); }";
    let house = House::serve()
        .function("isolated", |f| f.event(source))
        .function("bun", |f| f.bun().event(source))
        .function("node", |f| f.on("node").event(source))
        .start();
    for name in ["isolated", "bun", "node"] {
        let invoked = house.invoke(name, &json!({}));
        let lines: Vec<(&str, &str)> = invoked["logs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| {
                (
                    line["level"].as_str().unwrap(),
                    line["text"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                ("info", "l { a: [ 1 ] }"),
                ("info", "i"),
                ("warn", "w"),
                ("error", "e"),
                ("debug", "d")
            ]
            .map(|(level, text)| {
                (
                    level,
                    if text.starts_with('l') {
                        lines[0].1
                    } else {
                        text
                    },
                )
            }),
            "{name}"
        );
        assert!(
            lines[0].1.starts_with("l {") && lines[0].1.contains("a: ["),
            "{name}: {:?}",
            lines[0]
        );
        let line = house.logged(name, "w");
        assert_eq!(line["invocation"], invoked["invocation_id"]);
    }
}

#[test]
fn process_streams_and_children_are_attributed_too() {
    let source = "
        import { spawnSync } from 'node:child_process';
        export const handler = () => {
          process.stdout.write('to stdout\\n');
          process.stderr.write('to stderr\\n');
          spawnSync('sh', ['-c', 'echo from a child'], { stdio: 'inherit' });
        }";
    let house = House::serve()
        .function("bun", |f| f.bun().event(source))
        .function("node", |f| f.on("node").event(source))
        .start();
    for name in ["bun", "node"] {
        let invoked = house.invoke(name, &json!({}));
        assert_eq!(invoked["outcome"], "ok", "{invoked}");
        for text in ["to stdout", "to stderr", "from a child"] {
            assert_eq!(
                house.logged(name, text)["invocation"],
                invoked["invocation_id"],
                "{text} on {name}"
            );
        }
    }
}

#[test]
fn neighbours_in_one_worker_keep_their_lines_apart() {
    let source = "
        export const handler = async (event) => {
          for (let i = 0; i < 5; i++) { console.log(`${event.who} ${i}`); await new Promise((r) => setTimeout(r, 2)); }
          return process.pid;
        }";
    for runtime in ["bun", "node"] {
        let house = House::serve()
            .function("f", |f| {
                f.on(runtime)
                    .event(source)
                    .setting("concurrency = 8")
                    .setting("workers = { max = 1 }")
            })
            .start();
        std::thread::scope(|scope| {
            let house = &house;
            let calls: Vec<_> = (0..8)
                .map(|who| scope.spawn(move || (who, house.invoke("f", &json!({"who": who})))))
                .collect();
            for call in calls {
                let (who, invoked) = call.join().unwrap();
                let texts: Vec<&str> = invoked["logs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|line| line["text"].as_str().unwrap())
                    .collect();
                let own: Vec<String> = (0..5).map(|i| format!("{who} {i}")).collect();
                assert_eq!(texts, own);
            }
        });
    }
}

#[test]
fn logs_past_the_limit_end_with_one_marker() {
    let source = "export const handler = () => { for (let i = 0; i < 700; i++) console.log('x'.repeat(1023)); return 'done'; }";
    let house = House::serve()
        .function("isolated", |f| f.event(source))
        .function("bun", |f| f.bun().event(source))
        .function("node", |f| f.on("node").event(source))
        .start();
    for name in ["isolated", "bun", "node"] {
        let invoked = house.invoke(name, &json!({}));
        assert_eq!(invoked["result"], "done");
        let marker = house.logged(name, "256");
        assert!(
            !marker["text"].as_str().unwrap().starts_with('x'),
            "{marker}"
        );
        let lines = house.logs(name);
        let bytes: usize = lines
            .iter()
            .map(|line| line["text"].as_str().unwrap().len())
            .sum();
        assert!((200 << 10..=260 << 10).contains(&bytes), "{name}: {bytes}");
        assert!(lines.last().unwrap()["text"] == marker["text"]);
    }
}

#[test]
fn logs_filter_by_level_and_invocation() {
    let source = "export const handler = (event) => { console.log('quiet ' + event.n); console.error('loud ' + event.n); }";
    let house = House::serve().function("f", |f| f.event(source)).start();
    house.invoke("f", &json!({"n": 1}));
    let second = house.invoke("f", &json!({"n": 2}));
    house.logged("f", "loud 2");
    let loud = house.cli(&["logs", "f", "--level", "warn"]).ok().stdout;
    assert!(loud.contains("loud 1") && !loud.contains("quiet"), "{loud}");
    let id = second["invocation_id"].as_str().unwrap();
    let one = house.cli(&["logs", "f", "--invocation", id]).ok().stdout;
    assert!(one.contains("quiet 2") && !one.contains("quiet 1"), "{one}");
    assert_eq!(
        house
            .cli(&["logs", "f", "--since", "10m", "--limit", "1"])
            .ok()
            .stdout
            .lines()
            .count(),
        1
    );
}

#[test]
fn logs_follow_what_is_written_from_now_on() {
    let source = "export const handler = (event) => { console.log('line ' + event.n); }";
    let house = House::serve().function("f", |f| f.event(source)).start();
    house.invoke("f", &json!({"n": 1}));
    house.logged("f", "line 1");
    let mut follower = house
        .command(&["logs", "f", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("line 1"));
    house.invoke("f", &json!({"n": 2}));
    assert!(lines.next().unwrap().unwrap().contains("line 2"));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn control_characters_are_escaped_for_people_and_kept_in_json() {
    let source = "export const handler = () => { console.log('a\\u001b[2Jb'); }";
    let house = House::serve().function("f", |f| f.event(source)).start();
    house.invoke("f", &json!({}));
    assert_eq!(house.logged("f", "2Jb")["text"], "a\u{1b}[2Jb");
    let shown = house.cli(&["logs", "f"]).ok().stdout;
    assert!(
        !shown.contains('\u{1b}') && shown.contains("\\u{1b}"),
        "{shown:?}"
    );
    let invoked = house.cli(&["invoke", "f"]).ok();
    assert!(!invoked.stderr.contains('\u{1b}'), "{invoked:?}");
}

#[test]
fn logs_and_records_survive_kill_9() {
    let source = "export const handler = () => { console.log('kept'); }";
    let mut house = House::serve().function("f", |f| f.event(source)).start();
    let invoked = house.invoke("f", &json!({}));
    house.logged("f", "kept");
    house.record("f", |record| record["id"] == invoked["invocation_id"]);
    house.kill9();
    house.restart();
    house.logged("f", "kept");
    house.record("f", |record| record["id"] == invoked["invocation_id"]);
}
