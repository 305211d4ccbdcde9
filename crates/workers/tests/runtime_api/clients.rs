//! Runtime clients of other people, unmodified: `aws-lambda-go` and `lambda_runtime`, built from `tests/peers`, and
//! `aws-lambda-ric` as `scripts/test` installs it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use http::StatusCode;
use http_body_util::BodyExt;
use model::ErrorType;

use crate::world::{World, plan, until, whole};

fn peers(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/peers")
        .join(language)
}

/// Where what is built here is kept for the next time.
fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers")
}

fn build(command: &mut Command) {
    let built = command.output().expect("the compiler starts");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
}

fn go() -> PathBuf {
    let program = target().join("go-client");
    let mut command = Command::new("go");
    command
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(peers("go"))
        .env("CGO_ENABLED", "0");
    build(&mut command);
    program
}

fn rust() -> PathBuf {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--quiet", "--locked"])
        .current_dir(peers("rust"))
        .env("CARGO_TARGET_DIR", target());
    build(&mut command);
    target().join("debug/contract")
}

/// What every client does with its answers and errors.
async fn keeps_the_contract(world: &World, message: &str) {
    let answer: serde_json::Value = serde_json::from_str(&world.act("").await.unwrap()).unwrap();
    assert_eq!(answer["id"].as_str().map(str::len), Some(36));
    assert!(
        answer["arn"]
            .as_str()
            .is_some_and(|arn| arn.starts_with("arn:aws:lambda:us-east-1:000000000000:function:"))
    );
    let failure = world.act("fail").await.unwrap_err();
    assert_eq!(failure.error_type, ErrorType::HandlerError);
    assert!(failure.message.ends_with("as asked"), "{failure}");
    assert!(failure.fault.unwrap().reported.is_some());
    let failure = world.act("panic").await.unwrap_err();
    assert_eq!(failure.error_type, ErrorType::HandlerError);
    assert!(failure.message.contains(message), "{failure}");
    // Go's client ends its process after a panic, and Rust's does not: either way the next one is served.
    world.act("").await.unwrap();
}

/// A stream that comes through, and one that breaks.
async fn streams(world: &World) {
    let answer = world.open_act("broken").await.unwrap();
    let mut body = answer.into_body();
    let (mut text, mut failure) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => failure = Some(error),
        }
    }
    assert_eq!(text, b"part");
    let failure = failure.expect("a failure midway is told");
    assert_eq!(failure.error_type, ErrorType::HandlerError);
    assert!(failure.message.ends_with("the disk is gone"), "{failure}");
}

/// Four at once in one worker take as long as one.
async fn runs_many_at_once(world: &World) {
    let ids = futures_util::future::join_all((0..4).map(|_| world.act("meet"))).await;
    let mut ids: Vec<String> = ids.into_iter().map(Result::unwrap).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn aws_lambda_go_keeps_the_contract() {
    let world = plan().built(&go(), "f").start();
    keeps_the_contract(&world, "as asked").await;
    let answer = world.open_act("stream").await.unwrap();
    assert_eq!(answer.headers()["x-bungee-answer"], "stream");
    assert_eq!(whole(answer).await.unwrap(), "one two");
    let answer = world.open_act("response").await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["x-a"], "1");
    assert_eq!(answer.headers()["set-cookie"], "c=1");
    assert_eq!(whole(answer).await.unwrap(), "body");
    streams(&world).await;
    let failure = world.act("large").await.unwrap_err();
    assert_eq!(failure.error_type, ErrorType::PayloadTooLarge);
    world.act("").await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn aws_lambda_go_polls_as_often_as_it_may() {
    let world = plan().built(&go(), "f").setting("concurrency = 4").start();
    runs_many_at_once(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn lambda_runtime_keeps_the_contract() {
    let world = plan().built(&rust(), "f").start();
    keeps_the_contract(&world, "as asked").await;
    // Its helper for a graceful end registers an extension, and hears SIGTERM.
    world.workers.stop(Duration::from_secs(5)).await;
    until("it says that it leaves", || {
        world.lines().iter().any(|line| line.text == "leaving")
    })
    .await;
}

#[tokio::test]
async fn lambda_runtime_streams() {
    let world = plan().built(&rust(), "stream").start();
    let answer = world.open_act("").await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["x-bungee-answer"], "response");
    assert_eq!(answer.headers()["set-cookie"], "c=1");
    assert_eq!(whole(answer).await.unwrap(), "one two");
    streams(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn lambda_runtime_polls_as_often_as_it_may() {
    let world = plan()
        .built(&rust(), "many")
        .setting("concurrency = 4")
        .start();
    runs_many_at_once(&world).await;
    world.stop().await;
}

/// Every kind of answer that AWS's client for Node can give, chosen by the event.
const NODE: &str = r#"
const plain = async (event, context) => {
  if (event.act === "fail") throw new Error("as asked");
  if (event.act === "panic") throw new TypeError("as asked");
  return { id: context.awsRequestId, arn: context.invokedFunctionArn };
};
const streamed = awslambda.streamifyResponse(async (event, stream) => {
  if (event.act === "broken") {
    stream.write("part");
    await new Promise((resolve) => setTimeout(resolve, 20));
    throw new Error("the disk is gone");
  }
  const out = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { "x-a": "1" } });
  out.write("one ");
  out.write("two");
  out.end();
});
exports.handler = process.env.AWS_LAMBDA_FUNCTION_NAME === "stream" ? streamed : plain;
"#;

/// A world where that client calls these handlers.
fn node(name: &'static str) -> World {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("a home folder")).join(".cache")
    });
    let client = cache.join("bungee/tools/peers/node/node_modules/aws-lambda-ric");
    assert!(
        client.join("dist/rapid-client.node").is_file(),
        "run scripts/test once: it installs {client:?}"
    );
    let path = std::env::var_os("PATH").expect("there is a PATH");
    let node = workers::find_program("node", &path).expect("node is on PATH");
    let (node, client) = (node.display(), client.display());
    let program = format!("#!/bin/sh\nexec {node} {client}/bin/index.mjs index.handler\n");
    let world = plan().program(program).named(name).start();
    std::fs::write(world.file("index.js"), NODE).unwrap();
    world
}

#[tokio::test]
async fn aws_lambda_ric_keeps_the_contract() {
    let world = node("f");
    keeps_the_contract(&world, "as asked").await;
    world.stop().await;
}

#[tokio::test]
async fn aws_lambda_ric_streams() {
    let world = node("stream");
    let answer = world.open_act("").await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["x-bungee-answer"], "response");
    assert_eq!(answer.headers()["x-a"], "1");
    assert_eq!(whole(answer).await.unwrap(), "one two");
    streams(&world).await;
    world.stop().await;
}
