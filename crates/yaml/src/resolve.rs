//! What a plain scalar means: the resolution rules of go-yaml v3 (reading) and v2 (deciding what needs quotes).

use smol_str::SmolStr;

use crate::node::Tag;
use crate::timestamp;

/// The value a scalar stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    Null,
    Bool(bool),
    Int(i64),
    /// Only above `i64::MAX`.
    Uint(u64),
    Float(f64),
    Str(SmolStr),
}

/// How text resolves when it is plain, under go-yaml v3.
pub(crate) fn tag_of_plain(text: &str) -> Tag {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Tag::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Tag::Bool,
        "<<" => return Tag::Merge,
        _ => {}
    }
    number_or_timestamp(text).unwrap_or(Tag::Str)
}

/// Whether go-yaml v2 would read the plain text as something else than this string, or a YAML 1.1 reader would.
pub(crate) fn needs_quotes(text: &str) -> bool {
    let word = matches!(
        text,
        "" | "~"
            | "null"
            | "Null"
            | "NULL"
            | "y"
            | "Y"
            | "yes"
            | "Yes"
            | "YES"
            | "n"
            | "N"
            | "no"
            | "No"
            | "NO"
            | "true"
            | "True"
            | "TRUE"
            | "false"
            | "False"
            | "FALSE"
            | "on"
            | "On"
            | "ON"
            | "off"
            | "Off"
            | "OFF"
    );
    word || number_or_timestamp(text).is_some() || is_base60(text)
}

fn number_or_timestamp(text: &str) -> Option<Tag> {
    match text.as_bytes().first()? {
        b'.' => {
            if matches!(text, ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF") {
                return Some(Tag::Float);
            }
            let between_digits =
                text.split('_').skip(1).all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
                    && text.rsplit('_').skip(1).all(|part| part.ends_with(|c: char| c.is_ascii_digit()));
            let digits = without_underscores(text);
            (between_digits && is_decimal_float(&digits) && finite(&digits).is_some()).then_some(Tag::Float)
        }
        b'+' | b'-' | b'0'..=b'9' => {
            if timestamp::parse(text).is_some() {
                return Some(Tag::Timestamp);
            }
            if infinity(text).is_some() {
                return Some(Tag::Float);
            }
            let digits = without_underscores(text);
            if parse_integer(&digits).is_some() {
                return Some(Tag::Int);
            }
            (is_decimal_float(&digits) && finite(&digits).is_some()).then_some(Tag::Float)
        }
        _ => None,
    }
}

fn without_underscores(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('_') { text.replace('_', "").into() } else { text.into() }
}

fn infinity(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn finite(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|x| x.is_finite())
}

/// `[-+]? (. digits | digits (. digits*)?) ([eE] [-+]? digits)?`
fn is_decimal_float(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut i = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let digits_from = |start: usize| bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits_from(i);
    i += whole;
    if bytes.get(i) == Some(&b'.') {
        let fraction = digits_from(i + 1);
        if whole == 0 && fraction == 0 {
            return false;
        }
        i += 1 + fraction;
    } else if whole == 0 {
        return false;
    }
    if matches!(bytes.get(i), Some(b'e' | b'E')) {
        i += 1;
        if matches!(bytes.get(i), Some(b'+' | b'-')) {
            i += 1;
        }
        let exponent = digits_from(i);
        if exponent == 0 {
            return false;
        }
        i += exponent;
    }
    i == bytes.len()
}

/// An integer as Go's base-0 parser reads it (`0x`, `0o`, `0b`, leading-zero octal), already without underscores.
fn parse_integer(text: &str) -> Option<Resolved> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let has_sign = unsigned.len() != text.len();
    let bytes = unsigned.as_bytes();
    let (radix, digits) = match bytes {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return 0i64.checked_sub_unsigned(magnitude).map(Resolved::Int);
    }
    match i64::try_from(magnitude) {
        Ok(int) => Some(Resolved::Int(int)),
        // An unsigned number takes no sign.
        Err(_) if has_sign => None,
        Err(_) => Some(Resolved::Uint(magnitude)),
    }
}

