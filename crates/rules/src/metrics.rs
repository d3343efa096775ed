//! What rules and their texts count, under Prometheus' names.

use gantry_prom_model::{Counter, CounterVec, GaugeVec, Histogram, Registry};

/// Bounds for evaluations, in seconds.
const DURATIONS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];

/// The label of the vectors; its value is `file;name`.
const GROUP: [&str; 1] = ["rule_group"];

/// The instruments of all groups.
#[derive(Clone)]
pub struct RuleMetrics {
    pub(crate) evaluation_seconds: Histogram,
    pub(crate) group_seconds: Histogram,
    pub(crate) evaluations: CounterVec<1>,
    pub(crate) failures: CounterVec<1>,
    pub(crate) iterations: CounterVec<1>,
    pub(crate) missed: CounterVec<1>,
    pub(crate) interval_seconds: GaugeVec<1>,
    pub(crate) last_duration_seconds: GaugeVec<1>,
    pub(crate) last_rules_seconds: GaugeVec<1>,
    pub(crate) last_restore_seconds: GaugeVec<1>,
    pub(crate) last_evaluation_seconds: GaugeVec<1>,
    pub(crate) last_samples: GaugeVec<1>,
    pub(crate) rules: GaugeVec<1>,
    pub(crate) expansions: Counter,
    pub(crate) expansion_failures: Counter,
}

impl std::fmt::Debug for RuleMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleMetrics").finish_non_exhaustive()
    }
}

impl RuleMetrics {
    /// Registered in `registry`.
    pub fn new(registry: &Registry) -> RuleMetrics {
        let counters = |name: &str, help: &str| registry.counter_vec(name, help, GROUP);
        let gauges = |name: &str, help: &str| registry.gauge_vec(name, help, GROUP);
        RuleMetrics {
            evaluation_seconds: registry.histogram(
                "prometheus_rule_evaluation_duration_seconds",
                "How long single rules took.",
                &DURATIONS,
            ),
            group_seconds: registry.histogram(
                "prometheus_rule_group_duration_seconds",
                "How long whole groups took.",
                &DURATIONS,
            ),
            evaluations: counters("prometheus_rule_evaluations_total", "Evaluations of rules."),
            failures: counters("prometheus_rule_evaluation_failures_total", "Evaluations that failed."),
            iterations: counters(
                "prometheus_rule_group_iterations_total",
                "Turns of the group, those missed among them.",
            ),
            missed: counters(
                "prometheus_rule_group_iterations_missed_total",
                "Turns missed because an evaluation took too long.",
            ),
            interval_seconds: gauges("prometheus_rule_group_interval_seconds", "The group's interval."),
            last_duration_seconds: gauges(
                "prometheus_rule_group_last_duration_seconds",
                "How long the last evaluation of the group took.",
            ),
            last_rules_seconds: gauges(
                "prometheus_rule_group_last_rule_duration_sum_seconds",
                "How long its rules took together, side by side or not.",
            ),
            last_restore_seconds: gauges(
                "prometheus_rule_group_last_restore_duration_seconds",
                "How long restoring the state of its alerts took.",
            ),
            last_evaluation_seconds: gauges(
                "prometheus_rule_group_last_evaluation_timestamp_seconds",
                "When the group was last evaluated, in Unix seconds.",
            ),
            last_samples: gauges(
                "prometheus_rule_group_last_evaluation_samples",
                "Samples of its last evaluation.",
            ),
            rules: gauges("prometheus_rule_group_rules", "Rules of the group."),
            expansions: registry
                .counter("prometheus_template_text_expansions_total", "Texts made of templates."),
            expansion_failures: registry.counter(
                "prometheus_template_text_expansion_failures_total",
                "Templates of which no text could be made.",
            ),
        }
    }

    /// Removes what is kept of a group.
    pub(crate) fn forget(&self, key: &str) {
        for counters in [&self.evaluations, &self.failures, &self.iterations, &self.missed] {
            counters.remove([key]);
        }
        for gauges in [
            &self.interval_seconds,
            &self.last_duration_seconds,
            &self.last_rules_seconds,
            &self.last_restore_seconds,
            &self.last_evaluation_seconds,
            &self.last_samples,
            &self.rules,
        ] {
            gauges.remove([key]);
        }
    }
}
