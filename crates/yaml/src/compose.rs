//! Tokens to documents: structure, tags, anchors expanded, merge keys applied, duplicate keys found.

use std::collections::{HashMap, HashSet};

use smol_str::SmolStr;

use crate::error::Error;
use crate::node::{Data, Node, Scalar, Style, Tag};
use crate::resolve;
use crate::scan::{Scanner, Token, TokenKind};
use crate::span::{FileId, Span};

/// How many nodes aliases may add to one text. A "billion laughs" document stops here.
const MAX_ALIASED_NODES: usize = 500_000;
/// From this many keys on, duplicates are searched with a set.
const SMALL_MAPPING: usize = 12;
const CORE_PREFIX: &str = "tag:yaml.org,2002:";

/// What a key that comes twice in a mapping means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DuplicateKeys {
    #[default]
    Error,
    LastWins,
}

/// Reads every document of `text`; a text without any gives none. Anchors are expanded and merge keys applied.
pub fn parse_documents(file: FileId, text: &str) -> Result<Vec<Node>, Error> {
    parse_documents_with(file, text, DuplicateKeys::Error)
}

/// [`parse_documents`] with a choice about duplicate keys.
pub fn parse_documents_with(file: FileId, text: &str, duplicates: DuplicateKeys) -> Result<Vec<Node>, Error> {
    let composer = Scanner::new(file, text).map(|scanner| Composer {
        scanner,
        duplicates,
        anchors: HashMap::new(),
        open_anchors: Vec::new(),
        tag_handles: HashMap::new(),
        aliased: 0,
    });
    composer.and_then(Composer::documents).map_err(|error| error.with_excerpt(text))
}

/// An anchored node with its size, so that an alias can be charged without counting again.
struct Anchored {
    node: Node,
    count: usize,
}

struct Composer<'a> {
    scanner: Scanner<'a>,
    duplicates: DuplicateKeys,
    anchors: HashMap<SmolStr, Anchored>,
    open_anchors: Vec<SmolStr>,
    tag_handles: HashMap<SmolStr, SmolStr>,
    aliased: usize,
}

#[derive(Default)]
struct Properties {
    anchor: Option<SmolStr>,
    tag: Option<(SmolStr, Span)>,
    span: Option<Span>,
}

