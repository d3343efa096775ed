//! Go's literals: numbers, character constants and strings with escapes.

use crate::value::Value;

/// A number as it is written in an action.
pub(crate) fn number(text: &str) -> Result<Value, String> {
    if text.ends_with('i') {
        return Err(format!("complex number {text} is not accepted; write an integer or a float"));
    }
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..]),
        Some(b'+') => ("", &text[1..]),
        _ => ("", text),
    };
    let is_hex =
        digits.len() > 1 && digits.as_bytes()[0] == b'0' && matches!(digits.as_bytes()[1], b'x' | b'X');
    let is_float =
        if is_hex { digits.contains(['.', 'p', 'P']) } else { digits.contains(['.', 'e', 'E', 'p', 'P']) };
    if is_float {
        let plain = without_underscores(digits);
        let value = plain.as_deref().and_then(|plain| match plain.get(..2) {
            Some("0x" | "0X") => hexadecimal_float(&plain[2..]),
            _ => plain.parse::<f64>().ok().filter(|value| value.is_finite()),
        });
        let value = value.ok_or_else(|| format!("illegal number syntax: {text:?}"))?;
        return Ok(Value::Float(if sign == "-" { -value } else { value }));
    }
    let (radix, body) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    let body = body.strip_prefix('_').filter(|_| radix != 10).unwrap_or(body);
    let plain = without_underscores(body).ok_or_else(|| format!("illegal number syntax: {text:?}"))?;
    if plain.is_empty() {
        return Err(format!("illegal number syntax: {text:?}"));
    }
    let value = i64::from_str_radix(&format!("{sign}{plain}"), radix);
    value.map(Value::Int).map_err(|_| format!("integer overflow: {text:?}"))
}

/// `None` where an underscore does not stand between digits.
fn without_underscores(text: &str) -> Option<String> {
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!misplaced).then(|| text.replace('_', ""))
}

fn hexadecimal_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?.checked_mul(4)?)?;
    Some(value * 2f64.powi(shift)).filter(|value| value.is_finite())
}

/// The code of `'x'`.
pub(crate) fn character(text: &str) -> Result<Value, String> {
    let malformed = || format!("malformed character constant: {text}");
    let inner = text.get(1..text.len().saturating_sub(1)).ok_or_else(malformed)?;
    let (code, rest) = unescape(inner, '\'').ok_or_else(malformed)?;
    match code {
        Unescaped::Char(c) if rest.is_empty() => Ok(Value::Int(i64::from(u32::from(c)))),
        Unescaped::Byte(byte) if rest.is_empty() => Ok(Value::Int(i64::from(byte))),
        _ => Err(malformed()),
    }
}

/// The content of a string literal in `"` or `` ` ``.
pub(crate) fn string(text: &str) -> Result<String, String> {
    let inner = text.get(1..text.len().saturating_sub(1)).ok_or("invalid syntax")?;
    if text.starts_with('`') {
        return Ok(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let (unescaped, after) = unescape(rest, '"').ok_or("invalid syntax")?;
        match unescaped {
            Unescaped::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unescaped::Byte(byte) => bytes.push(byte),
        }
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| format!("string {text} is not UTF-8"))
}

enum Unescaped {
    Char(char),
    Byte(u8),
}

/// The first character of the literal's content, and the rest.
fn unescape(text: &str, mark: char) -> Option<(Unescaped, &str)> {
    let mut chars = text.chars();
    let first = chars.next()?;
    if first == mark || first == '\n' {
        return None;
    }
    if first != '\\' {
        return Some((Unescaped::Char(first), chars.as_str()));
    }
    let kind = chars.next()?;
    let rest = chars.as_str();
    let code = |radix: u32, text: &str| u32::from_str_radix(text, radix).ok();
    let hex = |count: usize| {
        let digits = rest.get(..count).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        Some((code(16, digits)?, &rest[count..]))
    };
    let simple = |c: char| Some((Unescaped::Char(c), rest));
    match kind {
        'a' => simple('\x07'),
        'b' => simple('\x08'),
        'f' => simple('\x0c'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\x0b'),
        '\\' => simple('\\'),
        c if c == mark => simple(mark),
        'x' => hex(2).and_then(|(code, rest)| Some((Unescaped::Byte(u8::try_from(code).ok()?), rest))),
        'u' => hex(4).and_then(|(code, rest)| Some((Unescaped::Char(char::from_u32(code)?), rest))),
        'U' => hex(8).and_then(|(code, rest)| Some((Unescaped::Char(char::from_u32(code)?), rest))),
        '0'..='7' => {
            let digits = text.get(1..4).filter(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'7')))?;
            Some((Unescaped::Byte(u8::try_from(code(8, digits)?).ok()?), &text[4..]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        let ints =
            [("0", 0), ("-7", -7), ("0x1F", 31), ("0o17", 15), ("017", 15), ("0b101", 5), ("1_000", 1000)];
        for (text, expected) in ints {
            assert_eq!(number(text), Ok(Value::Int(expected)), "{text}");
        }
        for (text, expected) in
            [("1.5", 1.5), ("1e3", 1000.0), ("-.5", -0.5), ("0x1p-2", 0.25), ("0x1.8p1", 3.0)]
        {
            assert_eq!(number(text), Ok(Value::Float(expected)), "{text}");
        }
        for text in ["08", "9223372036854775808", "0x", "1__0", "1i", "-", "1e999"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(string(r#""a\n\x41\101\u00e9\"""#).unwrap(), "a\nAA\u{e9}\"");
        assert_eq!(string(r#""\xc3\xa9""#).unwrap(), "é");
        assert_eq!(string("`\\n`").unwrap(), "\\n");
        assert!(string(r#""\'""#).is_err() && string(r#""\xff""#).is_err());
        assert_eq!(character("'a'"), Ok(Value::Int(97)));
        assert_eq!(character(r"'\''"), Ok(Value::Int(39)));
        assert!(character("'ab'").is_err() && character("''").is_err());
    }
}
