//! The queues of `remote_write`: made of the configuration, kept over a reload when nothing of theirs changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_clock::Clock;
use gantry_prom_model::{Labels, Metadata, Registry};
use gantry_remote::{
    MetadataOptions, Post, Protocol, QueueOptions, Reply, Sender, SenderMetrics, SenderOptions, Written,
};
use gantry_scrape::config::{Milliseconds, RemoteWriteConfig};
use gantry_scrape::{Dialer, HttpClient, Scraping};
use http::HeaderMap;
use parking_lot::Mutex;

use crate::alertmanagers::relabelling;

/// How much of a receiver's answer is read.
const ANSWER_BYTES: usize = 16 * 1024;
/// Longest time that the end waits for what is under way.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);

/// The queues that run.
pub(crate) struct RemoteWrites {
    data_dir: PathBuf,
    scraping: Arc<Scraping>,
    clock: Arc<dyn Clock>,
    dialer: Option<Arc<dyn Dialer>>,
    metrics: SenderMetrics,
    running: Mutex<Vec<Running>>,
    /// One reload at a time changes queues.
    changing: tokio::sync::Mutex<()>,
}

struct Running {
    /// Everything that makes it what it is; another text is another queue.
    fingerprint: String,
    name: String,
    url: String,
    sender: Sender,
}

impl RemoteWrites {
    pub(crate) fn new(
        data_dir: &Path,
        scraping: Arc<Scraping>,
        clock: Arc<dyn Clock>,
        dialer: Option<Arc<dyn Dialer>>,
        registry: &Registry,
    ) -> RemoteWrites {
        RemoteWrites {
            data_dir: data_dir.to_path_buf(),
            scraping,
            clock,
            dialer,
            metrics: SenderMetrics::new(registry),
            running: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Sends to these receivers from now on. Queues that are gone are ended first, so that one that was only changed
    /// goes on where it was.
    pub(crate) async fn apply(&self, configs: Vec<RemoteWriteConfig>, external_labels: Labels) {
        let _changing = self.changing.lock().await;
        let wanted: Vec<(String, RemoteWriteConfig)> = configs
            .into_iter()
            .map(|config| (format!("{config:?} {:?} {external_labels}", secrets(&config)), config))
            .collect();
        let (kept, gone): (Vec<Running>, Vec<Running>) = std::mem::take(&mut *self.running.lock())
            .into_iter()
            .partition(|running| wanted.iter().any(|(fingerprint, _)| *fingerprint == running.fingerprint));
        self.end(gone).await;
        let mut running = kept;
        for (fingerprint, config) in wanted {
            if !running.iter().any(|known| known.fingerprint == fingerprint) {
                running.push(self.start(fingerprint, &config, &external_labels));
            }
        }
        *self.running.lock() = running;
    }

    async fn end(&self, queues: Vec<Running>) {
        let ends: Vec<_> = queues
            .into_iter()
            .map(|queue| {
                let (name, url) = (queue.name, queue.url);
                (name, url, tokio::spawn(queue.sender.stop()))
            })
            .collect();
        for (name, url, end) in ends {
            let _ = end.await;
            self.metrics.forget(&name, &url);
        }
    }

    fn start(&self, fingerprint: String, config: &RemoteWriteConfig, external_labels: &Labels) -> Running {
        let url = config.url.clone().unwrap_or_default();
        let shown = without_credentials(&url);
        // The place belongs to the receiver: whatever else changes, it has what it has.
        let identity =
            format!("{:016x}", Labels::from_pairs([("url", &url), ("name", &config.name)]).stable_hash());
        let name = if config.name.is_empty() { identity[..6].to_owned() } else { config.name.clone() };
        let queue = &config.queue_config;
        let ms = Milliseconds::duration;
        let scraping = self.scraping.clone();
        let options = SenderOptions {
            name: name.clone(),
            url: shown.clone(),
            protocol: Protocol::of_message(&config.protobuf_message).unwrap_or_default(),
            external_labels: external_labels.clone(),
            relabel: relabelling(config.relabel_configs()),
            queue: QueueOptions {
                capacity: queue.capacity,
                min_shards: queue.min_shards,
                max_shards: queue.max_shards,
                max_samples_per_send: queue.max_samples_per_send,
                batch_send_deadline: ms(queue.batch_send_deadline),
                min_backoff: ms(queue.min_backoff),
                max_backoff: ms(queue.max_backoff),
                retry_on_http_429: queue.retry_on_http_429,
                sample_age_limit: ms(queue.sample_age_limit),
            },
            send_native_histograms: config.send_native_histograms,
            send_exemplars: config.send_exemplars,
            metadata: config.metadata_config.send.then(|| MetadataOptions {
                interval: ms(config.metadata_config.send_interval),
                max_per_send: config.metadata_config.max_samples_per_send,
            }),
            metadata_source: Arc::new(move || metadata_of(&scraping)),
            wal_dir: self.data_dir.join("wal"),
            place_file: self.data_dir.join("remote").join(format!("{identity}.json")),
            flush_deadline: FLUSH_DEADLINE,
            seed: Labels::from_pairs([("queue", &identity)]).stable_hash(),
        };
        let (http, timeout, dialer) = (config.http.clone(), ms(config.remote_timeout), self.dialer.clone());
        let connect = Arc::new(move || -> Result<Box<dyn Post>, String> {
            let client = HttpClient::new(&url, &http)?.reaching(dialer.clone());
            Ok(Box::new(Connection { client, timeout }))
        });
        let sender = Sender::start(options, connect, self.clock.clone(), &self.metrics);
        Running { fingerprint, name, url: shown, sender }
    }

    /// Ends all queues, after what is under way.
    pub(crate) async fn shutdown(&self) {
        let _changing = self.changing.lock().await;
        let all = std::mem::take(&mut *self.running.lock());
        self.end(all).await;
    }
}

/// A hash of what a configuration's text does not show, so that a changed password is a change.
fn secrets(config: &RemoteWriteConfig) -> u64 {
    let http = &config.http;
    let basic = http.basic_auth.as_ref().and_then(|basic| basic.password.as_ref());
    let bearer = http.authorization.as_ref().and_then(|authorization| authorization.credentials.as_ref());
    let key = http.tls_config.key.as_ref();
    let all = [("basic", basic), ("bearer", bearer), ("key", key)];
    Labels::from_pairs(all.iter().filter_map(|(name, secret)| Some((*name, secret.as_ref()?.0.as_str()))))
        .stable_hash()
}

fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

/// What targets say of their metrics, each metric once.
fn metadata_of(scraping: &Scraping) -> Vec<(String, Metadata)> {
    let mut known = std::collections::BTreeMap::new();
    for entry in scraping.metadata(None, 0) {
        known.entry(entry.metric).or_insert(entry.metadata);
    }
    known.into_iter().collect()
}

/// A shard's connection.
struct Connection {
    client: HttpClient,
    timeout: Duration,
}

#[async_trait]
impl Post for Connection {
    async fn post(&mut self, headers: &[(&'static str, &'static str)], body: Bytes) -> Result<Reply, String> {
        let answer = self.client.exchange(headers, &body, ANSWER_BYTES);
        let answer = tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_| format!("no answer within {:?}", self.timeout))?
            .map_err(|error| error.to_string())?;
        let (parts, body) = answer.into_parts();
        let first_line = String::from_utf8_lossy(&body);
        Ok(Reply {
            status: parts.status.as_u16(),
            retry_after: retry_after(&parts.headers),
            written: written(&parts.headers),
            message: first_line.lines().next().unwrap_or("").chars().take(512).collect(),
        })
    }
}

/// `Retry-After` in seconds, or as a date against the answer's own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let value = text("retry-after")?;
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let (at, now) = (http_date(value)?, http_date(text("date")?)?);
    u64::try_from(at - now).ok().map(Duration::from_secs)
}

