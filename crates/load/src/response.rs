//! HTTP/1.1 answers, read incrementally from whatever slices the socket gives (RFC 9112): the head is parsed, the body
//! is counted and thrown away.
//!
//! Invariant: how the bytes are cut into slices changes nothing; no state grows beyond [`MOST_HEAD_BYTES`].

use std::mem::MaybeUninit;

const MOST_HEAD_BYTES: usize = 64 * 1024;
const MOST_HEADERS: usize = 96;
/// A chunk-size line or trailer line longer than this is an attack or garbage.
const MOST_LINE_BYTES: usize = 8 * 1024;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Malformed {
    #[error("not an HTTP/1 response: {0}")]
    Head(httparse::Error),
    #[error("response head larger than 64 KiB")]
    HeadTooLarge,
    #[error("conflicting or malformed content-length")]
    Length,
    #[error("malformed chunked body")]
    Chunk,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of the slice was used; the answer goes on.
    More,
    /// The answer ended after this many bytes of the slice.
    Done(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    UntilClose,
    Chunked(Chunk),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size { value: u64, digits: u8, extension: bool, length: usize },
    Data(u64),
    DataEnd { cr: bool },
    Trailer { empty: bool, length: usize },
}

/// One answer at a time; [`ResponseReader::begin`] makes it ready for the next.
pub(crate) struct ResponseReader {
    head: Vec<u8>,
    body: Option<Body>,
    to_head_request: bool,
    status: u16,
    keep_alive: bool,
    bytes: u64,
    /// Whether what a browser-like user acts on is kept: redirects, cookies, the reason phrase.
    keep: bool,
    kept: Kept,
    body_bytes: u64,
}

/// The parts of an answer's head that change what a user does next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) reason: String,
    pub(crate) location: Option<String>,
    /// The values of `set-cookie`, in order.
    pub(crate) cookies: Vec<String>,
}

impl ResponseReader {
    pub(crate) fn new() -> ResponseReader {
        ResponseReader {
            head: Vec::new(),
            body: None,
            to_head_request: false,
            status: 0,
            keep_alive: false,
            bytes: 0,
            keep: false,
            kept: Kept::default(),
            body_bytes: 0,
        }
    }

