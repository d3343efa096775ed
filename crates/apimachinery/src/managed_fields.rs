//! Who owns which field of an object: `metadata.managedFields` through writes and applies, as server-side apply keeps it.
//!
//! Invariant: a manager without fields is not kept; a field that a write changed belongs to the writer alone.

use smol_str::SmolStr;

use crate::fields::{self, Comparison, FieldSet, Node, compare, set_of};
use crate::value::{Map, Value};

/// Managers by update are told apart up to this many; then the oldest become one.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The manager that the oldest managers by update become.
const ANCIENT: &str = "ancient-changes";
/// The manager of what an object had before anyone applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What the server itself keeps, which has no owner.
const UNOWNED: [&[&str]; 13] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:clusterName"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
    &["f:metadata", "f:deletionGracePeriodSeconds"],
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Apply,
    Update,
}

/// Who writes, and through what.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager {
    pub name: SmolStr,
    pub operation: Operation,
    /// In which the fields are named.
    pub api_version: SmolStr,
    /// `status`, `scale`; empty for the object itself.
    pub subresource: SmolStr,
}

impl Manager {
    /// An applier is the same whatever version it applies in.
    fn is(&self, other: &Manager) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    manager: Manager,
    /// RFC 3339; absent where the entry came without.
    time: Option<SmolStr>,
    fields: FieldSet,
}

/// The owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManagedFields {
    entries: Vec<Entry>,
}

/// A field that another manager has with another value.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub manager: Manager,
    pub time: Option<SmolStr>,
    pub path: String,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ApplyError {
    #[error("{0}")]
    Shape(#[from] fields::Error),
    #[error("the configuration conflicts with other managers")]
    Conflicts(Vec<Conflict>),
}

/// What applying does, and to which fields.
pub struct Apply<'a> {
    pub live: &'a Value,
    pub config: &'a Value,
    pub node: Node<'a>,
    pub manager: Manager,
    pub now: SmolStr,
    pub force: bool,
    /// Leaves of a set the fields that this kind of write may own.
    pub writable: &'a dyn Fn(FieldSet) -> FieldSet,
}

