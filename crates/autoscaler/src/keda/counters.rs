//! What is counted, under the names that KEDA's dashboards ask for.

use std::collections::{BTreeSet, HashMap};

use gantry_operator::Key;
use gantry_prom_model::{CounterVec, GaugeVec, Registry};
use parking_lot::Mutex;

use super::Inner;
use super::entry::Observed;

pub(super) struct Counters {
    registry: Registry,
    active: GaugeVec<6>,
    value: GaugeVec<6>,
    latency: GaugeVec<6>,
    scaler_errors: CounterVec<6>,
    object_errors: CounterVec<2>,
    job_errors: CounterVec<2>,
    paused: GaugeVec<2>,
    /// The series there are of each object (true for ScaledJob), so that they end with it.
    seen: Mutex<HashMap<(bool, Key), BTreeSet<Labels>>>,
}

type Labels = [String; 6];

const LABELS: [&str; 6] = ["namespace", "metric", "scaledObject", "scaler", "triggerIndex", "type"];

impl Counters {
    pub(super) fn new() -> Counters {
        let registry = Registry::new();
        let info = registry.gauge_vec("keda_build_info", "Version of the program", ["version"]);
        info.with([env!("CARGO_PKG_VERSION")]).set(1.0);
        Counters {
            active: registry.gauge_vec("keda_scaler_active", "Whether a scaler has work", LABELS),
            value: registry.gauge_vec("keda_scaler_metrics_value", "Value of a scaler's metric", LABELS),
            latency: registry.gauge_vec(
                "keda_scaler_metrics_latency_seconds",
                "How long the last read of a scaler took",
                LABELS,
            ),
            scaler_errors: registry.counter_vec(
                "keda_scaler_detail_errors_total",
                "Reads of a scaler that failed",
                LABELS,
            ),
            object_errors: registry.counter_vec(
                "keda_scaled_object_errors_total",
                "Errors of a ScaledObject",
                ["namespace", "scaledObject"],
            ),
            job_errors: registry.counter_vec(
                "keda_scaled_job_errors_total",
                "Errors of a ScaledJob",
                ["namespace", "scaledJob"],
            ),
            paused: registry.gauge_vec(
                "keda_scaled_object_paused",
                "Whether a ScaledObject is paused",
                ["namespace", "scaledObject"],
            ),
            registry,
            seen: Mutex::default(),
        }
    }

    pub(super) fn registry(&self) -> Registry {
        self.registry.clone()
    }

    pub(super) fn object_error(&self, key: &Key) {
        self.object_errors.with([key.namespace(), key.name()]).inc();
    }

    pub(super) fn job_error(&self, key: &Key) {
        self.job_errors.with([key.namespace(), key.name()]).inc();
    }

    pub(super) fn paused(&self, key: &Key, is_paused: bool) {
        self.paused.with([key.namespace(), key.name()]).set(f64::from(u8::from(is_paused)));
    }

    /// Counts what a poll found; series of triggers that are no longer there end.
    fn count(&self, key: &Key, observed: &[Observed], is_job: bool) {
        let mut seen = BTreeSet::new();
        for metric in observed {
            let index = metric.index.to_string();
            let scaler = if metric.trigger.is_empty() { &metric.kind } else { &metric.trigger };
            let kind = if is_job { "scaledjob" } else { "scaledobject" };
            let labels =
                [key.namespace(), metric.metric.as_str(), key.name(), scaler.as_str(), index.as_str(), kind];
            self.latency.with(labels).set(metric.took.as_secs_f64());
            match &metric.outcome {
                Ok(reading) => {
                    self.value.with(labels).set(reading.value);
                    self.active.with(labels).set(f64::from(u8::from(reading.active)));
                }
                Err(_) => {
                    self.scaler_errors.with(labels).inc();
                    if is_job {
                        self.job_error(key);
                    } else {
                        self.object_error(key);
                    }
                }
            }
            seen.insert(labels.map(str::to_owned));
        }
        let before = self.seen.lock().insert((is_job, key.clone()), seen.clone()).unwrap_or_default();
        before.difference(&seen).for_each(|labels| self.remove(labels));
    }

    /// Ends the series of an object's triggers, which are not polled any more.
    pub(super) fn forget_series(&self, key: &Key, is_job: bool) {
        let seen = self.seen.lock().remove(&(is_job, key.clone())).unwrap_or_default();
        seen.iter().for_each(|labels| self.remove(labels));
    }

    /// Ends all series of an object that is gone.
    pub(super) fn forget_object(&self, key: &Key, is_job: bool) {
        self.forget_series(key, is_job);
        let labels = [key.namespace(), key.name()];
        if is_job {
            self.job_errors.remove(labels);
        } else {
            self.object_errors.remove(labels);
            self.paused.remove(labels);
        }
    }

    fn remove(&self, labels: &Labels) {
        let labels = labels.each_ref().map(String::as_str);
        for gauge in [&self.active, &self.value, &self.latency] {
            gauge.remove(labels);
        }
        self.scaler_errors.remove(labels);
    }
}

impl Inner {
    /// Counts what a poll found.
    pub(super) fn count(&self, key: &Key, observed: &[Observed], is_job: bool) {
        self.counters.count(key, observed, is_job);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_scalers::{MetricType, Reading};

    use super::*;

    fn observed(trigger: &str) -> Observed {
        Observed {
            trigger: trigger.into(),
            kind: "redis".into(),
            index: 0,
            metric: "s0-redis-q".into(),
            metric_type: MetricType::AverageValue,
            target: 1.0,
            outcome: Ok(Reading { value: 3.0, active: true }),
            failures: 0,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn what_is_gone_has_no_series() {
        let counters = Counters::new();
        let (one, other) = (Key::new("shop", "one"), Key::new("shop", "other"));
        counters.count(&one, &[observed("first"), observed("second")], false);
        counters.count(&other, &[observed("first")], false);
        counters.object_error(&one);
        counters.paused(&one, true);
        counters.count(&one, &[observed("second")], false);
        let text = counters.registry().encode();
        assert!(!text.contains("scaledObject=\"one\",scaler=\"first\""), "{text}");
        assert!(text.contains("scaledObject=\"one\",scaler=\"second\""), "{text}");
        counters.forget_series(&one, false);
        let text = counters.registry().encode();
        assert!(!text.contains("scaledObject=\"one\",scaler="), "{text}");
        assert!(text.contains("scaledObject=\"one\"}"), "a paused object is still told of: {text}");
        counters.forget_object(&one, false);
        let text = counters.registry().encode();
        assert!(!text.contains("\"one\""), "{text}");
        assert!(text.contains("scaledObject=\"other\""), "{text}");
    }
}