    /// As [`ResponseReader::new`], and keeps what [`Kept`] holds of every answer.
    pub(crate) fn keeping() -> ResponseReader {
        ResponseReader { keep: true, ..ResponseReader::new() }
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Bytes of the body, without the framing of its chunks.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// `to_head_request`: the answer to HEAD has no body whatever its headers say.
    pub(crate) fn begin(&mut self, to_head_request: bool) {
        self.head.clear();
        self.body = None;
        self.to_head_request = to_head_request;
        self.status = 0;
        self.bytes = 0;
        self.body_bytes = 0;
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn feed(&mut self, data: &[u8]) -> Result<Progress, Malformed> {
        let mut used = 0;
        loop {
            let rest = data.get(used..).unwrap_or_default();
            match self.body {
                None => match self.feed_head(rest)? {
                    None => {
                        self.bytes += data.len() as u64;
                        return Ok(Progress::More);
                    }
                    Some(consumed) => used += consumed,
                },
                Some(body) => {
                    let (next, consumed, done) = advance(body, rest, &mut self.body_bytes)?;
                    self.body = Some(next);
                    used += consumed;
                    self.bytes += used as u64;
                    return Ok(if done { Progress::Done(used) } else { Progress::More });
                }
            }
        }
    }

    /// The connection ended: whether that ends the answer properly.
    pub(crate) fn end_of_stream(&self) -> bool {
        self.body == Some(Body::UntilClose)
    }

    /// Bytes of `data` that belonged to the head, or `None` when it needs more.
    fn feed_head(&mut self, data: &[u8]) -> Result<Option<usize>, Malformed> {
        if self.head.is_empty() {
            let parsed = parse_head(data, self.to_head_request, self.keep)?;
            let Some(head) = parsed else {
                self.head.extend_from_slice(data);
                return self.check_head_size().map(|()| None);
            };
            self.accept(&head);
            return Ok(Some(head.length));
        }
        let earlier = self.head.len();
        self.head.extend_from_slice(data);
        let Some(head) = parse_head(&self.head, self.to_head_request, self.keep)? else {
            return self.check_head_size().map(|()| None);
        };
        self.accept(&head);
        self.head.clear();
        Ok(Some(head.length.saturating_sub(earlier)))
    }

    fn check_head_size(&self) -> Result<(), Malformed> {
        if self.head.len() > MOST_HEAD_BYTES { Err(Malformed::HeadTooLarge) } else { Ok(()) }
    }

    fn accept(&mut self, head: &Head) {
        // An interim answer (1xx) is followed by the real one.
        if (100..200).contains(&head.status) {
            return;
        }
        self.status = head.status;
        self.keep_alive = head.keep_alive;
        self.body = Some(head.body);
        if let Some(kept) = &head.kept {
            self.kept.clone_from(kept);
        }
    }
}

struct Head {
    kept: Option<Kept>,
    length: usize,
    status: u16,
    keep_alive: bool,
    body: Body,
}

fn parse_head(data: &[u8], to_head_request: bool, keep: bool) -> Result<Option<Head>, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut response, data, &mut headers);
    let length = match status.map_err(Malformed::Head)? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let status = response.code.unwrap_or(0);
    let mut keep_alive = response.version == Some(1);
    let mut content_length = None;
    let mut chunked = false;
    let mut kept = keep.then(|| Kept { reason: response.reason.unwrap_or_default().to_owned(), ..Kept::default() });
    for header in response.headers.iter() {
        // Three names matter; their lengths rule out nearly every other header at once.
        match header.name.len() {
            10 if header.name.eq_ignore_ascii_case("connection") => {
                if has_token(header.value, b"close") {
                    keep_alive = false;
                } else if has_token(header.value, b"keep-alive") {
                    keep_alive = true;
                }
            }
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let value = decimal(header.value).ok_or(Malformed::Length)?;
                if content_length.is_some_and(|earlier| earlier != value) {
                    return Err(Malformed::Length);
                }
                content_length = Some(value);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                chunked = has_token(header.value, b"chunked");
            }
            8 if keep && header.name.eq_ignore_ascii_case("location") => {
                if let Some(kept) = &mut kept {
                    kept.location = Some(String::from_utf8_lossy(header.value).into_owned());
                }
            }
            10 if keep && header.name.eq_ignore_ascii_case("set-cookie") => {
                if let Some(kept) = &mut kept {
                    kept.cookies.push(String::from_utf8_lossy(header.value).into_owned());
                }
            }
            _ => {}
        }
    }
    let body = if to_head_request || status == 204 || status == 304 {
        Body::Length(0)
    } else if chunked {
        Body::Chunked(Chunk::start())
    } else if let Some(length) = content_length {
        Body::Length(length)
    } else {
        keep_alive = false;
        Body::UntilClose
    };
    Ok(Some(Head { kept, length, status, keep_alive, body }))
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u64::from(b - b'0')))
}

/// The body after `data`, the bytes used, and whether the answer is complete. Bytes of the body itself are counted.
fn advance(body: Body, data: &[u8], counted: &mut u64) -> Result<(Body, usize, bool), Malformed> {
    match body {
        Body::UntilClose => {
            *counted += data.len() as u64;
            Ok((body, data.len(), false))
        }
        Body::Length(left) => {
            let used = left.min(data.len() as u64);
            *counted += used;
            Ok((Body::Length(left - used), used as usize, left == used))
        }
        Body::Chunked(mut chunk) => {
            let mut used = 0;
            while let Some(rest) = data.get(used..).filter(|rest| !rest.is_empty()) {
                let (next, consumed, done) = chunk.advance(rest)?;
                if matches!(chunk, Chunk::Data(_)) {
                    *counted += consumed as u64;
                }
                chunk = next;
                used += consumed;
                if done {
                    return Ok((Body::Chunked(chunk), used, true));
                }
            }
            Ok((Body::Chunked(chunk), used, false))
        }
    }
}

// === impl Chunk ===

impl Chunk {
    fn start() -> Chunk {
        Chunk::Size { value: 0, digits: 0, extension: false, length: 0 }
    }

