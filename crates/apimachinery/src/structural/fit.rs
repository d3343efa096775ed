//! Making an object what its schema keeps of it: unknown fields go, defaults come.

use super::{ListType, Structural, Type};
use crate::types::{self, Types};
use crate::value::{Kind, Map, Value};

/// The path of a field that the schema does not know.
pub type Unknown = String;

/// Takes out what the schema does not know and fills in its defaults. Gives the paths of the unknown fields.
pub fn fit(object: &mut Value, schema: &Structural) -> Result<Vec<Unknown>, types::Mismatch> {
    let mut fit = Fit { unknown: Vec::new(), path: String::new() };
    if let Kind::Object(map) = &mut object.kind {
        fit.metadata(map)?;
        fit.object(map, schema, true);
    }
    Ok(fit.unknown)
}

struct Fit {
    unknown: Vec<Unknown>,
    path: String,
}

impl Fit {
    /// Metadata has the same fields in every object, whatever a schema says of it.
    fn metadata(&mut self, map: &mut Map) -> Result<(), types::Mismatch> {
        let Some(of) = Types::built_in().named("meta.v1.ObjectMeta") else { return Ok(()) };
        if let Some(metadata) = map.get_mut("metadata")
            && metadata.as_object().is_some()
        {
            let unknown = types::normalise(metadata, of)?;
            let prefix = if self.path.is_empty() { String::new() } else { format!("{}.", self.path) };
            self.unknown.extend(unknown.into_iter().map(|path| format!("{prefix}metadata.{path}")));
        }
        Ok(())
    }

    fn value(&mut self, value: &mut Value, schema: &Structural) {
        match &mut value.kind {
            Kind::Object(map) => self.object(map, schema, schema.embedded_resource),
            Kind::Array(items) => {
                let Some(element) = &schema.items else { return };
                for (index, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.value(item, element);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, map: &mut Map, schema: &Structural, is_resource: bool) {
        map.retain(|name, value| {
            if is_resource && matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
                return true;
            }
            let length = self.path.len();
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
            let known = match (schema.properties.get(name), &schema.additional) {
                (Some(property), _) => {
                    // A null that may not be gives way to the default.
                    let gives_way = value.is_null() && !property.nullable && property.default.is_some();
                    if !gives_way {
                        self.value(value, property);
                    }
                    !gives_way
                }
                (None, Some(element)) => {
                    self.value(value, element);
                    true
                }
                (None, None) if schema.preserve_unknown => true,
                (None, None) => {
                    // A place without any type takes anything as a whole.
                    let open = schema.kind.is_none() && schema.properties.is_empty() && schema.int_or_string;
                    if !open {
                        self.unknown.push(self.path.clone());
                    }
                    open
                }
            };
            self.path.truncate(length);
            known
        });
        if is_resource && !self.path.is_empty() {
            // Inside an object, a resource's metadata that does not fit is left for validation to report.
            let _ = self.metadata(map);
        }
        for (name, property) in &schema.properties {
            if is_resource && matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
                continue;
            }
            let Some(default) = &property.default else { continue };
            if map.contains_key(name) {
                continue;
            }
            let mut value = default.clone();
            self.value(&mut value, property);
            map.push_new(name.clone(), value);
        }
    }
}

/// Whether a list of this schema tells its elements apart.
pub(super) fn is_associative(schema: &Structural) -> bool {
    schema.kind != Some(Type::Object) && schema.list_type != ListType::Atomic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(schema: &str, object: &str) -> (String, Vec<String>) {
        let schema = Structural::parse(&serde_json::from_str(schema).unwrap()).unwrap();
        let mut object: Value = serde_json::from_str(object).unwrap();
        let unknown = fit(&mut object, &schema).unwrap();
        (serde_json::to_string(&object).unwrap(), unknown)
    }

    const SCHEMA: &str = r#"{"type":"object","properties":{"spec":{"type":"object","properties":{
        "colour":{"type":"string","default":"red"},
        "maybe":{"type":"string","nullable":true,"default":"x"},
        "open":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"known":{"type":"object","properties":{"a":{"type":"string"}}}}},
        "map":{"type":"object","additionalProperties":{"type":"object","properties":{"n":{"type":"integer","default":1}}}},
        "list":{"type":"array","items":{"type":"object","properties":{"n":{"type":"integer","default":2}}}},
        "pod":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}
    }}}}"#;

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let (object, unknown) = fitted(
            SCHEMA,
            r#"{"kind":"T","metadata":{"name":"a","nope":1},"spec":{"x":1,"maybe":null,"colour":null,"open":{"any":1,"known":{"a":"1","b":2}},"map":{"k":{}},"list":[{},{"n":5,"o":1}],"pod":{"metadata":{"name":"p","bad":1},"spec":1}},"other":1}"#,
        );
        assert_eq!(
            object,
            r#"{"kind":"T","metadata":{"name":"a"},"spec":{"maybe":null,"open":{"any":1,"known":{"a":"1"}},"map":{"k":{"n":1}},"list":[{"n":2},{"n":5}],"pod":{"metadata":{"name":"p"},"spec":1},"colour":"red"}}"#
        );
        assert_eq!(
            unknown,
            [
                "metadata.nope",
                "spec.x",
                "spec.open.known.b",
                "spec.list[1].o",
                "spec.pod.metadata.bad",
                "other"
            ]
        );
    }
}
