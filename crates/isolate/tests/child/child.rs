//! A child and what to say to it: compile, load, invoke, and the log lines that came before the answer.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child as Process, Command, ExitStatus, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::{Value, json};

pub const NONCE: &str = "00112233445566778899aabbccddeeff";

/// Memory of each child here, in mebibytes.
pub const MEMORY_MB: u64 = 64;

/// A child process and the server's ends of its descriptors.
pub struct Child {
    process: Process,
    wire: BufReader<UnixStream>,
    control: BufReader<UnixStream>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body of an answer that is no fault, as JSON.
    pub fn json(&self) -> Value {
        assert_eq!(self.header("x-bungee-fault"), None, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Type and message of a fault.
    pub fn fault(&self) -> (String, String) {
        assert_eq!(self.status, 500, "{}", self.text());
        assert_eq!(self.header("x-bungee-fault"), Some(NONCE));
        let fault: Value = serde_json::from_slice(&self.body).unwrap();
        let text = |key: &str| fault[key].as_str().unwrap().to_owned();
        (text("errorType"), text("message"))
    }

    pub fn stack(&self) -> String {
        let fault: Value = serde_json::from_slice(&self.body).unwrap();
        fault["stack"].as_str().unwrap_or_default().to_owned()
    }
}

/// A request; what is left out is as `Default` says.
pub struct Ask<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    /// Milliseconds until the deadline.
    pub time: u64,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Ask {
            method: "POST",
            target: "/",
            headers: &[("x-invocation-id", "id-1")],
            body: b"",
            time: 10_000,
        }
    }
}

impl Child {
    /// A sealed, blank child.
    pub fn blank() -> Child {
        let (wire, theirs) = UnixStream::pair().unwrap();
        let (control, control_theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let boot = json!({"nonce": NONCE, "memory_mb": MEMORY_MB});
        command
            .env_clear()
            .env("BUNGEE_BOOT", boot.to_string())
            .stdin(Stdio::null())
            .fd_mappings(vec![
                FdMapping {
                    parent_fd: OwnedFd::from(control_theirs),
                    child_fd: 3,
                },
                FdMapping {
                    parent_fd: OwnedFd::from(theirs),
                    child_fd: 4,
                },
            ])
            .unwrap();
        let process = command.spawn().unwrap();
        drop(command);
        let mut child = Child {
            process,
            wire: BufReader::new(wire),
            control: BufReader::new(control),
        };
        loop {
            let mut line = String::new();
            assert!(child.control.read_line(&mut line).unwrap() > 0, "no ready");
            if line == "{\"t\":\"ready\"}\n" {
                return child;
            }
        }
    }

    /// A child that loaded these modules, the first of which is the entry.
    pub fn of(kind: &str, modules: &[(&str, &str)]) -> Child {
        let image = compile(kind, modules).unwrap_or_else(|answer| panic!("{}", answer.text()));
        let mut child = Child::blank();
        let boot = json!({"entry": modules[0].0, "handler": null, "kind": kind, "project": "shop",
            "function": "hello", "version": "v3", "has_params": false, "env": {"GREETING": "hi"}});
        let answer = child.ask(&Ask {
            method: "PUT",
            target: &format!("/{NONCE}/load"),
            headers: &[("x-bungee-boot", &boot.to_string())],
            body: &image,
            ..Ask::default()
        });
        assert_eq!(answer.status, 200, "{}", answer.text());
        child
    }

    /// A child with one event handler.
    pub fn event(source: &str) -> Child {
        Child::of("event", &[("hello.js", source)])
    }

    /// A child with one web handler.
    pub fn web(source: &str) -> Child {
        Child::of("web", &[("hello.js", source)])
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, ask: &Ask<'_>) -> Answer {
        let mut head = format!("{} {} HTTP/1.1\r\n", ask.method, ask.target);
        for (name, value) in ask.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let deadline = now.as_millis() + u128::from(ask.time);
        head += &format!(
            "x-bungee-deadline: {deadline}\r\ncontent-length: {}\r\n\r\n",
            ask.body.len()
        );
        let wire = self.wire.get_mut();
        wire.write_all(head.as_bytes()).unwrap();
        wire.write_all(ask.body).unwrap();
        self.answer(ask.method)
    }

    fn answer(&mut self, method: &str) -> Answer {
        let mut line = String::new();
        self.wire.read_line(&mut line).unwrap();
        let status = line
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("the child is gone: {line:?}"));
        let mut answer = Answer {
            status: status.parse().unwrap(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let mut line = Vec::new();
            self.wire.read_until(b'\n', &mut line).unwrap();
            // One character for each byte, as header values are.
            let line: String = line.into_iter().map(char::from).collect();
            let Some((name, value)) = line.trim_end_matches(['\r', '\n']).split_once(": ") else {
                break;
            };
            answer
                .headers
                .push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let length = answer.header("content-length").map(str::parse::<usize>);
        if let Some(length) = length.filter(|_| method != "HEAD") {
            answer.body.resize(length.unwrap(), 0);
            self.wire.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// An event, and the result.
    pub fn send(&mut self, event: &Value) -> Answer {
        self.ask(&Ask {
            body: event.to_string().as_bytes(),
            ..Ask::default()
        })
    }

    /// The log lines so far. Each was written before the answer that followed it.
    pub fn logs(&mut self) -> Vec<Value> {
        self.control.get_ref().set_nonblocking(true).unwrap();
        let mut lines = Vec::new();
        let mut line = String::new();
        while self
            .control
            .read_line(&mut line)
            .is_ok_and(|count| count > 0)
        {
            lines.push(serde_json::from_str(&line).unwrap());
            line.clear();
        }
        lines
    }

    /// Closes the connection, and waits until the child has left by itself.
    pub fn leave(mut self) -> ExitStatus {
        self.wire
            .get_ref()
            .shutdown(std::net::Shutdown::Both)
            .unwrap();
        self.process.wait().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The image of these modules, the first of which is the entry; or the answer that refused them.
pub fn compile(kind: &str, modules: &[(&str, &str)]) -> Result<Vec<u8>, Answer> {
    let listed: Vec<Value> = modules
        .iter()
        .map(|(name, source)| json!({"name": name, "source": source}))
        .collect();
    let body =
        json!({"entry": modules[0].0, "kind": kind, "handler": null, "env": {}, "modules": listed});
    let answer = Child::blank().ask(&Ask {
        method: "PUT",
        target: &format!("/{NONCE}/compile"),
        headers: &[],
        body: body.to_string().as_bytes(),
        ..Ask::default()
    });
    if answer.status == 200 {
        Ok(answer.body)
    } else {
        Err(answer)
    }
}

/// The result of one event handler without an event.
pub fn result_of(source: &str) -> Value {
    Child::event(source).send(&Value::Null).json()
}
