//! The fields of the built-in types: JSON names, protobuf numbers, types, and how lists merge.
//!
//! One table serves decoding protobuf, checking JSON bodies, and server-side apply.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::value::{Kind, Map, Number, Value};

const TABLE: &str = include_str!("../data/kubernetes@1.36/types.tsv");

/// A type of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(u16);

#[derive(Clone, Debug, PartialEq)]
pub enum FieldType {
    String,
    Int32,
    Int64,
    Bool,
    Float,
    /// Base64 in JSON.
    Bytes,
    Quantity,
    Time,
    MicroTime,
    IntOrString,
    /// Any JSON, as JSON text in protobuf.
    Raw,
    SchemaOrBool,
    SchemaOrArray,
    SchemaOrStrings,
    List(Box<FieldType>),
    Map(Box<FieldType>),
    Object(TypeId),
}

/// How the elements of a list, or the keys of a map, belong to their owners.
#[derive(Clone, Debug, PartialEq)]
pub enum Topology {
    /// Maps key by key, lists as a whole.
    Default,
    Atomic,
    Set,
    /// A list of maps told apart by these keys, each with its default where it has one.
    Keyed(Vec<(&'static str, Option<&'static str>)>),
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: &'static str,
    /// Number in protobuf; 0 where it has none.
    pub number: u32,
    /// Numbers of the messages that the field stands in, where Go embeds them, from the outside; 0 for none.
    pub outer: [u32; 2],
    pub kind: FieldType,
    /// Written by Kubernetes even if it is empty.
    pub required: bool,
    /// An object or list that Kubernetes has in every object, empty or not.
    pub always: bool,
    pub topology: Topology,
}

#[derive(Debug)]
struct TypeInfo {
    name: &'static str,
    fields: Vec<Field>,
    by_name: HashMap<&'static str, usize>,
    is_kind: bool,
    atomic: bool,
}

pub struct Types {
    types: Vec<TypeInfo>,
    kinds: HashMap<(&'static str, &'static str, &'static str), TypeId>,
    by_name: HashMap<&'static str, TypeId>,
}

impl Types {
    /// Read once from the table that is compiled in.
    pub fn built_in() -> &'static Types {
        static BUILT_IN: OnceLock<Types> = OnceLock::new();
        BUILT_IN.get_or_init(|| Types::parse(TABLE))
    }

