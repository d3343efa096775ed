//! Whom a problem is about, so that an Event can say it there.

use crate::kinds::{GATEWAY_GROUP, KONG_GROUP};
use gantry_operator::Key;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The kinds of objects that are read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Ingress,
    Service,
    Gateway,
    HttpRoute,
    TlsRoute,
    KongPlugin,
    KongClusterPlugin,
    KongConsumer,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ingress => "Ingress",
            Kind::Service => "Service",
            Kind::Gateway => "Gateway",
            Kind::HttpRoute => "HTTPRoute",
            Kind::TlsRoute => "TLSRoute",
            Kind::KongPlugin => "KongPlugin",
            Kind::KongClusterPlugin => "KongClusterPlugin",
            Kind::KongConsumer => "KongConsumer",
        }
    }

    pub(crate) fn group(self) -> &'static str {
        match self {
            Kind::Ingress => "networking.k8s.io",
            Kind::Service => "",
            Kind::Gateway | Kind::HttpRoute | Kind::TlsRoute => GATEWAY_GROUP,
            Kind::KongPlugin | Kind::KongClusterPlugin | Kind::KongConsumer => KONG_GROUP,
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    pub kind: Kind,
    pub key: Key,
    pub uid: String,
}

impl Subject {
    pub(crate) fn of(kind: Kind, meta: &ObjectMeta) -> Subject {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let key = match &meta.namespace {
            Some(namespace) => Key::new(namespace, &text(&meta.name)),
            None => Key::cluster(&text(&meta.name)),
        };
        Subject { kind, key, uid: text(&meta.uid) }
    }

    /// What an Event is filed under.
    pub(crate) fn reference(&self) -> ObjectReference {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let group = self.kind.group();
        ObjectReference {
            api_version: Some(if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") }),
            kind: Some(self.kind.name().to_owned()),
            namespace: some(self.key.namespace()),
            name: some(self.key.name()),
            uid: some(&self.uid),
            ..ObjectReference::default()
        }
    }
}

/// Something an object asks for that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    pub subject: Subject,
    pub message: String,
}

/// Tags as Kong's ingress controller writes them.
pub(crate) fn tags(meta: &ObjectMeta, kind: &str, group: &str) -> Vec<String> {
    let mut tags = vec![format!("k8s-name:{}", meta.name.as_deref().unwrap_or_default())];
    tags.extend(meta.namespace.as_ref().map(|namespace| format!("k8s-namespace:{namespace}")));
    tags.push(format!("k8s-kind:{kind}"));
    tags.extend(meta.uid.as_ref().map(|uid| format!("k8s-uid:{uid}")));
    if !group.is_empty() {
        tags.push(format!("k8s-group:{group}"));
    }
    tags.push("k8s-version:v1".to_owned());
    tags
}
