//! Aggregations that keep some of the series: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use super::aggregate::group_labels;
use super::math::compare_nan_first;
use super::series::{Series, is_absent};
use super::{Evaluator, execution};
use crate::ast::{Aggregate, AggregateOp, PosRange};
use crate::engine::QueryError;
use gantry_prom_model::Labels;
use std::cmp::Ordering;
use std::collections::HashMap;

/// The largest parameter that fits a signed 64-bit integer.
const MAX_K: f64 = 9_223_372_036_854_774_784.0;

/// Where in `[0, 1)` a series lies for `limit_ratio`; the same for the same labels everywhere.
fn sampling_offset(labels: &Labels) -> f64 {
    labels.stable_hash() as f64 / u64::MAX as f64
}

fn is_in_ratio(ratio: f64, labels: &Labels) -> bool {
    let offset = sampling_offset(labels);
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

/// Orders so that what `topk` (or `bottomk`) wants comes first; NaN comes last either way.
fn wanted_first(op: AggregateOp, a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if op == AggregateOp::Topk => compare_nan_first(b, a),
        (false, false) => compare_nan_first(a, b),
        (a_is_nan, b_is_nan) => a_is_nan.cmp(&b_is_nan),
    }
}

impl Evaluator<'_> {
    pub(super) fn top(&mut self, aggregate: &Aggregate, range: PosRange) -> Result<Vec<Series>, QueryError> {
        let op = aggregate.op;
        let Some(param) = &aggregate.param else { return Err(execution(format!("{op} needs a parameter"))) };
        let parameters = self.scalar(param)?;
        let low = parameters.iter().copied().fold(f64::INFINITY, f64::min);
        let high = parameters.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let has_nan = parameters.iter().any(|value| value.is_nan());
        if op == AggregateOp::LimitRatio {
            if has_nan {
                return Err(execution("Ratio value is NaN"));
            }
            for (value, limit) in [(high, 1.0), (low, -1.0)] {
                if value * limit > 1.0 {
                    let message = format!(
                        "ratio value should be between -1 and 1, got {}, capping to {}",
                        gantry_prom_model::format_float(value),
                        gantry_prom_model::format_float(limit)
                    );
                    self.annotations.warn(param.range, &message);
                }
            }
        } else {
            if high < 1.0 && !has_nan {
                return Ok(Vec::new());
            }
            if has_nan {
                return Err(execution("Parameter value is NaN"));
            }
            if low <= i64::MIN as f64 {
                let number = gantry_prom_model::format_float(low);
                return Err(execution(format!("Scalar value {number} underflows int64")));
            }
            if high >= MAX_K {
                let number = gantry_prom_model::format_float(high);
                return Err(execution(format!("Scalar value {number} overflows int64")));
            }
        }
        let mut series = self.vector(&aggregate.expr)?;
        if op == AggregateOp::LimitRatio {
            return Ok(self.limit_ratio(series, &parameters));
        }
        if matches!(op, AggregateOp::Topk | AggregateOp::Bottomk) && series.iter().any(Series::has_histograms)
        {
            self.annotations.info(range, &format!("ignored histogram in {op} aggregation"));
            series.iter_mut().for_each(|one| one.histograms = None);
        }
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut index_of: HashMap<Labels, usize> = HashMap::new();
        for (index, one) in series.iter().enumerate() {
            let labels = group_labels(aggregate, &one.labels);
            let group = *index_of.entry(labels).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(index);
        }
        let mut order: Vec<usize> = Vec::with_capacity(series.len());
        for members in &groups {
            self.check()?;
            let sorted = keep_wanted(op, &mut series, members, &parameters);
            order.extend(sorted);
        }
        // In an instant vector the wanted ones stand in their order.
        let mut slots: Vec<Option<Series>> = series.into_iter().map(Some).collect();
        let mut result: Vec<Series> = order.into_iter().filter_map(|index| slots[index].take()).collect();
        result.retain(|one| !one.is_empty());
        Ok(result)
    }

    fn limit_ratio(&self, mut series: Vec<Series>, ratios: &[f64]) -> Vec<Series> {
        for one in &mut series {
            for (step, ratio) in ratios.iter().enumerate() {
                let ratio = ratio.clamp(-1.0, 1.0);
                if ratio == 0.0 || !is_in_ratio(ratio, &one.labels) {
                    one.clear(step);
                }
            }
        }
        series.retain(|one| !one.is_empty());
        series
    }
}

/// Clears what is not among the wanted `k` of a group at each step; returns the members in the order of the last
/// step.
fn keep_wanted(op: AggregateOp, series: &mut [Series], members: &[usize], parameters: &[f64]) -> Vec<usize> {
    let mut present: Vec<usize> = Vec::with_capacity(members.len());
    for (step, parameter) in parameters.iter().enumerate() {
        let k = if *parameter < 1.0 { 0 } else { *parameter as usize };
        present.clear();
        present.extend(members.iter().copied().filter(|member| series[*member].is_present(step)));
        if op != AggregateOp::Limitk {
            present.retain(|member| !is_absent(series[*member].values[step]));
            present.sort_by(|a, b| wanted_first(op, series[*a].values[step], series[*b].values[step]));
        }
        for member in present.iter().skip(k) {
            series[*member].clear(step);
        }
    }
    if parameters.len() == 1 { present } else { members.to_vec() }
}
