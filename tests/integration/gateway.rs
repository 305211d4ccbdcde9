//! Requests on their way through: paths, ids, routes, streaming both ways, callers that leave.

use serde_json::json;

use crate::{process::until, serving::House};

#[test]
fn the_handler_sees_the_full_original_url() {
    let source = "export default (r) => new Response(r.method + ' ' + r.url)";
    let house = House::serve()
        .function("isolated", |f| f.web(source))
        .function("bun", |f| f.bun().web(source))
        .function("node", |f| f.on("node").web(source))
        .start();
    for name in ["isolated", "bun", "node"] {
        let path = format!("/functions/{name}/a%20b/c?x=1&y=%C3%A9");
        let answer = house.ask("PATCH", &path).send();
        assert_eq!(answer.ok(), format!("PATCH http://{}{path}", house.address));
    }
}

#[test]
fn declared_routes_bring_their_parameters() {
    let web = "export default (r) => Response.json(r.params ?? null)";
    let house = House::serve()
        .function("a", |f| {
            f.web(web).setting("routes = ['GET /a/:id', '/any/:x/:y']")
        })
        .function("b", |f| f.bun().web(web).setting("routes = ['GET /b/:id']"))
        .start();
    assert_eq!(house.get("/a/17").json(), json!({"id": "17"}));
    assert_eq!(
        house.get("/any/1/a%20b").json(),
        json!({"x": "1", "y": "a b"})
    );
    assert_eq!(house.get("/b/x").json(), json!({"id": "x"}));
    assert_eq!(house.get("/functions/a").json(), json!(null));
    assert_eq!(house.ask("POST", "/b/x").send().status, 404);
    house.get("/nowhere").fails(404, "NotFound");
    house
        .get("/functions/nobody")
        .fails(404, "FunctionNotFound");
}

#[test]
fn everyone_gets_one_invocation_id() {
    let source = "export default (r) => { console.log('here'); return new Response(r.headers.get('x-invocation-id')); }";
    let house = House::serve()
        .function("isolated", |f| f.web(source))
        .function("bun", |f| f.bun().web(source))
        .function("node", |f| f.on("node").web(source))
        .start();
    for name in ["isolated", "bun", "node"] {
        let forged = house
            .ask("GET", &format!("/functions/{name}"))
            .header("x-invocation-id", "forged");
        let answer = forged.send();
        let id = answer.header("x-invocation-id").unwrap().to_owned();
        assert_eq!(answer.ok(), id);
        assert_eq!(id.as_bytes()[14], b'7', "a UUIDv7: {id}");
        assert_eq!(house.logged(name, "here")["invocation"], json!(id));
        house.record(name, |record| record["id"] == json!(id));
    }
}

#[test]
fn the_trace_of_the_caller_goes_on() {
    let source = "export default (r) => new Response(r.headers.get('traceparent'))";
    for runtime in ["bun", "node"] {
        let house = House::serve()
            .function("trace", |f| f.on(runtime).web(source))
            .start();
        let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let answer = house
            .ask("GET", "/functions/trace")
            .header("traceparent", theirs)
            .send();
        assert!(
            answer
                .ok()
                .starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
            "{answer:?}"
        );
        let fresh = house.get("/functions/trace").ok();
        assert!(fresh.len() == 55 && fresh.starts_with("00-"), "{fresh}");
    }
}

#[test]
fn response_chunks_arrive_before_the_end() {
    let source = "
        let go; const later = new Promise((resolve) => { go = resolve; });
        export default (r) => {
          if (r.url.endsWith('/go')) { go(); return new Response('gone'); }
          return new Response(new ReadableStream({
            async start(c) { c.enqueue('first'); await later; c.enqueue('second'); c.close(); }
          }), { headers: { 'content-type': 'text/event-stream' } });
        }";
    for runtime in ["bun", "node"] {
        let house = House::serve()
            .function("stream", |f| {
                f.on(runtime).web(source).setting("concurrency = 2")
            })
            .start();
        let mut wire = house.ask("GET", "/functions/stream").open();
        let before = wire.hear("first");
        assert!(!before.contains("second"), "{before}");
        house.get("/functions/stream/go").ok();
        wire.hear("second");
    }
}

#[test]
fn request_chunks_reach_the_handler_before_the_end() {
    let source = "
        export default async (r) => {
          for await (const chunk of r.body) console.log('got ' + new TextDecoder().decode(chunk));
          return new Response('all');
        }";
    for runtime in ["bun", "node"] {
        let house = House::serve()
            .function("upload", |f| f.on(runtime).web(source))
            .start();
        let ask = house
            .ask("POST", "/functions/upload")
            .header("transfer-encoding", "chunked");
        let mut wire = ask.open();
        wire.send_chunk("one");
        house.logged("upload", "got one");
        wire.send_chunk("two");
        house.logged("upload", "got two");
        wire.send_chunk("");
        assert_eq!(wire.answer().ok(), "all");
    }
}

