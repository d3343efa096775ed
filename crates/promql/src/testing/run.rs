//! Runs a script and says what came out differently.

use super::compare::{is_close, is_same_value};
use super::items::Item;
use super::nhcb::convert_classic;
use super::script::{Eval, EvalTimes, LoadedSeries, Statement, parse_script};
use super::storage::MemoryStorage;
use crate::ast::{At, Expr, ExprKind};
use crate::value::{MatrixSeries, Point, QueryResult, QueryValue, Value, VectorSample};
use crate::{Engine, EngineOptions, QueryError, parse};
use gantry_prom_model::{CounterResetHint, FloatHistogram, Labels, SampleBuffer, format_float};
use std::collections::HashMap;
use std::sync::Arc;

/// An evaluation that did not come out as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalFailure {
    /// Of the `eval`, from 1.
    pub line: usize,
    pub query: String,
    pub message: String,
}

/// What became of a script.
#[derive(Debug, Clone, Default)]
pub struct ScriptReport {
    pub passed: usize,
    pub failures: Vec<EvalFailure>,
}

impl ScriptReport {
    pub fn total(&self) -> usize {
        self.passed + self.failures.len()
    }
}

/// The settings scripts are written for.
fn script_engine() -> Engine {
    Engine::new(EngineOptions {
        max_samples: 10_000,
        delayed_name_removal: true,
        use_start_timestamps: true,
        ..EngineOptions::default()
    })
}

/// Runs a script against an empty storage.
///
/// # Errors
/// When the text is not a script; evaluations that fail are in the report.
pub fn run_script(text: &str) -> Result<ScriptReport, String> {
    let engine = script_engine();
    let mut storage = MemoryStorage::new();
    let mut report = ScriptReport::default();
    for statement in parse_script(text)? {
        match statement {
            Statement::Clear => storage.clear(),
            Statement::Load { step_ms, with_nhcb, series } => load(&mut storage, step_ms, with_nhcb, &series),
            Statement::Unreadable { line, text, message } => {
                report.failures.push(EvalFailure { line, query: text, message });
            }
            Statement::Eval(eval) => match run_eval(&engine, &storage, &eval) {
                Ok(()) => report.passed += 1,
                Err(message) => {
                    report.failures.push(EvalFailure { line: eval.line, query: eval.query.clone(), message });
                }
            },
        }
    }
    Ok(report)
}

fn load(storage: &mut MemoryStorage, step_ms: i64, with_nhcb: bool, series: &[LoadedSeries]) {
    let mut loaded = MemoryStorage::new();
    for one in series {
        let samples = loaded.series_mut(&one.labels);
        // A second line for the same series replaces the first.
        samples.clear();
        for (index, item) in one.items.iter().enumerate() {
            let time = index as i64 * step_ms;
            let start = one.starts.get(index).copied().flatten().map_or(0, |offset| time + offset);
            match item {
                Item::Gap => {}
                Item::Float(value) => samples.push_with_start(time, *value, start),
                Item::Histogram(histogram) => {
                    samples.push_histogram_with_start(time, histogram.clone(), start)
                }
            }
        }
    }
    let converted = if with_nhcb { convert_classic(loaded.iter()) } else { Vec::new() };
    let all = loaded.iter().map(|(labels, samples)| (labels.clone(), samples.clone())).chain(converted);
    for (labels, samples) in all {
        let into = storage.series_mut(&labels);
        for (index, (time, value)) in samples.timestamps.iter().zip(&samples.values).enumerate() {
            let is_newer = into.timestamps.last().is_none_or(|last| last < time);
            if is_newer {
                let start = samples.start_timestamps.get(index).copied().unwrap_or(0);
                into.push_with_start(*time, *value, start);
            }
        }
        for (index, (time, histogram)) in
            samples.histogram_timestamps.iter().zip(&samples.histograms).enumerate()
        {
            let is_newer = into.histogram_timestamps.last().is_none_or(|last| last < time);
            if is_newer {
                let start = samples.histogram_start_timestamps.get(index).copied().unwrap_or(0);
                let stored = as_stored(into, *time, histogram);
                into.push_histogram_with_start(*time, stored, start);
            }
        }
    }
}

