//! Text into tokens: literal text with its trim markers applied, and the words of actions.

use crate::node::Position;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Error,
    Eof,
    Text,
    LeftDelimiter,
    RightDelimiter,
    Space,
    Assign,
    Declare,
    Pipe,
    Char,
    LeftParen,
    RightParen,
    Bool,
    CharConstant,
    Number,
    String,
    RawString,
    Variable,
    Field,
    Identifier,
    Dot,
    Nil,
    Keyword(Keyword),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) at: Position,
    /// As written; the message of an error.
    pub(crate) text: String,
}

const TRIM_MARKER: usize = 2;

pub(crate) struct Lexer<'a> {
    text: &'a str,
    left: &'a str,
    right: &'a str,
    /// `break` and `continue` are words of the language unless functions have these names.
    loop_words: [bool; 2],
    at: usize,
    start: usize,
    /// Position of `counted`, so that lines are counted once.
    counted: usize,
    position: Position,
    tokens: Vec<Token>,
}

type Lexed = Result<(), (usize, String)>;

/// All tokens; the last is the end or an error.
pub(crate) fn lex(text: &str, left: &str, right: &str, loop_words: [bool; 2]) -> Vec<Token> {
    let position = Position { line: 1, column: 0 };
    let mut lexer =
        Lexer { text, left, right, loop_words, at: 0, start: 0, counted: 0, position, tokens: Vec::new() };
    let (kind, place, message) = match lexer.run() {
        Ok(()) => (Kind::Eof, text.len(), String::new()),
        Err((place, message)) => (Kind::Error, place, message),
    };
    let at = lexer.position_of(place);
    lexer.tokens.push(Token { kind, at, text: message });
    lexer.tokens
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn position_of(&mut self, place: usize) -> Position {
        if place < self.counted {
            self.counted = 0;
            self.position = Position { line: 1, column: 0 };
        }
        for byte in self.text.as_bytes()[self.counted..place].iter() {
            if *byte == b'\n' {
                self.position = Position { line: self.position.line + 1, column: 0 };
            } else {
                self.position.column += 1;
            }
        }
        self.counted = place;
        self.position
    }

    fn emit(&mut self, kind: Kind) {
        let at = self.position_of(self.start);
        self.tokens.push(Token { kind, at, text: self.text[self.start..self.at].into() });
        self.start = self.at;
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, (usize, String)> {
        Err((self.start, message.into()))
    }

    fn run(&mut self) -> Lexed {
        loop {
            let Some(found) = self.rest().find(self.left) else {
                self.at = self.text.len();
                if self.at > self.start {
                    self.emit(Kind::Text);
                }
                return Ok(());
            };
            let delimiter = self.at + found;
            let inside = delimiter + self.left.len();
            let trims = trims_left(&self.text[inside..]);
            let text = &self.text[self.start..delimiter];
            self.at = self.start + if trims { text.trim_end_matches(is_space) } else { text }.len();
            if self.at > self.start {
                self.emit(Kind::Text);
            }
            (self.start, self.at) = (delimiter, inside + if trims { TRIM_MARKER } else { 0 });
            if self.rest().starts_with("/*") {
                self.comment()?;
                continue;
            }
            let after_marker = self.at;
            self.at = inside;
            self.emit(Kind::LeftDelimiter);
            (self.start, self.at) = (after_marker, after_marker);
            self.action()?;
        }
    }

    fn comment(&mut self) -> Lexed {
        self.start = self.at;
        let Some(end) = self.rest().find("*/") else { return self.fail("unclosed comment") };
        self.at += end + 2;
        if self.right_delimiter().is_none() {
            return self.fail("comment ends before closing delimiter");
        }
        self.close(false);
        Ok(())
    }

    /// Whether the right delimiter is next, and whether a trim marker comes before it.
    fn right_delimiter(&self) -> Option<bool> {
        let rest = self.rest();
        if trims_right(rest) && rest[TRIM_MARKER..].starts_with(self.right) {
            return Some(true);
        }
        rest.starts_with(self.right).then_some(false)
    }

    /// Takes the right delimiter and the white space that its marker removes.
    fn close(&mut self, emits: bool) {
        let trims = self.right_delimiter() == Some(true);
        self.at += if trims { TRIM_MARKER } else { 0 };
        self.start = self.at;
        self.at += self.right.len();
        if emits {
            self.emit(Kind::RightDelimiter);
        }
        if trims {
            self.at += self.rest().len() - self.rest().trim_start_matches(is_space).len();
        }
        self.start = self.at;
    }

    fn action(&mut self) -> Lexed {
        let mut parens = 0usize;
        loop {
            if self.right_delimiter().is_some() {
                if parens > 0 {
                    return self.fail("unclosed left paren");
                }
                self.close(true);
                return Ok(());
            }
            let Some(c) = self.next() else { return self.fail("unclosed action") };
            match c {
                c if is_space(c) => {
                    // The space of a closing trim marker belongs to the delimiter.
                    while self.right_delimiter() != Some(true) && self.peek().is_some_and(is_space) {
                        self.next();
                    }
                    self.emit(Kind::Space);
                }
                '=' => self.emit(Kind::Assign),
                ':' => {
                    if self.next() != Some('=') {
                        return self.fail("expected :=");
                    }
                    self.emit(Kind::Declare);
                }
                '|' => self.emit(Kind::Pipe),
                '"' => self.quoted('"', Kind::String, "unterminated quoted string")?,
                '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant")?,
                '`' => {
                    let Some(end) = self.rest().find('`') else {
                        return self.fail("unterminated raw quoted string");
                    };
                    self.at += end + 1;
                    self.emit(Kind::RawString);
                }
                '$' => self.name(Kind::Variable)?,
                '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => self.name(Kind::Field)?,
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                c if is_alphanumeric(c) => self.identifier()?,
                '(' => {
                    parens += 1;
                    self.emit(Kind::LeftParen);
                }
                ')' => {
                    if parens == 0 {
                        return self.fail("unexpected right paren");
                    }
                    parens -= 1;
                    self.emit(Kind::RightParen);
                }
                c if c.is_ascii_graphic() => self.emit(Kind::Char),
                c => {
                    let code = u32::from(c);
                    let shown = if crate::escape::is_print(c) { format!(" '{c}'") } else { String::new() };
                    return self.fail(format!("unrecognized character in action: U+{code:04X}{shown}"));
                }
            }
        }
    }

    fn quoted(&mut self, mark: char, kind: Kind, unterminated: &str) -> Lexed {
        loop {
            match self.next() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.next();
                }
                None | Some('\n' | '\\') => return self.fail(unterminated),
                Some(c) if c == mark => break,
                Some(_) => {}
            }
        }
        self.emit(kind);
        Ok(())
    }

    /// After `.` or `$`.
    fn name(&mut self, kind: Kind) -> Lexed {
        if self.ends_word() {
            self.emit(if kind == Kind::Field { Kind::Dot } else { Kind::Variable });
            return Ok(());
        }
        self.word()?;
        self.emit(kind);
        Ok(())
    }

    fn word(&mut self) -> Lexed {
        while self.peek().is_some_and(is_alphanumeric) {
            self.next();
        }
        match self.peek() {
            Some(c) if !self.ends_word() => {
                Err((self.at, format!("bad character U+{:04X} '{c}'", u32::from(c))))
            }
            _ => Ok(()),
        }
    }

    fn ends_word(&self) -> bool {
        self.peek().is_none_or(|c| is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '('))
            || self.rest().starts_with(self.right)
    }

    fn identifier(&mut self) -> Lexed {
        self.word()?;
        let keyword = match &self.text[self.start..self.at] {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            "block" => Kind::Keyword(Keyword::Block),
            "break" if self.loop_words[0] => Kind::Keyword(Keyword::Break),
            "continue" if self.loop_words[1] => Kind::Keyword(Keyword::Continue),
            "define" => Kind::Keyword(Keyword::Define),
            "else" => Kind::Keyword(Keyword::Else),
            "end" => Kind::Keyword(Keyword::End),
            "if" => Kind::Keyword(Keyword::If),
            "range" => Kind::Keyword(Keyword::Range),
            "template" => Kind::Keyword(Keyword::Template),
            "with" => Kind::Keyword(Keyword::With),
            _ => Kind::Identifier,
        };
        self.emit(keyword);
        Ok(())
    }

    fn number(&mut self) -> Lexed {
        self.at = self.start;
        self.accept("+-");
        let mut digits = "0123456789_";
        let mut exponent = "eE";
        if self.accept("0") {
            if self.accept("xX") {
                (digits, exponent) = ("0123456789abcdefABCDEF_", "pP");
            } else if self.accept("oO") {
                (digits, exponent) = ("01234567_", "");
            } else if self.accept("bB") {
                (digits, exponent) = ("01_", "");
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        if self.accept(exponent) {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.next();
            return self.fail(format!("bad number syntax: {:?}", &self.text[self.start..self.at]));
        }
        self.emit(Kind::Number);
        Ok(())
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|c| valid.contains(c));
        if found {
            self.next();
        }
        found
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }
}

fn trims_left(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

fn trims_right(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next().is_some_and(is_space) && chars.next() == Some('-')
}