/// `[-+]? digit [0-9_]* (: [0-5]? digit)+ (. [0-9_]*)?`: a number to a YAML 1.1 reader only.
fn is_base60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let Some(first) = parts.next() else { return false };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !first.starts_with(|c: char| c.is_ascii_digit()) || !digits(first) {
        return false;
    }
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let sexagesimal = |s: &str| match s.as_bytes() {
        [b] => b.is_ascii_digit(),
        [a, b] => (b'0'..=b'5').contains(a) && b.is_ascii_digit(),
        _ => false,
    };
    let (last, fraction) = last.split_once('.').unwrap_or((last, ""));
    middle.iter().all(|s| sexagesimal(s)) && sexagesimal(last) && digits(fraction)
}

/// The value of `text` read as `tag`. A tag that does not fit leaves the string.
pub(crate) fn value_of(tag: Tag, text: &str) -> Resolved {
    match tag {
        Tag::Null => Resolved::Null,
        Tag::Bool => Resolved::Bool(matches!(text, "true" | "True" | "TRUE")),
        Tag::Int => {
            let digits = without_underscores(text);
            parse_integer(&digits).unwrap_or_else(|| Resolved::Str(text.into()))
        }
        Tag::Float => {
            if matches!(text, ".nan" | ".NaN" | ".NAN") {
                return Resolved::Float(f64::NAN);
            }
            if let Some(infinite) = infinity(text) {
                return Resolved::Float(infinite);
            }
            let digits = without_underscores(text);
            match finite(&digits) {
                Some(x) => Resolved::Float(x),
                None => match parse_integer(&digits) {
                    Some(Resolved::Int(i)) => Resolved::Float(i as f64),
                    Some(Resolved::Uint(u)) => Resolved::Float(u as f64),
                    _ => Resolved::Str(text.into()),
                },
            }
        }
        Tag::Str | Tag::Merge => Resolved::Str(text.into()),
        Tag::Timestamp => match timestamp::parse(text) {
            Some(time) => Resolved::Str(time.into()),
            None => Resolved::Str(text.into()),
        },
        Tag::Binary => match decode_base64(text) {
            Some(text) => Resolved::Str(text.into()),
            None => Resolved::Str(text.into()),
        },
    }
}

/// Standard base64 without white space, if it decodes to text.
fn decode_base64(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    let symbols: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
    if !symbols.len().is_multiple_of(4) {
        return None;
    }
    let padding = symbols.iter().rev().take_while(|b| **b == b'=').count();
    if padding > 2 {
        return None;
    }
    for symbol in &symbols[..symbols.len() - padding] {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Resolved) {
        assert_eq!(value_of(tag_of_plain(text), text), expected, "{text}");
    }

    #[test]
    fn plain_scalars_resolve_as_go_does() {
        check("017", Resolved::Int(15));
        check("0o17", Resolved::Int(15));
        check("0x1F", Resolved::Int(31));
        check("0b11", Resolved::Int(3));
        check("1_000", Resolved::Int(1000));
        check("-0", Resolved::Int(0));
        check("+1", Resolved::Int(1));
        check("12345678901234567890", Resolved::Uint(12345678901234567890));
        check("1e3", Resolved::Float(1000.0));
        check(".5", Resolved::Float(0.5));
        check("5.", Resolved::Float(5.0));
        check(".14_4", Resolved::Float(0.144));
        check("._14", Resolved::Str("._14".into()));
        check("1e", Resolved::Str("1e".into()));
        check("08", Resolved::Float(8.0));
        check("1:30", Resolved::Str("1:30".into()));
        check("yes", Resolved::Str("yes".into()));
        check("1e999", Resolved::Str("1e999".into()));
        check("True", Resolved::Bool(true));
        check("~", Resolved::Null);
        check("2020-01-01", Resolved::Str("2020-01-01T00:00:00Z".into()));
        check("2020-01-01 10:00:00", Resolved::Str("2020-01-01T10:00:00Z".into()));
    }

    #[test]
    fn binary_is_decoded_to_text() {
        assert_eq!(value_of(Tag::Binary, "aGVsbG8="), Resolved::Str("hello".into()));
        assert_eq!(value_of(Tag::Binary, "a==="), Resolved::Str("a===".into()));
    }

    #[test]
    fn what_older_readers_would_misread_needs_quotes() {
        for text in
            ["yes", "N", "on", "1:30", "190:20:30", "1e3", "0x1F", "2020-01-01", ".5", "", "~", "1_000"]
        {
            assert!(needs_quotes(text), "{text}");
        }
        for text in ["=", "<<", "1e", "a", "1:60", "nope", "-", ".", "1.2.3", "v1"] {
            assert!(!needs_quotes(text), "{text}");
        }
    }
}
