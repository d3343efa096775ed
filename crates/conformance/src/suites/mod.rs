//! Every suite by name, and the one thing a suite does.

pub(crate) mod autoscaling;
pub(crate) mod autoscaling_api;
pub(crate) mod dashboards;
pub(crate) mod gateway_api;
mod gateway_world;
mod go;
pub(crate) mod keda;
mod keda_answers;
pub(crate) mod kic_golden;
pub(crate) mod kong;
pub(crate) mod kong_model;
pub(crate) mod kopf;
pub(crate) mod kubernetes;
pub(crate) mod kustomize;
pub(crate) mod kustomize_edit;
pub(crate) mod kustomize_unit;
pub(crate) mod locust;
pub(crate) mod promql;
pub(crate) mod rules;
pub(crate) mod thanos;
pub(crate) mod vpa;

use std::path::Path;

/// What became of one case.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Why it failed; `None` when it passed.
    pub(crate) failure: Option<String>,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, outcome: Result<(), String>) -> Case {
        Case { name: name.into(), failure: outcome.err() }
    }

    /// The only case of a suite that could not begin.
    pub(crate) fn not_started(what: &str, error: impl std::fmt::Display) -> Vec<Case> {
        vec![Case::new("start", Err(format!("{what}: {error}")))]
    }
}

/// A suite: runs all cases below the data folder. `None` when its data or the program that plays it is not there, which
/// is below every floor; what cannot be started is a failed case.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) run: fn(data: &Path) -> Option<Vec<Case>>,
}

/// The suites in the order of the table.
pub(crate) const SUITES: &[Suite] = &[
    Suite { name: "autoscaling-behavior", run: autoscaling::behavior },
    Suite { name: "autoscaling-hpa", run: autoscaling::reconciliations },
    Suite { name: "autoscaling-replicas", run: autoscaling::replicas },
    Suite { name: "autoscaling-defaults", run: autoscaling_api::defaults },
    Suite { name: "autoscaling-validation", run: autoscaling_api::validation },
    Suite { name: "vpa-amounts", run: vpa::amounts },
    Suite { name: "vpa-containers", run: vpa::containers },
    Suite { name: "vpa-estimators", run: vpa::estimators },
    Suite { name: "vpa-histograms", run: vpa::histograms },
    Suite { name: "vpa-policies", run: vpa::policies },
    Suite { name: "dashboards", run: dashboards::cases },
    Suite { name: "keda-core", run: keda::core },
    Suite { name: "keda-scalers", run: keda::scalers },
    Suite { name: "kopf-annotation-keys", run: kopf::annotation_keys },
    Suite { name: "kopf-diffs", run: kopf::diffs },
    Suite { name: "kubernetes-objects", run: kubernetes::objects },
    Suite { name: "http-session", run: kubernetes::sessions::http },
    Suite { name: "kubectl-session", run: kubernetes::sessions::kubectl },
    Suite { name: "kustomize", run: kustomize::cases },
    Suite { name: "kustomize-yaml", run: kustomize::yaml_quirks },
    Suite { name: "kustomize-edit", run: kustomize_edit::cases },
    Suite { name: "kustomize-repospec", run: kustomize_unit::repositories },
    Suite { name: "kustomize-image", run: kustomize_unit::images },
    Suite { name: "kustomize-resid", run: kustomize_unit::identities },
    Suite { name: "kustomize-hasher", run: kustomize_unit::hashes },
    Suite { name: "kustomize-merge2", run: kustomize_unit::merges },
    Suite { name: "kustomize-merge3", run: kustomize_unit::three_way_merges },
    Suite { name: "kustomize-replacement", run: kustomize_unit::replacements },
    Suite { name: "kustomize-expand", run: kustomize_unit::expansions },
    Suite { name: "locust-wire", run: locust::wire },
    Suite { name: "promql/promqltest", run: promql::scripts },
    Suite { name: "promql/openmetrics", run: promql::open_metrics },
    Suite { name: "promql/rulefmt", run: rules::files },
    Suite { name: "promql/rule_unit_tests", run: rules::unit_tests },
    Suite { name: "promql/config_testdata", run: rules::configurations },
    Suite { name: "kong-router", run: kong::router_traditional },
    Suite { name: "kong-router-paths", run: kong::router_path_handling },
    Suite { name: "tsdb-format", run: thanos::tsdb_format },
    Suite { name: "thanos-dedup", run: thanos::deduplication },
    Suite { name: "thanos-planner", run: thanos::planner },
    Suite { name: "thanos-downsample", run: thanos::downsampling },
    Suite { name: "thanos-store-merge", run: thanos::store_merge },
    Suite { name: "kong-entities", run: kong_model::entities },
    Suite { name: "kong-plugin-configs", run: kong_model::plugin_configs },
    Suite { name: "kong-declarative", run: kong_model::declarative },
    Suite { name: "kong-flatten-errors", run: kong_model::flatten_errors },
    Suite { name: "kic-golden", run: kic_golden::cases },
    Suite { name: "gateway-api", run: gateway_api::cases },
];

/// Suites of the data folder that nothing here runs yet.
pub(crate) const NOT_RUN: &[&str] = &[
    "autoscaling-metrics-server",
    "autoscaling-vpa-admission",
    "autoscaling-vpa-updater",
    "kong-admin",
    "kubernetes-client-traces",
    "kubernetes-golden",
    "promql/alert_generator",
    "promql/api",
    "promql/compliance",
    "promql/remotewrite",
    "thanos-dedup-compaction",
    "thanos-hashring",
    "thanos-query-select",
    "thanos-retention",
    "thanos-sort-without-labels",
    "thanos-store-proxy",
];
