//! Nodes in the form in which they were written: keys in their order, quotes kept, and, where the text is at hand,
//! comments and collections on one line.
//!
//! The form is go-yaml v3's with lists not indented under their key, which upstream uses wherever it shows a part of a
//! document or gives back a document of the user's.

use std::collections::HashMap;

use gantry_yaml::{Data, Node, Scalar, Span, Style, Tag};

/// What a person wrote about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comments {
    /// Whole lines above it, without indentation.
    pub(crate) head: Vec<String>,
    /// At the end of its line.
    pub(crate) line: String,
}

/// The texts that nodes come from, by file id, with the comments in them.
#[derive(Debug, Default)]
pub(crate) struct Texts<'a> {
    lines: Vec<Vec<&'a str>>,
    keys: HashMap<Span, Comments>,
    scalars: HashMap<Span, Comments>,
}

/// Of a part shown in a message, no more than this.
const MOST_SHOWN_BYTES: usize = 4096;

/// A node for a message.
pub(crate) fn shown(node: &Node) -> String {
    let mut text = Texts::default().write(node);
    if text.len() > MOST_SHOWN_BYTES {
        let end = (0..=MOST_SHOWN_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" …\n");
    }
    text
}

// === impl Texts ===

impl<'a> Texts<'a> {
    pub(crate) fn new(texts: &[&'a str]) -> Texts<'a> {
        let lines = texts.iter().map(|text| text.lines().collect()).collect();
        Texts { lines, ..Texts::default() }
    }

    /// Gathers the comments about every key and scalar of a document.
    pub(crate) fn note(&mut self, node: &Node) {
        match &node.data {
            Data::Scalar(_) => {}
            Data::Sequence(items) => items.iter().for_each(|item| {
                self.note_scalar(item);
                self.note(item);
            }),
            Data::Mapping(entries) => {
                for (key, value) in entries {
                    let mut comments = Comments { head: self.above(key.span), line: String::new() };
                    let same_line = value.span.line() == key.span.line();
                    if same_line {
                        self.note_scalar(value);
                    }
                    if !same_line || value.as_scalar().is_none() {
                        comments.line = self.behind(key.span);
                    }
                    self.keys.insert(key.span, comments);
                    self.note(value);
                }
            }
        }
    }

    fn note_scalar(&mut self, node: &Node) {
        if node.as_scalar().is_some() {
            let line = self.behind(node.span);
            self.scalars.insert(node.span, Comments { head: Vec::new(), line });
        }
    }

    pub(crate) fn of_key(&self, key: &Node) -> Comments {
        self.keys.get(&key.span).cloned().unwrap_or_default()
    }

    pub(crate) fn of_scalar(&self, node: &Node) -> Comments {
        self.scalars.get(&node.span).cloned().unwrap_or_default()
    }

    pub(crate) fn set_of_key(&mut self, key: &Node, comments: Comments) {
        self.keys.insert(key.span, comments);
    }

    fn line(&self, span: Span) -> &'a str {
        let lines = self.lines.get(usize::from(span.file().0));
        let line = lines.and_then(|lines| lines.get(span.line().checked_sub(1)?));
        line.copied().unwrap_or_default()
    }

    /// The comment lines right above.
    fn above(&self, span: Span) -> Vec<String> {
        let Some(lines) = self.lines.get(usize::from(span.file().0)) else { return Vec::new() };
        let upto = span.line().saturating_sub(1).min(lines.len());
        let head =
            lines[..upto].iter().rev().map(|line| line.trim()).take_while(|line| line.starts_with('#'));
        let mut head: Vec<String> = head.map(str::to_owned).collect();
        head.reverse();
        head
    }

    /// The comment at the end of the line, looked for from here on.
    fn behind(&self, span: Span) -> String {
        let mut quote = None;
        let (mut before, mut fresh) = (' ', true);
        let mut rest = self.line(span).char_indices().skip(span.column().saturating_sub(1));
        let line = self.line(span);
        while let Some((at, c)) = rest.next() {
            match (quote, c) {
                (Some('"'), '\\') => drop(rest.next()),
                (Some(open), _) if open == c => quote = None,
                (Some(_), _) => {}
                // A quote opens where a value begins, and is a letter elsewhere.
                (None, '"' | '\'') if fresh => quote = Some(c),
                (None, '#') if before.is_whitespace() => return line[at..].trim_end().to_owned(),
                (None, _) => {}
            }
            fresh = matches!(c, '[' | '{' | ',' | ':') || (fresh && c == ' ') || (before == ':' && c == ' ');
            before = c;
        }
        String::new()
    }

    /// Whether a collection was written on one line, in brackets.
    fn is_flow(&self, node: &Node) -> bool {
        let first = self.line(node.span).chars().nth(node.span.column().saturating_sub(1));
        !node.span.is_none() && matches!(first, Some('[' | '{'))
    }

    /// One document.
    pub(crate) fn write(&self, node: &Node) -> String {
        let mut out = String::new();
        match &node.data {
            Data::Scalar(scalar) => {
                write_scalar(scalar, 0, &mut out);
                out.push('\n');
            }
            _ if self.is_flow(node) || is_empty(node) => {
                self.flow(node, &mut out);
                out.push('\n');
            }
            _ => self.block(node, 0, &mut out),
        }
        out
    }

    fn block(&self, node: &Node, indent: usize, out: &mut String) {
        match &node.data {
            Data::Scalar(scalar) => write_scalar(scalar, indent, out),
            Data::Sequence(items) => {
                for item in items {
                    self.item(item, indent, out);
                }
            }
            Data::Mapping(entries) => {
                for (key, value) in entries {
                    let comments = self.of_key(key);
                    for line in &comments.head {
                        push_line(line, indent, out);
                    }
                    push_spaces(indent, out);
                    if let Some(scalar) = key.as_scalar() {
                        write_scalar(scalar, indent, out);
                    }
                    out.push(':');
                    self.value(value, indent, &comments.line, out);
                }
            }
        }
    }

    /// What stands behind a key's colon, up to the end of its last line.
    fn value(&self, value: &Node, indent: usize, comment: &str, out: &mut String) {
        match &value.data {
            Data::Scalar(scalar) => {
                let own = self.of_scalar(value).line;
                let comment = if own.is_empty() { comment } else { &own };
                if !(scalar.tag == Tag::Null && scalar.text.is_empty()) {
                    out.push(' ');
                }
                if matches!(scalar.style, Style::Literal | Style::Folded) || scalar.text.contains('\n') {
                    return write_lines(scalar, indent + 2, comment, out);
                }
                write_scalar(scalar, indent + 2, out);
                push_comment(comment, out);
            }
            _ if self.is_flow(value) || is_empty(value) => {
                out.push(' ');
                self.flow(value, out);
                push_comment(comment, out);
            }
            Data::Sequence(_) => {
                push_comment(comment, out);
                self.block(value, indent, out);
            }
            Data::Mapping(_) => {
                push_comment(comment, out);
                self.block(value, indent + 2, out);
            }
        }
    }

    fn item(&self, item: &Node, indent: usize, out: &mut String) {
        let is_block = item.as_scalar().is_none() && !self.is_flow(item) && !is_empty(item);
        if !is_block {
            push_spaces(indent, out);
            out.push('-');
            return self.value(item, indent, "", out);
        }
        // The dash takes the place of the first line's indentation.
        let mut inner = String::new();
        self.block(item, indent + 2, &mut inner);
        let mut lines = inner.split_inclusive('\n');
        let mut first = "";
        for line in lines.by_ref() {
            if !line.trim_start().starts_with('#') {
                first = line;
                break;
            }
            push_spaces(indent, out);
            out.push_str(line.trim_start());
        }
        push_spaces(indent, out);
        out.push_str("- ");
        out.push_str(first.get(indent + 2..).unwrap_or(first));
        lines.for_each(|line| out.push_str(line));
    }

    fn flow(&self, node: &Node, out: &mut String) {
        match &node.data {
            Data::Scalar(scalar) => {
                let special = |c: char| matches!(c, ',' | '[' | ']' | '{' | '}');
                if scalar.style == Style::Plain && scalar.text.contains(special) || scalar.text.contains('\n')
                {
                    write_double_quoted(&scalar.text, out);
                } else {
                    write_scalar(scalar, 0, out);
                }
            }
            Data::Sequence(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    self.flow(item, out);
                }
                out.push(']');
            }
            Data::Mapping(entries) => {
                out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    self.flow(key, out);
                    out.push_str(": ");
                    self.flow(value, out);
                }
                out.push('}');
            }
        }
    }
}

