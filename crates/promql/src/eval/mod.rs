//! Evaluation, series by series.
//!
//! `stream` hands the series of an expression one by one to the operator above it; `vector` collects them.
//! Selectors, functions over ranges and everything that works on one series at a time are streamed, so that
//! `sum(rate(x[5m]))` holds one input series at a time.

mod aggregate;
mod binary;
mod calls;
mod classic_histogram;
mod dates;
mod duration;
mod extended_histogram;
mod histogram_calls;
mod info;
mod label_calls;
mod matching;
mod math;
mod native_quantile;
mod over_time;
mod range_calls;
mod rate;
mod result;
mod selector;
mod series;
mod subquery;
mod top;
mod trim;

use crate::annotations::Annotations;
use crate::ast::{At, Expr, ExprKind, UnaryOp};
use crate::engine::{Cancellation, EngineOptions, QueryError, Steps};
use crate::value::QueryStats;
use gantry_prom_model::{Labels, Queryable};
use series::{Series, is_absent};
use std::time::Instant;

/// What takes the series of a stream.
type Sink<'s, 'a> = &'s mut dyn FnMut(&mut Evaluator<'a>, Series) -> Result<(), QueryError>;

/// Evaluates one query.
pub(crate) struct Evaluator<'a> {
    options: &'a EngineOptions,
    storage: &'a dyn Queryable,
    annotations: Annotations,
    stats: QueryStats,
    /// The steps being evaluated: the query's, or a subquery's.
    steps: Steps,
    /// The query's own.
    query_steps: Steps,
    is_instant: bool,
    cancellation: &'a Cancellation,
    deadline: Option<Instant>,
    held: Held,
    /// Whether only count and sum of histograms matter, so that reset hints are found from neighbours.
    wants_reset_hints: bool,
    /// The function around the range selector that is read next, as a hint for the storage.
    function: Option<&'static str>,
}

/// What intermediate results take.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    samples: usize,
    bytes: usize,
}

fn execution(message: impl Into<String>) -> QueryError {
    QueryError::Execution(message.into())
}

const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

