//! What a Lambda runtime client, and a function written for Lambda, expects to find in its environment.

use std::process::Command;

use model::{FunctionId, Runtime, Timestamp};

use crate::version::Version;

/// The region of a function that names none.
const REGION: &str = "us-east-1";

/// Beginnings of the names that AWS keeps to itself: a function's own value does not count.
const RESERVED: [&str; 2] = ["AWS_LAMBDA_FUNCTION_", "AWS_LAMBDA_LOG_"];

/// Whole names of that kind.
const RESERVED_NAMES: [&str; 7] = [
    "_HANDLER",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_MAX_CONCURRENCY",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// The name that a function has where names are ARNs.
pub fn arn(function: &FunctionId) -> String {
    format!(
        "arn:aws:lambda:{REGION}:000000000000:function:{}",
        function.name
    )
}

/// Gives `command` the function's own environment, and what Lambda's functions find in theirs.
pub fn give(
    command: &mut Command,
    version: &Version,
    runtime_dir: &std::path::Path,
    now: Timestamp,
) {
    let own = version.settings.env.iter();
    command.envs(own.filter(|(name, _)| !is_reserved(name)));
    let function = version.function.name.as_str();
    let memory = version.settings.memory.0 >> 20;
    command
        .env("_HANDLER", handler(version))
        .env("LAMBDA_TASK_ROOT", &version.dir)
        .env("LAMBDA_RUNTIME_DIR", runtime_dir)
        .env("AWS_LAMBDA_FUNCTION_NAME", function)
        .env("AWS_LAMBDA_FUNCTION_VERSION", version.number.to_string())
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory.to_string())
        .env(
            "AWS_LAMBDA_LOG_GROUP_NAME",
            format!("/aws/lambda/{function}"),
        )
        .env("AWS_LAMBDA_LOG_STREAM_NAME", log_stream(version, now))
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand");
    let env = &version.settings.env;
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].map(|name| env.get(name));
    let region = region[0].or(region[1]).map_or(REGION, String::as_str);
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if !env.contains_key(name) {
            command.env(name, region);
        }
    }
    if version.settings.concurrency > 1 {
        let concurrency = version.settings.concurrency.to_string();
        command.env("AWS_LAMBDA_MAX_CONCURRENCY", concurrency);
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|family| name.starts_with(family)) || RESERVED_NAMES.contains(&name)
}

/// `_HANDLER`: what was set, else for a program of the user's own its function's name, else where the module says.
fn handler(version: &Version) -> String {
    match (&version.settings.handler, version.settings.runtime) {
        (Some(handler), _) => handler.clone(),
        (None, Runtime::Provided) => version.function.name.to_string(),
        (None, _) => version.entry.clone(),
    }
}

/// Named as on AWS: the day, the version, the sandbox.
fn log_stream(version: &Version, now: Timestamp) -> String {
    let day = jiff::Timestamp::from_millisecond(now.0).map_or_else(
        |_| "1970/01/01".to_owned(),
        |now| now.strftime("%Y/%m/%d").to_string(),
    );
    let sandbox = hex::encode(rand::random::<[u8; 16]>());
    format!("{day}/[{}]{sandbox}", version.number)
}
