//! The difference of two trees, written into the text that the first was read from.
//!
//! Invariant: the result reads as the new tree, or there is none; lines that no difference touches keep every byte. New
//! and changed entries get the form that upstream writes. A node of the new tree that was read from the text keeps its
//! place, and by that it is recognised; nodes without a place are new.

use std::collections::HashMap;

use gantry_yaml::{Data, FileId, Node, Span};

use super::source::Source;

/// The text for `new`, where `text` was read as `old`. `None` when the text is written in a way that cannot be changed
/// in place: behind an alias, or with comments inside of what would have to be written anew.
pub(super) fn rewrite(text: &str, file: FileId, old: &Node, new: &Node) -> Option<String> {
    if old == new {
        return Some(text.to_owned());
    }
    let is_crlf = text.find('\n').is_some_and(|at| text[..at].ends_with('\r'));
    let newline = if is_crlf { "\r\n" } else { "\n" };
    let needs_end = !text.is_empty() && !text.ends_with('\n');
    let whole = if needs_end { format!("{text}{newline}") } else { text.to_owned() };
    let source = Source::new(&whole);
    let commented = CommentedItems::of(&source, old);
    let mut rewriter = Rewriter { source: &source, newline, edits: Vec::new(), commented };
    let (was, is) = (old.as_mapping()?, new.as_mapping()?);
    rewriter.top_level(was, is)?;
    let last_line_touched = rewriter.edits.iter().any(|edit| edit.end == whole.len());
    let mut result = apply(&whole, rewriter.edits)?;
    if needs_end && !last_line_touched {
        result.truncate(result.len() - newline.len());
    }
    reads_as(&result, file, new).then_some(result)
}

fn reads_as(text: &str, file: FileId, wanted: &Node) -> bool {
    match gantry_yaml::parse_documents(file, text) {
        Ok(documents) => match documents.as_slice() {
            [] => wanted.as_mapping().is_some_and(<[_]>::is_empty),
            [only] if only.is_null() => wanted.as_mapping().is_some_and(<[_]>::is_empty),
            [only] => only == wanted,
            _ => false,
        },
        Err(_) => false,
    }
}

/// Replaces the bytes from `start` to `end`.
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

fn apply(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|edit| (edit.start, edit.end));
    let mut result = String::with_capacity(text.len() + 256);
    let mut done = 0;
    for edit in &edits {
        result.push_str(text.get(done..edit.start)?);
        result.push_str(&edit.text);
        done = edit.end;
    }
    result.push_str(text.get(done..)?);
    Some(result)
}

/// List items with comments, by place: when one moves to another list its lines go with it.
struct CommentedItems {
    lines: HashMap<Span, (Node, Vec<String>)>,
}

impl CommentedItems {
    fn of(source: &Source<'_>, root: &Node) -> CommentedItems {
        let mut lines = HashMap::new();
        let entries = root.as_mapping().unwrap_or_default();
        for (index, (_, value)) in entries.iter().enumerate() {
            let limit = entries.get(index + 1).and_then(|(key, _)| source.offset(key.span));
            let limit = limit.unwrap_or(source.text.len());
            let Some(items) = value.as_sequence().filter(|items| !items.is_empty() && !source.is_flow(value))
            else {
                continue;
            };
            let Some(list) = List::of(source, value, items, limit) else { continue };
            for (at, item) in items.iter().enumerate() {
                let start = list.with_comments_above(source, at);
                let end = source.line_end(list.ends[at]);
                if !source.may_have_comment(start, end) {
                    continue;
                }
                let dedented = source.text[start..end].lines().map(|line| {
                    let indent = line.len() - line.trim_start_matches(' ').len();
                    line[indent.min(list.column)..].trim_end_matches('\r').to_owned()
                });
                lines.insert(item.span, (item.clone(), dedented.collect()));
            }
        }
        CommentedItems { lines }
    }

    fn lines_of(&self, item: &Node) -> Option<&[String]> {
        let (known, lines) = self.lines.get(&item.span)?;
        (known == item).then_some(lines.as_slice())
    }

