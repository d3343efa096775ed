//! Scalars of all five styles: quoting undone, lines folded, block indentation removed.

use smol_str::SmolStr;

use super::cursor::Cursor;
use crate::error::Error;
use crate::span::Span;

/// What happens to the line breaks at the end of a block scalar.
#[derive(Clone, Copy, PartialEq)]
enum Chomping {
    Strip,
    Clip,
    Keep,
}

/// Line breaks met while looking for the next text of a flow scalar.
#[derive(Default)]
struct Fold {
    blanks: String,
    first_break: &'static str,
    more_breaks: String,
}

impl Fold {
    /// Adds what the white space stands for: itself, or one space for a single break, or the breaks after the first.
    fn apply(&mut self, text: &mut String) {
        if self.first_break.is_empty() {
            text.push_str(&self.blanks);
        } else if self.first_break == "\n" {
            if self.more_breaks.is_empty() { text.push(' ') } else { text.push_str(&self.more_breaks) }
        } else {
            text.push_str(self.first_break);
            text.push_str(&self.more_breaks);
        }
        self.blanks.clear();
        self.first_break = "";
        self.more_breaks.clear();
    }
}

impl<'a> Cursor<'a> {
    /// A plain scalar, and whether white space after it ran onto a new line.
    pub(super) fn plain_scalar(&mut self, in_flow: bool, indent: isize) -> Result<(SmolStr, bool), Error> {
        let start_span = self.span();
        let least_column = indent + 1;
        let mut text = String::new();
        let mut first_piece: Option<&'a str> = None;
        let mut fold = Fold::default();
        let mut on_new_line = false;
        loop {
            if self.at_any_document_marker() || self.peek() == Some(b'#') {
                break;
            }
            let start = self.position();
            self.skip_plain_word(in_flow);
            let piece = self.since(start);
            if piece.is_empty() {
                break;
            }
            match first_piece {
                None => first_piece = Some(piece),
                Some(first) => {
                    if text.is_empty() {
                        text.push_str(first);
                    }
                    fold.apply(&mut text);
                    text.push_str(piece);
                }
            }
            on_new_line = false;
            if !self.is_blank(0) && !self.is_break(0) {
                break;
            }
            while self.is_blank(0) || self.is_break(0) {
                if self.is_blank(0) {
                    if on_new_line && (self.column as isize) < least_column && self.peek() == Some(b'\t') {
                        return Err(Error::new(
                            "found a tab character that violates indentation",
                            self.span(),
                        ));
                    }
                    if !on_new_line {
                        fold.blanks.push(self.peek().map_or(' ', char::from));
                    }
                    self.advance();
                } else if on_new_line {
                    fold.more_breaks.push_str(self.skip_break());
                } else {
                    fold.blanks.clear();
                    fold.first_break = self.skip_break();
                    on_new_line = true;
                }
            }
            if !in_flow && (self.column as isize) < least_column {
                break;
            }
        }
        let Some(first) = first_piece else {
            return Err(Error::new("found a character that cannot start any token", start_span));
        };
        Ok((if text.is_empty() { first.into() } else { text.into() }, on_new_line))
    }

    fn skip_plain_word(&mut self, in_flow: bool) {
        while let Some(byte) = self.peek() {
            let ends = match byte {
                b' ' | b'\t' | b'\n' | b'\r' => true,
                b':' => {
                    self.is_blank_or_end(1)
                        || (in_flow && matches!(self.peek_at(1), Some(b',' | b']' | b'}')))
                }
                b',' | b'[' | b']' | b'{' | b'}' => in_flow,
                b'?' => in_flow && self.is_blank_or_end(1),
                0xc2 | 0xe2 => self.is_break(0),
                _ => false,
            };
            if ends {
                return;
            }
            self.advance();
        }
    }

    pub(super) fn quoted_scalar(&mut self, single: bool) -> Result<SmolStr, Error> {
        let start_span = self.span();
        let quote = if single { b'\'' } else { b'"' };
        self.advance();
        let mut text = String::new();
        loop {
            if self.at_any_document_marker() {
                return Err(Error::new("found a document marker inside a quoted scalar", self.span()));
            }
            if self.at_end() {
                return Err(Error::new("this quoted scalar has no end", start_span));
            }
            let mut on_new_line = self.quoted_word(single, quote, &mut text)?;
            if self.peek() == Some(quote) {
                self.advance();
                return Ok(text.into());
            }
            let mut fold = Fold::default();
            // An escaped line break joins without a space.
            let joined = on_new_line;
            while self.is_blank(0) || self.is_break(0) {
                if self.is_blank(0) {
                    if !on_new_line {
                        fold.blanks.push(self.peek().map_or(' ', char::from));
                    }
                    self.advance();
                } else if on_new_line {
                    fold.more_breaks.push_str(self.skip_break());
                } else {
                    fold.blanks.clear();
                    fold.first_break = self.skip_break();
                    on_new_line = true;
                }
            }
            if joined {
                text.push_str(&fold.more_breaks);
            } else {
                fold.apply(&mut text);
            }
        }
    }

