//! References from one namespace into another, and the ReferenceGrants that allow them.

use crate::kinds::ReferenceGrant;
use std::sync::Arc;

/// What refers to what.
pub(crate) struct Reference<'a> {
    pub(crate) from_group: &'a str,
    pub(crate) from_kind: &'a str,
    pub(crate) from_namespace: &'a str,
    pub(crate) to_group: &'a str,
    pub(crate) to_kind: &'a str,
    pub(crate) to_namespace: &'a str,
    pub(crate) to_name: &'a str,
}

impl Reference<'_> {
    /// Inside a namespace everything may be referred to; across, only what a grant of the other namespace names.
    pub(crate) fn is_allowed(&self, grants: &[Arc<ReferenceGrant>]) -> bool {
        if self.from_namespace == self.to_namespace {
            return true;
        }
        let in_namespace =
            grants.iter().filter(|grant| grant.metadata.namespace.as_deref() == Some(self.to_namespace));
        in_namespace.into_iter().any(|grant| {
            let is_from = grant.spec.from.iter().any(|from| {
                from.group == self.from_group
                    && from.kind == self.from_kind
                    && from.namespace == self.from_namespace
            });
            let is_to = grant.spec.to.iter().any(|to| {
                to.group == self.to_group
                    && to.kind == self.to_kind
                    && to.name.as_deref().is_none_or(|name| name.is_empty() || name == self.to_name)
            });
            is_from && is_to
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_grant_of_the_other_namespace_that_names_both_sides_allows() {
        let grant = |namespace: &str, from: &str, name: Option<&str>| -> Arc<ReferenceGrant> {
            Arc::new(
                serde_json::from_value(json!({
                    "metadata": {"name": "g", "namespace": namespace},
                    "spec": {
                        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": from}],
                        "to": [{"group": "", "kind": "Service", "name": name}],
                    },
                }))
                .unwrap(),
            )
        };
        let reference = Reference {
            from_group: "gateway.networking.k8s.io",
            from_kind: "HTTPRoute",
            from_namespace: "a",
            to_group: "",
            to_kind: "Service",
            to_namespace: "b",
            to_name: "web",
        };
        assert!(!reference.is_allowed(&[]));
        assert!(reference.is_allowed(&[grant("b", "a", None)]));
        assert!(reference.is_allowed(&[grant("b", "a", Some("web"))]));
        assert!(!reference.is_allowed(&[grant("b", "a", Some("api"))]));
        assert!(!reference.is_allowed(&[grant("a", "a", None)]));
        assert!(!reference.is_allowed(&[grant("b", "c", None)]));
        assert!(Reference { to_namespace: "a", ..reference }.is_allowed(&[]));
    }
}
