//! Three-way merge: what changed between two versions of a document, brought into a third.
//!
//! The rules are those of upstream's `merge3`: a value that the update changed, added or took away wins over the local
//! one, everything else stays local; lists pair their items where the schema of the kind, or one in a comment, says by
//! which keys. Order, quotes and comments of the local document stay.

use std::collections::BTreeSet;

use gantry_yaml::{Data, FileId, Node, Scalar, Span, Tag, parse_documents};

use crate::error::{Error, Result, wrong_kind};
use crate::schema::{Field, Rules, SmolKey, described};
use crate::written::Texts;

/// Keys that items of lists without a schema may pair by, where that is asked for.
const GUESSED_KEYS: [&str; 7] =
    ["mountPath", "devicePath", "ip", "type", "topologyKey", "name", "containerPort"];

/// The local document with the changes from `original` to `updated`; empty when they take it away.
///
/// With `infer`, lists of items with names pair by those, whatever their kind.
pub(crate) fn three_way(
    local: &str,
    original: &str,
    updated: &str,
    infer: bool,
    rules: &Rules,
) -> Result<String> {
    let mut texts = Texts::new(&[local, original, updated]);
    let mut documents = Vec::with_capacity(3);
    for (id, text) in [(0, local), (1, original), (2, updated)] {
        let parsed =
            parse_documents(FileId(id), text).map_err(|error| Error::at(error.message(), error.span()))?;
        let document = parsed.into_iter().next().unwrap_or_else(|| Node::null(Span::NONE));
        texts.note(&document);
        documents.push(document);
    }
    let mut walker = Walker { rules, texts, infer };
    let versions =
        Versions { local: documents.first(), original: documents.get(1), updated: documents.get(2) };
    let merged = walker.walk(versions, &Field::default())?;
    Ok(merged.map(|node| walker.texts.write(&node)).unwrap_or_default())
}

/// One place in the three documents.
#[derive(Clone, Copy, Default)]
struct Versions<'n> {
    local: Option<&'n Node>,
    original: Option<&'n Node>,
    updated: Option<&'n Node>,
}

struct Walker<'a> {
    rules: &'a Rules,
    texts: Texts<'a>,
    infer: bool,
}

fn present(node: Option<&Node>) -> Option<&Node> {
    node.filter(|node| !node.is_null())
}

fn is_null(node: Option<&Node>) -> bool {
    node.is_some_and(Node::is_null)
}

impl<'n> Versions<'n> {
    fn all(self) -> [Option<&'n Node>; 3] {
        [self.local, self.original, self.updated]
    }

    fn map(self, part: impl Fn(&'n Node) -> Option<&'n Node>) -> Versions<'n> {
        Versions {
            local: self.local.and_then(&part),
            original: self.original.and_then(&part),
            updated: self.updated.and_then(&part),
        }
    }

    /// Said to be nothing, here or in the update.
    fn cleared(self) -> bool {
        is_null(self.updated) || is_null(self.local)
    }
}

