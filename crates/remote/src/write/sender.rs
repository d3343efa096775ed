//! Sends what the store logs to a remote write receiver: follows the log, spreads series over shards, sends batches.
//!
//! Implements the sender of the Remote-Write specifications 1.0 and 2.0. Memory is bounded by shards × capacity: when the
//! receiver is slow, the log is read more slowly. How far the receiver has answered is kept in a file, from where the next
//! start goes on; what was under way when the process died is sent again.

mod follow;
mod metrics;
mod place;
mod shard;

pub use metrics::SenderMetrics;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_clock::Clock;
use gantry_prom_model::{Labels, Metadata};
use tokio_util::sync::CancellationToken;

use super::receiver::Written;

/// Which message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// `prometheus.WriteRequest`.
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Protocol {
    /// The message's full name.
    pub fn message(self) -> &'static str {
        match self {
            Protocol::V1 => "prometheus.WriteRequest",
            Protocol::V2 => "io.prometheus.write.v2.Request",
        }
    }

    /// The protocol of a message's full name.
    pub fn of_message(name: &str) -> Option<Protocol> {
        [Protocol::V1, Protocol::V2].into_iter().find(|protocol| protocol.message() == name)
    }

    /// `Content-Type` of its requests.
    pub fn content_type(self) -> &'static str {
        match self {
            // Without a parameter: receivers of 1.0 may not know it.
            Protocol::V1 => "application/x-protobuf",
            Protocol::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// `X-Prometheus-Remote-Write-Version` of its requests.
    pub fn version(self) -> &'static str {
        match self {
            Protocol::V1 => "0.1.0",
            Protocol::V2 => "2.0.0",
        }
    }

    /// The headers of its requests, besides the body's length and the user agent.
    pub fn headers(self) -> [(&'static str, &'static str); 3] {
        [
            ("content-encoding", "snappy"),
            ("content-type", self.content_type()),
            ("x-prometheus-remote-write-version", self.version()),
        ]
    }
}

/// A receiver's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, as a duration from now.
    pub retry_after: Option<Duration>,
    /// What the `X-Prometheus-Remote-Write-*-Written` headers say; `None` without any of them.
    pub written: Option<Written>,
    /// The beginning of the body.
    pub message: String,
}

/// Carries requests to a receiver; one shard's connection.
#[async_trait]
pub trait Post: Send {
    /// Posts a body with these headers.
    ///
    /// # Errors
    /// When there is no answer; that is worth another attempt.
    async fn post(&mut self, headers: &[(&'static str, &'static str)], body: Bytes) -> Result<Reply, String>;
}

/// Makes the connections of shards.
pub type Connect = Arc<dyn Fn() -> Result<Box<dyn Post>, String> + Send + Sync>;

/// Changes a series' labels, or drops the series.
pub type Relabel = Arc<dyn Fn(&Labels) -> Option<Labels> + Send + Sync>;

/// Says what is known of metrics, by name.
pub type MetadataSource = Arc<dyn Fn() -> Vec<(String, Metadata)> + Send + Sync>;

/// How a queue works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOptions {
    /// Samples that wait in one shard.
    pub capacity: usize,
    /// Fewest shards.
    pub min_shards: usize,
    /// Most shards.
    pub max_shards: usize,
    /// Samples in one request.
    pub max_samples_per_send: usize,
    /// A batch that is not full is sent after this long.
    pub batch_send_deadline: Duration,
    /// First pause before another attempt.
    pub min_backoff: Duration,
    /// Longest pause between attempts.
    pub max_backoff: Duration,
    /// Whether a 429 is worth another attempt.
    pub retry_on_http_429: bool,
    /// Older samples are not sent; zero for no bound.
    pub sample_age_limit: Duration,
}

impl Default for QueueOptions {
    fn default() -> QueueOptions {
        QueueOptions {
            capacity: 10_000,
            min_shards: 1,
            max_shards: 50,
            max_samples_per_send: 2_000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: false,
            sample_age_limit: Duration::ZERO,
        }
    }
}

/// How metadata is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataOptions {
    /// Between two rounds of a 1.0 sender, and how old a 2.0 sender's knowledge may be.
    pub interval: Duration,
    /// Metrics in one request.
    pub max_per_send: usize,
}

/// What is sent where.
#[derive(Clone)]
pub struct SenderOptions {
    /// The queue's name, for metrics and messages.
    pub name: String,
    /// The receiver, without credentials, for metrics and messages.
    pub url: String,
    /// Which message it gets.
    pub protocol: Protocol,
    /// Labels that every series gets that has none of the name.
    pub external_labels: Labels,
    /// What is done to labels after that.
    pub relabel: Relabel,
    /// How the queue works.
    pub queue: QueueOptions,
    /// Whether native histograms are sent.
    pub send_native_histograms: bool,
    /// Whether exemplars are sent.
    pub send_exemplars: bool,
    /// How metadata is sent, if it is.
    pub metadata: Option<MetadataOptions>,
    /// What metadata there is.
    pub metadata_source: MetadataSource,
    /// The folder of the store's log.
    pub wal_dir: PathBuf,
    /// Where it is kept how far the receiver has answered.
    pub place_file: PathBuf,
    /// Longest time that the end waits for what is under way.
    pub flush_deadline: Duration,
    /// Seeds the jitter of pauses.
    pub seed: u64,
}

impl std::fmt::Debug for SenderOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SenderOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A running queue.
#[derive(Debug)]
pub struct Sender {
    name: String,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    metadata: Option<tokio::task::JoinHandle<()>>,
}

impl Sender {
    /// Begins to send. Within a tokio runtime.
    pub fn start(
        options: SenderOptions,
        connect: Connect,
        clock: Arc<dyn Clock>,
        metrics: &SenderMetrics,
    ) -> Sender {
        let stop = CancellationToken::new();
        let name = options.name.clone();
        let instruments = metrics.of(&options.name, &options.url);
        let metadata = options.metadata.filter(|_| options.protocol == Protocol::V1).map(|how| {
            let round = shard::MetadataRounds {
                how,
                source: options.metadata_source.clone(),
                connect: connect.clone(),
                queue: options.queue,
                instruments: instruments.clone(),
                stop: stop.clone(),
                seed: options.seed ^ 0x6d65_7461,
            };
            tokio::spawn(round.run())
        });
        let follow = follow::Follow::new(options, connect, clock, instruments, stop.clone());
        let runtime = tokio::runtime::Handle::current();
        let task = tokio::task::spawn_blocking(move || follow.run(&runtime));
        Sender { name, stop, task, metadata }
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the queue: what is under way is waited for up to the deadline, and it is kept how far the receiver has
    /// answered.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
        if let Some(metadata) = self.metadata {
            let _ = metadata.await;
        }
    }
}
