//! What queues count, under Prometheus' names.

use gantry_prom_model::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, Registry};

/// Bounds for the time of a request, in seconds.
const DURATIONS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 25.0];
const LABELS: [&str; 2] = ["remote_name", "url"];

/// The instruments of all queues.
#[derive(Clone)]
pub struct SenderMetrics {
    counters: [CounterVec<2>; COUNTERS.len()],
    gauges: [GaugeVec<2>; GAUGES.len()],
    duration: HistogramVec<2>,
}

impl std::fmt::Debug for SenderMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SenderMetrics").finish_non_exhaustive()
    }
}

const COUNTERS: [(&str, &str); 10] = [
    ("prometheus_remote_storage_samples_total", "Samples sent."),
    ("prometheus_remote_storage_samples_failed_total", "Samples that the receiver refused for good."),
    ("prometheus_remote_storage_samples_retried_total", "Samples sent again after a failure."),
    (
        "prometheus_remote_storage_samples_dropped_total",
        "Samples not sent: dropped by relabelling, too old, or of an unknown series.",
    ),
    ("prometheus_remote_storage_histograms_total", "Native histograms sent."),
    ("prometheus_remote_storage_exemplars_total", "Exemplars sent."),
    ("prometheus_remote_storage_metadata_total", "Entries of metadata sent."),
    ("prometheus_remote_storage_metadata_failed_total", "Entries of metadata that failed."),
    ("prometheus_remote_storage_bytes_total", "Bytes of samples sent, compressed."),
    (
        "prometheus_remote_storage_skipped_segments_total",
        "Segments of the log that were gone before they were sent.",
    ),
];

const GAUGES: [(&str, &str); 6] = [
    ("prometheus_remote_storage_samples_pending", "Samples that wait in shards."),
    ("prometheus_remote_storage_shards", "Shards that send."),
    ("prometheus_remote_storage_shards_desired", "Shards that the rate of samples would need."),
    ("prometheus_remote_storage_shards_max", "Most shards."),
    ("prometheus_remote_storage_shards_min", "Fewest shards."),
    (
        "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
        "Time of the newest sample sent, in Unix seconds.",
    ),
];

impl SenderMetrics {
    /// Registered in `registry`.
    pub fn new(registry: &Registry) -> SenderMetrics {
        SenderMetrics {
            counters: COUNTERS.map(|(name, help)| registry.counter_vec(name, help, LABELS)),
            gauges: GAUGES.map(|(name, help)| registry.gauge_vec(name, help, LABELS)),
            duration: registry.histogram_vec(
                "prometheus_remote_storage_sent_batch_duration_seconds",
                "How long requests took.",
                LABELS,
                &DURATIONS,
            ),
        }
    }

    /// Removes what is kept of a queue.
    pub fn forget(&self, name: &str, url: &str) {
        for counters in &self.counters {
            counters.remove([name, url]);
        }
        for gauges in &self.gauges {
            gauges.remove([name, url]);
        }
        self.duration.remove([name, url]);
    }

    pub(super) fn of(&self, name: &str, url: &str) -> Instruments {
        let [
            sent,
            failed,
            retried,
            dropped,
            histograms,
            exemplars,
            metadata,
            metadata_failed,
            bytes,
            skipped,
        ] = std::array::from_fn(|index| self.counters[index].with([name, url]));
        let [pending, shards, desired, max, min, highest] =
            std::array::from_fn(|index| self.gauges[index].with([name, url]));
        Instruments {
            sent,
            failed,
            retried,
            dropped,
            histograms,
            exemplars,
            metadata,
            metadata_failed,
            bytes,
            skipped,
            pending,
            shards,
            desired,
            max,
            min,
            highest,
            duration: self.duration.with([name, url]),
        }
    }
}

/// The instruments of one queue.
#[derive(Clone)]
pub(super) struct Instruments {
    pub(super) sent: Counter,
    pub(super) failed: Counter,
    pub(super) retried: Counter,
    pub(super) dropped: Counter,
    pub(super) histograms: Counter,
    pub(super) exemplars: Counter,
    pub(super) metadata: Counter,
    pub(super) metadata_failed: Counter,
    pub(super) bytes: Counter,
    pub(super) skipped: Counter,
    pub(super) pending: Gauge,
    pub(super) shards: Gauge,
    pub(super) desired: Gauge,
    pub(super) max: Gauge,
    pub(super) min: Gauge,
    pub(super) highest: Gauge,
    pub(super) duration: Histogram,
}
