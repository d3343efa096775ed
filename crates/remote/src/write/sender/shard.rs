//! One shard: collects the points of its series into batches and sends them in order, each until it is settled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gantry_clock::{Backoff, BackoffConfig, Clock};
use gantry_prom_model::Metadata;
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::metrics::Instruments;
use super::{Connect, MetadataOptions, MetadataSource, Post, Protocol, QueueOptions, Reply};
use crate::compress;
use crate::write::message::{Outgoing, Point, encode_metadata_v1, encode_v1, encode_v2};
use crate::write::receiver::Written;

/// A receiver may ask for a longer pause, but not for ever.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// What the shards of a queue share.
pub(super) struct Common {
    pub(super) protocol: Protocol,
    pub(super) queue: QueueOptions,
    pub(super) url: String,
    pub(super) connect: Connect,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) instruments: Instruments,
    /// What is known of metrics, for 2.0 requests.
    pub(super) metadata: RwLock<Arc<HashMap<String, Metadata>>>,
    /// Nanoseconds spent in requests.
    pub(super) busy_nanos: AtomicU64,
    /// Points that were settled, for the rate of one shard.
    pub(super) settled: AtomicU64,
    /// Newest time that was sent.
    pub(super) highest_ms: std::sync::atomic::AtomicI64,
    /// Nothing is waited for any more.
    pub(super) abort: CancellationToken,
    pub(super) seed: u64,
}

/// A running shard. Dropping the channel ends it after what waits.
pub(super) struct Shard {
    pub(super) channel: mpsc::Sender<Outgoing>,
    /// Points that are settled: sent, or refused for good.
    pub(super) done: Arc<AtomicU64>,
    pub(super) task: tokio::task::JoinHandle<()>,
}

impl Shard {
    pub(super) fn start(common: Arc<Common>, number: usize, runtime: &tokio::runtime::Handle) -> Shard {
        let (channel, receiver) = mpsc::channel(common.queue.capacity.max(1));
        let done = Arc::new(AtomicU64::new(0));
        let seed = common.seed.wrapping_add(number as u64);
        let running = Running { common, receiver, done: done.clone(), post: None, seed };
        Shard { channel, done, task: runtime.spawn(running.run()) }
    }
}

struct Running {
    common: Arc<Common>,
    receiver: mpsc::Receiver<Outgoing>,
    done: Arc<AtomicU64>,
    post: Option<Box<dyn Post>>,
    seed: u64,
}

impl Running {
    async fn run(mut self) {
        let limit = self.common.queue.max_samples_per_send.max(1);
        let abort = self.common.abort.clone();
        let mut batch = Vec::with_capacity(limit.min(4096));
        loop {
            batch.clear();
            let collected = tokio::select! {
                () = abort.cancelled() => return,
                collected = collect(&mut self.receiver, &mut batch, limit, self.common.queue.batch_send_deadline) => collected,
            };
            if !batch.is_empty() {
                let taken = batch.len();
                if !self.send(&mut batch).await {
                    return;
                }
                self.common.instruments.pending.sub(taken as f64);
                self.common.settled.fetch_add(taken as u64, Ordering::Relaxed);
                self.done.fetch_add(taken as u64, Ordering::Release);
            }
            if !collected {
                return;
            }
        }
    }

