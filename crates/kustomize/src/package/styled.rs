//! A document with the look that its author gave it: comments, quotes, braces.
//!
//! A comment on lines of its own belongs to the entry below it, one behind a value to that value. One on a line inside
//! of brackets or braces goes to the entry after them.

use std::collections::BTreeMap;

use gantry_yaml::{Data, FileId, Node, Scalar, Span, Style, parse_documents};

use crate::edit::source::Source;
use crate::error::{Error, Result};

/// A value with the comments around it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Lines above, with their `#`.
    pub(super) head: Vec<String>,
    /// Behind it on its line.
    pub(super) line: String,
    /// Lines below, at the end of a document.
    pub(super) foot: Vec<String>,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence { items: Vec<Item>, flow: bool },
    Mapping { entries: Vec<(Item, Item)>, flow: bool },
}

// === impl Item ===

impl Item {
    pub(super) fn new(value: Value) -> Item {
        Item { head: Vec::new(), line: String::new(), foot: Vec::new(), value }
    }

    /// A string, plain where it can be.
    pub(super) fn string(text: &str) -> Item {
        let Node { data: Data::Scalar(scalar), .. } = Node::string(text, Span::NONE) else {
            return Item::new(Value::Mapping { entries: Vec::new(), flow: false });
        };
        Item::new(Value::Scalar(scalar))
    }

    /// What the text means when it stands there without quotes.
    pub(super) fn plain(text: &str) -> Item {
        match Node::plain(text, Span::NONE).data {
            Data::Scalar(scalar) => Item::new(Value::Scalar(scalar)),
            _ => Item::mapping(),
        }
    }

    /// A string in single quotes.
    pub(super) fn quoted(text: &str) -> Item {
        let mut item = Item::string(text);
        if let Value::Scalar(scalar) = &mut item.value {
            scalar.style = Style::SingleQuoted;
        }
        item
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.tag == gantry_yaml::Tag::Null)
    }

    pub(super) fn entries(&self) -> &[(Item, Item)] {
        match &self.value {
            Value::Mapping { entries, .. } => entries,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.entries().iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        path.iter().try_fold(self, |item, key| item.get(key))?.text()
    }

    /// The value of a key of a mapping; made where it is missing.
    pub(super) fn entry(&mut self, key: &str, make: impl FnOnce() -> Item) -> Option<&mut Item> {
        let Value::Mapping { entries, .. } = &mut self.value else { return None };
        let index = match entries.iter().position(|(name, _)| name.text() == Some(key)) {
            Some(index) => index,
            None => {
                entries.push((Item::string(key), make()));
                entries.len() - 1
            }
        };
        entries.get_mut(index).map(|(_, value)| value)
    }

    pub(super) fn entry_if_there(&mut self, key: &str) -> Option<&mut Item> {
        let Value::Mapping { entries, .. } = &mut self.value else { return None };
        entries.iter_mut().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Value::Mapping { entries, .. } = &mut self.value {
            entries.retain(|(name, _)| name.text() != Some(key));
        }
    }

    pub(super) fn mapping() -> Item {
        Item::new(Value::Mapping { entries: Vec::new(), flow: false })
    }

    /// What stands above the first entry stands above the whole, where that is to be an item of a list.
    pub(super) fn lift_head(&mut self) {
        if let Value::Mapping { entries, .. } = &mut self.value
            && let Some((key, _)) = entries.first_mut()
        {
            self.head.append(&mut key.head);
        }
    }

    /// And back, where it is no item any more.
    pub(super) fn lower_head(&mut self) {
        if let Value::Mapping { entries, .. } = &mut self.value
            && let Some((key, _)) = entries.first_mut()
        {
            let below = std::mem::take(&mut key.head);
            key.head = std::mem::take(&mut self.head);
            key.head.extend(below);
        }
    }

    pub(super) fn strip_comments(&mut self) {
        self.head.clear();
        self.line.clear();
        self.foot.clear();
        match &mut self.value {
            Value::Scalar(_) => {}
            Value::Sequence { items, .. } => items.iter_mut().for_each(Item::strip_comments),
            Value::Mapping { entries, .. } => entries.iter_mut().for_each(|(key, value)| {
                key.strip_comments();
                value.strip_comments();
            }),
        }
    }
}

/// The documents of a text, without empty ones. Places in errors are those of `file`.
pub(super) fn documents(file: FileId, text: &str) -> Result<Vec<Item>> {
    let nodes = parse_documents(file, text).map_err(|error| Error::at(error.message(), error.span()))?;
    let source = Source::new(text);
    let mut comments = Comments::of(&source, &nodes);
    let mut items = Vec::with_capacity(nodes.len());
    for node in nodes.iter().filter(|node| !node.is_null()) {
        let mut item = comments.styled(&source, node, false);
        item.foot = comments.before(comments.end_of_document());
        items.push(item);
    }
    Ok(items)
}

