//! When what came out is what was expected, and how both are shown.

use gantry_prom_model::{FloatHistogram, Labels, format_float};
use gantry_promql::Value;

/// An alert as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlertText {
    pub(super) labels: Labels,
    pub(super) annotations: Labels,
}

/// A sample as a test sees it.
#[derive(Debug, Clone)]
pub(super) struct SampleText {
    pub(super) labels: Labels,
    pub(super) value: Value,
}

/// With `fuzzy` neighbouring numbers are the same.
pub(super) fn same_value(expected: &Value, found: &Value, fuzzy: bool) -> bool {
    match (expected, found) {
        (Value::Float(expected), Value::Float(found)) => same_float(*expected, *found, fuzzy),
        (Value::Histogram(expected), Value::Histogram(found)) => {
            let compact = |histogram: &FloatHistogram| {
                let mut copy = histogram.clone();
                copy.compact();
                copy
            };
            let (expected, found) = (compact(expected), compact(found));
            expected.counter_reset_hint == found.counter_reset_hint
                && expected.to_string() == found.to_string()
                && expected.schema == found.schema
        }
        _ => false,
    }
}

fn same_float(expected: f64, found: f64, fuzzy: bool) -> bool {
    expected == found
        || (expected.is_nan() && found.is_nan())
        || (fuzzy && (expected.next_up() == found || expected.next_down() == found))
}

pub(super) fn show_alerts(alerts: &[AlertText]) -> String {
    if alerts.is_empty() {
        return "[]".into();
    }
    let shown: Vec<String> = alerts
        .iter()
        .enumerate()
        .map(|(index, alert)| {
            format!(
                "            {index}:\n              Labels:{}\n              Annotations:{}",
                alert.labels, alert.annotations
            )
        })
        .collect();
    format!("[\n{}\n            ]", shown.join(",\n"))
}

pub(super) fn show_samples(samples: &[SampleText]) -> String {
    if samples.is_empty() {
        return "nil".into();
    }
    let shown: Vec<String> = samples
        .iter()
        .map(|sample| {
            let value = match &sample.value {
                Value::Float(value) => format_float(*value),
                Value::Histogram(histogram) => {
                    format!("{histogram} ({:?})", histogram.counter_reset_hint)
                }
            };
            format!("{} {value}", sample.labels)
        })
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::same_float;

    #[test]
    fn fuzzy_takes_the_neighbours_only() {
        assert!(same_float(3.0, 3.0, false) && same_float(f64::NAN, f64::NAN, false));
        assert!(!same_float(3.0, 3.000_000_000_000_000_4, false));
        assert!(same_float(3.0, 3.000_000_000_000_000_4, true));
        assert!(same_float(3.0, 2.999_999_999_999_999_6, true));
        assert!(!same_float(3.0, 2.999_999_999_999_998_7, true));
    }
}
