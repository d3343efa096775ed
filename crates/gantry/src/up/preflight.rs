//! What can be known to be wrong before anything is started: images without a local command, programs that are missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gantry_apimachinery::Value;
use gantry_apimachinery::structural::{self, Structural};
use gantry_node::command::{CommandError, Wanted, locate, resolve};

/// Every container of `objects` that this machine cannot run, all at once, each with the place of its image.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe(.0))]
pub(super) struct Unrunnable(Vec<Problem>);

#[derive(Debug)]
struct Problem {
    /// `file:line:col`, or the object where the place is not known.
    place: String,
    error: CommandError,
}

fn describe(problems: &[Problem]) -> String {
    let mut text = String::new();
    for (index, problem) in problems.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let _ = write!(text, "{}: {}", problem.place, problem.error);
    }
    text
}

/// Where a pod template lies in the kinds that have one.
const POD_TEMPLATES: [(&str, &[&str]); 8] = [
    ("Pod", &[]),
    ("Deployment", &["spec", "template"]),
    ("ReplicaSet", &["spec", "template"]),
    ("StatefulSet", &["spec", "template"]),
    ("DaemonSet", &["spec", "template"]),
    ("Job", &["spec", "template"]),
    ("ReplicationController", &["spec", "template"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template"]),
];

/// The rules of CustomResourceDefinitions that the server accepts and does not evaluate, so that nobody relies on them.
pub(super) fn rules_passed_over(objects: &[Value]) -> Vec<String> {
    let mut told = Vec::new();
    for object in objects.iter().filter(|object| object.str_at(&["kind"]) == Some("CustomResourceDefinition"))
    {
        let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
        let versions = object.at(&["spec", "versions"]).and_then(Value::as_array);
        let schemas = versions.into_iter().flatten().filter_map(|v| v.at(&["schema", "openAPIV3Schema"]));
        for schema in schemas.filter_map(|schema| Structural::parse(schema).ok()) {
            for (path, why) in structural::unsupported(&schema) {
                told.push(format!(
                    "CustomResourceDefinition/{name}: the validation rule of {path} is not evaluated: {why}"
                ));
            }
        }
    }
    told
}

/// `place_of` says where a value stood in its file.
pub(super) fn check(
    objects: &[Value],
    config: &gantry_node::Config,
    place_of: impl Fn(&Value) -> Option<String>,
) -> Result<(), Unrunnable> {
    let mut problems = Vec::new();
    for object in objects {
        let kind = object.str_at(&["kind"]).unwrap_or_default();
        let Some((_, path)) = POD_TEMPLATES.iter().find(|(name, _)| *name == kind) else { continue };
        let Some(template) = object.at(path) else { continue };
        let annotations = string_map(template.at(&["metadata", "annotations"]));
        for list in ["initContainers", "containers"] {
            let containers = template.at(&["spec", list]).and_then(Value::as_array);
            for container in containers.into_iter().flatten() {
                if let Err(error) = check_container(container, &annotations, config) {
                    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
                    let place = container.get("image").and_then(&place_of);
                    problems
                        .push(Problem { place: place.unwrap_or_else(|| format!("{kind}/{name}")), error });
                }
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Unrunnable(problems)) }
}

fn check_container(
    container: &Value,
    annotations: &BTreeMap<String, String>,
    config: &gantry_node::Config,
) -> Result<(), CommandError> {
    let name = container.str_at(&["name"]).unwrap_or_default();
    let (command, args) = (strings(container.get("command")), strings(container.get("args")));
    let image = container.str_at(&["image"]).unwrap_or_default();
    let wanted = Wanted { container: name, image, command: &command, args: &args, annotations };
    let words = resolve(wanted, config)?;
    if let Some(program) = words.first() {
        locate(program, name, config)?;
    }
    Ok(())
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flat_map(|map| map.iter());
    entries.filter_map(|(key, value)| Some((key.to_string(), value.as_str()?.to_owned()))).collect()
}
