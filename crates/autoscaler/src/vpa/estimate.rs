//! From aggregated usage to a target, a lower and an upper bound.

use std::collections::BTreeMap;

use super::aggregate::{AggregateState, DAY_MS};
use super::amounts::{self, Amounts, scale};

/// The recommender's knobs; the defaults are upstream's.
#[derive(Clone, Debug)]
pub struct EstimateConfig {
    /// Shares of the samples' weight: of the target, the lower and the upper bound.
    pub cpu_percentiles: [f64; 3],
    pub memory_percentiles: [f64; 3],
    /// Added on top of every estimate.
    pub safety_margin: f64,
    /// A whole pod is never recommended less; divided among its containers.
    pub pod_min_cpu_milli: i64,
    pub pod_min_memory_bytes: i64,
    /// How long, with a sample a minute, makes a confidence of one.
    pub confidence_interval_ms: i64,
}

impl Default for EstimateConfig {
    fn default() -> EstimateConfig {
        EstimateConfig {
            cpu_percentiles: [0.9, 0.5, 0.95],
            memory_percentiles: [0.9, 0.5, 0.95],
            safety_margin: 0.15,
            pod_min_cpu_milli: 25,
            pod_min_memory_bytes: 250 << 20,
            confidence_interval_ms: DAY_MS,
        }
    }
}

/// What is recommended for one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    pub target: Amounts,
    pub lower: Amounts,
    pub upper: Amounts,
}

/// The usage below which that share of the weight lies.
pub fn percentile(state: &AggregateState, cpu: f64, memory: f64) -> Amounts {
    Amounts {
        cpu_milli: Some(amounts::cpu_from_cores(state.cpu.percentile(cpu))),
        memory_bytes: Some(amounts::from_float(state.memory_peaks.percentile(memory))),
    }
}

/// How much the history tells: its length in intervals, or its samples as if there were one a minute.
pub fn confidence(state: &AggregateState, interval_ms: i64) -> f64 {
    let (Some(first), Some(last)) = (state.first_sample_ms, state.last_sample_ms) else { return 0.0 };
    let lifespan = (last - first) as f64 / interval_ms as f64;
    let samples = state.samples as f64 / (interval_ms as f64 / 60_000.0);
    lifespan.min(samples)
}

/// Wider the less is known.
pub fn by_confidence(amounts: Amounts, multiplier: f64, exponent: f64, confidence: f64) -> Amounts {
    let factor = (1.0 + multiplier / confidence).powf(exponent);
    amounts.map(|_, amount| scale(amount, factor))
}

pub fn with_margin(amounts: Amounts, margin: f64) -> Amounts {
    amounts.map(|_, amount| scale(amount, 1.0 + margin))
}

pub fn at_least(amounts: Amounts, cpu_milli: i64, memory_bytes: i64) -> Amounts {
    amounts.map(|is_memory, amount| amount.max(if is_memory { memory_bytes } else { cpu_milli }))
}

/// The estimates for the containers of one pod, by name.
pub fn pod(states: &BTreeMap<String, AggregateState>, config: &EstimateConfig) -> BTreeMap<String, Estimate> {
    let share = 1.0 / states.len() as f64;
    let (cpu, memory) = (scale(config.pod_min_cpu_milli, share), scale(config.pod_min_memory_bytes, share));
    let estimate = |state: &AggregateState| {
        let of = |which: usize| {
            let found = percentile(state, config.cpu_percentiles[which], config.memory_percentiles[which]);
            with_margin(found, config.safety_margin)
        };
        let confidence = confidence(state, config.confidence_interval_ms);
        Estimate {
            target: at_least(of(0), cpu, memory),
            lower: at_least(by_confidence(of(1), 0.001, -2.0, confidence), cpu, memory),
            upper: at_least(by_confidence(of(2), 1.0, 1.0, confidence), cpu, memory),
        }
    };
    states.iter().map(|(name, state)| (name.clone(), estimate(state))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::aggregate::{Aggregate, AggregationConfig, Resource, Sample};
    use super::*;

    #[test]
    fn confidence_narrows_the_bounds() {
        let config = AggregationConfig::default();
        let estimate = |days: i64| {
            let mut state = AggregateState::new(&config);
            for minute in 0..=days * 24 * 60 {
                let at_ms = 1_700_000_000_000 + minute * 60_000;
                state.add(Sample { at_ms, usage: 500, resource: Resource::Cpu });
            }
            state.add(Sample { at_ms: 1_700_000_000_000, usage: 600 << 20, resource: Resource::Memory });
            pod(&[("c".to_owned(), state)].into(), &EstimateConfig::default())["c"]
        };
        let (day, week) = (estimate(1), estimate(7));
        assert_eq!(day.target, week.target);
        // 0.5 cores end in the bucket up to 0.511, and 15 % more is 587m.
        assert_eq!(day.target.cpu_milli, Some(587));
        assert_eq!(day.upper.cpu_milli, Some(1174));
        assert!(week.upper.cpu_milli < day.upper.cpu_milli && week.lower.cpu_milli > day.lower.cpu_milli);
        let none = estimate(0);
        assert_eq!(none.upper.cpu_milli, Some(amounts::MOST), "nothing is known yet");
        assert_eq!(none.lower.cpu_milli, Some(25));
    }
}
