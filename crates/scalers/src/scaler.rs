//! The trait of every event source.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::spec::MetricSpec;

/// What a source said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub value: f64,
    /// Whether there is work: the value is above the activation value.
    pub active: bool,
}

/// Why a trigger cannot be used, or its source not be read. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScalerError {
    #[error("error parsing {kind} metadata: {message}")]
    Metadata { kind: String, message: String },
    #[error("no scaler found for type: {kind}; supported are {supported}")]
    UnknownKind { kind: String, supported: String },
    #[error("reading {what}: {message}")]
    Source { what: String, message: String },
}

impl ScalerError {
    pub(crate) fn source(what: impl Into<String>, error: impl fmt::Display) -> ScalerError {
        ScalerError::Source { what: what.into(), message: error.to_string() }
    }
}

/// Called when a source may have changed; must be quick and may be called from any task.
pub type Hear = Arc<dyn Fn() + Send + Sync>;

/// Ends a subscription when it is dropped.
pub struct Subscription {
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Subscription {
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Subscription {
        Subscription { end: Some(Box::new(end)) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

/// An event source that one trigger reads.
#[async_trait]
pub trait Scaler: Send + Sync {
    /// The metrics that the trigger stands for.
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError>;

    /// The present value of one of its external metrics.
    async fn read(&self, metric: &str) -> Result<Reading, ScalerError>;

    /// Calls `hear` whenever the source may have changed, where the source can tell. Must be called within a runtime.
    fn subscribe(&self, _hear: Hear) -> Option<Subscription> {
        None
    }

    /// The next moment at which the value changes by the clock alone, in milliseconds since the epoch.
    fn next_change_ms(&self, _now_ms: i64) -> Option<i64> {
        None
    }
}
