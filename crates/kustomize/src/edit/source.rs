//! Where the nodes of a document lie in its text: the parser knows where each begins, this finds where each ends.
//!
//! Ends are read off the text by style and indentation. Whoever edits by them reads the result again and compares.

use gantry_yaml::{Data, Node, Span, Style};

pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    line_starts: Vec<usize>,
}

const BYTE_ORDER_MARK: &str = "\u{feff}";

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Source<'a> {
        let mut line_starts = vec![0];
        line_starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        Source { text, line_starts }
    }

    /// The byte at which a node begins; `None` for a place the program made.
    pub(crate) fn offset(&self, span: Span) -> Option<usize> {
        let line = span.line().checked_sub(1)?;
        let mut start = *self.line_starts.get(line)?;
        if line == 0 && self.text.starts_with(BYTE_ORDER_MARK) {
            start += BYTE_ORDER_MARK.len();
        }
        let line_text = &self.text[start..self.line_end(start)];
        match line_text.char_indices().nth(span.column() - 1) {
            Some((within, _)) => Some(start + within),
            None if line_text.chars().count() == span.column() - 1 => Some(start + line_text.len()),
            None => None,
        }
    }

    pub(crate) fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |at| at + 1)
    }

    /// Before the line break.
    pub(crate) fn line_end(&self, offset: usize) -> usize {
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |at| offset + at);
        if end > offset && self.text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end }
    }

    /// Where the line after this one begins, or the text ends.
    pub(crate) fn next_line(&self, offset: usize) -> usize {
        self.text[offset..].find('\n').map_or(self.text.len(), |at| offset + at + 1)
    }

    /// Characters between the line's beginning and `offset`.
    pub(crate) fn column(&self, offset: usize) -> usize {
        let before = &self.text[self.line_start(offset)..offset];
        before.trim_start_matches(BYTE_ORDER_MARK).chars().count()
    }

    /// Whether only spaces stand before `offset` on its line.
    pub(crate) fn begins_its_line(&self, offset: usize) -> bool {
        let before = &self.text[self.line_start(offset)..offset];
        before.trim_start_matches(BYTE_ORDER_MARK).bytes().all(|byte| byte == b' ')
    }

    /// Whether the range holds what may be a comment. A `#` inside of a text counts: better once too often.
    pub(crate) fn may_have_comment(&self, start: usize, end: usize) -> bool {
        let text = &self.text[start..end];
        text.trim_start().starts_with('#')
            || text.match_indices('#').any(|(at, _)| at > 0 && text[..at].ends_with([' ', '\t', '\n']))
    }

    pub(crate) fn is_flow(&self, node: &Node) -> bool {
        let begins = self.offset(node.span).and_then(|at| self.text.as_bytes().get(at));
        node.as_scalar().is_none() && matches!(begins, Some(b'[' | b'{'))
    }

    /// The end of a mapping's entry, which lies before `limit`. `after_key` is the place after its colon.
    pub(crate) fn end_of_value(&self, value: &Node, after_key: usize, limit: usize) -> Option<usize> {
        if value.is_null() && value.text() == Some("") {
            let start = self.offset(value.span)?;
            // A null that is not written stands at the colon.
            return Some(if start < after_key { after_key } else { self.end_of(value, limit)? });
        }
        self.end_of(value, limit)
    }

    /// The place after a key's colon.
    pub(crate) fn after_colon(&self, key: &Node) -> Option<usize> {
        let start = self.offset(key.span)?;
        let end = self.scalar_end(key, start, self.line_end(start))?;
        let rest = &self.text[end..];
        let colon = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        rest[colon..].starts_with(':').then_some(end + colon + 1)
    }

    /// The end of a node, without comments and white space after it. `None` when the text is not as expected there,
    /// as behind an alias.
    pub(crate) fn end_of(&self, node: &Node, limit: usize) -> Option<usize> {
        let start = self.offset(node.span).filter(|start| *start < limit)?;
        if self.is_flow(node) {
            return self.flow_end(start).filter(|end| *end <= limit);
        }
        match &node.data {
            Data::Scalar(_) => self.scalar_end(node, start, limit),
            Data::Sequence(items) => self.end_of(items.last()?, limit).filter(|end| *end >= start),
            Data::Mapping(entries) => {
                let (key, value) = entries.last()?;
                self.offset(key.span).filter(|at| *at >= start)?;
                self.end_of_value(value, self.after_colon(key)?, limit)
            }
        }
    }

    fn scalar_end(&self, node: &Node, start: usize, limit: usize) -> Option<usize> {
        let scalar = node.as_scalar()?;
        let rest = self.text.get(start..limit)?;
        match scalar.style {
            Style::SingleQuoted | Style::DoubleQuoted => self.quoted_end(start).filter(|end| *end <= limit),
            Style::Literal | Style::Folded => self.block_scalar_end(start, limit),
            // A missing item stands at its dash.
            Style::Plain if scalar.text.is_empty() => Some(start + usize::from(rest.starts_with('-'))),
            Style::Plain if rest.starts_with(scalar.text.as_str()) => Some(start + scalar.text.len()),
            Style::Plain => Some(start + folded_plain_len(rest)),
        }
    }

    fn quoted_end(&self, start: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let quote = *bytes.get(start).filter(|byte| matches!(byte, b'"' | b'\''))?;
        let mut at = start + 1;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\\' if quote == b'"' => at += 1,
                b'\'' if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => at += 1,
                byte if byte == quote => return Some(at + 1),
                _ => {}
            }
            at += 1;
        }
        None
    }

    fn block_scalar_end(&self, start: usize, limit: usize) -> Option<usize> {
        let header_end = self.line_end(start);
        let header = &self.text[start..header_end];
        let keeps_breaks = header.split([' ', '#']).next().is_some_and(|marks| marks.contains('+'));
        let mut end = header_end;
        let mut content_indent = None;
        let mut line = self.next_line(start);
        while line < limit {
            let line_end = self.line_end(line);
            let text = &self.text[line..line_end];
            let indent = text.len() - text.trim_start_matches(' ').len();
            if text.trim().is_empty() {
                if keeps_breaks {
                    end = line_end;
                }
            } else if indent < *content_indent.get_or_insert(indent) {
                break;
            } else {
                end = line_end;
            }
            let next = self.next_line(line);
            if next == line {
                break;
            }
            line = next;
        }
        Some(end)
    }

    fn flow_end(&self, start: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut depth = 0usize;
        let mut at = start;
        while let Some(&byte) = bytes.get(at) {
            let separated =
                at > 0 && matches!(bytes[at - 1], b' ' | b'\t' | b'\n' | b'[' | b'{' | b',' | b':');
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                b'"' | b'\'' if separated => {
                    at = self.quoted_end(at)?;
                    continue;
                }
                b'#' if separated => {
                    at = self.line_end(at);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        None
    }
}

/// The length of a plain scalar over several lines: up to the last line that is neither empty nor a comment.
fn folded_plain_len(text: &str) -> usize {
    let mut length = 0;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let content = line.find(" #").map_or(line, |comment| &line[..comment]).trim_end();
        if content.trim_start().starts_with('#') {
            break;
        }
        if !content.trim_start().is_empty() {
            length = offset + content.len();
        }
        offset += line.len();
    }
    length
}

