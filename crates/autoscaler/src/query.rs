//! The door to whatever evaluates PromQL.

use async_trait::async_trait;
use gantry_prom_model::Labels;
use tokio::sync::watch;

/// A query could not be answered; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(pub String);

/// Evaluates a PromQL expression at this moment.
#[async_trait]
pub trait MetricsQuery: Send + Sync + 'static {
    /// The series of the instant vector, or the scalar without labels. No series is an empty list, not an error.
    async fn query(&self, promql: &str) -> Result<Vec<(Labels, f64)>, QueryError>;

    /// Changes when new samples have come in; `None` when that is not known.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}
