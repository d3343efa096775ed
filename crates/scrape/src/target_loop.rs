//! One target's life: scraped at its place in every interval, and its series ended when it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gantry_clock::Clock;
use gantry_prom_model::{Appendable, Gather};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::config::ScrapeConfig;
use crate::counters::Counters;
use crate::http_client::{Dialer, HttpError};
use crate::ingest::{Body, Ingest, MetadataCache, Scraped};
use crate::target::Target;

/// A scrape this little late gets the time it should have had: equal distances between samples take less room.
const ALIGN_TOLERANCE_MS: i64 = 2;

/// How a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
}

impl Health {
    /// The word of the targets API.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// How a target's last scrape went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetStatus {
    /// How the target is.
    pub health: Health,
    /// Why the last scrape failed; empty when it did not.
    pub last_error: String,
    /// When it was, milliseconds since the epoch.
    pub last_scrape_ms: Option<i64>,
    /// How long it took.
    pub last_scrape_seconds: f64,
    /// Samples it brought.
    pub last_samples: usize,
}

/// What the loops of all targets share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Appendable>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
    /// Moves the targets' places in the interval, so that two replicas do not scrape at the same moment.
    pub(crate) offset_seed: u64,
    /// Everything ends, without stale markers: the process will be back.
    pub(crate) shutdown: CancellationToken,
    pub(crate) dialer: Option<Arc<dyn Dialer>>,
    /// Counts the scrapes that are stored.
    pub(crate) stored: watch::Sender<u64>,
}

