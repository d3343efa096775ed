//! Who controls what: adopting objects that a selector matches and releasing those it no longer does.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ObjectMeta, Selector, SelectorExt};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::pods::controller_reference;

/// What an object is to a would-be controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is controlled already and still selected.
    Own,
    /// It is selected and controlled by nobody.
    Adopt,
    /// It is controlled but no longer selected.
    Release,
    /// It has nothing to do with the controller.
    Ignore,
}

/// A label selector that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    selector: Selector,
    empty: bool,
}

impl Labels {
    /// Reads a selector; a selector that cannot be understood selects nothing.
    pub(crate) fn of(selector: &LabelSelector) -> Labels {
        let empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
        match Selector::try_from(selector.clone()) {
            Ok(selector) => Labels { selector, empty },
            Err(_) => Labels::none(),
        }
    }

    /// Selects nothing.
    pub(crate) fn none() -> Labels {
        Labels { selector: Selector::default(), empty: true }
    }

    /// True when the selector has no requirement; such a selector matches nothing here.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    pub(crate) fn matches(&self, meta: &ObjectMeta) -> bool {
        match &meta.labels {
            _ if self.empty => false,
            Some(labels) => self.selector.matches(labels),
            None => self.selector.matches(&BTreeMap::new()),
        }
    }
}

/// Decides what `object` is to the controller with `owner`'s metadata.
pub(crate) fn claim(owner: &ObjectMeta, labels: &Labels, object: &ObjectMeta) -> Claim {
    let references = object.owner_references.as_deref().unwrap_or_default();
    let controller = references.iter().find(|reference| reference.controller == Some(true));
    let selected = labels.matches(object);
    match controller {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if selected => Claim::Own,
        Some(_) if owner.deletion_timestamp.is_some() => Claim::Own,
        Some(_) => Claim::Release,
        None if !selected || owner.deletion_timestamp.is_some() || object.deletion_timestamp.is_some() => {
            Claim::Ignore
        }
        None => Claim::Adopt,
    }
}

/// Makes `owner` the controller of `object`; fails when either is no longer the object meant.
pub(crate) async fn adopt<O, K>(api: &Api<K>, owner: &O, object: &K) -> Result<K, kube::Error>
where
    O: Resource<DynamicType = ()>,
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut references = object.meta().owner_references.clone().unwrap_or_default();
    references.push(controller_reference(owner));
    set_references(api, object, json!(references)).await
}

/// Takes the reference to `owner` off `object`.
pub(crate) async fn release<O, K>(api: &Api<K>, owner: &O, object: &K) -> Result<K, kube::Error>
where
    O: Resource<DynamicType = ()>,
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let references = object.meta().owner_references.clone().unwrap_or_default();
    let left: Vec<_> = references
        .into_iter()
        .filter(|reference| Some(&reference.uid) != owner.meta().uid.as_ref())
        .collect();
    set_references(api, object, json!(left)).await
}

async fn set_references<K>(api: &Api<K>, object: &K, references: serde_json::Value) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({ "metadata": {
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "ownerReferences": references,
    }});
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

    use super::*;

    fn object(label: &str, controller: Option<&str>) -> ObjectMeta {
        let reference = |uid: &str| OwnerReference {
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        ObjectMeta {
            labels: Some(BTreeMap::from([("app".to_owned(), label.to_owned())])),
            owner_references: controller.map(|uid| vec![reference(uid)]),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn claims() {
        let labels = Labels::of(&LabelSelector {
            match_labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
            match_expressions: None,
        });
        let owner = ObjectMeta { uid: Some("me".into()), ..ObjectMeta::default() };
        let dying = ObjectMeta { deletion_timestamp: Some(Time::default_epoch()), ..owner.clone() };
        for (owner, label, controller, expected) in [
            (&owner, "web", Some("me"), Claim::Own),
            (&owner, "web", None, Claim::Adopt),
            (&owner, "web", Some("other"), Claim::Ignore),
            (&owner, "db", Some("me"), Claim::Release),
            (&owner, "db", None, Claim::Ignore),
            (&dying, "web", None, Claim::Ignore),
            (&dying, "db", Some("me"), Claim::Own),
        ] {
            assert_eq!(claim(owner, &labels, &object(label, controller)), expected, "{label} {controller:?}");
        }
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        let labels = Labels::of(&LabelSelector::default());
        assert!(labels.is_empty());
        assert!(!labels.matches(&object("web", None)));
    }

    trait Epoch {
        fn default_epoch() -> Time;
    }

    impl Epoch for Time {
        fn default_epoch() -> Time {
            gantry_operator::time_from_ms(0)
        }
    }
}
