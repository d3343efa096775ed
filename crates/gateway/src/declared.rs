//! From flat entities, as files and the Admin API hold them, to the typed configuration.

use crate::entities::{Certificate, Snapshot, Target};
use crate::snapshot::ConfigError;
use gantry_kong_model::{Entities, hash_basic_password, is_uuid};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;

/// An entity without nulls, its references as ids.
fn plain(entity: &Value) -> Value {
    let Value::Object(map) = entity else { return entity.clone() };
    let kept = map.iter().filter(|(_, value)| !value.is_null());
    let entries = kept.map(|(name, value)| {
        let id = value
            .as_object()
            .filter(|reference| reference.len() == 1)
            .and_then(|reference| reference.get("id"));
        let is_reference = matches!(
            name.as_str(),
            "service" | "route" | "consumer" | "upstream" | "certificate" | "client_certificate"
        );
        (name.clone(), id.filter(|_| is_reference).unwrap_or(value).clone())
    });
    Value::Object(entries.collect())
}

fn all<T: DeserializeOwned>(entities: &Entities, collection: &'static str) -> Result<Vec<T>, ConfigError> {
    let mut out = Vec::new();
    for entity in entities.of(collection) {
        let typed = serde_json::from_value(plain(entity)).map_err(|error| ConfigError {
            entity: collection,
            name: entity["name"].as_str().or(entity["id"].as_str()).unwrap_or_default().to_owned(),
            field: "".into(),
            reason: error.to_string(),
        })?;
        out.push(typed);
    }
    Ok(out)
}

/// A key that is to end must not be taken for one that never does.
fn refuse_ttl(entities: &Entities) -> Result<(), ConfigError> {
    let ends = |entity: &&Value| entity["ttl"].as_f64().is_some_and(|seconds| seconds > 0.0);
    match entities.of("keyauth_credentials").find(ends) {
        None => Ok(()),
        Some(entity) => Err(ConfigError {
            entity: "keyauth_credential",
            name: entity["id"].as_str().unwrap_or_default().to_owned(),
            field: "ttl".into(),
            reason: "is not supported, delete the credential when the key is to end".into(),
        }),
    }
}

impl Snapshot {
    /// The configuration that `entities` describe; an error where one asks for what would not be done. `transform` hashes passwords that are not hashed yet.
    pub fn from_entities(entities: &Entities, transform: bool) -> Result<Snapshot, ConfigError> {
        refuse_ttl(entities)?;
        let mut snapshot = Snapshot {
            services: all(entities, "services")?,
            routes: all(entities, "routes")?,
            upstreams: all(entities, "upstreams")?,
            plugins: all(entities, "plugins")?,
            consumers: all(entities, "consumers")?,
            keyauth_credentials: all(entities, "keyauth_credentials")?,
            basicauth_credentials: all(entities, "basicauth_credentials")?,
            jwt_secrets: all(entities, "jwt_secrets")?,
            acls: all(entities, "acls")?,
            certificates: all::<Certificate>(entities, "certificates")?,
            ca_certificates: all(entities, "ca_certificates")?,
            entrances: Vec::new(),
        };
        if transform {
            for credential in &mut snapshot.basicauth_credentials {
                let is_known = is_uuid(&credential.consumer);
                if is_known {
                    credential.password = hash_basic_password(&credential.consumer, &credential.password);
                }
            }
        }
        let positions: HashMap<String, usize> =
            snapshot.upstreams.iter().enumerate().map(|(i, upstream)| (upstream.id.clone(), i)).collect();
        for entity in entities.of("targets") {
            let target: Target = serde_json::from_value(plain(entity)).map_err(|error| ConfigError {
                entity: "target",
                name: entity["target"].as_str().unwrap_or_default().to_owned(),
                field: "".into(),
                reason: error.to_string(),
            })?;
            let upstream = entity["upstream"]["id"].as_str().unwrap_or_default();
            if let Some(&at) = positions.get(upstream) {
                snapshot.upstreams[at].targets.push(target);
            }
        }
        for entity in entities.of("snis") {
            let owner = entity["certificate"]["id"].as_str().unwrap_or_default();
            let name = entity["name"].as_str().unwrap_or_default();
            if let Some(certificate) = snapshot.certificates.iter_mut().find(|known| known.id == owner) {
                certificate.snis.push(name.to_owned());
            }
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_that_is_to_end_is_refused() {
        let with = |ttl: Value| {
            let mut entities = Entities::default();
            let key = json!({"id": "k1", "key": "hunter2", "consumer": {"id": "c1"}, "ttl": ttl});
            entities.insert("keyauth_credentials", "k1", key);
            Snapshot::from_entities(&entities, false)
        };
        assert_eq!(with(json!(0)).unwrap().keyauth_credentials.len(), 1);
        assert_eq!(with(Value::Null).unwrap().keyauth_credentials.len(), 1);
        let error = with(json!(60)).unwrap_err();
        assert_eq!((error.name.as_str(), error.field.as_str()), ("k1", "ttl"));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
