//! Aggregations that make one value per group and step.

use super::math::{KahanSum, Mean, quantile};
use super::over_time::{counter_reset_collision, has_overflow};
use super::rate::{mixed_schemas, reconciled_bounds};
use super::series::{ABSENT, Cell, Series, is_absent};
use super::{Evaluator, execution};
use crate::ast::{Aggregate, AggregateOp, ExprKind, PosRange};
use crate::engine::QueryError;
use crate::parser::lexer::{is_label_name, quote};
use gantry_prom_model::{
    CounterResetHint, FloatHistogram, HistogramError, HistogramSum, Labels, METRIC_NAME,
};
use std::collections::HashMap;
use std::sync::Arc;

/// The labels of the group a series belongs to.
pub(super) fn group_labels(aggregate: &Aggregate, labels: &Labels) -> Labels {
    let is_named = |name: &str| aggregate.grouping.iter().any(|label| label == name);
    if aggregate.without {
        labels.filter(|name| name != METRIC_NAME && !is_named(name))
    } else if aggregate.grouping.is_empty() {
        Labels::empty()
    } else {
        labels.filter(is_named)
    }
}

/// Histograms of a group at one step.
struct HistogramGroup {
    sum: HistogramSum,
    /// The incremental mean, kept for `avg` as soon as the sum overflows.
    mean: Option<FloatHistogram>,
    count: f64,
    has_reset: bool,
    has_no_reset: bool,
    has_reconciled: bool,
    is_incompatible: bool,
}

/// What has been seen of a group, step by step.
struct Group {
    labels: Labels,
    drop_name: bool,
    floats: FloatState,
    /// One entry per step as soon as there is a histogram, for `sum` and `avg`.
    histograms: Vec<Option<Box<HistogramGroup>>>,
}

enum FloatState {
    /// `sum`: the sum, absent until there is a value.
    Sum(Vec<KahanSum>, Vec<bool>),
    Mean(Vec<Option<Mean>>),
    /// `count` and `group`
    Count(Vec<f64>),
    /// `min` and `max`
    Extreme(Vec<f64>),
    /// `stddev` and `stdvar`: count, mean, sum of squares
    Variance(Vec<(f64, f64, f64)>),
    /// `quantile`
    All(Vec<Vec<f64>>),
}

