//! The `__meta_kubernetes_*` labels that every role makes of an object's metadata.

use gantry_prom_model::{Labels, LabelsBuilder};
use kube::core::ObjectMeta;

pub(crate) const PREFIX: &str = "__meta_kubernetes_";

/// A text as part of a label name: what is no letter, digit or underscore becomes an underscore.
pub(crate) fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// Labels of one target or group, being made.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    labels: LabelsBuilder,
}

impl Meta {
    /// Sets `__meta_kubernetes_<name>`; an empty value is no label.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> &mut Meta {
        self.labels.set(&format!("{PREFIX}{name}"), value);
        self
    }

    /// As [`Meta::set`], if there is a value.
    pub(crate) fn set_some(&mut self, name: &str, value: Option<&str>) -> &mut Meta {
        self.set(name, value.unwrap_or(""))
    }

    /// Sets a label without the prefix.
    pub(crate) fn plain(&mut self, name: &str, value: &str) -> &mut Meta {
        self.labels.set(name, value);
        self
    }

    /// Namespace, and name, labels and annotations of an object of `role`.
    pub(crate) fn object(&mut self, role: &str, meta: &ObjectMeta) -> &mut Meta {
        self.set_some("namespace", meta.namespace.as_deref());
        self.set_some(&format!("{role}_name"), meta.name.as_deref());
        self.details(role, meta)
    }

    /// Labels and annotations of an object of `role`.
    pub(crate) fn details(&mut self, role: &str, meta: &ObjectMeta) -> &mut Meta {
        for (kind, entries) in [("label", &meta.labels), ("annotation", &meta.annotations)] {
            for (name, value) in entries.iter().flatten() {
                let name = sanitize(name);
                self.set(&format!("{role}_{kind}_{name}"), value);
                self.set(&format!("{role}_{kind}present_{name}"), "true");
            }
        }
        self
    }

    pub(crate) fn build(&self) -> Labels {
        self.labels.build()
    }
}

/// `host:port`, an IPv6 host in brackets.
pub(crate) fn join_host_port(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
