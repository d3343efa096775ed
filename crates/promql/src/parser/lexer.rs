//! Tokens of PromQL.

use super::ParseError;
use crate::ast::PosRange;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A name or keyword, as written.
    Word(String),
    Number(f64),
    /// Seconds
    Duration(f64),
    Text(String),
    /// Operators and punctuation.
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) range: PosRange,
}

/// Longest first, so that `>=` is not read as `>`.
const SYMBOLS: [&str; 27] = [
    "==", "!=", "=~", "!~", "<=", ">=", "</", ">/", "=", "<", ">", "+", "-", "*", "/", "%", "^", "(", ")",
    "{", "}", "[", "]", ",", ":", "@", ";",
];

pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
    /// Inside `{}` names have no colon and are never keywords.
    in_braces: bool,
    /// Inside `[]` a colon separates.
    in_brackets: bool,
    paren_depth: usize,
    lexemes: Vec<Lexeme>,
}

/// Splits a query into tokens; the last one is [`Token::End`].
pub(crate) fn tokenize(text: &str) -> Result<Vec<Lexeme>, ParseError> {
    let mut lexer = Lexer {
        text,
        position: 0,
        in_braces: false,
        in_brackets: false,
        paren_depth: 0,
        lexemes: Vec::new(),
    };
    lexer.run()?;
    Ok(lexer.lexemes)
}

fn is_name_start(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_name_part(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or("")
    }

    fn error(&self, start: usize, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, PosRange::new(start, self.position.max(start)), message.into())
    }

    fn push(&mut self, start: usize, token: Token) {
        self.lexemes.push(Lexeme { token, range: PosRange::new(start, self.position) });
    }

    fn run(&mut self) -> Result<(), ParseError> {
        loop {
            let start = self.position;
            let Some(c) = self.rest().chars().next() else {
                return self.finish(start);
            };
            match c {
                ' ' | '\t' | '\n' | '\r' => self.position += 1,
                '#' => {
                    let length = self.rest().find(['\n', '\r']).unwrap_or(self.rest().len());
                    self.position += length;
                }
                '"' | '\'' | '`' => {
                    let text = self.quoted(c)?;
                    self.push(start, Token::Text(text));
                }
                c if c.is_ascii_digit() => self.number(start)?,
                '.' if self.rest().chars().nth(1).is_some_and(|next| next.is_ascii_digit()) => {
                    self.number(start)?;
                }
                c if is_name_start(c) || (c == ':' && !self.in_brackets && !self.in_braces) => {
                    self.word(start)
                }
                c => self.symbol(start, c)?,
            }
        }
    }

    fn finish(&mut self, start: usize) -> Result<(), ParseError> {
        if self.in_braces {
            return Err(self.error(start, "unexpected end of input inside braces"));
        }
        if self.paren_depth > 0 {
            return Err(self.error(start, "unclosed left parenthesis"));
        }
        if self.in_brackets {
            return Err(self.error(start, "unclosed left bracket"));
        }
        self.push(start, Token::End);
        Ok(())
    }

    fn word(&mut self, start: usize) {
        let allows_colon = !self.in_braces && !self.in_brackets;
        let rest = self.rest();
        let length = rest.find(|c| !(is_name_part(c) || (allows_colon && c == ':'))).unwrap_or(rest.len());
        self.position += length;
        let word = rest[..length].to_owned();
        let token = match word.to_ascii_lowercase().as_str() {
            "inf" if !self.in_braces => Token::Number(f64::INFINITY),
            "nan" if !self.in_braces => Token::Number(f64::NAN),
            _ => Token::Word(word),
        };
        self.push(start, token);
    }

    fn symbol(&mut self, start: usize, c: char) -> Result<(), ParseError> {
        let rest = self.rest();
        let found = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
        let Some(symbol) = found else {
            self.position += c.len_utf8();
            return Err(self.error(start, format!("unexpected character: {c:?}")));
        };
        if matches!(symbol, "=~" | "!~") && !self.in_braces {
            return Err(self.error(start, format!("unexpected operator {symbol:?} outside of braces")));
        }
        self.position += symbol.len();
        match symbol {
            "(" => self.paren_depth += 1,
            ")" => {
                self.paren_depth = self
                    .paren_depth
                    .checked_sub(1)
                    .ok_or_else(|| self.error(start, "unexpected right parenthesis ')'"))?;
            }
            "{" if self.in_braces => return Err(self.error(start, "unexpected left brace '{'")),
            "{" => self.in_braces = true,
            "}" if !self.in_braces => return Err(self.error(start, "unexpected right brace '}'")),
            "}" => self.in_braces = false,
            "[" if self.in_brackets => return Err(self.error(start, "unexpected left bracket '['")),
            "[" => self.in_brackets = true,
            "]" if !self.in_brackets => return Err(self.error(start, "unexpected right bracket ']'")),
            "]" => self.in_brackets = false,
            _ => {}
        }
        self.push(start, Token::Symbol(symbol));
        Ok(())
    }

    fn number(&mut self, start: usize) -> Result<(), ParseError> {
        if self.in_braces {
            return Err(self.error(start, "unexpected number inside braces"));
        }
        let rest = self.rest();
        if let Some((length, seconds)) = scan_duration(rest) {
            self.position += length;
            let Some(seconds) = seconds else {
                return Err(self.error(start, "duration out of range or units out of order"));
            };
            self.push(start, Token::Duration(seconds));
            return Ok(());
        }
        let length = scan_number(rest);
        let word = &rest[..length];
        self.position += length;
        let is_glued = self.rest().starts_with(is_name_part);
        match parse_number(word).filter(|_| !is_glued) {
            Some(value) => {
                self.push(start, Token::Number(value));
                Ok(())
            }
            None => {
                let glued = self.rest().find(|c| !is_name_part(c)).unwrap_or(self.rest().len());
                self.position += glued;
                let word = self.text.get(start..self.position).unwrap_or("");
                Err(self.error(start, format!("bad number or duration syntax: {word:?}")))
            }
        }
    }

    /// A quoted text; in backquotes nothing is escaped.
    fn quoted(&mut self, quote: char) -> Result<String, ParseError> {
        let start = self.position;
        let (text, length) = unquote(self.rest(), quote).map_err(|message| self.error(start, message))?;
        self.position += length;
        Ok(text)
    }
}