/// Unix seconds of `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that is still sent.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|known| *known == month)? + 1;
    gantry_clock::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).map(|ms| ms / 1000)
}

/// What the answer says was written, if it says anything of it.
fn written(headers: &HeaderMap) -> Option<Written> {
    let count = |what: &str| -> Option<u64> {
        headers.get(format!("x-prometheus-remote-write-{what}-written"))?.to_str().ok()?.trim().parse().ok()
    };
    let (samples, histograms, exemplars) = (count("samples"), count("histograms"), count("exemplars"));
    samples.or(histograms).or(exemplars)?;
    Some(Written {
        samples: samples.unwrap_or(0),
        histograms: histograms.unwrap_or(0),
        exemplars: exemplars.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn pauses_that_receivers_ask_for() {
        assert_eq!(retry_after(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        let dated = headers(&[
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"),
        ]);
        assert_eq!(retry_after(&dated), Some(Duration::from_secs(30)));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
        assert_eq!(retry_after(&headers(&[])), None);
    }

    #[test]
    fn what_was_written_is_read_from_any_of_the_headers() {
        assert_eq!(written(&headers(&[("x-other", "1")])), None);
        let some = headers(&[("x-prometheus-remote-write-histograms-written", "3")]);
        assert_eq!(written(&some), Some(Written { histograms: 3, ..Written::default() }));
    }

    #[test]
    fn credentials_of_a_url_are_not_shown() {
        assert_eq!(without_credentials("https://u:p@h:1/a@b"), "https://h:1/a@b");
        assert_eq!(without_credentials("localhost:9090"), "localhost:9090");
    }
}