impl FloatState {
    fn new(op: AggregateOp, steps: usize) -> FloatState {
        match op {
            AggregateOp::Sum => FloatState::Sum(vec![KahanSum::default(); steps], vec![false; steps]),
            AggregateOp::Avg => FloatState::Mean(vec![None; steps]),
            AggregateOp::Min | AggregateOp::Max => FloatState::Extreme(vec![ABSENT; steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => FloatState::Variance(vec![(0.0, 0.0, 0.0); steps]),
            AggregateOp::Quantile => FloatState::All(vec![Vec::new(); steps]),
            _ => FloatState::Count(vec![0.0; steps]),
        }
    }

    /// Bytes one step takes.
    fn step_bytes(&self) -> usize {
        match self {
            FloatState::Sum(..) => 17,
            FloatState::Mean(_) => size_of::<Option<Mean>>(),
            FloatState::Count(_) | FloatState::Extreme(_) => 8,
            FloatState::Variance(_) => 24,
            FloatState::All(_) => size_of::<Vec<f64>>(),
        }
    }

    fn add_column(&mut self, op: AggregateOp, values: &[f64]) {
        let present = values.iter().copied().enumerate().filter(|(_, value)| !is_absent(*value));
        match self {
            FloatState::Sum(sums, seen) => {
                for (step, value) in present {
                    if seen[step] {
                        sums[step].add(value);
                    } else {
                        seen[step] = true;
                        sums[step] = KahanSum::of(value);
                    }
                }
            }
            FloatState::Mean(means) => {
                for (step, value) in present {
                    match &mut means[step] {
                        Some(mean) => mean.add(value),
                        mean => *mean = Some(Mean::of(value)),
                    }
                }
            }
            FloatState::Count(counts) => present.for_each(|(step, _)| counts[step] += 1.0),
            FloatState::Extreme(best) => {
                let is_max = op == AggregateOp::Max;
                for (step, value) in present {
                    let current = best[step];
                    let is_better = if is_max { value > current } else { value < current };
                    if is_better || is_absent(current) || current.is_nan() {
                        best[step] = value;
                    }
                }
            }
            FloatState::Variance(states) => {
                for (step, value) in present {
                    let (count, mean, squares) = &mut states[step];
                    *count += 1.0;
                    if *count == 1.0 {
                        *mean = value;
                        *squares = if value.is_finite() { 0.0 } else { f64::NAN };
                        continue;
                    }
                    let delta = value - *mean;
                    *mean += delta / *count;
                    *squares += delta * (value - *mean);
                }
            }
            FloatState::All(all) => present.for_each(|(step, value)| all[step].push(value)),
        }
    }

    /// The result at each step, absent where no float was seen.
    fn finish(self, op: AggregateOp, parameter: &[f64]) -> Vec<f64> {
        match self {
            FloatState::Sum(sums, seen) => sums
                .iter()
                .zip(&seen)
                .map(|(sum, seen)| if *seen { sum.sum + sum.compensation } else { ABSENT })
                .collect(),
            FloatState::Mean(means) => {
                means.into_iter().map(|mean| mean.map_or(ABSENT, Mean::value)).collect()
            }
            FloatState::Count(counts) => {
                let result = |count: f64| if op == AggregateOp::Group { 1.0 } else { count };
                counts.into_iter().map(|count| if count == 0.0 { ABSENT } else { result(count) }).collect()
            }
            FloatState::Extreme(best) => best,
            FloatState::Variance(states) => states
                .into_iter()
                .map(|(count, _, squares)| match op {
                    _ if count == 0.0 => ABSENT,
                    AggregateOp::Stddev => (squares / count).sqrt(),
                    _ => squares / count,
                })
                .collect(),
            FloatState::All(all) => all
                .into_iter()
                .enumerate()
                .map(|(step, mut values)| match parameter.get(step) {
                    Some(q) if !values.is_empty() => quantile(*q, &mut values),
                    _ => ABSENT,
                })
                .collect(),
        }
    }
}

impl<'a> Evaluator<'a> {
    pub(super) fn aggregate(
        &mut self,
        aggregate: &Aggregate,
        range: PosRange,
    ) -> Result<Vec<Series>, QueryError> {
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                return self.top(aggregate, range);
            }
            AggregateOp::CountValues => return self.count_values(aggregate),
            _ => {}
        }
        let parameter = match &aggregate.param {
            Some(param) => {
                let column = self.scalar(param)?;
                self.check_quantiles(&column, param.range);
                column
            }
            None => Vec::new(),
        };
        let op = aggregate.op;
        let steps = self.step_count();
        let mut groups: Vec<Group> = Vec::new();
        let mut index_of: HashMap<Labels, usize> = HashMap::new();
        self.stream(&aggregate.expr, &mut |evaluator, series| {
            if series.is_empty() {
                return Ok(());
            }
            let labels = group_labels(aggregate, &series.labels);
            let index = match index_of.get(&labels) {
                Some(index) => *index,
                None => {
                    let floats = FloatState::new(op, steps);
                    evaluator.hold(
                        steps,
                        steps * floats.step_bytes() + labels.encoded_len(),
                        &aggregate.expr,
                    )?;
                    index_of.insert(labels.clone(), groups.len());
                    groups.push(Group { labels, drop_name: false, floats, histograms: Vec::new() });
                    groups.len() - 1
                }
            };
            let group = &mut groups[index];
            group.drop_name |= series.drop_name;
            if op == AggregateOp::Quantile {
                let count = series.sample_count();
                evaluator.hold(count, 8 * count, &aggregate.expr)?;
            }
            group.floats.add_column(op, &series.values);
            if series.has_histograms() {
                evaluator.add_histograms(aggregate, group, &series);
            }
            Ok(())
        })?;
        let mut result = Vec::with_capacity(groups.len());
        for group in groups {
            result.push(self.finish_group(aggregate, group, &parameter));
        }
        result.retain(|series: &Series| !series.is_empty());
        Ok(result)
    }

    fn check_quantiles(&mut self, column: &[f64], range: PosRange) {
        let low = column.iter().copied().fold(f64::INFINITY, f64::min);
        let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if column.iter().any(|q| q.is_nan()) {
            self.check_quantile(f64::NAN, range);
        }
        if high > 1.0 {
            self.check_quantile(high, range);
        }
        if low < 0.0 {
            self.check_quantile(low, range);
        }
    }

    fn add_histograms(&mut self, aggregate: &Aggregate, group: &mut Group, series: &Series) {
        let op = aggregate.op;
        let range = aggregate.expr.range;
        match (op, &mut group.floats) {
            (AggregateOp::Sum | AggregateOp::Avg, _) => {}
            (_, FloatState::Count(counts)) => {
                for (step, count) in counts.iter_mut().enumerate() {
                    if series.histogram(step).is_some() {
                        *count += 1.0;
                    }
                }
                return;
            }
            _ => {
                self.annotations.info(range, &format!("ignored histogram in {op} aggregation"));
                return;
            }
        }
        let steps = series.values.len();
        if group.histograms.is_empty() {
            group.histograms.resize_with(steps, || None);
        }
        for step in 0..steps {
            let Some(histogram) = series.histogram(step) else { continue };
            let slot = &mut group.histograms[step];
            let Some(state) = slot else {
                *slot = Some(Box::new(HistogramGroup::of(histogram)));
                continue;
            };
            if state.is_incompatible {
                continue;
            }
            state.note_hint(histogram);
            state.count += 1.0;
            if state.add(histogram, op == AggregateOp::Avg).is_err() {
                state.is_incompatible = true;
                mixed_schemas(&mut self.annotations, series.labels.metric_name().unwrap_or(""), range);
            }
        }
    }

