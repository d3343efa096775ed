//! The order in which people expect fields, and lists whose order means nothing.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::styled::{Item, Value};

const ORDER: &str = include_str!("../../data/kustomize@5.8.1/field-order.tsv");

/// Says that an object is printed as it is.
const FORMATTING: &str = "config.kubernetes.io/formatting";
const KINDS: [&str; 7] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "ReplicaSet",
    "StatefulSet",
    "ValidatingWebhookConfiguration",
];
const VERSIONS: [&str; 8] = [
    "apps/v1",
    "apps/v1beta1",
    "apps/v1beta2",
    "batch/v1",
    "batch/v1beta1",
    "extensions/v1beta1",
    "v1",
    "admissionregistration.k8s.io/v1",
];
/// Lists by path, and the field by which their items are sorted; none for texts.
const LISTS: [(&str, &str); 2] =
    [(".spec.template.spec.containers", "name"), (".webhooks.rules.operations", "")];

/// Where a field stands among others; those without a place come after, by name.
pub(super) fn rank(field: &str) -> Option<usize> {
    static RANKS: OnceLock<HashMap<&str, usize>> = OnceLock::new();
    let ranks = RANKS.get_or_init(|| {
        let names = ORDER.lines().filter(|line| !line.starts_with('#'));
        names.enumerate().map(|(rank, name)| (name, rank)).collect()
    });
    ranks.get(field).copied()
}

/// A field's place as something to sort by.
pub(super) fn key(field: &str) -> (usize, String) {
    match rank(field) {
        Some(rank) => (rank, String::new()),
        None => (usize::MAX, field.to_owned()),
    }
}

/// Sorts an object. What has no kind or version is none, and stays.
pub(super) fn sort(item: &mut Item) {
    let (Some(kind), Some(version)) = (item.text_at(&["kind"]), item.text_at(&["apiVersion"])) else {
        return;
    };
    if item.text_at(&["metadata", "annotations", FORMATTING]) == Some("none") {
        return;
    }
    let has_lists = KINDS.contains(&kind) && VERSIONS.contains(&version);
    sort_at(item, "", has_lists);
}

fn sort_at(item: &mut Item, path: &str, has_lists: bool) {
    match &mut item.value {
        Value::Scalar(_) => {}
        Value::Sequence { items, .. } => {
            let by = LISTS.iter().find(|(list, _)| *list == path).filter(|_| has_lists);
            if let Some((_, field)) = by {
                let value = |item: &Item| {
                    let item = if field.is_empty() { Some(item) } else { item.get(field) };
                    item.and_then(Item::text).unwrap_or_default().to_owned()
                };
                items.sort_by_key(value);
            }
            items.iter_mut().for_each(|item| sort_at(item, path, has_lists));
        }
        Value::Mapping { entries, .. } => {
            entries.sort_by_cached_key(|(name, _)| key(name.text().unwrap_or_default()));
            for (name, value) in entries {
                let path = format!("{path}.{}", name.text().unwrap_or_default());
                sort_at(value, &path, has_lists);
            }
        }
    }
}
