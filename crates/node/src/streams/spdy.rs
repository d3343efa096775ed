//! The frames of SPDY/3.1 that Kubernetes' streams need: SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY and data.
//!
//! Header blocks are one zlib stream per direction with the preset dictionary of SPDY/3. The inbound stream is raw
//! deflate behind its header, so it is inflated into a ring that the dictionary has been laid into; the outbound one
//! is written in stored blocks, which need neither. Kubernetes' implementation has no flow control, so window updates
//! are neither sent nor heeded.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// More in one frame is refused; clients send 32 KiB at most.
const FRAME_BYTES: usize = 1 << 20;
const HEADER_BYTES: usize = 64 * 1024;
const HEADERS: usize = 256;
const FIN: u8 = 1;
const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS_FRAME: u16 = 8;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes is longer than {FRAME_BYTES}")]
    TooLong(usize),
    #[error("a control frame of SPDY version {0}; 3 is spoken here")]
    Version(u16),
    #[error("a frame of type {0} ends early")]
    Short(u16),
    #[error("a header block cannot be read: {0}")]
    HeaderBlock(&'static str),
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream; names are lower case.
    SynStream {
        stream: u32,
        fin: bool,
        headers: Vec<(String, String)>,
    },
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    RstStream {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Anything that needs no answer.
    Other,
}

/// Reads frames out of bytes as they come.
pub(super) struct Decoder {
    headers: HeaderInflater,
}

/// Writes frames.
#[derive(Default)]
pub(super) struct Encoder {
    begun: bool,
}

// === impl Decoder ===

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder { headers: HeaderInflater::new() }
    }

    /// The next frame of `buffer`, once it is complete.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(head) = buffer.first_chunk::<8>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let flags = head[4];
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if length > FRAME_BYTES {
            return Err(FrameError::TooLong(length));
        }
        if buffer.len() < 8 + length {
            return Ok(None);
        }
        buffer.advance(8);
        let mut body = buffer.split_to(length).freeze();
        let fin = flags & FIN != 0;
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data { stream: first, fin, data: body }));
        }
        let version = (first >> 16) as u16 & 0x7fff;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = first as u16;
        let number = |body: &mut Bytes| body.try_get_u32().map_err(|_| FrameError::Short(kind));
        Ok(Some(match kind {
            SYN_STREAM => {
                let stream = number(&mut body)? & 0x7fff_ffff;
                // The associated stream, the priority and the slot.
                if body.len() < 6 {
                    return Err(FrameError::Short(kind));
                }
                body.advance(6);
                Frame::SynStream { stream, fin, headers: self.headers.read(&body)? }
            }
            // Their blocks belong to the same compressed stream and must be read to stay in step.
            SYN_REPLY | HEADERS_FRAME => {
                number(&mut body)?;
                self.headers.read(&body)?;
                Frame::Other
            }
            RST_STREAM => Frame::RstStream { stream: number(&mut body)? & 0x7fff_ffff },
            PING => Frame::Ping { id: number(&mut body)? },
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        }))
    }
}

// === impl Encoder ===

impl Encoder {
    /// Accepts a stream.
    pub(super) fn syn_reply(&mut self, stream: u32) -> Bytes {
        let mut block = BytesMut::new();
        if !std::mem::replace(&mut self.begun, true) {
            // A zlib header without dictionary.
            block.put_slice(&[0x78, 0x01]);
        }
        let no_headers = 0u32.to_be_bytes();
        block.put_u8(0);
        block.put_u16_le(4);
        block.put_u16_le(!4);
        block.put_slice(&no_headers);
        // An empty block flushes: without it a reader waits for more before it hands out what it has.
        block.put_slice(&[0, 0, 0, 0xff, 0xff]);
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_slice(&block);
        control(SYN_REPLY, 0, &body)
    }

    pub(super) fn rst_stream(stream: u32) -> Bytes {
        const PROTOCOL_ERROR: u32 = 1;
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_u32(PROTOCOL_ERROR);
        control(RST_STREAM, 0, &body)
    }

