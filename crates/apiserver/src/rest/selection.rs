//! Label and field selectors of a request, applied to stored objects.

use gantry_apimachinery::selector::{self, Selector};
use gantry_apimachinery::{Kind, Number, Value};

use crate::query::Query;
use crate::resources::Resource;
use crate::status::Failure;
use crate::store::Object;

/// What a list, watch or collection deletion selects.
pub(crate) struct Selection {
    labels: Selector,
    fields: Selector,
    /// True if a field other than name and namespace is asked for, so that objects must be parsed.
    needs_value: bool,
}

impl Selection {
    pub(crate) fn parse(query: &Query, resource: &Resource) -> Result<Selection, Failure> {
        let labels = selector::parse_label_selector(query.get("labelSelector").unwrap_or_default())
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        let fields = selector::parse_field_selector(query.get("fieldSelector").unwrap_or_default())
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        let known = selectable_fields(resource.id());
        for requirement in &fields.requirements {
            let key = requirement.key.as_str();
            if !matches!(key, "metadata.name" | "metadata.namespace") && !known.contains(&key) {
                return Err(unknown_field(key, known));
            }
        }
        let needs_value = fields
            .requirements
            .iter()
            .any(|requirement| !matches!(requirement.key.as_str(), "metadata.name" | "metadata.namespace"));
        Ok(Selection { labels, fields, needs_value })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        if !self.labels.matches(|key| object.label(key)) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let value = if self.needs_value { object.value() } else { Value::NULL };
        self.fields.requirements.iter().all(|requirement| {
            let found = match requirement.key.as_str() {
                "metadata.name" => object.key.name.to_string(),
                "metadata.namespace" => object.key.namespace.to_string(),
                key => field_text(&value, key),
            };
            requirement.matches(Some(&found))
        })
    }
}

/// A field's value as text; an absent one is empty, a flag `false`.
fn field_text(object: &Value, key: &str) -> String {
    let key = match key {
        // The two forms of events name the same things differently.
        "source" => "source.component",
        "reportingController" | "reportingComponent" => "reportingComponent",
        other => other,
    };
    let value = key.split('.').try_fold(object, |value, step| value.get(step));
    match value.map(|value| &value.kind) {
        Some(Kind::String(text)) => text.to_string(),
        Some(Kind::Bool(flag)) => flag.to_string(),
        Some(Kind::Number(Number::Int(number))) => number.to_string(),
        _ if matches!(key, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        _ if key == "status.successful" => "0".into(),
        _ => String::new(),
    }
}

/// Fields beside name and namespace by which a kind can be selected.
fn selectable_fields(id: &str) -> &'static [&'static str] {
    match id {
        "/pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "/events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "/nodes" => &["spec.unschedulable"],
        "/namespaces" => &["status.phase"],
        "/secrets" => &["type"],
        "/services" => &["spec.clusterIP", "spec.type"],
        "/replicationcontrollers" | "apps/replicasets" => &["status.replicas"],
        "batch/jobs" => &["status.successful"],
        "certificates.k8s.io/certificatesigningrequests" => &["spec.signerName"],
        _ => &[],
    }
}

fn unknown_field(key: &str, known: &[&str]) -> Failure {
    if known.is_empty() {
        return Failure::bad_request(format!(
            "\"{key}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ));
    }
    Failure::bad_request(format!("field label not supported: {key}"))
}
