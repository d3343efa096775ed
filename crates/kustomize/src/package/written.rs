//! Documents in the form in which go-yaml v3 writes what it read: two spaces, lists not indented, quotes and braces as
//! they were, no line folded.

use gantry_yaml::{Node, Scalar, Span, Style, Tag};

use super::styled::{Item, Value};

const INDENT: usize = 2;

/// One document, ending in a line break.
pub(super) fn document(item: &Item) -> String {
    let mut out = String::new();
    comments(&mut out, &item.head, 0);
    match &item.value {
        Value::Mapping { entries, flow: false } if !entries.is_empty() => {
            mapping(&mut out, entries, 0, false)
        }
        Value::Sequence { items, flow: false } if !items.is_empty() => sequence(&mut out, items, 0, false),
        _ => {
            out.push_str(&inline(item, 0));
            end_line(&mut out, &item.line);
        }
    }
    comments(&mut out, &item.foot, 0);
    out
}

/// The value on one line, in braces and brackets.
pub(super) fn on_one_line(item: &Item) -> String {
    match &item.value {
        Value::Scalar(value) => scalar(value, true, 0),
        Value::Sequence { items, .. } => {
            let items: Vec<String> = items.iter().map(on_one_line).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Mapping { entries, .. } => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| {
                    format!("{}: {}", on_one_line(key), on_one_line(value)).trim_end().to_owned()
                })
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// The same, without the quotes of a text that can stand without them.
pub(super) fn shown(item: &Item) -> String {
    match &item.value {
        Value::Scalar(value) => scalar(&Scalar { style: Style::Plain, ..value.clone() }, true, 0),
        _ => on_one_line(item),
    }
}

fn comments(out: &mut String, lines: &[String], indent: usize) {
    for line in lines {
        pad(out, indent);
        out.push_str(line);
        out.push('\n');
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn end_line(out: &mut String, comment: &str) {
    if !comment.is_empty() {
        out.push(' ');
        out.push_str(comment);
    }
    out.push('\n');
}

fn is_block(item: &Item) -> bool {
    match &item.value {
        Value::Scalar(_) => false,
        Value::Sequence { items, flow } => !flow && !items.is_empty(),
        Value::Mapping { entries, flow } => !flow && !entries.is_empty(),
    }
}

/// What stands on the line where it begins; a block scalar goes on below, at `indent`.
fn inline(item: &Item, indent: usize) -> String {
    match &item.value {
        Value::Scalar(value) => scalar(value, false, indent),
        _ => on_one_line(item),
    }
}

/// A scalar or a collection in braces, after what introduces it.
fn value_on_line(out: &mut String, item: &Item, indent: usize) {
    let text = inline(item, indent);
    // A comment belongs on the first line of a block scalar.
    match text.split_once('\n') {
        Some((first, rest)) => {
            if !first.is_empty() {
                out.push(' ');
                out.push_str(first);
            }
            end_line(out, &item.line);
            out.push_str(rest);
            if !rest.ends_with('\n') {
                out.push('\n');
            }
        }
        None => {
            if !text.is_empty() {
                out.push(' ');
                out.push_str(&text);
            }
            end_line(out, &item.line);
        }
    }
}

/// `begun`: the first entry stands behind a dash.
fn mapping(out: &mut String, entries: &[(Item, Item)], indent: usize, begun: bool) {
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 || !begun {
            comments(out, &key.head, indent);
            pad(out, indent);
        }
        out.push_str(&inline(key, indent));
        out.push(':');
        match &value.value {
            Value::Mapping { entries, .. } if is_block(value) => {
                end_line(out, &key.line);
                mapping(out, entries, indent + INDENT, false);
            }
            Value::Sequence { items, .. } if is_block(value) => {
                end_line(out, &key.line);
                sequence(out, items, indent, false);
            }
            _ => value_on_line(out, value, indent + INDENT),
        }
    }
}

fn sequence(out: &mut String, items: &[Item], indent: usize, begun: bool) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !begun {
            comments(out, &item.head, indent);
            pad(out, indent);
        }
        out.push('-');
        match &item.value {
            Value::Mapping { entries, .. } if is_block(item) => {
                out.push(' ');
                mapping(out, entries, indent + INDENT, true);
            }
            Value::Sequence { items, .. } if is_block(item) => {
                out.push(' ');
                sequence(out, items, indent + INDENT, true);
            }
            _ => value_on_line(out, item, indent + INDENT),
        }
    }
}

/// A scalar in the style it was read in, where its text allows that.
fn scalar(value: &Scalar, in_flow: bool, indent: usize) -> String {
    let text = value.text.as_str();
    let style = match value.style {
        Style::Literal | Style::Folded if in_flow || !fits_block(text) => Style::DoubleQuoted,
        Style::Folded => Style::Folded,
        Style::Plain if value.tag == Tag::Str && text.contains('\n') => {
            if in_flow || !fits_block(text) {
                Style::DoubleQuoted
            } else {
                Style::Literal
            }
        }
        Style::Plain if value.tag == Tag::Str && !is_plain(text, in_flow) => {
            let reads_as_another = Node::plain(text, Span::NONE).as_str().is_none();
            if reads_as_another || has_special(text) { Style::DoubleQuoted } else { Style::SingleQuoted }
        }
        Style::SingleQuoted if has_special(text) || text.contains('\n') => Style::DoubleQuoted,
        style => style,
    };
    match style {
        Style::Plain => text.to_owned(),
        Style::SingleQuoted => format!("'{}'", text.replace('\'', "''")),
        Style::DoubleQuoted => double_quoted(text),
        Style::Literal => block('|', text, text.lines().map(str::to_owned).collect(), indent),
        Style::Folded => block('>', text, folded_lines(text), indent),
    }
}

/// Whether a string can stand without quotes and still be read as that string.
fn is_plain(text: &str, in_flow: bool) -> bool {
    let reads_the_same = Node::plain(text, Span::NONE).as_str() == Some(text);
    let first = text.chars().next();
    let is_mark = text.starts_with(['-', '?', ':']) && text[1..].chars().next().is_none_or(|c| c == ' ');
    let begins_well = first.is_some_and(|c| !" ,[]{}#&*!|>'\"%@`".contains(c))
        && !is_mark
        && !text.starts_with("---")
        && !text.starts_with("...");
    let ends_flow = in_flow && text.contains([',', '[', ']', '{', '}']);
    let clean = !text.contains(": ") && !text.contains(" #") && !text.ends_with([' ', ':']) && !ends_flow;
    reads_the_same && begins_well && clean && !has_special(text)
}

/// What only double quotes can hold.
fn has_special(text: &str) -> bool {
    text.chars().any(|c| (c.is_control() && c != '\n') || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}'))
}

fn fits_block(text: &str) -> bool {
    let is_blank = |line: &str| !line.is_empty() && line.trim_end_matches(' ').len() != line.len();
    !text.trim().is_empty() && !has_special(text) && !text.lines().any(is_blank)
}

fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if has_special(c.encode_utf8(&mut [0; 4])) => {
                let code = u32::from(c);
                out.push_str(&if code <= 0xff { format!("\\x{code:02X}") } else { format!("\\u{code:04X}") });
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A folded scalar reads a single break as a space: each break of the text is written as two, but not around lines that
/// begin with a space.
fn folded_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut after_text = false;
    for line in text.lines() {
        let is_text = !line.is_empty() && !line.starts_with(' ');
        if is_text && after_text {
            lines.push(String::new());
        }
        lines.push(line.to_owned());
        after_text = is_text;
    }
    lines
}

fn block(mark: char, text: &str, lines: Vec<String>, indent: usize) -> String {
    let mut out = String::from(mark);
    if text.starts_with([' ', '\n']) {
        out.push_str(&INDENT.to_string());
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text.ends_with("\n\n") || text == "\n" {
        out.push('+');
    }
    out.push('\n');
    for line in lines {
        if !line.is_empty() {
            pad(&mut out, indent.max(INDENT));
            out.push_str(&line);
        }
        out.push('\n');
    }
    out
}
