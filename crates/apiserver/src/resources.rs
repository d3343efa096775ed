//! What the server serves: one row of metadata per resource, built in or from a custom resource definition.
//!
//! Invariant: a registry is immutable; a definition that comes, changes or goes makes a new one that is swapped in whole.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use gantry_apimachinery::Value;
use gantry_apimachinery::kind_names;
use gantry_apimachinery::structural::Structural;
use gantry_apimachinery::value::SmolStr;

use crate::status::About;

/// The verbs of a resource, in the letters of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Verbs(u8);

impl Verbs {
    /// Letter, name, in the order in which discovery lists them.
    const NAMES: [(u8, &'static str); 8] = [
        (b'C', "create"),
        (b'D', "delete"),
        (b'X', "deletecollection"),
        (b'G', "get"),
        (b'L', "list"),
        (b'P', "patch"),
        (b'U', "update"),
        (b'W', "watch"),
    ];
    pub const ALL: Verbs = Verbs(0xff);

    fn from_letters(letters: &str) -> Verbs {
        let bit = |letter: u8| {
            Verbs::NAMES.iter().position(|(known, _)| *known == letter).map_or(0, |index| 1 << index)
        };
        Verbs(letters.bytes().fold(0, |verbs, letter| verbs | bit(letter)))
    }

    /// These and the named ones.
    pub fn and(self, names: &[&str]) -> Verbs {
        let bits = Verbs::NAMES
            .iter()
            .enumerate()
            .filter(|(_, (_, name))| names.contains(name))
            .map(|(index, _)| 1 << index);
        Verbs(bits.fold(self.0, |verbs, bit| verbs | bit))
    }

    pub fn has(self, verb: &str) -> bool {
        self.names().any(|name| name == verb)
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Verbs::NAMES
            .iter()
            .enumerate()
            .filter(move |(index, _)| self.0 & (1 << index) != 0)
            .map(|(_, (_, name))| *name)
    }
}

/// One resource of one served version.
#[derive(Clone, Debug)]
pub struct Resource {
    pub group: SmolStr,
    pub version: SmolStr,
    pub plural: SmolStr,
    pub singular: SmolStr,
    pub kind: SmolStr,
    pub list_kind: SmolStr,
    pub namespaced: bool,
    pub verbs: Verbs,
    pub short_names: Vec<SmolStr>,
    pub categories: Vec<SmolStr>,
    pub subresources: Vec<Subresource>,
    /// Where its objects are kept: `group/plural`, shared by all versions. Empty for a resource that is not stored.
    pub collection: SmolStr,
    /// `apiVersion` of the stored encoding.
    pub stored_version: SmolStr,
    pub custom: Option<Arc<Custom>>,
}

#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: SmolStr,
    pub kind: SmolStr,
    /// `group/version` of what it takes and returns, where that is not the resource's own.
    pub group_version: SmolStr,
    pub verbs: Verbs,
}

/// What only a custom resource has.
#[derive(Clone, Debug, Default)]
pub struct Custom {
    /// Name of the definition.
    pub definition: SmolStr,
    pub scale: Option<ScalePaths>,
    pub columns: Vec<PrinterColumn>,
    /// `None` for a version without a schema.
    pub schema: Option<Arc<Schema>>,
    /// The revision of the definition that this was read from.
    pub revision: u64,
}

/// A version's schema: kept as it was written, and read when an object of the kind first asks for it, since most kinds that
/// are defined have none.
#[derive(Debug)]
pub struct Schema {
    written: Vec<u8>,
    read: OnceLock<Option<Structural>>,
}

/// Field names from the object's root.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalePaths {
    pub spec_replicas: Vec<SmolStr>,
    pub status_replicas: Vec<SmolStr>,
    pub selector: Option<Vec<SmolStr>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PrinterColumn {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub json_path: String,
}

impl Custom {
    /// What the version's schema says; `None` for one that says nothing.
    pub fn structural(&self) -> Option<&Structural> {
        self.schema.as_ref().and_then(|schema| schema.structural())
    }
}

impl Schema {
    pub fn of(schema: &Value) -> Schema {
        Schema { written: serde_json::to_vec(schema).unwrap_or_default(), read: OnceLock::new() }
    }

    pub fn structural(&self) -> Option<&Structural> {
        self.read.get_or_init(|| Structural::parse(&self.written()).ok()).as_ref()
    }

    /// As it was written, for the published documents.
    pub fn written(&self) -> Value {
        serde_json::from_slice(&self.written).unwrap_or_default()
    }
}

