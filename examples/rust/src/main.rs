//! Greets whom the path names: /functions/hello and /hello/ANN.

use lambda_runtime::{run, service_fn, Error, LambdaEvent};
use serde_json::{json, Value};

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let name = event.payload["pathParameters"]["name"].as_str().unwrap_or("World");
    println!("greeting {name}");
    let greeting = std::env::var("GREETING")?;
    Ok(json!({ "message": format!("{greeting}, {name}!") }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handle)).await
}