/// A running loop.
pub(crate) struct TargetLoop {
    pub(crate) target: Arc<Target>,
    pub(crate) status: Arc<Mutex<TargetStatus>>,
    pub(crate) metadata: Arc<Mutex<MetadataCache>>,
    stop: CancellationToken,
    /// Another loop goes on with the same series: they do not end.
    replaced: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl TargetLoop {
    /// Starts scraping; `refused` makes every scrape fail with this reason.
    pub(crate) fn start(
        target: Arc<Target>,
        config: Arc<ScrapeConfig>,
        shared: Shared,
        refused: Arc<Mutex<Option<String>>>,
    ) -> TargetLoop {
        let stop = shared.shutdown.child_token();
        let status = Arc::<Mutex<TargetStatus>>::default();
        let replaced = Arc::<AtomicBool>::default();
        let ingest =
            Ingest::new(config.clone(), target.labels.clone(), target.timeout_ms, shared.counters.clone());
        let metadata = ingest.metadata();
        let runner = Runner {
            target: target.clone(),
            config,
            shared,
            refused,
            status: status.clone(),
            client: None,
            ingest: Some(ingest),
            aligned_ms: None,
            replaced: replaced.clone(),
        };
        let task = tokio::spawn(runner.run(stop.clone()));
        TargetLoop { target, status, metadata, stop, replaced, task }
    }

    /// Ends the loop; its series are marked stale once it is clear that the target does not come back at once.
    pub(crate) fn stop(self) -> tokio::task::JoinHandle<()> {
        self.stop.cancel();
        self.task
    }

    /// Ends the loop because another one scrapes the same target from now on.
    pub(crate) fn replace(self) -> tokio::task::JoinHandle<()> {
        self.replaced.store(true, Ordering::Release);
        self.stop()
    }
}

struct Runner {
    target: Arc<Target>,
    config: Arc<ScrapeConfig>,
    shared: Shared,
    refused: Arc<Mutex<Option<String>>>,
    status: Arc<Mutex<TargetStatus>>,
    client: Option<Client>,
    /// Away while a blocking thread works on it.
    ingest: Option<Ingest>,
    aligned_ms: Option<i64>,
    replaced: Arc<AtomicBool>,
}

impl Runner {
    async fn run(mut self, stop: CancellationToken) {
        let interval_ms = self.target.interval_ms.max(1);
        let wait = self.target.first_scrape_in(self.shared.clock.now_ms(), self.shared.offset_seed);
        let first = Instant::now() + Duration::from_millis(wait.unsigned_abs());
        let mut ticks = tokio::time::interval_at(first, Duration::from_millis(interval_ms.unsigned_abs()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            self.scrape(&stop).await;
        }
        if self.shared.shutdown.is_cancelled() || self.replaced.load(Ordering::Acquire) {
            return;
        }
        // The target may come back under the same labels at once; then its new samples make these markers out of
        // order, and they are refused.
        let end = async {
            ticks.tick().await;
            let at_ms = self.shared.clock.now_ms();
            ticks.tick().await;
            tokio::time::sleep(Duration::from_millis(interval_ms.unsigned_abs() / 10)).await;
            at_ms
        };
        tokio::select! {
            () = self.shared.shutdown.cancelled() => {}
            at_ms = end => self.end(at_ms).await,
        }
    }

    fn sample_time(&mut self) -> i64 {
        let now = self.shared.clock.now_ms();
        let interval = self.target.interval_ms.max(1);
        let tolerance = ALIGN_TOLERANCE_MS.min(interval / 100);
        let mut aligned = self.aligned_ms.unwrap_or(now);
        if now < aligned || now - aligned > 100 * interval {
            // The clock was set, or we slept long: start a new row.
            aligned = now;
        }
        while now - aligned >= interval {
            aligned += interval;
        }
        if interval - (now - aligned) <= tolerance && now != aligned {
            aligned += interval;
        }
        let late = now - aligned;
        let at = if late.abs() <= tolerance { aligned } else { now };
        self.aligned_ms = Some(if late.abs() <= tolerance { aligned } else { now });
        at
    }

    async fn scrape(&mut self, stop: &CancellationToken) {
        let at_ms = self.sample_time();
        let started = self.shared.clock.monotonic();
        let refused = self.refused.lock().clone();
        let (body, body_bytes) = match (refused, self.target.gather.clone()) {
            (Some(reason), _) => (Body::Failed(reason), 0),
            (None, Some(gather)) => (gather_local(gather).await, 0),
            (None, None) => {
                let timeout = Duration::from_millis(self.target.timeout_ms.unsigned_abs());
                let fetched = tokio::select! {
                    () = stop.cancelled() => return,
                    fetched = tokio::time::timeout(timeout, self.fetch()) => fetched,
                };
                fetched.unwrap_or_else(|_| {
                    self.client = None;
                    (Body::Failed("context deadline exceeded".into()), 0)
                })
            }
        };
        let seconds = self.shared.clock.monotonic().saturating_sub(started).as_secs_f64();
        let Some(mut ingest) = self.ingest.take() else { return };
        let storage = self.shared.storage.clone();
        let scraped = Scraped { at_ms, seconds, body_bytes };
        // Parsing and writing may take milliseconds: not on a thread that serves others.
        let recorded = tokio::task::spawn_blocking(move || {
            let report = ingest.record(&*storage, scraped, body);
            (ingest, report)
        })
        .await;
        let Ok((ingest, report)) = recorded else {
            tracing::error!(target = %self.target.url, "a scrape could not be stored; its target is given up");
            return;
        };
        self.ingest = Some(ingest);
        self.shared.stored.send_modify(|scrapes| *scrapes = scrapes.wrapping_add(1));
        let outcome = if report.error.is_some() { "failure" } else { "success" };
        self.shared.counters.scrapes.with([&self.config.job_name, outcome]).inc();
        if let Some(error) = &report.error {
            tracing::debug!(target = %self.target.url, %error, "scrape failed");
        }
        *self.status.lock() = TargetStatus {
            health: if report.error.is_some() { Health::Down } else { Health::Up },
            last_error: report.error.unwrap_or_default(),
            last_scrape_ms: Some(at_ms),
            last_scrape_seconds: seconds,
            last_samples: report.scraped,
        };
    }

    async fn fetch(&mut self) -> (Body, usize) {
        if self.client.is_none() {
            match Client::new(&self.config, &self.target, self.shared.dialer.clone()) {
                Ok(client) => self.client = Some(client),
                Err(reason) => return (Body::Failed(reason), 0),
            }
        }
        let Some(client) = &mut self.client else { return (Body::Failed("no client".into()), 0) };
        match client.fetch().await {
            Ok((text, format)) => {
                let bytes = text.len();
                (Body::Text { text, format }, bytes)
            }
            Err(HttpError::BodyTooLarge) => {
                self.shared.counters.over_body_limit.inc();
                // The rest of the body is still on its way: not on this connection again.
                self.client = None;
                (Body::Failed(HttpError::BodyTooLarge.to_string()), 0)
            }
            Err(HttpError::Failed(reason)) => {
                (Body::Failed(format!("Get {:?}: {reason}", self.target.url)), 0)
            }
        }
    }

    async fn end(&mut self, at_ms: i64) {
        let Some(mut ingest) = self.ingest.take() else { return };
        let storage = self.shared.storage.clone();
        if tokio::task::spawn_blocking(move || ingest.end(&*storage, at_ms)).await.is_err() {
            tracing::error!(target = %self.target.url, "the series of a gone target could not be marked stale");
        }
    }
}

/// Asks a target in this process; a panic in it is a failed scrape.
async fn gather_local(gather: Arc<dyn Gather>) -> Body {
    match tokio::task::spawn_blocking(move || gather.gather()).await {
        Ok(families) => Body::Local(families),
        Err(_) => Body::Failed("the target panicked while it was asked".into()),
    }
}
