//! What a client connection can be: plain or TLS.

use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ready when a read would find something; lets an idle connection go without a buffer.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>>;

    /// Ready with `true` once the peer has closed, with `false` when it sent more instead.
    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool>;
}

impl Transport for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut byte = [0u8; 1];
        self.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map(|peeked| !matches!(peeked, Ok(1..)))
    }
}

impl Transport for tokio_rustls::server::TlsStream<TcpStream> {
    fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_closed(&self, _cx: &mut Context<'_>) -> Poll<bool> {
        Poll::Pending
    }
}

impl Transport for tokio::io::DuplexStream {
    fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_closed(&self, _cx: &mut Context<'_>) -> Poll<bool> {
        Poll::Pending
    }
}

/// Reads once into the spare room of `buffer`, of which there is at least `room`. 0 means the end.
pub(crate) async fn read_some<R: AsyncRead + Unpin>(
    io: &mut R,
    buffer: &mut Vec<u8>,
    room: usize,
) -> std::io::Result<usize> {
    if buffer.capacity() - buffer.len() < room {
        buffer.reserve(room);
    }
    io.read_buf(buffer).await
}
