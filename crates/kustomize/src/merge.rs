//! Kustomize's strategic merge: a patch walks over a resource, lists pair by the keys of the schema.
//!
//! It differs from the API server's on purpose: new items come first, `$setElementOrder` and `$retainKeys` mean
//! nothing, nulls on the way are cleared.

use gantry_apimachinery::strategic_merge::{Directive, PATCH_DIRECTIVE};
use gantry_yaml::{Data, Node};

use crate::error::{Error, Result};
use crate::schema::{Rules, TypeId};

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
                return Err(Error::at(
                    format!(
                        "wrong node kind: the patch has a {} where there is a {}",
                        origin.type_name(),
                        dest.type_name()
                    ),
                    origin.span,
                ));
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
        for (key, value) in std::mem::take(entries) {
            let name = key.text().unwrap_or_default();
            let change = origin.and_then(|origin| origin.get(name));
            if let Some(value) = self.walk_field(name, Some(value), change, schema)? {
                merged.push((key, value));
            }
        }
        *entries = merged;
        let held = entries.len();
        for (key, change) in patch_entries {
            let name = key.text().unwrap_or_default();
            let known = entries[..held].iter().any(|(own, _)| own.text() == Some(name));
            if !known
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
            let both = [dest.as_ref(), origin];
            if let Some(other) =
                both.into_iter().filter_map(present).find(|node| node.as_sequence().is_none())
            {
                return Err(Error::at(
                    format!("wrong node kind in '{name}': expected a list, found a {}", other.type_name()),
                    other.span,
                ));
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
            self.merge_items(own, &patch, items, keys)?
        };
        Ok(Some(Node::new(Data::Sequence(merged), span)))
    }

    /// Items pair by the values of their keys; a pair with a missing key pairs by the others.
    fn merge_items(
        &self,
        own: Vec<Node>,
        patch: &[Node],
        schema: Option<TypeId>,
        keys: &[SmolKey],
    ) -> Result<Vec<Node>> {
        if let Some(last) = own.iter().rev().find(|item| has_no_key(item, keys)) {
            // Upstream's writer takes an item without a key for all of them.
            return Ok(vec![last.clone()]);
        }
        let mut tuples: Vec<Vec<String>> = Vec::new();
        for item in patch.iter().chain(&own) {
            let tuple: Vec<String> = keys
                .iter()
                .map(|key| item.get(key).and_then(Node::text).unwrap_or_default().to_owned())
                .collect();
            if !tuples.contains(&tuple) {
                tuples.push(tuple);
            }
        }
        // Items are shared between the old and the new list, so both hold places in one store.
        let mut store: Vec<Node> = own;
        let mut old: Vec<usize> = (0..store.len()).collect();
        let mut new: Vec<usize> = Vec::new();
        for tuple in &tuples {
            let mut wanted: Vec<(&str, &str)> = Vec::new();
            for (key, value) in keys.iter().zip(tuple) {
                if !value.is_empty() {
                    wanted.push((key, value));
                }
            }
            if wanted.is_empty() {
                // An item without any key pairs with whatever has them: upstream's rule, and its trap.
                wanted.extend(keys.iter().map(|key| (key.as_str(), "")));
            }
            let place = old.iter().copied().find(|&place| fits(&store[place], &wanted));
            let change = patch.iter().find(|item| fits(item, &wanted));
            let dest =
                place.map(|place| std::mem::replace(&mut store[place], Node::null(Default::default())));
            let merged = self.walk(dest, change, schema)?;
            let Some(merged) =
                merged.filter(|node| node.as_mapping().is_none_or(|entries| !entries.is_empty()))
            else {
                old.retain(|&other| Some(other) != place && !fits(&store[other], &wanted));
                continue;
            };
            let place = match place {
                Some(place) => {
                    store[place] = merged;
                    place
                }
                None => {
                    store.push(merged);
                    store.len() - 1
                }
            };
            set_place(&mut new, &store, &wanted, place);
        }
        // Of items with the same keys the last one stays.
        for place in old {
            let item = store[place].clone();
            let own: Vec<(&str, &str)> = keys
                .iter()
                .filter_map(|key| {
                    Some((key.as_str(), item.get(key)?.text().filter(|text| !text.is_empty())?))
                })
                .collect();
            set_place(&mut new, &store, &own, place);
        }
        let mut taken: Vec<Option<Node>> = store.into_iter().map(Some).collect();
        let mut result = Vec::with_capacity(new.len());
        for (index, &place) in new.iter().enumerate() {
            let again = new[index + 1..].contains(&place);
            let item = if again { taken[place].clone() } else { taken[place].take() };
            result.extend(item);
        }
        Ok(result)
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
        } else if let Some(last) = own.iter().rev().find(|item| has_no_key(item, keys)) {
            vec![last.clone()]
        } else {
            self.merge_items(Vec::new(), &own, items, keys)?
        };
        Ok(Some(Node::new(Data::Sequence(merged), span)))
    }
}

use crate::schema::SmolKey;

/// Puts `place` where the first item with these keys is and takes the others out, or puts it at the end.
fn set_place(list: &mut Vec<usize>, store: &[Node], wanted: &[(&str, &str)], place: usize) {
    let mut found = false;
    list.retain_mut(|slot| {
        if !fits(&store[*slot], wanted) {
            return true;
        }
        *slot = place;
        !std::mem::replace(&mut found, true)
    });
    if !found {
        list.push(place);
    }
}

/// Whether the item has these values; an empty one stands for any.
fn fits(item: &Node, wanted: &[(&str, &str)]) -> bool {
    wanted.iter().all(|(key, value)| match item.get(key) {
        Some(own) => value.is_empty() || own.text() == Some(value),
        None => false,
    })
}

fn has_no_key(item: &Node, keys: &[SmolKey]) -> bool {
    keys.iter().all(|key| item.get(key).and_then(Node::text).unwrap_or_default().is_empty())
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
