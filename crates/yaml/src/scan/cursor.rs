//! A place in the text: bytes ahead, line and column so far.

use crate::error::Error;
use crate::span::{FileId, Span};

pub(super) struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    position: usize,
    file: FileId,
    /// From 0.
    pub(super) line: usize,
    /// Characters since the line began, from 0.
    pub(super) column: usize,
    /// Characters since the text began.
    pub(super) index: usize,
}

impl<'a> Cursor<'a> {
    /// Refuses text with control characters, as every YAML reader must.
    pub(super) fn new(file: FileId, text: &'a str) -> Result<Cursor<'a>, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let cursor = Cursor { text, bytes: text.as_bytes(), position: 0, file, line: 0, column: 0, index: 0 };
        match cursor.find_forbidden() {
            None => Ok(cursor),
            Some((offset, c)) => {
                let before = &text[..offset];
                let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
                let span = Span::new(
                    file,
                    before.matches('\n').count() + 1,
                    before[line_start..].chars().count() + 1,
                );
                Err(Error::new(format!("control characters are not allowed (found {:?})", c), span))
            }
        }
    }

    fn find_forbidden(&self) -> Option<(usize, char)> {
        let forbidden = |b: u8| (b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r')) || b == 0x7f;
        // Two-byte controls start with C2, the two non-characters with EF: rare enough to look at one by one.
        let suspect = |b: u8| forbidden(b) || b == 0xc2 || b == 0xef;
        if !self.bytes.iter().copied().any(suspect) {
            return None;
        }
        self.text.char_indices().find(|(_, c)| {
            let code = *c as u32;
            (code < 0x80 && forbidden(code as u8))
                || ((0x80..0xa0).contains(&code) && code != 0x85)
                || code == 0xfffe
                || code == 0xffff
        })
    }

    pub(super) fn span(&self) -> Span {
        Span::new(self.file, self.line + 1, self.column + 1)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.position + ahead).copied()
    }

    /// The length in bytes of the line break `ahead` bytes on, 0 if there is none. `\r\n` counts as one.
    fn break_len(&self, ahead: usize) -> usize {
        let Some(rest) = self.bytes.get(self.position + ahead..) else { return 0 };
        match rest {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            [0xc2, 0x85, ..] => 2,
            [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
            _ => 0,
        }
    }

    pub(super) fn is_break(&self, ahead: usize) -> bool {
        self.break_len(ahead) > 0
    }

    pub(super) fn is_blank(&self, ahead: usize) -> bool {
        matches!(self.peek_at(ahead), Some(b' ' | b'\t'))
    }

    /// White space, a line break or the end.
    pub(super) fn is_blank_or_end(&self, ahead: usize) -> bool {
        match self.peek_at(ahead) {
            None | Some(b' ' | b'\t' | b'\n' | b'\r') => true,
            Some(0xc2 | 0xe2) => self.is_break(ahead),
            _ => false,
        }
    }

    pub(super) fn at_end(&self) -> bool {
        self.position >= self.bytes.len()
    }

    pub(super) fn at_document_marker(&self, marker: &[u8; 3]) -> bool {
        self.column == 0
            && self.bytes.get(self.position..).is_some_and(|rest| rest.starts_with(marker))
            && self.is_blank_or_end(3)
    }

    pub(super) fn at_any_document_marker(&self) -> bool {
        self.at_document_marker(b"---") || self.at_document_marker(b"...")
    }

    /// Skips one character that is no line break.
    pub(super) fn advance(&mut self) {
        let width = match self.peek() {
            None => return,
            Some(0..0x80) => 1,
            Some(0x80..0xe0) => 2,
            Some(0xe0..0xf0) => 3,
            Some(_) => 4,
        };
        self.position += width;
        self.column += 1;
        self.index += 1;
    }

    /// Skips a line break and returns how it reads: LS and PS stay, the others become `\n`. Empty if there is none.
    pub(super) fn skip_break(&mut self) -> &'static str {
        let length = self.break_len(0);
        if length == 0 {
            return "";
        }
        let read = match self.bytes[self.position..] {
            [0xe2, _, 0xa8, ..] => "\u{2028}",
            [0xe2, ..] => "\u{2029}",
            _ => "\n",
        };
        self.position += length;
        self.line += 1;
        self.column = 0;
        self.index += 1;
        read
    }

    pub(super) fn skip_to_break(&mut self) {
        self.take_to_break();
    }

    /// The rest of the line, without its break.
    pub(super) fn take_to_break(&mut self) -> &'a str {
        let start = self.position;
        while !self.at_end() && !self.is_break(0) {
            self.advance();
        }
        &self.text[start..self.position]
    }

    /// The characters from here whose bytes all satisfy `wanted`.
    pub(super) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let start = self.position;
        while self.peek().is_some_and(&wanted) {
            self.advance();
        }
        &self.text[start..self.position]
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.position]
    }
}
