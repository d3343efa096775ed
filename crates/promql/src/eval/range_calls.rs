//! Functions that take a range vector.

use super::math::quantile;
use super::over_time::{
    count_transitions, double_exponential_smoothing, end_sample, extreme, histograms_ignored,
    median_deviation, regression, variance,
};
use super::rate::{RateKind, is_start_time_reset};
use super::selector::Window;
use super::series::{Cell, Series};
use super::{Evaluator, Sink, execution};
use crate::ast::{Call, Expr, ExprKind, Extension, PosRange, ValueType};
use crate::engine::QueryError;

/// Suffixes of names that are counters by convention.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

/// Functions that `anchored` range selectors may stand in.
const ANCHORED_FUNCTIONS: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
/// Functions that `smoothed` range selectors may stand in.
const SMOOTHED_FUNCTIONS: [&str; 3] = ["delta", "increase", "rate"];

fn check_extension(extension: Extension, function: &str) -> Result<(), QueryError> {
    let (modifier, allowed): (&str, &[&str]) = match extension {
        Extension::None => return Ok(()),
        Extension::Anchored => ("anchored", &ANCHORED_FUNCTIONS),
        Extension::Smoothed => ("smoothed", &SMOOTHED_FUNCTIONS),
    };
    if allowed.contains(&function) {
        return Ok(());
    }
    let list = allowed.join(", ");
    Err(execution(format!("{modifier} modifier can only be used with: {list} - not with {function}")))
}

pub(super) fn takes_range(call: &Call) -> bool {
    call.function.args.contains(&ValueType::Matrix)
}

