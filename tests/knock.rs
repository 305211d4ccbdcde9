//! An HTTP/1.1 client that hides nothing: what was sent, and what came back, byte for byte and as it comes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
};

use serde_json::Value;

use crate::process::PATIENCE;

/// A request, made of what a test cares for.
pub struct Ask {
    address: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body came to its proper end.
    pub is_whole: bool,
}

impl Ask {
    pub fn new(address: &str, method: &str, path: &str) -> Ask {
        Ask {
            address: address.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: vec![("host".into(), address.into())],
            body: Vec::new(),
        }
    }

    /// Adds a header, or puts it in the place of the one of that name.
    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn token(self, token: &str) -> Ask {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Ask {
        self.body = body.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.header("content-length", &length)
    }

    pub fn json(self, body: &Value) -> Ask {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Sends it on a connection of its own; what comes back is read as the test likes.
    pub fn open(self) -> Wire {
        let mut wire = Wire::connect(&self.address);
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        wire.send(head);
        // A server may answer, and close, before it has read everything.
        let _ = wire.stream.write_all(&self.body);
        wire
    }

    /// Sends it and reads the whole answer.
    pub fn send(self) -> Answer {
        self.header("connection", "close").open().answer()
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// `status` and the stable type of the error.
    pub fn failure(&self) -> (u16, String) {
        let kind = self.json()["error"]["type"].as_str().map(str::to_owned);
        (self.status, kind.unwrap_or_default())
    }

    /// The error's message.
    pub fn message(&self) -> String {
        let json = self.json();
        json["error"]["message"].as_str().unwrap_or("").to_owned()
    }

    /// The body of a 200, or the test ends here.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.is_whole, "the answer broke off: {}", self.text());
        self.text()
    }

    /// Asserts an error of this status and type.
    #[track_caller]
    pub fn fails(&self, status: u16, error_type: &str) -> &Answer {
        assert_eq!(
            self.failure(),
            (status, error_type.into()),
            "{}",
            self.text()
        );
        self
    }

    /// Asserts that the error's message contains the text.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Answer {
        let message = self.message();
        assert!(message.contains(text), "no {text:?} in {message:?}");
        self
    }
}

/// One connection.
pub struct Wire {
    stream: TcpStream,
    seen: Vec<u8>,
}

/// How a body ends.
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

impl Wire {
    pub fn connect(address: &str) -> Wire {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a positive time");
        stream.set_nodelay(true).expect("a connected stream");
        Wire {
            stream,
            seen: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has heard enough closes; its answer says why.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends one chunk of a chunked body; an empty one ends it.
    pub fn send_chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(chunk);
    }

    /// Says that nothing more will be sent, and still listens.
    pub fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.seen.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!(
                    "no more came after {:?}",
                    String::from_utf8_lossy(&self.seen)
                )
            }
            Err(_) => false,
        }
    }

    /// Reads until the text has come, framing and all, and returns everything so far.
    pub fn hear(&mut self, text: &str) -> String {
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if seen.contains(text) {
                return seen;
            }
            assert!(self.more(), "the connection ended before {text:?}: {seen}");
        }
    }

    /// Reads until the server closes.
    pub fn hear_the_end(&mut self) -> String {
        while self.more() {}
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Reads one whole answer.
    pub fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = find(&self.seen, b"\r\n\r\n") {
                break at;
            }
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            assert!(self.more(), "the connection ended before a head: {seen:?}");
        };
        let head = String::from_utf8_lossy(&self.seen[..end]).into_owned();
        self.seen.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status: u16 = status.and_then(|code| code.parse().ok()).expect("a status");
        if status < 200 {
            return self.answer();
        }
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let (body, is_whole) = self.body(&framing(&headers));
        Answer {
            status,
            headers,
            body,
            is_whole,
        }
    }

    fn body(&mut self, framing: &Framing) -> (Vec<u8>, bool) {
        match *framing {
            Framing::Length(length) => {
                while self.seen.len() < length && self.more() {}
                let is_whole = self.seen.len() >= length;
                let length = length.min(self.seen.len());
                (self.seen.drain(..length).collect(), is_whole)
            }
            Framing::Close => {
                while self.more() {}
                (std::mem::take(&mut self.seen), true)
            }
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    match self.chunk() {
                        None => return (body, false),
                        Some(chunk) if chunk.is_empty() => return (body, true),
                        Some(chunk) => body.extend(chunk),
                    }
                }
            }
        }
    }

    /// The next chunk; nothing if the connection ends first.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            match find(&self.seen, b"\r\n") {
                Some(at) => break at,
                None => self.more().then_some(())?,
            }
        };
        let size = String::from_utf8_lossy(&self.seen[..line]).into_owned();
        let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
        while self.seen.len() < line + 2 + size + 2 {
            self.more().then_some(())?;
        }
        let chunk = self.seen[line + 2..line + 2 + size].to_vec();
        self.seen.drain(..line + 2 + size + 2);
        Some(chunk)
    }
}

fn framing(headers: &[(String, String)]) -> Framing {
    let value = |name: &str| headers.iter().find(|(known, _)| known == name);
    match (value("transfer-encoding"), value("content-length")) {
        (Some(_), _) => Framing::Chunked,
        (None, Some((_, length))) => Framing::Length(length.parse().expect("a length")),
        (None, None) => Framing::Close,
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}
