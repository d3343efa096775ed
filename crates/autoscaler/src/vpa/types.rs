//! The objects of `autoscaling.k8s.io/v1`, as far as they are acted on.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v1::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::histogram::HistogramCheckpoint;

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "autoscaling.k8s.io",
    version = "v1",
    kind = "VerticalPodAutoscaler",
    plural = "verticalpodautoscalers",
    namespaced,
    status = "VerticalPodAutoscalerStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct VerticalPodAutoscalerSpec {
    pub target_ref: Option<CrossVersionObjectReference>,
    pub update_policy: Option<UpdatePolicy>,
    pub resource_policy: Option<ResourcePolicy>,
    pub recommenders: Vec<RecommenderName>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdatePolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_mode: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecommenderName {
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourcePolicy {
    pub container_policies: Vec<ContainerPolicy>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPolicy {
    pub container_name: String,
    /// `Auto` or `Off`.
    pub mode: Option<String>,
    pub min_allowed: BTreeMap<String, Quantity>,
    pub max_allowed: BTreeMap<String, Quantity>,
    pub controlled_resources: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VerticalPodAutoscalerStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommendation: Option<Recommendation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<VpaCondition>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recommendation {
    pub container_recommendations: Vec<ContainerRecommendation>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerRecommendation {
    pub container_name: String,
    pub target: BTreeMap<String, Quantity>,
    pub lower_bound: BTreeMap<String, Quantity>,
    pub upper_bound: BTreeMap<String, Quantity>,
    pub uncapped_target: BTreeMap<String, Quantity>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VpaCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "autoscaling.k8s.io",
    version = "v1",
    kind = "VerticalPodAutoscalerCheckpoint",
    plural = "verticalpodautoscalercheckpoints",
    namespaced,
    status = "VerticalPodAutoscalerCheckpointStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct VerticalPodAutoscalerCheckpointSpec {
    pub vpa_object_name: String,
    pub container_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VerticalPodAutoscalerCheckpointStatus {
    pub last_update_time: Option<Time>,
    pub version: String,
    pub cpu_histogram: HistogramCheckpoint,
    pub memory_histogram: HistogramCheckpoint,
    pub first_sample_start: Option<Time>,
    pub last_sample_start: Option<Time>,
    pub total_samples_count: u64,
}
