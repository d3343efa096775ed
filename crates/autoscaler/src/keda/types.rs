//! The objects of `keda.sh/v1alpha1`, as far as they are acted on.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ScaledObject",
    plural = "scaledobjects",
    namespaced,
    status = "ScaledObjectStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaledObjectSpec {
    pub scale_target_ref: ScaleTarget,
    pub polling_interval: Option<i32>,
    pub initial_cooldown_period: Option<i32>,
    pub cooldown_period: Option<i32>,
    pub idle_replica_count: Option<i32>,
    pub min_replica_count: Option<i32>,
    pub max_replica_count: Option<i32>,
    pub advanced: Option<Advanced>,
    pub triggers: Vec<ScaleTrigger>,
    pub fallback: Option<Fallback>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleTarget {
    pub name: String,
    pub api_version: String,
    pub kind: String,
    pub env_source_container_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleTrigger {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub use_cached_metrics: bool,
    pub metadata: BTreeMap<String, String>,
    pub authentication_ref: Option<AuthenticationRef>,
    pub metric_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthenticationRef {
    pub name: String,
    pub kind: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fallback {
    pub failure_threshold: i32,
    pub replicas: i32,
    pub behavior: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Advanced {
    pub horizontal_pod_autoscaler_config: Option<HpaConfig>,
    pub restore_to_original_replica_count: bool,
    pub scaling_modifiers: ScalingModifiers,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HpaConfig {
    pub name: String,
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScalingModifiers {
    pub formula: String,
    pub target: String,
    pub activation_target: String,
    pub metric_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaledObjectStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_target_kind: Option<String>,
    #[serde(rename = "scaleTargetGVKR", skip_serializing_if = "Option::is_none")]
    pub scale_target_gvkr: Option<Gvkr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_replica_count: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active_time: Option<Time>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_metric_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_metric_names: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub composite_scaler_name: String,
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub health: BTreeMap<String, Health>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_replica_count: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hpa_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub triggers_types: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authentications_types: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers_activity: BTreeMap<String, Activity>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gvkr {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub resource: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Health {
    pub number_of_failures: i32,
    /// `Happy` or `Failing`.
    pub status: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Activity {
    pub is_active: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ScaledJob",
    plural = "scaledjobs",
    namespaced,
    status = "ScaledJobStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaledJobSpec {
    pub job_target_ref: JobSpec,
    pub polling_interval: Option<i32>,
    pub successful_jobs_history_limit: Option<i32>,
    pub failed_jobs_history_limit: Option<i32>,
    /// The older place of [`Rollout::strategy`].
    pub rollout_strategy: String,
    pub rollout: Rollout,
    pub env_source_container_name: String,
    pub min_replica_count: Option<i32>,
    pub max_replica_count: Option<i32>,
    pub scaling_strategy: ScalingStrategy,
    pub triggers: Vec<ScaleTrigger>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    pub strategy: String,
    pub propagation_policy: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScalingStrategy {
    pub strategy: String,
    pub custom_scaling_queue_length_deduction: Option<i32>,
    pub custom_scaling_running_job_percentage: String,
    pub pending_pod_conditions: Vec<String>,
    pub multiple_scalers_calculation: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaledJobStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active_time: Option<Time>,
    pub conditions: Vec<Condition>,
    #[serde(rename = "Paused", skip_serializing_if = "String::is_empty")]
    pub paused: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_metric_names: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub triggers_types: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authentications_types: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers_activity: BTreeMap<String, Activity>,
}

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "TriggerAuthentication",
    plural = "triggerauthentications",
    namespaced,
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct TriggerAuthenticationSpec {
    pub pod_identity: Option<AuthPodIdentity>,
    pub secret_target_ref: Vec<AuthTargetRef>,
    pub config_map_target_ref: Vec<AuthTargetRef>,
    pub env: Vec<AuthEnvironment>,
    pub file_path: String,
    pub hashi_corp_vault: Option<serde_json::Value>,
    pub azure_key_vault: Option<serde_json::Value>,
    pub gcp_secret_manager: Option<serde_json::Value>,
    pub aws_secret_manager: Option<serde_json::Value>,
    pub bound_service_account_token: Vec<serde_json::Value>,
    pub oauth2: Option<serde_json::Value>,
}

/// The same for the whole cluster; its secrets are those of KEDA's own namespace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ClusterTriggerAuthentication",
    plural = "clustertriggerauthentications",
    schema = "disabled"
)]
#[serde(default)]
pub struct ClusterTriggerAuthenticationSpec {
    #[serde(flatten)]
    pub authentication: TriggerAuthenticationSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthPodIdentity {
    pub provider: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthTargetRef {
    pub parameter: String,
    pub name: String,
    pub key: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthEnvironment {
    pub parameter: String,
    pub name: String,
    pub container_name: String,
}

/// The name of the one metric that a formula makes of all others.
pub const COMPOSITE_METRIC: &str = "composite-metric";

impl ScaledObjectSpec {
    pub fn modifiers(&self) -> Option<&ScalingModifiers> {
        let modifiers = &self.advanced.as_ref()?.scaling_modifiers;
        (!modifiers.formula.is_empty() || !modifiers.target.is_empty()).then_some(modifiers)
    }

    /// The HorizontalPodAutoscaler cannot go below one.
    pub fn hpa_min(&self) -> i32 {
        self.min_replica_count.filter(|min| *min > 0).unwrap_or(1)
    }

    pub fn hpa_max(&self) -> i32 {
        self.max_replica_count.unwrap_or(100)
    }
}

impl ScaledJobSpec {
    pub fn max_replicas(&self) -> i64 {
        let max = i64::from(self.max_replica_count.unwrap_or(100));
        let min = i64::from(self.min_replica_count.unwrap_or(0));
        // What is always kept running is not the scaler's to make; a minimum above the maximum is the maximum.
        if max <= min { max } else { max - min }
    }

    pub fn min_replicas(&self) -> i64 {
        let max = i64::from(self.max_replica_count.unwrap_or(100));
        i64::from(self.min_replica_count.unwrap_or(0)).min(max)
    }

    pub fn history_limits(&self) -> (i32, i32) {
        (self.successful_jobs_history_limit.unwrap_or(100), self.failed_jobs_history_limit.unwrap_or(100))
    }
}
