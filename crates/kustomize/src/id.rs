//! What identifies a resource: group, version, kind, name and effective namespace.

use std::collections::HashSet;
use std::fmt;
use std::sync::OnceLock;

use smol_str::SmolStr;

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Gvk {
    pub group: SmolStr,
    pub version: SmolStr,
    pub kind: SmolStr,
}

/// A resource's identity. Equality is by effective namespace: `default` and none are the same.
#[derive(Clone, Debug, Default)]
pub struct ResId {
    pub gvk: Gvk,
    pub name: SmolStr,
    pub namespace: SmolStr,
}

/// Stands for the namespace of a kind that has none.
pub const NO_NAMESPACE: &str = "_non_namespaceable_";

/// What stands in a text for a part that is not there.
const NO_KIND: &str = "[noKind]";
const NO_VERSION: &str = "[noVer]";
const NO_GROUP: &str = "[noGrp]";
const NO_NAME: &str = "[noName]";
const NO_NS: &str = "[noNs]";

const CLUSTER_SCOPED: &str = include_str!("../data/kustomize@5.8.1/cluster-scoped.tsv");

impl Gvk {
    /// `api_version` is `group/version`, or a version of the core group.
    pub fn new(api_version: &str, kind: &str) -> Gvk {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Gvk { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The parts that are there, joined by `_`, group first.
    pub fn joined(&self) -> String {
        let parts = [&self.group, &self.version, &self.kind];
        let present: Vec<&str> =
            parts.into_iter().map(SmolStr::as_str).filter(|part| !part.is_empty()).collect();
        present.join("_")
    }

    /// What `kind.version.group` means; the opposite of [`Gvk`]'s text.
    fn parse(text: &str) -> Gvk {
        let mut parts = text.splitn(3, '.');
        let mut part = |none: &str| match parts.next() {
            Some(text) if text != none => SmolStr::new(text),
            _ => SmolStr::default(),
        };
        let (kind, version, group) = (part(NO_KIND), part(NO_VERSION), part(NO_GROUP));
        Gvk { group, version, kind }
    }

    /// Unknown kinds count as namespaced.
    pub fn is_cluster_scoped(&self) -> bool {
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
    pub fn is_selected(&self, selector: &Gvk) -> bool {
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
        let (kind, version) = (or(&self.kind, NO_KIND), or(&self.version, NO_VERSION));
        write!(f, "{kind}.{version}.{}", or(&self.group, NO_GROUP))
    }
}

impl ResId {
    /// `default` for none; [`NO_NAMESPACE`] where the kind has none.
    pub fn effective_namespace(&self) -> &str {
        if self.gvk.is_cluster_scoped() {
            NO_NAMESPACE
        } else if self.namespace.is_empty() {
            "default"
        } else {
            &self.namespace
        }
    }

    /// Kind, group, version and name, whatever the namespace.
    pub fn same_but_namespace(&self, other: &ResId) -> bool {
        self.name == other.name && self.gvk == other.gvk
    }

    /// Whether each part that the selector names is the same here.
    pub fn is_selected_by(&self, selector: &ResId) -> bool {
        // A namespace is asked for by how this kind would have it.
        let asked = ResId { gvk: self.gvk.clone(), ..selector.clone() };
        (selector.name.is_empty() || selector.name == self.name)
            && (selector.namespace.is_empty() || asked.effective_namespace() == self.effective_namespace())
            && self.gvk.is_selected(&selector.gvk)
    }

    /// What `kind.version.group/name.namespace` means; `None` for a text of another form.
    pub fn parse(text: &str) -> Option<ResId> {
        let (gvk, rest) = text.split_once('/')?;
        let (name, namespace) = rest.rsplit_once('.')?;
        let or = |text: &str, none: &str| if text == none { SmolStr::default() } else { text.into() };
        Some(ResId { gvk: Gvk::parse(gvk), name: or(name, NO_NAME), namespace: or(namespace, NO_NS) })
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
        let name = if self.name.is_empty() { NO_NAME } else { &self.name };
        let namespace = if self.namespace.is_empty() { NO_NS } else { &self.namespace };
        write!(f, "{}/{name}.{namespace}", self.gvk)
    }
}
