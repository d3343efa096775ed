//! The one thing a source of metrics has to do.

use crate::MetricFamily;
use std::sync::Arc;

/// A source of metric families: a registry, or a room that makes its metrics when asked.
pub trait Gather: Send + Sync {
    /// The current values, families sorted by name.
    fn gather(&self) -> Vec<MetricFamily>;
}

impl<G: Gather + ?Sized> Gather for Arc<G> {
    fn gather(&self) -> Vec<MetricFamily> {
        (**self).gather()
    }
}
