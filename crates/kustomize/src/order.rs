//! The order of the output: as read, or by kind.

use std::cmp::Ordering;

use crate::id::{Gvk, ResId};
use crate::resource::Resource;

/// Kinds that come first in the legacy order, in this order.
const FIRST: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
/// Kinds that come last in the legacy order.
const LAST: &[&str] = &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Sorts by kind rank, then by kind, then by identity. The lists replace the default ones.
pub(crate) fn legacy(resources: &mut [Resource], lists: Option<(&[String], &[String])>) {
    let rank = |kind: &str| -> i64 {
        let Some((first, last)) = lists else { return default_rank(kind) };
        let place = |list: &[String]| list.iter().position(|name| name == kind).map(|place| place as i64);
        match (place(last), place(first)) {
            (Some(last), _) => last + 1,
            (None, Some(at)) => at - first.len() as i64,
            (None, None) => 0,
        }
    };
    resources.sort_by_cached_key(|resource| {
        let id = resource.current_id();
        Key::new(&id, rank(&id.gvk.kind))
    });
}

/// Whether a kind comes before another.
pub(crate) fn is_before(one: &Gvk, other: &Gvk) -> bool {
    let key = |gvk: &Gvk| {
        let id = ResId { gvk: gvk.clone(), ..ResId::default() };
        Key::new(&id, default_rank(&gvk.kind))
    };
    key(one) < key(other)
}

fn default_rank(kind: &str) -> i64 {
    let place = |list: &[&str]| list.iter().position(|name| *name == kind).map(|place| place as i64);
    match (place(LAST), place(FIRST)) {
        (Some(last), _) => last + 1,
        (None, Some(first)) => first - FIRST.len() as i64,
        (None, None) => 0,
    }
}

#[derive(PartialEq, Eq)]
struct Key {
    rank: i64,
    /// A kind that others call Namespace too comes after the core one.
    own_group: bool,
    kind: String,
    identity: String,
}

impl Key {
    fn new(id: &ResId, rank: i64) -> Key {
        let own_group = id.gvk.kind == "Namespace" && !id.gvk.group.is_empty();
        Key { rank, own_group, kind: kind_text(id), identity: identity_text(id) }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        let key = |key: &Key| (key.rank, key.own_group);
        key(self)
            .cmp(&key(other))
            .then_with(|| self.kind.cmp(&other.kind))
            .then_with(|| self.identity.cmp(&other.identity))
    }
}

fn or<'a>(text: &'a str, none: &'a str) -> &'a str {
    if text.is_empty() { none } else { text }
}

fn kind_text(id: &ResId) -> String {
    format!("{}_{}_{}", or(&id.gvk.group, "~G"), or(&id.gvk.version, "~V"), or(&id.gvk.kind, "~K"))
}

/// The text by which equal kinds are ordered: kind again, then namespace and name with placeholders.
fn identity_text(id: &ResId) -> String {
    format!("{}|{}|{}", kind_text(id), or(&id.namespace, "~X"), or(&id.name, "~N"))
}
