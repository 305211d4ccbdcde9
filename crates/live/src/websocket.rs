//! The embedded channel over WebSockets: one binary message is one frame.
//! The server's half begins where the HTTP upgrade ended; the client's half dials, plain or with TLS.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::{
    Sink, SinkExt, Stream, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    Frame, HEADER, Kind, PAYLOAD_MAX,
    broker::Port,
    channel::{Inbox, Outbox},
    message::{Control, Fatal, Refusal},
};

mod client;

pub use client::WebSocketChannel;

/// The subprotocol that both sides name in the handshake.
pub const SUBPROTOCOL: &str = "bungee.live.1";

/// Where a server keeps its channel.
pub const LIVE_PATH: &str = "/v1/live";

/// Longest wait for the first frame of a connection.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// Longest wait for the last words of a connection to be written, and then for the other side to close it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Frames that are written before the connection is flushed, if more are waiting.
const BATCH: usize = 256;

/// Bytes that are read at once.
const READ_BUFFER: usize = 64 << 10;

/// Why reading has ended.
enum Read {
    /// The other side closed, or the connection broke.
    Ended,
    /// What came cannot be, and the other side is being told.
    Refused,
}

/// What the server answers to a client's `Sec-WebSocket-Key`.
pub fn accept_key(key: &[u8]) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key)
}

fn config() -> WebSocketConfig {
    let largest = Some(HEADER + PAYLOAD_MAX);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(largest)
        .max_frame_size(largest)
}

/// Carries frames between an upgraded connection and a port until either ends.
/// The caller has set `TCP_NODELAY` where there is TCP below.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(io: S, port: Port) {
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    pump(socket, port.outbox, port.inbox, HELLO_WAIT).await;
}

/// What is read goes to `outbox`, what `inbox` holds is written.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    outbox: Outbox,
    mut inbox: Inbox,
    first_wait: Duration,
) {
    let (finished, cut) = (inbox.finished(), inbox.is_cut());
    let (mut sink, mut stream) = socket.split();
    let closing = {
        let mut reading = pin!(read(&mut stream, &outbox, first_wait));
        let mut writing = pin!(write(&mut sink, &mut inbox));
        tokio::select! {
            // A reader that was too slow for its queue does not get the rest of it either.
            () = cut.cancelled() => None,
            code = &mut writing => code,
            () = finished.cancelled() => in_time(writing).await,
            ended = &mut reading => match ended {
                Read::Ended => None,
                Read::Refused => in_time(writing).await,
            },
        }
    };
    if let Some(code) = closing {
        in_time(close(sink, stream, code)).await;
    }
}

/// What a last step gives, if it does not take too long.
async fn in_time<T>(step: impl Future<Output = Option<T>>) -> Option<T> {
    timeout(LAST_WORDS, step).await.ok().flatten()
}

/// Takes every frame that comes.
async fn read(
    stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    outbox: &Outbox,
    first_wait: Duration,
) -> Read {
    let refuse = |kind: &str, message: String| {
        outbox.refuse(Refusal::new(kind, message));
        Read::Refused
    };
    let Ok(mut next) = timeout(first_wait, stream.next()).await else {
        let wait = first_wait.as_secs();
        return refuse("BadFrame", format!("no Hello came within {wait} s"));
    };
    loop {
        match next {
            Some(Ok(Message::Binary(bytes))) => match Frame::decode(bytes) {
                Ok(frame) => {
                    if outbox.send(frame).is_err() {
                        return Read::Refused;
                    }
                }
                Err(bad) => return refuse("BadFrame", bad.to_string()),
            },
            Some(Ok(Message::Text(_))) => {
                let message = "a text message; a frame is a binary message";
                return refuse("BadFrame", message.into());
            }
            Some(Ok(
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
            )) => {}
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { size, max_size }))) => {
                let message = format!("a message of {size} bytes; the limit is {max_size}");
                return refuse("FrameTooLarge", message);
            }
            Some(Err(error @ (Error::Utf8(_) | Error::Capacity(_)))) => {
                return refuse("BadFrame", error.to_string());
            }
            None | Some(Err(_)) => return Read::Ended,
        }
        next = stream.next().await;
    }
}

/// Writes every frame that waits, and says with which code the connection closes; none: it broke.
async fn write(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    inbox: &mut Inbox,
) -> Option<CloseCode> {
    let mut code = CloseCode::Normal;
    while let Some(frame) = inbox.recv().await {
        let mut next = Some(frame);
        let mut left = BATCH;
        while let Some(frame) = next {
            if frame.head.kind == Kind::Fatal {
                code = code_of(&frame);
            }
            sink.feed(Message::Binary(frame.encode())).await.ok()?;
            left -= 1;
            next = if left == 0 { None } else { inbox.try_recv() };
        }
        sink.flush().await.ok()?;
    }
    Some(code)
}

/// The close code that goes with a last word.
fn code_of(fatal: &Frame) -> CloseCode {
    match Control::read(fatal) {
        Ok(Control::Fatal(Fatal(refusal))) => match refusal.kind.as_str() {
            "FrameTooLarge" => CloseCode::Size,
            "Forbidden" => CloseCode::Policy,
            "ShuttingDown" => CloseCode::Away,
            _ => CloseCode::Protocol,
        },
        Ok(_) | Err(_) => CloseCode::Protocol,
    }
}

/// Closes in such a way that the last words arrive: what still comes is read and thrown away, until the other side closes too.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    stream: SplitStream<WebSocketStream<S>>,
    code: CloseCode,
) -> Option<()> {
    let reason = "".into();
    let frame = CloseFrame { code, reason };
    sink.send(Message::Close(Some(frame))).await.ok()?;
    let mut socket = sink.reunite(stream).ok()?;
    let io = socket.get_mut();
    io.shutdown().await.ok()?;
    let mut thrown = [0; 4096];
    while io.read(&mut thrown).await.ok()? > 0 {}
    Some(())
}

#[cfg(test)]
mod tests;