/// The histogram with the reset hint a Prometheus storage would give it: what follows another one of the same
/// layout without a reset is `NotReset`, the first of a run is `Unknown`, gauges stay gauges.
pub(super) fn as_stored(
    samples: &SampleBuffer,
    time: i64,
    histogram: &Arc<FloatHistogram>,
) -> Arc<FloatHistogram> {
    let mut stored = (**histogram).clone();
    if stored.counter_reset_hint == CounterResetHint::Gauge {
        return Arc::clone(histogram);
    }
    let says_reset = stored.counter_reset_hint == CounterResetHint::Reset;
    stored.counter_reset_hint = CounterResetHint::Unknown;
    let previous_time = samples.histogram_timestamps.last().copied().unwrap_or(i64::MIN);
    let has_float_between = samples.timestamps.iter().any(|float| (previous_time..time).contains(float));
    if let Some(previous) = samples.histograms.last().filter(|_| !has_float_between && !says_reset) {
        let continues = previous.counter_reset_hint != CounterResetHint::Gauge
            && !previous.is_stale()
            && previous.schema == stored.schema
            && previous.zero_threshold == stored.zero_threshold
            && previous.custom_values == stored.custom_values
            && !stored.is_reset_after(previous);
        if continues {
            stored.counter_reset_hint = CounterResetHint::NotReset;
        }
    }
    Arc::new(stored)
}

fn run_eval(engine: &Engine, storage: &MemoryStorage, eval: &Eval) -> Result<(), String> {
    match eval.times {
        EvalTimes::Range { start_ms, end_ms, step_ms } => {
            let result = engine.range(storage, &eval.query, start_ms, end_ms, step_ms);
            let Some(result) = check_failure(eval, result)? else { return Ok(()) };
            check_annotations(eval, &result)?;
            match result.value {
                QueryValue::Matrix(found) => compare_matrix(&eval.series, &found, start_ms, step_ms),
                other => Err(format!("expected a matrix, got a {}", other.result_type())),
            }
        }
        EvalTimes::Instant(time_ms) => {
            run_instant(engine, storage, eval, &eval.query, time_ms)?;
            if eval.fail.is_some() {
                return Ok(());
            }
            for (query, time_ms) in pinned_variants(&eval.query, time_ms)? {
                run_instant(engine, storage, eval, &query, time_ms)
                    .map_err(|message| format!("as {query:?} at {time_ms} ms: {message}"))?;
            }
            Ok(())
        }
    }
}

/// The result, or `None` when a failure was expected and came.
fn check_failure(
    eval: &Eval,
    result: Result<QueryResult, QueryError>,
) -> Result<Option<QueryResult>, String> {
    match (result, &eval.fail) {
        (Ok(result), None) => Ok(Some(result)),
        (Ok(_), Some(_)) => Err("expected a failure, got a result".to_owned()),
        (Err(error), None) => Err(format!("failed: {error}")),
        (Err(error), Some(pattern)) => {
            let message = error.to_string();
            if pattern.holds_for(&message) {
                Ok(None)
            } else {
                Err(format!("expected failure {pattern:?}, got {message:?}"))
            }
        }
    }
}

fn check_annotations(eval: &Eval, result: &QueryResult) -> Result<(), String> {
    eval.warn.check("warning", &result.warnings)?;
    eval.info.check("info", &result.infos)
}