    /// The lines of an item that has become the only value of a new one, as a file name becomes a patch by path.
    fn lines_under_key(&self, item: &Node) -> Option<Vec<String>> {
        let [(key, value)] = item.as_mapping()? else { return None };
        let (own, above) = self.lines_of(value)?.split_last()?;
        if !above.iter().all(|line| line.trim_start().starts_with('#')) {
            return None;
        }
        let written = own.strip_prefix("- ")?;
        let mut lines = above.to_vec();
        lines.push(format!("- {} {written}", lines_of_key(key)?));
        Some(lines)
    }
}

/// Where the items of a block list lie.
struct List {
    column: usize,
    dashes: Vec<usize>,
    ends: Vec<usize>,
    first_begins_its_line: bool,
}

impl List {
    fn of(source: &Source<'_>, list: &Node, items: &[Node], limit: usize) -> Option<List> {
        let first = source.offset(list.span)?;
        source.text[first..].starts_with('-').then_some(())?;
        let column = source.column(first);
        let mut dashes = vec![first];
        for item in &items[1..] {
            let content = source.offset(item.span).filter(|at| *at > first && *at < limit)?;
            let mut line = source.line_start(content);
            // The dash is on the item's line, or on an earlier one.
            let dash = loop {
                let at = line + column;
                if source.text.get(at..).is_some_and(|rest| rest.starts_with('-'))
                    && source.begins_its_line(at)
                {
                    break at;
                }
                line = source.line_start(line.checked_sub(1)?);
            };
            if dash <= *dashes.last()? {
                return None;
            }
            dashes.push(dash);
        }
        let mut ends = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let limit = dashes.get(index + 1).map_or(limit, |dash| source.line_start(*dash));
            ends.push(source.end_of(item, limit)?);
        }
        let first_begins_its_line = source.begins_its_line(first);
        Some(List { column, dashes, ends, first_begins_its_line })
    }

    /// The beginning of the comment lines directly above an item, or of the item's own line.
    fn with_comments_above(&self, source: &Source<'_>, index: usize) -> usize {
        // Above the first item the field's own line ends the search.
        let lowest = index.checked_sub(1).map_or(0, |before| source.next_line(self.ends[before]));
        let mut start = source.line_start(self.dashes[index]);
        while start > lowest {
            let above = source.line_start(start - 1);
            if above < lowest || !source.text[above..start].trim_start().starts_with('#') {
                break;
            }
            start = above;
        }
        start
    }
}

struct Rewriter<'a> {
    source: &'a Source<'a>,
    newline: &'static str,
    edits: Vec<Edit>,
    commented: CommentedItems,
}

/// What became of the parts of a collection.
struct Pairing<'n, T> {
    /// By old index: the new part, if there is one.
    kept: Vec<Option<&'n T>>,
    /// New parts, each after the old part of that index.
    fresh: Vec<(Option<usize>, &'n T)>,
}

fn pair<'n, T>(old: &[T], new: &'n [T], span: impl Fn(&T) -> Span) -> Option<Pairing<'n, T>> {
    let mut places = HashMap::with_capacity(old.len());
    for (index, part) in old.iter().enumerate() {
        if places.insert(span(part), index).is_some() {
            // Two parts behind one anchor.
            return None;
        }
    }
    let mut pairing = Pairing { kept: old.iter().map(|_| None).collect(), fresh: Vec::new() };
    let mut previous = None;
    for part in new {
        match places.get(&span(part)) {
            Some(&index) if !span(part).is_none() => {
                if previous.is_some_and(|before| index <= before) {
                    return None;
                }
                pairing.kept[index] = Some(part);
                previous = Some(index);
            }
            _ => pairing.fresh.push((previous, part)),
        }
    }
    Some(pairing)
}

type Entry = (Node, Node);

