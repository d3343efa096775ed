//! The notifier: takes alerts from rules and carries them to every Alertmanager, each with a bounded queue of its own.
//!
//! A batch that an Alertmanager does not take is dropped and counted, not kept: the rule sends its alerts again after the
//! resend delay, with what is true by then. An Alertmanager that is slow or away holds up no other.

mod payload;
mod queue;

pub use payload::{Notification, to_json};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_clock::Clock;
use gantry_prom_model::{Counter, CounterVec, Gauge, GaugeVec, HistogramVec, Labels, Registry};
use parking_lot::{Mutex, RwLock};

use crate::environment::Notify;
use queue::SendLoop;

/// Bounds for deliveries, in seconds.
const LATENCIES: [f64; 8] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Changes the labels of an alert; `None` drops it.
pub type Relabel = Arc<dyn Fn(&Labels) -> Option<Labels> + Send + Sync>;

/// Carries a body to one Alertmanager.
#[async_trait]
pub trait Deliver: Send + Sync {
    /// Posts a list of alerts as JSON.
    ///
    /// # Errors
    /// Why it was not taken.
    async fn deliver(&self, body: Bytes) -> Result<(), String>;
}

/// One Alertmanager.
#[derive(Clone)]
pub struct Alertmanager {
    /// Where alerts are posted.
    pub url: String,
    pub deliver: Arc<dyn Deliver>,
    /// What is done to alerts for this one alone, after what is done to all.
    pub relabel: Relabel,
    /// A delivery that takes longer has failed.
    pub timeout: Duration,
}

impl std::fmt::Debug for Alertmanager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alertmanager").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Limits of a [`Notifier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifierOptions {
    /// Alerts that wait for one Alertmanager; when there are more, the oldest go.
    pub queue_capacity: usize,
    /// Alerts in one delivery.
    pub max_batch: usize,
    /// Whether what waits is still delivered at the end.
    pub drain: bool,
    /// How long that may take.
    pub drain_timeout: Duration,
}

