//! Consumers and their credentials, indexed by what requests show.

use crate::entities::{BasicCredential, Consumer, JwtCredential, KeyCredential, Snapshot};
use std::collections::HashMap;
use std::sync::Arc;

/// Who a request is from, as far as that is known.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    pub(crate) consumer: Option<Arc<Consumer>>,
    /// The credential's id.
    pub(crate) credential: Option<String>,
    pub(crate) is_anonymous: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Consumers {
    by_id: HashMap<String, Arc<Consumer>>,
    by_name: HashMap<String, Arc<Consumer>>,
    keys: HashMap<String, KeyCredential>,
    basic: HashMap<String, BasicCredential>,
    jwt: HashMap<String, JwtCredential>,
    groups: HashMap<String, Vec<String>>,
}

impl Consumers {
    pub(crate) fn new(snapshot: &Snapshot) -> Consumers {
        let mut consumers = Consumers::default();
        for consumer in &snapshot.consumers {
            let shared = Arc::new(consumer.clone());
            consumers.by_id.insert(consumer.id.clone(), Arc::clone(&shared));
            for name in consumer.username.iter().chain(&consumer.custom_id) {
                consumers.by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&shared));
            }
        }
        for credential in &snapshot.keyauth_credentials {
            consumers.keys.insert(credential.key.clone(), credential.clone());
        }
        for credential in &snapshot.basicauth_credentials {
            consumers.basic.insert(credential.username.clone(), credential.clone());
        }
        for credential in &snapshot.jwt_secrets {
            consumers.jwt.insert(credential.key.clone(), credential.clone());
        }
        for group in &snapshot.acls {
            consumers.groups.entry(group.consumer.clone()).or_default().push(group.group.clone());
        }
        consumers
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Arc<Consumer>> {
        self.by_id.get(id)
    }

    /// By id or user name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Consumer>> {
        self.by_id.get(name).or_else(|| self.by_name.get(name))
    }

    pub(crate) fn key(&self, key: &str) -> Option<&KeyCredential> {
        self.keys.get(key)
    }

    pub(crate) fn basic(&self, username: &str) -> Option<&BasicCredential> {
        self.basic.get(username)
    }

    pub(crate) fn jwt(&self, key: &str) -> Option<&JwtCredential> {
        self.jwt.get(key)
    }

    pub(crate) fn groups(&self, consumer: &str) -> &[String] {
        self.groups.get(consumer).map_or(&[], Vec::as_slice)
    }
}