impl Rewriter<'_> {
    fn replace(&mut self, start: usize, end: usize, text: impl Into<String>) {
        self.edits.push(Edit { start, end, text: text.into() });
    }

    fn joined(&self, lines: &[String], column: usize) -> String {
        let mut text = String::new();
        for line in lines {
            if !line.is_empty() {
                text.extend(std::iter::repeat_n(' ', column));
            }
            text.push_str(line);
            text.push_str(self.newline);
        }
        text
    }

    /// New fields go to the end of the file, where upstream puts them.
    fn top_level(&mut self, old: &[Entry], new: &[Entry]) -> Option<()> {
        let column = match old.first() {
            Some((key, _)) => self.source.column(self.source.offset(key.span)?),
            None => 0,
        };
        let first_new = new.iter().position(|(key, _)| key.span.is_none()).unwrap_or(new.len());
        let (kept, fresh) = new.split_at(first_new);
        if !old.is_empty() {
            self.mapping(old, kept, self.source.text.len())?;
        }
        let end = self.document_end(old)?;
        let mut text = String::new();
        for (key, value) in fresh {
            text.push_str(&self.joined(&self.entry_lines(key, value)?, column));
        }
        if !text.is_empty() {
            self.replace(end, end, text);
        }
        Some(())
    }

    /// The end of the text, or the line that ends the document.
    fn document_end(&self, entries: &[Entry]) -> Option<usize> {
        let text = self.source.text;
        let mut line = match entries.last() {
            Some((key, _)) => self.source.offset(key.span)?,
            None => 0,
        };
        while line < text.len() {
            if text[line..].starts_with("...") && line == self.source.line_start(line) {
                return Some(line);
            }
            line = self.source.next_line(line);
        }
        Some(text.len())
    }

    fn mapping(&mut self, old: &[Entry], new: &[Entry], limit: usize) -> Option<()> {
        let source = self.source;
        let pairing = pair(old, new, |(key, _)| key.span)?;
        let mut starts = Vec::with_capacity(old.len());
        for (key, _) in old {
            let start = source.offset(key.span).filter(|start| *start < limit)?;
            if starts.last().is_some_and(|before| start <= *before) {
                return None;
            }
            starts.push(start);
        }
        let column = source.column(*starts.first()?);
        let is_whole_document = limit == source.text.len() && source.begins_its_line(starts[0]);
        if !is_whole_document && pairing.kept.iter().all(Option::is_none) {
            return None;
        }
        let mut ends = Vec::with_capacity(old.len());
        for (index, (key, value)) in old.iter().enumerate() {
            let limit = starts.get(index + 1).map_or(limit, |next| source.line_start(*next));
            ends.push(source.end_of_value(value, source.after_colon(key)?, limit)?);
        }
        let mut skip_before = 0;
        for (index, entry) in old.iter().enumerate() {
            if index < skip_before {
                continue;
            }
            match pairing.kept[index] {
                Some(kept) => {
                    let limit = starts.get(index + 1).map_or(limit, |next| source.line_start(*next));
                    self.value(entry, kept, column, ends[index], limit)?;
                }
                None if source.begins_its_line(starts[index]) => {
                    self.replace(source.line_start(starts[index]), source.next_line(ends[index]), "");
                }
                // Behind a dash: the next entry moves up.
                None => {
                    let next = (index..old.len()).find(|at| pairing.kept[*at].is_some())?;
                    self.replace(starts[index], starts[next], "");
                    skip_before = next;
                }
            }
        }
        for (previous, (key, value)) in pairing.fresh {
            let lines = self.entry_lines(key, value)?;
            match previous {
                Some(before) => {
                    let at = source.next_line(ends[before]);
                    self.replace(at, at, self.joined(&lines, column));
                }
                None => {
                    let first = pairing.kept.iter().position(Option::is_some)?;
                    let text = self.joined(&lines, column);
                    let text = text.get(column..)?.to_owned() + &" ".repeat(column);
                    self.replace(starts[first], starts[first], text);
                }
            }
        }
        Some(())
    }

    /// Writes the changed value of one entry; `end` is the end of the old one.
    fn value(&mut self, old: &Entry, new: &Entry, column: usize, end: usize, limit: usize) -> Option<()> {
        if old == new {
            return Some(());
        }
        let (key, was) = old;
        let (_, is) = new;
        let noted = self.edits.len();
        if self.parts(was, is, limit).is_some() {
            return Some(());
        }
        self.edits.truncate(noted);
        let source = self.source;
        let start = source.after_colon(key)?;
        if was.as_scalar().is_none() && source.may_have_comment(start, end) {
            return None;
        }
        let lines = self.entry_lines(key, is)?;
        let key_len = key_len(key)?;
        let (first, others) = lines.split_first()?;
        let first = first.get(key_len..)?;
        if others.is_empty() {
            self.replace(start, end, first);
        } else {
            // A comment at the end of the line stays on it.
            let rest_end = source.line_end(end);
            let rest = &source.text[end..rest_end];
            let text = format!("{first}{rest}{}{}", self.newline, self.joined(others, column));
            self.replace(start, source.next_line(end), text);
        }
        Some(())
    }

    /// Changes only the parts of a collection that differ.
    fn parts(&mut self, old: &Node, new: &Node, limit: usize) -> Option<()> {
        let is_flow = self.source.is_flow(old);
        match (&old.data, &new.data) {
            (Data::Mapping(was), Data::Mapping(is)) if !is_flow && !was.is_empty() && !is.is_empty() => {
                self.mapping(was, is, limit)
            }
            (Data::Sequence(was), Data::Sequence(is)) if !was.is_empty() && !is.is_empty() => {
                if is_flow {
                    self.flow_list(was, is, limit)
                } else {
                    self.list(old, was, is, limit)
                }
            }
            _ => None,
        }
    }

    fn list(&mut self, list: &Node, old: &[Node], new: &[Node], limit: usize) -> Option<()> {
        let source = self.source;
        let pairing = pair(old, new, |item| item.span)?;
        let places = List::of(source, list, old, limit)?;
        for (index, item) in old.iter().enumerate() {
            let (dash, end) = (places.dashes[index], places.ends[index]);
            match pairing.kept[index] {
                None if index > 0 || places.first_begins_its_line => {
                    self.replace(source.line_start(dash), source.next_line(end), "");
                }
                None => return None,
                Some(kept) if kept == item => {}
                Some(kept) => {
                    let limit = places.dashes.get(index + 1).map_or(limit, |next| source.line_start(*next));
                    self.item(item, kept, &places, index, limit)?;
                }
            }
        }
        for (previous, item) in pairing.fresh {
            let lines = self.item_lines(item)?;
            let at = match previous {
                Some(before) => source.next_line(places.ends[before]),
                None if places.first_begins_its_line => source.line_start(places.dashes[0]),
                None => return None,
            };
            self.replace(at, at, self.joined(&lines, places.column));
        }
        Some(())
    }

    /// An item without comments is written anew as upstream would; one with comments is changed line by line, if it
    /// can be.
    fn item(&mut self, old: &Node, new: &Node, places: &List, index: usize, limit: usize) -> Option<()> {
        let source = self.source;
        let (dash, end) = (places.dashes[index], places.ends[index]);
        let line_end = source.line_end(end);
        let has_inner_comment = source.may_have_comment(dash, end);
        if has_inner_comment || source.may_have_comment(end, line_end) {
            if old.as_scalar().is_some() {
                let lines = self.item_lines(new)?;
                let [only] = lines.as_slice() else { return None };
                self.replace(source.offset(old.span)?, end, only.strip_prefix("- ")?);
                return Some(());
            }
            let noted = self.edits.len();
            if self.parts(old, new, limit).is_some() {
                return Some(());
            }
            self.edits.truncate(noted);
            if has_inner_comment {
                return None;
            }
        }
        let lines = self.item_lines(new)?;
        let (first, others) = lines.split_first()?;
        // A comment at the end of the line stays on it.
        let mut text = format!("{first}{}{}", &source.text[end..line_end], self.newline);
        text.push_str(&self.joined(others, places.column));
        let text = text.strip_suffix(self.newline)?.to_owned();
        self.replace(dash, line_end, text);
        Some(())
    }

    /// A list in brackets whose items are scalars: items go, or come at the end.
    fn flow_list(&mut self, old: &[Node], new: &[Node], limit: usize) -> Option<()> {
        let source = self.source;
        let pairing = pair(old, new, |item| item.span)?;
        let mut starts = Vec::with_capacity(old.len());
        let mut ends = Vec::with_capacity(old.len());
        for item in old {
            item.as_scalar()?;
            starts.push(source.offset(item.span)?);
            ends.push(source.end_of(item, limit)?);
        }
        let last = pairing.kept.iter().rposition(Option::is_some)?;
        for (index, item) in old[..last].iter().enumerate() {
            match pairing.kept[index] {
                None => self.replace(starts[index], starts[index + 1], ""),
                Some(kept) if kept == item => {}
                Some(_) => return None,
            }
        }
        if pairing.kept[last] != old.get(last) {
            return None;
        }
        let mut text = String::new();
        for (previous, item) in pairing.fresh {
            if previous != Some(last) {
                return None;
            }
            let lines = self.item_lines(item)?;
            let [only] = lines.as_slice() else { return None };
            let written = only.strip_prefix("- ")?;
            let is_plain = !written.starts_with(['"', '\'']);
            if item.as_scalar().is_none() || (is_plain && written.contains([',', '[', ']', '{', '}'])) {
                return None;
            }
            text.push_str(", ");
            text.push_str(written);
        }
        self.replace(ends[last], *ends.last()?, text);
        Some(())
    }

    /// An entry as upstream writes it. Items that were read with comments keep their lines.
    fn entry_lines(&self, key: &Node, value: &Node) -> Option<Vec<String>> {
        let items = value.as_sequence().filter(|items| !items.is_empty());
        let Some(items) = items else {
            return Some(lines_of(&Node::new(Data::Mapping(vec![(key.clone(), value.clone())]), Span::NONE)));
        };
        let mut lines = vec![lines_of_key(key)?];
        for item in items {
            lines.extend(self.item_lines(item)?);
        }
        Some(lines)
    }

    fn item_lines(&self, item: &Node) -> Option<Vec<String>> {
        if let Some(lines) = self.commented.lines_of(item) {
            return Some(lines.to_vec());
        }
        if let Some(lines) = self.commented.lines_under_key(item) {
            return Some(lines);
        }
        Some(lines_of(&Node::new(Data::Sequence(vec![item.clone()]), Span::NONE)))
    }
}

