//! A metric store in this process, through a door, instead of one behind HTTP.

use async_trait::async_trait;

use crate::scaler::{Hear, Subscription};

/// A query could not be answered; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LocalQueryError(pub String);

/// The values of an instant query, and word of new samples.
#[async_trait]
pub trait LocalMetrics: Send + Sync + 'static {
    /// Whether `address` (a trigger's `serverAddress`) means this store.
    fn answers_for(&self, address: &str) -> bool;

    /// The values of the resulting series, or the scalar.
    async fn query(&self, promql: &str) -> Result<Vec<f64>, LocalQueryError>;

    /// Calls `hear` when new samples have come in.
    fn hear(&self, hear: Hear) -> Option<Subscription>;
}
