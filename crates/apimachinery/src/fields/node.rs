//! The type of a value as field ownership sees it: of a built-in kind, of a custom resource's schema, or unknown.

use crate::structural::{ListType, Structural};
use crate::types::{FieldType, Topology, TypeId, Types};
use crate::value::{Kind, Value};

/// A type, and how values of it belong to their owners.
#[derive(Clone, Copy, Debug)]
pub enum Node<'s> {
    /// An object of a built-in type.
    Object(TypeId),
    Field(&'s FieldType, &'s Topology),
    Schema(&'s Structural),
    /// A whole custom resource: its schema, with the metadata that every object has.
    Custom(&'s Structural),
    /// What no schema describes: maps belong key by key, everything else as a whole.
    Unknown,
}

/// How a value belongs to its owners.
#[derive(Clone, Debug, PartialEq)]
pub enum Ownership<'s> {
    Whole,
    /// Field by field, or key by key.
    Fields,
    /// Element by element, told apart by the elements themselves.
    Set,
    /// Element by element, told apart by these fields, each with its default where it has one.
    Keyed(Vec<(&'s str, Option<Value>)>),
}

const DEFAULT: Topology = Topology::Default;

impl<'s> Node<'s> {
    /// The type of an object of a kind; for one that is not built in, what its schema says.
    pub fn of_kind(group: &str, version: &str, kind: &str, schema: Option<&'s Structural>) -> Node<'s> {
        match (Types::built_in().kind(group, version, kind), schema) {
            (Some(of), _) => Node::Object(of),
            (None, Some(schema)) => Node::Custom(schema),
            (None, None) => Node::Unknown,
        }
    }

    /// How `value`, which has this type, belongs to its owners.
    pub fn ownership(&self, value: &Value) -> Ownership<'s> {
        let by_shape = || match value.kind {
            Kind::Object(_) => Ownership::Fields,
            _ => Ownership::Whole,
        };
        match (*self, &value.kind) {
            (Node::Unknown | Node::Custom(_), _) => by_shape(),
            (Node::Object(of), Kind::Object(_)) => match Types::built_in().is_atomic(of) {
                true => Ownership::Whole,
                false => Ownership::Fields,
            },
            (Node::Field(kind, topology), shape) => match (kind, topology, shape) {
                (_, Topology::Atomic, _) => Ownership::Whole,
                (FieldType::Object(of), _, Kind::Object(_)) => Node::Object(*of).ownership(value),
                (FieldType::Map(_), _, Kind::Object(_)) => Ownership::Fields,
                (FieldType::Raw, _, Kind::Object(_)) => Ownership::Fields,
                (FieldType::List(_), Topology::Set, Kind::Array(_)) => Ownership::Set,
                (FieldType::List(_), Topology::Keyed(keys), Kind::Array(_)) => {
                    let keys = keys.iter().map(|(name, default)| (*name, default.map(Value::from)));
                    Ownership::Keyed(keys.collect())
                }
                _ => Ownership::Whole,
            },
            (Node::Schema(schema), Kind::Object(_)) => match schema.map_is_atomic {
                true => Ownership::Whole,
                false => Ownership::Fields,
            },
            (Node::Schema(schema), Kind::Array(_)) => match &schema.list_type {
                ListType::Atomic => Ownership::Whole,
                ListType::Set => Ownership::Set,
                ListType::Map(keys) => {
                    let default = |key: &str| {
                        schema.items.as_ref().and_then(|items| items.properties.get(key)?.default.clone())
                    };
                    Ownership::Keyed(keys.iter().map(|key| (key.as_str(), default(key))).collect())
                }
            },
            _ => Ownership::Whole,
        }
    }

    /// The type of a field, and whether the type declares it (a map's keys are not declared). `None` for a field that
    /// a type does not have.
    pub fn field(&self, name: &str) -> Option<(Node<'s>, bool)> {
        let types = Types::built_in();
        match *self {
            Node::Object(of) => match types.field(of, name) {
                Some(field) => Some((Node::Field(&field.kind, &field.topology), true)),
                None => matches!(name, "kind" | "apiVersion").then_some((Node::Unknown, true)),
            },
            Node::Field(FieldType::Object(of), _) => Node::Object(*of).field(name),
            Node::Field(FieldType::Map(element), _) => Some((Node::Field(element, &DEFAULT), false)),
            Node::Custom(_) if name == "metadata" => {
                Some((Node::Object(types.named("meta.v1.ObjectMeta")?), true))
            }
            Node::Custom(_) if matches!(name, "kind" | "apiVersion") => Some((Node::Unknown, true)),
            Node::Custom(schema) | Node::Schema(schema) => {
                if schema.embedded_resource && name == "metadata" {
                    return Some((Node::Object(types.named("meta.v1.ObjectMeta")?), true));
                }
                if schema.embedded_resource && matches!(name, "kind" | "apiVersion") {
                    return Some((Node::Unknown, true));
                }
                match (schema.properties.get(name), &schema.additional) {
                    (Some(property), _) => Some((Node::Schema(property), true)),
                    (None, Some(element)) => Some((Node::Schema(element), false)),
                    (None, None) if schema.preserve_unknown => Some((Node::Unknown, false)),
                    (None, None) => None,
                }
            }
            Node::Field(FieldType::Raw, _) | Node::Unknown => Some((Node::Unknown, false)),
            Node::Field(..) => None,
        }
    }

    /// Whether a field is in every object of the type, empty or not.
    pub fn always_has(&self, name: &str) -> bool {
        let types = Types::built_in();
        match *self {
            Node::Object(of) => types.field(of, name).is_some_and(|field| field.always),
            Node::Field(FieldType::Object(of), _) => types.field(*of, name).is_some_and(|field| field.always),
            Node::Field(FieldType::Map(_), _) => false,
            Node::Custom(_) | Node::Unknown => name == "metadata",
            _ => false,
        }
    }

    /// The type of a list's elements.
    pub fn element(&self) -> Node<'s> {
        match *self {
            Node::Field(FieldType::List(element), _) => Node::Field(element, &DEFAULT),
            Node::Schema(schema) => match &schema.items {
                Some(items) => Node::Schema(items),
                None => Node::Unknown,
            },
            _ => Node::Unknown,
        }
    }
}
