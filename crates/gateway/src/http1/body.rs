//! Bodies in motion: from one side's framing into the other's, a buffer at a time.

use super::chunked::{Decoder, LAST_CHUNK, encode_chunk};
use super::transport::read_some;
use crate::timer::Timer;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

const READ_BYTES: usize = 16 * 1024;
/// Long bodies are moved in pieces of this size.
const LARGE_READ_BYTES: usize = 64 * 1024;

/// How the length of an incoming body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// How the outgoing body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// The length was announced, or the end of the connection will be the end of the body.
    Plain,
    Chunked,
}

/// Which side failed, and how.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("reading the body: {0}")]
    Read(std::io::Error),
    #[error("the sender stopped for too long")]
    ReadTimeout,
    #[error("the body ended early")]
    Truncated,
    #[error("{0}")]
    Coding(super::chunked::ChunkError),
    #[error("writing the body: {0}")]
    Write(std::io::Error),
    #[error("the receiver stopped for too long")]
    WriteTimeout,
}

impl CopyError {
    /// Whether the side the body came from is to blame.
    pub(crate) fn is_from_reader(&self) -> bool {
        !matches!(self, CopyError::Write(_) | CopyError::WriteTimeout)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) read: Duration,
    pub(crate) write: Duration,
}

/// What a finished copy says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copied {
    pub(crate) written: u64,
}

async fn flush<W: AsyncWrite + Unpin>(
    to: &mut W,
    data: &[u8],
    timer: &mut Timer,
    timeout: Duration,
) -> Result<(), CopyError> {
    if data.is_empty() {
        return Ok(());
    }
    // TLS may keep a part to itself when the socket takes no more.
    let write = async {
        to.write_all(data).await?;
        to.flush().await
    };
    let written = timer.limit(Instant::now() + timeout, write).await;
    written.map_err(|_| CopyError::WriteTimeout)?.map_err(CopyError::Write)
}

async fn refill<R: AsyncRead + Unpin>(
    from: &mut R,
    buffer: &mut Vec<u8>,
    room: usize,
    timer: &mut Timer,
    timeout: Duration,
) -> Result<usize, CopyError> {
    let read = timer.limit(Instant::now() + timeout, read_some(from, buffer, room)).await;
    read.map_err(|_| CopyError::ReadTimeout)?.map_err(CopyError::Read)
}

/// Copies a body from `from` to `to`. `buffer` holds what was read already and keeps what lies behind the body; `out`
/// holds what is to be written before it (the head) and is empty afterwards.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn copy<R, W>(
    from: &mut R,
    buffer: &mut Vec<u8>,
    incoming: Incoming,
    to: &mut W,
    out: &mut Vec<u8>,
    outgoing: Outgoing,
    timer: &mut Timer,
    timeouts: Timeouts,
) -> Result<Copied, CopyError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut copied = Copied::default();
    match incoming {
        Incoming::None => {}
        Incoming::Length(length) if outgoing == Outgoing::Plain => {
            let mut left = length;
            let taken = take(buffer, &mut left, out);
            copied.written += out.len() as u64;
            flush(to, out, timer, timeouts.write).await?;
            out.clear();
            buffer.drain(..taken);
            while left > 0 {
                let room = if left > READ_BYTES as u64 { LARGE_READ_BYTES } else { READ_BYTES };
                if refill(from, buffer, room, timer, timeouts.read).await? == 0 {
                    return Err(CopyError::Truncated);
                }
                let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                flush(to, &buffer[..part], timer, timeouts.write).await?;
                left -= part as u64;
                copied.written += part as u64;
                consume(buffer, part);
            }
            return Ok(copied);
        }
        Incoming::Length(_) | Incoming::UntilClose => {
            let mut left = match incoming {
                Incoming::Length(length) => length,
                _ => u64::MAX,
            };
            loop {
                let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                append(&buffer[..part], outgoing, out);
                consume(buffer, part);
                left -= part as u64;
                copied.written += out.len() as u64;
                flush(to, out, timer, timeouts.write).await?;
                out.clear();
                if left == 0 {
                    break;
                }
                if refill(from, buffer, READ_BYTES, timer, timeouts.read).await? == 0 {
                    if incoming == Incoming::UntilClose {
                        break;
                    }
                    return Err(CopyError::Truncated);
                }
            }
        }
        Incoming::Chunked => {
            let mut decoder = Decoder::new();
            loop {
                let mut used = 0;
                while used < buffer.len() && !decoder.is_done() {
                    let step = decoder.step(&buffer[used..]).map_err(CopyError::Coding)?;
                    append(&buffer[used + step.data.0..used + step.data.1], outgoing, out);
                    used += step.used;
                }
                consume(buffer, used);
                if decoder.is_done() {
                    break;
                }
                copied.written += out.len() as u64;
                flush(to, out, timer, timeouts.write).await?;
                out.clear();
                if refill(from, buffer, READ_BYTES, timer, timeouts.read).await? == 0 {
                    return Err(CopyError::Truncated);
                }
            }
        }
    }
    if incoming != Incoming::None && outgoing == Outgoing::Chunked {
        out.extend_from_slice(LAST_CHUNK);
    }
    copied.written += out.len() as u64;
    flush(to, out, timer, timeouts.write).await?;
    out.clear();
    Ok(copied)
}

