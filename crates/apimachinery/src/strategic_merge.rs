//! What strategic merge needs to know: which lists merge, by which keys, and what a patch's directives say.
//!
//! Only the lookup lives here. Two walkers use it and differ on purpose: Kustomize's and the API server's.

use std::collections::HashMap;
use std::sync::OnceLock;

/// A type of the schema. Types without any merge rule below them are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(u16);

/// How one field merges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    /// The type of the value, or of the items of a list or map of it; `None` when nothing below it has a rule.
    pub value: Option<TypeId>,
    /// The patch strategy names `merge`: list items pair by [`Field::merge_key`] (by value when there is none).
    pub merges: bool,
    /// The patch strategy names `retainKeys`.
    pub retains_keys: bool,
    /// `patchMergeKey`: the one key the API server pairs items by.
    pub merge_key: Option<&'static str>,
    /// The list's map keys where there are several (ports), else the merge key: what Kustomize pairs items by.
    pub list_keys: Vec<&'static str>,
}

/// The merge rules of the built-in kinds.
pub struct Schema {
    types: HashMap<&'static str, TypeId>,
    resources: HashMap<(&'static str, &'static str), TypeId>,
    fields: HashMap<TypeId, HashMap<&'static str, Field>>,
}

const TABLE: &str = include_str!("../data/kustomize@5.8.1/merge-keys.tsv");

impl Schema {
    /// Read once from the table that is compiled in.
    pub fn builtin() -> &'static Schema {
        static BUILTIN: OnceLock<Schema> = OnceLock::new();
        BUILTIN.get_or_init(|| Schema::parse(TABLE))
    }

    fn parse(table: &'static str) -> Schema {
        let mut schema = Schema { types: HashMap::new(), resources: HashMap::new(), fields: HashMap::new() };
        for line in table.lines() {
            let columns: Vec<&'static str> = line.split('\t').collect();
            match columns[..] {
                ["resource", api_version, kind, name] => {
                    let id = schema.type_id(name);
                    schema.resources.insert((api_version, kind), id);
                }
                ["field", owner, name, value, strategy, key, list_keys] => {
                    let merge_key = (key != "-").then_some(key);
                    let list_keys = match list_keys {
                        "-" => merge_key.into_iter().collect(),
                        keys => keys.split(',').collect(),
                    };
                    let field = Field {
                        value: (value != "-").then(|| schema.type_id(value)),
                        merges: strategy.split(',').any(|word| word == "merge"),
                        retains_keys: strategy.split(',').any(|word| word == "retainKeys"),
                        merge_key,
                        list_keys,
                    };
                    let owner = schema.type_id(owner);
                    schema.fields.entry(owner).or_default().insert(name, field);
                }
                _ => {}
            }
        }
        schema
    }

    fn type_id(&mut self, name: &'static str) -> TypeId {
        let next = TypeId(self.types.len() as u16);
        *self.types.entry(name).or_insert(next)
    }

    /// The type of a kind; `None` for kinds that are not built in (their lists are replaced).
    pub fn resource(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        self.resources.get(&(api_version, kind)).copied()
    }

    /// The rule of a field; `None` when it merges like any other.
    pub fn field(&self, owner: TypeId, name: &str) -> Option<&Field> {
        self.fields.get(&owner)?.get(name)
    }

    /// A type by its name without the `io.k8s.…` prefix (`core.v1.PodSpec`).
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.types.get(name).copied()
    }
}

/// The value of `$patch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    Merge,
    Replace,
    Delete,
}

/// The key of a directive in a map, or in an item that stands for its whole list.
pub const PATCH_DIRECTIVE: &str = "$patch";
/// The key that lists the fields a map keeps, all others being cleared.
pub const RETAIN_KEYS_DIRECTIVE: &str = "$retainKeys";
/// The prefix of a key that names values to take out of a list of primitives.
pub const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";
/// The prefix of a key that gives a list its order.
pub const SET_ELEMENT_ORDER: &str = "$setElementOrder/";

impl Directive {
    pub fn parse(word: &str) -> Option<Directive> {
        match word {
            "merge" => Some(Directive::Merge),
            "replace" => Some(Directive::Replace),
            "delete" => Some(Directive::Delete),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_through_a_deployment() {
        let schema = Schema::builtin();
        let mut at = schema.resource("apps/v1", "Deployment").unwrap();
        for name in ["spec", "template", "spec"] {
            at = schema.field(at, name).unwrap().value.unwrap();
        }
        let containers = schema.field(at, "containers").unwrap();
        assert_eq!((containers.merges, containers.merge_key), (true, Some("name")));
        let ports = schema.field(containers.value.unwrap(), "ports").unwrap();
        assert_eq!(
            (ports.merge_key, &ports.list_keys[..]),
            (Some("containerPort"), &["containerPort", "protocol"][..])
        );
        assert!(schema.field(at, "volumes").unwrap().retains_keys);
        assert!(schema.field(containers.value.unwrap(), "command").is_none());
        assert!(schema.resource("example.com/v1", "Deployment").is_none());
    }

    #[test]
    fn lists_of_primitives_merge_without_a_key() {
        let schema = Schema::builtin();
        let meta = schema.named("meta.v1.ObjectMeta").unwrap();
        let finalizers = schema.field(meta, "finalizers").unwrap();
        assert!(finalizers.merges && finalizers.list_keys.is_empty());
    }
}
