//! Event handlers that stream their answers, as functions for Lambda do with `awslambda`.

use serde_json::json;

use crate::{
    project::Function,
    serving::{House, Plan},
};

/// Streams what the path asks for.
const SOURCE: &str = r#"
    import { pipeline } from 'node:stream/promises';
    import { Readable } from 'node:stream';
    const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
    export const handler = awslambda.streamifyResponse(async (event, responseStream, context) => {
      const path = (event.rawPath ?? event.path).split('/').pop();
      if (path === 'early') throw new RangeError('too early');
      if (path === 'raw') {
        responseStream.setContentType('text/plain');
        responseStream.write('one ');
        responseStream.write({ two: 2 });
        return responseStream.end();
      }
      if (path === 'by-hand') {
        responseStream.setContentType('application/vnd.awslambda.http-integration-response');
        responseStream.write('{"statusCode":2');
        responseStream.write('02}\0\0\0\0\0');
        responseStream.write('\0\0\0body');
        return responseStream.end();
      }
      if (path === 'large') {
        const chunk = Buffer.alloc(65536, 'a');
        return pipeline(Readable.from((function* () { for (let n = 0; n < 160; n++) yield chunk; })()), responseStream);
      }
      responseStream = awslambda.HttpResponseStream.from(responseStream, {
        statusCode: 201, headers: { 'Content-Type': 'text/html', 'x-a': 'b' }, cookies: ['c=1', 'd=2'],
      });
      responseStream.write('first ');
      if (path === 'midway') {
        await sleep(50);
        throw new RangeError('in the middle');
      }
      if (path === 'forever') await new Promise((done) => responseStream.once('close', done));
      if (path === 'forever') return void console.log('told');
      responseStream.write(context.awsRequestId.length > 0 ? 'second' : '');
      responseStream.end();
    });"#;

fn both() -> Plan {
    let on = |runtime| move |f: Function| f.on(runtime).event(SOURCE);
    House::serve()
        .function("bun", on("bun"))
        .function("node", on("node"))
}

#[test]
fn a_function_for_lambda_streams_its_answer_unchanged() {
    let house = both().start();
    for name in ["bun", "node"] {
        let answer = house.get(&format!("/functions/{name}/raw"));
        assert_eq!(answer.ok(), r#"one {"two":2}"#);
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("x-bungee-answer"), None);
        let answer = house.get(&format!("/functions/{name}/page"));
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (201, "first second")
        );
        assert_eq!(answer.header("content-type"), Some("text/html"));
        assert_eq!(answer.header("x-a"), Some("b"));
        let mut wire = house.ask("GET", &format!("/functions/{name}/page")).open();
        wire.hear("set-cookie: c=1");
        wire.hear("set-cookie: d=2");
        let answer = house.get(&format!("/functions/{name}/by-hand"));
        assert_eq!((answer.status, answer.text().as_str()), (202, "body"));
        // More than the 6 MiB that a result may have.
        let answer = house.get(&format!("/functions/{name}/large"));
        assert_eq!(answer.body.len(), 160 * 65536);
        let record = house.record(name, |record| {
            record["outcome"] == "ok" && record["status"] == 201
        });
        assert_eq!(record["trigger"], "http", "{record}");
    }
}

#[test]
fn an_answer_begins_before_its_handler_has_ended_and_breaks_with_its_error() {
    let house = both().start();
    for name in ["bun", "node"] {
        let answer = house.get(&format!("/functions/{name}/early"));
        answer
            .fails(502, "HandlerError")
            .says("RangeError: too early");
        let answer = house.get(&format!("/functions/{name}/midway"));
        assert_eq!((answer.status, answer.is_whole), (201, false), "{answer:?}");
        assert_eq!(answer.text(), "first ");
        let record = house.record(name, |record| {
            record["outcome"] == "HandlerError" && record["status"] == 201
        });
        assert_eq!(record["message"], "RangeError: in the middle", "{record}");
    }
}

#[test]
fn a_caller_that_leaves_closes_the_stream_that_its_function_writes() {
    let house = both().start();
    for name in ["bun", "node"] {
        let mut wire = house
            .ask("GET", &format!("/functions/{name}/forever"))
            .open();
        wire.hear("first ");
        drop(wire);
        house.logged(name, "told");
        house.record(name, |record| record["outcome"] == "Cancelled");
    }
}

#[test]
fn a_stream_without_an_end_meets_the_deadline() {
    let house = House::serve()
        .function("f", |f| {
            f.on("node").event(SOURCE).setting("timeout = '300ms'")
        })
        .start();
    let answer = house.get("/functions/f/forever");
    assert!(!answer.is_whole, "{answer:?}");
    house.record("f", |record| record["outcome"] == "FunctionTimeout");
}

#[test]
fn invoke_brings_a_streamed_answer_as_text() {
    let house = both().start();
    for name in ["bun", "node"] {
        let invoked = house.invoke(name, &json!({"path": "page"}));
        assert_eq!(invoked["result"], "first second", "{invoked}");
        assert_eq!(invoked["status"], 201);
        let invoked = house.invoke(name, &json!({"path": "midway"}));
        assert_eq!(invoked["outcome"], "HandlerError", "{invoked}");
        assert_eq!(invoked["error"]["message"], "RangeError: in the middle");
    }
}

#[test]
fn a_streamed_answer_comes_from_a_laptop_as_it_would_from_the_server() {
    let deployed = "export const handler = () => 'deployed'";
    let house = House::serve()
        .function("far", |f| f.on("node").event(deployed))
        .start();
    let _laptop = house
        .laptop()
        .function("far", |f| f.on("node").event(SOURCE))
        .attach();
    let mut wire = house.ask("GET", "/functions/far/forever").open();
    let begun = wire.hear("first ");
    assert!(begun.starts_with("HTTP/1.1 201"), "{begun}");
    drop(wire);
    let answer = house.get("/functions/far/page");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (201, "first second")
    );
    assert_eq!(answer.header("x-a"), Some("b"));
    assert_eq!(answer.header("x-bungee-answer"), None);
    assert_eq!(house.get("/functions/far/raw").ok(), r#"one {"two":2}"#);
    let answer = house.get("/functions/far/midway");
    assert!(!answer.is_whole && answer.text() == "first ", "{answer:?}");
    let record = house.record("far", |record| record["outcome"] == "HandlerError");
    assert_eq!(record["message"], "RangeError: in the middle", "{record}");
    assert_eq!(record["attempts"][0]["place"], "live");
    let invoked = house.invoke("far", &json!({"path": "page"}));
    assert_eq!(invoked["result"], "first second", "{invoked}");
}
