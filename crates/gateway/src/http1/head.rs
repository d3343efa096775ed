//! Message heads as byte ranges: one pass, no header map, and none of the leniencies that smuggling lives on.
//!
//! Invariant: a head that parses has exactly one reading under RFC 9112: lines end in CRLF, names are tokens right
//! before their colon, no line is folded, and the body's framing is stated at most once.

use memchr::{memchr, memchr_iter};

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub max_head_bytes: usize,
    pub max_target_bytes: usize,
    pub max_fields: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { max_head_bytes: 32 * 1024, max_target_bytes: 8 * 1024, max_fields: 200 }
    }
}

/// Fields the proxy itself has an opinion about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Other,
    Accept,
    Connection,
    ContentLength,
    ContentType,
    Expect,
    Forwarded(Forwarded),
    Host,
    /// Names a hop's own business that is never passed on.
    HopByHop,
    RequestId,
    TransferEncoding,
    Upgrade,
}

/// The `X-Forwarded-*` family, which only a trusted peer may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    For,
    Host,
    Path,
    Port,
    Prefix,
    Proto,
    RealIp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    start: u32,
    name_end: u32,
    value_start: u32,
    value_end: u32,
    /// Behind the line's CRLF.
    end: u32,
    pub(crate) kind: Kind,
}

/// Why a head is refused; the number is the status to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("malformed {0}")]
    Malformed(&'static str),
    #[error("request target too long")]
    TargetTooLong,
    #[error("head too large")]
    TooLarge,
    #[error("unsupported transfer coding")]
    UnsupportedCoding,
    #[error("unsupported protocol version")]
    UnsupportedVersion,
}

impl HeadError {
    pub(crate) fn status(self) -> u16 {
        match self {
            HeadError::Malformed(_) => 400,
            HeadError::TargetTooLong => 414,
            HeadError::TooLarge => 494,
            HeadError::UnsupportedCoding => 501,
            HeadError::UnsupportedVersion => 505,
        }
    }
}

/// A parsed head; ranges are offsets into the buffer it was parsed from. Kept and refilled, so that parsing allocates
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) fields: Vec<Field>,
    /// Bytes of the whole head, the empty line included.
    pub(crate) len: usize,
    /// Method and target of a request; for a response the first is empty and the second status and reason.
    method: (usize, usize),
    target: (usize, usize),
    pub(crate) status: u16,
    pub(crate) is_http10: bool,
    pub(crate) content_length: Option<u64>,
    pub(crate) is_chunked: bool,
    pub(crate) wants_close: bool,
    pub(crate) wants_keep_alive: bool,
    pub(crate) wants_upgrade: bool,
    pub(crate) expects_continue: bool,
    /// `Connection` names fields besides the usual ones, which must not be passed on either.
    pub(crate) has_connection_names: bool,
    host: Option<usize>,
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let extra = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < extra.len() {
        table[extra[i] as usize] = true;
        i += 1;
    }
    let mut i = 0;
    while i < 256 {
        if (i as u8).is_ascii_alphanumeric() {
            table[i] = true;
        }
        i += 1;
    }
    table
};

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN[byte as usize])
}

/// Whether a value holds nothing but visible characters, blanks, tabs and bytes above ASCII. Written as a fold so that
/// it is vectorised.
fn is_field_value(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, &byte| bad | (byte < 0x20 && byte != b'\t') | (byte == 0x7f))
}

fn classify(name: &[u8]) -> Kind {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        2 if is(b"te") => Kind::HopByHop,
        4 if is(b"host") => Kind::Host,
        6 if is(b"accept") => Kind::Accept,
        6 if is(b"expect") => Kind::Expect,
        7 if is(b"upgrade") => Kind::Upgrade,
        7 if is(b"trailer") => Kind::HopByHop,
        9 if is(b"x-real-ip") => Kind::Forwarded(Forwarded::RealIp),
        10 if is(b"connection") => Kind::Connection,
        10 if is(b"keep-alive") => Kind::HopByHop,
        12 if is(b"content-type") => Kind::ContentType,
        14 if is(b"content-length") => Kind::ContentLength,
        15 if is(b"x-forwarded-for") => Kind::Forwarded(Forwarded::For),
        16 if is(b"x-forwarded-host") => Kind::Forwarded(Forwarded::Host),
        16 if is(b"x-forwarded-path") => Kind::Forwarded(Forwarded::Path),
        16 if is(b"x-forwarded-port") => Kind::Forwarded(Forwarded::Port),
        16 if is(b"proxy-connection") => Kind::HopByHop,
        17 if is(b"x-forwarded-proto") => Kind::Forwarded(Forwarded::Proto),
        17 if is(b"transfer-encoding") => Kind::TransferEncoding,
        17 if is(b"x-kong-request-id") => Kind::RequestId,
        18 if is(b"x-forwarded-prefix") => Kind::Forwarded(Forwarded::Prefix),
        _ => Kind::Other,
    }
}