/// Appends as much of `buffer` as belongs to the body; returns how much that was.
fn take(buffer: &[u8], left: &mut u64, out: &mut Vec<u8>) -> usize {
    let part = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    out.extend_from_slice(&buffer[..part]);
    *left -= part as u64;
    part
}

fn append(data: &[u8], outgoing: Outgoing, out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    match outgoing {
        Outgoing::Plain => out.extend_from_slice(data),
        Outgoing::Chunked => encode_chunk(data, out),
    }
}

/// Removes the first `count` bytes.
pub(crate) fn consume(buffer: &mut Vec<u8>, count: usize) {
    if count >= buffer.len() {
        buffer.clear();
    } else {
        buffer.drain(..count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(
        given: &[u8],
        rest: &[u8],
        incoming: Incoming,
        outgoing: Outgoing,
    ) -> Result<(String, String), CopyError> {
        let mut buffer = given.to_vec();
        let mut from = rest;
        let mut to = Vec::new();
        let mut out = b"HEAD ".to_vec();
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { read: second, write: second };
        copy(&mut from, &mut buffer, incoming, &mut to, &mut out, outgoing, &mut Timer::new(), timeouts)
            .await?;
        Ok((String::from_utf8(to).unwrap(), String::from_utf8(buffer).unwrap()))
    }

    #[tokio::test]
    async fn every_framing_becomes_every_other() {
        let text = |pair: Result<(String, String), CopyError>| pair.unwrap();
        let plain = Outgoing::Plain;
        let chunked = Outgoing::Chunked;
        let expect = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            text(run(b"sho", b"pnext", Incoming::Length(4), plain).await),
            expect("HEAD shop", "next")
        );
        assert_eq!(
            text(run(b"shopnext", b"", Incoming::Length(4), plain).await),
            expect("HEAD shop", "next")
        );
        let coded = b"4\r\nshop\r\n0\r\n\r\nnext";
        assert_eq!(text(run(coded, b"", Incoming::Chunked, plain).await), expect("HEAD shop", "next"));
        let recoded = text(run(&coded[..5], &coded[5..], Incoming::Chunked, chunked).await);
        assert!(recoded.0.ends_with("0\r\n\r\n") && recoded.1 == "next", "{recoded:?}");
        let closed = text(run(b"sh", b"op", Incoming::UntilClose, chunked).await);
        assert_eq!(closed, expect("HEAD 2\r\nsh\r\n2\r\nop\r\n0\r\n\r\n", ""));
        assert_eq!(text(run(b"next", b"", Incoming::None, plain).await), expect("HEAD ", "next"));
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_an_error_of_the_reader() {
        let error = run(b"sh", b"o", Incoming::Length(4), Outgoing::Plain).await.unwrap_err();
        assert!(matches!(error, CopyError::Truncated) && error.is_from_reader());
        assert!(run(b"4\r\nsh", b"", Incoming::Chunked, Outgoing::Plain).await.is_err());
    }
}