    /// Sends a batch until it is settled; `false` when the end came first.
    async fn send(&mut self, batch: &mut Vec<Outgoing>) -> bool {
        let common = self.common.clone();
        let began = common.clock.monotonic();
        let mut attempts = Attempts::new(&common.queue, self.seed);
        let settled = loop {
            self.drop_old(batch);
            if batch.is_empty() {
                break true;
            }
            let verdict = self.attempt(batch).await;
            match verdict {
                Verdict::Settled => break true,
                Verdict::Again { after, reason } => {
                    common.instruments.retried.inc_by(batch.len() as u64);
                    tracing::warn!(url = %common.url, %reason, "sending samples failed, it is tried again");
                    let pause = attempts.pause(after);
                    tokio::select! {
                        () = common.abort.cancelled() => break false,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                Verdict::Aborted => break false,
            }
        };
        let spent = common.clock.monotonic().saturating_sub(began);
        common.busy_nanos.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        settled
    }

    fn drop_old(&self, batch: &mut Vec<Outgoing>) {
        let limit = self.common.queue.sample_age_limit;
        if limit.is_zero() {
            return;
        }
        let oldest =
            self.common.clock.now_ms().saturating_sub(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        let before = batch.len();
        batch.retain(|outgoing| outgoing.timestamp_ms >= oldest);
        self.common.instruments.dropped.inc_by((before - batch.len()) as u64);
    }

    async fn attempt(&mut self, batch: &[Outgoing]) -> Verdict {
        let common = self.common.clone();
        let plain = match common.protocol {
            Protocol::V1 => encode_v1(batch),
            Protocol::V2 => {
                let metadata = common.metadata.read().clone();
                encode_v2(batch, &|outgoing| {
                    lookup(&metadata, outgoing.labels.metric_name().unwrap_or("")).cloned()
                })
            }
        };
        let body = match compress(&plain) {
            Ok(body) => Bytes::from(body),
            Err(reason) => return self.refuse(batch, Written::default(), &reason),
        };
        let bytes = body.len() as u64;
        let began = common.clock.monotonic();
        let headers = common.protocol.headers();
        let posting = post(&mut self.post, &common.connect, &headers, body);
        let outcome = tokio::select! {
            () = common.abort.cancelled() => return Verdict::Aborted,
            outcome = posting => outcome,
        };
        let reply = match outcome {
            Ok(reply) => reply,
            Err(reason) => return Verdict::Again { after: None, reason },
        };
        common.instruments.duration.observe(common.clock.monotonic().saturating_sub(began).as_secs_f64());
        match judge(&reply, common.protocol, common.queue.retry_on_http_429) {
            Judgement::Taken(written) => {
                let sent = count(batch);
                let written = written.unwrap_or(sent);
                common.instruments.bytes.inc_by(bytes);
                self.count_written(batch, sent, written);
                Verdict::Settled
            }
            Judgement::Again => Verdict::Again {
                after: reply.retry_after,
                reason: format!("status {}: {}", reply.status, reply.message),
            },
            Judgement::Never(written, reason) => self.refuse(batch, written, &reason),
        }
    }

    fn count_written(&self, batch: &[Outgoing], sent: Written, written: Written) {
        let instruments = &self.common.instruments;
        instruments.sent.inc_by(written.samples);
        instruments.histograms.inc_by(written.histograms);
        instruments.exemplars.inc_by(written.exemplars);
        let lost = sent.samples.saturating_sub(written.samples)
            + sent.histograms.saturating_sub(written.histograms)
            + sent.exemplars.saturating_sub(written.exemplars);
        instruments.failed.inc_by(lost);
        if let Some(newest) = batch.iter().map(|outgoing| outgoing.timestamp_ms).max() {
            let before = self.common.highest_ms.fetch_max(newest, Ordering::AcqRel);
            instruments.highest.set(before.max(newest) as f64 / 1000.0);
        }
    }

    /// The receiver will never take it.
    fn refuse(&self, batch: &[Outgoing], written: Written, reason: &str) -> Verdict {
        tracing::error!(
            url = %self.common.url,
            samples = batch.len(),
            reason,
            "the receiver refused samples for good; they are not sent again"
        );
        self.count_written(batch, count(batch), written);
        Verdict::Settled
    }
}

/// What became of an attempt.
enum Verdict {
    Settled,
    Again { after: Option<Duration>, reason: String },
    Aborted,
}

/// Fills a batch; `false` when nothing comes any more.
async fn collect(
    receiver: &mut mpsc::Receiver<Outgoing>,
    batch: &mut Vec<Outgoing>,
    limit: usize,
    deadline: Duration,
) -> bool {
    if receiver.recv_many(batch, limit).await == 0 {
        return false;
    }
    let end = tokio::time::Instant::now() + deadline;
    while batch.len() < limit {
        match tokio::time::timeout_at(end, receiver.recv_many(batch, limit - batch.len())).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
    }
    true
}

/// What is known of a metric; a histogram's series share what is known of it.
fn lookup<'m>(metadata: &'m HashMap<String, Metadata>, metric: &str) -> Option<&'m Metadata> {
    metadata.get(metric).or_else(|| {
        ["_bucket", "_count", "_sum"]
            .iter()
            .filter_map(|suffix| metric.strip_suffix(suffix))
            .find_map(|family| metadata.get(family))
    })
}

fn count(batch: &[Outgoing]) -> Written {
    let mut written = Written::default();
    for outgoing in batch {
        match outgoing.point {
            Point::Float(_) => written.samples += 1,
            Point::Histogram(_) => written.histograms += 1,
            Point::Exemplar(..) => written.exemplars += 1,
        }
    }
    written
}

/// What an answer means.
enum Judgement {
    /// With what the answer says was written, if it says so.
    Taken(Option<Written>),
    Again,
    /// With what was written nevertheless, and why the rest was not.
    Never(Written, String),
}

fn judge(reply: &Reply, protocol: Protocol, retry_on_429: bool) -> Judgement {
    match (reply.status, protocol) {
        (200..=299, Protocol::V2) if reply.written.is_none() => Judgement::Never(
            Written::default(),
            "the answer does not say what was written: the receiver seems to know only remote write 1.0; set protobuf_message: prometheus.WriteRequest".into(),
        ),
        (200..=299, Protocol::V2) => Judgement::Taken(reply.written),
        (200..=299, Protocol::V1) => Judgement::Taken(None),
        (429, _) if retry_on_429 => Judgement::Again,
        (500..=599, _) => Judgement::Again,
        (status, _) => {
            let written = reply.written.filter(|_| protocol == Protocol::V2).unwrap_or_default();
            Judgement::Never(written, format!("status {status}: {}", reply.message))
        }
    }
}

/// The pauses between the attempts for one request.
struct Attempts(Backoff);

impl Attempts {
    fn new(queue: &QueueOptions, seed: u64) -> Attempts {
        let config =
            BackoffConfig { initial: queue.min_backoff, max: queue.max_backoff, factor: 2.0, jitter: 0.2 };
        Attempts(Backoff::new(config, seed))
    }

