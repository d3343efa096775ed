//! The resources of a build in order, with lookups by identity that stay linear in their number.

use std::collections::{HashMap, HashSet};

use gantry_yaml::Span;

use crate::error::{Error, Result};
use crate::id::ResId;
use crate::origin::ORIGIN;
use crate::resource::{Behavior, Resource};
use gantry_yaml::Node;
use smol_str::SmolStr;

#[derive(Debug, Default)]
pub(crate) struct ResMap {
    resources: Vec<Resource>,
    /// The identities of all resources while nothing has changed them.
    ids: Option<HashSet<ResId>>,
}

impl ResMap {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.resources.iter()
    }

    pub(crate) fn resources(&self) -> &[Resource] {
        &self.resources
    }

    pub(crate) fn len(&self) -> usize {
        self.resources.len()
    }

    /// The resources, to be changed in any way.
    pub(crate) fn resources_mut(&mut self) -> &mut Vec<Resource> {
        self.ids = None;
        &mut self.resources
    }

    pub(crate) fn into_resources(self) -> Vec<Resource> {
        self.resources
    }

    fn ids(&mut self) -> &mut HashSet<ResId> {
        let resources = &self.resources;
        self.ids.get_or_insert_with(|| resources.iter().map(Resource::current_id).collect())
    }

    /// Adds a resource whose identity must be new.
    pub(crate) fn append(&mut self, resource: Resource) -> Result<()> {
        let id = resource.current_id();
        if self.ids().contains(&id) {
            let first = self.resources.iter().find(|other| other.current_id() == id);
            let message = format!("may not add resource with an already registered id: {id}");
            let refused = Error::at(message, resource.span());
            return Err(refused.and_at("the first is at", first.map_or(Span::NONE, Resource::span)));
        }
        self.ids().insert(id);
        self.resources.push(resource);
        Ok(())
    }

    pub(crate) fn append_all(&mut self, resources: impl IntoIterator<Item = Resource>) -> Result<()> {
        resources.into_iter().try_for_each(|resource| self.append(resource))
    }

    /// Adds what generators made: new objects, or more for ones that are there.
    pub(crate) fn absorb_all(&mut self, made: Vec<Resource>) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let mut index = NameIndex::of_any(&self.resources);
        for resource in made {
            let (span, name, before) = (resource.span(), SmolStr::new(resource.name()), self.len());
            self.absorb(resource, &index)
                .map_err(|error| error.wrap("merging from generator").or_at(span))?;
            if self.len() > before {
                index.add(name, before);
            }
        }
        Ok(())
    }

    fn absorb(&mut self, mut made: Resource, index: &NameIndex) -> Result<()> {
        let id = made.current_id();
        let span = made.span();
        let named = index.get(&id.name).iter().copied();
        let matches: Vec<usize> =
            named.filter(|&place| self.resources[place].any_ids().any(|own| own == id)).collect();
        match matches[..] {
            [] => match made.behavior {
                Behavior::Merge | Behavior::Replace => {
                    Err(Error::at(format!("id {id} does not exist; cannot merge or replace"), span))
                }
                _ => self.append(made),
            },
            [index] => {
                let old = &self.resources[index];
                match made.behavior {
                    Behavior::Replace => take_metadata(&mut made, old),
                    Behavior::Merge => {
                        take_metadata(&mut made, old);
                        if let Some(origin) = old.annotation(ORIGIN) {
                            made.set_annotation(ORIGIN, origin);
                        }
                        merge_data(&mut made, old, "data");
                        merge_data(&mut made, old, "binaryData");
                    }
                    behavior => {
                        return Err(Error::at(
                            format!(
                                "id {id} exists; can not use behavior: '{}', behavior must be merge or replace",
                                behavior.name()
                            ),
                            span,
                        ));
                    }
                }
                self.resources_mut()[index] = made;
                Ok(())
            }
            _ => Err(Error::at(format!("found multiple objects that could accept merge of {id}"), span)),
        }
    }
}