/// The length of a number in Go's syntax, underscores between digits included.
fn scan_number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_hex = bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X');
    let mut index = if is_hex { 2 } else { 0 };
    while let Some(byte) = bytes.get(index) {
        let is_exponent = if is_hex { matches!(byte, b'p' | b'P') } else { matches!(byte, b'e' | b'E') };
        let is_digit = if is_hex { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
        if is_exponent {
            index += 1;
            if matches!(bytes.get(index), Some(b'+' | b'-')) {
                index += 1;
            }
            while bytes.get(index).is_some_and(u8::is_ascii_digit) {
                index += 1;
            }
            break;
        }
        if !is_digit && *byte != b'.' && *byte != b'_' {
            break;
        }
        index += 1;
    }
    index
}

/// A number as Go's `ParseInt` with base 0, then `ParseFloat`, read it: a leading `0` makes it octal.
pub(crate) fn parse_number(word: &str) -> Option<f64> {
    let has_good_underscores = !word.contains("__")
        && !word.ends_with('_')
        && !word.starts_with('_')
        && !word.contains("_.")
        && !word.contains("._");
    if !has_good_underscores {
        return None;
    }
    let digits = word.replace('_', "");
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"))
        && let Ok(value) = i64::from_str_radix(hex, 16)
    {
        return Some(value as f64);
    }
    let is_octal =
        digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if is_octal && let Ok(value) = i64::from_str_radix(&digits, 8) {
        return Some(value as f64);
    }
    gantry_prom_model::parse_float(&digits)
}

/// The length of a duration such as `1h30m`, and its seconds unless it is out of range; `None` when the text
/// does not begin with one.
pub(crate) fn scan_duration(text: &str) -> Option<(usize, Option<f64>)> {
    let bytes = text.as_bytes();
    let mut index = 0;
    loop {
        let digits = bytes.get(index..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            break;
        }
        let unit = match (bytes.get(index + digits), bytes.get(index + digits + 1)) {
            (Some(b'm'), Some(b's')) => 2,
            (Some(b's' | b'm' | b'h' | b'd' | b'w' | b'y'), _) => 1,
            _ => return None,
        };
        index += digits + unit;
    }
    let is_glued = bytes.get(index).is_some_and(|byte| *byte == b'_' || byte.is_ascii_alphanumeric());
    if index == 0 || is_glued {
        return None;
    }
    let milliseconds = gantry_clock::parse_prometheus_duration(&text[..index]).ok();
    Some((index, milliseconds.map(|ms| ms as f64 / 1000.0)))
}

/// Where bytes that are no UTF-8 are kept: Go's texts may hold any byte, ours may not, and such a text must be
/// told from every valid one. These characters are for private use.
const STRAY_BYTES: u32 = 0x0010_FE00;

fn stray_byte(byte: u8) -> char {
    char::from_u32(STRAY_BYTES + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character of a text stands for, if it is not a character.
pub(crate) fn as_stray_byte(c: char) -> Option<u8> {
    u32::from(c)
        .checked_sub(STRAY_BYTES)
        .and_then(|byte| u8::try_from(byte).ok())
        .filter(|byte| *byte >= 0x80)
}

/// Whether a text can be a label's name: not empty, and UTF-8 throughout.
pub(crate) fn is_label_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| as_stray_byte(c).is_some())
}

