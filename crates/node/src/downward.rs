//! The downward API: what a container may read about its own pod, as a variable or a file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use gantry_apimachinery::quantity;

/// What the pod's fields say once the node has chosen addresses.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    pub pod: &'a Pod,
    pub pod_ip: &'a str,
    pub host_ip: &'a str,
    pub node_name: &'a str,
    /// `cpu` and `memory` of the node, used where a container sets no limit.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// Why a reference has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DownwardError {
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
    #[error("container \"{0}\" named by resourceFieldRef is not in the pod")]
    Container(String),
    #[error("\"{0}\" is not a quantity")]
    Quantity(String),
}

impl Facts<'_> {
    /// The value of a `fieldRef`. A label or annotation that is absent is the empty string.
    pub(crate) fn field(&self, path: &str) -> Result<String, DownwardError> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let own = |s: Option<&str>| Ok(s.unwrap_or_default().to_string());
        match path {
            "metadata.name" => own(metadata.name.as_deref()),
            "metadata.namespace" => own(metadata.namespace.as_deref()),
            "metadata.uid" => own(metadata.uid.as_deref()),
            "metadata.labels" => Ok(listing(metadata.labels.as_ref())),
            "metadata.annotations" => Ok(listing(metadata.annotations.as_ref())),
            "spec.nodeName" => own(Some(self.node_name)),
            "spec.serviceAccountName" => {
                own(spec.and_then(|s| s.service_account_name.as_deref()).or(Some("default")))
            }
            "status.hostIP" | "status.hostIPs" => own(Some(self.host_ip)),
            "status.podIP" | "status.podIPs" => own(Some(self.pod_ip)),
            _ => {
                let subscript =
                    |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
                let value = |map: Option<&BTreeMap<String, String>>, key: &str| {
                    map.and_then(|m| m.get(key)).cloned().unwrap_or_default()
                };
                if let Some(key) = subscript("metadata.labels") {
                    Ok(value(metadata.labels.as_ref(), key))
                } else if let Some(key) = subscript("metadata.annotations") {
                    Ok(value(metadata.annotations.as_ref(), key))
                } else {
                    Err(DownwardError::Field(path.into()))
                }
            }
        }
    }

    /// The value of a `resourceFieldRef` in units of its divisor, rounded up.
    pub(crate) fn resource(
        &self,
        selector: &ResourceFieldSelector,
        own: &Container,
    ) -> Result<String, DownwardError> {
        let container = match selector.container_name.as_deref() {
            None | Some("") => own,
            Some(name) => self.container(name).ok_or_else(|| DownwardError::Container(name.into()))?,
        };
        let unsupported = || DownwardError::Resource(selector.resource.clone());
        let (list, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
        let resources = container.resources.as_ref();
        let limits = resources.and_then(|r| r.limits.as_ref());
        let requests = resources.and_then(|r| r.requests.as_ref());
        if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") && !resource.starts_with("hugepages-")
        {
            return Err(unsupported());
        }
        let quantity = match list {
            "limits" => limits.and_then(|l| l.get(resource)).or_else(|| self.allocatable.get(resource)),
            "requests" => requests.and_then(|r| r.get(resource)),
            _ => return Err(unsupported()),
        };
        let nano = |q: &Quantity| quantity::nano(&q.0).ok_or_else(|| DownwardError::Quantity(q.0.clone()));
        let value = quantity.map(nano).transpose()?.unwrap_or(0);
        let divisor = match &selector.divisor {
            Some(divisor) if !matches!(divisor.0.as_str(), "" | "0") => nano(divisor)?,
            _ => 1_000_000_000,
        };
        if divisor <= 0 {
            return Err(DownwardError::Quantity(divisor.to_string()));
        }
        let whole = value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0);
        Ok(whole.to_string())
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        let init = spec.init_containers.as_deref().unwrap_or_default();
        spec.containers.iter().chain(init).find(|c| c.name == name)
    }
}

/// `key="value"` lines, values quoted with Go's escapes.
fn listing(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1",
                "labels": {"app": "web", "tier": "a\"b"}, "annotations": {"note": "x\ny"}},
            "spec": {"serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}},
                {"name": "other"}]},
        }))
        .unwrap()
    }

    #[test]
    fn fields_and_resources() {
        let pod = pod();
        let allocatable = [("cpu", "4"), ("memory", "1Gi")];
        let allocatable = allocatable.map(|(k, v)| (k.to_string(), Quantity(v.into()))).into();
        let facts = Facts {
            pod: &pod,
            pod_ip: "127.1.0.2",
            host_ip: "127.0.0.1",
            node_name: "n1",
            allocatable: &allocatable,
        };
        let fields = [
            ("metadata.name", "web-0"),
            ("metadata.labels['app']", "web"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "app=\"web\"\ntier=\"a\\\"b\""),
            ("metadata.annotations", "note=\"x\\ny\""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "sa"),
            ("status.podIP", "127.1.0.2"),
            ("status.hostIP", "127.0.0.1"),
        ];
        for (path, value) in fields {
            assert_eq!(facts.field(path).unwrap(), value, "{path}");
        }
        assert_eq!(facts.field("spec.x"), Err(DownwardError::Field("spec.x".into())));

        let own = &pod.spec.as_ref().unwrap().containers[0];
        let cases = [
            ("limits.cpu", "", None, "1"),
            ("limits.cpu", "1m", None, "250"),
            ("limits.memory", "1Mi", None, "64"),
            ("limits.memory", "0", None, "67108864"),
            ("requests.cpu", "1m", None, "100"),
            ("requests.memory", "", None, "0"),
            ("limits.cpu", "1", Some("other"), "4"),
        ];
        for (resource, divisor, container, value) in cases {
            let selector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: Some(Quantity(divisor.into())),
                container_name: container.map(str::to_string),
            };
            assert_eq!(facts.resource(&selector, own).unwrap(), value, "{resource} {divisor}");
        }
    }
}
