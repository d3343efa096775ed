//! What scraping counts, under Prometheus' names.

use gantry_prom_model::{Counter, CounterVec, GaugeVec, Registry};

/// Counted over all targets.
#[derive(Clone)]
pub struct Counters {
    pub(crate) out_of_order: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) out_of_bounds: Counter,
    pub(crate) over_sample_limit: Counter,
    pub(crate) over_body_limit: Counter,
    pub(crate) pool_targets: GaugeVec<1>,
    pub(crate) pool_over_limit: Counter,
    pub(crate) scrapes: CounterVec<2>,
}

impl Counters {
    /// Registered in `registry`.
    pub fn new(registry: &Registry) -> Counters {
        let counter = |name: &str, help: &str| registry.counter(name, help);
        Counters {
            out_of_order: counter(
                "prometheus_target_scrapes_sample_out_of_order_total",
                "Samples refused because a newer one of their series was there.",
            ),
            duplicates: counter(
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "Samples refused because another one of their series had the same time.",
            ),
            out_of_bounds: counter(
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "Samples refused because their time was too far from now.",
            ),
            over_sample_limit: counter(
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "Scrapes refused because they had more samples than allowed.",
            ),
            over_body_limit: counter(
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "Scrapes refused because their body was larger than allowed.",
            ),
            pool_targets: registry.gauge_vec(
                "prometheus_target_scrape_pool_targets",
                "Targets of each job.",
                ["scrape_job"],
            ),
            pool_over_limit: counter(
                "prometheus_target_scrape_pool_exceeded_target_limit_total",
                "Times a job had more targets than allowed.",
            ),
            scrapes: registry.counter_vec(
                "gantry_target_scrapes_total",
                "Scrapes by job and outcome.",
                ["scrape_job", "outcome"],
            ),
        }
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}