impl Resource {
    pub fn about(&self) -> About<'_> {
        About { group: &self.group, resource: &self.plural, kind: &self.kind }
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// `group/plural`, by which code tells kinds apart.
    pub fn id(&self) -> &str {
        &self.collection
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

/// A served version of a group, in order of discovery.
#[derive(Clone, Debug)]
pub(crate) struct GroupVersion {
    pub group: SmolStr,
    pub version: SmolStr,
    pub resources: Vec<Arc<Resource>>,
}

/// All that is served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    /// Versions of one group stand together, the preferred one first.
    pub group_versions: Vec<GroupVersion>,
    by_path: HashMap<(SmolStr, SmolStr, SmolStr), Arc<Resource>>,
}

impl Registry {
    pub(crate) fn built_in() -> Registry {
        let mut resources: Vec<Resource> = Vec::new();
        for line in kind_names::RESOURCES.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [
                group,
                version,
                name,
                singular,
                kind,
                scope,
                verbs,
                short_names,
                categories,
                response,
                _stored,
            ] = columns[..]
            else {
                continue;
            };
            let verbs = Verbs::from_letters(verbs);
            if let Some((plural, subresource)) = name.split_once('/') {
                let parent = resources.iter_mut().rfind(|parent| {
                    parent.plural == plural && parent.group == group && parent.version == version
                });
                if let Some(parent) = parent {
                    parent.subresources.push(Subresource {
                        name: subresource.into(),
                        kind: kind.into(),
                        group_version: response.into(),
                        verbs,
                    });
                }
                continue;
            }
            let list =
                |text: &str| text.split(',').filter(|part| !part.is_empty()).map(SmolStr::new).collect();
            let (collection, stored_version) = stored_as(group, version, name, verbs);
            resources.push(Resource {
                group: group.into(),
                version: version.into(),
                plural: name.into(),
                singular: singular.into(),
                kind: kind.into(),
                list_kind: format!("{kind}List").into(),
                namespaced: scope == "N",
                verbs,
                short_names: list(short_names),
                categories: list(categories),
                subresources: Vec::new(),
                collection,
                stored_version,
                custom: None,
            });
        }
        let mut registry = Registry::default();
        registry.extend(resources.into_iter().map(Arc::new));
        registry
    }

    /// This registry and more resources. A resource that is served already keeps its place.
    pub(crate) fn with(&self, resources: impl IntoIterator<Item = Arc<Resource>>) -> Registry {
        let mut registry = self.clone();
        registry.extend(resources);
        registry
    }

    fn extend(&mut self, resources: impl IntoIterator<Item = Arc<Resource>>) {
        for resource in resources {
            let place = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
            if self.by_path.contains_key(&place) {
                continue;
            }
            self.by_path.insert(place, resource.clone());
            let (group, version) = (resource.group.clone(), resource.version.clone());
            self.serve(&group, &version).resources.push(resource);
        }
    }

    /// Serves a version of a group, whatever it has.
    pub(crate) fn serve(&mut self, group: &str, version: &str) -> &mut GroupVersion {
        let place = self.group_versions.iter().position(|gv| gv.group == group && gv.version == version);
        let place = place.unwrap_or_else(|| {
            let new = GroupVersion { group: group.into(), version: version.into(), resources: Vec::new() };
            // Next to its group, if that is there.
            let last = self.group_versions.iter().rposition(|gv| gv.group == group);
            let place = last.map_or(self.group_versions.len(), |last| last + 1);
            self.group_versions.insert(place, new);
            place
        });
        &mut self.group_versions[place]
    }

    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(&(group.into(), version.into(), plural.into()))
    }

    /// The resources that a revision of a definition declared.
    pub(crate) fn of_definition(&self, name: &str, revision: u64) -> Vec<Arc<Resource>> {
        let all = self.group_versions.iter().flat_map(|group_version| &group_version.resources);
        all.filter(|resource| {
            resource
                .custom
                .as_ref()
                .is_some_and(|custom| custom.definition == name && custom.revision == revision)
        })
        .cloned()
        .collect()
    }

    pub(crate) fn group_version(&self, group: &str, version: &str) -> Option<&GroupVersion> {
        self.group_versions.iter().find(|gv| gv.group == group && gv.version == version)
    }

    /// The versions of each group, in order of discovery.
    pub(crate) fn groups(&self) -> Vec<&[GroupVersion]> {
        self.group_versions.chunk_by(|a, b| a.group == b.group).collect()
    }
}

/// Collection and stored apiVersion. Two groups of events share one collection; the newest version is stored.
fn stored_as(group: &str, version: &str, plural: &str, verbs: Verbs) -> (SmolStr, SmolStr) {
    if !verbs.has("list") || plural == "componentstatuses" {
        return (SmolStr::default(), SmolStr::default());
    }
    match (group, plural) {
        ("events.k8s.io", "events") => ("/events".into(), "v1".into()),
        ("autoscaling", "horizontalpodautoscalers") => {
            ("autoscaling/horizontalpodautoscalers".into(), "autoscaling/v2".into())
        }
        _ => (format!("{group}/{plural}").into(), api_version(group, version).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        let registry = Registry::built_in();
        let rows = kind_names::RESOURCES.lines().filter(|line| !line.starts_with('#')).count();
        let read: usize = registry
            .group_versions
            .iter()
            .flat_map(|gv| &gv.resources)
            .map(|r| 1 + r.subresources.len())
            .sum();
        assert_eq!(read, rows);
        let deployments = registry.get("apps", "v1", "deployments").unwrap();
        assert_eq!(deployments.subresource("scale").unwrap().group_version, "autoscaling/v1");
        assert!(deployments.verbs.has("watch") && deployments.namespaced && deployments.has_status());
        assert_eq!(
            registry.get("events.k8s.io", "v1", "events").unwrap().collection,
            registry.get("", "v1", "events").unwrap().collection
        );
    }
}
