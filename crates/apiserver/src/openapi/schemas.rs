//! Schemas of the built-in kinds, from the table of types; their descriptions come through a door, where there is one.

use std::collections::HashMap;

use gantry_apimachinery::strategic_merge;
use gantry_apimachinery::types::{Field, FieldType, Topology, TypeId, Types};
use gantry_apimachinery::value::SmolStr;
use gantry_apimachinery::{Map, Value};

use super::{Version, custom, paths};
use crate::doors::{TypeDoc, TypeDocs};
use crate::resources::GroupVersion;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// All schemas that the kinds of a group and version need, by their published names.
pub(super) fn of(group_version: &GroupVersion, docs: Option<&dyn TypeDocs>, version: Version) -> Map {
    let types = Types::built_in();
    let docs = docs
        .map(|docs| docs.of_group_version(&group_version.group, &group_version.version))
        .unwrap_or_default();
    let mut made = Made { types, docs, version, schemas: Map::new(), waiting: Vec::new() };
    for resource in &group_version.resources {
        if let Some(custom) = &resource.custom {
            custom::add(&mut made, resource, custom);
            continue;
        }
        let Some(of) = types.kind(&resource.group, &resource.version, &resource.kind) else { continue };
        let gvk = vec![Value::from(paths::group_version_kind(resource))];
        made.add_all(of);
        let name = published_name(types.name(of));
        if let Some(schema) = made.schemas.get_mut(&name).and_then(Value::as_object_mut) {
            schema.insert("x-kubernetes-group-version-kind", gvk);
        }
        if resource.verbs.has("list") {
            made.add_list(&name, &resource.list_kind, resource);
        }
    }
    made.schemas
}

/// `io.k8s.api.apps.v1.Deployment` of `apps.v1.Deployment`.
pub(super) fn published_name(name: &str) -> String {
    match name.split_once('.') {
        Some(("meta", _)) => format!("{META}.{}", name.rsplit('.').next().unwrap_or_default()),
        Some(("apiextensions", rest)) => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{rest}")
        }
        Some(("apiregistration", rest)) => format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{rest}"),
        _ => format!("io.k8s.api.{name}"),
    }
}

pub(super) struct Made {
    types: &'static Types,
    docs: HashMap<String, TypeDoc>,
    pub(super) version: Version,
    pub(super) schemas: Map,
    waiting: Vec<TypeId>,
}

fn described(map: &mut Map, text: Option<&String>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        map.insert("description", text.as_str());
    }
}

fn simple(kind: &str, format: &str) -> Map {
    let mut map = Map::new();
    map.insert("type", kind);
    if !format.is_empty() {
        map.insert("format", format);
    }
    map
}

impl Made {
    /// The schema of a type and of all that it refers to.
    pub(super) fn add_all(&mut self, of: TypeId) {
        self.waiting.push(of);
        while let Some(of) = self.waiting.pop() {
            let name = published_name(self.types.name(of));
            if self.schemas.contains_key(&name) {
                continue;
            }
            let schema = self.object(of);
            self.schemas.push_new(name.into(), schema.into());
        }
    }

    pub(super) fn reference(&mut self, name: &str) -> Map {
        let mut map = Map::new();
        map.insert("$ref", self.version.reference(name));
        map
    }

    fn shared(&mut self, name: &str, schema: impl FnOnce() -> Map) -> Map {
        if !self.schemas.contains_key(name) {
            let mut schema = schema();
            described(&mut schema, self.docs.get(name).map(|doc| &doc.text));
            self.schemas.push_new(name.into(), schema.into());
        }
        self.reference(name)
    }

    fn object(&mut self, of: TypeId) -> Map {
        let types = self.types;
        let name = types.name(of);
        let merge = strategic_merge::Schema::builtin();
        let merge_type = merge.named(name);
        let mut properties = Map::new();
        let mut required: Vec<Value> = Vec::new();
        let doc = self.docs.get(&published_name(name)).cloned().unwrap_or_default();
        for field in types.fields(of) {
            let mut schema = self.field(field);
            described(&mut schema, doc.fields.get(field.name));
            if let Some(rule) = merge_type.and_then(|of| merge.field(of, field.name)) {
                if let Some(key) = rule.merge_key {
                    schema.insert("x-kubernetes-patch-merge-key", key);
                }
                let strategy = match (rule.merges, rule.retains_keys) {
                    (true, true) => "merge,retainKeys",
                    (true, false) => "merge",
                    (false, true) => "retainKeys",
                    (false, false) => "",
                };
                if !strategy.is_empty() {
                    schema.insert("x-kubernetes-patch-strategy", strategy);
                }
            }
            if field.required && field.name != "metadata" {
                required.push(field.name.into());
            }
            properties.insert(field.name, schema);
        }
        if types.is_kind(of) {
            for field in ["apiVersion", "kind"] {
                let mut schema = simple("string", "");
                described(&mut schema, doc.fields.get(field));
                properties.insert(field, schema);
            }
        }
        let mut out = Map::new();
        described(&mut out, Some(&doc.text));
        out.insert("type", "object");
        out.insert("properties", properties);
        if !required.is_empty() {
            out.insert("required", required);
        }
        if types.is_atomic(of) {
            out.insert("x-kubernetes-map-type", "atomic");
        }
        out
    }

