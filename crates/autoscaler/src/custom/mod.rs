//! Metrics of pods and objects over PromQL, by the rules of prometheus-adapter: `custom.metrics.k8s.io`.
//!
//! Invariant: a value is only given for an object that a label of the series names; what a request says that PromQL
//! cannot say exactly is refused.

mod api;
mod external;
mod kinds;
mod labels;
mod names;
mod provider;
mod query;
mod resources;
mod rules;
mod series;

use std::collections::BTreeMap;

use async_trait::async_trait;

pub use api::{CUSTOM_METRICS_VERSIONS, CustomMetricsApi};
pub use provider::{CustomMetrics, CustomMetricsError};
pub use resources::QueriedResources;
pub use rules::{Rules, RulesError};

/// Where the HorizontalPodAutoscaler reads metrics of pods and objects.
#[async_trait]
pub trait ObjectMetrics: Send + Sync + 'static {
    /// The metric's value, in thousandths, of those of the named pods that have one. `selector` is a label selector
    /// over the metric's own labels.
    async fn of_pods(
        &self,
        namespace: &str,
        pods: &[String],
        metric: &str,
        selector: &str,
    ) -> Result<BTreeMap<String, i64>, String>;

    /// The metric's value, in thousandths, of one object.
    async fn of_object(
        &self,
        namespace: &str,
        group: &str,
        kind: &str,
        name: &str,
        metric: &str,
        selector: &str,
    ) -> Result<i64, String>;
}
