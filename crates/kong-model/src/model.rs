//! All schemas together: the core entities, the bundled plugins and what they bring along.

use crate::schema::Schema;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The version whose schemas these are.
pub const VERSION: &str = "3.9.3";

const ENTITIES: &str = include_str!("../data/kong@3.9/entities.json");
const PLUGINS: &str = include_str!("../data/kong@3.9/plugins.json");
const CREDENTIALS: &str = include_str!("../data/kong@3.9/daos.json");

/// Bundled plugins and their PRIORITY: higher runs first.
pub const PLUGIN_PRIORITIES: [(&str, i32); 45] = [
    ("pre-function", 1_000_000),
    ("correlation-id", 100_001),
    ("zipkin", 100_000),
    ("bot-detection", 2_500),
    ("cors", 2_000),
    ("session", 1_900),
    ("acme", 1_705),
    ("jwt", 1_450),
    ("oauth2", 1_400),
    ("key-auth", 1_250),
    ("ldap-auth", 1_200),
    ("basic-auth", 1_100),
    ("hmac-auth", 1_030),
    ("grpc-gateway", 998),
    ("ip-restriction", 990),
    ("request-size-limiting", 951),
    ("acl", 950),
    ("rate-limiting", 910),
    ("response-ratelimiting", 900),
    ("request-transformer", 801),
    ("response-transformer", 800),
    ("redirect", 779),
    ("ai-request-transformer", 777),
    ("ai-prompt-template", 773),
    ("ai-prompt-decorator", 772),
    ("ai-prompt-guard", 771),
    ("ai-proxy", 770),
    ("ai-response-transformer", 768),
    ("standard-webhooks", 760),
    ("aws-lambda", 750),
    ("azure-functions", 749),
    ("proxy-cache", 100),
    ("opentelemetry", 14),
    ("prometheus", 13),
    ("http-log", 12),
    ("statsd", 11),
    ("datadog", 10),
    ("file-log", 9),
    ("udp-log", 8),
    ("tcp-log", 7),
    ("loggly", 6),
    ("syslog", 4),
    ("grpc-web", 3),
    ("request-termination", 2),
    ("post-function", -1_000),
];

/// Every schema by collection.
#[derive(Clone, Debug)]
pub struct Model {
    schemas: BTreeMap<String, Schema>,
    plugins: BTreeMap<String, Value>,
}

fn read(text: &str) -> Value {
    // The tables are part of the program; a test reads them.
    serde_json::from_str(text).unwrap_or_default()
}

impl Model {
    /// The schemas with all bundled plugins.
    pub fn load() -> Model {
        let mut schemas = BTreeMap::new();
        for source in read(ENTITIES).as_object().into_iter().flatten().map(|(_, source)| source) {
            let schema = Schema::parse(source);
            schemas.insert(schema.name.clone(), schema);
        }
        for source in read(CREDENTIALS).as_array().into_iter().flatten() {
            let schema = Schema::parse(source);
            schemas.insert(schema.name.clone(), schema);
        }
        let mut plugins = BTreeMap::new();
        for (name, source) in read(PLUGINS).as_object().into_iter().flatten() {
            if let Some(schema) = schemas.get_mut("plugins") {
                schema.add_subschema(name, source);
            }
            plugins.insert(name.clone(), source.clone());
        }
        if let Some(schema) = schemas.get_mut("vaults") {
            let prefix = json!({"type": "string", "match": "^[%a_][%a%d_]*$"});
            let config = json!({"type": "record", "fields": [{"prefix": prefix}]});
            schema.add_subschema("env", &json!({"fields": [{"config": config}]}));
        }
        Model { schemas, plugins }
    }

    pub fn schema(&self, collection: &str) -> Option<&Schema> {
        self.schemas.get(collection)
    }

    pub fn schemas(&self) -> impl Iterator<Item = &Schema> {
        self.schemas.values()
    }

    /// The definition of a plugin, as `/schemas/plugins/…` shows it.
    pub fn plugin(&self, name: &str) -> Option<&Value> {
        self.plugins.get(name)
    }

    pub fn plugin_names(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }

    /// Collections whose entities refer to those of `collection`, and by which field.
    pub fn children<'m>(&'m self, collection: &'m str) -> impl Iterator<Item = (&'m str, &'m str)> {
        self.schemas.values().flat_map(move |schema| {
            let references = schema.references().filter(move |(_, target, _)| *target == collection);
            references.map(move |(field, _, _)| (schema.name.as_str(), field))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_whole() {
        let model = Model::load();
        assert_eq!(model.plugin_names().count(), PLUGIN_PRIORITIES.len());
        for (name, _) in PLUGIN_PRIORITIES {
            assert!(model.plugin(name).is_some(), "{name}");
        }
        for name in
            ["services", "routes", "consumers", "plugins", "upstreams", "targets", "keyauth_credentials"]
        {
            assert!(model.schema(name).is_some_and(|schema| !schema.fields.is_empty()), "{name}");
        }
        let children: Vec<_> = model.children("consumers").collect();
        assert!(children.contains(&("acls", "consumer")) && children.contains(&("plugins", "consumer")));
    }
}