impl Composer<'_> {
    fn documents(mut self) -> Result<Vec<Node>, Error> {
        let mut documents = Vec::new();
        let mut may_be_implicit = true;
        loop {
            while self.scanner.peek()?.kind == TokenKind::DocumentEnd {
                self.scanner.next()?;
                may_be_implicit = true;
            }
            self.anchors.clear();
            self.tag_handles.clear();
            let token = self.scanner.peek()?;
            match &token.kind {
                TokenKind::StreamEnd => return Ok(documents),
                TokenKind::VersionDirective | TokenKind::TagDirective { .. } => {
                    self.directives()?;
                    let token = self.scanner.next()?;
                    if token.kind != TokenKind::DocumentStart {
                        return Err(Error::new(
                            "did not find the expected '---' after directives",
                            token.span,
                        ));
                    }
                    documents.push(self.explicit_document(token.span)?);
                }
                TokenKind::DocumentStart => {
                    let token = self.scanner.next()?;
                    documents.push(self.explicit_document(token.span)?);
                }
                _ if may_be_implicit => documents.push(self.node(true, false)?),
                _ => {
                    return Err(Error::new(
                        "did not find the expected end of the document; check the indentation",
                        token.span,
                    ));
                }
            }
            may_be_implicit = false;
        }
    }

    fn directives(&mut self) -> Result<(), Error> {
        loop {
            match &self.scanner.peek()?.kind {
                TokenKind::VersionDirective => {}
                TokenKind::TagDirective { handle, prefix } => {
                    let (handle, prefix) = (handle.clone(), prefix.clone());
                    self.tag_handles.insert(handle, prefix);
                }
                _ => return Ok(()),
            }
            self.scanner.next()?;
        }
    }

    fn explicit_document(&mut self, span: Span) -> Result<Node, Error> {
        match self.scanner.peek()?.kind {
            TokenKind::VersionDirective
            | TokenKind::TagDirective { .. }
            | TokenKind::DocumentStart
            | TokenKind::DocumentEnd
            | TokenKind::StreamEnd => Ok(Node::null(span)),
            _ => self.node(true, false),
        }
    }

    fn node(&mut self, block: bool, indentless_sequence: bool) -> Result<Node, Error> {
        if let TokenKind::Alias(name) = &self.scanner.peek()?.kind {
            let name = name.clone();
            let span = self.scanner.next()?.span;
            return self.alias(&name, span);
        }
        let Properties { anchor, tag, span } = self.properties()?;
        if let Some(name) = &anchor {
            self.open_anchors.push(name.clone());
        }
        let has_properties = anchor.is_some() || tag.is_some();
        let tag = tag.map(|(tag, tag_span)| (self.full_tag(&tag), tag_span));
        let token = self.scanner.peek()?;
        let start = token.span;
        let node = match &token.kind {
            TokenKind::BlockEntry if indentless_sequence => self.indentless_sequence(start)?,
            TokenKind::Scalar { .. } => {
                let Token { kind, span } = self.scanner.next()?;
                let TokenKind::Scalar { text, style } = kind else { return Err(unexpected(span)) };
                scalar(text, style, tag, span)?
            }
            TokenKind::FlowSequenceStart => self.flow_sequence(start)?,
            TokenKind::FlowMappingStart => self.flow_mapping(start)?,
            TokenKind::BlockSequenceStart if block => self.block_sequence(start)?,
            TokenKind::BlockMappingStart if block => self.block_mapping(start)?,
            _ if has_properties => scalar(SmolStr::default(), Style::Plain, tag, span.unwrap_or(start))?,
            _ => return Err(unexpected(start)),
        };
        if let Some(name) = anchor {
            self.open_anchors.pop();
            let anchored = Anchored { count: node.count(), node: node.clone() };
            self.anchors.insert(name, anchored);
        }
        Ok(node)
    }

    fn properties(&mut self) -> Result<Properties, Error> {
        let mut properties = Properties::default();
        loop {
            let token = self.scanner.peek()?;
            let span = token.span;
            match &token.kind {
                TokenKind::Anchor(name) if properties.anchor.is_none() => {
                    properties.anchor = Some(name.clone())
                }
                TokenKind::Tag { handle, suffix } if properties.tag.is_none() => {
                    // The handle is resolved by the caller; both parts travel as one text.
                    properties.tag = Some((format!("{handle}\0{suffix}").into(), span));
                }
                _ => return Ok(properties),
            }
            properties.span.get_or_insert(span);
            self.scanner.next()?;
        }
    }

    fn full_tag(&self, tag: &str) -> SmolStr {
        let (handle, suffix) = tag.split_once('\0').unwrap_or(("", tag));
        let prefix = match (self.tag_handles.get(handle), handle) {
            (Some(prefix), _) => prefix.as_str(),
            (None, "!!") => CORE_PREFIX,
            (None, other) => other,
        };
        format!("{prefix}{suffix}").into()
    }

    fn alias(&mut self, name: &str, span: Span) -> Result<Node, Error> {
        if self.open_anchors.iter().any(|open| open == name) {
            return Err(Error::new(format!("anchor '{name}' value contains itself"), span));
        }
        let Some(anchored) = self.anchors.get(name) else {
            return Err(Error::new(format!("unknown anchor '{name}' referenced"), span));
        };
        self.aliased = self.aliased.saturating_add(anchored.count);
        if self.aliased > MAX_ALIASED_NODES {
            return Err(Error::new(
                format!("document contains excessive aliasing (over {MAX_ALIASED_NODES} nodes)"),
                span,
            ));
        }
        Ok(anchored.node.clone())
    }

    fn next_is(&mut self, ends: &[TokenKind]) -> Result<bool, Error> {
        let kind = &self.scanner.peek()?.kind;
        Ok(ends.contains(kind))
    }

    fn block_sequence(&mut self, start: Span) -> Result<Node, Error> {
        self.scanner.next()?;
        let mut items = Vec::new();
        loop {
            let Token { kind, span } = self.scanner.next()?;
            match kind {
                TokenKind::BlockEntry => {
                    if self.next_is(&[TokenKind::BlockEntry, TokenKind::BlockEnd])? {
                        items.push(Node::null(span));
                    } else {
                        items.push(self.node(true, false)?);
                    }
                }
                TokenKind::BlockEnd => return Ok(Node::new(Data::Sequence(items), start)),
                _ => return Err(Error::new("did not find the expected '-' indicator of this list", span)),
            }
        }
    }

    fn indentless_sequence(&mut self, start: Span) -> Result<Node, Error> {
        let mut items = Vec::new();
        while self.scanner.peek()?.kind == TokenKind::BlockEntry {
            let span = self.scanner.next()?.span;
            let ends = [TokenKind::BlockEntry, TokenKind::Key, TokenKind::Value, TokenKind::BlockEnd];
            if self.next_is(&ends)? {
                items.push(Node::null(span));
            } else {
                items.push(self.node(true, false)?);
            }
        }
        Ok(Node::new(Data::Sequence(items), start))
    }

    fn block_mapping(&mut self, start: Span) -> Result<Node, Error> {
        const ENDS: [TokenKind; 3] = [TokenKind::Key, TokenKind::Value, TokenKind::BlockEnd];
        self.scanner.next()?;
        let mut entries = Vec::new();
        loop {
            let Token { kind, span } = self.scanner.next()?;
            match kind {
                TokenKind::Key => {
                    let key = if self.next_is(&ENDS)? { Node::null(span) } else { self.node(true, true)? };
                    let value = if self.next_is(&[TokenKind::Value])? {
                        let span = self.scanner.next()?.span;
                        if self.next_is(&ENDS)? { Node::null(span) } else { self.node(true, true)? }
                    } else {
                        Node::null(span)
                    };
                    entries.push((key, value));
                }
                TokenKind::BlockEnd => return self.mapping(entries, start),
                _ => {
                    return Err(Error::new(
                        "did not find the expected key; check the indentation of this line",
                        span,
                    ));
                }
            }
        }
    }

    fn flow_sequence(&mut self, start: Span) -> Result<Node, Error> {
        self.scanner.next()?;
        let mut items = Vec::new();
        loop {
            if !items.is_empty() && !self.next_is(&[TokenKind::FlowSequenceEnd])? {
                let Token { kind, span } = self.scanner.next()?;
                if kind != TokenKind::FlowEntry {
                    return Err(Error::new("did not find the expected ',' or ']' of this list", span));
                }
            }
            match self.scanner.peek()?.kind {
                TokenKind::FlowSequenceEnd => {
                    self.scanner.next()?;
                    return Ok(Node::new(Data::Sequence(items), start));
                }
                TokenKind::Key => {
                    let span = self.scanner.next()?.span;
                    let ends = [TokenKind::Value, TokenKind::FlowEntry, TokenKind::FlowSequenceEnd];
                    let pair = self.flow_pair(span, &ends)?;
                    items.push(self.mapping(vec![pair], span)?);
                }
                _ => items.push(self.node(false, false)?),
            }
        }
    }

    fn flow_mapping(&mut self, start: Span) -> Result<Node, Error> {
        const ENDS: [TokenKind; 3] = [TokenKind::Value, TokenKind::FlowEntry, TokenKind::FlowMappingEnd];
        self.scanner.next()?;
        let mut entries = Vec::new();
        loop {
            if !entries.is_empty() && !self.next_is(&[TokenKind::FlowMappingEnd])? {
                let Token { kind, span } = self.scanner.next()?;
                if kind != TokenKind::FlowEntry {
                    return Err(Error::new("did not find the expected ',' or '}' of this mapping", span));
                }
            }
            match self.scanner.peek()?.kind {
                TokenKind::FlowMappingEnd => {
                    self.scanner.next()?;
                    return self.mapping(entries, start);
                }
                TokenKind::Key => {
                    let span = self.scanner.next()?.span;
                    entries.push(self.flow_pair(span, &ENDS)?);
                }
                TokenKind::Value => {
                    let span = self.scanner.peek()?.span;
                    entries.push(self.flow_pair(span, &ENDS)?);
                }
                _ => {
                    let key = self.node(false, false)?;
                    let span = key.span;
                    entries.push((key, Node::null(span)));
                }
            }
        }
    }

    fn flow_pair(&mut self, span: Span, ends: &[TokenKind]) -> Result<(Node, Node), Error> {
        let key = if self.next_is(ends)? { Node::null(span) } else { self.node(false, false)? };
        let value = if self.next_is(&[TokenKind::Value])? {
            let span = self.scanner.next()?.span;
            // After the ':' only the entry's ends remain.
            if self.next_is(&ends[1..])? { Node::null(span) } else { self.node(false, false)? }
        } else {
            Node::null(span)
        };
        Ok((key, value))
    }

    /// Applies merge keys and the choice about duplicates.
    fn mapping(&mut self, mut entries: Vec<(Node, Node)>, start: Span) -> Result<Node, Error> {
        self.check_duplicates(&mut entries)?;
        let is_merge = |key: &Node| key.as_scalar().is_some_and(|scalar| scalar.tag == Tag::Merge);
        if entries.iter().any(|(key, _)| is_merge(key)) {
            let (merges, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| is_merge(key));
            entries = own;
            for (_, source) in merges {
                self.merge(&mut entries, source)?;
            }
        }
        Ok(Node::new(Data::Mapping(entries), start))
    }

    fn merge(&mut self, entries: &mut Vec<(Node, Node)>, source: Node) -> Result<(), Error> {
        let span = source.span;
        match source.data {
            Data::Mapping(source) => {
                for (key, value) in source {
                    if !entries.iter().any(|(own, _)| own == &key) {
                        entries.push((key, value));
                    }
                }
                Ok(())
            }
            Data::Sequence(sources) if sources.iter().all(|source| source.as_mapping().is_some()) => {
                sources.into_iter().try_for_each(|source| self.merge(entries, source))
            }
            _ => Err(Error::new(
                "map merge requires a mapping or a list of mappings as the value of '<<'",
                span,
            )),
        }
    }

    fn check_duplicates(&self, entries: &mut Vec<(Node, Node)>) -> Result<(), Error> {
        let first_duplicate = if entries.len() <= SMALL_MAPPING {
            (1..entries.len()).find(|&i| entries[..i].iter().any(|(key, _)| *key == entries[i].0))
        } else {
            let mut seen = HashSet::with_capacity(entries.len());
            entries.iter().position(|(key, _)| {
                key.as_scalar().is_some_and(|scalar| !seen.insert((scalar.text.as_str(), scalar.tag as u8)))
            })
        };
        let Some(index) = first_duplicate else { return Ok(()) };
        if self.duplicates == DuplicateKeys::Error {
            let key = &entries[index].0;
            let first = entries.iter().find(|(k, _)| k == key).map_or(0, |(k, _)| k.span.line());
            let name = key.text().unwrap_or("…");
            return Err(Error::new(
                format!("mapping key {name:?} already defined at line {first}"),
                key.span,
            ));
        }
        let mut kept: Vec<(Node, Node)> = Vec::with_capacity(entries.len());
        let mut places: HashMap<(SmolStr, u8), usize> = HashMap::new();
        for (key, value) in entries.drain(..) {
            let name = key.as_scalar().map(|scalar| (scalar.text.clone(), scalar.tag as u8));
            match name {
                Some(name) => match places.get(&name) {
                    Some(&place) => kept[place].1 = value,
                    None => {
                        places.insert(name, kept.len());
                        kept.push((key, value));
                    }
                },
                None => kept.push((key, value)),
            }
        }
        *entries = kept;
        Ok(())
    }
}