impl ManagedFields {
    /// Reads `metadata.managedFields`; `None` if it is not what this server or Kubernetes would have written.
    pub fn from_value(value: Option<&Value>) -> Option<ManagedFields> {
        let mut entries = Vec::new();
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return Some(ManagedFields::default());
        };
        for entry in value.as_array()? {
            let text = |field: &str| SmolStr::new(entry.str_at(&[field]).unwrap_or_default());
            let operation = match entry.str_at(&["operation"]) {
                Some("Apply") => Operation::Apply,
                Some("Update") => Operation::Update,
                _ => return None,
            };
            if !matches!(entry.str_at(&["fieldsType"]), Some("FieldsV1")) {
                return None;
            }
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return None;
            }
            let fields = match entry.get("fieldsV1").filter(|fields| !fields.is_null()) {
                Some(fields) => FieldSet::from_value(fields).ok()?,
                None => FieldSet::default(),
            };
            entries.push(Entry {
                manager: Manager {
                    name: text("manager"),
                    operation,
                    api_version,
                    subresource: text("subresource"),
                },
                time: entry.str_at(&["time"]).map(SmolStr::new),
                fields,
            });
        }
        Some(ManagedFields { entries })
    }

    /// The value of `metadata.managedFields`; `None` when nothing is owned. Appliers come first, then by age.
    pub fn to_value(&self) -> Option<Value> {
        if self.entries.is_empty() {
            return None;
        }
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| {
            (
                a.manager.operation as u8,
                &a.time,
                &a.manager.name,
                &a.manager.api_version,
                &a.manager.subresource,
            )
                .cmp(&(
                    b.manager.operation as u8,
                    &b.time,
                    &b.manager.name,
                    &b.manager.api_version,
                    &b.manager.subresource,
                ))
        });
        let value = |entry: &Entry| {
            let mut map = Map::with_capacity(7);
            map.insert("manager", entry.manager.name.as_str());
            map.insert(
                "operation",
                match entry.manager.operation {
                    Operation::Apply => "Apply",
                    Operation::Update => "Update",
                },
            );
            map.insert("apiVersion", entry.manager.api_version.as_str());
            if let Some(time) = &entry.time {
                map.insert("time", time.as_str());
            }
            map.insert("fieldsType", "FieldsV1");
            map.insert("fieldsV1", entry.fields.to_value());
            if !entry.manager.subresource.is_empty() {
                map.insert("subresource", entry.manager.subresource.as_str());
            }
            Value::from(map)
        };
        Some(entries.into_iter().map(value).collect::<Vec<_>>().into())
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A write that is no apply: what it changed is the writer's, and nobody else's any more.
    pub fn update(&mut self, comparison: Comparison, manager: Manager, now: Option<SmolStr>) {
        let changed = strip(comparison.changed());
        let removed = comparison.removed;
        self.take_away(&changed.union(&removed), None);
        if changed.is_empty() {
            return;
        }
        match self.entries.iter_mut().find(|entry| entry.manager.is(&manager)) {
            Some(entry) => {
                entry.fields = entry.fields.union(&changed);
                entry.time = now;
            }
            None => self.entries.push(Entry { manager, time: now, fields: changed }),
        }
        self.join_ancient();
    }

    fn take_away(&mut self, fields: &FieldSet, keep: Option<&Manager>) {
        for entry in &mut self.entries {
            if keep.is_none_or(|keep| !entry.manager.is(keep)) {
                entry.fields = entry.fields.difference(fields);
            }
        }
        self.entries.retain(|entry| !entry.fields.is_empty());
    }

    fn join_ancient(&mut self) {
        let is_counted = |entry: &Entry| entry.manager.operation == Operation::Update;
        let mut updates: Vec<Entry> = Vec::new();
        if self.entries.iter().filter(|entry| is_counted(entry)).count() <= MAX_UPDATE_MANAGERS {
            return;
        }
        let (mut counted, others): (Vec<Entry>, Vec<Entry>) = self.entries.drain(..).partition(is_counted);
        counted.sort_by(|a, b| (&a.time, &a.manager.name).cmp(&(&b.time, &b.manager.name)));
        let mut left = counted.len();
        for entry in counted {
            if left < MAX_UPDATE_MANAGERS {
                updates.push(entry);
                continue;
            }
            let ancient = Manager { name: ANCIENT.into(), subresource: "".into(), ..entry.manager.clone() };
            match updates.iter_mut().find(|known| known.manager.is(&ancient)) {
                Some(known) => {
                    known.fields = known.fields.union(&entry.fields);
                    known.time = entry.time;
                    left -= 1;
                }
                None => updates.push(Entry { manager: ancient, ..entry }),
            }
        }
        self.entries = others;
        self.entries.extend(updates);
    }

    /// Applies a configuration: the object it makes, with this set of owners changed to what it then is.
    pub fn apply(&mut self, apply: &Apply<'_>) -> Result<Value, ApplyError> {
        let Apply { live, config, node, manager, .. } = apply;
        if self.entries.is_empty() && live.as_object().is_some_and(|map| !map.is_empty()) {
            let all = compare(&Value::object(), live, *node).map(apply.writable);
            let before =
                Manager { name: BEFORE_FIRST_APPLY.into(), operation: Operation::Update, ..manager.clone() };
            self.update(all, before, Some(apply.now.clone()));
        }
        // With the name that the configuration gives, so that pruning leaves the object its metadata.
        let named = (apply.writable)(set_of(config, *node)?);
        let wanted = strip(named.clone());
        let merged = fields::merge(live, config, *node)?;
        let last =
            self.entries.iter().find(|entry| entry.manager.is(manager)).map(|entry| entry.fields.clone());
        let mut owners = self.clone();
        owners.entries.retain(|entry| !entry.manager.is(manager));
        let last_entry = self.entries.iter().find(|entry| entry.manager.is(manager)).cloned();
        let object = match &last {
            Some(last) if !last.is_empty() => owners.prune(merged, last, &named, *node)?,
            _ => merged,
        };
        let comparison = compare(live, &object, *node).map(apply.writable);
        let changed = comparison.changed();
        let conflicts = owners.conflicts(&changed);
        if !conflicts.is_empty() && !apply.force {
            return Err(ApplyError::Conflicts(conflicts));
        }
        owners.take_away(&changed.union(&comparison.removed), None);
        if !wanted.is_empty() {
            let same_object = changed.is_empty() && comparison.removed.is_empty();
            let same = last_entry.filter(|last| {
                same_object && last.fields == wanted && last.manager.api_version == manager.api_version
            });
            owners.entries.push(Entry {
                manager: manager.clone(),
                time: same.and_then(|last| last.time).or(Some(apply.now.clone())),
                fields: wanted,
            });
        }
        *self = owners;
        Ok(object)
    }

    fn conflicts(&self, changed: &FieldSet) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for entry in &self.entries {
            for path in entry.fields.intersection(changed).paths() {
                conflicts.push(Conflict { manager: entry.manager.clone(), time: entry.time.clone(), path });
            }
        }
        conflicts
    }

    /// Takes out what the applier had and does not apply any more, except where others have it.
    fn prune(
        &self,
        merged: Value,
        last: &FieldSet,
        wanted: &FieldSet,
        node: Node<'_>,
    ) -> Result<Value, ApplyError> {
        use fields::{remove, with_named_fields};
        let named = |set: &FieldSet| with_named_fields(set, node);
        let merged_set = named(&set_of(&merged, node)?);
        let mut pruned = remove(&merged, &named(last), node);
        let owned = self.entries.iter().fold(wanted.clone(), |all, entry| all.union(&entry.fields));
        let kept = named(&set_of_or_none(&pruned, node)?).union(&named(&owned));
        pruned = remove(&merged, &merged_set.difference(&kept), node);
        // What nobody owns stays unless the applier had it.
        let pruned_set = named(&set_of_or_none(&pruned, node)?);
        let gone = merged_set.difference(&pruned_set).intersection(&named(last));
        let object = remove(&merged, &gone, node);
        Ok(if object.is_null() { Value::object() } else { object })
    }

    /// The fields of the applier of this name, for the upgrade from client-side apply.
    pub fn has_applier(&self, name: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.manager.operation == Operation::Apply && entry.manager.name == name)
    }
}

