//! Text to tokens, by the rules of YAML 1.1 as libyaml and go-yaml apply them (`simple keys`, indentation stack).
//!
//! Invariant: every token knows where it starts; block structure is made explicit with start and end tokens.

mod cursor;
mod scalar;

use std::collections::VecDeque;

use smol_str::SmolStr;

use crate::error::Error;
use crate::node::Style;
use crate::span::{FileId, Span};
use cursor::Cursor;

/// How deep collections may nest. The composer recurses, so this bounds its stack.
const MAX_DEPTH: usize = 256;
/// A key without `?` must fit on one line and in this many characters.
const MAX_SIMPLE_KEY_CHARS: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    StreamEnd,
    VersionDirective,
    TagDirective { handle: SmolStr, prefix: SmolStr },
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(SmolStr),
    Anchor(SmolStr),
    Tag { handle: SmolStr, suffix: SmolStr },
    Scalar { text: SmolStr, style: Style },
}

/// A place where a key may have started that only a later `:` reveals.
#[derive(Clone, Copy)]
struct SimpleKey {
    required: bool,
    token_number: usize,
    line: usize,
    column: usize,
    index: usize,
    span: Span,
}

pub(crate) struct Scanner<'a> {
    cursor: Cursor<'a>,
    tokens: VecDeque<Token>,
    taken: usize,
    ended: bool,
    indent: isize,
    indents: Vec<isize>,
    flow_level: usize,
    simple_key_allowed: bool,
    /// One slot per flow level.
    simple_keys: Vec<Option<SimpleKey>>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(file: FileId, text: &'a str) -> Result<Scanner<'a>, Error> {
        Ok(Scanner {
            cursor: Cursor::new(file, text)?,
            tokens: VecDeque::new(),
            taken: 0,
            ended: false,
            indent: -1,
            indents: Vec::new(),
            flow_level: 0,
            simple_key_allowed: true,
            simple_keys: vec![None],
        })
    }

    /// The next token, left in place. At the end it is `StreamEnd` for ever.
    pub(crate) fn peek(&mut self) -> Result<&Token, Error> {
        while self.needs_more()? {
            self.fetch()?;
        }
        let end = Span::NONE;
        debug_assert!(!self.tokens.is_empty());
        self.tokens.front().ok_or_else(|| Error::new("unexpected end of the stream", end))
    }

    pub(crate) fn next(&mut self) -> Result<Token, Error> {
        self.peek()?;
        if let Some(Token { kind: TokenKind::StreamEnd, .. }) = self.tokens.front() {
            return Ok(self.tokens[0].clone());
        }
        self.taken += 1;
        self.tokens.pop_front().ok_or_else(|| Error::new("unexpected end of the stream", Span::NONE))
    }

    fn needs_more(&mut self) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        if self.tokens.is_empty() {
            return Ok(true);
        }
        self.drop_stale_keys()?;
        let taken = self.taken;
        Ok(self.simple_keys.iter().flatten().any(|key| key.token_number == taken))
    }

    fn drop_stale_keys(&mut self) -> Result<(), Error> {
        let (line, index) = (self.cursor.line, self.cursor.index);
        for slot in &mut self.simple_keys {
            if let Some(key) = slot
                && (key.line < line || key.index + MAX_SIMPLE_KEY_CHARS < index)
            {
                if key.required {
                    return Err(Error::new("could not find the expected ':' after this key", key.span));
                }
                *slot = None;
            }
        }
        Ok(())
    }

    fn push(&mut self, kind: TokenKind, span: Span) {
        self.tokens.push_back(Token { kind, span });
    }

    fn fetch(&mut self) -> Result<(), Error> {
        self.skip_to_token()?;
        self.drop_stale_keys()?;
        self.unroll_indent(self.cursor.column as isize);
        let span = self.cursor.span();
        let Some(byte) = self.cursor.peek() else { return self.fetch_end() };
        if self.cursor.column == 0 {
            if byte == b'%' {
                return self.fetch_directive();
            }
            if self.cursor.at_document_marker(b"---") {
                return self.fetch_document_marker(TokenKind::DocumentStart);
            }
            if self.cursor.at_document_marker(b"...") {
                return self.fetch_document_marker(TokenKind::DocumentEnd);
            }
        }
        let in_flow = self.flow_level > 0;
        let blank_next = self.cursor.is_blank_or_end(1);
        match byte {
            b'[' => self.fetch_flow_start(TokenKind::FlowSequenceStart),
            b'{' => self.fetch_flow_start(TokenKind::FlowMappingStart),
            b']' => self.fetch_flow_end(TokenKind::FlowSequenceEnd),
            b'}' => self.fetch_flow_end(TokenKind::FlowMappingEnd),
            b',' if in_flow => {
                self.remove_simple_key()?;
                self.simple_key_allowed = true;
                self.cursor.advance();
                self.push(TokenKind::FlowEntry, span);
                Ok(())
            }
            b'-' if blank_next => self.fetch_block_entry(),
            b'?' if blank_next => self.fetch_key(),
            b':' if in_flow || blank_next => self.fetch_value(),
            b'*' => self.fetch_anchor(true),
            b'&' => self.fetch_anchor(false),
            b'!' => self.fetch_tag(),
            b'|' if !in_flow => self.fetch_block_scalar(Style::Literal),
            b'>' if !in_flow => self.fetch_block_scalar(Style::Folded),
            b'\'' => self.fetch_quoted(Style::SingleQuoted),
            b'"' => self.fetch_quoted(Style::DoubleQuoted),
            b'-' | b'?' | b':' => self.fetch_plain(),
            b'\t' => {
                Err(Error::new("found a tab character where a token should start; indent with spaces", span))
            }
            b',' | b'#' | b'|' | b'>' | b'%' | b'@' | b'`' => Err(Error::new(
                format!(
                    "found character '{}' that cannot start any token; quote the value",
                    char::from(byte)
                ),
                span,
            )),
            _ => self.fetch_plain(),
        }
    }

    fn skip_to_token(&mut self) -> Result<(), Error> {
        loop {
            while match self.cursor.peek() {
                Some(b' ') => true,
                Some(b'\t') => self.flow_level > 0 || !self.simple_key_allowed,
                _ => false,
            } {
                self.cursor.advance();
            }
            if self.cursor.peek() == Some(b'#') {
                self.cursor.skip_to_break();
            }
            if !self.cursor.is_break(0) {
                return Ok(());
            }
            self.cursor.skip_break();
            if self.flow_level == 0 {
                self.simple_key_allowed = true;
            }
        }
    }

    // === indentation ===

    fn roll_indent(
        &mut self,
        column: usize,
        at: Option<usize>,
        kind: TokenKind,
        span: Span,
    ) -> Result<(), Error> {
        if self.flow_level > 0 || self.indent >= column as isize {
            return Ok(());
        }
        if self.indents.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.indents.push(self.indent);
        self.indent = column as isize;
        let token = Token { kind, span };
        match at {
            Some(number) => self.tokens.insert((number - self.taken).min(self.tokens.len()), token),
            None => self.tokens.push_back(token),
        }
        Ok(())
    }

    fn unroll_indent(&mut self, column: isize) {
        if self.flow_level > 0 {
            return;
        }
        let span = self.cursor.span();
        while self.indent > column {
            self.push(TokenKind::BlockEnd, span);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    // === simple keys ===

    fn save_simple_key(&mut self) -> Result<(), Error> {
        if self.simple_key_allowed {
            self.remove_simple_key()?;
            let required = self.flow_level == 0 && self.indent == self.cursor.column as isize;
            let key = SimpleKey {
                required,
                token_number: self.taken + self.tokens.len(),
                line: self.cursor.line,
                column: self.cursor.column,
                index: self.cursor.index,
                span: self.cursor.span(),
            };
            if let Some(slot) = self.simple_keys.last_mut() {
                *slot = Some(key);
            }
        }
        Ok(())
    }

    fn remove_simple_key(&mut self) -> Result<(), Error> {
        match self.simple_keys.last_mut().and_then(Option::take) {
            Some(key) if key.required => {
                Err(Error::new("could not find the expected ':' after this key", key.span))
            }
            _ => Ok(()),
        }
    }

    // === tokens ===

    fn fetch_end(&mut self) -> Result<(), Error> {
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        self.ended = true;
        let span = self.cursor.span();
        self.push(TokenKind::StreamEnd, span);
        Ok(())
    }

    fn fetch_directive(&mut self) -> Result<(), Error> {
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        let span = self.cursor.span();
        let line = self.cursor.take_to_break();
        let line = line.split(" #").next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("%YAML"), Some(version), None) if version.starts_with("1.") => {
                self.push(TokenKind::VersionDirective, span);
                Ok(())
            }
            (Some("%TAG"), Some(handle), Some(prefix)) if handle.starts_with('!') => {
                self.push(TokenKind::TagDirective { handle: handle.into(), prefix: prefix.into() }, span);
                Ok(())
            }
            _ => {
                Err(Error::new("found an unknown or malformed directive; known are %YAML 1.x and %TAG", span))
            }
        }
    }

    fn fetch_document_marker(&mut self, kind: TokenKind) -> Result<(), Error> {
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        let span = self.cursor.span();
        for _ in 0..3 {
            self.cursor.advance();
        }
        self.push(kind, span);
        Ok(())
    }

    fn fetch_flow_start(&mut self, kind: TokenKind) -> Result<(), Error> {
        self.save_simple_key()?;
        let span = self.cursor.span();
        if self.flow_level >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.flow_level += 1;
        self.simple_keys.push(None);
        self.simple_key_allowed = true;
        self.cursor.advance();
        self.push(kind, span);
        Ok(())
    }

    fn fetch_flow_end(&mut self, kind: TokenKind) -> Result<(), Error> {
        self.remove_simple_key()?;
        if self.flow_level > 0 {
            self.flow_level -= 1;
            self.simple_keys.pop();
        }
        self.simple_key_allowed = false;
        let span = self.cursor.span();
        self.cursor.advance();
        self.push(kind, span);
        Ok(())
    }

    fn fetch_block_entry(&mut self) -> Result<(), Error> {
        let span = self.cursor.span();
        if self.flow_level == 0 {
            if !self.simple_key_allowed {
                return Err(Error::new("block sequence entries are not allowed in this context", span));
            }
            self.roll_indent(self.cursor.column, None, TokenKind::BlockSequenceStart, span)?;
        }
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        self.cursor.advance();
        self.push(TokenKind::BlockEntry, span);
        Ok(())
    }

    fn fetch_key(&mut self) -> Result<(), Error> {
        let span = self.cursor.span();
        if self.flow_level == 0 {
            if !self.simple_key_allowed {
                return Err(Error::new("mapping keys are not allowed in this context", span));
            }
            self.roll_indent(self.cursor.column, None, TokenKind::BlockMappingStart, span)?;
        }
        self.remove_simple_key()?;
        self.simple_key_allowed = self.flow_level == 0;
        self.cursor.advance();
        self.push(TokenKind::Key, span);
        Ok(())
    }

    fn fetch_value(&mut self) -> Result<(), Error> {
        let span = self.cursor.span();
        if let Some(key) = self.simple_keys.last_mut().and_then(Option::take) {
            let place = (key.token_number - self.taken).min(self.tokens.len());
            self.tokens.insert(place, Token { kind: TokenKind::Key, span: key.span });
            self.roll_indent(key.column, Some(key.token_number), TokenKind::BlockMappingStart, key.span)?;
            self.simple_key_allowed = false;
        } else {
            if self.flow_level == 0 {
                if !self.simple_key_allowed {
                    return Err(Error::new(
                        "mapping values are not allowed in this context; quote the text if ': ' belongs to it",
                        span,
                    ));
                }
                self.roll_indent(self.cursor.column, None, TokenKind::BlockMappingStart, span)?;
            }
            self.simple_key_allowed = self.flow_level == 0;
        }
        self.cursor.advance();
        self.push(TokenKind::Value, span);
        Ok(())
    }

    fn fetch_anchor(&mut self, alias: bool) -> Result<(), Error> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let span = self.cursor.span();
        self.cursor.advance();
        let name: SmolStr =
            self.cursor.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).into();
        let ends_well = self.cursor.is_blank_or_end(0)
            || self
                .cursor
                .peek()
                .is_some_and(|b| matches!(b, b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`'));
        if name.is_empty() || !ends_well {
            return Err(Error::new(
                "an anchor or alias name consists of letters, digits, '_' and '-'; quote the value if it is text",
                span,
            ));
        }
        self.push(if alias { TokenKind::Alias(name) } else { TokenKind::Anchor(name) }, span);
        Ok(())
    }

    fn fetch_tag(&mut self) -> Result<(), Error> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let span = self.cursor.span();
        let token = self.scan_tag(span)?;
        self.push(token, span);
        Ok(())
    }

    fn scan_tag(&mut self, span: Span) -> Result<TokenKind, Error> {
        let in_flow = self.flow_level > 0;
        self.cursor.advance();
        if self.cursor.peek() == Some(b'<') {
            self.cursor.advance();
            let uri: SmolStr = self.cursor.take_while(|b| b != b'>' && b > b' ').into();
            if self.cursor.peek() != Some(b'>') {
                return Err(Error::new("did not find the expected '>' at the end of a tag", span));
            }
            self.cursor.advance();
            return Ok(TokenKind::Tag { handle: SmolStr::default(), suffix: uri });
        }
        let word = self
            .cursor
            .take_while(|b| b > b' ' && !(in_flow && matches!(b, b',' | b'[' | b']' | b'{' | b'}')));
        if !self.cursor.is_blank_or_end(0) && !in_flow {
            return Err(Error::new("did not find expected whitespace or line break after a tag", span));
        }
        Ok(match word.split_once('!') {
            Some((handle, suffix)) => {
                TokenKind::Tag { handle: format!("!{handle}!").into(), suffix: suffix.into() }
            }
            None => TokenKind::Tag { handle: "!".into(), suffix: word.into() },
        })
    }

    fn fetch_block_scalar(&mut self, style: Style) -> Result<(), Error> {
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        let span = self.cursor.span();
        let text = self.cursor.block_scalar(style == Style::Literal, self.indent)?;
        self.push(TokenKind::Scalar { text: text.into(), style }, span);
        Ok(())
    }

    fn fetch_quoted(&mut self, style: Style) -> Result<(), Error> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let span = self.cursor.span();
        let text = self.cursor.quoted_scalar(style == Style::SingleQuoted)?;
        self.push(TokenKind::Scalar { text, style }, span);
        Ok(())
    }

    fn fetch_plain(&mut self) -> Result<(), Error> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let span = self.cursor.span();
        let (text, ended_on_new_line) = self.cursor.plain_scalar(self.flow_level > 0, self.indent)?;
        if ended_on_new_line {
            self.simple_key_allowed = true;
        }
        self.push(TokenKind::Scalar { text, style: Style::Plain }, span);
        Ok(())
    }
}

fn too_deep(span: Span) -> Error {
    Error::new(format!("collections nest deeper than {MAX_DEPTH} levels"), span)
}
