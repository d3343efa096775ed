//! What the server was last given, and making it what the files say now: one way for the start and for every change.
//!
//! Invariant: an object that the server took is remembered (also on disk, for pruning) even when a later one is refused,
//! and one whose write failed is forgotten, so that the next change writes it again.

use std::collections::{HashMap, HashSet};

use gantry_apimachinery::difference::differences;
use gantry_apimachinery::{Kind, Value};
use gantry_operator::apply::{Applier, ApplyError, Change, ObjectRef};
use gantry_operator::explain;
use gantry_workloads::health::Workload;
use serde::Serialize;

use super::Error;
use super::state::StateDir;

/// More differing fields of an object than these are only counted.
const FIELDS_SHOWN: usize = 4;
const MOST_VALUE_CHARS: usize = 40;
const FIELD_MANAGER: &str = "gantry-up";

/// Objects by the name that the files give them.
#[derive(Default)]
pub(super) struct Applied {
    objects: HashMap<ObjectRef, Taken>,
}

struct Taken {
    /// What the server calls it: with the namespace filled in, or without one where the kind has none.
    id: ObjectRef,
    object: Value,
}

/// What changed in one object.
#[derive(Serialize)]
pub(super) struct Changed {
    #[serde(rename = "object")]
    pub id: ObjectRef,
    pub change: Change,
    /// `path: old → new`, the first few.
    pub fields: Vec<String>,
}

// === impl Applied ===

impl Applied {
    /// Writes the objects that differ from what the server was given or are gone from it, and removes those that are
    /// gone from the files. What was changed is in `changed` even when a later object is refused. `place_of` says where a
    /// value stood in its file, for the refusal.
    pub(super) async fn update(
        &mut self,
        client: kube::Client,
        state_dir: &StateDir,
        objects: &[Value],
        place_of: impl Fn(&Value) -> Option<String>,
        changed: &mut Vec<Changed>,
    ) -> Result<(), Error> {
        let previous: Vec<ObjectRef> = state_dir.read_applied()?;
        let mut applier = Applier::new(client, FIELD_MANAGER);
        let mut current = Vec::with_capacity(objects.len());
        match self.write(&mut applier, objects, &place_of, &previous, &mut current, changed).await {
            Ok(()) => Ok(state_dir.write_applied(&current)?),
            Err(error) => {
                // What was taken before the refusal must still be found when it is to be removed.
                let kept = previous.into_iter().filter(|id| !current.contains(id));
                let all: Vec<ObjectRef> = kept.chain(current.iter().cloned()).collect();
                state_dir.write_applied(&all)?;
                Err(error)
            }
        }
    }

    /// Whether the workload is one of the objects of the files.
    pub(super) fn holds(&self, workload: &Workload) -> bool {
        self.objects.values().any(|Taken { id, .. }| {
            id.kind == workload.kind
                && id.name == workload.name
                && id.namespace.as_deref() == Some(workload.namespace.as_str())
        })
    }

    async fn write(
        &mut self,
        applier: &mut Applier,
        objects: &[Value],
        place_of: &impl Fn(&Value) -> Option<String>,
        previous: &[ObjectRef],
        current: &mut Vec<ObjectRef>,
        changed: &mut Vec<Changed>,
    ) -> Result<(), Error> {
        let mut named = HashSet::with_capacity(objects.len());
        for (index, object) in objects.iter().enumerate() {
            let name = ObjectRef::of(object, index)?;
            let last = self.objects.remove(&name);
            if let Some(taken) = last.as_ref().filter(|taken| taken.object == *object)
                && applier.exists(&taken.id).await?
            {
                current.push(taken.id.clone());
            } else {
                let (id, change) = match applier.apply(object, index).await {
                    Ok(taken) => taken,
                    Err(error) => return Err(placed(error, object, place_of)),
                };
                current.push(id.clone());
                if change != Change::Unchanged {
                    let fields =
                        last.as_ref().map(|last| changed_fields(&last.object, object)).unwrap_or_default();
                    changed.push(Changed { id, change, fields });
                }
            }
            let id = current.last().expect("pushed above").clone();
            self.objects.insert(name.clone(), Taken { id, object: object.clone() });
            named.insert(name);
        }
        for id in applier.prune(previous, current).await? {
            changed.push(Changed { id, change: Change::Pruned, fields: Vec::new() });
        }
        self.objects.retain(|name, _| named.contains(name));
        Ok(())
    }
}

// === impl Changed ===