    pub(super) fn ping(id: u32) -> Bytes {
        control(PING, 0, &id.to_be_bytes())
    }

    pub(super) fn data(stream: u32, fin: bool, data: &[u8]) -> Bytes {
        let mut frame = BytesMut::with_capacity(8 + data.len());
        frame.put_u32(stream);
        frame.put_u8(u8::from(fin));
        frame.put_uint(data.len() as u64, 3);
        frame.put_slice(data);
        frame.freeze()
    }
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u8(flags);
    frame.put_uint(body.len() as u64, 3);
    frame.put_slice(body);
    frame.freeze()
}

const RING: usize = 32 * 1024;
/// Identifies the dictionary in the zlib header.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

struct HeaderInflater {
    state: Box<DecompressorOxide>,
    ring: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl HeaderInflater {
    fn new() -> HeaderInflater {
        let mut ring = vec![0; RING].into_boxed_slice();
        let dictionary = dictionary();
        ring[..dictionary.len()].copy_from_slice(&dictionary);
        HeaderInflater { state: Box::default(), ring, at: dictionary.len(), begun: false }
    }

    fn read(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, FrameError> {
        let text = self.inflate(block)?;
        parse_headers(&text).ok_or(FrameError::HeaderBlock("it does not hold what it announces"))
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut input = block;
        if !std::mem::replace(&mut self.begun, true) {
            let (header, rest) = input.split_at_checked(2).ok_or(FrameError::HeaderBlock("it is empty"))?;
            input = rest;
            if header[1] & 0x20 != 0 {
                let id = input.get(..4).and_then(|id| Some(u32::from_be_bytes(id.try_into().ok()?)));
                if id != Some(DICTIONARY_ID) {
                    return Err(FrameError::HeaderBlock("it wants an unknown dictionary"));
                }
                input = &input[4..];
            }
        }
        let mut text = Vec::new();
        loop {
            let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            let (status, read, written) = decompress(&mut self.state, input, &mut self.ring, self.at, flags);
            text.extend_from_slice(&self.ring[self.at..self.at + written]);
            self.at = (self.at + written) & (RING - 1);
            input = &input[read..];
            if text.len() > HEADER_BYTES {
                return Err(FrameError::HeaderBlock("it is too long"));
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if input.is_empty() => return Ok(text),
                _ => return Err(FrameError::HeaderBlock("it is not deflated data")),
            }
        }
    }
}

fn parse_headers(mut text: &[u8]) -> Option<Vec<(String, String)>> {
    let count = usize::try_from(text.try_get_u32().ok()?).ok().filter(|count| *count <= HEADERS)?;
    let mut string = || {
        let length = usize::try_from(text.try_get_u32().ok()?).ok()?;
        let (string, rest) = text.split_at_checked(length)?;
        text = rest;
        Some(String::from_utf8_lossy(string).into_owned())
    };
    (0..count).map(|_| Some((string()?.to_ascii_lowercase(), string()?))).collect()
}

/// The words of the dictionary that stand behind their length.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200|OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug \
    Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,\
    sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS.split_whitespace() {
        dictionary.put_u32(u32::try_from(word.len()).unwrap_or(0));
        dictionary.extend(word.bytes().map(|byte| if byte == b'|' { b' ' } else { byte }));
    }
    dictionary.extend_from_slice(TAIL.as_bytes());
    dictionary
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a client sends for the headers of a stream, in stored blocks.
    fn block(headers: &[(&str, &str)], first: bool) -> Vec<u8> {
        let mut text = Vec::new();
        text.put_u32(headers.len() as u32);
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.put_u32(part.len() as u32);
            text.put_slice(part.as_bytes());
        }
        let mut block = if first { vec![0x78, 0x01] } else { Vec::new() };
        block.put_u8(0);
        block.put_u16_le(text.len() as u16);
        block.put_u16_le(!(text.len() as u16));
        block.extend(text);
        block
    }

