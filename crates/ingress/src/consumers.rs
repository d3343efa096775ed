//! KongConsumers and the Secrets that hold their credentials.
//!
//! A credential that cannot be used is told at its consumer and left out; the rest goes on. What a Secret holds is in no
//! message.

use crate::annotations::Annotations;
use crate::class::Class;
use crate::kinds::{KongConsumer, label};
use crate::plugins::{Asked, Scope};
use crate::subject::{Kind, Subject, tags};
use crate::translate::Building;
use gantry_gateway::entities::{BasicCredential, Consumer, Group, JwtCredential, KeyCredential};
use gantry_kong_model::{entity_id, hash_basic_password, read_public_key};
use gantry_operator::Key;
use k8s_openapi::api::core::v1::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const TYPE_LABEL: &str = "konghq.com/credential";
/// Where the type was before it was a label.
const TYPE_FIELD: &str = "kongCredType";
const USABLE: &str = "key-auth, basic-auth, jwt or acl";
const JWT_ALGORITHMS: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384",
    "PS512", "EdDSA",
];

/// Consumers and credentials so far.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) keys: Vec<KeyCredential>,
    pub(crate) basic: Vec<BasicCredential>,
    pub(crate) jwt: Vec<JwtCredential>,
    pub(crate) groups: Vec<Group>,
    /// What must be there once: the kind of thing and its value.
    taken: BTreeSet<(&'static str, String)>,
}

/// The fields of a Secret as text.
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn of(secret: &Secret) -> Result<Fields, String> {
        let mut fields = BTreeMap::new();
        for (name, value) in secret.data.iter().flatten() {
            let text = std::str::from_utf8(&value.0).map_err(|_| format!("{name} is not UTF-8"))?;
            fields.insert(name.clone(), text.to_owned());
        }
        Ok(Fields(fields))
    }

    fn required(&self, kind: &str, name: &str) -> Result<String, String> {
        let value = self.0.get(name).filter(|value| !value.is_empty());
        value.cloned().ok_or_else(|| format!("{kind} is invalid: no {name}"))
    }

    fn optional(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }
}

impl Known {
    /// Notes that `value` of `field` is in use, unless another has it.
    fn claim(&mut self, kind: &'static str, field: &str, value: &str) -> Result<(), String> {
        if self.taken.insert((kind, value.to_owned())) {
            return Ok(());
        }
        Err(format!("another credential of type {kind} has the same {field}"))
    }

    /// Adds what a Secret holds to a consumer.
    fn add(&mut self, consumer: &str, secret: &Secret) -> Result<(), String> {
        let fields = Fields::of(secret)?;
        let labelled = label(&secret.metadata, TYPE_LABEL).map(str::to_owned);
        let Some(kind) = labelled.or_else(|| fields.optional(TYPE_FIELD)) else {
            return Err(format!("no credential type: found no label {TYPE_LABEL}, expected {USABLE}"));
        };
        if fields.0.keys().all(|name| name == TYPE_FIELD) {
            return Err("empty secret".to_owned());
        }
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let id = entity_id("credentials", &format!("{consumer}/{kind}/{name}"));
        let consumer = consumer.to_owned();
        let tags = tags(&secret.metadata, "Secret", "");
        match kind.as_str() {
            "key-auth" => {
                let key = fields.required("key-auth", "key")?;
                if fields.0.contains_key("ttl") {
                    return Err("ttl: not supported, delete the Secret when the key is to end".to_owned());
                }
                self.claim("key-auth", "key", &key)?;
                self.keys.push(KeyCredential { id, consumer, key, tags });
            }
            "basic-auth" => {
                let username = fields.required("basic-auth", "username")?;
                let password = fields.required("basic-auth", "password")?;
                self.claim("basic-auth", "username", &username)?;
                let password = hash_basic_password(&consumer, &password);
                self.basic.push(BasicCredential { id, consumer, username, password, tags });
            }
            "jwt" => {
                let credential = JwtCredential { tags, ..jwt(id, consumer, &fields)? };
                self.claim("jwt", "key", &credential.key)?;
                self.jwt.push(credential);
            }
            "acl" => {
                let group = fields.required("acl", "group")?;
                if self.taken.insert(("acl", format!("{consumer}/{group}"))) {
                    self.groups.push(Group { id, consumer, group, tags });
                }
            }
            "hmac-auth" | "oauth2" | "mtls-auth" => {
                return Err(format!("{kind}: this gateway has no such plugin, use {USABLE}"));
            }
            _ => return Err(format!("invalid credential type: found {kind:?}, expected {USABLE}")),
        }
        Ok(())
    }
}