fn is_empty(node: &Node) -> bool {
    match &node.data {
        Data::Scalar(_) => false,
        Data::Sequence(items) => items.is_empty(),
        Data::Mapping(entries) => entries.is_empty(),
    }
}

fn push_spaces(count: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', count));
}

fn push_line(line: &str, indent: usize, out: &mut String) {
    push_spaces(indent, out);
    out.push_str(line);
    out.push('\n');
}

fn push_comment(comment: &str, out: &mut String) {
    if !comment.is_empty() {
        out.push(' ');
        out.push_str(comment);
    }
    out.push('\n');
}

/// A scalar on one line, in its quotes.
fn write_scalar(scalar: &Scalar, indent: usize, out: &mut String) {
    let text = scalar.text.as_str();
    match scalar.style {
        Style::DoubleQuoted => write_double_quoted(text, out),
        Style::SingleQuoted if !text.chars().any(char::is_control) => {
            out.push('\'');
            out.push_str(&text.replace('\'', "''"));
            out.push('\'');
        }
        Style::Plain if scalar.tag != Tag::Str => out.push_str(text),
        _ if text.contains('\n') => {
            write_lines(scalar, indent, "", out);
            out.pop();
        }
        _ => {
            let read = Node::plain(text, Span::NONE);
            if read.as_scalar().is_some_and(|scalar| scalar.tag != Tag::Str) {
                return write_double_quoted(text, out);
            }
            // What only the older readers take for another type stays as it is.
            let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let emitted = gantry_yaml::emit(&Node::string(text, Span::NONE));
            match emitted.trim_end_matches('\n') {
                _ if is_word => out.push_str(text),
                // A long text is folded there, and not here.
                folded if folded.contains('\n') => write_folded(text, folded, out),
                emitted => out.push_str(emitted),
            }
        }
    }
}

