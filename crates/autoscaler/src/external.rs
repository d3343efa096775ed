//! The door to whoever knows external metrics by name.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Several sources, asked in order until one knows the metric.
pub struct FirstThatKnows(pub Vec<Arc<dyn ExternalMetrics>>);

#[async_trait]
impl ExternalMetrics for FirstThatKnows {
    async fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &BTreeMap<String, String>,
    ) -> Option<Result<Vec<i64>, String>> {
        for source in &self.0 {
            if let Some(answer) = source.external(namespace, metric, selector).await {
                return Some(answer);
            }
        }
        None
    }
}
