//! A client of the framed socket that waits. Written from the wire's description alone, so that it judges ours.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{process::PATIENCE, serving::House};

pub const INVOKE: u8 = 1;
pub const GET_LOGS: u8 = 2;
pub const GET_METRICS: u8 = 3;
pub const REGISTER: u8 = 4;
pub const DEPLOY: u8 = 5;

/// A stream of either kind.
trait Stream: Read + Write {
    /// Says that no more will be sent.
    fn end_ours(&self);
    /// A read waits so long.
    fn set_patience(&self, patience: Duration);
}

impl Stream for UnixStream {
    fn end_ours(&self) {
        self.shutdown(Shutdown::Write).expect("it is open");
    }

    fn set_patience(&self, patience: Duration) {
        self.set_read_timeout(Some(patience))
            .expect("a positive time");
    }
}

impl Stream for TcpStream {
    fn end_ours(&self) {
        self.shutdown(Shutdown::Write).expect("it is open");
    }

    fn set_patience(&self, patience: Duration) {
        self.set_read_timeout(Some(patience))
            .expect("a positive time");
    }
}

/// One connection.
pub struct Frames {
    stream: Box<dyn Stream>,
    seen: Vec<u8>,
    /// Answers that came before they were asked for.
    early: BTreeMap<u64, Reply>,
    last: u64,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// 0 for an answer, 1 for a refusal.
    pub status: u8,
    pub json: Value,
}

impl Reply {
    /// The answer, or the test ends here.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 0, "{}", self.json);
        self.json
    }

    /// Asserts a refusal of this type that contains the text.
    #[track_caller]
    pub fn refused(self, error_type: &str, text: &str) {
        assert_eq!(self.status, 1, "{}", self.json);
        assert_eq!(self.json["type"], error_type, "{}", self.json);
        let said = format!("{} {}", self.json["error"], self.json["hint"]);
        assert!(said.contains(text), "no {text:?} in {said}");
    }

    /// The body of a function's response, or the test ends here.
    #[track_caller]
    pub fn body(self) -> String {
        let json = self.ok();
        assert_eq!(json["success"], true, "{json}");
        let body = STANDARD.decode(json["body"].as_str().expect("a body"));
        String::from_utf8(body.expect("base64")).expect("text")
    }
}

impl House {
    /// A connection to its socket.
    pub fn frames(&self) -> Frames {
        let stream = UnixStream::connect(self.socket()).expect("the socket is there");
        stream.set_patience(PATIENCE);
        Frames::over(stream)
    }

    /// A connection to where it speaks frames over TCP.
    pub fn frames_over_tcp(&self) -> Frames {
        let stream = TcpStream::connect(self.frames_address()).expect("frames are spoken there");
        stream.set_patience(PATIENCE);
        Frames::over(stream)
    }

    /// `HOST:PORT` of its frames.
    pub fn frames_address(&self) -> String {
        let said = self.said();
        let address = said.split("frames at ").nth(1);
        let address = address.and_then(|rest| rest.split_whitespace().next());
        address.expect("it says where").to_owned()
    }

    /// Writes code beside the server, and says where it lies.
    pub fn code(&self, file: &str, code: &str) -> PathBuf {
        let folder = self.home().join("code");
        fs::create_dir_all(&folder).expect("a folder can be made");
        let path = folder.join(file);
        fs::write(&path, code).expect("a file can be written");
        path
    }

    /// Registers and deploys a function on Bun by frames.
    #[track_caller]
    pub fn framed(&self, name: &str, code: &str) -> Frames {
        let mut frames = self.frames();
        frames.ask(REGISTER, &json!({"name": name})).ok();
        let path = self.code(&format!("{name}.js"), code);
        frames.deploy(name, "v1", &path).ok();
        frames
    }
}

impl Frames {
    fn over(stream: impl Stream + 'static) -> Frames {
        Frames {
            stream: Box::new(stream),
            seen: Vec::new(),
            early: BTreeMap::new(),
            last: 0,
        }
    }

    /// Sends bytes as they are.
    pub fn push(&mut self, bytes: &[u8]) {
        // A server that has heard enough closes; its last words say why.
        let _ = self.stream.write_all(bytes);
    }

    /// Says that no more requests will come.
    pub fn end_ours(&mut self) {
        self.stream.end_ours();
    }

    /// Sends a request, and returns its id.
    pub fn send(&mut self, command: u8, payload: &Value) -> u64 {
        self.last += 1;
        let frame = frame(self.last, command, payload.to_string().as_bytes());
        self.push(&frame);
        self.last
    }

    /// The answer to the request of this id.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Reply {
        loop {
            if let Some(reply) = self.early.remove(&id) {
                return reply;
            }
            let (other, reply) = self.next();
            self.early.insert(other, reply);
        }
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, command: u8, payload: &Value) -> Reply {
        let id = self.send(command, payload);
        self.answer(id)
    }

    #[track_caller]
    pub fn invoke(&mut self, name: &str, path: &str, body: &str) -> Reply {
        let payload = json!({"function_id": name, "method": "POST", "path": path, "body": STANDARD.encode(body)});
        self.ask(INVOKE, &payload)
    }

    #[track_caller]
    pub fn deploy(&mut self, name: &str, label: &str, path: &std::path::Path) -> Reply {
        let payload = json!({"function_id": name, "version": label, "bundle_path": path});
        self.ask(DEPLOY, &payload)
    }

    /// The next answer, whosever it is.
    #[track_caller]
    pub fn next(&mut self) -> (u64, Reply) {
        loop {
            if let Some(next) = self.taken() {
                return next;
            }
            assert!(self.more(), "the connection ended: {:?}", self.seen);
        }
    }

    /// Whether nothing comes for a while.
    pub fn is_silent(&mut self) -> bool {
        self.stream.set_patience(Duration::from_millis(300));
        let read = self.stream.read(&mut [0; 1]);
        self.stream.set_patience(PATIENCE);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Reads until the server closes, and returns the answers that came first.
    #[track_caller]
    pub fn end(&mut self) -> Vec<(u64, Reply)> {
        while self.more() {}
        let mut all = Vec::new();
        while let Some(next) = self.taken() {
            all.push(next);
        }
        all
    }

    fn taken(&mut self) -> Option<(u64, Reply)> {
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let rest = number(self.seen.get(..4)?) as usize;
        assert!(rest <= 16 << 20, "a frame of {rest} bytes");
        let frame: Vec<u8> = self.seen.get(4..4 + rest)?.to_vec();
        self.seen.drain(..4 + rest);
        let id = u64::from_le_bytes(frame[..8].try_into().expect("eight bytes"));
        assert_eq!(number(&frame[9..13]) as usize, frame.len() - 13);
        let json = serde_json::from_slice(&frame[13..]).expect("a payload is JSON");
        let status = frame[8];
        Some((id, Reply { status, json }))
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> bool {
        let mut buffer = vec![0; 256 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.seen.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer came"),
            Err(_) => false,
        }
    }
}

/// A request as it stands on the wire.
pub fn frame(id: u64, command: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a small payload");
    let mut frame = (size + 13).to_le_bytes().to_vec();
    frame.extend_from_slice(&id.to_le_bytes());
    frame.push(command);
    frame.extend_from_slice(&size.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}
