//! Every kind of answer that `lambda_runtime` can give, chosen by the function's name and the event.

use std::{env, sync::LazyLock};

use bytes::Bytes;
use futures_util::stream;
use lambda_runtime::{
    run, run_concurrent, service_fn, streaming::Response, Error, LambdaEvent, MetadataPrelude,
};
use serde_json::{json, Value};
use tokio::sync::Barrier;

static HERE: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(4));

async fn answer(event: LambdaEvent<Value>) -> Result<Value, Error> {
    match event.payload["act"].as_str() {
        Some("fail") => Err("as asked".into()),
        Some("panic") => panic!("as asked"),
        Some("meet") => {
            // Waits until four of them are here.
            HERE.wait().await;
            Ok(json!({ "id": event.context.request_id }))
        }
        _ => Ok(json!({
            "id": event.context.request_id,
            "arn": event.context.invoked_function_arn,
            "trace": event.context.xray_trace_id,
        })),
    }
}

async fn stream_answer(
    event: LambdaEvent<Value>,
) -> Result<Response<impl futures_util::Stream<Item = Result<Bytes, Error>> + Send>, Error> {
    let parts: Vec<Result<Bytes, Error>> = match event.payload["act"].as_str() {
        Some("broken") => vec![Ok("part".into()), Err("the disk is gone".into())],
        _ => vec![Ok("one ".into()), Ok("two".into())],
    };
    let metadata_prelude = MetadataPrelude {
        status_code: 201.try_into()?,
        cookies: vec!["c=1".into()],
        ..MetadataPrelude::default()
    };
    Ok(Response {
        metadata_prelude,
        stream: stream::iter(parts),
    })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    lambda_runtime::spawn_graceful_shutdown_handler(|| async { println!("leaving") }).await;
    match env::var("AWS_LAMBDA_FUNCTION_NAME")?.as_str() {
        "stream" => run(service_fn(stream_answer)).await,
        "many" => run_concurrent(service_fn(answer)).await,
        _ => run(service_fn(answer)).await,
    }
}