fn lines_of(node: &Node) -> Vec<String> {
    gantry_yaml::emit(node).split_terminator('\n').map(str::to_owned).collect()
}

/// `key:`, quoted where it has to be.
fn lines_of_key(key: &Node) -> Option<String> {
    let entry = vec![(key.clone(), Node::null(Span::NONE))];
    let lines = lines_of(&Node::new(Data::Mapping(entry), Span::NONE));
    let [only] = lines.as_slice() else { return None };
    only.strip_suffix(" null").map(str::to_owned)
}

fn key_len(key: &Node) -> Option<usize> {
    lines_of_key(key).map(|text| text.len())
}

#[cfg(test)]
mod tests {
    use gantry_yaml::parse_documents;

    use super::*;

    fn new(text: &str) -> Node {
        fn forget(node: &mut Node) {
            node.span = Span::NONE;
            match &mut node.data {
                Data::Scalar(_) => {}
                Data::Sequence(items) => items.iter_mut().for_each(forget),
                Data::Mapping(entries) => entries.iter_mut().for_each(|(key, value)| {
                    forget(key);
                    forget(value);
                }),
            }
        }
        let mut node = parse_documents(FileId(0), text).expect("YAML").remove(0);
        forget(&mut node);
        node
    }

    /// The text after `change`.
    #[track_caller]
    fn changed(text: &str, change: impl FnOnce(&mut Node)) -> Option<String> {
        let old = parse_documents(FileId(0), text).expect("YAML");
        let old = old.into_iter().next().unwrap_or_else(|| Node::mapping(Span::NONE));
        let mut tree = old.clone();
        change(&mut tree);
        rewrite(text, FileId(0), &old, &tree)
    }