#[cfg(test)]
mod tests {
    use gantry_yaml::{FileId, parse_documents};

    use super::*;

    /// The text of the value of `k`, the first key, as its end is found.
    #[track_caller]
    fn value_is(text: &str, expected: &str) {
        let source = Source::new(text);
        let node = parse_documents(FileId(0), text).expect("YAML").remove(0);
        let entries = node.as_mapping().expect("a mapping");
        let limit = entries.get(1).map_or(text.len(), |(key, _)| source.offset(key.span).expect("a place"));
        let value = node.get("k").expect("a value");
        let start = source.offset(value.span).expect("a place");
        assert_eq!(&text[start..source.end_of(value, limit).expect("an end")], expected);
    }

    #[test]
    fn scalars_end_where_their_style_says() {
        value_is("k: plain # comment\nl: 1\n", "plain");
        value_is("k: 'it''s' # comment\nl: 1\n", "'it''s'");
        value_is("k: \"a\\\"b\"\nl: 1\n", "\"a\\\"b\"");
        value_is("k: folded\n  on # no\n# comment\nl: 1\n", "folded\n  on");
        value_is("k: |\n  # text\n  b\n\n# comment\nl: 1\n", "|\n  # text\n  b");
        value_is("k: |+\n  a\n\nl: 1\n", "|+\n  a\n");
    }

    #[test]
    fn collections_end_with_their_last_part() {
        value_is("k:\n- a\n- b: |\n    c\n  # comment\nl: 1\n", "- a\n- b: |\n    c");
        value_is("k: {a: [it's, ']'], # }\n  b: c} # comment\nl: 1\n", "{a: [it's, ']'], # }\n  b: c}");
        value_is("k:\n  a:\n  b: # nothing\nl: 1\n", "a:\n  b:");
        value_is("k:\n- a\n-\n# comment\nl: 1\n", "- a\n-");
    }

    #[test]
    fn offsets_count_characters() {
        let text = "\u{feff}k: é\n\"é\": x\n";
        let source = Source::new(text);
        let node = parse_documents(FileId(0), text).expect("YAML").remove(0);
        let value = node.get("é").expect("a value");
        assert_eq!(source.offset(value.span), text.find('x'));
    }
}
