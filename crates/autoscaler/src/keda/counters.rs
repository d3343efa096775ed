//! What is counted, under the names that KEDA's dashboards ask for.

use gantry_operator::Key;
use gantry_prom_model::{CounterVec, GaugeVec, Registry};

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
}

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
}

impl Inner {
    /// Counts what a poll found.
    pub(super) fn count(&self, key: &Key, observed: &[Observed], is_job: bool) {
        for metric in observed {
            let index = metric.index.to_string();
            let scaler = if metric.trigger.is_empty() { &metric.kind } else { &metric.trigger };
            let kind = if is_job { "scaledjob" } else { "scaledobject" };
            let labels =
                [key.namespace(), metric.metric.as_str(), key.name(), scaler.as_str(), index.as_str(), kind];
            self.counters.latency.with(labels).set(metric.took.as_secs_f64());
            match &metric.outcome {
                Ok(reading) => {
                    self.counters.value.with(labels).set(reading.value);
                    self.counters.active.with(labels).set(f64::from(u8::from(reading.active)));
                }
                Err(_) => {
                    self.counters.scaler_errors.with(labels).inc();
                    if is_job {
                        self.counters.job_error(key);
                    } else {
                        self.counters.object_error(key);
                    }
                }
            }
        }
    }
}