fn run_instant(
    engine: &Engine,
    storage: &MemoryStorage,
    eval: &Eval,
    query: &str,
    time_ms: i64,
) -> Result<(), String> {
    let result = engine.instant(storage, query, time_ms);
    let Some(result) = check_failure(eval, result)? else { return Ok(()) };
    check_annotations(eval, &result)?;
    compare_instant(eval, &result.value)?;
    let depends_on_range = ["start()", "end()", "range()", "step()"].iter().any(|call| query.contains(call));
    if eval.range_vector.is_some() || eval.text.is_some() || depends_on_range || eval.is_ordered {
        return Ok(());
    }
    const MINUTE_MS: i64 = 60_000;
    let range = engine
        .range(storage, query, time_ms - MINUTE_MS, time_ms + MINUTE_MS, MINUTE_MS)
        .map_err(|error| format!("as a range query: {error}"))?;
    let QueryValue::Matrix(matrix) = range.value else {
        return Err("a range query without a matrix".to_owned());
    };
    let mut middle = Vec::new();
    for series in matrix {
        for point in series.points {
            if point.timestamp_ms == time_ms {
                middle.push(VectorSample {
                    labels: series.labels.clone(),
                    timestamp_ms: time_ms,
                    value: point.value,
                });
            }
        }
    }
    let value = match (eval.scalar, middle.first().map(|sample| sample.value.clone())) {
        (Some(_), Some(Value::Float(value))) => QueryValue::Scalar { timestamp_ms: time_ms, value },
        _ => QueryValue::Vector(middle),
    };
    compare_instant(eval, &value).map_err(|message| format!("as a range query: {message}"))
}

fn describe(value: &Value) -> String {
    match value {
        Value::Float(value) => format_float(*value),
        Value::Histogram(histogram) => {
            format!("{histogram} {:?} s{}", histogram.counter_reset_hint, histogram.schema)
        }
    }
}

fn expected_value(item: &Item) -> Option<Value> {
    match item {
        Item::Gap => None,
        Item::Float(value) => Some(Value::Float(*value)),
        Item::Histogram(histogram) => Some(Value::Histogram(histogram.clone())),
    }
}

fn compare_instant(eval: &Eval, found: &QueryValue) -> Result<(), String> {
    match found {
        QueryValue::Scalar { value, .. } => match eval.scalar {
            Some(expected) if is_close(expected, *value) => Ok(()),
            Some(expected) => Err(format!("expected scalar {expected}, got {value}")),
            None => Err(format!("expected a vector, got the scalar {value}")),
        },
        QueryValue::String { value, .. } => match &eval.text {
            Some(expected) if expected == value => Ok(()),
            other => Err(format!("expected {other:?}, got the string {value:?}")),
        },
        QueryValue::Matrix(found) => match eval.range_vector {
            Some((start_ms, step_ms)) => compare_matrix(&eval.series, found, start_ms, step_ms),
            None => Err("got a range vector".to_owned()),
        },
        QueryValue::Vector(found) if eval.scalar.is_some() => {
            Err(format!("expected a scalar, got a vector of {}", found.len()))
        }
        QueryValue::Vector(found) => compare_vector(eval, found),
    }
}

fn compare_vector(eval: &Eval, found: &[VectorSample]) -> Result<(), String> {
    let positions: HashMap<&Labels, usize> =
        found.iter().enumerate().map(|(position, sample)| (&sample.labels, position)).collect();
    for (position, (labels, items)) in eval.series.iter().enumerate() {
        let Some(at) = positions.get(labels) else {
            let have: Vec<String> = found.iter().map(|sample| sample.labels.to_string()).collect();
            return Err(format!("expected series {labels} not found, have {}", have.join(" ")));
        };
        if eval.is_ordered && *at != position {
            return Err(format!("expected {labels} at position {position}, is at {at}"));
        }
        let [item] = &items[..] else { return Err(format!("expected one value for {labels}")) };
        let Some(expected) = expected_value(item) else {
            return Err(format!("expected a value for {labels}"));
        };
        let value = &found[*at].value;
        if !is_same_value(&expected, value) {
            return Err(format!("expected {} for {labels}, got {}", describe(&expected), describe(value)));
        }
    }
    let is_expected = |sample: &&VectorSample| eval.series.iter().any(|(labels, _)| *labels == sample.labels);
    match found.iter().find(|sample| !is_expected(sample)) {
        Some(extra) => Err(format!("unexpected series {} with {}", extra.labels, describe(&extra.value))),
        None => Ok(()),
    }
}