    fn syn_stream(stream: u32, block: &[u8]) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_slice(&[0; 6]);
        body.put_slice(block);
        control(SYN_STREAM, 0, &body)
    }

    #[test]
    fn the_dictionary_is_the_one_that_clients_name() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        let (a, b) = dictionary.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!(b << 16 | a, DICTIONARY_ID);
    }

    #[test]
    fn streams_data_and_pings_are_read_however_they_are_cut() {
        let mut sent = BytesMut::new();
        sent.put(syn_stream(1, &block(&[("streamType", "error"), ("port", "80"), ("requestid", "0")], true)));
        sent.put(syn_stream(3, &block(&[("streamtype", "data")], false)));
        sent.put(Encoder::data(3, false, b"hello"));
        sent.put(Encoder::data(1, true, b""));
        sent.put(Encoder::ping(7));
        sent.put(control(9, 0, &[0; 8]));
        sent.put(Encoder::rst_stream(3));
        let (mut decoder, mut buffer, mut frames) = (Decoder::new(), BytesMut::new(), Vec::new());
        for byte in sent {
            buffer.put_u8(byte);
            frames.extend(decoder.decode(&mut buffer).unwrap());
        }
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = [
            Frame::SynStream {
                stream: 1,
                fin: false,
                headers: vec![pair("streamtype", "error"), pair("port", "80"), pair("requestid", "0")],
            },
            Frame::SynStream { stream: 3, fin: false, headers: vec![pair("streamtype", "data")] },
            Frame::Data { stream: 3, fin: false, data: Bytes::from_static(b"hello") },
            Frame::Data { stream: 1, fin: true, data: Bytes::new() },
            Frame::Ping { id: 7 },
            Frame::Other,
            Frame::RstStream { stream: 3 },
        ];
        assert_eq!(frames, expected);
    }

    /// Two blocks as zlib makes them with the dictionary, one after the other.
    #[test]
    fn compressed_blocks_share_the_dictionary_and_one_another() {
        let first = [
            0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0x25, 0x3a, 0x48, 0xf9, 0x5b, 0x04, 0x4a, 0xab, 0x4c,
            0x16, 0x06, 0x40, 0x92, 0xb3, 0x08, 0x12, 0x5b, 0x99, 0xa0, 0x54, 0xcc, 0x68, 0x00, 0x4e, 0x87,
            0x25, 0x45, 0xa9, 0x89, 0xb9, 0xd0, 0xa2, 0x86, 0x35, 0x15, 0x14, 0x11, 0x00, 0x00, 0x00, 0x00,
            0xff, 0xff,
        ];
        let second = [0x22, 0x4b, 0x2b, 0xa8, 0x94, 0x4a, 0x04, 0x00, 0x00, 0x00, 0xff, 0xff];
        let mut inflater = HeaderInflater::new();
        let headers = |kind: &str| {
            [("port", "80"), ("requestid", "0"), ("streamtype", kind)]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
        };
        assert_eq!(inflater.read(&first).unwrap(), headers("error"));
        assert_eq!(inflater.read(&second).unwrap(), headers("data"));
    }

    #[test]
    fn what_is_not_spdy_is_refused() {
        let refused = |bytes: &[u8]| Decoder::new().decode(&mut BytesMut::from(bytes)).unwrap_err();
        assert_eq!(refused(&[0x80, 2, 0, 1, 0, 0, 0, 0]), FrameError::Version(2));
        assert_eq!(refused(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]), FrameError::TooLong(0xff_ffff));
        assert_eq!(refused(&[0x80, 3, 0, 1, 0, 0, 0, 1, 9]), FrameError::Short(SYN_STREAM));
        assert!(matches!(refused(&syn_stream(1, &[0x78, 0x01, 0xff])), FrameError::HeaderBlock(_)));
        assert!(matches!(refused(&syn_stream(1, &[0x78, 0x20, 1, 2, 3, 4])), FrameError::HeaderBlock(_)));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut decoder = Decoder::new();
            while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
            let mut buffer = BytesMut::from(&syn_stream(1, &body)[..]);
            let _ = Decoder::new().decode(&mut buffer);
        }
    }
}