    fn parse(table: &'static str) -> Types {
        let mut types = Types { types: Vec::new(), kinds: HashMap::new(), by_name: HashMap::new() };
        let mut current = None;
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&'static str> = line.split('\t').collect();
            match columns[..] {
                ["kind", group, version, kind, name] => {
                    let id = types.id(name);
                    types.types[usize::from(id.0)].is_kind = true;
                    types.kinds.insert((group, version, kind), id);
                }
                ["type", name, ref flags @ ..] => {
                    let id = types.id(name);
                    types.types[usize::from(id.0)].atomic = flags.first() == Some(&"atomic");
                    current = Some(id);
                }
                ["field", name, number, kind, ref flags @ ..] => {
                    let Some(owner) = current else { continue };
                    let flags = flags.first().copied().unwrap_or_default();
                    let numbers: Vec<u32> = number.split('.').map(|part| part.parse().unwrap_or(0)).collect();
                    let (outer, number) = match numbers[..] {
                        [first, second, number] => ([first, second], number),
                        [first, number] => ([first, 0], number),
                        _ => ([0, 0], numbers[0]),
                    };
                    let field = Field {
                        name,
                        number,
                        outer,
                        kind: types.field_type(kind),
                        required: flags.starts_with('!'),
                        always: false,
                        topology: topology(flags.trim_start_matches('!')),
                    };
                    let info = &mut types.types[usize::from(owner.0)];
                    let field = Field { always: is_always_there(info.name, &field), ..field };
                    info.by_name.insert(name, info.fields.len());
                    info.fields.push(field);
                }
                _ => {}
            }
        }
        types
    }

    fn id(&mut self, name: &'static str) -> TypeId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = TypeId(self.types.len() as u16);
        self.types.push(TypeInfo {
            name,
            fields: Vec::new(),
            by_name: HashMap::new(),
            is_kind: false,
            atomic: false,
        });
        self.by_name.insert(name, id);
        id
    }

    fn field_type(&mut self, code: &'static str) -> FieldType {
        match code {
            "s" => FieldType::String,
            "i" => FieldType::Int32,
            "l" => FieldType::Int64,
            "b" => FieldType::Bool,
            "f" => FieldType::Float,
            "B" => FieldType::Bytes,
            "q" => FieldType::Quantity,
            "t" => FieldType::Time,
            "m" => FieldType::MicroTime,
            "x" => FieldType::IntOrString,
            "r" => FieldType::Raw,
            "JB" => FieldType::SchemaOrBool,
            "JA" => FieldType::SchemaOrArray,
            "JS" => FieldType::SchemaOrStrings,
            _ => match (code.strip_prefix('['), code.strip_prefix('{')) {
                (Some(element), _) => FieldType::List(Box::new(self.field_type(element))),
                (_, Some(element)) => FieldType::Map(Box::new(self.field_type(element))),
                _ => FieldType::Object(self.id(code)),
            },
        }
    }

    /// The type of a kind; `None` for one that is not built in.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        self.kinds.get(&(group, version, kind)).copied()
    }

    pub fn is_kind(&self, of: TypeId) -> bool {
        self.types.get(usize::from(of.0)).is_some_and(|info| info.is_kind)
    }

    /// Whether an object of the type belongs to its owners as a whole.
    pub fn is_atomic(&self, of: TypeId) -> bool {
        self.types.get(usize::from(of.0)).is_some_and(|info| info.atomic)
    }

    /// A type by its name in the table, such as `core.v1.PodSpec`.
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    pub fn fields(&self, of: TypeId) -> &[Field] {
        self.types.get(usize::from(of.0)).map(|info| info.fields.as_slice()).unwrap_or_default()
    }

    pub fn field(&self, of: TypeId, name: &str) -> Option<&Field> {
        let info = self.types.get(usize::from(of.0))?;
        info.fields.get(*info.by_name.get(name)?)
    }

    /// Every kind of the table: group, version, kind and type.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, TypeId)> {
        self.kinds.iter().map(|((group, version, kind), of)| (*group, *version, *kind, *of))
    }

    /// The type's name in the table.
    pub fn name(&self, of: TypeId) -> &'static str {
        self.types.get(usize::from(of.0)).map(|info| info.name).unwrap_or_default()
    }

    /// The last part of the type's name: what Go calls it.
    pub fn short_name(&self, of: TypeId) -> &str {
        self.types.get(usize::from(of.0)).and_then(|info| info.name.rsplit('.').next()).unwrap_or_default()
    }
}

/// What Go holds by value: it cannot be absent, so nobody adds it.
fn is_always_there(owner: &str, field: &Field) -> bool {
    match &field.kind {
        FieldType::List(_) => field.required,
        FieldType::Object(_) if field.required => true,
        FieldType::Object(_) => match field.name {
            "metadata" | "spec" | "status" | "strategy" | "updateStrategy" | "loadBalancer" | "state"
            | "lastState" | "nodeInfo" | "daemonEndpoints" | "kubeletEndpoint" | "jobTemplate" => true,
            "resources" => owner != "core.v1.PodSpec",
            "template" => owner != "core.v1.ReplicationControllerSpec",
            "source" => owner == "core.v1.Event",
            _ => false,
        },
        _ => false,
    }
}

fn topology(flags: &'static str) -> Topology {
    match flags {
        "set" => Topology::Set,
        "atomic" => Topology::Atomic,
        _ => match flags.strip_prefix("map=") {
            Some(keys) => {
                let key = |text: &'static str| match text.split_once(':') {
                    Some((name, default)) => (name, Some(default)),
                    None => (text, None),
                };
                Topology::Keyed(keys.split(',').map(key).collect())
            }
            None => Topology::Default,
        },
    }
}

// === checking objects ===

