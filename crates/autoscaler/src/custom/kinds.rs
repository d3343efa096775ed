//! The kinds of the cluster, found by the many names that rules and requests call them by.

use gantry_operator::ServedKind;

/// A group and a plural; the identity of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupResource {
    pub(crate) group: String,
    pub(crate) resource: String,
}

impl GroupResource {
    pub(crate) fn core(resource: &str) -> GroupResource {
        GroupResource { group: String::new(), resource: resource.into() }
    }

    /// `deployments.apps` or `pods`.
    pub(crate) fn parse(text: &str) -> GroupResource {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        GroupResource { group: group.into(), resource: resource.into() }
    }

    pub(crate) fn is_namespaces(&self) -> bool {
        self.group.is_empty() && self.resource == "namespaces"
    }
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group.as_str() {
            "" => f.write_str(&self.resource),
            group => write!(f, "{}.{group}", self.resource),
        }
    }
}

/// What a cluster serves, each kind in its group's preferred version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds(Vec<ServedKind>);

impl Kinds {
    pub(crate) fn new(served: Vec<ServedKind>) -> Kinds {
        Kinds(served.into_iter().filter(|kind| kind.preferred).collect())
    }

    /// The kind that is called `resource`, plural or singular. Without a group the first that has it; a group may be
    /// given by its beginning.
    pub(crate) fn find(&self, group: &str, resource: &str) -> Option<&ServedKind> {
        let named = |kind: &&ServedKind| kind.resource.plural == resource || singular(kind) == resource;
        if group.is_empty() {
            return self.0.iter().find(named);
        }
        let exact = self.0.iter().filter(named).find(|kind| kind.resource.group == group);
        exact.or_else(|| self.0.iter().filter(named).find(|kind| kind.resource.group.starts_with(group)))
    }

    /// The resource by its one right name.
    pub(crate) fn normalised(&self, given: &GroupResource) -> Option<GroupResource> {
        self.find(&given.group, &given.resource).map(identity)
    }

    pub(crate) fn of(&self, resource: &GroupResource) -> Option<&ServedKind> {
        self.0
            .iter()
            .find(|kind| kind.resource.group == resource.group && kind.resource.plural == resource.resource)
    }

    pub(crate) fn by_kind(&self, group: &str, kind: &str) -> Option<&ServedKind> {
        self.0.iter().find(|served| served.resource.group == group && served.resource.kind == kind)
    }

    pub(crate) fn singular(&self, resource: &GroupResource) -> Option<String> {
        self.of(resource).map(singular)
    }
}

pub(crate) fn identity(kind: &ServedKind) -> GroupResource {
    GroupResource { group: kind.resource.group.clone(), resource: kind.resource.plural.clone() }
}

fn singular(kind: &ServedKind) -> String {
    match kind.singular.as_str() {
        "" => kind.resource.kind.to_lowercase(),
        singular => singular.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kube::api::ApiResource;

    /// A few of a cluster's kinds.
    pub(crate) fn kinds() -> Kinds {
        let kind = |group: &str, kind: &str, plural: &str, namespaced| ServedKind {
            resource: ApiResource {
                group: group.into(),
                version: "v1".into(),
                api_version: if group.is_empty() { "v1".into() } else { format!("{group}/v1") },
                kind: kind.into(),
                plural: plural.into(),
            },
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
            namespaced,
            preferred: true,
            verbs: Vec::new(),
        };
        Kinds::new(vec![
            kind("", "Namespace", "namespaces", false),
            kind("", "Node", "nodes", false),
            kind("", "Pod", "pods", true),
            kind("", "Service", "services", true),
            kind("apps", "Deployment", "deployments", true),
            kind("networking.k8s.io", "Ingress", "ingresses", true),
            kind("metrics.k8s.io", "PodMetrics", "pods", true),
        ])
    }

    #[test]
    fn many_names_are_one_resource() {
        let kinds = kinds();
        let find = |group: &str, name: &str| {
            kinds
                .normalised(&GroupResource { group: group.into(), resource: name.into() })
                .map(|r| r.to_string())
        };
        assert_eq!(find("", "pod").as_deref(), Some("pods"));
        assert_eq!(find("", "deployment").as_deref(), Some("deployments.apps"));
        assert_eq!(find("networking", "ingress").as_deref(), Some("ingresses.networking.k8s.io"));
        assert_eq!(find("", "job"), None);
        assert_eq!(GroupResource::parse("ingresses.networking.k8s.io").group, "networking.k8s.io");
    }
}