impl<'a> Evaluator<'a> {
    /// Streams the result of a range function for each series of its argument.
    pub(super) fn stream_range_call(&mut self, call: &Call, sink: Sink<'_, 'a>) -> Result<(), QueryError> {
        let name = call.function.name;
        let is_matrix = |arg: &&Expr| arg.value_type() == ValueType::Matrix;
        let Some(argument) = call.args.iter().find(is_matrix) else {
            return Err(execution(format!("{name} needs a range vector")));
        };
        let range = argument.range;
        let mut scalars: Vec<(Vec<f64>, PosRange)> = Vec::new();
        for arg in call.args.iter().filter(|arg| arg.value_type() == ValueType::Scalar) {
            scalars.push((self.scalar(arg)?, arg.range));
        }
        let mut compute = |evaluator: &mut Evaluator<'a>, window: &Window<'_>| {
            evaluator.range_function(name, window, &scalars, range)
        };
        let keeps_name = matches!(name, "last_over_time" | "first_over_time");
        let may_be_no_counter = matches!(name, "rate" | "increase");
        let mut finish = |evaluator: &mut Evaluator<'a>, mut series: Series| {
            if may_be_no_counter {
                evaluator.note_possible_non_counter(&series, range);
            }
            if !keeps_name {
                evaluator.drop_name(&mut series);
            }
            sink(evaluator, series)
        };
        match &argument.unwrap_parens().kind {
            ExprKind::Matrix(matrix) => {
                check_extension(matrix.selector.extension, name)?;
                self.function = Some(name);
                self.stream_windows(matrix, &mut compute, &mut finish)
            }
            ExprKind::Subquery(subquery) => self.stream_subquery(subquery, &mut compute, &mut finish),
            _ => Err(execution(format!("{name} needs a range vector"))),
        }
    }

    fn note_possible_non_counter(&mut self, series: &Series, range: PosRange) {
        let Some(name) = series.labels.metric_name() else { return };
        if super::present(&series.values).next().is_none() {
            return;
        }
        if self.options.type_and_unit_labels {
            let kind = series.labels.get("__type__").unwrap_or("");
            if kind != "counter" && kind != "histogram" {
                let message = format!(
                    "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {kind:?}: {name:?}"
                );
                self.annotations.info(range, &message);
            }
        } else if !COUNTER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            let message = format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}"
            );
            self.annotations.info(range, &message);
        }
    }

    /// One step of a range function.
    fn range_function(
        &mut self,
        name: &str,
        window: &Window<'_>,
        scalars: &[(Vec<f64>, PosRange)],
        range: PosRange,
    ) -> Result<Cell, QueryError> {
        let scalar = |index: usize| {
            scalars.get(index).and_then(|(column, _)| column.get(window.step)).copied().unwrap_or(f64::NAN)
        };
        let kind = |is_counter, is_rate| RateKind { is_counter, is_rate };
        let has_floats = !window.values.is_empty();
        let seconds = |time: i64| time as f64 / 1000.0;
        Ok(match name {
            "rate" => self.rate(window, kind(true, true), range)?,
            "increase" => self.rate(window, kind(true, false), range)?,
            "delta" => self.rate(window, kind(false, false), range)?,
            "irate" => self.instant_rate(window, true, range)?,
            "idelta" => self.instant_rate(window, false, range)?,
            "sum_over_time" => self.sum_over_time(window, false, range)?,
            "avg_over_time" => self.sum_over_time(window, true, range)?,
            "count_over_time" => Cell::Float((window.times.len() + window.histogram_times.len()) as f64),
            "present_over_time" | "absent_over_time" => Cell::Float(1.0),
            "last_over_time" => end_sample(window, true).map_or(Cell::Absent, |(_, cell)| cell),
            "first_over_time" => end_sample(window, false).map_or(Cell::Absent, |(_, cell)| cell),
            "ts_of_last_over_time" => {
                end_sample(window, true).map_or(Cell::Absent, |(time, _)| Cell::Float(seconds(time)))
            }
            "ts_of_first_over_time" => {
                end_sample(window, false).map_or(Cell::Absent, |(time, _)| Cell::Float(seconds(time)))
            }
            "max_over_time" | "min_over_time" | "ts_of_max_over_time" | "ts_of_min_over_time" => {
                histograms_ignored(&mut self.annotations, window, range);
                let best = match name {
                    "max_over_time" => extreme(window, |value, best| value > best),
                    "min_over_time" => extreme(window, |value, best| value < best),
                    // Of equal values the latest counts here.
                    "ts_of_max_over_time" => extreme(window, |value, best| value >= best),
                    _ => extreme(window, |value, best| value <= best),
                };
                let wants_time = name.starts_with("ts_of");
                best.map_or(Cell::Absent, |(time, value)| {
                    Cell::Float(if wants_time { seconds(time) } else { value })
                })
            }
            "stdvar_over_time" | "stddev_over_time" | "mad_over_time" | "quantile_over_time"
                if !has_floats =>
            {
                Cell::Absent
            }
            "stdvar_over_time" => {
                histograms_ignored(&mut self.annotations, window, range);
                Cell::Float(variance(window))
            }
            "stddev_over_time" => {
                histograms_ignored(&mut self.annotations, window, range);
                Cell::Float(variance(window).sqrt())
            }
            "mad_over_time" => {
                histograms_ignored(&mut self.annotations, window, range);
                Cell::Float(median_deviation(window))
            }
            "quantile_over_time" => {
                let q = scalar(0);
                let q_range = scalars.first().map_or(range, |(_, range)| *range);
                self.check_quantile(q, q_range);
                histograms_ignored(&mut self.annotations, window, q_range);
                Cell::Float(quantile(q, &mut window.values.to_vec()))
            }
            "changes" => count_transitions(
                window,
                |_, _, _| false,
                |before, now| before != now && !(before.is_nan() && now.is_nan()),
                |before, now| !now.same_as(before),
            )
            .map_or(Cell::Absent, Cell::Float),
            "resets" => {
                let uses_starts = self.options.use_start_timestamps;
                count_transitions(
                    window,
                    |starts, times, index| uses_starts && is_start_time_reset(starts, times, index),
                    |before, now| now < before,
                    |before, now| now.is_reset_after(before),
                )
                .map_or(Cell::Absent, Cell::Float)
            }
            "deriv" | "predict_linear" | "double_exponential_smoothing" => {
                if name == "double_exponential_smoothing" {
                    check_factor("smoothing", "sf", scalar(0))?;
                    check_factor("trend", "tf", scalar(1))?;
                }
                histograms_ignored(&mut self.annotations, window, range);
                match name {
                    _ if window.values.len() < 2 => Cell::Absent,
                    "deriv" => Cell::Float(regression(window, window.times[0]).0),
                    "predict_linear" => {
                        let (slope, intercept) = regression(window, window.step_time);
                        Cell::Float(slope * scalar(0) + intercept)
                    }
                    _ => Cell::Float(double_exponential_smoothing(window.values, scalar(0), scalar(1))),
                }
            }
            _ => return Err(execution(format!("function {name:?} is not supported"))),
        })
    }

    pub(super) fn check_quantile(&mut self, q: f64, range: PosRange) {
        if !(0.0..=1.0).contains(&q) {
            let number = gantry_prom_model::format_float(q);
            self.annotations.warn(range, &format!("quantile value should be between 0 and 1, got {number}"));
        }
    }

    /// `absent_over_time`: 1 where no series of the argument has a sample in its window.
    pub(super) fn absent_over_time(&mut self, call: &Call) -> Result<Vec<Series>, QueryError> {
        let count = self.step_count();
        let mut is_present = vec![false; count];
        self.stream_range_call(call, &mut |_, series| {
            for (step, flag) in is_present.iter_mut().enumerate() {
                *flag |= series.is_present(step);
            }
            Ok(())
        })?;
        let labels = call.args.first().map_or_else(Default::default, super::label_calls::labels_of_absent);
        Ok(super::calls::absence(labels, &is_present))
    }
}

fn check_factor(what: &str, short: &str, factor: f64) -> Result<(), QueryError> {
    if factor > 0.0 && factor < 1.0 {
        return Ok(());
    }
    Err(execution(format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {factor:.6}")))
}
