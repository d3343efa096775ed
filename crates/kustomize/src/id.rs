//! What identifies a resource: group, version, kind, name and effective namespace.

use std::collections::HashSet;
use std::fmt;
use std::sync::OnceLock;

use smol_str::SmolStr;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Gvk {
    pub(crate) group: SmolStr,
    pub(crate) version: SmolStr,
    pub(crate) kind: SmolStr,
}

/// A resource's identity. Equality is by effective namespace: `default` and none are the same.
#[derive(Clone, Debug)]
pub(crate) struct ResId {
    pub(crate) gvk: Gvk,
    pub(crate) name: SmolStr,
    pub(crate) namespace: SmolStr,
}

/// Stands for the namespace of a kind that has none.
pub(crate) const NO_NAMESPACE: &str = "_non_namespaceable_";

const CLUSTER_SCOPED: &str = include_str!("../data/kustomize@5.8.1/cluster-scoped.tsv");

impl Gvk {
    pub(crate) fn new(api_version: &str, kind: &str) -> Gvk {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Gvk { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// Unknown kinds count as namespaced.
    pub(crate) fn is_cluster_scoped(&self) -> bool {
        static KINDS: OnceLock<HashSet<(&str, &str, &str)>> = OnceLock::new();
        let kinds = KINDS.get_or_init(|| {
            let rows = CLUSTER_SCOPED.lines().filter(|line| !line.starts_with('#'));
            let columns = rows.filter_map(|row| row.split_once('\t'));
            columns
                .map(|(api_version, kind)| {
                    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                    (group, version, kind)
                })
                .collect()
        });
        kinds.contains(&(self.group.as_str(), self.version.as_str(), self.kind.as_str()))
    }

    /// Whether each part that the selector names is the same here.
    pub(crate) fn is_selected(&self, selector: &Gvk) -> bool {
        let same = |wanted: &SmolStr, own: &SmolStr| wanted.is_empty() || wanted == own;
        same(&selector.kind, &self.kind)
            && same(&selector.group, &self.group)
            && same(&selector.version, &self.version)
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or =
            |text: &SmolStr, none: &'static str| if text.is_empty() { none.into() } else { text.clone() };
        let (kind, version) = (or(&self.kind, "[noKind]"), or(&self.version, "[noVer]"));
        write!(f, "{kind}.{version}.{}", or(&self.group, "[noGrp]"))
    }
}

impl ResId {
    pub(crate) fn effective_namespace(&self) -> &str {
        if self.gvk.is_cluster_scoped() {
            NO_NAMESPACE
        } else if self.namespace.is_empty() {
            "default"
        } else {
            &self.namespace
        }
    }

    /// Kind, group, version and name, whatever the namespace.
    pub(crate) fn same_but_namespace(&self, other: &ResId) -> bool {
        self.name == other.name && self.gvk == other.gvk
    }
}

impl PartialEq for ResId {
    fn eq(&self, other: &ResId) -> bool {
        self.same_but_namespace(other) && self.effective_namespace() == other.effective_namespace()
    }
}

impl Eq for ResId {}

impl std::hash::Hash for ResId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.gvk.hash(state);
        self.name.hash(state);
        self.effective_namespace().hash(state);
    }
}

impl fmt::Display for ResId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "[noName]" } else { &self.name };
        let namespace = if self.namespace.is_empty() { "[noNs]" } else { &self.namespace };
        write!(f, "{}/{name}.{namespace}", self.gvk)
    }
}
