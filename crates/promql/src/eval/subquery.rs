//! Subqueries: an expression evaluated at steps of its own, then taken as a range vector.

use super::Evaluator;
use super::Sink;
use super::selector::{WindowFunction, WindowPlan};
use super::series::{Series, is_absent};
use crate::ast::{Extension, Subquery};
use crate::engine::{QueryError, Steps};
use gantry_prom_model::{CounterResetHint, FloatHistogram, SampleBuffer};
use std::sync::Arc;

impl<'a> Evaluator<'a> {
    /// The inner series with the times of the inner steps, and where the windows over them lie.
    pub(super) fn subquery(
        &mut self,
        subquery: &Subquery,
    ) -> Result<(Vec<Series>, Steps, WindowPlan), QueryError> {
        let plan = WindowPlan {
            at: subquery.at.map(|at| self.at_time(at)),
            offset_ms: self.offset_ms(subquery.offset.as_ref())?,
            window_ms: self.window_ms(&subquery.window)?,
            before_ms: 0,
            after_ms: 0,
            extension: Extension::None,
        };
        let step_ms = match &subquery.step {
            Some(step) => self.window_ms(step)?,
            None => i64::try_from(self.options.default_subquery_step.as_millis()).unwrap_or(60_000).max(1),
        };
        let first = plan.reference(self.steps.start_ms) - plan.window_ms;
        let end_ms = plan.reference(self.steps.last_time());
        // Inner steps are multiples of their length, the first one after the window's start.
        let start_ms = first.div_euclid(step_ms) * step_ms + step_ms;
        let steps = Steps { start_ms, end_ms, step_ms };
        // Refused before a single column is made, however wide the range.
        let column_bytes = steps.count().saturating_mul(8);
        if column_bytes > self.options.max_bytes {
            return Err(QueryError::TooManyBytes {
                what: subquery.to_string(),
                limit: self.options.max_bytes,
            });
        }
        let series = if steps.count() == 0 {
            Vec::new()
        } else {
            let outer = std::mem::replace(&mut self.wants_reset_hints, false);
            let inner = self.with_steps(steps, |evaluator| evaluator.vector(&subquery.expr));
            self.wants_reset_hints = outer;
            inner?
        };
        Ok((series, steps, plan))
    }

    pub(super) fn stream_subquery(
        &mut self,
        subquery: &Subquery,
        compute: WindowFunction<'_, 'a>,
        sink: Sink<'_, 'a>,
    ) -> Result<(), QueryError> {
        let before = self.held;
        let (inner, steps, plan) = self.subquery(subquery)?;
        for series in inner {
            self.check()?;
            let buffer = samples_of(&series, steps);
            let mut result = self.windows_of(&series.labels, &buffer, &plan, compute)?;
            result.drop_name = series.drop_name;
            sink(self, result)?;
        }
        let inner_samples = self.held.samples.saturating_sub(before.samples);
        let inner_bytes = self.held.bytes.saturating_sub(before.bytes);
        self.held.samples -= inner_samples;
        self.held.bytes -= inner_bytes;
        Ok(())
    }
}

/// A column as samples. Reset hints of histograms are forgotten: what they say holds between the samples of the
/// storage, not between the steps.
pub(super) fn samples_of(series: &Series, steps: Steps) -> SampleBuffer {
    let mut buffer = SampleBuffer::default();
    for (step, value) in series.values.iter().enumerate() {
        if !is_absent(*value) {
            buffer.push(steps.time(step), *value);
        } else if let Some(histogram) = series.histogram(step) {
            buffer.push_histogram(steps.time(step), without_hint(histogram));
        }
    }
    buffer
}

fn without_hint(histogram: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match histogram.counter_reset_hint {
        CounterResetHint::Unknown | CounterResetHint::Gauge => Arc::clone(histogram),
        CounterResetHint::Reset | CounterResetHint::NotReset => {
            let mut copy = (**histogram).clone();
            copy.counter_reset_hint = CounterResetHint::Unknown;
            Arc::new(copy)
        }
    }
}