    fn pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let own = self.0.next_delay();
        retry_after.filter(|after| !after.is_zero()).map_or(own, |after| after.min(MAX_RETRY_AFTER))
    }
}

async fn post(
    open: &mut Option<Box<dyn Post>>,
    connect: &Connect,
    headers: &[(&'static str, &'static str)],
    body: Bytes,
) -> Result<Reply, String> {
    let connection = match open {
        Some(connection) => connection,
        None => open.insert(connect()?),
    };
    let outcome = connection.post(headers, body).await;
    if outcome.is_err() {
        *open = None;
    }
    outcome
}

/// Tells a 1.0 receiver again and again what metrics are.
pub(super) struct MetadataRounds {
    pub(super) how: MetadataOptions,
    pub(super) source: MetadataSource,
    pub(super) connect: Connect,
    pub(super) queue: QueueOptions,
    pub(super) instruments: Instruments,
    pub(super) stop: CancellationToken,
    pub(super) seed: u64,
}

impl MetadataRounds {
    pub(super) async fn run(self) {
        let mut open = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.how.interval) => {}
            }
            let metrics = (self.source)();
            for part in metrics.chunks(self.how.max_per_send.max(1)) {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.send(&mut open, part) => {}
                }
            }
        }
    }

    async fn send(&self, open: &mut Option<Box<dyn Post>>, part: &[(String, Metadata)]) {
        let Ok(body) = compress(&encode_metadata_v1(part)) else { return };
        let body = Bytes::from(body);
        let mut attempts = Attempts::new(&self.queue, self.seed);
        // What is told is told again in the next round, so a few attempts are enough.
        for _ in 0..3 {
            let outcome = post(open, &self.connect, &Protocol::V1.headers(), body.clone()).await;
            let (after, reason) = match outcome {
                Ok(reply) => match judge(&reply, Protocol::V1, self.queue.retry_on_http_429) {
                    Judgement::Taken(_) => {
                        self.instruments.metadata.inc_by(part.len() as u64);
                        return;
                    }
                    Judgement::Never(_, reason) => {
                        tracing::warn!(%reason, "the receiver refused metadata");
                        break;
                    }
                    Judgement::Again => (reply.retry_after, format!("status {}", reply.status)),
                },
                Err(reason) => (None, reason),
            };
            tracing::warn!(%reason, "sending metadata failed");
            tokio::time::sleep(attempts.pause(after)).await;
        }
        self.instruments.metadata_failed.inc_by(part.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_of_a_histogram_has_the_histograms_metadata() {
        let known = Metadata { help: "h".into(), ..Metadata::default() };
        let metadata = HashMap::from([("a".to_owned(), known.clone()), ("b_total".to_owned(), known)]);
        for metric in ["a", "a_bucket", "a_sum", "a_count", "b_total"] {
            assert!(lookup(&metadata, metric).is_some(), "{metric}");
        }
        assert!(lookup(&metadata, "b").is_none());
    }

    #[test]
    fn pauses_grow_and_the_receiver_may_set_them() {
        let queue = QueueOptions::default();
        let mut attempts = Attempts::new(&queue, 1);
        let first = attempts.pause(None);
        assert!(first <= queue.min_backoff);
        assert_eq!(attempts.pause(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(attempts.pause(Some(Duration::from_secs(7000))), MAX_RETRY_AFTER);
        for _ in 0..20 {
            assert!(attempts.pause(None) <= queue.max_backoff);
        }
        assert!(attempts.pause(None) > first);
    }
}