/// A text in quotes as queries and messages show it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::new();
    for piece in text.split_inclusive(|c| as_stray_byte(c).is_some()) {
        let stray = piece.chars().next_back().and_then(as_stray_byte);
        let valid = match stray {
            Some(_) => piece.char_indices().next_back().map_or("", |(end, _)| &piece[..end]),
            None => piece,
        };
        let mut part = String::new();
        // Writing to a string cannot fail.
        let _ = gantry_prom_model::write_quoted(&mut part, valid);
        quoted.push_str(part.get(1..part.len().saturating_sub(1)).unwrap_or(""));
        if let Some(byte) = stray {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    format!("\"{quoted}\"")
}

/// Reads the quoted text at the start of `text`; returns it and the length with its quotes.
pub(crate) fn unquote(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut out = String::new();
    // Bytes written as `\xff` or octal may be pieces of one character.
    let mut bytes = Vec::new();
    let mut chars = text.char_indices().skip(1);
    let flush = |bytes: &mut Vec<u8>, out: &mut String| {
        for chunk in bytes.utf8_chunks() {
            out.push_str(chunk.valid());
            out.extend(chunk.invalid().iter().map(|byte| stray_byte(*byte)));
        }
        bytes.clear();
    };
    while let Some((index, c)) = chars.next() {
        if c == quote {
            flush(&mut bytes, &mut out);
            return Ok((out, index + c.len_utf8()));
        }
        if quote != '`' && c == '\n' {
            break;
        }
        if quote == '`' || c != '\\' {
            flush(&mut bytes, &mut out);
            out.push(c);
            continue;
        }
        let Some((_, escaped)) = chars.next() else { break };
        let simple = match escaped {
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            '\\' => Some('\\'),
            c if c == quote => Some(quote),
            _ => None,
        };
        if let Some(simple) = simple {
            flush(&mut bytes, &mut out);
            out.push(simple);
            continue;
        }
        let (radix, digits, first) = match escaped {
            'x' => (16, 2, None),
            'u' => (16, 4, None),
            'U' => (16, 8, None),
            '0'..='7' => (8, 2, escaped.to_digit(8)),
            other => return Err(format!("unknown escape sequence {other:?}")),
        };
        let mut value = first.unwrap_or(0);
        for _ in 0..digits {
            let digit = chars.next().and_then(|(_, c)| c.to_digit(radix));
            let digit = digit.ok_or_else(|| "illegal character in escape sequence".to_owned())?;
            value = value.wrapping_mul(radix) | digit;
        }
        match escaped {
            'u' | 'U' => {
                flush(&mut bytes, &mut out);
                let c = char::from_u32(value).ok_or("escape sequence is an invalid Unicode code point")?;
                out.push(c);
            }
            _ => bytes.push(u8::try_from(value).map_err(|_| "octal escape value over 255".to_owned())?),
        }
    }
    Err("unterminated quoted string".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        tokenize(text).expect("valid tokens").into_iter().map(|lexeme| lexeme.token).collect()
    }

    #[test]
    fn numbers_and_durations() {
        assert_eq!(
            tokens("1 1.5e3 0x1F 0755 1_000 5m 1h30m 250ms Inf nan_x .5"),
            [
                Token::Number(1.0),
                Token::Number(1500.0),
                Token::Number(31.0),
                Token::Number(493.0),
                Token::Number(1000.0),
                Token::Duration(300.0),
                Token::Duration(5400.0),
                Token::Duration(0.25),
                Token::Number(f64::INFINITY),
                Token::Word("nan_x".to_owned()),
                Token::Number(0.5),
                Token::End
            ]
        );
        for bad in ["1a", "1__0", "5q", "1.5h", "1m1h", "1x"] {
            assert!(tokenize(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_in_all_quotes() {
        assert_eq!(
            tokens(r#""a\"\n" 'b' `c\n`"#)[..3],
            ["a\"\n", "b", "c\\n"].map(|t| Token::Text(t.to_owned()))
        );
        assert_eq!(tokens(r#""\xe2\x82\xac\u20ac\101""#)[0], Token::Text("€€A".to_owned()));
        assert!(tokenize("\"a").is_err());
        assert!(tokenize("\"\\q\"").is_err());
    }

    #[test]
    fn colons_belong_to_names_outside_brackets() {
        assert_eq!(tokens("a:b")[0], Token::Word("a:b".to_owned()));
        assert_eq!(tokens("a[5m:1m]").len(), 7);
    }
}
