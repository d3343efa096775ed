//! The cluster as the old side: each object as it is there, and as applying it would leave it.

use std::collections::HashSet;

use gantry_apimachinery::Value;
use gantry_operator::apply::{Applier, ApplyError, LAST_APPLIED};
use gantry_operator::{Rule, explain};
use kube::Client;

use crate::objects::Objects;
use crate::report::Report;

/// What the server keeps for itself.
const SERVER_FIELDS: [&str; 5] =
    ["managedFields", "generation", "resourceVersion", "uid", "creationTimestamp"];

/// Compares each object with what applying it would make, which the server is asked without writing anything.
pub async fn compare(
    client: Client,
    objects: &Objects,
    rule: Rule,
    field_manager: &str,
) -> Result<Report, String> {
    let mut applier = Applier::new(client, field_manager);
    let mut report = Report::default();
    let defined = defined_kinds(objects);
    for (index, object) in objects.objects.iter().enumerate() {
        let object = &object.value;
        match applier.preview(object, index, rule).await {
            Ok(preview) => {
                let live = preview.live.map(without_server_fields);
                let merged = without_server_fields(preview.merged);
                report.compare(live.as_ref(), Some(&merged), objects.place(object));
            }
            // Its definition comes with the same files.
            Err(ApplyError::UnknownKind { object: id, .. })
                if defined.contains(&(group_of(&id.api_version).to_owned(), id.kind.clone())) =>
            {
                report.compare(None, Some(object), objects.place(object));
            }
            Err(error) => {
                let at = objects.place(object).map_or(String::new(), |at| format!("\n  at {at}"));
                return Err(format!("{}{at}", explain(&error)));
            }
        }
    }
    Ok(report)
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Group and kind of every definition among the objects.
fn defined_kinds(objects: &Objects) -> HashSet<(String, String)> {
    let definitions = objects.objects.iter().map(|object| &object.value);
    definitions
        .filter(|object| object.str_at(&["kind"]) == Some("CustomResourceDefinition"))
        .filter_map(|object| {
            let text = |path: &[&str]| object.str_at(path).map(str::to_owned);
            Some((text(&["spec", "group"])?, text(&["spec", "names", "kind"])?))
        })
        .collect()
}

fn without_server_fields(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !SERVER_FIELDS.contains(&key.as_str()));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}
