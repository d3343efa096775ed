//! JSON syntax errors in the words of Go's decoder, which clients and their tests match on.

/// What Go would say about a text that serde_json refused.
pub(crate) fn syntax_error(text: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let offset = offset_of(text, error.line(), error.column());
    let shown = match text.get(offset) {
        Some(b'\'') => "'\\''".into(),
        Some(byte) if byte.is_ascii_graphic() || *byte == b' ' => format!("'{}'", char::from(*byte)),
        Some(byte) => format!("'\\x{byte:02x}'"),
        None => return "unexpected end of JSON input".into(),
    };
    let message = error.to_string();
    let place = if message.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if message.starts_with("expected `:`") {
        "after object key"
    } else if message.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if message.starts_with("expected `,` or `]`") {
        "after array element"
    } else if message.starts_with("trailing characters") {
        "after top-level value"
    } else {
        "looking for beginning of value"
    };
    format!("invalid character {shown} {place}")
}

/// serde_json counts lines from 1 and columns up to and including the offending byte.
fn offset_of(text: &[u8], line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match text[start..].iter().position(|byte| *byte == b'\n') {
            Some(end) => start += end + 1,
            None => break,
        }
    }
    start + column.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_apimachinery::Value;

    #[test]
    fn errors_read_as_from_go() {
        for (text, expected) in [
            ("{not json", "invalid character 'n' looking for beginning of object key string"),
            ("[", "unexpected end of JSON input"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("x", "invalid character 'x' looking for beginning of value"),
        ] {
            let error = serde_json::from_str::<Value>(text).unwrap_err();
            assert_eq!(syntax_error(text.as_bytes(), &error), expected, "{text}");
        }
    }
}