fn unexpected(span: Span) -> Error {
    Error::new("did not find the expected content of a node", span)
}

/// A scalar with its tag: the written one, or what its style and text say.
fn scalar(text: SmolStr, style: Style, tag: Option<(SmolStr, Span)>, span: Span) -> Result<Node, Error> {
    let tag = match tag {
        None if style == Style::Plain => resolve::tag_of_plain(&text),
        None => Tag::Str,
        Some((name, tag_span)) => match name.strip_prefix(CORE_PREFIX) {
            None => Tag::Str,
            Some(short) => {
                let resolved = resolve::tag_of_plain(&text);
                let (tag, fits) = match short {
                    "str" => (Tag::Str, true),
                    "binary" => (Tag::Binary, true),
                    "null" => (Tag::Null, resolved == Tag::Null),
                    "bool" => (Tag::Bool, resolved == Tag::Bool),
                    "int" => (Tag::Int, resolved == Tag::Int),
                    "float" => (Tag::Float, matches!(resolved, Tag::Float | Tag::Int)),
                    "timestamp" => (Tag::Timestamp, resolved == Tag::Timestamp),
                    "merge" => (Tag::Merge, true),
                    _ => (Tag::Str, true),
                };
                if !fits {
                    return Err(Error::new(format!("cannot decode `{text}` as a !!{short}"), tag_span));
                }
                tag
            }
        },
    };
    Ok(Node::new(Data::Scalar(Scalar { text, tag, style }), span))
}