#[test]
fn a_caller_that_leaves_fires_the_signal() {
    let source = "
        export default async (r) => {
          console.log('waiting');
          await new Promise((resolve) => r.signal.addEventListener('abort', resolve));
          console.log('aborted');
          return new Response('late');
        }";
    for runtime in ["bun", "node"] {
        let house = House::serve()
            .function("wait", |f| f.on(runtime).web(source))
            .start();
        let wire = house.ask("GET", "/functions/wait").open();
        house.logged("wait", "waiting");
        drop(wire);
        house.logged("wait", "aborted");
        house.record("wait", |record| record["outcome"] == "Cancelled");
    }
}

#[test]
fn a_caller_that_leaves_a_stream_fires_the_signal() {
    let source = "
        export default (r) => {
          r.signal.addEventListener('abort', () => console.log('aborted'));
          return new Response(new ReadableStream({
            start(c) { c.enqueue('first'); },
            cancel() { console.log('cancelled'); },
          }));
        }";
    let house = House::serve()
        .function("stream", |f| f.bun().web(source))
        .start();
    let mut wire = house.ask("GET", "/functions/stream").open();
    wire.hear("first");
    drop(wire);
    until("the handler hears of it", || {
        let logs = format!("{:?}", house.logs("stream"));
        logs.contains("aborted") || logs.contains("cancelled")
    });
    let quick =
        House::serve().function("next", |f| f.web("export default () => new Response('ok')"));
    quick.start().get("/functions/next").ok();
}

#[test]
fn one_connection_serves_many_requests() {
    let source = "export default async (r) => new Response(await r.text())";
    for runtime in ["bun", "node"] {
        let house = House::serve()
            .function("echo", |f| f.on(runtime).web(source))
            .start();
        let mut wire = house.wire();
        for round in 0..20 {
            let body = format!("round {round}");
            let head = format!(
                "POST /functions/echo HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
                house.address,
                body.len()
            );
            wire.send(head);
            wire.send(&body);
            assert_eq!(wire.answer().ok(), body);
        }
    }
}

#[test]
fn status_headers_and_cookies_come_back_as_the_handler_gave_them() {
    let source = "
        export default () => {
          const headers = new Headers({ 'x-a': 'b', 'content-type': 'text/weird' });
          headers.append('set-cookie', 'a=1'); headers.append('set-cookie', 'b=2');
          return new Response('teapot', { status: 418, headers });
        }";
    let house = House::serve()
        .function("isolated", |f| f.web(source))
        .function("bun", |f| f.bun().web(source))
        .function("node", |f| f.on("node").web(source))
        .start();
    for name in ["isolated", "bun", "node"] {
        let mut wire = house
            .ask("GET", &format!("/functions/{name}"))
            .header("connection", "close")
            .open();
        let all = wire.hear_the_end().to_ascii_lowercase();
        for part in [
            "http/1.1 418",
            "x-a: b",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "text/weird",
            "teapot",
        ] {
            assert!(all.contains(part), "{name}: no {part} in {all}");
        }
    }
}

#[test]
fn head_and_204_have_no_body() {
    let source = "export default (r) => r.method === 'HEAD' ? new Response('never seen') : new Response(null, { status: 204 })";
    let house = House::serve()
        .function("isolated", |f| f.web(source))
        .function("bun", |f| f.bun().web(source))
        .function("node", |f| f.on("node").web(source))
        .start();
    for name in ["isolated", "bun", "node"] {
        let path = format!("/functions/{name}");
        let head = house
            .ask("HEAD", &path)
            .header("connection", "close")
            .open()
            .hear_the_end();
        assert!(
            head.starts_with("HTTP/1.1 200") && !head.contains("never seen"),
            "{head}"
        );
        assert_eq!(house.get(&path).status, 204);
    }
}

#[test]
fn health_counts_invocations_and_knows_readiness() {
    let source = "export default (r) => { if (r.url.endsWith('bad')) throw new Error('bad'); return new Response('ok'); }";
    let house = House::serve().function("f", |f| f.web(source)).start();
    house.get("/functions/f").ok();
    house.get("/functions/f/bad");
    until("both are counted", || {
        let health = house.get("/health").json();
        health["totalInvocations"] == 2
            && health["successfulInvocations"] == 1
            && health["failedInvocations"] == 1
    });
    let health = house.get("/health").json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["ready"], true);
    until("time passes", || {
        house.get("/health").json()["uptime"].as_f64() > Some(0.0)
    });
    assert_eq!(
        house
            .ask("GET", "/health")
            .header("accept", "text/plain")
            .send()
            .ok()
            .trim(),
        "OK"
    );
    assert_eq!(house.get("/health/live").status, 200);
    assert_eq!(house.get("/health/ready").status, 200);
}

#[test]
fn serve_prints_a_line_for_each_invocation() {
    let house = House::serve()
        .function("hello", |f| {
            f.web("export default () => new Response('ok')")
        })
        .start();
    house.get("/functions/hello/Ann").ok();
    until("the line is printed", || {
        house
            .said()
            .contains("← hello GET /functions/hello/Ann 200")
    });
}

#[test]
fn a_method_that_no_runtime_knows_is_refused_before_any_runs() {
    let house = House::serve()
        .function("f", |f| {
            f.bun().web("export default (r) => new Response(r.method)")
        })
        .start();
    let answer = house.ask("FOO", "/functions/f").send();
    answer.fails(400, "BadRequest").says("FOO");
    assert_eq!(house.ask("PATCH", "/functions/f").send().ok(), "PATCH");
}
