//! `dev --inspect`: breakpoints in the TypeScript that was written, on Bun and on Node, and deadlines that wait for them.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    panic::{self, AssertUnwindSafe},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use sourcemap::SourceMap;
use tungstenite::{Message, WebSocket};

use crate::{
    process::{eventually, until},
    serving::House,
};

/// A function whose fourth line is the one to stop at.
const SOURCE: &str = "type Seen = { n: number };

export default async (request: Request): Promise<Response> => {
  const seen: Seen = { n: new URL(request.url).pathname.length };
  if (request.url.endsWith('loop')) while (true);
  return Response.json(seen);
};
";

/// Counted from zero, as debuggers do.
const LINE: u32 = 3;

/// A debugger's end of the inspector's protocol: Chrome's on Node, WebKit's on Bun.
struct Debugger {
    wire: WebSocket<TcpStream>,
    calls: u64,
    /// Events that came while something else was waited for.
    events: Vec<Value>,
}

impl Debugger {
    fn attach(url: &str) -> Debugger {
        let address = url.trim_start_matches("ws://").split('/').next();
        let address = address.expect("an address");
        let stream = TcpStream::connect(address).expect("the port is open");
        let limit = Some(Duration::from_secs(20));
        stream
            .set_read_timeout(limit)
            .expect("a socket takes a limit");
        let (wire, _) = tungstenite::client(url, stream).expect("the inspector answers");
        Debugger {
            wire,
            calls: 0,
            events: Vec::new(),
        }
    }

    fn read(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.wire.read().expect("the inspector goes on") {
                return serde_json::from_str(&text).expect("the inspector speaks JSON");
            }
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let call = json!({"id": self.calls, "method": method, "params": params});
        self.wire
            .send(Message::text(call.to_string()))
            .expect("the inspector listens");
        loop {
            let heard = self.read();
            if heard["id"] == self.calls {
                assert!(heard.get("error").is_none(), "{method}: {heard}");
                return heard["result"].clone();
            }
            self.events.push(heard);
        }
    }

    /// The first event of this name that satisfies.
    fn event(&mut self, method: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let fits = |event: &Value| event["method"] == method && is_it(&event["params"]);
        loop {
            if let Some(at) = self.events.iter().position(fits) {
                return self.events.remove(at)["params"].clone();
            }
            let heard = self.read();
            self.events.push(heard);
        }
    }

    /// Stops at a line of a source, as an editor does: finds the script whose map knows the source, and its line there.
    fn stop_at(&mut self, source: &str, line: u32) -> Value {
        self.call("Runtime.enable", json!({}));
        self.call("Debugger.enable", json!({}));
        let ending = |ending: &'static str| {
            move |script: &Value| {
                script["url"]
                    .as_str()
                    .is_some_and(|url| url.ends_with(ending))
            }
        };
        let script = match source.contains("node") {
            true => self.event("Debugger.scriptParsed", ending("src/node.mjs")),
            false => self.event("Debugger.scriptParsed", ending("/index.js")),
        };
        let file = script["url"].as_str().expect("a script has a URL");
        let file = file.trim_start_matches("file://");
        let folder = file.rsplit_once('/').expect("a script lies in a folder").0;
        let map = script["sourceMapURL"].as_str().expect("a script has a map");
        let map = fs::read(format!("{folder}/{map}")).expect("the map can be read");
        let map = SourceMap::from_slice(&map).expect("a map");
        let place = map
            .tokens()
            .find(|token| token.get_source() == Some(source) && token.get_src_line() == line)
            .unwrap_or_else(|| {
                panic!(
                    "no {source}:{line} in {:?}",
                    map.sources().collect::<Vec<_>>()
                )
            });
        let location = json!({
            "scriptId": script["scriptId"], "lineNumber": place.get_dst_line(), "columnNumber": place.get_dst_col(),
        });
        self.call("Debugger.setBreakpoint", json!({"location": location}));
        location
    }
}

/// Where the debugger of a function is, as `dev` says it.
fn url(house: &House, name: &str) -> String {
    let said = house.said();
    let found = said
        .lines()
        .find_map(|line| line.strip_prefix(&format!("debugger: {name} ")));
    found
        .unwrap_or_else(|| panic!("no debugger of {name} in {said}"))
        .to_owned()
}

fn dev() -> House {
    House::dev()
        .flag("--inspect")
        .function("bun", |f| {
            f.bun()
                .written_in("ts")
                .web(SOURCE)
                .setting("timeout = '500ms'")
        })
        .function("node", |f| {
            f.on("node")
                .written_in("ts")
                .web(SOURCE)
                .setting("timeout = '500ms'")
        })
        .function("isolated", |f| f.web("export default () => new Response()"))
        .start()
}

