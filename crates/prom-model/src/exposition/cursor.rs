//! A position in a text, and the lexical pieces both formats share.

use super::ExpositionError;
use super::parser::RawText;

pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Cursor { text, position: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or("")
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.text.len()
    }

    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.position += 1;
        }
        is_next
    }

    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.position).unwrap_or("")
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ExpositionError {
        ExpositionError::at(self.text, self.position, message.into())
    }

    /// An error that names what was found instead of `expected`.
    pub(super) fn expected(&self, expected: &str) -> ExpositionError {
        let found = match self.rest().chars().next() {
            None => "end of input".to_owned(),
            Some('\n') => "end of line".to_owned(),
            Some(c) => format!("{c:?}"),
        };
        self.error(format!("expected {expected}, found {found}"))
    }

    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.position += 1;
        }
    }

    /// Everything up to the end of the line, which is consumed without its line feed.
    pub(super) fn take_line(&mut self) -> &'a str {
        let start = self.position;
        let length = memchr::memchr(b'\n', self.rest().as_bytes()).unwrap_or(self.text.len() - start);
        self.position = start + length;
        self.since(start)
    }

    /// Bytes up to a blank, a line feed or the end.
    pub(super) fn take_word(&mut self) -> &'a str {
        let start = self.position;
        while let Some(byte) = self.peek() {
            if matches!(byte, b' ' | b'\t' | b'\n') {
                break;
            }
            self.position += 1;
        }
        self.since(start)
    }

    /// A name of letters, digits and `_` (and `:` for metrics) that does not begin with a digit; may be empty.
    pub(super) fn take_name(&mut self, allow_colon: bool) -> &'a str {
        let start = self.position;
        while let Some(byte) = self.peek() {
            let is_part = byte == b'_'
                || byte.is_ascii_alphabetic()
                || (allow_colon && byte == b':')
                || (byte.is_ascii_digit() && self.position > start);
            if !is_part {
                break;
            }
            self.position += 1;
        }
        self.since(start)
    }

    /// A text in double quotes; the cursor stands on the opening one.
    pub(super) fn take_quoted(&mut self, allow_line_feed: bool) -> Result<RawText<'a>, ExpositionError> {
        if !self.eat(b'"') {
            return Err(self.expected("'\"'"));
        }
        let start = self.position;
        let mut has_escapes = false;
        loop {
            match memchr::memchr3(b'"', b'\\', b'\n', self.rest().as_bytes()) {
                None => {
                    self.position = self.text.len();
                    return Err(self.error("a quoted text does not end"));
                }
                Some(length) => self.position += length,
            }
            match self.peek() {
                Some(b'"') => {
                    let raw = self.since(start);
                    self.position += 1;
                    return Ok(RawText { raw, has_escapes });
                }
                Some(b'\\') => {
                    has_escapes = true;
                    let escaped_len = self.rest().chars().nth(1).map_or(0, char::len_utf8);
                    self.position += 1 + escaped_len;
                }
                _ if allow_line_feed => self.position += 1,
                _ => return Err(self.error("a quoted text does not end on its line")),
            }
        }
    }
}

/// Reads a sample value; hexadecimal and underscores are refused as in every Go before 1.13.
pub(super) fn parse_value(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    // Small whole numbers are most of what is ever scraped.
    if !bytes.is_empty() && bytes.len() <= 15 && bytes.iter().all(u8::is_ascii_digit) {
        let whole = bytes.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        return Some(whole as f64);
    }
    if text.contains(['x', 'X', 'p', 'P', '_']) {
        return None;
    }
    crate::parse_float(text)
}