fn jwt(id: String, consumer: String, fields: &Fields) -> Result<JwtCredential, String> {
    let key = fields.required("jwt", "key")?;
    let algorithm = fields.optional("algorithm").unwrap_or_else(|| "HS256".to_owned());
    if !JWT_ALGORITHMS.contains(&algorithm.as_str()) {
        return Err(format!("jwt is invalid: algorithm: expected one of {}", JWT_ALGORITHMS.join(", ")));
    }
    let rsa_public_key = fields.optional("rsa_public_key");
    if !algorithm.starts_with("HS") {
        let text = rsa_public_key.as_deref().ok_or("jwt is invalid: no rsa_public_key")?;
        read_public_key(text).map_err(|_| "jwt is invalid: rsa_public_key is not a public key in PEM")?;
    }
    Ok(JwtCredential {
        id,
        consumer,
        key,
        secret: fields.optional("secret"),
        algorithm: Some(algorithm),
        rsa_public_key,
        tags: Vec::new(),
    })
}

impl Building<'_> {
    /// The consumers of our class, the oldest first: what two of them claim stays with it.
    pub(crate) fn add_consumers(&mut self, class: &Class<'_>) {
        let mut all: Vec<Arc<KongConsumer>> = self
            .input
            .consumers
            .iter()
            .filter(|consumer| class.claims_annotated(&consumer.metadata))
            .cloned()
            .collect();
        all.sort_by_key(|consumer| {
            let meta = &consumer.metadata;
            let created = meta.creation_timestamp.as_ref().map(|time| time.0.as_second());
            (created, meta.namespace.clone(), meta.name.clone())
        });
        for consumer in all {
            self.add_consumer(&consumer);
        }
    }

    fn add_consumer(&mut self, object: &KongConsumer) {
        let subject = Subject::of(Kind::KongConsumer, &object.metadata);
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (username, custom_id) = (some(&object.username), some(&object.custom_id));
        let Some(name) = username.clone().or_else(|| custom_id.clone()) else {
            self.problem(&subject, "no username or custom_id specified");
            return;
        };
        for (field, value) in [("username", &username), ("custom_id", &custom_id)] {
            let Some(value) = value else { continue };
            if self.consumers.claim(field, field, value).is_err() {
                let message = format!("{field}: there is an older KongConsumer with {value:?}, which stays");
                self.problem(&subject, message);
                return;
            }
        }
        // The id follows from either, so a custom_id equal to another's username would be that consumer.
        if self.consumers.claim("id", "id", &name).is_err() {
            let message = format!(
                "there is an older KongConsumer with the username or custom_id {name:?}, which stays"
            );
            self.problem(&subject, message);
            return;
        }
        if !object.consumer_groups.is_empty() {
            self.problem(&subject, "consumerGroups: consumer groups are a feature of Kong Enterprise");
        }
        let id = entity_id("consumers", &name);
        self.consumers.consumers.push(Consumer {
            id: id.clone(),
            username,
            custom_id,
            tags: tags(&object.metadata, subject.kind.name(), subject.kind.group()),
        });
        for secret_name in &object.credentials {
            let key = Key::new(subject.key.namespace(), secret_name);
            let outcome = match self.secrets.get(&key) {
                Some(secret) => self.consumers.add(&id, secret),
                None => {
                    Err(format!("there is no secret {:?} in namespace {:?}", key.name(), key.namespace()))
                }
            };
            if let Err(reason) = outcome {
                self.problem(&subject, format!("credential {secret_name:?} failure: {reason}"));
            }
        }
        for reference in Annotations::of(&object.metadata).plugins() {
            let scope = Scope::Consumer { id: id.clone(), name: name.clone() };
            self.asked.push(Asked { subject: subject.clone(), scope, reference });
        }
    }
}