/// Whether the field says where a message ends or what becomes of its connection: such a field is written by whoever
/// sends the message and by nobody else.
pub(crate) fn frames(name: &[u8]) -> bool {
    matches!(
        classify(name),
        Kind::Connection | Kind::ContentLength | Kind::HopByHop | Kind::TransferEncoding | Kind::Upgrade
    )
}

fn trim(buffer: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
    let is_blank = |byte: u8| byte == b' ' || byte == b'\t';
    while start < end && is_blank(buffer[start]) {
        start += 1;
    }
    while end > start && is_blank(buffer[end - 1]) {
        end -= 1;
    }
    (start, end)
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

impl Head {
    fn clear(&mut self) {
        let fields = std::mem::take(&mut self.fields);
        *self = Head { fields, ..Head::default() };
        self.fields.clear();
    }

    pub(crate) fn method<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(self.method.0..self.method.1).unwrap_or_default()
    }

    /// A request's target, or a response's status code and reason as sent.
    pub(crate) fn target<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(self.target.0..self.target.1).unwrap_or_default()
    }

    /// Where the target begins in the buffer.
    pub(crate) fn target_start(&self) -> usize {
        self.target.0
    }

    pub(crate) fn name<'b>(&self, buffer: &'b [u8], field: &Field) -> &'b [u8] {
        buffer.get(field.start as usize..field.name_end as usize).unwrap_or_default()
    }

    pub(crate) fn value<'b>(&self, buffer: &'b [u8], field: &Field) -> &'b [u8] {
        buffer.get(field.value_start as usize..field.value_end as usize).unwrap_or_default()
    }

    pub(crate) fn first<'b>(&self, buffer: &'b [u8], kind: Kind) -> Option<&'b [u8]> {
        self.fields.iter().find(|field| field.kind == kind).map(|field| self.value(buffer, field))
    }

    pub(crate) fn host<'b>(&self, buffer: &'b [u8]) -> Option<&'b [u8]> {
        self.host.and_then(|at| self.fields.get(at)).map(|field| self.value(buffer, field))
    }

    /// Parses a request head at the start of `buffer`. `Ok(false)` means that more bytes are needed.
    pub(crate) fn parse_request(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        self.clear();
        let Some(line) = self.start_line(buffer, limits)? else {
            let so_far = buffer.len();
            let in_target = memchr(b'\n', buffer).is_none() && so_far > limits.max_target_bytes + 32;
            return if in_target { Err(HeadError::TargetTooLong) } else { Ok(false) };
        };
        let (start, end) = line;
        let text = &buffer[start..end];
        let method_end = memchr(b' ', text).ok_or(HeadError::Malformed("request line"))?;
        let rest = &text[method_end + 1..];
        let target_end = memchr(b' ', rest).ok_or(HeadError::Malformed("request line"))?;
        let version = &rest[target_end + 1..];
        self.method = (start, start + method_end);
        self.target = (start + method_end + 1, start + method_end + 1 + target_end);
        if target_end > limits.max_target_bytes {
            return Err(HeadError::TargetTooLong);
        }
        if !is_token(&text[..method_end]) {
            return Err(HeadError::Malformed("method"));
        }
        let target = &rest[..target_end];
        if target.is_empty() || !is_field_value(target) || memchr(b'\t', target).is_some() {
            return Err(HeadError::Malformed("request target"));
        }
        self.is_http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(HeadError::UnsupportedVersion);
            }
            _ => return Err(HeadError::Malformed("protocol version")),
        };
        if !self.parse_fields(buffer, end + 2, limits)? {
            return Ok(false);
        }
        if self.is_chunked && (self.content_length.is_some() || self.is_http10) {
            return Err(HeadError::Malformed("framing"));
        }
        match self.host(buffer) {
            None if !self.is_http10 => Err(HeadError::Malformed("host")),
            Some(host) if !is_host(host) => Err(HeadError::Malformed("host")),
            _ => Ok(true),
        }
    }

    /// Parses a response head at the start of `buffer`. `Ok(false)` means that more bytes are needed.
    pub(crate) fn parse_response(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        self.clear();
        let Some((start, end)) = self.start_line(buffer, limits)? else { return Ok(false) };
        let text = &buffer[start..end];
        let malformed = HeadError::Malformed("status line");
        self.is_http10 = match text.get(..9) {
            Some(b"HTTP/1.1 ") => false,
            Some(b"HTTP/1.0 ") => true,
            _ => return Err(malformed),
        };
        let code = text.get(9..12).ok_or(malformed)?;
        if !code.iter().all(u8::is_ascii_digit) || !matches!(text.get(12), None | Some(b' ')) {
            return Err(malformed);
        }
        self.status = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        if !(100..600).contains(&self.status) || !is_field_value(text) {
            return Err(malformed);
        }
        self.target = (start + 9, end);
        if !self.parse_fields(buffer, end + 2, limits)? {
            return Ok(false);
        }
        if self.is_chunked && self.content_length.is_some() {
            return Err(HeadError::Malformed("framing"));
        }
        Ok(true)
    }

    /// The range of the first line, behind at most one empty one.
    fn start_line(&self, buffer: &[u8], limits: &HeadLimits) -> Result<Option<(usize, usize)>, HeadError> {
        let start = if buffer.starts_with(b"\r\n") { 2 } else { 0 };
        let Some(newline) = memchr(b'\n', &buffer[start..]) else {
            return if buffer.len() > limits.max_head_bytes { Err(HeadError::TooLarge) } else { Ok(None) };
        };
        let end = start + newline;
        if newline == 0 || buffer[end - 1] != b'\r' {
            return Err(HeadError::Malformed("line ending"));
        }
        Ok(Some((start, end - 1)))
    }

    fn parse_fields(&mut self, buffer: &[u8], from: usize, limits: &HeadLimits) -> Result<bool, HeadError> {
        let mut start = from;
        for newline in memchr_iter(b'\n', &buffer[from..]) {
            let end = from + newline;
            if end == start || buffer[end - 1] != b'\r' {
                return Err(HeadError::Malformed("line ending"));
            }
            if end > limits.max_head_bytes {
                return Err(HeadError::TooLarge);
            }
            if end - 1 == start {
                self.len = end + 1;
                return Ok(true);
            }
            if self.fields.len() == limits.max_fields {
                return Err(HeadError::TooLarge);
            }
            self.parse_field(buffer, start, end - 1)?;
            start = end + 1;
        }
        if buffer.len() > limits.max_head_bytes { Err(HeadError::TooLarge) } else { Ok(false) }
    }

    fn parse_field(&mut self, buffer: &[u8], start: usize, end: usize) -> Result<(), HeadError> {
        let line = &buffer[start..end];
        let colon = memchr(b':', line).ok_or(HeadError::Malformed("field"))?;
        // A folded line begins with a blank, which no token does.
        if !is_token(&line[..colon]) {
            return Err(HeadError::Malformed("field name"));
        }
        let (value_start, value_end) = trim(buffer, start + colon + 1, end);
        let value = &buffer[value_start..value_end];
        if !is_field_value(value) {
            return Err(HeadError::Malformed("field value"));
        }
        let kind = classify(&line[..colon]);
        match kind {
            Kind::ContentLength => {
                let length = parse_length(value).ok_or(HeadError::Malformed("content-length"))?;
                if self.content_length.replace(length).is_some() {
                    return Err(HeadError::Malformed("content-length"));
                }
            }
            Kind::TransferEncoding => {
                if self.is_chunked {
                    return Err(HeadError::Malformed("transfer-encoding"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::UnsupportedCoding);
                }
                self.is_chunked = true;
            }
            Kind::Host if self.host.replace(self.fields.len()).is_some() => {
                return Err(HeadError::Malformed("host"));
            }
            Kind::Connection => self.read_connection(value),
            Kind::Expect => self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        self.fields.push(Field {
            start: start as u32,
            name_end: (start + colon) as u32,
            value_start: value_start as u32,
            value_end: value_end as u32,
            end: (end + 2) as u32,
            kind,
        });
        Ok(())
    }

    fn read_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                self.wants_close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.wants_keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.wants_upgrade = true;
            } else if !option.is_empty() && !option.eq_ignore_ascii_case(b"te") {
                self.has_connection_names = true;
            }
        }
    }

    /// Whether `Connection` names `name`, so that it ends at this hop.
    fn is_named_by_connection(&self, buffer: &[u8], name: &[u8]) -> bool {
        self.has_connection_names
            && self.fields.iter().filter(|field| field.kind == Kind::Connection).any(|field| {
                let value = self.value(buffer, field);
                value.split(|&byte| byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(name))
            })
    }

    /// The same without the fields whose names `removes` knows.
    pub(crate) fn copy_fields_without(
        &self,
        buffer: &[u8],
        out: &mut Vec<u8>,
        keep: impl Fn(Kind) -> bool,
        removes: impl Fn(&[u8]) -> bool,
    ) {
        for field in &self.fields {
            let name = self.name(buffer, field);
            if keep(field.kind) && !removes(name) && !self.is_named_by_connection(buffer, name) {
                out.extend_from_slice(
                    buffer.get(field.start as usize..field.end as usize).unwrap_or_default(),
                );
            }
        }
    }

    /// Appends all fields that `keep` accepts and that do not end at this hop, in runs of whole lines.
    pub(crate) fn copy_fields(&self, buffer: &[u8], out: &mut Vec<u8>, keep: impl Fn(Kind) -> bool) {
        let mut run: Option<(usize, usize)> = None;
        for field in &self.fields {
            let passes = keep(field.kind)
                && !(self.has_connection_names
                    && self.is_named_by_connection(buffer, self.name(buffer, field)));
            if !passes {
                continue;
            }
            let (start, end) = (field.start as usize, field.end as usize);
            run = match run {
                Some((first, last)) if last == start => Some((first, end)),
                Some((first, last)) => {
                    out.extend_from_slice(&buffer[first..last]);
                    Some((start, end))
                }
                None => Some((start, end)),
            };
        }
        if let Some((first, last)) = run {
            out.extend_from_slice(&buffer[first..last]);
        }
    }
}