    fn finish_group(&mut self, aggregate: &Aggregate, group: Group, parameter: &[f64]) -> Series {
        let range = aggregate.expr.range;
        let values = group.floats.finish(aggregate.op, parameter);
        let mut series =
            Series { labels: group.labels, drop_name: group.drop_name, values, histograms: None };
        for (step, state) in group.histograms.into_iter().enumerate() {
            let Some(state) = state else { continue };
            if !is_absent(series.values[step]) {
                self.annotations.warn(range, "encountered a mix of histograms and floats for aggregation");
                series.clear(step);
                continue;
            }
            if state.is_incompatible {
                continue;
            }
            if state.has_reconciled {
                reconciled_bounds(&mut self.annotations, "aggregation", range);
            }
            if state.has_reset && state.has_no_reset {
                counter_reset_collision(&mut self.annotations, "aggregation", range);
            }
            let mut histogram = match state.mean {
                Some(mean) => mean,
                None => {
                    let mut sum = state.sum.total();
                    if aggregate.op == AggregateOp::Avg {
                        sum.divide(state.count);
                    }
                    sum
                }
            };
            histogram.compact();
            series.set(step, Cell::Histogram(Arc::new(histogram)));
        }
        series
    }

    fn count_values(&mut self, aggregate: &Aggregate) -> Result<Vec<Series>, QueryError> {
        let label = match aggregate.param.as_ref().map(|param| &param.unwrap_parens().kind) {
            Some(ExprKind::String(label)) => label.clone(),
            _ => return Err(execution("count_values needs a label name")),
        };
        if !is_label_name(&label) {
            return Err(execution(format!("invalid label name {}", quote(&label))));
        }
        let steps = self.step_count();
        let mut result: Vec<Series> = Vec::new();
        let mut index_of: HashMap<Labels, usize> = HashMap::new();
        self.stream(&aggregate.expr, &mut |evaluator, series| {
            let mut builder = group_labels(aggregate, &series.labels).to_builder();
            for step in 0..steps {
                let text = match series.cell(step) {
                    Cell::Absent => continue,
                    Cell::Float(value) => gantry_prom_model::format_float_plain(value),
                    Cell::Histogram(histogram) => histogram.to_string(),
                };
                let is_excluded = aggregate.without && aggregate.grouping.contains(&label);
                if !is_excluded {
                    builder.set(&label, &text);
                }
                let labels = builder.build();
                let index = match index_of.get(&labels) {
                    Some(index) => *index,
                    None => {
                        evaluator.hold(steps, 8 * steps + labels.encoded_len(), &aggregate.expr)?;
                        index_of.insert(labels.clone(), result.len());
                        result.push(Series::absent(labels, steps));
                        result.len() - 1
                    }
                };
                let count = &mut result[index].values[step];
                *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
            }
            Ok(())
        })?;
        Ok(result)
    }
}

impl HistogramGroup {
    fn of(histogram: &FloatHistogram) -> Self {
        let mut group = HistogramGroup {
            sum: HistogramSum::of(histogram),
            mean: None,
            count: 1.0,
            has_reset: false,
            has_no_reset: false,
            has_reconciled: false,
            is_incompatible: false,
        };
        group.note_hint(histogram);
        group
    }

    /// Adds a histogram; a mean whose sum would overflow goes on incrementally.
    fn add(&mut self, histogram: &FloatHistogram, is_average: bool) -> Result<(), HistogramError> {
        if self.mean.is_none() {
            let before = is_average.then(|| self.sum.clone());
            self.has_reconciled |= self.sum.add(histogram)?.custom_bounds;
            let Some(before) = before.filter(|_| has_overflow(&self.sum.total())) else { return Ok(()) };
            let mut mean = before.total();
            mean.divide(self.count - 1.0);
            self.mean = Some(mean);
        }
        if let Some(mean) = &mut self.mean {
            let mut share = histogram.clone();
            share.divide(self.count);
            mean.scale((self.count - 1.0) / self.count);
            self.has_reconciled |= mean.add(&share)?.custom_bounds;
        }
        Ok(())
    }

    fn note_hint(&mut self, histogram: &FloatHistogram) {
        self.has_reset |= histogram.counter_reset_hint == CounterResetHint::Reset;
        self.has_no_reset |= histogram.counter_reset_hint == CounterResetHint::NotReset;
    }
}
