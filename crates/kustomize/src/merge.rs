//! Kustomize's strategic merge: a patch walks over a resource, lists pair by the keys of the schema.
//!
//! It differs from the API server's on purpose: new items come first, `$setElementOrder` and `$retainKeys` mean
//! nothing, nulls on the way are cleared.

use std::collections::HashSet;

use gantry_apimachinery::strategic_merge::{Directive, PATCH_DIRECTIVE};
use gantry_yaml::{Data, Node};

use crate::error::{Error, Result, wrong_kind};
use crate::schema::{Rules, SmolKey, TypeId};
use smol_str::SmolStr;

/// The resource after the patch; `None` when the patch deletes it.
pub(crate) fn strategic_merge(dest: Node, patch: &Node, rules: &Rules) -> Result<Option<Node>> {
    Walker { rules }.walk(Some(dest), Some(patch), None)
}

struct Walker<'a> {
    rules: &'a Rules,
}

fn present(node: Option<&Node>) -> Option<&Node> {
    node.filter(|node| !node.is_null())
}

impl Walker<'_> {
    fn walk(
        &self,
        dest: Option<Node>,
        origin: Option<&Node>,
        schema: Option<TypeId>,
    ) -> Result<Option<Node>> {
        let Some(first) = present(dest.as_ref()).or_else(|| present(origin)) else {
            // A null stays unless the patch says null as well.
            return Ok(dest.filter(|_| origin.is_none()));
        };
        let schema = schema
            .or_else(|| self.rules.of_object(first))
            .or_else(|| origin.and_then(|origin| self.rules.of_object(origin)));
        if let (Some(dest), Some(origin)) = (present(dest.as_ref()), present(origin)) {
            let same_kind = std::mem::discriminant(&dest.data) == std::mem::discriminant(&origin.data);
            if !same_kind {
                return Err(wrong_kind(dest, origin).and_at("merged into", dest.span));
            }
        }
        match &first.data {
            Data::Scalar(_) => Ok(match origin {
                Some(origin) => Some(origin.clone()).filter(|node| !node.is_null()),
                None => dest,
            }),
            Data::Mapping(_) => self.walk_map(dest, origin, schema),
            Data::Sequence(_) => self.walk_list(dest, origin, schema, None),
        }
    }

    fn walk_map(
        &self,
        dest: Option<Node>,
        origin: Option<&Node>,
        schema: Option<TypeId>,
    ) -> Result<Option<Node>> {
        let Some(mut dest) = dest.filter(|node| !node.is_null()) else {
            return origin.map_or(Ok(None), |origin| self.added(origin.clone(), schema));
        };
        if let Some(origin) = origin {
            if origin.is_null() {
                return Ok(None);
            }
            match directive(origin)? {
                Some(Directive::Delete) => return Ok(None),
                Some(Directive::Replace) => return self.added(origin.clone(), schema),
                Some(Directive::Merge) | None => {}
            }
        }
        let Data::Mapping(entries) = &mut dest.data else { return Ok(Some(dest)) };
        let patch_entries = origin.and_then(Node::as_mapping).unwrap_or_default();
        let mut merged = Vec::with_capacity(entries.len() + patch_entries.len());
        // A field is visited once: one that the patch deletes is not added again.
        let mut visited: HashSet<SmolStr> = HashSet::with_capacity(entries.len());
        for (key, value) in std::mem::take(entries) {
            let name = key.text().unwrap_or_default();
            let change = origin.and_then(|origin| origin.get(name));
            if change.is_some() {
                visited.insert(name.into());
            }
            if let Some(value) = self.walk_field(name, Some(value), change, schema)? {
                merged.push((key, value));
            }
        }
        *entries = merged;
        for (key, change) in patch_entries {
            let name = key.text().unwrap_or_default();
            if !visited.contains(name)
                && name != PATCH_DIRECTIVE
                && let Some(value) = self.walk_field(name, None, Some(change), schema)?
            {
                entries.push((key.clone(), value));
            }
        }
        Ok(Some(dest))
    }

    fn walk_field(
        &self,
        name: &str,
        dest: Option<Node>,
        origin: Option<&Node>,
        owner: Option<TypeId>,
    ) -> Result<Option<Node>> {
        let field = owner.and_then(|owner| self.rules.field(owner, name));
        let value = field.as_ref().and_then(|field| field.value);
        let is_list =
            [dest.as_ref(), origin].into_iter().find_map(present).is_some_and(|n| n.as_sequence().is_some());
        let merged = if is_list {
            if let (Some(dest), Some(origin)) = (present(dest.as_ref()), present(origin))
                && (dest.as_sequence().is_none() || origin.as_sequence().is_none())
            {
                let refused = wrong_kind(dest, origin).and_at("merged into", dest.span);
                return Err(refused.wrap(format!("field '{name}'")));
            }
            let keys = field.as_ref().filter(|field| field.merges).map(|field| field.list_keys.as_slice());
            self.walk_list(dest, origin, value, keys)
        } else {
            self.walk(dest, origin, value)
        };
        merged.map_err(|error| error.wrap(format!("field '{name}'")))
    }

    /// `keys` is `None` for a list that is replaced whole, empty for one of merging scalars.
    fn walk_list(
        &self,
        dest: Option<Node>,
        origin: Option<&Node>,
        items: Option<TypeId>,
        keys: Option<&[SmolKey]>,
    ) -> Result<Option<Node>> {
        let Some(keys) = keys else {
            return Ok(match (dest, origin) {
                (_, Some(origin)) => Some(origin.clone()).filter(|node| !node.is_null()),
                (dest, None) => dest,
            });
        };
        let Some(dest) = dest.filter(|node| !node.is_null()) else {
            return match origin {
                Some(origin) => self.added_list(origin.clone(), items, keys),
                None => Ok(None),
            };
        };
        let mut patch: Vec<Node> = Vec::new();
        if let Some(origin) = origin {
            if origin.is_null() {
                return Ok(None);
            }
            let (directive, rest) = list_directive(origin)?;
            match directive {
                Some(Directive::Delete) => return Ok(None),
                Some(Directive::Replace) => {
                    let replaced = Node::new(Data::Sequence(rest), origin.span);
                    return self.added_list(replaced, items, keys);
                }
                Some(Directive::Merge) | None => patch = rest,
            }
        }
        let span = dest.span;
        let Data::Sequence(own) = dest.data else { return Ok(None) };
        let merged = if keys.is_empty() {
            merge_scalars(own, patch)
        } else {
            self.merge_items(own, Some(patch), items, keys)?
        };
        Ok(Some(Node::new(Data::Sequence(merged), span)))
    }

    /// Pairs the items of two lists by their keys. Without a patch the list is merged with itself, as upstream does
    /// with a list that only the patch has.
    fn merge_items(
        &self,
        own: Vec<Node>,
        patch: Option<Vec<Node>>,
        schema: Option<TypeId>,
        keys: &[SmolKey],
    ) -> Result<Vec<Node>> {
        let mut items = Items::new(own, patch);
        let tuples = items.key_tuples(keys);
        for tuple in &tuples {
            let wanted = usable(&tuples, tuple, keys);
            let pairing = usable(std::slice::from_ref(tuple), tuple, keys);
            let (dest, change) = (items.find(&items.own, &pairing), items.find(items.changes(), &pairing));
            let before = dest.map(|place| items.store[place].clone());
            let merged = match (dest, change) {
                (None, None) => None,
                (Some(dest), Some(change)) if dest == change => {
                    self.added(items.store[dest].clone(), schema)?
                }
                (_, Some(change)) if dest.is_none() || replaces(&items.store[change])? => {
                    let added = self.added(items.store[change].clone(), schema)?;
                    if let Some(merged) = added.filter(|node| !is_empty_map(node)) {
                        let place = items.add(merged);
                        items.complete(place, &wanted);
                        items.put(&wanted, place);
                    } else {
                        items.drop_own(&wanted);
                    }
                    continue;
                }
                (_, change) => {
                    let change = change.map(|place| items.store[place].clone());
                    self.walk(before, change.as_ref(), schema)?
                }
            };
            match (dest, merged.filter(|node| !is_empty_map(node))) {
                (Some(place), Some(merged)) => {
                    items.store[place] = merged;
                    items.complete(place, &wanted);
                    items.put(&wanted, place);
                }
                _ => items.drop_own(&wanted),
            }
        }
        let last = tuples.last().map(|tuple| usable(&tuples, tuple, keys)).unwrap_or_default();
        Ok(items.finish(&last))
    }

    /// A part that only the patch has: its nulls and directives are not part of the result.
    fn added(&self, node: Node, schema: Option<TypeId>) -> Result<Option<Node>> {
        let schema = schema.or_else(|| self.rules.of_object(&node));
        if node.is_null() || directive(&node)? == Some(Directive::Delete) {
            return Ok(None);
        }
        let Node { data, span } = node;
        let Data::Mapping(entries) = data else { return Ok(Some(Node::new(data, span))) };
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = key.text().unwrap_or_default();
            if name == PATCH_DIRECTIVE || value.is_null() {
                continue;
            }
            let field = schema.and_then(|schema| self.rules.field(schema, name));
            let below = field.as_ref().and_then(|field| field.value);
            let keys = field.as_ref().filter(|field| field.merges).map(|field| field.list_keys.as_slice());
            let value = match (&value.data, keys) {
                (Data::Sequence(_), Some(keys)) => self.added_list(value, below, keys)?,
                (Data::Mapping(_), _) => self.added(value, below)?,
                _ => Some(value),
            };
            kept.extend(value.map(|value| (key, value)));
        }
        Ok(Some(Node::new(Data::Mapping(kept), span)))
    }

    fn added_list(&self, list: Node, items: Option<TypeId>, keys: &[SmolKey]) -> Result<Option<Node>> {
        let span = list.span;
        if list.is_null() {
            return Ok(None);
        }
        let Data::Sequence(own) = list.data else { return Ok(Some(list)) };
        let merged = if keys.is_empty() {
            merge_scalars(Vec::new(), own)
        } else {
            self.merge_items(own, None, items, keys)?
        };
        Ok(Some(Node::new(Data::Sequence(merged), span)))
    }
}