/// The comments of a text by line, each until it is taken.
struct Comments {
    own: BTreeMap<usize, String>,
    trailing: BTreeMap<usize, String>,
    /// Lines that begin a document.
    separators: Vec<usize>,
    /// The last line on which something was read.
    reached: usize,
}

impl Comments {
    fn of(source: &Source<'_>, nodes: &[Node]) -> Comments {
        let mut starts: Vec<(usize, &Node)> = Vec::new();
        nodes.iter().for_each(|node| scalars(source, node, &mut starts));
        starts.sort_by_key(|(start, _)| *start);
        let mut scalars = Vec::with_capacity(starts.len());
        for (index, (start, node)) in starts.iter().enumerate() {
            let limit = starts[index..].iter().map(|(next, _)| *next).find(|next| next > start);
            let limit = limit.unwrap_or(source.text.len());
            let end = source.end_of(node, limit).unwrap_or_else(|| source.line_end(*start));
            scalars.push((*start, end));
        }
        let mut comments =
            Comments { own: BTreeMap::new(), trailing: BTreeMap::new(), separators: Vec::new(), reached: 0 };
        let mut inside = scalars.iter().peekable();
        let mut offset = 0;
        for (index, line) in source.text.split_inclusive('\n').enumerate() {
            let number = index + 1;
            let begin = offset;
            offset += line.len();
            let content = line.trim_end();
            let mut found = None;
            for (at, _) in content.match_indices('#') {
                let place = begin + at;
                while inside.next_if(|(_, end)| *end <= place).is_some() {}
                let is_text = inside.peek().is_some_and(|(start, _)| *start <= place);
                let stands_apart = at == 0 || content[..at].ends_with([' ', '\t']);
                if !is_text && stands_apart {
                    found = Some(at);
                    break;
                }
            }
            while inside.next_if(|(_, end)| *end < begin).is_some() {}
            let is_text = inside.peek().is_some_and(|(start, end)| *start < begin && *end > begin);
            if !is_text && (content == "---" || content.starts_with("--- ")) {
                comments.separators.push(number);
            }
            if let Some(at) = found {
                let text = content[at..].to_owned();
                let is_own = content[..at].trim().is_empty();
                let kind = if is_own { &mut comments.own } else { &mut comments.trailing };
                kind.insert(number, text);
            }
        }
        comments
    }

    fn end_of_document(&self) -> usize {
        self.separators.iter().copied().find(|line| *line > self.reached).unwrap_or(usize::MAX)
    }

    /// Takes what stands on lines of its own above `line`.
    fn before(&mut self, line: usize) -> Vec<String> {
        let later = self.own.split_off(&line);
        std::mem::replace(&mut self.own, later).into_values().collect()
    }

    fn styled(&mut self, source: &Source<'_>, node: &Node, in_flow: bool) -> Item {
        self.reached = self.reached.max(node.span.line());
        let flow = in_flow || source.is_flow(node);
        match &node.data {
            Data::Scalar(scalar) => {
                let mut item = Item::new(Value::Scalar(scalar.clone()));
                if !in_flow {
                    item.line = self.trailing.remove(&node.span.line()).unwrap_or_default();
                }
                item
            }
            Data::Sequence(items) => {
                let mut styled = Vec::with_capacity(items.len());
                for node in items {
                    let head = if flow { Vec::new() } else { self.before(node.span.line()) };
                    let mut item = self.styled(source, node, flow);
                    item.head = head;
                    styled.push(item);
                }
                self.collection(node, Value::Sequence { items: styled, flow }, in_flow)
            }
            Data::Mapping(entries) => {
                let mut styled = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let head = if flow { Vec::new() } else { self.before(key.span.line()) };
                    let line = key.span.line();
                    let is_nested = value.as_scalar().is_none() && !source.is_flow(value) && !flow;
                    let behind = if is_nested { self.trailing.remove(&line) } else { None };
                    let mut name = self.styled(source, key, true);
                    name.head = head;
                    name.line = behind.unwrap_or_default();
                    let value = self.styled(source, value, flow);
                    styled.push((name, value));
                }
                self.collection(node, Value::Mapping { entries: styled, flow }, in_flow)
            }
        }
    }

    fn collection(&mut self, node: &Node, value: Value, in_flow: bool) -> Item {
        let is_outermost = !in_flow
            && matches!(value, Value::Sequence { flow: true, .. } | Value::Mapping { flow: true, .. });
        let mut item = Item::new(value);
        if is_outermost {
            item.line = self.trailing.remove(&node.span.line()).unwrap_or_default();
        }
        item
    }
}

/// Where scalars begin.
fn scalars<'n>(source: &Source<'_>, node: &'n Node, starts: &mut Vec<(usize, &'n Node)>) {
    match &node.data {
        Data::Scalar(_) => starts.extend(source.offset(node.span).map(|start| (start, node))),
        Data::Sequence(items) => items.iter().for_each(|item| scalars(source, item, starts)),
        Data::Mapping(entries) => entries.iter().for_each(|(key, value)| {
            scalars(source, key, starts);
            scalars(source, value, starts);
        }),
    }
}