// === impl Evaluator ===

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        options: &'a EngineOptions,
        storage: &'a dyn Queryable,
        annotations: Annotations,
        steps: Steps,
        is_instant: bool,
        cancellation: &'a Cancellation,
        deadline: Option<Instant>,
    ) -> Self {
        Evaluator {
            options,
            storage,
            annotations,
            stats: QueryStats::default(),
            steps,
            query_steps: steps,
            is_instant,
            cancellation,
            deadline,
            held: Held::default(),
            wants_reset_hints: false,
            function: None,
        }
    }

    pub(crate) fn finish(self) -> (Annotations, QueryStats) {
        (self.annotations, self.stats)
    }

    fn step_count(&self) -> usize {
        self.steps.count()
    }

    /// Ends the query when its time is over or someone canceled it.
    fn check(&self) -> Result<(), QueryError> {
        if self.cancellation.is_canceled() {
            return Err(QueryError::Canceled);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Timeout(self.options.timeout));
        }
        Ok(())
    }

    /// Adds to what is held, and refuses what passes the limits; `what` names the part of the query.
    fn hold(&mut self, samples: usize, bytes: usize, what: &dyn std::fmt::Display) -> Result<(), QueryError> {
        self.held.samples += samples;
        self.held.bytes += bytes;
        self.stats.peak_samples = self.stats.peak_samples.max(self.held.samples);
        self.stats.peak_bytes = self.stats.peak_bytes.max(self.held.bytes);
        if self.held.samples > self.options.max_samples {
            return Err(QueryError::TooManySamples {
                what: what.to_string(),
                limit: self.options.max_samples,
            });
        }
        if self.held.bytes > self.options.max_bytes {
            return Err(QueryError::TooManyBytes { what: what.to_string(), limit: self.options.max_bytes });
        }
        Ok(())
    }

    /// All series of an expression of type instant vector.
    fn vector(&mut self, expr: &Expr) -> Result<Vec<Series>, QueryError> {
        self.check()?;
        if self.step_count() > 1 && has_selector(expr) && is_step_invariant(expr) {
            return self.broadcast(expr);
        }
        let before = self.held;
        let series = match &expr.kind {
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, expr.range)?,
            ExprKind::Binary(binary) if binary.matching.is_some() => {
                self.vector_binary(binary, expr.range)?
            }
            ExprKind::Call(call) if !calls::is_streamed(call) => self.call(call, expr)?,
            ExprKind::Paren(inner) => self.vector(inner)?,
            _ => {
                let mut collected = Vec::new();
                self.stream(expr, &mut |evaluator, series| {
                    if series.is_empty() {
                        return Ok(());
                    }
                    evaluator.hold(series.sample_count(), series.byte_count(), expr)?;
                    collected.push(series);
                    Ok(())
                })?;
                collected
            }
        };
        // Whatever the operands took is free again; what counts is the result.
        self.held = before;
        let samples = series.iter().map(Series::sample_count).sum();
        let bytes = series.iter().map(Series::byte_count).sum();
        self.hold(samples, bytes, expr)?;
        Ok(series)
    }

    /// Evaluates once what is the same at every step.
    fn broadcast(&mut self, expr: &Expr) -> Result<Vec<Series>, QueryError> {
        let count = self.step_count();
        let mut series =
            self.with_steps(Steps::instant(self.steps.start_ms), |evaluator| evaluator.vector(expr))?;
        for one in &mut series {
            let value = one.values[0];
            one.values = vec![value; count];
            if let Some(histograms) = &mut one.histograms {
                let histogram = histograms[0].clone();
                *histograms = vec![histogram; count];
            }
        }
        let samples = series.iter().map(Series::sample_count).sum();
        self.hold(samples, samples * 8, expr)?;
        Ok(series)
    }

    fn with_steps<T>(
        &mut self,
        steps: Steps,
        evaluate: impl FnOnce(&mut Self) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let outer = std::mem::replace(&mut self.steps, steps);
        let result = evaluate(self);
        self.steps = outer;
        result
    }

    /// Hands over the series of an expression of type instant vector one by one.
    fn stream(&mut self, expr: &Expr, sink: Sink<'_, 'a>) -> Result<(), QueryError> {
        let is_constant = self.step_count() > 1 && has_selector(expr) && is_step_invariant(expr);
        match &expr.kind {
            _ if is_constant => self.feed(expr, sink),
            ExprKind::Vector(selector) => self.stream_selector(selector, expr, sink),
            ExprKind::Paren(inner) => self.stream(inner, sink),
            ExprKind::Unary { op: UnaryOp::Plus, expr: inner } => self.stream(inner, sink),
            ExprKind::Unary { op: UnaryOp::Minus, expr: inner } => {
                self.stream(inner, &mut |evaluator, mut series| {
                    evaluator.drop_name(&mut series);
                    binary::negate(&mut series);
                    sink(evaluator, series)
                })
            }
            ExprKind::Binary(binary) if binary.matching.is_none() => {
                self.stream_vector_scalar(binary, expr.range, sink)
            }
            ExprKind::Call(call) if calls::is_streamed(call) => self.stream_call(call, expr, sink),
            _ => self.feed(expr, sink),
        }
    }

    /// Hands over series that had to be collected first.
    fn feed(&mut self, expr: &Expr, sink: Sink<'_, 'a>) -> Result<(), QueryError> {
        for series in self.vector(expr)? {
            sink(self, series)?;
        }
        Ok(())
    }

    /// Marks or removes the metric name, as the options ask.
    fn drop_name(&self, series: &mut Series) {
        if self.options.delayed_name_removal {
            series.drop_name = true;
        } else {
            series.labels = self.without_metadata(&series.labels);
        }
    }

    /// Labels without the name, and without type and unit where these belong to it.
    fn without_metadata(&self, labels: &Labels) -> Labels {
        labels.filter(|name| !is_metadata_label(name))
    }

    /// The time an `@` stands for.
    fn at_time(&self, at: At) -> i64 {
        match at {
            At::Timestamp(ms) => ms,
            At::Start => self.query_steps.start_ms,
            At::End => self.query_steps.end_ms,
        }
    }

    /// A column with the value of a scalar expression at each step.
    fn scalar(&mut self, expr: &Expr) -> Result<Vec<f64>, QueryError> {
        let count = self.step_count();
        match &expr.kind {
            ExprKind::Number { value, .. } => Ok(vec![*value; count]),
            ExprKind::Paren(inner) => self.scalar(inner),
            ExprKind::Unary { op, expr: inner } => {
                let mut column = self.scalar(inner)?;
                if *op == UnaryOp::Minus {
                    column.iter_mut().for_each(|value| *value = -*value);
                }
                Ok(column)
            }
            ExprKind::Binary(binary) => {
                let left = self.scalar(&binary.lhs)?;
                let right = self.scalar(&binary.rhs)?;
                Ok(left.iter().zip(&right).map(|(l, r)| binary::scalar_op(binary.op, *l, *r)).collect())
            }
            ExprKind::Call(call) => self.scalar_call(call),
            _ => Err(execution(format!("{expr} is not a scalar"))),
        }
    }
}

/// Labels that tell what a metric is, not which.
fn is_metadata_label(name: &str) -> bool {
    matches!(name, "__name__" | "__type__" | "__unit__")
}

fn has_selector(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |node| found |= matches!(node.kind, ExprKind::Vector(_) | ExprKind::Matrix(_)));
    found
}

/// Functions whose result depends on the time of the step even when their argument does not.
const TIME_DEPENDENT: [&str; 12] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "start_timestamp",
    "time",
    "timestamp",
    "year",
];

/// Whether an expression has the same value at every step.
fn is_step_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Vector(selector) => selector.at.is_some(),
        ExprKind::Matrix(matrix) => matrix.selector.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.at.is_some(),
        ExprKind::Aggregate(aggregate) => {
            is_step_invariant(&aggregate.expr) && aggregate.param.as_ref().is_none_or(is_step_invariant)
        }
        ExprKind::Binary(binary) => is_step_invariant(&binary.lhs) && is_step_invariant(&binary.rhs),
        ExprKind::Call(call) => {
            !TIME_DEPENDENT.contains(&call.function.name)
                && call.function.name != "info"
                && call.args.iter().all(is_step_invariant)
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => is_step_invariant(inner),
        ExprKind::Number { .. } | ExprKind::String(_) => true,
    }
}

/// A column's values that are there.
fn present(values: &[f64]) -> impl Iterator<Item = f64> + '_ {
    values.iter().copied().filter(|value| !is_absent(*value))
}
