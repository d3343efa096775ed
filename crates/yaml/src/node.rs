//! A document as it was written: scalars keep their text, every node keeps its place.

use smol_str::SmolStr;

use crate::resolve::{self, Resolved};
use crate::span::Span;

#[derive(Clone, Debug)]
pub struct Node {
    pub data: Data,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum Data {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

/// A scalar with its text after unquoting and unfolding. The tag says how the text is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    pub text: SmolStr,
    pub tag: Tag,
    pub style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Null,
    Bool,
    Int,
    Float,
    Str,
    Timestamp,
    Binary,
    /// A plain `<<`.
    Merge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Literal,
    Folded,
}

impl Node {
    pub fn new(data: Data, span: Span) -> Node {
        Node { data, span }
    }

    pub fn null(span: Span) -> Node {
        Node::new(
            Data::Scalar(Scalar { text: SmolStr::default(), tag: Tag::Null, style: Style::Plain }),
            span,
        )
    }

    /// A string whatever its text looks like.
    pub fn string(text: impl Into<SmolStr>, span: Span) -> Node {
        Node::new(Data::Scalar(Scalar { text: text.into(), tag: Tag::Str, style: Style::Plain }), span)
    }

    /// What the text means when it stands there without quotes.
    pub fn plain(text: impl Into<SmolStr>, span: Span) -> Node {
        let text = text.into();
        let tag = resolve::tag_of_plain(&text);
        Node::new(Data::Scalar(Scalar { text, tag, style: Style::Plain }), span)
    }

    pub fn mapping(span: Span) -> Node {
        Node::new(Data::Mapping(Vec::new()), span)
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar(Scalar { tag: Tag::Null, .. }))
    }

    pub fn as_scalar(&self) -> Option<&Scalar> {
        match &self.data {
            Data::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of any scalar, whatever its tag.
    pub fn text(&self) -> Option<&str> {
        self.as_scalar().map(|scalar| scalar.text.as_str())
    }

    /// The text of a string scalar.
    pub fn as_str(&self) -> Option<&str> {
        self.as_scalar().filter(|scalar| scalar.tag == Tag::Str).map(|scalar| scalar.text.as_str())
    }

    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.data {
            Data::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_sequence_mut(&mut self) -> Option<&mut Vec<Node>> {
        match &mut self.data {
            Data::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_mapping(&self) -> Option<&[(Node, Node)]> {
        match &self.data {
            Data::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn as_mapping_mut(&mut self) -> Option<&mut Vec<(Node, Node)>> {
        match &mut self.data {
            Data::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_mapping()?.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, v)| v)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.as_mapping_mut()?.iter_mut().find(|(k, _)| k.text() == Some(key)).map(|(_, v)| v)
    }

    /// Follows keys through nested mappings.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.text()
    }

    /// Sets a key of a mapping, in place or at the end. Anything but a mapping becomes one.
    pub fn set(&mut self, key: &str, value: Node) {
        if self.as_mapping().is_none() {
            self.data = Data::Mapping(Vec::new());
        }
        if let Some(old) = self.get_mut(key) {
            *old = value;
        } else if let Data::Mapping(entries) = &mut self.data {
            let span = value.span;
            entries.push((Node::string(key, span), value));
        }
    }

    /// Removes a key of a mapping; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let entries = self.as_mapping_mut()?;
        let index = entries.iter().position(|(k, _)| k.text() == Some(key))?;
        Some(entries.remove(index).1)
    }

    /// What the node is called in messages.
    pub fn type_name(&self) -> &'static str {
        match &self.data {
            Data::Sequence(_) => "list",
            Data::Mapping(_) => "mapping",
            Data::Scalar(scalar) => match scalar.tag {
                Tag::Null => "null",
                Tag::Bool => "boolean",
                Tag::Int => "integer",
                Tag::Float => "number",
                Tag::Str | Tag::Binary | Tag::Merge => "string",
                Tag::Timestamp => "timestamp",
            },
        }
    }

    /// How many nodes there are in this tree, this one included.
    pub fn count(&self) -> usize {
        match &self.data {
            Data::Scalar(_) => 1,
            Data::Sequence(items) => 1 + items.iter().map(Node::count).sum::<usize>(),
            Data::Mapping(entries) => {
                1 + entries.iter().map(|(key, value)| key.count() + value.count()).sum::<usize>()
            }
        }
    }
}

impl Scalar {
    /// The value that the text and tag stand for.
    pub fn resolve(&self) -> Resolved {
        resolve::value_of(self.tag, &self.text)
    }
}

/// Same content: same structure, same text and tag; keys in any order. Styles and places do not count.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        match (&self.data, &other.data) {
            (Data::Scalar(a), Data::Scalar(b)) => a.text == b.text && a.tag == b.tag,
            (Data::Sequence(a), Data::Sequence(b)) => a == b,
            (Data::Mapping(a), Data::Mapping(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, value)| b.iter().any(|(k, v)| k == key && v == value))
            }
            _ => false,
        }
    }
}
