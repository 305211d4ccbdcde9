//! What carries the worker protocol: a Unix socket to the process, or memory, to our own end of the Runtime API.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    net::UnixStream,
};

/// What may lie in memory unread, each way.
const MEMORY: usize = 64 << 10;

/// One end.
pub enum Wire {
    /// To a process.
    Socket(UnixStream),
    /// To a task of ours.
    Memory(DuplexStream),
}

impl Wire {
    /// Both ends of one that needs no system call.
    pub fn in_memory() -> (Wire, DuplexStream) {
        let (one, other) = duplex(MEMORY);
        (Wire::Memory(one), other)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Socket(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Memory(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Socket(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Memory(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Socket(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Wire::Memory(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Wire::Socket(stream) => stream.is_write_vectored(),
            Wire::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Socket(stream) => Pin::new(stream).poll_flush(context),
            Wire::Memory(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Socket(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Memory(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
