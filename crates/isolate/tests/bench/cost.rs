//! What an invocation in a fresh context costs, without the process, the seal and the wire around it.
//!
//! `cargo run --release -p bungee-isolate --example cost` prints one line for each handler. It judges nothing.

use std::{error::Error, time::Instant};

use isolate::inside::{Engine, Request};
use serde_json::json;

const ROUNDS: u32 = 20_000;

const EVENT: &str = "export default (event) => ({ hello: event.name });";
const WEB: &str = "export default (request) => new Response(`Hello from ${request.method}`);";
const ROUTE: &str = "export default async (request, context) => {
    const url = new URL(request.url);
    console.assert(request.headers.get('accept') !== null);
    const { name } = await request.json();
    return Response.json({ name, path: url.pathname, id: context.invocationId }, { headers: { 'x-a': 'b' } });
};";

fn request(body: &str) -> Request {
    let headers = [
        ("host", "127.0.0.1:8080"),
        ("user-agent", "bench/1.0"),
        ("accept", "*/*"),
        ("x-invocation-id", "0192f0c1-2345-7abc-8def-0123456789ab"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("x-bungee-deadline", "99999999999999"),
    ];
    Request {
        method: "POST".into(),
        target: "/functions/hello?a=1".into(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        body: body.into(),
    }
}

/// Time on a processor so far, in nanoseconds.
fn on_processor() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}

fn measure(what: &str, kind: &str, source: &str, body: &str) -> Result<(), Box<dyn Error>> {
    let failed = |fault: model::HandlerFault| fault.message;
    let compile = json!({"entry": "hello.js", "kind": kind, "handler": null, "env": {},
        "modules": [{"name": "hello.js", "source": source}]});
    let boot = json!({"entry": "hello.js", "kind": kind, "handler": null, "env": {"A": "b"},
        "project": "default", "function": "hello", "version": "v1", "has_params": false});
    let started = Instant::now();
    let image = Engine::new(256)
        .compile(&serde_json::to_vec(&compile)?)
        .map_err(failed)?;
    let compiled = started.elapsed();
    let mut engine = Engine::new(256);
    engine.load(&boot.to_string(), &image).map_err(failed)?;
    let loaded = started.elapsed() - compiled;
    let request = request(body);
    let before = on_processor()?;
    for _ in 0..ROUNDS {
        engine.invoke(&request).map_err(failed)?;
        engine.refresh();
    }
    let each = (on_processor()? - before) / u64::from(ROUNDS);
    println!(
        "{what}: {:.1} µs on the processor each, of {} KiB; compiled in {:.1} ms, loaded in {:.1} ms",
        each as f64 / 1000.0,
        engine.kept() >> 10,
        compiled.as_secs_f64() * 1000.0,
        loaded.as_secs_f64() * 1000.0,
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    measure("hello event", "event", EVENT, r#"{"name":"Ann"}"#)?;
    measure("hello web", "web", WEB, "")?;
    measure(
        "web with URL, JSON and headers",
        "web",
        ROUTE,
        r#"{"name":"Ann"}"#,
    )
}
