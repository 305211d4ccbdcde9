//! An invocation that became a socket: bytes both ways between its caller and the worker, until either ends.
//! Knows nothing of what the bytes mean. The slot is held for as long as the socket lives.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::client::conn::http1::Parts;
use hyper_util::rt::TokioIo;
use model::Failure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    exchange::{self, Exchange},
    pool::Lease,
    wire::Wire,
};

/// The worker's end of a socket. Dropped before [`Socket::end`], it means that the caller left.
pub struct Socket {
    stream: Wire,
    /// What came together with the head.
    early: Bytes,
    exchange: Exchange,
}

impl Socket {
    pub(crate) fn new(parts: Parts<TokioIo<Wire>>, exchange: Exchange) -> Socket {
        Socket {
            stream: parts.io.into_inner(),
            early: parts.read_buf,
            exchange,
        }
    }

    /// Both sides are done with each other: the slot is free.
    pub fn end(mut self) {
        self.exchange.abandon();
    }

    /// Why the worker broke it off; the slot is given back.
    pub async fn why_lost(mut self) -> Failure {
        match self.exchange.lease.as_ref().map(Lease::id) {
            Some(id) => exchange::broken(&mut self.exchange, id).await,
            None => crate::worker::crashed("the worker ended"),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..count]);
        self.early.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
