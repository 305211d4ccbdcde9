//! Clients of AWS Lambda that sign what they ask: boto3, with an access key of a house or a made-up one.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    peers::python,
    serving::{House, Said},
};

/// An access key.
pub struct Key {
    pub id: String,
    pub secret: String,
}

impl Key {
    /// A new one of the house's, made over its socket.
    #[track_caller]
    pub fn of(house: &House, role: &str) -> Key {
        Key::with(house, role, &[])
    }

    /// The same, with more arguments.
    #[track_caller]
    pub fn with(house: &House, role: &str, more: &[&str]) -> Key {
        let socket = house.socket();
        let socket = socket.to_str().expect("a readable path");
        let create = ["token", "create", "--aws", "--role", role, "--json"];
        let all = [&create[..], &["--socket", socket], more].concat();
        let made = house.cli(&all).ok().json();
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        Key {
            id: text("AccessKeyId"),
            secret: text("SecretAccessKey"),
        }
    }

    /// One that no server knows.
    pub fn made_up() -> Key {
        Key {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        }
    }

    /// What came of each of these calls by boto3.
    #[track_caller]
    pub fn calls(&self, house: &House, calls: &Value) -> Vec<Value> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/invoke.py");
        let mut command = python("python");
        let endpoint = format!("http://{}", house.address);
        command.arg(program);
        command.args([&endpoint, &self.id, &self.secret, "eu-west-1"]);
        let said = with_input(&mut command, &calls.to_string());
        let answers = said.ok().json();
        answers.as_array().expect("an answer to each call").clone()
    }

    /// What came of one.
    #[track_caller]
    pub fn call(&self, house: &House, call: Value) -> Value {
        self.calls(house, &Value::from(vec![call])).remove(0)
    }
}

#[track_caller]
fn with_input(command: &mut Command, input: &str) -> Said {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the client starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(input.as_bytes()).expect("the client reads");
    drop(stdin);
    Said::of(&child.wait_with_output().expect("the client ends"))
}
