//! From columns to the answer.

use super::label_calls::merge_same_labels;
use super::series::{Cell, Series};
use super::subquery::samples_of;
use super::{Evaluator, SAME_LABELSET, execution};
use crate::ast::{Expr, ExprKind, ValueType};
use crate::engine::{QueryError, Steps};
use crate::value::{MatrixSeries, Point, QueryValue, Value, VectorSample};
use gantry_prom_model::{Labels, SampleBuffer};
use std::collections::HashSet;

fn value_of(cell: Cell) -> Option<Value> {
    match cell {
        Cell::Absent => None,
        Cell::Float(value) => Some(Value::Float(value)),
        Cell::Histogram(histogram) => Some(Value::Histogram(histogram)),
    }
}

/// The samples of both columns in the order of time.
fn points_of(buffer: &SampleBuffer) -> Vec<Point> {
    let floats = buffer.timestamps.iter().zip(&buffer.values);
    let mut points: Vec<Point> =
        floats.map(|(time, value)| Point { timestamp_ms: *time, value: Value::Float(*value) }).collect();
    for (time, histogram) in buffer.histogram_timestamps.iter().zip(&buffer.histograms) {
        points.push(Point { timestamp_ms: *time, value: Value::Histogram(histogram.clone()) });
    }
    points.sort_by_key(|point| point.timestamp_ms);
    points
}

impl Evaluator<'_> {
    pub(crate) fn run(&mut self, expr: &Expr) -> Result<QueryValue, QueryError> {
        let start_ms = self.steps.start_ms;
        match expr.value_type() {
            ValueType::String => match &expr.unwrap_parens().kind {
                ExprKind::String(value) => {
                    Ok(QueryValue::String { timestamp_ms: start_ms, value: value.clone() })
                }
                _ => Err(execution(format!("{expr} is not a string"))),
            },
            ValueType::Matrix => self.range_vector(expr),
            ValueType::Scalar if self.is_instant => {
                let value = self.scalar(expr)?.first().copied().unwrap_or(f64::NAN);
                Ok(QueryValue::Scalar { timestamp_ms: start_ms, value })
            }
            ValueType::Scalar => {
                let values = self.scalar(expr)?;
                if values.is_empty() {
                    return Ok(QueryValue::Matrix(Vec::new()));
                }
                let series = Series { labels: Labels::empty(), drop_name: false, values, histograms: None };
                Ok(QueryValue::Matrix(vec![matrix_series(series, self.steps)]))
            }
            ValueType::Vector if self.steps.count() == 0 => Ok(QueryValue::Matrix(Vec::new())),
            ValueType::Vector => {
                let mut series = self.vector(expr)?;
                series.retain(|one| !one.is_empty());
                for one in series.iter_mut().filter(|one| one.drop_name) {
                    one.labels = self.without_metadata(&one.labels);
                }
                if self.is_instant { self.instant_vector(series) } else { self.range_matrix(series) }
            }
        }
    }

    fn instant_vector(&self, series: Vec<Series>) -> Result<QueryValue, QueryError> {
        let mut seen = HashSet::with_capacity(series.len());
        let mut samples = Vec::with_capacity(series.len());
        for one in series {
            if !seen.insert(one.labels.clone()) {
                return Err(execution(SAME_LABELSET));
            }
            if let Some(value) = value_of(one.cell(0)) {
                samples.push(VectorSample { labels: one.labels, timestamp_ms: self.steps.start_ms, value });
            }
        }
        Ok(QueryValue::Vector(samples))
    }

    fn range_matrix(&self, series: Vec<Series>) -> Result<QueryValue, QueryError> {
        let mut merged = merge_same_labels(series)?;
        merged.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(QueryValue::Matrix(merged.into_iter().map(|one| matrix_series(one, self.steps)).collect()))
    }

    fn range_vector(&mut self, expr: &Expr) -> Result<QueryValue, QueryError> {
        let mut matrix: Vec<MatrixSeries> = match &expr.unwrap_parens().kind {
            ExprKind::Matrix(selector) => self
                .matrix_samples(selector)?
                .into_iter()
                .map(|(labels, buffer)| MatrixSeries { labels, points: points_of(&buffer) })
                .collect(),
            ExprKind::Subquery(subquery) => {
                let (series, steps, _) = self.subquery(subquery)?;
                let mut matrix = Vec::with_capacity(series.len());
                for one in series {
                    let labels =
                        if one.drop_name { self.without_metadata(&one.labels) } else { one.labels.clone() };
                    let points = points_of(&samples_of(&one, steps));
                    if !points.is_empty() {
                        matrix.push(MatrixSeries { labels, points });
                    }
                }
                matrix
            }
            _ => return Err(execution(format!("{expr} cannot be evaluated as a range vector"))),
        };
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        if matrix.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
            return Err(execution(SAME_LABELSET));
        }
        Ok(QueryValue::Matrix(matrix))
    }
}

fn matrix_series(series: Series, steps: Steps) -> MatrixSeries {
    let mut points = Vec::new();
    for step in 0..series.values.len() {
        if let Some(value) = value_of(series.cell(step)) {
            points.push(Point { timestamp_ms: steps.time(step), value });
        }
    }
    MatrixSeries { labels: series.labels, points }
}
