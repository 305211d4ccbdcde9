//! HTTP/1.1 on a blocking stream: whole requests in, whole answers out. One connection, one request at a time.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

/// Longest request head: the gateway's own limit on headers, and room for what it adds.
const HEAD_MAX: usize = 96 << 10;

/// Most headers in a request.
const HEADERS_MAX: usize = 512;

/// Longest body: an image or a bundle, which the server sends itself. Events are held to their own limit by the engine.
const BODY_MAX: usize = 300 << 20;

/// A request, whole.
pub struct Request {
    /// The method, as sent.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// An answer, whole.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers without the content length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The server's end of descriptor 4.
pub struct Wire {
    stream: UnixStream,
    /// Read and not yet used.
    held: Vec<u8>,
    /// Where reading puts its bytes first: to make room in `held` each time would mean to clear it each time.
    inbox: Box<[u8]>,
}

impl Wire {
    /// A wire on this stream.
    pub fn new(stream: UnixStream) -> Wire {
        Wire {
            stream,
            held: Vec::with_capacity(16 << 10),
            inbox: vec![0; 64 << 10].into(),
        }
    }

    /// The next request; `None` when the server has closed the connection.
    pub fn next(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some((head_length, mut request, length)) = parse_head(&self.held)? {
                self.held.drain(..head_length);
                request.body = match length {
                    Length::Known(length) => self.take(length)?,
                    Length::Chunked => self.take_chunks()?,
                };
                return Ok(Some(request));
            }
            if self.held.len() > HEAD_MAX {
                return Err(invalid("the request head is too long"));
            }
            if !self.fill()? {
                return if self.held.is_empty() {
                    Ok(None)
                } else {
                    Err(invalid("the request is cut off"))
                };
            }
        }
    }

    /// Sends the answer to a request.
    pub fn answer(&mut self, request: &Request, answer: &Answer) -> io::Result<()> {
        let mut bytes = format!("HTTP/1.1 {} \r\n", answer.status).into_bytes();
        for (name, value) in &answer.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            // Header values are bytes on the wire and characters up to U+00FF in the language.
            bytes.extend(
                value
                    .chars()
                    .map(|character| u8::try_from(character).unwrap_or(b'?')),
            );
            bytes.extend_from_slice(b"\r\n");
        }
        if !matches!(answer.status, 204 | 304) {
            bytes
                .extend_from_slice(format!("content-length: {}\r\n", answer.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        if request.method != "HEAD" {
            bytes.extend_from_slice(&answer.body);
        }
        self.stream.write_all(&bytes)
    }

    fn fill(&mut self) -> io::Result<bool> {
        let count = loop {
            match self.stream.read(&mut self.inbox) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.held.extend_from_slice(&self.inbox[..count]);
        Ok(count > 0)
    }

    /// The next `length` bytes.
    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > BODY_MAX {
            return Err(invalid("the body is too long"));
        }
        while self.held.len() < length {
            if !self.fill()? {
                return Err(invalid("the body is cut off"));
            }
        }
        Ok(self.held.drain(..length).collect())
    }

    fn take_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let (start, size) = loop {
                match httparse::parse_chunk_size(&self.held)
                    .map_err(|_| invalid("a chunk has no size"))?
                {
                    httparse::Status::Complete((start, size)) => break (start, size as usize),
                    httparse::Status::Partial if self.fill()? => {}
                    httparse::Status::Partial => return Err(invalid("the body is cut off")),
                }
            };
            self.held.drain(..start);
            if body.len().saturating_add(size) > BODY_MAX {
                return Err(invalid("the body is too long"));
            }
            body.extend(self.take(size)?);
            self.take(2)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

enum Length {
    Known(usize),
    Chunked,
}

/// The head's length, the request without its body, and how long that is; `None` while the head is not whole.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, Request, Length)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let head_length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&error.to_string())),
    };
    let text = |value: &[u8]| {
        value
            .iter()
            .map(|byte| char::from(*byte))
            .collect::<String>()
    };
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), text(header.value)))
        .collect();
    let request = Request {
        method: parsed.method.unwrap_or_default().into(),
        target: parsed.path.unwrap_or_default().into(),
        headers,
        body: Vec::new(),
    };
    let is_chunked = request.header("transfer-encoding").is_some();
    let length = match request.header("content-length").map(str::parse) {
        _ if is_chunked => Length::Chunked,
        Some(Ok(length)) => Length::Known(length),
        Some(Err(_)) => return Err(invalid("the content length is no number")),
        None => Length::Known(0),
    };
    Ok(Some((head_length, request, length)))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(bytes: &[u8]) -> Vec<Request> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(bytes).unwrap();
        drop(ours);
        let mut wire = Wire::new(theirs);
        std::iter::from_fn(|| wire.next().unwrap()).collect()
    }

    #[test]
    fn two_requests_on_one_connection_are_told_apart() {
        let got = requests(
            b"POST /a?b HTTP/1.1\r\nX-A: 1\r\ncontent-length: 3\r\n\r\nabcPUT /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n",
        );
        assert_eq!(
            (
                got[0].target.as_str(),
                got[0].header("x-a"),
                got[0].body.as_slice()
            ),
            ("/a?b", Some("1"), &b"abc"[..])
        );
        assert_eq!(
            (got[1].method.as_str(), got[1].body.as_slice()),
            ("PUT", &b"de"[..])
        );
    }
}