fn set_of_or_none(value: &Value, node: Node<'_>) -> Result<FieldSet, ApplyError> {
    if value.is_null() { Ok(FieldSet::default()) } else { Ok(set_of(value, node)?) }
}

/// A set without what has no owner.
fn strip(set: FieldSet) -> FieldSet {
    let mut unowned = FieldSet::default();
    for path in UNOWNED {
        unowned.insert(path);
    }
    set.difference(&unowned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn manager(name: &str, operation: Operation) -> Manager {
        Manager { name: name.into(), operation, api_version: "v1".into(), subresource: "".into() }
    }

    struct Object {
        live: Value,
        owners: ManagedFields,
    }

    impl Object {
        fn apply(&mut self, name: &str, config: &str, force: bool) -> Result<(), String> {
            let config = json(config);
            let apply = Apply {
                live: &self.live,
                config: &config,
                node: Node::of_kind("", "v1", "ConfigMap", None),
                manager: manager(name, Operation::Apply),
                now: "t".into(),
                force,
                writable: &|set| set,
            };
            match self.owners.apply(&apply) {
                Ok(object) => {
                    self.live = object;
                    Ok(())
                }
                Err(ApplyError::Conflicts(conflicts)) => Err(conflicts
                    .iter()
                    .map(|c| format!("{} {}", c.manager.name, c.path))
                    .collect::<Vec<_>>()
                    .join(";")),
                Err(error) => Err(error.to_string()),
            }
        }

        fn update(&mut self, name: &str, new: &str) {
            let new = json(new);
            let comparison = compare(&self.live, &new, Node::of_kind("", "v1", "ConfigMap", None));
            self.owners.update(comparison, manager(name, Operation::Update), Some("t".into()));
            self.live = new;
        }

        fn owned(&self) -> Vec<String> {
            let owned = |entry: &Entry| format!("{} {}", entry.manager.name, entry.fields);
            self.owners.entries.iter().map(owned).collect()
        }

        fn text(&self) -> String {
            serde_json::to_string(&self.live).unwrap()
        }
    }

    #[test]
    fn appliers_share_take_and_give_up_fields() {
        let mut object = Object { live: Value::object(), owners: ManagedFields::default() };
        object.apply("one", r#"{"data":{"a":"1","b":"1"}}"#, false).unwrap();
        assert_eq!(object.owned(), ["one .data.a, .data.b"]);
        assert_eq!(object.apply("two", r#"{"data":{"a":"2"}}"#, false), Err("one .data.a".into()));
        object.apply("two", r#"{"data":{"a":"2"}}"#, true).unwrap();
        assert_eq!(object.owned(), ["one .data.b", "two .data.a"]);
        object.apply("one", r#"{"data":{"c":"3"}}"#, false).unwrap();
        assert_eq!(object.text(), r#"{"data":{"a":"2","c":"3"}}"#);
        object.update("three", r#"{"data":{"a":"9"}}"#);
        assert_eq!(object.owned(), ["three .data.a"]);
        // Nobody's conflict: the same value.
        object.apply("four", r#"{"data":{"a":"9"}}"#, false).unwrap();
        assert_eq!(object.owned(), ["three .data.a", "four .data.a"]);
        object.apply("four", "{}", false).unwrap();
        assert_eq!(object.text(), r#"{"data":{"a":"9"}}"#);
    }

    #[test]
    fn an_applier_that_gives_up_its_only_metadata_leaves_the_object_its_name() {
        let mut object = Object { live: Value::object(), owners: ManagedFields::default() };
        object.apply("one", r#"{"metadata":{"name":"n","annotations":{"a":"1"}}}"#, false).unwrap();
        assert_eq!(object.owned(), ["one .metadata.annotations.a"]);
        object.apply("one", r#"{"metadata":{"name":"n"},"data":{"b":"1"}}"#, false).unwrap();
        assert_eq!(object.text(), r#"{"metadata":{"name":"n"},"data":{"b":"1"}}"#);
    }

    #[test]
    fn the_first_apply_knows_who_had_what() {
        let mut object = Object { live: json(r#"{"data":{"a":"1"}}"#), owners: ManagedFields::default() };
        assert_eq!(
            object.apply("one", r#"{"data":{"a":"2"}}"#, false),
            Err("before-first-apply .data.a".into())
        );
        object.apply("one", r#"{"data":{"a":"1"}}"#, false).unwrap();
        assert_eq!(object.owned(), ["before-first-apply .data, .data.a", "one .data.a"]);
    }

    #[test]
    fn a_whole_map_goes_with_its_applier() {
        let mut object = Object { live: Value::object(), owners: ManagedFields::default() };
        object.apply("one", r#"{"metadata":{"labels":{"x":"1"}},"data":{"a":"1"}}"#, false).unwrap();
        object.apply("one", r#"{"data":{"a":"1"}}"#, false).unwrap();
        assert_eq!(object.text(), r#"{"data":{"a":"1"}}"#);
    }

    #[test]
    fn many_updaters_become_ancient() {
        let mut object = Object { live: Value::object(), owners: ManagedFields::default() };
        let mut data = Vec::new();
        for index in 0..14 {
            data.push(format!(r#""k{index}":"v""#));
            object.update(&format!("m{index:02}"), &format!(r#"{{"data":{{{}}}}}"#, data.join(",")));
        }
        assert_eq!(object.owners.entries.len(), MAX_UPDATE_MANAGERS);
        assert!(object.owned().iter().any(|owned| owned.starts_with("ancient-changes ")));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = r#"[{"manager":"a","operation":"Apply","apiVersion":"v1","time":"t","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:a":{}}}},{"manager":"b","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:x":{}},"subresource":"status"}]"#;
        let owners = ManagedFields::from_value(Some(&json(text))).unwrap();
        assert_eq!(serde_json::to_string(&owners.to_value().unwrap()).unwrap(), text);
        assert!(ManagedFields::from_value(Some(&json(r#"[{}]"#))).is_none());
        assert!(ManagedFields::from_value(None).unwrap().is_empty());
    }
}