    /// Reads up to white space or the closing quote. True when it ended at an escaped line break.
    fn quoted_word(&mut self, single: bool, quote: u8, text: &mut String) -> Result<bool, Error> {
        let mut start = self.position();
        loop {
            if self.is_blank_or_end(0) {
                text.push_str(self.since(start));
                return Ok(false);
            }
            let byte = self.peek();
            if single && byte == Some(b'\'') && self.peek_at(1) == Some(b'\'') {
                self.advance();
                text.push_str(self.since(start));
                self.advance();
                start = self.position();
            } else if byte == Some(quote) {
                text.push_str(self.since(start));
                return Ok(false);
            } else if !single && byte == Some(b'\\') {
                text.push_str(self.since(start));
                if self.is_break(1) {
                    self.advance();
                    self.skip_break();
                    return Ok(true);
                }
                self.escape(text)?;
                start = self.position();
            } else {
                self.advance();
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Error> {
        let span = self.span();
        self.advance();
        let hex_digits = match self.peek() {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            Some(letter) => {
                let c = simple_escape(letter).ok_or_else(|| unknown_escape(span))?;
                text.push(c);
                self.advance();
                return Ok(());
            }
            None => return Err(unknown_escape(span)),
        };
        self.advance();
        let mut code = 0u32;
        for _ in 0..hex_digits {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            let digit = digit.ok_or_else(|| {
                Error::new(format!("this escape needs {hex_digits} hexadecimal digits"), span)
            })?;
            code = (code << 4) | digit;
            self.advance();
        }
        // JSON writes characters beyond U+FFFF as two escapes.
        if (0xd800..0xdc00).contains(&code) && self.peek() == Some(b'\\') && self.peek_at(1) == Some(b'u') {
            let low = (2..6).try_fold(0u32, |low, ahead| {
                self.peek_at(ahead).and_then(|b| char::from(b).to_digit(16)).map(|digit| (low << 4) | digit)
            });
            if let Some(low @ 0xdc00..0xe000) = low {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                for _ in 0..6 {
                    self.advance();
                }
            }
        }
        let c = char::from_u32(code)
            .ok_or_else(|| Error::new(format!("escape names no character (U+{code:04X})"), span))?;
        text.push(c);
        Ok(())
    }

    /// A `|` or `>` scalar; `indent` is that of the block around it.
    pub(super) fn block_scalar(&mut self, literal: bool, parent_indent: isize) -> Result<String, Error> {
        self.advance();
        let (chomping, increment) = self.block_header()?;
        let mut indent = match increment {
            Some(increment) => parent_indent.max(0) as usize + increment,
            None => 0,
        };
        let mut text = String::new();
        let mut leading_break = "";
        let mut trailing_breaks = String::new();
        self.block_breaks(&mut indent, parent_indent, &mut trailing_breaks)?;
        let mut leading_blank = false;
        while self.column == indent && !self.at_end() {
            let trailing_blank = self.is_blank(0);
            if !literal && leading_break == "\n" && !leading_blank && !trailing_blank {
                if trailing_breaks.is_empty() {
                    text.push(' ');
                }
            } else {
                text.push_str(leading_break);
            }
            text.push_str(&trailing_breaks);
            trailing_breaks.clear();
            leading_blank = self.is_blank(0);
            text.push_str(self.take_to_break());
            leading_break = self.skip_break();
            self.block_breaks(&mut indent, parent_indent, &mut trailing_breaks)?;
        }
        if chomping != Chomping::Strip {
            text.push_str(leading_break);
        }
        if chomping == Chomping::Keep {
            text.push_str(&trailing_breaks);
        }
        Ok(text)
    }

    fn block_header(&mut self) -> Result<(Chomping, Option<usize>), Error> {
        let mut chomping = Chomping::Clip;
        let mut increment = None;
        for _ in 0..2 {
            match self.peek() {
                Some(b'+') if chomping == Chomping::Clip => chomping = Chomping::Keep,
                Some(b'-') if chomping == Chomping::Clip => chomping = Chomping::Strip,
                Some(digit @ b'1'..=b'9') if increment.is_none() => {
                    increment = Some(usize::from(digit - b'0'))
                }
                Some(b'0') => {
                    return Err(Error::new("an indentation indicator goes from 1 to 9", self.span()));
                }
                _ => break,
            }
            self.advance();
        }
        while self.is_blank(0) {
            self.advance();
        }
        if self.peek() == Some(b'#') {
            self.skip_to_break();
        }
        if !self.at_end() && !self.is_break(0) {
            return Err(Error::new(
                "did not find the expected comment or line break after a block scalar indicator",
                self.span(),
            ));
        }
        self.skip_break();
        Ok((chomping, increment))
    }

    /// Skips empty lines and indentation; finds out the indentation where it is still 0.
    fn block_breaks(
        &mut self,
        indent: &mut usize,
        parent_indent: isize,
        breaks: &mut String,
    ) -> Result<(), Error> {
        let mut widest = 0;
        loop {
            while (*indent == 0 || self.column < *indent) && self.peek() == Some(b' ') {
                self.advance();
            }
            widest = widest.max(self.column);
            if (*indent == 0 || self.column < *indent) && self.peek() == Some(b'\t') {
                return Err(Error::new(
                    "found a tab character where an indentation space is expected",
                    self.span(),
                ));
            }
            if !self.is_break(0) {
                break;
            }
            breaks.push_str(self.skip_break());
        }
        if *indent == 0 {
            *indent = widest.max((parent_indent + 1).max(1) as usize);
        }
        Ok(())
    }
}

fn simple_escape(letter: u8) -> Option<char> {
    Some(match letter {
        b'0' => '\0',
        b'a' => '\x07',
        b'b' => '\x08',
        b't' | b'\t' => '\t',
        b'n' => '\n',
        b'v' => '\x0b',
        b'f' => '\x0c',
        b'r' => '\r',
        b'e' => '\x1b',
        b' ' => ' ',
        b'"' => '"',
        b'\'' => '\'',
        b'/' => '/',
        b'\\' => '\\',
        b'N' => '\u{85}',
        b'_' => '\u{a0}',
        b'L' => '\u{2028}',
        b'P' => '\u{2029}',
        _ => return None,
    })
}

fn unknown_escape(span: Span) -> Error {
    Error::new("found an unknown escape in a double-quoted scalar; write '\\\\' for a backslash", span)
}