    fn list<'n>(node: &'n mut Node, key: &str) -> &'n mut Vec<Node> {
        node.get_mut(key).and_then(Node::as_sequence_mut).expect("a list")
    }

    #[test]
    fn an_item_is_added_where_the_list_is_indented() {
        let text = "# head\nr:\n  # one\n  - a # A\n  # two\n  - b\n\n# next\ns: 1";
        let result = changed(text, |node| list(node, "r").push(new("c: 1\nd: [x]\n")));
        let expected =
            "# head\nr:\n  # one\n  - a # A\n  # two\n  - b\n  - c: 1\n    d:\n    - x\n\n# next\ns: 1";
        assert_eq!(result.as_deref(), Some(expected));
    }

    #[test]
    fn an_item_goes_with_its_lines_only() {
        let text = "r:\n# one\n- a # A\n# two\n- |\n  b\n\n  c\n# three\n- d\n";
        let result = changed(text, |node| {
            list(node, "r").remove(1);
        });
        assert_eq!(result.as_deref(), Some("r:\n# one\n- a # A\n# two\n# three\n- d\n"));
    }

    #[test]
    fn lists_in_brackets_stay_in_brackets() {
        let text = "r: [a, 'b',  c ] # why\n";
        let grown = changed(text, |node| list(node, "r").push(Node::string("d", Span::NONE)));
        assert_eq!(grown.as_deref(), Some("r: [a, 'b',  c, d ] # why\n"));
        let shrunk = changed(text, |node| {
            list(node, "r").remove(1);
            list(node, "r").remove(1);
        });
        assert_eq!(shrunk.as_deref(), Some("r: [a ] # why\n"));
        let first = changed("r: []  # none yet\nz: 1\n", |node| {
            list(node, "r").push(Node::string("a", Span::NONE));
        });
        assert_eq!(first.as_deref(), Some("r:  # none yet\n- a\nz: 1\n"));
    }

    #[test]
    fn an_item_without_comments_takes_upstreams_form() {
        let text = "i:\n  - name: 'a'\n    tag: \"1\"\n  - x: 1\n";
        let result = changed(text, |node| list(node, "i")[0].set("tag", Node::string("2", Span::NONE)));
        assert_eq!(result.as_deref(), Some("i:\n  - name: a\n    tag: \"2\"\n  - x: 1\n"));
        let text = "i:\n- {name: a, tag: '1'} # in braces\n";
        let result = changed(text, |node| list(node, "i")[0].set("tag", Node::string("2", Span::NONE)));
        assert_eq!(result.as_deref(), Some("i:\n- name: a # in braces\n  tag: \"2\"\n"));
    }

    #[test]
    fn an_item_with_comments_is_changed_line_by_line() {
        let text = "i:\n- name: a # A\n  # why\n  tag: '1' # old\n  z: 1\n";
        let result = changed(text, |node| {
            let item = &mut list(node, "i")[0];
            item.set("tag", Node::string("2", Span::NONE));
            item.remove("z");
            let entries = item.as_mapping_mut().expect("a mapping");
            entries.insert(0, (Node::string("digest", Span::NONE), Node::string("d", Span::NONE)));
        });
        assert_eq!(result.as_deref(), Some("i:\n- digest: d\n  name: a # A\n  # why\n  tag: \"2\" # old\n"));
    }

    #[test]
    fn an_entry_behind_a_dash_lets_the_next_one_move_up() {
        let text = "i:\n- a: 1 # one\n  b: 2\n  # three\n  c: 3\n";
        let result = changed(text, |node| {
            list(node, "i")[0].remove("a");
            list(node, "i")[0].remove("b");
        });
        assert_eq!(result.as_deref(), Some("i:\n- c: 3\n"));
    }

    #[test]
    fn fields_come_at_the_end_and_go_alone() {
        let text = "# head\na: 1\n\n# about b\nb:\n- x\n\n# tail";
        let result = changed(text, |node| {
            node.remove("b");
            node.set("c", new("- w\n"));
        });
        assert_eq!(result.as_deref(), Some("# head\na: 1\n\n# about b\n\n# tail\nc:\n- w\n"));
        let result = changed("a: 1\n...\n", |node| node.set("c", new("2")));
        assert_eq!(result.as_deref(), Some("a: 1\nc: 2\n...\n"));
        let result = changed("# nothing\n", |node| node.set("c", new("2")));
        assert_eq!(result.as_deref(), Some("# nothing\nc: 2\n"));
        let result = changed("a: 1\r\n", |node| node.set("c", new("[x]")));
        assert_eq!(result.as_deref(), Some("a: 1\r\nc:\r\n- x\r\n"));
    }

    #[test]
    fn a_moved_item_takes_its_comments_along() {
        let text = "a:\n  # first\n  - x: 1 # one\n  - w: 1\nb:\n- z\n";
        let result = changed(text, |node| {
            let Some(Node { data: Data::Sequence(items), .. }) = node.remove("a") else { return };
            list(node, "b").extend(items);
        });
        assert_eq!(result.as_deref(), Some("b:\n- z\n# first\n- x: 1 # one\n- w: 1\n"));
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_left_alone() {
        let text = "a: &list\n- x\nb: *list\n";
        assert_eq!(changed(text, |node| list(node, "b").push(Node::string("y", Span::NONE))), None);
        let text = "a: {b: 1, # why\n  c: 2}\n";
        assert_eq!(
            changed(text, |node| node.get_mut("a").expect("a").set("c", Node::plain("3", Span::NONE))),
            None
        );
    }
}