/// A key with the value an item is sought by; an empty value where the item has none.
type Pair<'a> = (&'a str, &'a str);

/// The items of a list and of its patch in one store, because the old and the new list share them.
struct Items {
    store: Vec<Node>,
    own: Vec<usize>,
    patch: Option<Vec<usize>>,
    new: Vec<usize>,
}

impl Items {
    fn new(own: Vec<Node>, patch: Option<Vec<Node>>) -> Items {
        let count = own.len();
        let mut store = own;
        let patch = patch.map(|patch| {
            store.extend(patch);
            (count..store.len()).collect()
        });
        Items { store, own: (0..count).collect(), patch, new: Vec::new() }
    }

    fn changes(&self) -> &[usize] {
        self.patch.as_deref().unwrap_or(&self.own)
    }

    /// The values of the keys in every item, the patch's first. With several keys, tuples that differ only in what
    /// one of them leaves out become the same.
    fn key_tuples(&self, keys: &[SmolKey]) -> Vec<Vec<String>> {
        let mut tuples: Vec<Vec<String>> = Vec::new();
        for place in self.changes().iter().chain(&self.own) {
            let value = |key: &SmolKey| self.store[*place].get(key).and_then(Node::text).unwrap_or_default();
            let tuple: Vec<String> = keys.iter().map(|key| value(key).to_owned()).collect();
            if !tuples.contains(&tuple) {
                tuples.push(tuple);
            }
        }
        if keys.len() > 1 {
            for i in 0..tuples.len() {
                for j in 0..tuples.len() {
                    if let Some(united) = united(&tuples[i], &tuples[j]) {
                        tuples[i].clone_from(&united);
                        tuples[j] = united;
                    }
                }
            }
        }
        tuples
    }