fn write_folded(text: &str, folded: &str, out: &mut String) {
    match folded.chars().next() {
        Some('"') => write_double_quoted(text, out),
        Some('\'') => {
            out.push('\'');
            out.push_str(&text.replace('\'', "''"));
            out.push('\'');
        }
        _ => out.push_str(text),
    }
}

/// A block scalar with its indicator; ends in a line break.
fn write_lines(scalar: &Scalar, indent: usize, comment: &str, out: &mut String) {
    let text = scalar.text.as_str();
    let body = text.trim_end_matches('\n');
    let breaks = text.len() - body.len();
    // No block can say where this ends, or begins with.
    if body.is_empty() || body.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        write_double_quoted(text, out);
        return push_comment(comment, out);
    }
    out.push('|');
    if body.starts_with([' ', '\n']) {
        out.push('2');
    }
    out.push_str(match breaks {
        0 => "-",
        1 => "",
        _ => "+",
    });
    push_comment(comment, out);
    for line in body.split('\n') {
        if !line.is_empty() {
            push_spaces(indent, out);
            out.push_str(line);
        }
        out.push('\n');
    }
    out.extend(std::iter::repeat_n('\n', breaks.saturating_sub(1)));
}

fn write_double_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() && (c as u32) < 0x100 => out.push_str(&format!("\\x{:02X}", c as u32)),
            c if c.is_control() || c == '\u{feff}' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use gantry_yaml::{FileId, parse_documents};

    use super::*;

    #[track_caller]
    fn same(text: &str, expected: &str) {
        let node = parse_documents(FileId(0), text).expect(text).remove(0);
        let mut texts = Texts::new(&[text]);
        texts.note(&node);
        assert_eq!(texts.write(&node), expected, "{text}");
    }

    #[test]
    fn what_was_written_comes_back() {
        for text in [
            "b: 1 # one\na: 'x'\n\"c\": \"d # no\" # yes\n",
            "# head\nlist: # of two\n- a # first\n- b\n",
            "x:\n  # above\n  y: {a: b, c: [1, 2]} # behind\n  z: []\n",
            "- name: a\n  yes: no\n- - 1\n  - 2\n- {}\n",
            "text: |\n  one\n\n  two\nkeep: |2-\n    deep\n  shallow\nnull: null\nempty:\n",
        ] {
            same(text, text);
        }
        same("list:\n  - a\n  - b: 1\n    c: 2\n", "list:\n- a\n- b: 1\n  c: 2\n");
    }

    #[test]
    fn what_a_program_made_is_quoted_where_it_must_be() {
        let mut node = Node::mapping(Span::NONE);
        for (key, text) in [("a", "1"), ("b", "x: y"), ("c", "yes"), ("d", ""), ("e", "two\nlines")] {
            node.set(key, Node::string(text, Span::NONE));
        }
        assert_eq!(shown(&node), "a: \"1\"\nb: 'x: y'\nc: yes\nd: \"\"\ne: |-\n  two\n  lines\n");
        let long = Node::string("word ".repeat(2000), Span::NONE);
        assert!(shown(&long).len() < MOST_SHOWN_BYTES + 10);
    }
}
