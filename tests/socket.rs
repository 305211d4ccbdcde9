//! A WebSocket client that waits: somebody else's, so that it judges ours.

use std::{
    io::{ErrorKind, Write},
    net::TcpStream,
    time::Duration,
};

use tungstenite::{
    Error, HandshakeError, Message, WebSocket, client::IntoClientRequest, http::Response,
    protocol::frame::coding::CloseCode,
};

use crate::{process::PATIENCE, serving::House};

/// An open socket.
#[derive(Debug)]
pub struct Socket(WebSocket<TcpStream>);

/// How a socket ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a close of this code and reason.
    Closed(u16, String),
    /// Without any.
    Broken,
}

/// What the server answers instead of a socket.
pub type Refusal = Box<Response<Option<Vec<u8>>>>;

impl Socket {
    /// Opens a socket, with more headers if need be.
    pub fn ask(
        house: &House,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Socket, Refusal> {
        Socket::at(&house.address, path, headers)
    }

    /// The same at any address.
    pub fn at(
        address: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Socket, Refusal> {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a positive time");
        stream.set_nodelay(true).expect("a connected stream");
        let url = format!("ws://{address}{path}");
        let mut request = url.into_client_request().expect("a path");
        for (name, value) in headers {
            let value = value.parse().expect("a header's value");
            request.headers_mut().insert(*name, value);
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer),
            Err(other) => panic!("no answer that could be read: {other}"),
        }
    }

    /// What is answered to one who is granted none.
    #[track_caller]
    pub fn refused(house: &House, path: &str) -> Refusal {
        match Socket::ask(house, path, &[]) {
            Ok(_) => panic!("a socket was granted"),
            Err(answer) => answer,
        }
    }

    /// Opens a socket that is granted.
    #[track_caller]
    pub fn open(house: &House, path: &str) -> Socket {
        Socket::ask(house, path, &[]).unwrap_or_else(|answer| panic!("refused: {answer:?}"))
    }

    #[track_caller]
    pub fn say(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).expect("the server takes it");
    }

    /// Sends bytes that are perhaps no message.
    pub fn push(&mut self, bytes: &[u8]) {
        // A server that has heard enough closes; its last words say why.
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// The next message.
    #[track_caller]
    pub fn hear(&mut self) -> Message {
        loop {
            match self.0.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return message,
                Err(error) => panic!("no message came: {error}"),
            }
        }
    }

    /// The next message, as text.
    #[track_caller]
    pub fn words(&mut self) -> String {
        self.hear().into_text().expect("text").to_string()
    }

    /// Says goodbye and waits until the other side has done so too.
    pub fn close(mut self) -> Ending {
        self.0.close(None).expect("a close can be sent");
        self.end()
    }

    /// Reads until the socket ends.
    pub fn end(mut self) -> Ending {
        let mut ending = Ending::Broken;
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(frame))) => {
                    ending = Ending::Closed(code(frame.code), frame.reason.to_string());
                }
                Ok(Message::Close(None)) => ending = Ending::Closed(1005, String::new()),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("the socket does not end")
                }
                Err(_) => return ending,
            }
        }
    }

    /// Sends messages of this size until the other side takes no more for a while, or `most` bytes are out.
    pub fn flood(&mut self, size: usize, most: usize) -> usize {
        let patience = Some(Duration::from_millis(500));
        self.0
            .get_ref()
            .set_write_timeout(patience)
            .expect("a positive time");
        let mut sent = 0;
        while sent < most && self.0.send(vec![7; size].into()).is_ok() {
            sent += size;
        }
        sent
    }
}

fn code(code: CloseCode) -> u16 {
    code.into()
}
