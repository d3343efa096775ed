//! From what the sources said to what the autoscaler is told: fallbacks and the formula applied.

use super::entry::{Entry, Observed};
use super::fallback::{self, Scene};
use super::hpa;
use super::types::{COMPOSITE_METRIC, ScaledObjectSpec};

/// A ScaledObject's metrics after fallback and formula.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// By the name the autoscaler asks for.
    pub metrics: Vec<(String, Result<f64, String>)>,
    pub is_active: bool,
    /// Triggers with work, as the event names them.
    pub active_triggers: Vec<String>,
    pub has_fallen_back: bool,
    pub errors: Vec<String>,
}

pub(crate) fn outcome(
    spec: &ScaledObjectSpec,
    entry: &Entry,
    observed: &[Observed],
    scene: Scene,
) -> Outcome {
    let mut outcome = Outcome {
        metrics: Vec::with_capacity(observed.len()),
        is_active: false,
        active_triggers: Vec::new(),
        has_fallen_back: false,
        errors: observed.iter().filter_map(|o| o.outcome.as_ref().err().cloned()).collect(),
    };
    if let Some(formula) = &entry.formula {
        composite(spec, formula, observed, scene, &mut outcome);
        return outcome;
    }
    for metric in observed {
        let value = match &metric.outcome {
            Ok(reading) => {
                if reading.active {
                    outcome.active_triggers.push(named(metric));
                }
                Ok(reading.value)
            }
            Err(error) => match &spec.fallback {
                Some(given) if fallback::applies(given, metric.failures) => {
                    outcome.has_fallen_back = true;
                    Ok(fallback::value(given, metric.metric_type, metric.target, scene))
                }
                _ => Err(error.clone()),
            },
        };
        outcome.metrics.push((metric.metric.clone(), value));
    }
    outcome.is_active =
        !outcome.active_triggers.is_empty() || outcome.has_fallen_back || entry.has_only_resources();
    outcome
}

fn composite(
    spec: &ScaledObjectSpec,
    formula: &super::formula::Formula,
    observed: &[Observed],
    scene: Scene,
    outcome: &mut Outcome,
) {
    let (metric_type, target) = spec
        .modifiers()
        .and_then(|m| hpa::composite_target(m).ok())
        .unwrap_or((gantry_scalers::MetricType::AverageValue, 1.0));
    let given = spec.fallback.as_ref();
    let has_failed = |metric: &Observed| {
        metric.outcome.is_err() && given.is_some_and(|given| fallback::applies(given, metric.failures))
    };
    let is_per_trigger = given.is_some_and(|given| given.behavior == "scalingModifiers");
    let whole_target = fallback::composite_target(spec);
    let result = if let (Some(given), Some(whole)) = (given, whole_target)
        && !is_per_trigger
        && observed.iter().any(has_failed)
    {
        outcome.has_fallen_back = true;
        Ok(fallback::value(given, metric_type, whole, scene))
    } else {
        let mut missing = None;
        let values: Vec<(&str, Option<f64>)> = observed
            .iter()
            .map(|metric| match &metric.outcome {
                Ok(reading) => (metric.trigger.as_str(), Some(reading.value)),
                Err(error) => {
                    if !(is_per_trigger && has_failed(metric)) {
                        missing.get_or_insert_with(|| error.clone());
                    }
                    (metric.trigger.as_str(), None)
                }
            })
            .collect();
        match missing {
            Some(error) => Err(error),
            None => match (formula.evaluate(values.into_iter()), given) {
                // As an amount it would be 0, and the target would rest because of a division by zero.
                (Ok(Some(value)), _) if !value.is_finite() => Err(format!("the formula gave {value}")),
                (Ok(Some(value)), _) => Ok(value),
                (Ok(None), Some(given)) => {
                    outcome.has_fallen_back = true;
                    Ok(fallback::value(given, metric_type, target, scene))
                }
                (Ok(None), None) => Err("the formula gave nil".into()),
                (Err(error), _) => Err(error),
            },
        }
    };
    let activation = spec.modifiers().and_then(|m| m.activation_target.parse::<f64>().ok()).unwrap_or(0.0);
    match &result {
        Ok(value) if *value > activation => {
            outcome.active_triggers.push(COMPOSITE_METRIC.to_owned());
            outcome.is_active = true;
        }
        Ok(_) => {}
        Err(error) => {
            if outcome.errors.is_empty() {
                outcome.errors.push(error.clone());
            }
        }
    }
    outcome.is_active |= outcome.has_fallen_back;
    // The result is cut, not rounded, to thousandths.
    let result = result.map(|value| (value * 1000.0).trunc() / 1000.0);
    outcome.metrics.push((COMPOSITE_METRIC.to_owned(), result));
}

fn named(metric: &Observed) -> String {
    if metric.trigger.is_empty() { metric.kind.clone() } else { metric.trigger.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_scalers::{MetricType, Reading};

    use super::super::formula::Formula;
    use super::*;

    #[test]
    fn a_formula_that_gives_no_number_is_an_error() {
        let observed = |value| Observed {
            trigger: "a".into(),
            kind: "redis".into(),
            index: 0,
            metric: "s0-redis-q".into(),
            metric_type: MetricType::AverageValue,
            target: 1.0,
            outcome: Ok(Reading { value, active: value > 0.0 }),
            failures: 0,
            took: Duration::ZERO,
        };
        let formula = Formula::compile("10 / a", &["a"]).unwrap();
        let scene = Scene { current_replicas: 1, ready_replicas: 1 };
        let given = |value| {
            let mut outcome = Outcome {
                metrics: Vec::new(),
                is_active: false,
                active_triggers: Vec::new(),
                has_fallen_back: false,
                errors: Vec::new(),
            };
            composite(&ScaledObjectSpec::default(), &formula, &[observed(value)], scene, &mut outcome);
            outcome
        };
        assert_eq!(given(2.0).metrics, [(COMPOSITE_METRIC.to_owned(), Ok(5.0))]);
        let by_zero = given(0.0);
        assert_eq!(by_zero.metrics, [(COMPOSITE_METRIC.to_owned(), Err("the formula gave inf".to_owned()))]);
        assert_eq!(by_zero.errors, ["the formula gave inf"]);
        assert!(!by_zero.is_active);
    }
}
