//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, over classic and native histograms.

use super::calls::text_argument;
use super::classic_histogram::{ClassicBucket, bucket_fraction, bucket_quantile};
use super::native_quantile::{self, NanNote};
use super::series::{ABSENT, Series, is_absent};
use super::{Evaluator, execution};
use crate::annotations::{Monotonicity, for_metric};
use crate::ast::{Call, Expr, PosRange};
use crate::engine::QueryError;
use gantry_prom_model::{BUCKET_LABEL, FloatHistogram, Labels, format_open_metrics_float, parse_float};
use std::collections::HashMap;

/// What is asked of each histogram, one column per step.
enum Question {
    Quantile(Vec<f64>),
    Fraction(Vec<f64>, Vec<f64>),
}

/// The series of one histogram.
#[derive(Default)]
struct Parts {
    /// Upper bound and series of each classic bucket.
    buckets: Vec<(f64, usize)>,
    /// Series that have native histograms.
    native: Vec<usize>,
    drop_name: bool,
}

impl Evaluator<'_> {
    pub(super) fn histogram_call(&mut self, call: &Call) -> Result<Vec<Series>, QueryError> {
        let missing = || execution(format!("{} lacks an argument", call.function.name));
        let arg = |index: usize| call.args.get(index).ok_or_else(missing);
        match call.function.name {
            "histogram_quantile" => {
                let quantiles = self.scalar(arg(0)?)?;
                let input = self.vector(arg(1)?)?;
                let ranges = (arg(0)?.range, arg(1)?.range);
                self.histograms(&input, &Question::Quantile(quantiles), None, ranges)
            }
            "histogram_fraction" => {
                let lower = self.scalar(arg(0)?)?;
                let upper = self.scalar(arg(1)?)?;
                let input = self.vector(arg(2)?)?;
                let ranges = (arg(0)?.range, arg(2)?.range);
                self.histograms(&input, &Question::Fraction(lower, upper), None, ranges)
            }
            _ => {
                let label = text_argument(call, 1)?.to_owned();
                let input = self.vector(arg(0)?)?;
                let mut result = Vec::new();
                for quantile in call.args.get(2..).unwrap_or(&[]) {
                    result.extend(self.one_of_quantiles(&input, quantile, &label, arg(0)?.range)?);
                }
                Ok(result)
            }
        }
    }

    fn one_of_quantiles(
        &mut self,
        input: &[Series],
        quantile: &Expr,
        label: &str,
        input_range: PosRange,
    ) -> Result<Vec<Series>, QueryError> {
        let column = self.scalar(quantile)?;
        let text = column.first().map_or_else(String::new, |q| format_open_metrics_float(*q));
        let ranges = (quantile.range, input_range);
        self.histograms(input, &Question::Quantile(column), Some((label, &text)), ranges)
    }

    /// Answers the question for each histogram at each step. `extra` is a label put on the results; `ranges` are
    /// the places of the question and of the vector.
    fn histograms(
        &mut self,
        input: &[Series],
        question: &Question,
        extra: Option<(&str, &str)>,
        (question_range, input_range): (PosRange, PosRange),
    ) -> Result<Vec<Series>, QueryError> {
        if let Question::Quantile(quantiles) = question {
            for q in quantiles {
                self.check_quantile(*q, question_range);
            }
        }
        let steps = self.step_count();
        let (order, mut parts) = self.parts(input, input_range);
        let mut result = Vec::with_capacity(order.len());
        for labels in order {
            self.check()?;
            let Some(histogram) = parts.remove(&labels) else { continue };
            let mut series = Series::absent(labels.clone(), steps);
            series.drop_name = histogram.drop_name;
            for step in 0..steps {
                let value = self.one_histogram(input, &histogram, &labels, question, step, input_range);
                series.values[step] = value;
            }
            if let Some((name, value)) = extra {
                let mut builder = series.labels.to_builder();
                builder.set(name, value);
                series.labels = builder.build();
            }
            self.drop_name(&mut series);
            if !series.is_empty() {
                result.push(series);
            }
        }
        if self.options.delayed_name_removal {
            Ok(result)
        } else {
            super::label_calls::merge_same_labels(result)
        }
    }

    /// The series of each histogram, by labels without `le`, and the labels in the order of the input.
    fn parts(&mut self, input: &[Series], range: PosRange) -> (Vec<Labels>, HashMap<Labels, Parts>) {
        let mut order: Vec<Labels> = Vec::new();
        let mut parts: HashMap<Labels, Parts> = HashMap::new();
        let mut part_of = |labels: Labels, order: &mut Vec<Labels>, put: &mut dyn FnMut(&mut Parts)| {
            let part = parts.entry(labels.clone()).or_insert_with(|| {
                order.push(labels);
                Parts::default()
            });
            put(part);
        };
        for (index, series) in input.iter().enumerate() {
            if series.has_histograms() {
                part_of(series.labels.clone(), &mut order, &mut |part| {
                    part.native.push(index);
                    part.drop_name |= series.drop_name;
                });
            }
            if super::present(&series.values).next().is_none() {
                continue;
            }
            let bound = series.labels.get(BUCKET_LABEL).unwrap_or("");
            match parse_float(bound).filter(|bound| !bound.is_nan()) {
                Some(upper_bound) => {
                    part_of(series.labels.without(BUCKET_LABEL), &mut order, &mut |part| {
                        part.buckets.push((upper_bound, index));
                        part.drop_name |= series.drop_name;
                    });
                }
                None => {
                    let name = for_metric(series.labels.metric_name().unwrap_or(""));
                    let message =
                        format!("bucket label \"le\" is missing or has a malformed value of {bound:?}{name}");
                    self.annotations.warn(range, &message);
                }
            }
        }
        (order, parts)
    }

    fn one_histogram(
        &mut self,
        input: &[Series],
        parts: &Parts,
        labels: &Labels,
        question: &Question,
        step: usize,
        input_range: PosRange,
    ) -> f64 {
        let mut buckets: Vec<ClassicBucket> = Vec::with_capacity(parts.buckets.len());
        for (upper_bound, index) in &parts.buckets {
            let count = input[*index].values[step];
            if !is_absent(count) {
                buckets.push(ClassicBucket { upper_bound: *upper_bound, count });
            }
        }
        let native = parts.native.iter().find_map(|index| input[*index].histogram(step));
        let name = labels.metric_name().unwrap_or("");
        match native {
            Some(_) if !buckets.is_empty() => {
                let message =
                    format!("vector contains a mix of classic and native histograms{}", for_metric(name));
                self.annotations.warn(input_range, &message);
                ABSENT
            }
            Some(histogram) => self.native(histogram, question, step, name, input_range),
            None if buckets.is_empty() => ABSENT,
            None => match question {
                Question::Fraction(lower, upper) => bucket_fraction(lower[step], upper[step], &mut buckets),
                Question::Quantile(quantiles) => {
                    let (value, repair) = bucket_quantile(quantiles[step], &mut buckets);
                    if let Some(repair) = repair {
                        let time = self.steps.time(step);
                        let known_name = if self.options.delayed_name_removal { name } else { "" };
                        let seen = Monotonicity {
                            first_timestamp_ms: time,
                            last_timestamp_ms: time,
                            min_bucket: repair.min_bucket,
                            max_bucket: repair.max_bucket,
                            max_difference: repair.max_difference,
                            count: 1,
                        };
                        self.annotations.monotonicity(known_name, input_range, seen);
                    }
                    value
                }
            },
        }
    }

    fn native(
        &mut self,
        histogram: &FloatHistogram,
        question: &Question,
        step: usize,
        name: &str,
        range: PosRange,
    ) -> f64 {
        let (value, note) = match question {
            Question::Quantile(quantiles) => native_quantile::quantile(quantiles[step], histogram),
            Question::Fraction(lower, upper) => {
                native_quantile::fraction(lower[step], upper[step], histogram)
            }
        };
        let name = for_metric(name);
        let message = match note {
            None => return value,
            Some(NanNote::Result) => {
                format!("input to histogram_quantile has NaN observations, result is NaN{name}")
            }
            Some(NanNote::Skew) => {
                format!("input to histogram_quantile has NaN observations, result is skewed higher{name}")
            }
            Some(NanNote::Fraction) => format!(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions{name}"
            ),
        };
        self.annotations.info(range, &message);
        value
    }
}
