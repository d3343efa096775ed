//! The chunked coding (RFC 9112 section 7.1), decoded in place. Extensions and trailers are read over and dropped.

const MAX_EXTENSION_BYTES: usize = 4 * 1024;
const MAX_TRAILER_BYTES: usize = 16 * 1024;
const MAX_SIZE_DIGITS: u8 = 15;

/// The sender broke the coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunk {0}")]
pub(crate) struct ChunkError(&'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeNewline,
    Data,
    DataReturn,
    DataNewline,
    TrailerStart,
    Trailer,
    TrailerNewline,
    EndNewline,
    Done,
}

/// One step: how much input was used, and which part of it is body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) used: usize,
    pub(crate) data: (usize, usize),
}

#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    left: u64,
    digits: u8,
    overhead: usize,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { state: State::Size, left: 0, digits: 0, overhead: 0 }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn charge(&mut self, limit: usize, what: &'static str) -> Result<(), ChunkError> {
        self.overhead += 1;
        if self.overhead > limit { Err(ChunkError(what)) } else { Ok(()) }
    }

    /// Reads `input` up to the end of the next piece of data, the end of the body, or the end of the input.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Done => break,
                State::Data => {
                    let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                    self.left -= take as u64;
                    if self.left == 0 {
                        self.state = State::DataReturn;
                    }
                    return Ok(Step { used: at + take, data: (at, at + take) });
                }
                _ => self.control(byte)?,
            }
            at += 1;
        }
        Ok(Step { used: at, data: (at, at) })
    }

    fn control(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => {
                self.digits += 1;
                if self.digits > MAX_SIZE_DIGITS {
                    return Err(ChunkError("size"));
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                self.left = self.left * 16 + u64::from(digit);
                State::Size
            }
            (State::Size, _) if self.digits == 0 => return Err(ChunkError("size")),
            (State::Size, b'\r') => State::SizeNewline,
            (State::Size, b';' | b' ' | b'\t') => State::Extension,
            (State::Extension, b'\r') => State::SizeNewline,
            (State::Extension, b'\n') => return Err(ChunkError("extension")),
            (State::Extension, _) => {
                self.charge(MAX_EXTENSION_BYTES, "extension")?;
                State::Extension
            }
            (State::SizeNewline, b'\n') => {
                self.digits = 0;
                if self.left == 0 {
                    self.overhead = 0;
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            (State::DataReturn, b'\r') => State::DataNewline,
            (State::DataNewline, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndNewline,
            (State::TrailerStart, b'\n' | b' ' | b'\t') => return Err(ChunkError("trailer")),
            (State::Trailer, b'\r') => State::TrailerNewline,
            (State::Trailer, b'\n') => return Err(ChunkError("trailer")),
            (State::TrailerStart | State::Trailer, _) => {
                self.charge(MAX_TRAILER_BYTES, "trailer")?;
                State::Trailer
            }
            (State::TrailerNewline, b'\n') => State::TrailerStart,
            (State::EndNewline, b'\n') => State::Done,
            _ => return Err(ChunkError("line ending")),
        };
        Ok(())
    }
}

/// Appends `data` as one chunk.
pub(crate) fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let significant = (usize::BITS - data.len().leading_zeros()).div_ceil(4).max(1);
    for place in (0..significant).rev() {
        out.push(DIGITS[(data.len() >> (place * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8], pieces: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let mut decoder = Decoder::new();
        let (mut out, mut used) = (Vec::new(), 0);
        for piece in input.chunks(pieces) {
            let mut rest = piece;
            while !rest.is_empty() && !decoder.is_done() {
                let step = decoder.step(rest)?;
                out.extend_from_slice(&rest[step.data.0..step.data.1]);
                used += step.used;
                rest = &rest[step.used..];
            }
        }
        Ok((out, used, decoder.is_done()))
    }

    #[test]
    fn bodies_survive_any_fragmentation() {
        let text = b"4\r\nshop\r\n1;ext=\"a\"\r\n-\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET /next";
        let body_len = text.len() - b"GET /next".len();
        for pieces in 1..text.len() {
            assert_eq!(decode(text, pieces), Ok((b"shop-0123456789".to_vec(), body_len, true)), "{pieces}");
        }
    }

    #[test]
    fn broken_coding_is_refused() {
        for text in [
            "\r\n",
            "g\r\n",
            "1\nx\r\n",
            "1\r\nxx",
            "1\r\nx\n0\r\n\r\n",
            "-1\r\n",
            "1;a\nb\r\n",
            "0\r\n\n",
            "0\r\n x\r\n\r\n",
            "ffffffffffffffffff\r\n",
            " 1\r\n",
            "0x1\r\n",
        ] {
            assert!(decode(text.as_bytes(), 64).is_err(), "{text:?}");
        }
        let endless = format!("1;{}", "x".repeat(10_000));
        assert!(decode(endless.as_bytes(), 64).is_err());
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for len in [1usize, 15, 16, 255, 256, 70_000] {
            let data = vec![b'x'; len];
            let mut out = Vec::new();
            encode_chunk(&data, &mut out);
            out.extend_from_slice(LAST_CHUNK);
            let all = out.len();
            assert_eq!(decode(&out, 4096), Ok((data, all, true)));
        }
    }
}
