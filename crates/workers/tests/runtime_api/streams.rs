//! Answers that stream, and web requests.

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use model::{ErrorType, Failure};

use crate::world::{World, plan, until, whole};

/// A response with a head.
const WITH_HEAD: &str = "kind='application/vnd.awslambda.http-integration-response'";

/// What was heard of an answer, and how it ended.
async fn heard(world: &World, run: &str) -> (String, Option<Failure>) {
    let mut body = world.open(run).await.unwrap().into_body();
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
            Err(failure) => return (text, Some(failure)),
        }
    }
    (text, None)
}

#[tokio::test]
async fn bytes_are_passed_on_as_they_come() {
    let world = plan().start();
    let run = "stream(id, b'one ', lambda: until('go'), b'two')";
    let answer = world.open(run).await.unwrap();
    assert_eq!(answer.headers()["x-bungee-answer"], "stream");
    assert_eq!(answer.headers()["content-type"], "text/plain");
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "one ");
    world.put("go");
    assert_eq!(body.collect().await.unwrap().to_bytes(), "two");
    assert_eq!(world.json("done(id, 1)").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_failure_midway_is_the_invocations_failure() {
    let world = plan().start();
    // {"errorType":"Disk","errorMessage":"gone"}
    let report = "eyJlcnJvclR5cGUiOiJEaXNrIiwiZXJyb3JNZXNzYWdlIjoiZ29uZSJ9";
    let run = format!(
        "stream(id, b'part', trailers='Lambda-Runtime-Function-Error-Type: Runtime.X\\r\\nLambda-Runtime-Function-Error-Body: {report}\\r\\n')"
    );
    let (text, failure) = heard(&world, &run).await;
    assert_eq!(text, "part");
    let failure = failure.unwrap();
    assert_eq!(failure.error_type, ErrorType::HandlerError);
    assert_eq!(failure.message, "Disk: gone");
    let (text, failure) =
        heard(&world, "w = raw(f'POST {BASE}invocation/{id}/response HTTP/1.1\\r\\nHost: x\\r\\nLambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n4\\r\\npart\\r\\n'); time.sleep(0.05); w.close()")
            .await;
    assert_eq!(text, "part");
    assert!(
        failure
            .unwrap()
            .message
            .starts_with("Runtime.TruncatedResponse"),
        "the client left"
    );
    assert_eq!(world.json("done(id, 1)").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn an_event_may_be_answered_with_a_response() {
    let world = plan().start();
    let head = r#"{\"statusCode\":201,\"headers\":{\"A\":\"1\"},\"cookies\":[\"c=1\",\"d=2\"]}"#;
    let run =
        format!("stream(id, b'{head}'.replace(b'\\\\', b'') + bytes(8) + b'body', {WITH_HEAD})");
    let answer = world.open(&run).await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["x-bungee-answer"], "response");
    assert_eq!(answer.headers()["a"], "1");
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
    assert_eq!(whole(answer).await.unwrap(), "body");
    let failure = world
        .fails(&format!("stream(id, b'x' * 20000, {WITH_HEAD})"))
        .await;
    assert!(failure.message.contains("16 KiB"), "{failure}");
    assert_eq!(world.json("done(id, 1)").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_web_handler_gets_the_request_and_gives_a_response() {
    let world = plan().web().start();
    let run = format!(
        "asked = json.loads(event.split(bytes(8))[0]); asked['type'] = head['Content-Type']; stream(id, b'{{\"statusCode\": 202}}' + bytes(8), json.dumps(asked).encode(), {WITH_HEAD})"
    );
    let request = Request::put("/a%20b?c=d")
        .header("x-two", "1")
        .header("x-two", "2")
        .header("x-bungee-params", r#"{"id":"7"}"#);
    let answer = world.open_as(request, &run).await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert!(!answer.headers().contains_key("x-bungee-answer"));
    let asked: serde_json::Value = serde_json::from_str(&whole(answer).await.unwrap()).unwrap();
    assert_eq!(asked["type"], "application/vnd.bungee.http-request");
    assert_eq!(asked["method"], "PUT");
    assert_eq!(asked["target"], "/a%20b?c=d");
    assert_eq!(asked["params"]["id"], "7");
    let headers = asked["headers"].as_array().unwrap();
    let two = headers.iter().filter(|pair| pair[0] == "x-two").count();
    assert_eq!(two, 2);
    let failure = world.fails("done(id, 'a result')").await;
    assert!(
        failure
            .message
            .contains("status and headers before the body"),
        "{failure}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_web_handler_whose_caller_left_loses_its_connection() {
    let world = plan().web().start();
    let run = format!(
        "
def forever():
    while True:
        yield
def write():
    try:
        stream(id, b'{{}}' + bytes(8), *([b'x' * 1000] * 100000), {WITH_HEAD})
    except OSError:
        open('left', 'w')
write()"
    );
    let mut body = world.open(&run).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    until("the program hears of it", || world.file("left").exists()).await;
    let run = format!("stream(id, b'{{}}' + bytes(8) + b'next', {WITH_HEAD})");
    assert_eq!(world.run(&run).await.unwrap(), "next");
    world.stop().await;
}

#[tokio::test]
async fn an_event_whose_caller_left_is_run_to_its_end() {
    let world = plan().start();
    let call = world.run("open('begun', 'w'); until('go'); seen.append(done(id, 1)[0])");
    let leave = async {
        until("it runs", || world.file("begun").exists()).await;
    };
    tokio::select! {
        _ = call => panic!("nobody lets it go on"),
        () = leave => {}
    }
    assert_eq!(world.pool.counts().busy, 1);
    world.put("go");
    assert_eq!(world.json("done(id, seen)").await, serde_json::json!([202]));
    world.stop().await;
}
