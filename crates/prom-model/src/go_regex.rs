//! Regular expressions in Go's RE2 syntax, compiled by the `regex` crate.
//!
//! The two agree but for a few spellings, which are rewritten: Perl classes are ASCII in Go, `[` and the set
//! operators are literal inside a Go class, `\Q…\E` quotes, and a brace that starts no repetition is literal.

use regex::{Regex, RegexBuilder};

/// Compiled automata larger than this are refused, so that a pattern cannot take the memory of the process.
const MAX_COMPILED_BYTES: usize = 10 << 20;
/// Groups nested deeper than this are refused.
const MAX_NESTING: u32 = 250;

/// Compiles `^(?s:pattern)$`, the form every PromQL matcher has.
pub(crate) fn compile_anchored(pattern: &str) -> Result<Regex, String> {
    // Compiled alone first: `a)(b` must not become valid inside the group.
    let translated = translate(pattern);
    build(&translated)?;
    build(&format!("^(?s:{translated})$"))
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .nest_limit(MAX_NESTING)
        .build()
        .map_err(|error| last_line(&error.to_string()))
}

/// The `regex` crate draws its errors over several lines; the last one says what is wrong.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or(message).trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Compiles a pattern of Go's syntax, anchored at both ends, for other rooms (relabelling, `label_replace`).
///
/// # Errors
/// The reason, in one line.
pub fn compile_go_regex(pattern: &str) -> Result<Regex, String> {
    compile_anchored(pattern)
}

/// Compiles a pattern of Go's syntax that may match anywhere in a text (template functions).
///
/// # Errors
/// The reason, in one line.
pub fn compile_go_regex_search(pattern: &str) -> Result<Regex, String> {
    build(&translate(pattern))
}

/// Rewrites what Go and the `regex` crate spell differently.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.char_indices().peekable();
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None => out.push('\\'),
                Some((_, 'Q')) => {
                    let quoted_start = index + 2;
                    let rest = &pattern[quoted_start..];
                    let quoted = rest.split("\\E").next().unwrap_or(rest);
                    out.push_str(&regex::escape(quoted));
                    let end = quoted_start + quoted.len();
                    let skip_to = (end + 2).min(pattern.len());
                    while chars.peek().is_some_and(|(next, _)| *next < skip_to) {
                        chars.next();
                    }
                }
                Some((_, class)) => out.push_str(&perl_class(class, false)),
            },
            '[' => {
                let class_end = class_end(&pattern[index..]).map_or(pattern.len(), |len| index + len);
                translate_class(&pattern[index..class_end], &mut out);
                while chars.peek().is_some_and(|(next, _)| *next < class_end) {
                    chars.next();
                }
            }
            '{' if !is_repetition(&pattern[index..]) => out.push_str("\\{"),
            c => out.push(c),
        }
    }
    out
}

/// `\d` and its kin with Go's ASCII meaning; any other escape as it stands.
fn perl_class(class: char, in_brackets: bool) -> String {
    let inner = match class.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => "\\t\\n\\x0C\\r ",
        'b' if class == 'b' && !in_brackets => return "(?-u:\\b)".to_owned(),
        'c' if class == 'C' => return ".".to_owned(),
        _ => return format!("\\{class}"),
    };
    match (class.is_ascii_uppercase(), in_brackets) {
        (false, true) => inner.to_owned(),
        (false, false) => format!("[{inner}]"),
        (true, _) => format!("[^{inner}]"),
    }
}

/// The length of the bracket expression at the start of `text`, with its closing bracket.
fn class_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut index = 1;
    if bytes.get(index) == Some(&b'^') {
        index += 1;
    }
    if bytes.get(index) == Some(&b']') {
        index += 1;
    }
    while let Some(byte) = bytes.get(index) {
        match byte {
            b']' => return Some(index + 1),
            b'\\' => index += 2,
            b'[' if bytes.get(index + 1) == Some(&b':') => {
                let close = text.get(index..)?.find(":]")?;
                index += close + 2;
            }
            _ => index += 1,
        }
    }
    None
}

fn translate_class(class: &str, out: &mut String) {
    let mut chars = class.char_indices().peekable();
    let mut is_first = true;
    while let Some((index, c)) = chars.next() {
        match c {
            '[' if is_first => out.push('['),
            '[' if class[index..].starts_with("[:") => out.push('['),
            '[' => out.push_str("\\["),
            '\\' => match chars.next() {
                None => out.push('\\'),
                Some((_, escaped)) => out.push_str(&perl_class(escaped, true)),
            },
            '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '-' if class[index..].starts_with("--") => out.push_str("\\-"),
            c => out.push(c),
        }
        is_first = false;
    }
}

/// Whether the text begins with `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(inner, _)| inner)
    else {
        return false;
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match inner.split_once(',') {
        None => is_number(inner),
        Some((low, high)) => is_number(low) && (high.is_empty() || is_number(high)),
    }
}

fn is_meta(c: char) -> bool {
    matches!(c, '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '\\')
}

/// The text a pattern stands for when it is a literal, escapes resolved.
pub(crate) fn unescape_literal(pattern: &str) -> Option<String> {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(char::is_ascii_punctuation)?),
            c if is_meta(c) => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// The alternatives of `a|b`, `(a|b)`, `(?:a|b)` or `^(a|b)$` when each is a literal.
pub(crate) fn literal_alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut inner = pattern;
    if let Some(unanchored) = inner.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')) {
        // Without a group the anchors bind to the first and last alternative only.
        if unanchored.ends_with('\\') || unanchored.contains('|') && !unanchored.starts_with('(') {
            return None;
        }
        inner = unanchored;
    }
    if let Some(group) = inner.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        inner = group.strip_prefix("?:").unwrap_or(group);
    }
    let mut alternatives = Vec::new();
    let mut start = 0;
    let bytes = inner.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'\\' => index += 2,
            b'|' => {
                alternatives.push(unescape_literal(&inner[start..index])?);
                index += 1;
                start = index;
            }
            _ => index += 1,
        }
    }
    alternatives.push(unescape_literal(&inner[start..])?);
    Some(alternatives)
}

/// A text every match of the pattern begins with.
pub(crate) fn literal_prefix(pattern: &str) -> String {
    let mut prefix = String::new();
    let body = pattern.strip_prefix('^').unwrap_or(pattern);
    if has_top_level_alternative(body) {
        return prefix;
    }
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        let literal = match c {
            '\\' => match chars.next() {
                Some(escaped) if escaped.is_ascii_punctuation() => escaped,
                _ => break,
            },
            c if is_meta(c) => break,
            c => c,
        };
        // The character may be optional or repeated: then it is not part of what is certain.
        if chars.peek().is_some_and(|next| matches!(next, '?' | '*' | '{')) {
            break;
        }
        prefix.push(literal);
    }
    prefix
}

fn has_top_level_alternative(pattern: &str) -> bool {
    let mut depth = 0i32;
    let mut in_class = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => depth -= 1,
            '|' if !in_class && depth <= 0 => return true,
            _ => {}
        }
    }
    false
}
