//! From a `scaleTargetRef` to the resource whose `scale` is read and written.

use std::collections::HashMap;

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;
use kube::api::{Api, ApiResource, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use parking_lot::Mutex;

/// Finds scale subresources and remembers where kinds are served.
pub(crate) struct Targets {
    client: Client,
    known: Mutex<HashMap<(String, String), ApiResource>>,
}

impl Targets {
    pub(crate) fn new(client: Client) -> Targets {
        Targets { client, known: Mutex::default() }
    }

    /// The target's scale and the way to write it.
    pub(crate) async fn scale(
        &self,
        namespace: &str,
        reference: &CrossVersionObjectReference,
    ) -> Result<(Api<DynamicObject>, Scale), kube::Error> {
        let resource = self.resource(reference).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let scale = api.get_scale(&reference.name).await?;
        Ok((api, scale))
    }

    /// The pod template of the target, where its kind has one.
    pub(crate) async fn pod_template(
        &self,
        namespace: &str,
        reference: &CrossVersionObjectReference,
    ) -> Result<Option<PodSpec>, kube::Error> {
        let resource = self.resource(reference).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let mut object = api.get(&reference.name).await?;
        let template = object.data.pointer_mut("/spec/template/spec").map(serde_json::Value::take);
        Ok(template.and_then(|template| serde_json::from_value(template).ok()))
    }

    /// The labels that select the target's pods, as a selector's text: what its spec selects by, or its scale.
    pub(crate) async fn pod_selector(
        &self,
        namespace: &str,
        reference: &CrossVersionObjectReference,
    ) -> Result<Option<String>, kube::Error> {
        let resource = self.resource(reference).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let object = api.get(&reference.name).await?;
        if let Some(selector) = object.data.pointer("/spec/selector").and_then(serde_json::Value::as_object) {
            let is_plain =
                !selector.contains_key("matchLabels") && !selector.contains_key("matchExpressions");
            let selector = serde_json::Value::Object(selector.clone());
            let selector = match is_plain {
                true => LabelSelector {
                    match_labels: serde_json::from_value(selector).ok(),
                    ..LabelSelector::default()
                },
                false => serde_json::from_value(selector).map_err(kube::Error::SerdeError)?,
            };
            return Ok(Some(selector_text(&selector)));
        }
        // A CronJob selects by what its jobs' pods are labelled with.
        if let Some(labels) = object.data.pointer("/spec/jobTemplate/spec/template/metadata/labels") {
            let match_labels = serde_json::from_value(labels.clone()).map_err(kube::Error::SerdeError)?;
            let selector = LabelSelector { match_labels: Some(match_labels), ..LabelSelector::default() };
            return Ok(Some(selector_text(&selector)));
        }
        let scale = api.get_scale(&reference.name).await?;
        Ok(scale.status.and_then(|status| status.selector).filter(|selector| !selector.is_empty()))
    }

    pub(crate) async fn resource(
        &self,
        reference: &CrossVersionObjectReference,
    ) -> Result<ApiResource, kube::Error> {
        let api_version = reference.api_version.clone().unwrap_or_else(|| "apps/v1".into());
        let key = (api_version.clone(), reference.kind.clone());
        if let Some(known) = self.known.lock().get(&key) {
            return Ok(known.clone());
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let kind = GroupVersionKind::gvk(group, version, &reference.kind);
        let (resource, _) = kube::discovery::pinned_kind(&self.client, &kind).await?;
        self.known.lock().insert(key, resource.clone());
        Ok(resource)
    }
}

/// Writes the size; the scale's resourceVersion makes a concurrent change a conflict.
pub(crate) async fn resize(
    api: &Api<DynamicObject>,
    mut scale: Scale,
    replicas: i32,
) -> Result<Scale, kube::Error> {
    let name = scale.metadata.name.clone().unwrap_or_default();
    scale.spec.get_or_insert_default().replicas = Some(replicas);
    api.replace_scale(&name, &PostParams::default(), &scale).await
}

/// A selector as a request has it.
pub(crate) fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let (key, values) = (&expression.key, expression.values.as_deref().unwrap_or_default().join(","));
        match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            _ => format!("!{key}"),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}