/// A value of the wrong type, as Go's decoder reports it.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Mismatch {
    #[error("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")]
    Type { found: &'static str, owner: String, path: String, wanted: String },
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
}

/// Makes `object` what Kubernetes keeps of it: unknown fields, nulls, and empty lists and maps go. Gives the paths of
/// the unknown fields.
pub fn normalise(object: &mut Value, of: TypeId) -> Result<Vec<String>, Mismatch> {
    let mut walk = Walk { types: Types::built_in(), unknown: Vec::new(), path: String::new() };
    if let Kind::Object(map) = &mut object.kind {
        walk.object(map, of)?;
    }
    Ok(walk.unknown)
}

struct Walk {
    types: &'static Types,
    unknown: Vec<String>,
    /// Where we are: `spec.template.spec.containers[0]`.
    path: String,
}

impl Walk {
    fn object(&mut self, map: &mut Map, of: TypeId) -> Result<(), Mismatch> {
        let types = self.types;
        let mut result = Ok(());
        map.retain(|name, value| {
            if result.is_err() {
                return true;
            }
            let length = self.path.len();
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
            let keep = match types.field(of, name) {
                // Every kind has these two, which the table leaves out.
                None if matches!(name.as_str(), "kind" | "apiVersion") && types.is_kind(of) => {
                    !value.is_null()
                }
                None => {
                    self.unknown.push(self.path.clone());
                    false
                }
                Some(_) if value.is_null() => false,
                Some(field) => match self.value(value, &field.kind, of) {
                    Ok(()) => field.required || !is_empty_collection(value, &field.kind),
                    Err(mismatch) => {
                        result = Err(mismatch);
                        true
                    }
                },
            };
            self.path.truncate(length);
            keep
        });
        result
    }

    fn value(&mut self, value: &mut Value, kind: &FieldType, owner: TypeId) -> Result<(), Mismatch> {
        let wanted: &str = match (kind, &mut value.kind) {
            (
                FieldType::Raw
                | FieldType::SchemaOrBool
                | FieldType::SchemaOrArray
                | FieldType::SchemaOrStrings,
                _,
            ) => return Ok(()),
            (_, Kind::Null) => return Ok(()),
            (FieldType::String | FieldType::Time | FieldType::MicroTime, Kind::String(_)) => return Ok(()),
            (FieldType::Bytes, Kind::String(text)) => return check_base64(text),
            (FieldType::Quantity, Kind::String(_)) => return Ok(()),
            // Quantities and ports may be written as plain numbers; a quantity is kept as text.
            (FieldType::Quantity, Kind::Number(number)) => {
                *value = number_text(*number).into();
                return Ok(());
            }
            (FieldType::IntOrString, Kind::String(_) | Kind::Number(Number::Int(_))) => return Ok(()),
            (FieldType::Int32, Kind::Number(Number::Int(number))) if i32::try_from(*number).is_ok() => {
                return Ok(());
            }
            (FieldType::Int64, Kind::Number(Number::Int(_))) => return Ok(()),
            (FieldType::Int32 | FieldType::Int64, Kind::Number(number)) if is_integral(*number) => {
                *value = (number.as_f64() as i64).into();
                return Ok(());
            }
            (FieldType::Float, Kind::Number(_)) => return Ok(()),
            (FieldType::Bool, Kind::Bool(_)) => return Ok(()),
            (FieldType::Object(of), Kind::Object(map)) => {
                let of = *of;
                return self.object(map, of);
            }
            (FieldType::List(element), Kind::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.value(item, element, owner)?;
                    self.path.truncate(length);
                }
                return Ok(());
            }
            (FieldType::Map(element), Kind::Object(map)) => {
                let mut result = Ok(());
                for (_, item) in map.iter_mut() {
                    // Go names the map's field, not the key within it.
                    result = self.value(item, element, owner);
                    if result.is_err() {
                        break;
                    }
                }
                return result;
            }
            (FieldType::String, _) => "string",
            (FieldType::Int32, _) => "int32",
            (FieldType::Int64, _) => "int64",
            (FieldType::Bool, _) => "bool",
            (FieldType::Float, _) => "float64",
            (FieldType::Bytes, _) => "[]uint8",
            (FieldType::Time, _) => "v1.Time",
            (FieldType::MicroTime, _) => "v1.MicroTime",
            (FieldType::Quantity, _) => "resource.Quantity",
            (FieldType::IntOrString, _) => "intstr.IntOrString",
            (FieldType::Object(of), _) => {
                let wanted = format!("v1.{}", self.types.short_name(*of));
                return Err(self.mismatch(value, owner, wanted));
            }
            (FieldType::List(_), _) => "[]interface {}",
            (FieldType::Map(_), _) => "map[string]string",
        };
        Err(self.mismatch(value, owner, wanted.to_owned()))
    }

    fn mismatch(&self, value: &Value, owner: TypeId, wanted: String) -> Mismatch {
        let found = match &value.kind {
            Kind::Bool(_) => "bool",
            kind => Value::from(kind.clone()).type_name(),
        };
        // List positions do not appear in Go's paths.
        let mut path = String::new();
        let mut inside = false;
        for c in self.path.chars() {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                _ if !inside => path.push(c),
                _ => {}
            }
        }
        Mismatch::Type { found, owner: self.types.short_name(owner).to_owned(), path, wanted }
    }
}