impl Changed {
    /// One line, and one more for each field.
    pub(super) fn in_words(&self) -> String {
        let word = match self.change {
            Change::Created => "created",
            Change::Configured => "configured",
            Change::Unchanged => "unchanged",
            Change::Pruned => "pruned",
        };
        let mut text = format!("{} {word}", self.id);
        for field in &self.fields {
            text.push_str("\n      ");
            text.push_str(field);
        }
        text
    }
}

/// The refusal with the place of the field it is about, or of the object.
fn placed(error: ApplyError, object: &Value, place_of: impl Fn(&Value) -> Option<String>) -> Error {
    let text = explain(&error);
    let found = named_fields(object, &text);
    // A value that a transformer wrote stands in no file; what is around it may.
    let around = [Some(object), object.get("kind")].into_iter().flatten();
    match found.iter().rev().copied().chain(around).find_map(place_of) {
        Some(place) => format!("{place}: {text}").into(),
        None => error.into(),
    }
}

/// The values from the outside in to the field whose path is in the text (`spec.ports[0].port`, also behind the name of a
/// type and with a last step that the object does not have); of several paths the one that leads deepest.
fn named_fields<'a>(object: &'a Value, text: &str) -> Vec<&'a Value> {
    let mut deepest = Vec::new();
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | ':' | ',' | '`'));
    for word in words.filter(|word| word.contains('.')) {
        let steps: Vec<&str> = word.split(['.', '[', ']']).filter(|step| !step.is_empty()).collect();
        for start in 0..steps.len().min(2) {
            let mut value = object;
            let mut found = Vec::new();
            for step in &steps[start..] {
                let next = match &value.kind {
                    Kind::Object(map) => map.get(step),
                    Kind::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                    _ => None,
                };
                let Some(next) = next else { break };
                found.push(next);
                value = next;
            }
            if found.len() > deepest.len() {
                deepest = found;
            }
        }
    }
    deepest
}

/// `1 created, 2 configured, 7 unchanged`, of `total` objects.
pub(super) fn count(changed: &[Changed], total: usize) -> String {
    let of = |change: Change| changed.iter().filter(|object| object.change == change).count();
    let (created, configured, pruned) = (of(Change::Created), of(Change::Configured), of(Change::Pruned));
    let unchanged = total.saturating_sub(created + configured);
    let mut text = format!("{created} created, {configured} configured, {unchanged} unchanged");
    if pruned > 0 {
        text.push_str(&format!(", {pruned} pruned"));
    }
    text
}

/// The first few fields that differ.
fn changed_fields(old: &Value, new: &Value) -> Vec<String> {
    let kind = new.str_at(&["kind"]).unwrap_or_default();
    let found = differences(old, new);
    let mut told: Vec<String> =
        found.iter().take(FIELDS_SHOWN).map(|field| field.in_words(kind, MOST_VALUE_CHARS)).collect();
    if found.len() > FIELDS_SHOWN {
        told.push(format!("and {} more", found.len() - FIELDS_SHOWN));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn many_differences_are_counted() {
        let old = json(r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}"#);
        let new = json(r#"{"a":2,"b":2,"c":2,"d":2,"e":2,"f":2}"#);
        let told = changed_fields(&old, &new);
        assert_eq!(told.len(), FIELDS_SHOWN + 1);
        assert_eq!((told[0].as_str(), told[FIELDS_SHOWN].as_str()), ("a: 1 → 2", "and 2 more"));
    }

    #[test]
    fn what_a_secret_holds_is_not_told() {
        let old = json(r#"{"kind":"Secret","data":{"key":"aHVudGVyMg=="}}"#);
        let new = json(r#"{"kind":"Secret","data":{"key":"b3RoZXI="}}"#);
        assert_eq!(changed_fields(&old, &new), ["data.key: (…) → (…)"]);
    }

    #[test]
    fn a_refusal_leads_to_the_field_it_names() {
        let object = json(
            r#"{"kind":"Service","metadata":{"name":"a.b"},"spec":{"replicas":"two","ports":[{"port":1},{"port":2}]}}"#,
        );
        let led_to = |text: &str| named_fields(&object, text).last().copied().cloned();
        let ports = |index: usize| object.at(&["spec", "ports"]).unwrap().as_array().unwrap()[index].clone();
        assert_eq!(
            led_to("Service/a.b in x: spec.ports[1].port: Invalid value: 0"),
            ports(1).get("port").cloned()
        );
        assert_eq!(led_to("strict decoding error: unknown field \"spec.ports[0].prt\""), Some(ports(0)));
        let unmarshal =
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
        assert_eq!(led_to(unmarshal), object.at(&["spec", "replicas"]).cloned());
        assert_eq!(led_to("namespaces \"nowhere\" not found"), None);
    }
}
