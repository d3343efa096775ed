//! What the garbage collector does about one object, given what became of its owners.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;

pub(crate) const ORPHAN: &str = "orphan";
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// The state of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It exists.
    Solid,
    /// It does not exist any more.
    Absent,
    /// It is being deleted and waits for this object to go first.
    Waiting,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    Keep,
    /// Take these references off, because other owners remain.
    KeepOnly(Vec<OwnerReference>),
    Delete {
        foreground: bool,
        orphan: bool,
    },
}

/// Decides about a live object. `owners` are the states of its owner references, in their order.
pub(crate) fn decide(meta: &ObjectMeta, owners: &[Owner], has_dependents: bool) -> Decision {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    if references.is_empty() || meta.deletion_timestamp.is_some() {
        return Decision::Keep;
    }
    let solid: Vec<OwnerReference> = references
        .iter()
        .zip(owners)
        .filter(|(_, owner)| **owner == Owner::Solid)
        .map(|(reference, _)| reference.clone())
        .collect();
    if solid.len() == references.len() {
        return Decision::Keep;
    }
    if !solid.is_empty() {
        return Decision::KeepOnly(solid);
    }
    let waited_for = owners.contains(&Owner::Waiting);
    let foreground = (waited_for && has_dependents) || has_finalizer(meta, FOREGROUND);
    Decision::Delete { foreground, orphan: !foreground && has_finalizer(meta, ORPHAN) }
}

pub(crate) fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.as_deref().unwrap_or_default().iter().any(|finalizer| finalizer == name)
}

/// True when `owner` waits for objects that refer to it with `reference`.
pub(crate) fn waits_for(owner: &ObjectMeta, reference: &OwnerReference) -> bool {
    owner.deletion_timestamp.is_some()
        && has_finalizer(owner, FOREGROUND)
        && reference.block_owner_deletion == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(owners: &[&str], finalizers: &[&str]) -> ObjectMeta {
        let reference = |uid: &&str| OwnerReference { uid: (*uid).to_owned(), ..OwnerReference::default() };
        ObjectMeta {
            owner_references: Some(owners.iter().map(reference).collect()),
            finalizers: Some(finalizers.iter().map(|name| (*name).to_owned()).collect()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn decisions() {
        use Owner::{Absent, Solid, Waiting};
        let background = Decision::Delete { foreground: false, orphan: false };
        let foreground = Decision::Delete { foreground: true, orphan: false };
        let orphan = Decision::Delete { foreground: false, orphan: true };
        for (uids, finalizers, owners, has_dependents, expected) in [
            (vec![], vec![], vec![], false, Decision::Keep),
            (vec!["a"], vec![], vec![Solid], false, Decision::Keep),
            (vec!["a"], vec![], vec![Absent], false, background.clone()),
            (vec!["a"], vec![], vec![Waiting], false, background.clone()),
            (vec!["a"], vec![], vec![Waiting], true, foreground.clone()),
            (vec!["a"], vec![FOREGROUND], vec![Absent], false, foreground),
            (vec!["a"], vec![ORPHAN], vec![Absent], false, orphan),
            (vec!["a", "b"], vec![], vec![Absent, Waiting], false, background),
        ] {
            assert_eq!(
                decide(&object(&uids, &finalizers), &owners, has_dependents),
                expected,
                "{uids:?} {owners:?}"
            );
        }
        let mixed = object(&["a", "b"], &[]);
        let kept = mixed.owner_references.clone().unwrap_or_default().split_off(1);
        assert_eq!(decide(&mixed, &[Absent, Solid], true), Decision::KeepOnly(kept));
        let dying = ObjectMeta { deletion_timestamp: Some(gantry_operator::time_from_ms(0)), ..mixed };
        assert_eq!(decide(&dying, &[Absent, Absent], true), Decision::Keep);
    }
}