fn is_empty_collection(value: &Value, kind: &FieldType) -> bool {
    match (kind, &value.kind) {
        (FieldType::List(_), Kind::Array(items)) => items.is_empty(),
        (FieldType::Map(_), Kind::Object(map)) => map.is_empty(),
        _ => false,
    }
}

fn is_integral(number: Number) -> bool {
    let value = number.as_f64();
    value.fract() == 0.0 && value.abs() < 9e15
}

fn number_text(number: Number) -> String {
    match number {
        Number::Int(i) => i.to_string(),
        Number::Uint(u) => u.to_string(),
        Number::Float(x) => x.to_string(),
    }
}

pub(crate) fn check_base64(text: &str) -> Result<(), Mismatch> {
    let mut significant = 0;
    let mut padding = 0;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' | b'\r' => {}
            b'=' if significant % 4 >= 2 && padding < 2 => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => significant += 1,
            _ => return Err(Mismatch::Base64(index)),
        }
    }
    if (significant + padding) % 4 == 0 { Ok(()) } else { Err(Mismatch::Base64(significant + padding)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: (&str, &str, &str), text: &str) -> (String, Result<Vec<String>, String>) {
        let mut value: Value = serde_json::from_str(text).unwrap();
        let of = Types::built_in().kind(kind.0, kind.1, kind.2).unwrap();
        let result = normalise(&mut value, of).map_err(|mismatch| mismatch.to_string());
        (serde_json::to_string(&value).unwrap(), result)
    }

    #[test]
    fn unknown_and_empty_fields_go() {
        let (kept, unknown) = check(
            ("apps", "v1", "Deployment"),
            r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"a","labels":{}},"spec":{"replica":2,"template":{"spec":{"containers":[{"name":"c","image":null,"x":1}],"volumes":[]}}}}"#,
        );
        assert_eq!(unknown.unwrap(), ["spec.replica", "spec.template.spec.containers[0].x"]);
        assert_eq!(
            kept,
            r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"a"},"spec":{"template":{"spec":{"containers":[{"name":"c"}]}}}}"#
        );
    }

    #[test]
    fn wrong_types_read_as_from_go() {
        let config_map = ("", "v1", "ConfigMap");
        assert_eq!(
            check(config_map, r#"{"data":{"a":1}}"#).1.unwrap_err(),
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
        );
        let deployment = ("apps", "v1", "Deployment");
        assert_eq!(
            check(deployment, r#"{"spec":{"replicas":"two"}}"#).1.unwrap_err(),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
        assert_eq!(
            check(("", "v1", "Secret"), r####"{"data":{"a":"###"}}"####).1.unwrap_err(),
            "illegal base64 data at input byte 0"
        );
        assert!(check(deployment, r#"{"spec":[1]}"#).1.is_err());
    }
}
