//! What panels and variables ask, and of whom: the doors through which data comes in.

use std::sync::Arc;

use async_trait::async_trait;
use gantry_prom_model::Labels;
use serde::Serialize;

/// One series of an answer. Both columns have the same length, times rise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub labels: Labels,
    pub times_ms: Vec<i64>,
    pub values: Vec<f64>,
}

/// What a query answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub series: Vec<Series>,
    pub warnings: Vec<String>,
}

/// Why there is no answer, in the words of who was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A Prometheus, wherever it is.
#[async_trait]
pub trait DataSource: Send + Sync {
    /// The expression at every step, both ends included.
    async fn range(
        &self,
        expr: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Answer, SourceError>;

    /// The expression at one moment; each series has one point.
    async fn instant(&self, expr: &str, time_ms: i64) -> Result<Answer, SourceError>;

    /// The values of a label over a time range, of the series of a selector or of all.
    async fn label_values(
        &self,
        label: &str,
        selector: Option<&str>,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<String>, SourceError>;

    /// The names of all labels over a time range.
    async fn label_names(&self, start_ms: i64, end_ms: i64) -> Result<Vec<String>, SourceError>;

    /// The labels of the series of a selector over a time range.
    async fn series(&self, selector: &str, start_ms: i64, end_ms: i64) -> Result<Vec<Labels>, SourceError>;
}

/// What is known of a data source without asking it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceInfo {
    pub uid: String,
    pub name: String,
    /// The plugin: `prometheus`.
    pub kind: String,
    pub is_default: bool,
    /// How often it is fed; the least step a panel asks for.
    pub interval_ms: i64,
}

/// All data sources.
pub trait Sources: Send + Sync {
    /// Every one there is, of whatever kind.
    fn list(&self) -> Vec<SourceInfo>;

    /// The one to ask; `None` when there is none with this uid or it is of a kind that cannot be asked.
    fn open(&self, uid: &str) -> Option<Arc<dyn DataSource>>;
}