    fn field(&mut self, field: &Field) -> Map {
        let mut schema = self.value(&field.kind, true);
        match (&field.topology, &field.kind) {
            (Topology::Set, _) => drop(schema.insert("x-kubernetes-list-type", "set")),
            (Topology::Keyed(keys), _) => {
                schema.insert("x-kubernetes-list-type", "map");
                let keys: Vec<Value> = keys.iter().map(|(key, _)| Value::from(*key)).collect();
                schema.insert("x-kubernetes-list-map-keys", keys);
            }
            (_, FieldType::List(_)) => drop(schema.insert("x-kubernetes-list-type", "atomic")),
            (Topology::Atomic, _) => drop(schema.insert("x-kubernetes-map-type", "atomic")),
            _ => {}
        }
        schema
    }

    /// A reference stands beside nothing else, so a described one is wrapped.
    fn wrapped(&self, reference: Map, wrap: bool) -> Map {
        if !wrap || self.version == Version::V2 {
            return reference;
        }
        let mut map = Map::new();
        map.insert("allOf", vec![Value::from(reference)]);
        map
    }

    fn value(&mut self, kind: &FieldType, wrap: bool) -> Map {
        match kind {
            FieldType::String => simple("string", ""),
            FieldType::Int32 => simple("integer", "int32"),
            FieldType::Int64 => simple("integer", "int64"),
            FieldType::Bool => simple("boolean", ""),
            FieldType::Float => simple("number", "double"),
            FieldType::Bytes => simple("string", "byte"),
            FieldType::Quantity => {
                let version = self.version;
                let reference = self.shared(QUANTITY, || match version {
                    Version::V2 => simple("string", ""),
                    Version::V3 => {
                        let mut map = Map::new();
                        let both = vec![simple("string", "").into(), simple("number", "").into()];
                        map.insert("oneOf", both);
                        map
                    }
                });
                self.wrapped(reference, wrap)
            }
            FieldType::Time => {
                let reference = self.shared(&format!("{META}.Time"), || simple("string", "date-time"));
                self.wrapped(reference, wrap)
            }
            FieldType::MicroTime => {
                let reference = self.shared(&format!("{META}.MicroTime"), || simple("string", "date-time"));
                self.wrapped(reference, wrap)
            }
            FieldType::IntOrString => {
                let version = self.version;
                let reference = self.shared(INT_OR_STRING, || match version {
                    Version::V2 => simple("string", "int-or-string"),
                    Version::V3 => {
                        let mut map = Map::new();
                        map.insert("format", "int-or-string");
                        let both = vec![simple("integer", "").into(), simple("string", "").into()];
                        map.insert("oneOf", both);
                        map
                    }
                });
                self.wrapped(reference, wrap)
            }
            FieldType::Raw => {
                let reference = self.shared(RAW, || simple("object", ""));
                self.wrapped(reference, wrap)
            }
            // Schemas of schemas describe themselves without end: what is in them is left open.
            FieldType::SchemaOrBool | FieldType::SchemaOrArray | FieldType::SchemaOrStrings => Map::new(),
            FieldType::List(element) => {
                let items = self.value(element, false);
                let mut map = simple("array", "");
                map.insert("items", items);
                map
            }
            FieldType::Map(element) => {
                let values = self.value(element, false);
                let mut map = simple("object", "");
                map.insert("additionalProperties", values);
                map
            }
            FieldType::Object(of) => {
                self.waiting.push(*of);
                let name = published_name(self.types.name(*of));
                let reference = self.reference(&name);
                self.wrapped(reference, wrap)
            }
        }
    }

    /// The schema of a kind's list.
    pub(super) fn add_list(
        &mut self,
        item: &str,
        list_kind: &SmolStr,
        resource: &crate::resources::Resource,
    ) {
        let Some(list_meta) = self.types.named("meta.v1.ListMeta") else { return };
        self.add_all(list_meta);
        let items = self.reference(item);
        let meta = self.reference(&format!("{META}.ListMeta"));
        let mut properties = Map::new();
        for field in ["apiVersion", "kind"] {
            properties.insert(field, simple("string", ""));
        }
        let mut list = simple("array", "");
        list.insert("items", items);
        properties.insert("items", list);
        properties.insert("metadata", self.wrapped(meta, true));
        let mut gvk = paths::group_version_kind(resource);
        gvk.insert("kind", list_kind.as_str());
        let mut schema = simple("object", "");
        schema.insert("properties", properties);
        schema.insert("required", vec![Value::from("items")]);
        schema.insert("x-kubernetes-group-version-kind", vec![Value::from(gvk)]);
        let owner = item.rsplit_once('.').map_or("", |(owner, _)| owner);
        self.schemas.insert(format!("{owner}.{list_kind}"), schema);
    }
}