/// A host as a URI's authority may have it, without user information.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|&byte| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'.' | b'-'
                    | b'_'
                    | b':'
                    | b'['
                    | b']'
                    | b'~'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Option<Head>, HeadError> {
        let mut head = Head::default();
        let complete = head.parse_request(text.as_bytes(), &HeadLimits::default())?;
        Ok(complete.then_some(head))
    }

    #[test]
    fn a_head_is_read_as_ranges() {
        let text = "GET /shop?x=1 HTTP/1.1\r\nHost: shop.org\r\nX-A:  b \r\nContent-Length: 12\r\n\r\nrest";
        let head = request(text).unwrap().unwrap();
        let bytes = text.as_bytes();
        assert_eq!(head.method(bytes), b"GET");
        assert_eq!(head.target(bytes), b"/shop?x=1");
        assert_eq!(head.host(bytes), Some(&b"shop.org"[..]));
        assert_eq!(head.value(bytes, &head.fields[1]), b"b");
        assert_eq!(head.content_length, Some(12));
        assert_eq!(head.len, text.len() - 4);
    }

    #[test]
    fn every_prefix_of_a_head_asks_for_more() {
        let text = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for end in 0..text.len() {
            assert!(matches!(request(&text[..end]), Ok(None)), "{end}");
        }
        assert!(request(text).unwrap().unwrap().is_chunked);
    }

    #[test]
    fn what_smuggling_needs_is_refused() {
        let corpus = [
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n",
            "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.12\r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ];
        for text in corpus {
            let outcome = request(text);
            assert!(outcome.is_err(), "{text:?}: {outcome:?}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        let long = "x".repeat(9_000);
        let target = request(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap_err();
        assert_eq!(target.status(), 414);
        let unfinished = request(&format!("GET /{long}")).unwrap_err();
        assert_eq!(unfinished.status(), 414);
        let big = request(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000)));
        assert_eq!(big.unwrap_err().status(), 494);
        let many = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(300)));
        assert_eq!(many.unwrap_err().status(), 494);
    }

    #[test]
    fn fields_that_end_at_this_hop_are_left_out() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nConnection: close, X-Two\r\nX-Two: 2\r\nX-Three: 3\r\nTE: gzip\r\n\r\n";
        let head = request(text).unwrap().unwrap();
        let mut out = Vec::new();
        head.copy_fields(text.as_bytes(), &mut out, |kind| kind == Kind::Other);
        assert_eq!(String::from_utf8(out).unwrap(), "X-One: 1\r\nX-Three: 3\r\n");
        assert!(head.wants_close);
    }

    #[test]
    fn no_input_panics() {
        let mut seed = 1u64;
        let alphabet = b"GET / HTTP/1.1\r\n:aHost\0\t,;chunked0123";
        for _ in 0..20_000 {
            let mut text = Vec::new();
            for _ in 0..(seed % 60) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            seed = seed.wrapping_add(1);
            let mut head = Head::default();
            let _ = head.parse_request(&text, &HeadLimits::default());
            let _ = head.parse_response(&text, &HeadLimits::default());
        }
    }

    #[test]
    fn responses_are_held_to_the_same_rules() {
        let response = |text: &str| {
            let mut head = Head::default();
            head.parse_response(text.as_bytes(), &HeadLimits::default())
                .map(|complete| (complete, head.status))
        };
        assert_eq!(response("HTTP/1.1 204\r\n\r\n"), Ok((true, 204)));
        assert_eq!(response("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"), Ok((true, 200)));
        assert_eq!(response("HTTP/1.1 200 OK\r\nA: b"), Ok((false, 200)));
        for text in [
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 999 OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(response(text).is_err(), "{text:?}");
        }
    }
}
