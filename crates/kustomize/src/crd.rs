//! Field specifications that the OpenAPI definitions of custom resources carry (`crds`).

use std::collections::HashMap;

use gantry_yaml::Node;

use crate::config::{Config, FieldSpec, NameReference};
use crate::id::Gvk;

const MAX_DEPTH: usize = 32;

/// What the definitions in a document say about labels, annotations, identities and name references.
pub(crate) fn config_of(document: &Node) -> Config {
    let mut config = Config::default();
    let definitions: HashMap<&str, &Node> = document
        .as_mapping()
        .unwrap_or_default()
        .iter()
        .filter_map(|(name, entry)| {
            Some((name.text()?, entry.get("Schema").or_else(|| entry.get("schema"))?))
        })
        .collect();
    let mut names: Vec<&&str> = definitions.keys().collect();
    names.sort();
    for name in names {
        let Some(schema) = definitions.get(*name) else { continue };
        let is_resource = ["kind", "apiVersion", "metadata"]
            .iter()
            .all(|field| schema.at(&["properties", field]).is_some());
        if is_resource {
            let kind = name.rsplit('.').next().unwrap_or(name);
            walk(schema, &Gvk::new("", kind), &mut Vec::new(), &definitions, &mut config);
        }
    }
    config
}

fn walk<'a>(
    schema: &'a Node,
    gvk: &Gvk,
    path: &mut Vec<String>,
    definitions: &HashMap<&str, &'a Node>,
    config: &mut Config,
) {
    if path.len() > MAX_DEPTH {
        return;
    }
    for (name, property) in schema.get("properties").and_then(Node::as_mapping).unwrap_or_default() {
        let Some(name) = name.text() else { continue };
        path.push(name.to_owned());
        let spec = |create: bool, path: &[String]| FieldSpec {
            path: path.join("/"),
            kind: gvk.kind.clone(),
            create,
            ..FieldSpec::default()
        };
        if property.get("x-kubernetes-annotation").is_some() {
            config.common_annotations.push(spec(false, path));
        }
        if property.get("x-kubernetes-label-selector").is_some() {
            config.common_labels.push(spec(false, path));
        }
        if property.get("x-kubernetes-identity").is_some() {
            config.name_prefix.push(spec(false, path));
        }
        let version = property.text_at(&["x-kubernetes-object-ref-api-version"]);
        let kind = property.text_at(&["x-kubernetes-object-ref-kind"]);
        if let (Some(version), Some(kind)) = (version, kind) {
            let key = property.text_at(&["x-kubernetes-object-ref-name-key"]).unwrap_or("name");
            let mut full = path.clone();
            full.push(key.to_owned());
            let Gvk { group, version, kind } = Gvk::new(version, kind);
            config.name_reference.push(NameReference {
                group,
                version,
                kind,
                field_specs: vec![spec(false, &full)],
            });
        }
        let reference = property.text_at(&["$ref"]).or_else(|| property.text_at(&["items", "$ref"]));
        match reference.and_then(|reference| definitions.get(reference)) {
            Some(definition) => walk(definition, gvk, path, definitions, config),
            None => walk(property, gvk, path, definitions, config),
        }
        path.pop();
    }
}
