//! What a query answers.

use crate::annotations::Annotations;
use gantry_prom_model::{FloatHistogram, Labels};
use std::sync::Arc;

/// A float or a histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// A value at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub timestamp_ms: i64,
    pub value: Value,
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub timestamp_ms: i64,
    pub value: Value,
}

/// One series of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    pub labels: Labels,
    /// Rising in time.
    pub points: Vec<Point>,
}

/// The answer's data.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    Scalar {
        timestamp_ms: i64,
        value: f64,
    },
    String {
        timestamp_ms: i64,
        value: String,
    },
    Vector(Vec<VectorSample>),
    /// Sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

impl QueryValue {
    /// The `resultType` of the HTTP API.
    pub fn result_type(&self) -> &'static str {
        match self {
            QueryValue::Scalar { .. } => "scalar",
            QueryValue::String { .. } => "string",
            QueryValue::Vector(_) => "vector",
            QueryValue::Matrix(_) => "matrix",
        }
    }
}

/// What a query cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// Samples read from the storage.
    pub samples_read: u64,
    /// Series read from the storage.
    pub series_read: u64,
    /// The most samples held at once.
    pub peak_samples: usize,
    /// The most bytes held at once.
    pub peak_bytes: usize,
}

/// An answer with what the user should know about it.
#[derive(Debug, Clone)]
pub struct QueryResult {
    pub value: QueryValue,
    /// Something is probably wrong with the data or the query.
    pub warnings: Vec<String>,
    /// The answer is right but may surprise.
    pub infos: Vec<String>,
    pub stats: QueryStats,
}

impl QueryResult {
    pub(crate) fn new(value: QueryValue, annotations: Annotations, stats: QueryStats) -> Self {
        let (warnings, infos) = annotations.into_texts();
        QueryResult { value, warnings, infos, stats }
    }
}