/// Takes over name, namespace, labels and annotations of the object that is merged into or replaced.
fn take_metadata(made: &mut Resource, old: &Resource) {
    for field in ["labels", "annotations"] {
        let mut merged = old.string_map(&["metadata", field]);
        for (key, value) in made.string_map(&["metadata", field]) {
            match merged.iter_mut().find(|(known, _)| *known == key) {
                Some((_, slot)) => *slot = value,
                None => merged.push((key, value)),
            }
        }
        made.set_metadata_map(field, &merged);
    }
    let (name, namespace) = (old.name().to_owned(), old.namespace().to_owned());
    made.set_name(&name);
    made.set_namespace(&namespace);
    made.previous = old.previous.clone();
    made.prefixes = old.prefixes.clone();
    made.suffixes = old.suffixes.clone();
    made.var_names = old.var_names.clone();
    // An object that was not generated keeps its name.
    made.needs_hash &= old.needs_hash;
    made.annotated = true;
    made.serial = old.serial;
}

fn merge_data(made: &mut Resource, old: &Resource, field: &str) {
    let own = made.node.get(field).and_then(Node::as_mapping).unwrap_or_default();
    let mut merged: Vec<(SmolStr, Node)> = Vec::new();
    for (key, value) in old.node.get(field).and_then(Node::as_mapping).unwrap_or_default().iter().chain(own) {
        let (Some(key), Some(text)) = (key.text(), value.text()) else { continue };
        let value = Node::string(text, value.span);
        match merged.iter_mut().find(|(known, _)| known == key) {
            Some((_, slot)) => *slot = value,
            None => merged.push((key.into(), value)),
        }
    }
    if merged.is_empty() {
        made.node.remove(field);
        return;
    }
    let mut map = Node::mapping(made.span());
    for (key, value) in merged {
        map.set(&key, value);
    }
    made.node.set(field, map);
}

/// Where the resources of each present or earlier name are.
pub(crate) struct NameIndex {
    places: HashMap<SmolStr, Vec<usize>>,
}

impl NameIndex {
    /// By every name that a resource has or had.
    pub(crate) fn of_any(resources: &[Resource]) -> NameIndex {
        NameIndex::build(resources, true)
    }

    /// By the names that a resource had before.
    pub(crate) fn of_previous(resources: &[Resource]) -> NameIndex {
        NameIndex::build(resources, false)
    }

    fn build(resources: &[Resource], with_current: bool) -> NameIndex {
        let mut places: HashMap<SmolStr, Vec<usize>> = HashMap::with_capacity(resources.len());
        for (index, resource) in resources.iter().enumerate() {
            let current = with_current.then(|| SmolStr::new(resource.name()));
            for name in resource.previous.iter().map(|previous| previous.name.clone()).chain(current) {
                let list = places.entry(name).or_default();
                if list.last() != Some(&index) {
                    list.push(index);
                }
            }
        }
        NameIndex { places }
    }

    fn add(&mut self, name: SmolStr, place: usize) {
        self.places.entry(name).or_default().push(place);
    }

    pub(crate) fn get(&self, name: &str) -> &[usize] {
        self.places.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The one resource that has or had this identity.
    pub(crate) fn demand_one(&self, resources: &[Resource], id: &ResId) -> Result<usize> {
        let found: Vec<usize> = self
            .get(&id.name)
            .iter()
            .copied()
            .filter(|&index| {
                resources.get(index).is_some_and(|r| !r.is_empty() && r.any_ids().any(|own| own == *id))
            })
            .collect();
        let problem = match found[..] {
            [index] => return Ok(index),
            [] => "no matches",
            _ => "multiple matches",
        };
        let mut refused =
            Error::new(format!("{problem} for Id {id}; failed to find unique target for patch {id}"));
        for &place in found.iter().take(MOST_PLACES) {
            refused = refused.and_at("it matches", resources[place].span());
        }
        Err(match near_miss(resources, id) {
            Some(near) if found.is_empty() => refused.hint(&format!("; did you mean {near}?")),
            _ => refused,
        })
    }
}

/// Of many places that an error has to do with, these many are shown.
const MOST_PLACES: usize = 3;

/// The resource that was most likely meant: the same name with another kind or namespace, or a name much like it.
pub(crate) fn near_miss(resources: &[Resource], id: &ResId) -> Option<ResId> {
    let present = || resources.iter().filter(|resource| !resource.is_empty());
    let of_name = present().find(|resource| resource.name() == id.name.as_str());
    let found = of_name.or_else(|| {
        let of_kind: Vec<&Resource> =
            present().filter(|resource| id.gvk.kind.is_empty() || resource.kind() == id.gvk.kind).collect();
        let names: Vec<&str> = of_kind.iter().map(|resource| resource.name()).collect();
        let near = gantry_yaml::nearest(&id.name, &names)?;
        of_kind.into_iter().find(|resource| resource.name() == near)
    });
    found.map(Resource::current_id)
}