    /// The first item whose keys have exactly these values.
    fn find(&self, list: &[usize], pairs: &[Pair<'_>]) -> Option<usize> {
        let has = |place: &usize| {
            pairs.iter().all(|(key, value)| self.store[*place].get(key).and_then(Node::text) == Some(value))
        };
        list.iter().copied().find(has)
    }

    fn add(&mut self, node: Node) -> usize {
        self.store.push(node);
        self.store.len() - 1
    }

    /// Gives an item the keys it was found by.
    fn complete(&mut self, place: usize, pairs: &[Pair<'_>]) {
        for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            let item = &mut self.store[place];
            if item.get(key).is_none() {
                let span = item.span;
                item.set(key, Node::plain(*value, span));
            }
        }
    }

    fn put(&mut self, pairs: &[Pair<'_>], place: usize) {
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let values: Vec<&str> = pairs.iter().map(|(_, value)| *value).collect();
        let mut list = std::mem::take(&mut self.new);
        set(&self.store, &mut list, &keys, &values, Some(place));
        self.new = list;
    }

    fn drop_own(&mut self, pairs: &[Pair<'_>]) {
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let values: Vec<&str> = pairs.iter().map(|(_, value)| *value).collect();
        let mut list = std::mem::take(&mut self.own);
        set(&self.store, &mut list, &keys, &values, None);
        self.own = list;
    }

    /// The new items, with those of the old list put among them by the keys that any item has.
    fn finish(mut self, pairs: &[Pair<'_>]) -> Vec<Node> {
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let mut new = std::mem::take(&mut self.new);
        for &place in &self.own {
            let item = &self.store[place];
            let mut values = Vec::with_capacity(keys.len());
            for key in &keys {
                match item.get(key) {
                    Some(value) => values.push(value.text().unwrap_or_default()),
                    None => new.push(place),
                }
            }
            if keys.len() > 1 {
                set(&self.store, &mut new, &keys, &values, None);
            }
            set(&self.store, &mut new, &keys, &values, Some(place));
        }
        let mut store: Vec<Option<Node>> = self.store.into_iter().map(Some).collect();
        let mut result = Vec::with_capacity(new.len());
        for (index, &place) in new.iter().enumerate() {
            let again = new[index + 1..].contains(&place);
            result.extend(if again { store[place].clone() } else { store[place].take() });
        }
        result
    }
}

/// Replaces the items that have these values (an empty one stands for any), or adds the item; without one, removes
/// them. Upstream's traps are kept: with no value at all every other item goes, and values count by position even
/// where a key was left out.
fn set(store: &[Node], list: &mut Vec<usize>, keys: &[&str], values: &[&str], place: Option<usize>) {
    let mut found = false;
    list.retain_mut(|slot| {
        let item = &store[*slot];
        if item.is_null() || is_empty_map(item) {
            return false;
        }
        let mut fits = !values.is_empty();
        for (key, value) in keys.iter().zip(values) {
            let own = item.get(key);
            fits &= own.is_some_and(|own| value.is_empty() || own.text() == Some(value));
        }
        if !fits {
            return !values.is_empty();
        }
        found = true;
        if let Some(place) = place {
            *slot = place;
        }
        place.is_some()
    });
    if let Some(place) = place.filter(|_| !found) {
        list.push(place);
    }
}

/// The keys that any of the tuples has a value for, with this tuple's values; all keys when none has any.
fn usable<'a>(tuples: &[Vec<String>], tuple: &'a [String], keys: &'a [SmolKey]) -> Vec<Pair<'a>> {
    let used =
        |index: usize| tuples.iter().any(|tuple| tuple.get(index).is_some_and(|value| !value.is_empty()));
    let pairs = keys.iter().zip(tuple).map(|(key, value)| (key.as_str(), value.as_str()));
    if (0..keys.len()).any(used) {
        pairs.enumerate().filter(|(index, _)| used(*index)).map(|(_, pair)| pair).collect()
    } else {
        pairs.collect()
    }
}

/// Two tuples as one, if they share a value (or both leave it out) and differ only in what one leaves out.
fn united(a: &[String], b: &[String]) -> Option<Vec<String>> {
    let mut common = false;
    let mut united = Vec::with_capacity(a.len());
    for (a, b) in a.iter().zip(b) {
        common |= a == b;
        if a != b && !a.is_empty() && !b.is_empty() {
            return None;
        }
        united.push(if a.is_empty() { b.clone() } else { a.clone() });
    }
    common.then_some(united)
}

fn replaces(item: &Node) -> Result<bool> {
    Ok(directive(item)? == Some(Directive::Replace))
}

fn is_empty_map(node: &Node) -> bool {
    node.as_mapping().is_some_and(<[_]>::is_empty)
}

/// The patch's values first, then those that only the list has.
fn merge_scalars(own: Vec<Node>, patch: Vec<Node>) -> Vec<Node> {
    let mut merged: Vec<Node> = Vec::with_capacity(own.len() + patch.len());
    for item in patch.into_iter().chain(own) {
        if !merged.iter().any(|known| known.text() == item.text()) {
            merged.push(item);
        }
    }
    merged
}

fn directive(node: &Node) -> Result<Option<Directive>> {
    let Some(value) = node.get(PATCH_DIRECTIVE) else { return Ok(None) };
    let word = value.text().unwrap_or_default();
    match Directive::parse(word) {
        Some(directive) => Ok(Some(directive)),
        None => Err(Error::at(
            format!("unknown patch strategy '{word}'; known are delete, merge, replace"),
            value.span,
        )),
    }
}

/// The directive of an item that stands for the whole list, and the other items.
fn list_directive(list: &Node) -> Result<(Option<Directive>, Vec<Node>)> {
    let mut found = None;
    let mut rest = Vec::new();
    for item in list.as_sequence().unwrap_or_default() {
        let alone = item.as_mapping().is_some_and(|entries| entries.len() == 1);
        match directive(item)? {
            Some(directive) if alone => found = Some(directive),
            _ => rest.push(item.clone()),
        }
    }
    Ok((found, rest))
}