impl Default for NotifierOptions {
    fn default() -> Self {
        NotifierOptions {
            queue_capacity: 10_000,
            max_batch: 256,
            drain: true,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

#[derive(Clone)]
struct Instruments {
    latency: HistogramVec<1>,
    errors: CounterVec<1>,
    sent: CounterVec<1>,
    dropped: CounterVec<1>,
    queue_length: GaugeVec<1>,
    discovered: Gauge,
    without_alertmanager: Counter,
}

impl Instruments {
    fn new(registry: &Registry, options: &NotifierOptions) -> Instruments {
        let label = ["alertmanager"];
        let capacity = registry
            .gauge("prometheus_notifications_queue_capacity", "Alerts that may wait for one Alertmanager.");
        capacity.set(options.queue_capacity as f64);
        Instruments {
            latency: registry.histogram_vec(
                "prometheus_notifications_latency_seconds",
                "How long deliveries took.",
                label,
                &LATENCIES,
            ),
            errors: registry.counter_vec(
                "prometheus_notifications_errors_total",
                "Alerts whose delivery failed.",
                label,
            ),
            sent: registry.counter_vec("prometheus_notifications_sent_total", "Alerts delivered.", label),
            dropped: registry.counter_vec(
                "prometheus_notifications_dropped_total",
                "Alerts dropped because their delivery failed or too many waited.",
                label,
            ),
            queue_length: registry.gauge_vec(
                "prometheus_notifications_queue_length",
                "Alerts that wait.",
                label,
            ),
            discovered: registry.gauge(
                "prometheus_notifications_alertmanagers_discovered",
                "Alertmanagers that alerts go to.",
            ),
            without_alertmanager: registry.counter(
                "gantry_notifications_without_alertmanager_total",
                "Alerts that no Alertmanager was there for.",
            ),
        }
    }

    fn forget(&self, url: &str) {
        self.latency.remove([url]);
        self.queue_length.remove([url]);
        for counters in [&self.errors, &self.sent, &self.dropped] {
            counters.remove([url]);
        }
    }
}

/// What is done to all alerts.
struct Routing {
    external_labels: Labels,
    relabel: Relabel,
}

/// Carries alerts to Alertmanagers.
pub struct Notifier {
    options: NotifierOptions,
    instruments: Instruments,
    clock: Arc<dyn Clock>,
    routing: RwLock<Routing>,
    /// By URL: an Alertmanager that two sections name hears of an alert once.
    loops: Mutex<BTreeMap<String, SendLoop>>,
    sections: Mutex<BTreeMap<usize, Section>>,
}

/// What one section of the configuration found.
#[derive(Default)]
struct Section {
    active: Vec<Alertmanager>,
    dropped: Vec<Labels>,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("alertmanagers", &self.active()).finish_non_exhaustive()
    }
}

// === impl Notifier ===

impl Notifier {
    /// Without Alertmanagers; its own metrics are registered in `registry`.
    pub fn new(options: NotifierOptions, clock: Arc<dyn Clock>, registry: &Registry) -> Notifier {
        let unchanged: Relabel = Arc::new(|labels| Some(labels.clone()));
        Notifier {
            instruments: Instruments::new(registry, &options),
            options,
            clock,
            routing: RwLock::new(Routing { external_labels: Labels::empty(), relabel: unchanged }),
            loops: Mutex::default(),
            sections: Mutex::default(),
        }
    }

    /// From now on alerts get these labels where they have none of the name, and then go through `relabel`. Sections of the
    /// configuration from `sections` on are gone.
    pub fn configure(&self, external_labels: Labels, relabel: Relabel, sections: usize) {
        *self.routing.write() = Routing { external_labels, relabel };
        self.sections.lock().retain(|section, _| *section < sections);
        self.sync();
    }

    /// The Alertmanagers of one section of the configuration, and the labels of those that relabelling dropped. Within a
    /// tokio runtime.
    pub fn set_alertmanagers(&self, section: usize, active: Vec<Alertmanager>, dropped: Vec<Labels>) {
        self.sections.lock().insert(section, Section { active, dropped });
        self.sync();
    }

    /// Starts and stops deliveries so that there is one for each Alertmanager.
    fn sync(&self) {
        let wanted: BTreeMap<String, Alertmanager> = self
            .sections
            .lock()
            .values()
            .flat_map(|section| &section.active)
            .map(|alertmanager| (alertmanager.url.clone(), alertmanager.clone()))
            .collect();
        let mut loops = self.loops.lock();
        let gone: BTreeSet<String> = loops.keys().filter(|url| !wanted.contains_key(*url)).cloned().collect();
        for url in gone {
            if let Some(ended) = loops.remove(&url) {
                let instruments = self.instruments.clone();
                tokio::spawn(async move {
                    ended.stop().await;
                    instruments.forget(&url);
                });
            }
        }
        for (url, alertmanager) in wanted {
            match loops.get(&url) {
                Some(running) => running.set_target(alertmanager),
                None => {
                    let started = SendLoop::start(
                        alertmanager,
                        self.options,
                        self.instruments.clone(),
                        self.clock.clone(),
                    );
                    loops.insert(url, started);
                }
            }
        }
        self.instruments.discovered.set(loops.len() as f64);
    }

    /// The URLs that alerts go to.
    pub fn active(&self) -> Vec<String> {
        self.loops.lock().keys().cloned().collect()
    }

    /// The labels of the Alertmanagers that relabelling dropped.
    pub fn dropped(&self) -> Vec<Labels> {
        self.sections.lock().values().flat_map(|section| section.dropped.clone()).collect()
    }

    /// Ends all deliveries, after what waits if the options say so.
    pub async fn shutdown(&self) {
        let ended: Vec<SendLoop> = std::mem::take(&mut *self.loops.lock()).into_values().collect();
        for ended in &ended {
            ended.begin_to_stop();
        }
        for ended in ended {
            ended.stop().await;
        }
    }
}

impl Notify for Notifier {
    fn notify(&self, alerts: Vec<Notification>) {
        let alerts: Vec<Notification> = {
            let routing = self.routing.read();
            alerts
                .into_iter()
                .filter_map(|mut alert| {
                    let mut labels = alert.labels.to_builder();
                    for (name, value) in &routing.external_labels {
                        if labels.get(name).is_none() {
                            labels.set(name, value);
                        }
                    }
                    alert.labels = (routing.relabel)(&labels.build())?;
                    Some(alert)
                })
                .collect()
        };
        if alerts.is_empty() {
            return;
        }
        let loops = self.loops.lock();
        if loops.is_empty() {
            self.instruments.without_alertmanager.inc_by(alerts.len() as u64);
        }
        for running in loops.values() {
            running.add(&alerts);
        }
    }
}