fn stops_and_goes_on(name: &str) {
    let house = dev();
    let mut debugger = Debugger::attach(&url(&house, name));
    let folder = house.folder.canonicalize().expect("the folder is there");
    let source = format!("file://{}/src/{name}.ts", folder.display());
    let location = debugger.stop_at(&source, LINE);
    if name == "bun" {
        debugger.call("Debugger.setBreakpointsActive", json!({"active": true}));
    }
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| house.get(&format!("/functions/{name}")));
        let paused = debugger.event("Debugger.paused", |_| true);
        let at = &paused["callFrames"][0]["location"];
        assert_eq!(at["lineNumber"], location["lineNumber"], "{paused}");
        // Longer than the function's timeout: the time is what is looked at.
        thread::sleep(Duration::from_millis(1500));
        assert!(!asked.is_finished(), "the deadline did not wait");
        debugger.call("Debugger.resume", json!({}));
        asked.join().expect("the caller gets an answer")
    });
    let length = format!("/functions/{name}").len();
    assert_eq!(answer.json(), json!({"n": length}));
    drop(debugger);
    until("the deadline holds again", || {
        house.get(&format!("/functions/{name}/loop")).status == 504
    });
}

#[test]
fn a_breakpoint_in_typescript_is_hit_on_node_and_the_deadline_waits() {
    stops_and_goes_on("node");
}

#[test]
fn a_breakpoint_in_typescript_is_hit_on_bun_and_the_deadline_waits() {
    stops_and_goes_on("bun");
}

#[test]
fn a_debugger_finds_new_code_on_the_same_port() {
    let house = dev();
    let before = url(&house, "node");
    let stack = house.get("/functions/node").ok();
    house.save("src/node.ts", &SOURCE.replace("{ n:", "{ again: true, n:"));
    until("the new code answers", || {
        house.get("/functions/node").ok() != stack
    });
    let mut debugger = Debugger::attach(&before);
    let version = debugger.call("Runtime.evaluate", json!({"expression": "process.version"}));
    assert!(
        version["result"]["value"]
            .as_str()
            .is_some_and(|version| version.starts_with('v')),
        "{version}"
    );
}

#[test]
fn a_version_that_does_not_load_leaves_the_debugger_to_the_one_that_serves() {
    let house = dev();
    let before = url(&house, "node");
    house.get("/functions/node").ok();
    house.save(
        "src/node.ts",
        &format!("{SOURCE}\nthrow new Error('not this one');\n"),
    );
    until("the new code is refused", || {
        house.said().contains("not this one")
    });
    // The worker that did not load is no longer shown, but may be reached until it has ended.
    let debugger_finds_the_old_one = || {
        let question = json!({"expression": "process.version"});
        let asked = || {
            Debugger::attach(&before).call("Runtime.evaluate", question)["result"]["value"]
                .is_string()
        };
        panic::catch_unwind(AssertUnwindSafe(asked)).unwrap_or(false)
    };
    until("the old code can be debugged", debugger_finds_the_old_one);
    assert_eq!(house.get("/functions/node").status, 200);
}

#[test]
fn stacks_name_the_source_while_debuggers_may_attach() {
    let source =
        "type T = {};\n\nexport default (): Response => {\n  throw new Error('here');\n};\n";
    let house = House::dev()
        .flag("--inspect")
        .function("bun", |f| f.bun().written_in("ts").web(source))
        .function("node", |f| f.on("node").written_in("ts").web(source))
        .start();
    for name in ["bun", "node"] {
        house
            .get(&format!("/functions/{name}"))
            .fails(502, "HandlerError");
        until("the stack is shown", || {
            house.said().contains(&format!("(src/{name}.ts:4:"))
        });
    }
}

#[test]
fn a_function_that_cannot_be_debugged_is_named() {
    let house = dev();
    let said = house.said();
    let words = "debugger: isolated runs in the isolate, which cannot be debugged; choose `runtime = \"bun\"`";
    assert!(said.contains(words), "{said}");
}

#[test]
fn the_usual_port_gives_way_to_the_next_free_one_and_an_explicit_one_does_not() {
    let taken = eventually("the usual port is free", || {
        TcpListener::bind("127.0.0.1:9229").ok()
    });
    let house = dev();
    let said = house.said();
    assert!(
        said.contains("port 9229 is taken; the debugger of bun listens on "),
        "{said}"
    );
    drop(taken);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let beside = house.home_folder();
    crate::project::put(
        &beside,
        "bungee.toml",
        "[functions.f]\nentry = 'f.ts'\nruntime = 'node'\n",
    );
    crate::project::put(&beside, "f.ts", SOURCE);
    house
        .cli(&[
            "dev",
            beside.to_str().expect("a readable path"),
            &format!("--inspect={port}"),
            "--listen",
            "127.0.0.1:0",
        ])
        .ends(3)
        .says(&format!("cannot listen for debuggers on port {port}"))
        .says("--inspect=PORT");
}

#[test]
fn a_web_page_may_not_debug() {
    let house = dev();
    let url = url(&house, "node");
    let address = url
        .trim_start_matches("ws://")
        .split('/')
        .next()
        .expect("an address");
    let answer = crate::knock::Ask::new(address, "GET", "/node")
        .header("origin", "http://127.0.0.1:8080")
        .send();
    assert_eq!(answer.status, 403, "{answer:?}");
    let answer = crate::knock::Ask::new(address, "GET", "/json/list")
        .header("sec-fetch-site", "cross-site")
        .send();
    assert_eq!(answer.status, 403, "{answer:?}");
    let answer = crate::knock::Ask::new(address, "GET", "/node").send();
    assert_eq!(answer.status, 400, "{answer:?}");
    let list = crate::knock::Ask::new(address, "GET", "/json/list").send();
    assert!(list.ok().contains("webSocketDebuggerUrl"), "{list:?}");
}
