//! What the framework counts, under the names of controller-runtime where it has one.

use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use gantry_prom_model::{Counter, CounterVec, GaugeVec, Histogram, HistogramVec, Registry};

use crate::informer::Informers;

const DURATION_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];

pub(crate) struct OperatorMetrics {
    clock: Arc<dyn Clock>,
    registry: Registry,
    reconciled: CounterVec<2>,
    took: HistogramVec<1>,
    depth: GaugeVec<1>,
    watch_age: GaugeVec<2>,
    objects: GaugeVec<2>,
    decode_errors: GaugeVec<2>,
}

/// The instruments of one controller.
#[derive(Clone)]
pub(crate) struct ControllerMetrics {
    clock: Arc<dyn Clock>,
    succeeded: Counter,
    failed: Counter,
    took: Histogram,
}

impl OperatorMetrics {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> OperatorMetrics {
        let registry = Registry::new();
        OperatorMetrics {
            clock,
            reconciled: registry.counter_vec(
                "controller_runtime_reconcile_total",
                "Reconciliations by controller and result.",
                ["controller", "result"],
            ),
            took: registry.histogram_vec(
                "controller_runtime_reconcile_time_seconds",
                "How long a reconciliation took.",
                ["controller"],
                &DURATION_BUCKETS,
            ),
            depth: registry.gauge_vec("workqueue_depth", "Objects that wait to be reconciled.", ["name"]),
            watch_age: registry.gauge_vec(
                "gantry_operator_watch_age_seconds",
                "Time since the last sign of life from a watch.",
                ["group", "kind"],
            ),
            objects: registry.gauge_vec(
                "gantry_operator_informer_objects",
                "Objects held in a shared store.",
                ["group", "kind"],
            ),
            decode_errors: registry.gauge_vec(
                "gantry_operator_decode_errors",
                "Objects skipped since the start because they could not be decoded.",
                ["group", "kind"],
            ),
            registry,
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn controller(&self, name: &str) -> ControllerMetrics {
        ControllerMetrics {
            clock: self.clock.clone(),
            succeeded: self.reconciled.with([name, "success"]),
            failed: self.reconciled.with([name, "error"]),
            took: self.took.with([name]),
        }
    }

    /// Brings the values that are looked up rather than counted up to date.
    pub(crate) fn refresh(&self, informers: &Informers, depths: &[(&str, usize)]) {
        for (name, depth) in depths {
            self.depth.with([name]).set(*depth as f64);
        }
        let now = self.clock.monotonic();
        for informer in informers.all() {
            let resource = informer.resource();
            let labels = [resource.group.as_str(), resource.kind.as_str()];
            let age = now.saturating_sub(informer.last_activity());
            self.watch_age.with(labels).set(age.as_secs_f64());
            self.objects.with(labels).set(informer.object_count() as f64);
            self.decode_errors.with(labels).set(informer.decode_errors() as f64);
        }
    }
}

impl ControllerMetrics {
    pub(crate) fn start(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn finish(&self, started: Duration, succeeded: bool) {
        let took = self.clock.monotonic().saturating_sub(started);
        self.took.observe(took.as_secs_f64());
        if succeeded { self.succeeded.inc() } else { self.failed.inc() }
    }
}