    /// One step on at least one byte: the next state, the bytes used, whether the body ended.
    fn advance(self, data: &[u8]) -> Result<(Chunk, usize, bool), Malformed> {
        let Some(&byte) = data.first() else { return Ok((self, 0, false)) };
        match self {
            Chunk::Data(left) => {
                let used = left.min(data.len() as u64);
                let next = if used == left { Chunk::DataEnd { cr: false } } else { Chunk::Data(left - used) };
                Ok((next, used as usize, false))
            }
            Chunk::DataEnd { cr: false } if byte == b'\r' => Ok((Chunk::DataEnd { cr: true }, 1, false)),
            Chunk::DataEnd { .. } if byte == b'\n' => Ok((Chunk::start(), 1, false)),
            Chunk::DataEnd { .. } => Err(Malformed::Chunk),
            Chunk::Size { length, .. } | Chunk::Trailer { length, .. } if length > MOST_LINE_BYTES => {
                Err(Malformed::Chunk)
            }
            Chunk::Size { digits: 0, .. } if byte == b'\n' => Err(Malformed::Chunk),
            Chunk::Size { value: 0, .. } if byte == b'\n' => {
                Ok((Chunk::Trailer { empty: true, length: 0 }, 1, false))
            }
            Chunk::Size { value, .. } if byte == b'\n' => Ok((Chunk::Data(value), 1, false)),
            Chunk::Size { value, digits, extension, length } => {
                let digit = char::from(byte).to_digit(16).filter(|_| !extension);
                let next = match digit {
                    Some(_) if digits >= 15 => return Err(Malformed::Chunk),
                    Some(digit) => Chunk::Size {
                        value: value * 16 + u64::from(digit),
                        digits: digits + 1,
                        extension,
                        length: length + 1,
                    },
                    // White space, ";name=value" or the CR before the line's end.
                    None if digits > 0 => Chunk::Size { value, digits, extension: true, length: length + 1 },
                    None => return Err(Malformed::Chunk),
                };
                Ok((next, 1, false))
            }
            Chunk::Trailer { empty: true, .. } if byte == b'\n' => Ok((self, 1, true)),
            Chunk::Trailer { .. } if byte == b'\n' => {
                Ok((Chunk::Trailer { empty: true, length: 0 }, 1, false))
            }
            Chunk::Trailer { empty, length } => {
                Ok((Chunk::Trailer { empty: empty && byte == b'\r', length: length + 1 }, 1, false))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, keep-alive and the bytes that follow the answer, with the input cut at every position.
    fn read(input: &[u8]) -> Vec<Result<(u16, bool, usize), Malformed>> {
        let mut results = Vec::new();
        for cut in 0..=input.len() {
            let mut reader = ResponseReader::new();
            reader.begin(false);
            let (first, second) = input.split_at(cut);
            let result = match reader.feed(first) {
                Ok(Progress::Done(used)) => Ok(input.len() - used),
                Ok(Progress::More) => match reader.feed(second) {
                    Ok(Progress::Done(used)) => Ok(second.len() - used),
                    Ok(Progress::More) => Ok(usize::MAX),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            results.push(result.map(|left| (reader.status(), reader.keep_alive(), left)));
        }
        results
    }

    fn every(input: &str, expected: Result<(u16, bool, usize), Malformed>) {
        for (cut, result) in read(input.as_bytes()).into_iter().enumerate() {
            assert_eq!(result, expected, "cut at {cut} of {input:?}");
        }
    }

    #[test]
    fn framing_by_length_chunks_and_status() {
        every("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok((200, true, 0)));
        every(
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhelloXY",
            Ok((200, false, 2)),
        );
        every("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", Ok((200, false, 0)));
        every("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", Ok((200, true, 0)));
        every("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, true, 0)));
        every(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 1\r\n\r\nx",
            Ok((201, true, 0)),
        );
        let chunked = "HTTP/1.1 500 No\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        every(
            &format!("{chunked}5\r\nhello\r\n1F;a=b\r\n0123456789abcdef0123456789abcde\r\n0\r\n\r\n"),
            Ok((500, true, 0)),
        );
        every(&format!("{chunked}0\r\nX-Trailer: 1\r\n\r\nrest"), Ok((500, true, 4)));
        every("HTTP/1.1 200 OK\r\n\r\nuntil the end", Ok((200, false, usize::MAX)));
    }

    #[test]
    fn malformed_answers_are_refused() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in ["g\r\n", "\r\n", "ffffffffffffffff1\r\n", "1\r\nxy"] {
            let results = read(format!("{chunked}{body}").as_bytes());
            assert_eq!(results.last(), Some(&Err(Malformed::Chunk)), "{body:?}");
        }
        let twice = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n";
        assert_eq!(read(twice).last(), Some(&Err(Malformed::Length)));
        assert!(matches!(read(b"SMTP ready\r\n\r\n").last(), Some(Err(Malformed::Head(_)))));
    }

    #[test]
    fn an_endless_head_is_refused() {
        let mut reader = ResponseReader::new();
        reader.begin(false);
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\n"), Ok(Progress::More));
        let line = format!("X-Pad: {}\r\n", "a".repeat(1000));
        let refused = (0..100).find_map(|_| reader.feed(line.as_bytes()).err());
        assert_eq!(refused, Some(Malformed::HeadTooLarge));
    }

    #[test]
    fn the_answer_to_head_has_no_body() {
        let mut reader = ResponseReader::new();
        reader.begin(true);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(reader.feed(head), Ok(Progress::Done(head.len())));
    }
}
