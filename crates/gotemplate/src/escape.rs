//! The escapers that templates can call.

use std::fmt::Write;

/// Text for HTML, as Go's `HTMLEscapeString`.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out
}

/// Text for a JavaScript string, as Go's `JSEscapeString`.
pub fn javascript(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => push_unicode(&mut out, c),
            c if c < ' ' || (!c.is_ascii() && !is_print(c)) => push_unicode(&mut out, c),
            other => out.push(other),
        }
    }
    out
}

fn push_unicode(out: &mut String, c: char) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\u{:04X}", u32::from(c));
}

/// A value for a URL's query, as Go's `url.QueryEscape`.
pub fn query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// Whether Go's `strconv.IsPrint` holds, near enough: what Rust's own escaping leaves as it is, without odd spaces.
pub(crate) fn is_print(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c if c.is_ascii() || c == '\u{ad}' => false,
        c => !c.is_whitespace() && !c.is_control() && c.escape_debug().len() == 1,
    }
}

/// A Go string literal in double quotes.
pub(crate) fn quote(text: &str, ascii_only: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|c| push_quoted(&mut out, c, '"', ascii_only));
    out.push('"');
    out
}

pub(crate) fn push_quoted(out: &mut String, c: char, mark: char, ascii_only: bool) {
    match c {
        c if c == mark || c == '\\' => {
            out.push('\\');
            out.push(c);
        }
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if is_print(c) && (!ascii_only || c.is_ascii()) => out.push(c),
        c => {
            let code = u32::from(c);
            let _ = match code {
                0..0x80 => write!(out, "\\x{code:02x}"),
                0x80..0x10000 => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_escaper_escapes_its_own() {
        assert_eq!(html("<a href='x'>\"&\0"), "&lt;a href=&#39;x&#39;&gt;&#34;&amp;\u{fffd}");
        assert_eq!(javascript("It'd be \\ \"nice\"<\n="), "It\\'d be \\\\ \\\"nice\\\"\\u003C\\u000A\\u003D");
        assert_eq!(query("http://a b/ü"), "http%3A%2F%2Fa+b%2F%C3%BC");
        assert_eq!(quote("a\t\"é\u{1}", false), "\"a\\t\\\"é\\x01\"");
        assert_eq!(quote("é", true), "\"\\u00e9\"");
    }
}
