//! Functions that take instant vectors and scalars.

use super::dates::date_function;
use super::math::{compare_nan_first, natural_order};
use super::range_calls::takes_range;
use super::series::{ABSENT, Cell, Series, is_absent};
use super::{Evaluator, Sink, execution};
use crate::ast::{Call, Expr, ExprKind, ValueType};
use crate::engine::QueryError;
use gantry_prom_model::{FloatHistogram, Labels};
use std::cmp::Ordering;

/// Functions of one float, by name.
fn float_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        "sgn" => |value| {
            if value < 0.0 {
                -1.0
            } else if value > 0.0 {
                1.0
            } else {
                value
            }
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

/// Functions of one native histogram, by name.
fn histogram_function(name: &str) -> Option<fn(&FloatHistogram) -> f64> {
    Some(match name {
        "histogram_count" => |histogram| histogram.count,
        "histogram_sum" => |histogram| histogram.sum,
        "histogram_avg" => |histogram| histogram.sum / histogram.count,
        "histogram_stddev" => |histogram| super::native_quantile::variance(histogram).sqrt(),
        "histogram_stdvar" => super::native_quantile::variance,
        _ => return None,
    })
}

/// Whether a function works on one series at a time.
pub(super) fn is_streamed(call: &Call) -> bool {
    let name = call.function.name;
    if takes_range(call) {
        return name != "absent_over_time";
    }
    float_function(name).is_some()
        || histogram_function(name).is_some()
        || (date_function(name).is_some() && !call.args.is_empty())
        || matches!(name, "clamp" | "clamp_max" | "clamp_min" | "round" | "timestamp" | "start_timestamp")
}

/// A series that is 1 where nothing is present; none when something always is.
pub(super) fn absence(labels: Labels, is_present: &[bool]) -> Vec<Series> {
    if is_present.iter().all(|present| *present) {
        return Vec::new();
    }
    let values = is_present.iter().map(|present| if *present { ABSENT } else { 1.0 }).collect();
    vec![Series { labels, drop_name: false, values, histograms: None }]
}

pub(super) fn text_argument(call: &Call, index: usize) -> Result<&str, QueryError> {
    match call.args.get(index).map(|arg| &arg.unwrap_parens().kind) {
        Some(ExprKind::String(text)) => Ok(text),
        _ => Err(execution(format!("argument {} of {} must be a string", index + 1, call.function.name))),
    }
}

fn argument(call: &Call, index: usize) -> Result<&Expr, QueryError> {
    let missing = || execution(format!("{} lacks argument {}", call.function.name, index + 1));
    call.args.get(index).ok_or_else(missing)
}

impl<'a> Evaluator<'a> {
    pub(super) fn stream_call(
        &mut self,
        call: &Call,
        expr: &Expr,
        sink: Sink<'_, 'a>,
    ) -> Result<(), QueryError> {
        let name = call.function.name;
        if takes_range(call) {
            return self.stream_range_call(call, sink);
        }
        let first = argument(call, 0)?;
        if let Some(function) = float_function(name).or_else(|| date_function(name)) {
            return self.stream(first, &mut |evaluator, mut series| {
                series.map_floats(function);
                evaluator.drop_name(&mut series);
                sink(evaluator, series)
            });
        }
        if let Some(function) = histogram_function(name) {
            let wants_hints = matches!(name, "histogram_count" | "histogram_sum" | "histogram_avg");
            let outer = self.wants_reset_hints;
            self.wants_reset_hints |= wants_hints;
            let streamed = self.stream(first, &mut |evaluator, mut series| {
                let histograms = series.histograms.take();
                series.values.fill(ABSENT);
                for (value, histogram) in series.values.iter_mut().zip(histograms.iter().flatten()) {
                    if let Some(histogram) = histogram {
                        *value = function(histogram);
                    }
                }
                evaluator.drop_name(&mut series);
                sink(evaluator, series)
            });
            self.wants_reset_hints = outer;
            return streamed;
        }
        match name {
            "timestamp" | "start_timestamp" => self.stream_timestamp(call, sink),
            "round" => {
                let nearest = match call.args.get(1) {
                    Some(arg) => self.scalar(arg)?,
                    None => vec![1.0; self.step_count()],
                };
                self.stream_floats_with(first, sink, |value, step| {
                    let inverse = 1.0 / nearest[step];
                    (value * inverse + 0.5).floor() / inverse
                })
            }
            "clamp" | "clamp_min" | "clamp_max" => {
                let count = self.step_count();
                let low = if name == "clamp_max" {
                    vec![f64::NEG_INFINITY; count]
                } else {
                    self.scalar(argument(call, 1)?)?
                };
                let high = match name {
                    "clamp_min" => vec![f64::INFINITY; count],
                    "clamp_max" => self.scalar(argument(call, 1)?)?,
                    _ => self.scalar(argument(call, 2)?)?,
                };
                self.stream_floats_with(first, sink, |value, step| clamp(value, low[step], high[step]))
            }
            _ => Err(execution(format!("function {name:?} is not supported in {expr}"))),
        }
    }

    fn stream_floats_with(
        &mut self,
        expr: &Expr,
        sink: Sink<'_, 'a>,
        function: impl Fn(f64, usize) -> f64,
    ) -> Result<(), QueryError> {
        self.stream(expr, &mut |evaluator, mut series| {
            series.histograms = None;
            for (step, value) in series.values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = function(*value, step);
                }
            }
            evaluator.drop_name(&mut series);
            sink(evaluator, series)
        })
    }

    /// The time of the sample behind a selector; for any other expression the time of the step.
    fn stream_timestamp(&mut self, call: &Call, sink: Sink<'_, 'a>) -> Result<(), QueryError> {
        let wants_start = call.function.name == "start_timestamp";
        let first = argument(call, 0)?;
        let steps = self.steps;
        let mut finish = |evaluator: &mut Evaluator<'a>, mut series: Series| {
            evaluator.drop_name(&mut series);
            sink(evaluator, series)
        };
        if let ExprKind::Vector(selector) = &first.unwrap_parens().kind {
            let mut choose = |_: i64, picked: super::selector::Picked| match (wants_start, picked.start_time)
            {
                (false, _) => Cell::Float(picked.time as f64 / 1000.0),
                (true, 0) => Cell::Absent,
                (true, start) => Cell::Float(start as f64 / 1000.0),
            };
            return self.stream_picked(selector, &mut choose, &mut finish);
        }
        self.stream(first, &mut |evaluator, mut series| {
            for step in 0..steps.count() {
                if series.is_present(step) {
                    let time = steps.time(step) as f64 / 1000.0;
                    series.set(step, if wants_start { Cell::Absent } else { Cell::Float(time) });
                }
            }
            finish(evaluator, series)
        })
    }

    pub(super) fn scalar_call(&mut self, call: &Call) -> Result<Vec<f64>, QueryError> {
        let count = self.step_count();
        let constant = |value: f64| Ok(vec![value; count]);
        match call.function.name {
            "pi" => constant(std::f64::consts::PI),
            "time" => Ok((0..count).map(|step| self.steps.time(step) as f64 / 1000.0).collect()),
            "start" => constant(self.query_steps.start_ms as f64 / 1000.0),
            "end" => constant(self.query_steps.end_ms as f64 / 1000.0),
            "range" => constant((self.query_steps.end_ms - self.query_steps.start_ms) as f64 / 1000.0),
            "step" if self.is_instant => constant(0.0),
            "step" => constant(self.query_steps.step_ms as f64 / 1000.0),
            name @ ("min_of" | "max_of") => {
                let left = self.scalar(argument(call, 0)?)?;
                let right = self.scalar(argument(call, 1)?)?;
                let choose = if name == "min_of" { go_min } else { go_max };
                Ok(left.iter().zip(&right).map(|(l, r)| choose(*l, *r)).collect())
            }
            "scalar" => {
                // The only float at a step, NaN when there is none or more than one.
                let mut column = vec![ABSENT; count];
                let mut is_ambiguous = vec![false; count];
                self.stream(argument(call, 0)?, &mut |_, series| {
                    for (step, value) in series.values.iter().enumerate() {
                        if !is_absent(*value) {
                            is_ambiguous[step] |= !is_absent(column[step]);
                            column[step] = *value;
                        }
                    }
                    Ok(())
                })?;
                for (value, is_ambiguous) in column.iter_mut().zip(&is_ambiguous) {
                    if is_absent(*value) || *is_ambiguous {
                        *value = f64::NAN;
                    }
                }
                Ok(column)
            }
            name => Err(execution(format!("function {name:?} is not supported"))),
        }
    }

    /// Functions that need all series at once.
    pub(super) fn call(&mut self, call: &Call, expr: &Expr) -> Result<Vec<Series>, QueryError> {
        let name = call.function.name;
        if let Some(function) = date_function(name) {
            let count = self.step_count();
            let values =
                (0..count).map(|step| function((self.steps.time(step).div_euclid(1000)) as f64)).collect();
            return Ok(vec![Series { labels: Labels::empty(), drop_name: false, values, histograms: None }]);
        }
        match name {
            "absent" => {
                let first = argument(call, 0)?;
                let mut is_present = vec![false; self.step_count()];
                self.stream(first, &mut |_, series| {
                    for (step, flag) in is_present.iter_mut().enumerate() {
                        *flag |= series.is_present(step);
                    }
                    Ok(())
                })?;
                Ok(absence(super::label_calls::labels_of_absent(first), &is_present))
            }
            "absent_over_time" => self.absent_over_time(call),
            "vector" => {
                let values = self.scalar(argument(call, 0)?)?;
                Ok(vec![Series { labels: Labels::empty(), drop_name: false, values, histograms: None }])
            }
            "label_replace" => self.label_replace(call),
            "label_join" => self.label_join(call),
            "sort" | "sort_desc" => self.sort(call, expr),
            "sort_by_label" | "sort_by_label_desc" => self.sort_by_label(call, expr),
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => self.histogram_call(call),
            "info" => self.info(call),
            _ if call.function.returns == ValueType::Scalar => {
                Err(execution(format!("{expr} is not a vector")))
            }
            _ => Err(execution(format!("function {name:?} is not supported"))),
        }
    }

    fn warn_ineffective_sort(&mut self, expr: &Expr) {
        if self.step_count() > 1 {
            let message = "sort is ineffective for range queries since results are always ordered by labels";
            self.annotations.warn(expr.range, message);
        }
    }

    fn sort(&mut self, call: &Call, expr: &Expr) -> Result<Vec<Series>, QueryError> {
        self.warn_ineffective_sort(expr);
        let mut series = self.vector(argument(call, 0)?)?;
        for one in &mut series {
            one.histograms = None;
        }
        series.retain(|one| !one.is_empty());
        if self.step_count() == 1 {
            let is_descending = call.function.name == "sort_desc";
            series.sort_by(|a, b| {
                let (a, b) = (a.values[0], b.values[0]);
                // NaN comes last either way.
                match (a.is_nan(), b.is_nan()) {
                    (false, false) if is_descending => compare_nan_first(b, a),
                    (false, false) => compare_nan_first(a, b),
                    (a_is_nan, b_is_nan) => a_is_nan.cmp(&b_is_nan),
                }
            });
        }
        Ok(series)
    }

    fn sort_by_label(&mut self, call: &Call, expr: &Expr) -> Result<Vec<Series>, QueryError> {
        self.warn_ineffective_sort(expr);
        let mut names = Vec::new();
        for index in 1..call.args.len() {
            names.push(text_argument(call, index)?.to_owned());
        }
        let mut series = self.vector(argument(call, 0)?)?;
        let is_descending = call.function.name == "sort_by_label_desc";
        series.sort_by(|a, b| {
            let mut order = Ordering::Equal;
            for name in &names {
                let value = |series: &Series| series.labels.get(name).unwrap_or("").to_owned();
                order = order.then_with(|| natural_order(&value(a), &value(b)));
            }
            let order = order.then_with(|| a.labels.cmp(&b.labels));
            if is_descending { order.reverse() } else { order }
        });
        Ok(series)
    }
}

/// NaN when either is NaN, as Go's `math.Min` has it.
fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// NaN when either is NaN, as Go's `math.Max` has it.
fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        return f64::INFINITY;
    }
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Nothing when the bounds are crossed.
fn clamp(value: f64, low: f64, high: f64) -> f64 {
    if high < low { ABSENT } else { go_max(low, go_min(high, value)) }
}
