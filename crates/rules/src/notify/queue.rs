//! Deliveries to one Alertmanager: a queue that drops its oldest alerts when it is full, emptied batch by batch.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use gantry_clock::Clock;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify as Signal;
use tokio_util::sync::CancellationToken;

use super::payload::{Notification, to_json};
use super::{Alertmanager, Instruments, NotifierOptions};

/// A running queue.
pub(super) struct SendLoop {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: RwLock<Alertmanager>,
    options: NotifierOptions,
    instruments: Instruments,
    clock: Arc<dyn Clock>,
    queue: Mutex<VecDeque<Notification>>,
    work: Signal,
    stop: CancellationToken,
}

// === impl SendLoop ===

impl SendLoop {
    pub(super) fn start(
        target: Alertmanager,
        options: NotifierOptions,
        instruments: Instruments,
        clock: Arc<dyn Clock>,
    ) -> SendLoop {
        let url = target.url.as_str();
        // So that they are there before anything happens.
        for counters in [&instruments.errors, &instruments.sent, &instruments.dropped] {
            counters.with([url]);
        }
        instruments.queue_length.with([url]).set(0.0);
        let shared = Arc::new(Shared {
            target: RwLock::new(target),
            options,
            instruments,
            clock,
            queue: Mutex::default(),
            work: Signal::new(),
            stop: CancellationToken::new(),
        });
        let running = shared.clone();
        SendLoop { shared, task: tokio::spawn(async move { running.run().await }) }
    }

    pub(super) fn set_target(&self, target: Alertmanager) {
        *self.shared.target.write() = target;
    }

    /// Queues alerts, as this Alertmanager is to see them.
    pub(super) fn add(&self, alerts: &[Notification]) {
        let shared = &self.shared;
        let relabel = shared.target.read().relabel.clone();
        let mut dropped = 0;
        {
            let mut queue = shared.queue.lock();
            for alert in alerts {
                let Some(labels) = relabel(&alert.labels) else { continue };
                if queue.len() >= shared.options.queue_capacity.max(1) {
                    queue.pop_front();
                    dropped += 1;
                }
                queue.push_back(Notification { labels, ..alert.clone() });
            }
            shared.note_length(queue.len());
        }
        if dropped > 0 {
            shared.drop_alerts(dropped, "too many alerts wait for an Alertmanager; the oldest were dropped");
        }
        shared.work.notify_one();
    }

    pub(super) fn begin_to_stop(&self) {
        self.shared.stop.cancel();
    }

    /// Ends the loop, after what waits if the options say so.
    pub(super) async fn stop(self) {
        self.shared.stop.cancel();
        let _ = self.task.await;
    }
}

impl Shared {
    fn url(&self) -> String {
        self.target.read().url.clone()
    }

    fn note_length(&self, length: usize) {
        self.instruments.queue_length.with([&self.url()]).set(length as f64);
    }

    fn drop_alerts(&self, count: usize, reason: &str) {
        let url = self.url();
        tracing::warn!(alertmanager = %url, count, "{reason}");
        self.instruments.dropped.with([&url]).inc_by(count as u64);
    }

    async fn run(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.work.notified() => {}
            }
            while !self.stop.is_cancelled() && self.send_batch().await {}
        }
        if self.options.drain {
            let drained = async { while self.send_batch().await {} };
            let _ = tokio::time::timeout(self.options.drain_timeout, drained).await;
        }
        let left = std::mem::take(&mut *self.queue.lock()).len();
        if left > 0 {
            self.drop_alerts(left, "alerts that waited were dropped at the end");
        }
        self.note_length(0);
    }

    /// Delivers the next batch; `false` when none waits.
    async fn send_batch(&self) -> bool {
        let batch: Vec<Notification> = {
            let mut queue = self.queue.lock();
            let size = queue.len().min(self.options.max_batch.max(1));
            let batch = queue.drain(..size).collect();
            self.note_length(queue.len());
            batch
        };
        if batch.is_empty() {
            return false;
        }
        let target = self.target.read().clone();
        let began = self.clock.monotonic();
        let delivery = target.deliver.deliver(Bytes::from(to_json(&batch)));
        let outcome = match tokio::time::timeout(target.timeout, delivery).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {:?}", target.timeout)),
        };
        let url = target.url.as_str();
        match outcome {
            Ok(()) => {
                let seconds = self.clock.monotonic().saturating_sub(began).as_secs_f64();
                self.instruments.latency.with([url]).observe(seconds);
                self.instruments.sent.with([url]).inc_by(batch.len() as u64);
            }
            Err(reason) => {
                tracing::error!(alertmanager = url, count = batch.len(), %reason, "sending alerts failed");
                self.instruments.errors.with([url]).inc_by(batch.len() as u64);
                self.instruments.dropped.with([url]).inc_by(batch.len() as u64);
            }
        }
        true
    }
}