fn compare_matrix(
    expected: &[(Labels, Vec<Item>)],
    found: &[MatrixSeries],
    start_ms: i64,
    step_ms: i64,
) -> Result<(), String> {
    if found.windows(2).any(|pair| pair[0].labels >= pair[1].labels) {
        return Err("the matrix is not sorted by labels".to_owned());
    }
    for (labels, items) in expected {
        let points: Vec<Point> = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let timestamp_ms = start_ms + index as i64 * step_ms;
                expected_value(item).map(|value| Point { timestamp_ms, value })
            })
            .collect();
        let Some(series) = found.iter().find(|series| series.labels == *labels) else {
            if points.is_empty() {
                continue;
            }
            let have: Vec<String> = found.iter().map(|series| series.labels.to_string()).collect();
            return Err(format!("expected series {labels} not found, have {}", have.join(" ")));
        };
        let show = |points: &[Point]| {
            let texts: Vec<String> = points
                .iter()
                .map(|point| format!("{}@{}", describe(&point.value), point.timestamp_ms))
                .collect();
            texts.join(" ")
        };
        let is_same = points.len() == series.points.len()
            && points.iter().zip(&series.points).all(|(expected, found)| {
                expected.timestamp_ms == found.timestamp_ms && is_same_value(&expected.value, &found.value)
            });
        if !is_same {
            return Err(format!("{labels}: expected {}, got {}", show(&points), show(&series.points)));
        }
    }
    let is_expected = |series: &&MatrixSeries| expected.iter().any(|(labels, _)| *labels == series.labels);
    match found.iter().find(|series| !is_expected(series)) {
        Some(extra) => Err(format!("unexpected series {}", extra.labels)),
        None => Ok(()),
    }
}

/// Functions that look at the time of the step, so that pinning their arguments is not enough.
const TIME_DEPENDENT: [&str; 16] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "start_timestamp",
    "step",
    "time",
    "timestamp",
    "year",
];

/// The query with its selectors pinned to its time, and other times at which it must give the same.
fn pinned_variants(query: &str, time_ms: i64) -> Result<Vec<(String, i64)>, String> {
    let mut expr = parse(query).map_err(|error| error.to_string())?;
    let mut depends_on_time = false;
    expr.walk(&mut |node| {
        if let ExprKind::Call(call) = &node.kind {
            depends_on_time |= TIME_DEPENDENT.contains(&call.function.name);
        }
    });
    if depends_on_time {
        return Ok(Vec::new());
    }
    pin(&mut expr, time_ms);
    let pinned = expr.to_string();
    let times: Vec<i64> = if time_ms == 0 {
        vec![-1_000, 0, 1_000]
    } else {
        vec![-10 * time_ms, 0, time_ms / 5, time_ms, 10 * time_ms]
    };
    Ok(times.into_iter().map(|time| (pinned.clone(), time)).collect())
}

fn pin(expr: &mut Expr, time_ms: i64) {
    let pinned = At::Timestamp(time_ms);
    match &mut expr.kind {
        ExprKind::Vector(selector) => {
            selector.at.get_or_insert(pinned);
        }
        ExprKind::Matrix(matrix) => {
            matrix.selector.at.get_or_insert(pinned);
        }
        // What is inside follows the subquery's own time.
        ExprKind::Subquery(subquery) => {
            subquery.at.get_or_insert(pinned);
        }
        kind => kind.visit_children_mut(&mut |child| pin(child, time_ms)),
    }
}
