//! Defaults of the kinds that make pods.

use gantry_apimachinery::Value;

use super::default_at;
use super::pod::default_template;

const TEMPLATE: [&str; 2] = ["spec", "template"];

pub(super) fn default_deployment(object: &mut Value) {
    default_template(object, &TEMPLATE);
    default_at(object, &["spec", "replicas"], 1i64);
    default_at(object, &["spec", "revisionHistoryLimit"], 10i64);
    default_at(object, &["spec", "progressDeadlineSeconds"], 600i64);
    default_at(object, &["spec", "strategy", "type"], "RollingUpdate");
    if object.str_at(&["spec", "strategy", "type"]) == Some("RollingUpdate") {
        default_at(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"], "25%");
        default_at(object, &["spec", "strategy", "rollingUpdate", "maxSurge"], "25%");
    }
}

pub(super) fn default_replica_set(object: &mut Value) {
    default_template(object, &TEMPLATE);
    default_at(object, &["spec", "replicas"], 1i64);
}

pub(super) fn default_replication_controller(object: &mut Value) {
    default_template(object, &TEMPLATE);
    default_at(object, &["spec", "replicas"], 1i64);
    let labels = object.at(&["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels {
        default_at(object, &["spec", "selector"], labels.clone());
        default_at(object, &["metadata", "labels"], labels);
    }
}

pub(super) fn default_stateful_set(object: &mut Value) {
    default_template(object, &TEMPLATE);
    default_at(object, &["spec", "podManagementPolicy"], "OrderedReady");
    default_at(object, &["spec", "updateStrategy", "type"], "RollingUpdate");
    if object.str_at(&["spec", "updateStrategy", "type"]) == Some("RollingUpdate") {
        default_at(object, &["spec", "updateStrategy", "rollingUpdate", "partition"], 0i64);
    }
    default_at(object, &["spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted"], "Retain");
    default_at(object, &["spec", "persistentVolumeClaimRetentionPolicy", "whenScaled"], "Retain");
    default_at(object, &["spec", "replicas"], 1i64);
    default_at(object, &["spec", "revisionHistoryLimit"], 10i64);
    for claim in
        object.at_mut(&["spec", "volumeClaimTemplates"]).and_then(Value::as_array_mut).into_iter().flatten()
    {
        default_at(claim, &["kind"], "PersistentVolumeClaim");
        default_at(claim, &["apiVersion"], "v1");
        super::core::default_claim(claim);
    }
}

pub(super) fn default_daemon_set(object: &mut Value) {
    default_template(object, &TEMPLATE);
    default_at(object, &["spec", "updateStrategy", "type"], "RollingUpdate");
    if object.str_at(&["spec", "updateStrategy", "type"]) == Some("RollingUpdate") {
        default_at(object, &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"], 1i64);
        default_at(object, &["spec", "updateStrategy", "rollingUpdate", "maxSurge"], 0i64);
    }
    default_at(object, &["spec", "revisionHistoryLimit"], 10i64);
}

pub(super) fn default_job(object: &mut Value) {
    default_template(object, &TEMPLATE);
    let parallelism = object.at(&["spec", "parallelism"]).is_some();
    if !parallelism && object.at(&["spec", "completions"]).is_none() {
        default_at(object, &["spec", "completions"], 1i64);
    }
    default_at(object, &["spec", "parallelism"], 1i64);
    let per_index = object.at(&["spec", "backoffLimitPerIndex"]).is_some();
    default_at(object, &["spec", "backoffLimit"], if per_index { i64::from(i32::MAX) } else { 6 });
    default_at(object, &["spec", "completionMode"], "NonIndexed");
    default_at(object, &["spec", "suspend"], false);
    default_at(object, &["spec", "manualSelector"], false);
    let failed_only = object.at(&["spec", "podFailurePolicy"]).is_some();
    default_at(
        object,
        &["spec", "podReplacementPolicy"],
        if failed_only { "Failed" } else { "TerminatingOrFailed" },
    );
}

/// A job finds its pods by its own uid unless it says otherwise.
pub(super) fn prepare_job(object: &mut Value) {
    default_at(object, &["status"], Value::object());
    if object.at(&["spec", "manualSelector"]).and_then(Value::as_bool) == Some(true) {
        return;
    }
    let uid = object.str_at(&["metadata", "uid"]).unwrap_or_default().to_owned();
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    for labels in [&["metadata", "labels"][..], &["spec", "template", "metadata", "labels"]] {
        let labels = object.entry_at(labels);
        for (key, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            *labels.entry_at(&[key]) = value.as_str().into();
        }
    }
    *object.entry_at(&["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"]) = uid.into();
}

pub(super) fn default_cron_job(object: &mut Value) {
    default_template(object, &["spec", "jobTemplate", "spec", "template"]);
    default_at(object, &["spec", "concurrencyPolicy"], "Allow");
    default_at(object, &["spec", "suspend"], false);
    default_at(object, &["spec", "successfulJobsHistoryLimit"], 3i64);
    default_at(object, &["spec", "failedJobsHistoryLimit"], 1i64);
}