impl Walker<'_> {
    fn walk(&mut self, versions: Versions<'_>, field: &Field) -> Result<Option<Node>> {
        let Some(first) = versions.all().into_iter().find_map(present) else { return Ok(None) };
        for other in versions.all().into_iter().filter_map(present) {
            if std::mem::discriminant(&other.data) != std::mem::discriminant(&first.data) {
                return Err(wrong_kind(first, other));
            }
        }
        match &first.data {
            Data::Mapping(_) => self.walk_map(versions, field),
            Data::Scalar(_) => Ok(self.pick(versions).cloned()),
            Data::Sequence(_) => match self.pairing_keys(versions, field) {
                Some(keys) => self.walk_list(versions, field, &keys),
                None => Ok(self.pick(versions).cloned()),
            },
        }
    }

    /// A value that is taken whole, from one side or the other.
    fn pick<'n>(&self, versions: Versions<'n>) -> Option<&'n Node> {
        let Versions { local, original, updated } = versions;
        if versions.cleared() {
            return None;
        }
        match (present(original), present(updated)) {
            (None, None) => local,
            (Some(original), Some(updated)) if self.is_same(original, updated) => local,
            (_, updated) => updated,
        }
    }

    /// Whether two values were written the same, comments included.
    fn is_same(&self, a: &Node, b: &Node) -> bool {
        match (a.as_scalar(), b.as_scalar()) {
            (Some(one), Some(other)) => one == other && self.texts.of_scalar(a) == self.texts.of_scalar(b),
            _ => a == b,
        }
    }

    fn walk_map(&mut self, versions: Versions<'_>, field: &Field) -> Result<Option<Node>> {
        if versions.cleared() || (versions.local.is_none() && versions.updated.is_none()) {
            return Ok(None);
        }
        let type_of = |node: Option<&Node>| node.and_then(|node| self.rules.of_object(node));
        let schema = field
            .value
            .or_else(|| [versions.original, versions.updated, versions.local].into_iter().find_map(type_of));
        let mut merged = versions.local.cloned().unwrap_or_else(|| Node::mapping(Span::NONE));
        let names: BTreeSet<&str> = versions
            .all()
            .into_iter()
            .flatten()
            .flat_map(|node| node.as_mapping().unwrap_or_default())
            .filter_map(|(key, _)| key.text())
            .collect();
        for name in names {
            let values = versions.map(|node| node.get(name));
            let keys = versions.map(|node| key_of(node, name));
            let of_field = match self.commented(keys, values) {
                Some(described) => described,
                None => schema.and_then(|owner| self.rules.field(owner, name)).unwrap_or_default(),
            };
            let value = self.walk(values, &of_field)?;
            self.merge_comments(keys);
            set(&mut merged, name, keys, value);
        }
        Ok(Some(merged))
    }

    /// A comment on a key that the update changed, and nobody else, changes.
    fn merge_comments(&mut self, keys: Versions<'_>) {
        let Versions { local: Some(local), original: Some(original), updated: Some(updated) } = keys else {
            return;
        };
        let (own, before, after) =
            (self.texts.of_key(local), self.texts.of_key(original), self.texts.of_key(updated));
        if own == before && before != after {
            self.texts.set_of_key(local, after);
        }
    }

    /// The schema that a comment about a field gives it.
    fn commented(&self, keys: Versions<'_>, values: Versions<'_>) -> Option<Field> {
        let of_keys = keys.all().into_iter().flatten().map(|key| self.texts.of_key(key));
        let of_values = values.all().into_iter().flatten().map(|value| self.texts.of_scalar(value));
        of_keys.chain(of_values).find_map(|comments| {
            let lines = comments.head.iter().chain(std::iter::once(&comments.line));
            lines.rev().find_map(|line| {
                let json = line.trim_start_matches('#').trim();
                let documents = json.starts_with('{').then(|| parse_documents(FileId(0), json).ok())??;
                described(documents.first()?)
            })
        })
    }

    /// What the items of a list pair by; empty for values that are a set, `None` for a list that is one value.
    fn pairing_keys(&self, versions: Versions<'_>, field: &Field) -> Option<Vec<SmolKey>> {
        if field.merges {
            return Some(field.list_keys.clone());
        }
        if !self.infer || field.value.is_some() {
            return None;
        }
        let lists = versions.all().into_iter().filter_map(present);
        let items: Vec<&Node> = lists.flat_map(|list| list.as_sequence().unwrap_or_default()).collect();
        let key = GUESSED_KEYS.into_iter().find(|key| items.iter().all(|item| item.get(key).is_some()))?;
        (!items.is_empty()).then(|| vec![SmolKey::new_static(key)])
    }

    fn walk_list(&mut self, versions: Versions<'_>, field: &Field, keys: &[SmolKey]) -> Result<Option<Node>> {
        if present(versions.updated).is_none() && present(versions.original).is_some() {
            return Ok(None);
        }
        let of_items = Field { value: field.value, ..Field::default() };
        let span = present(versions.local).map_or(Span::NONE, |list| list.span);
        let items = |list: Option<&Node>| list.and_then(Node::as_sequence).unwrap_or_default().to_vec();
        let mut merged = items(versions.local);
        for tuple in tuples(versions, keys) {
            let pairs: Vec<(&str, &str)> = if keys.is_empty() {
                vec![("", tuple[0].as_str())]
            } else {
                let all = keys.iter().map(SmolKey::as_str).zip(tuple.iter().map(String::as_str));
                all.filter(|(_, value)| !value.is_empty()).collect()
            };
            let found = versions.map(|list| list.as_sequence()?.iter().find(|item| fits(item, &pairs)));
            let value = self.walk(found, &of_items)?;
            let place = merged.iter().position(|item| fits(item, &pairs));
            match (place, value.filter(|value| !value.as_mapping().is_some_and(<[_]>::is_empty))) {
                (Some(place), Some(value)) => merged[place] = value,
                (Some(_), None) => merged.retain(|item| !fits(item, &pairs)),
                (None, Some(value)) => merged.push(value),
                (None, None) => {}
            }
        }
        Ok(Some(Node::new(Data::Sequence(merged), span)))
    }
}

fn key_of<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.as_mapping()?.iter().find(|(key, _)| key.text() == Some(name)).map(|(key, _)| key)
}

/// The values of the keys in all items, the local ones first.
fn tuples(versions: Versions<'_>, keys: &[SmolKey]) -> Vec<Vec<String>> {
    let mut tuples: Vec<Vec<String>> = Vec::new();
    for item in versions.all().into_iter().flatten().flat_map(|list| list.as_sequence().unwrap_or_default()) {
        let text = |node: Option<&Node>| node.and_then(Node::text).unwrap_or_default().to_owned();
        let tuple: Vec<String> = match keys {
            [] => vec![text(Some(item))],
            keys => keys.iter().map(|key| text(item.get(key))).collect(),
        };
        if tuple.iter().any(|value| !value.is_empty()) && !tuples.contains(&tuple) {
            tuples.push(tuple);
        }
    }
    tuples
}

fn fits(item: &Node, pairs: &[(&str, &str)]) -> bool {
    pairs.iter().all(|(key, value)| {
        let own = if key.is_empty() { item.text() } else { item.get(key).and_then(Node::text) };
        own == Some(value)
    })
}

/// Sets or removes a field. One that is there keeps its key and its quotes.
fn set(map: &mut Node, name: &str, keys: Versions<'_>, value: Option<Node>) {
    let Some(mut value) = value else {
        map.remove(name);
        return;
    };
    if let Some(old) = map.get_mut(name) {
        if let (Data::Scalar(Scalar { style, .. }), Data::Scalar(new)) = (&old.data, &mut value.data)
            && new.tag == Tag::Str
        {
            new.style = *style;
        }
        *old = value;
        return;
    }
    let key = keys.updated.or(keys.original).cloned().unwrap_or_else(|| Node::string(name, value.span));
    if let Data::Mapping(entries) = &mut map.data {
        entries.push((key, value));
    }
}
