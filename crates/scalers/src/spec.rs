//! Metrics as an autoscaler is told of them: names with their trigger's index, and targets as quantities.

use std::fmt;

use gantry_apimachinery::quantity::format_decimal;

/// How a target is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Per pod.
    AverageValue,
    /// As a whole.
    Value,
    /// In percent of what is requested; only for `cpu` and `memory`.
    Utilization,
}

impl MetricType {
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::AverageValue => "AverageValue",
            MetricType::Value => "Value",
            MetricType::Utilization => "Utilization",
        }
    }

    /// The type that a trigger's `metricType` names.
    pub fn parse(text: &str) -> Result<Option<MetricType>, String> {
        match text {
            "" => Ok(None),
            "AverageValue" => Ok(Some(MetricType::AverageValue)),
            "Value" => Ok(Some(MetricType::Value)),
            "Utilization" => Ok(Some(MetricType::Utilization)),
            other => Err(format!("metricType {other:?} must be one of AverageValue, Value, Utilization")),
        }
    }

    /// What an external metric uses: the default is per pod, and utilization means nothing to it.
    pub fn external(given: Option<MetricType>) -> Result<MetricType, String> {
        match given {
            Some(MetricType::Utilization) => {
                Err("'Utilization' metric type is unsupported for external metrics, allowed values are 'Value' or 'AverageValue'"
                    .into())
            }
            Some(other) => Ok(other),
            None => Ok(MetricType::AverageValue),
        }
    }
}

/// A number as a quantity holds it: thousandths, or whole units where thousandths would not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    value: i64,
    exponent: i32,
}

impl Amount {
    /// Not a number, infinite and negative values are zero, as no autoscaler can act on them.
    pub fn of(value: f64) -> Amount {
        if !value.is_finite() || value < 0.0 {
            return Amount { value: 0, exponent: 0 };
        }
        let milli = (value * 1000.0).round();
        if milli < i64::MAX as f64 {
            return Amount { value: milli as i64, exponent: -3 };
        }
        // The cast saturates.
        Amount { value: value as i64, exponent: 0 }
    }

    /// In thousandths, saturating.
    pub fn milli(self) -> i64 {
        if self.exponent == 0 { self.value.saturating_mul(1000) } else { self.value }
    }

    pub fn as_f64(self) -> f64 {
        if self.exponent == 0 { self.value as f64 } else { self.value as f64 / 1000.0 }
    }
}

/// As a quantity: `1500m`, `10`, `12k`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_decimal(self.value, self.exponent))
    }
}

/// What `cpu` and `memory` triggers aim at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceTarget {
    /// Percent of what is requested.
    Utilization(i32),
    /// A quantity per pod.
    AverageValue(String),
}

/// A metric that a trigger stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricSpec {
    External { name: String, metric_type: MetricType, target: Amount },
    Resource { name: &'static str, container: Option<String>, target: ResourceTarget },
}

impl MetricSpec {
    /// The name of an external metric.
    pub fn external_name(&self) -> Option<&str> {
        match self {
            MetricSpec::External { name, .. } => Some(name),
            MetricSpec::Resource { .. } => None,
        }
    }
}

/// The name under which a metric of trigger `index` is known: characters that paths cannot hold become `-`.
pub(crate) fn metric_name(index: usize, base: &str) -> String {
    let normal = |c: char| if matches!(c, '/' | '.' | ':' | '%' | '(' | ')') { '-' } else { c };
    let mut name = format!("s{index}-");
    name.extend(base.chars().map(normal));
    name
}

/// The name as its source knows it, without `s{index}-`.
pub fn without_index(index: usize, name: &str) -> Result<&str, String> {
    name.strip_prefix(&format!("s{index}-"))
        .ok_or_else(|| format!("metric {name:?} does not begin with the index of its trigger, s{index}-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_quantities() {
        assert_eq!(Amount::of(1.5).to_string(), "1500m");
        assert_eq!(Amount::of(10.0).to_string(), "10");
        assert_eq!(Amount::of(f64::NAN).to_string(), "0");
        assert_eq!(Amount::of(-3.0).milli(), 0);
        assert_eq!(Amount::of(9.3e15).as_f64(), 9.3e15);
    }

    #[test]
    fn names_carry_the_index() {
        assert_eq!(metric_name(3, "redis-a/b:c"), "s3-redis-a-b-c");
        assert_eq!(without_index(3, "s3-x"), Ok("x"));
        assert!(without_index(1, "s11-x").is_err());
    }
}
