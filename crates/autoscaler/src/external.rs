//! The door to whoever knows external metrics by name.

use std::collections::BTreeMap;

use async_trait::async_trait;

/// Answers external metrics that the HorizontalPodAutoscaler asks for.
#[async_trait]
pub trait ExternalMetrics: Send + Sync + 'static {
    /// The metric's values in thousandths; `None` when the metric is not of this source.
    async fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &BTreeMap<String, String>,
    ) -> Option<Result<Vec<i64>, String>>;
}
