//! Takes remote write requests of both versions into a storage.
//!
//! Implements the receiver of the Remote-Write specifications 1.0 and 2.0. What can be written of a request is written; if
//! anything was not, the status says so, and the numbers of what was are in the answer.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use gantry_clock::Clock;
use gantry_prom_model::{
    AppendError, Appendable, Appender, Counter, Exemplar, Labels, METRIC_NAME, Metadata, Registry, SeriesRef,
};
use parking_lot::Mutex;

use super::message::{SeriesBlock, Visit, read_v1, read_v2};
use super::sender::Protocol;
use crate::decompress;

/// Samples further ahead of the clock than this are refused, so that one wrong clock does not end a series.
const MAX_AHEAD_MS: i64 = 10 * 60 * 1000;
/// Reasons that an answer lists one by one.
const MAX_REASONS: usize = 10;
/// Metrics of which type, help and unit are kept.
const MAX_METADATA: usize = 100_000;

/// How many of each were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Float samples.
    pub samples: u64,
    /// Native histogram samples.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status.
    pub status: u16,
    /// For the `X-Prometheus-Remote-Write-*-Written` headers; `None` when the request was not understood.
    pub written: Option<Written>,
    /// The body: empty, or what is wrong.
    pub message: String,
}

impl Outcome {
    fn refused(status: u16, message: impl Into<String>) -> Outcome {
        Outcome { status, written: None, message: message.into() }
    }
}

/// Takes requests.
pub struct Receiver {
    appendable: Arc<dyn Appendable>,
    clock: Arc<dyn Clock>,
    invalid_labels: Counter,
    without_metadata: Counter,
    metadata: Mutex<BTreeMap<String, Metadata>>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// Which message a `Content-Type` names.
fn protocol(content_type: &str) -> Result<Protocol, String> {
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or("");
    if !media_type.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(format!("expected application/x-protobuf as the media type, got {content_type:?}"));
    }
    for parameter in parts.filter(|parameter| !parameter.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(format!(
                "the parameter {parameter:?} in {content_type:?} is not of the form name=value"
            ));
        };
        if name.trim().eq_ignore_ascii_case("proto") {
            let value = value.trim().trim_matches('"');
            return Protocol::of_message(value).ok_or_else(|| {
                format!(
                    "unknown message {value:?} in the content type; {} and {} are accepted",
                    Protocol::V1.message(),
                    Protocol::V2.message()
                )
            });
        }
    }
    Ok(Protocol::V1)
}

impl Receiver {
    /// Over a storage; what it counts is registered in `registry`.
    pub fn new(appendable: Arc<dyn Appendable>, clock: Arc<dyn Clock>, registry: &Registry) -> Receiver {
        Receiver {
            appendable,
            clock,
            invalid_labels: registry.counter(
                "prometheus_api_remote_write_invalid_labels_samples_total",
                "Received samples that were refused because of their labels.",
            ),
            without_metadata: registry.counter(
                "prometheus_api_remote_write_without_metadata_appended_samples_total",
                "Received samples that were written without type, help and unit.",
            ),
            metadata: Mutex::default(),
        }
    }

    /// Type, help and unit of the metrics that senders told of, by name.
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        self.metadata.lock().iter().map(|(name, known)| (name.clone(), known.clone())).collect()
    }

    /// Takes a request: its `Content-Type`, its `Content-Encoding` and its body. Blocks while the storage writes.
    pub fn receive(&self, content_type: Option<&str>, encoding: Option<&str>, body: &[u8]) -> Outcome {
        // Old senders leave the headers out.
        let content_type = content_type.filter(|text| !text.trim().is_empty());
        let protocol = match content_type.map_or(Ok(Protocol::V1), protocol) {
            Ok(protocol) => protocol,
            Err(reason) => return Outcome::refused(415, reason),
        };
        let encoding = encoding.map_or("", str::trim);
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
            return Outcome::refused(
                415,
                format!("the encoding {encoding:?} is not accepted, only snappy is"),
            );
        }
        let bytes = match decompress(body) {
            Ok(bytes) => bytes,
            Err(reason) => return Outcome::refused(400, reason),
        };
        let mut batch = Batch {
            appender: self.appendable.appender(),
            latest_ms: self.clock.now_ms().saturating_add(MAX_AHEAD_MS),
            newest: HashMap::new(),
            written: Written::default(),
            refusals: Refusals::default(),
            invalid_labels: 0,
            without_metadata: 0,
            metadata: Vec::new(),
        };
        let read = match protocol {
            Protocol::V1 => read_v1(&bytes, &mut batch),
            Protocol::V2 => read_v2(&bytes, &mut batch),
        };
        if let Err(error) = read {
            batch.appender.rollback();
            return Outcome::refused(400, format!("{}: {error}", protocol.message()));
        }
        self.finish(batch)
    }

    fn finish(&self, batch: Batch<'_>) -> Outcome {
        let Batch { appender, written, refusals, invalid_labels, without_metadata, metadata, .. } = batch;
        self.invalid_labels.inc_by(invalid_labels);
        if let Some(reason) = refusals.storage {
            appender.rollback();
            tracing::error!(%reason, "a remote write request could not be stored");
            return Outcome { status: 500, written: Some(Written::default()), message: reason };
        }
        if let Err(error) = appender.commit() {
            tracing::error!(%error, "a remote write request could not be stored");
            return Outcome { status: 500, written: Some(Written::default()), message: error.to_string() };
        }
        self.without_metadata.inc_by(without_metadata);
        if !metadata.is_empty() {
            let mut known = self.metadata.lock();
            for (metric, told) in metadata {
                if known.len() < MAX_METADATA || known.contains_key(&metric) {
                    known.insert(metric, told);
                }
            }
        }
        match refusals.message() {
            None => Outcome { status: 204, written: Some(written), message: String::new() },
            Some(message) => {
                tracing::warn!(reason = %message, "parts of a remote write request were refused");
                Outcome { status: 400, written: Some(written), message }
            }
        }
    }
}

/// What was not taken, and why.
#[derive(Default)]
struct Refusals {
    samples: u64,
    reasons: Vec<String>,
    /// The storage failed: nothing of the request counts, and it may be sent again.
    storage: Option<String>,
}

impl Refusals {
    fn add(&mut self, count: u64, reason: impl FnOnce() -> String) {
        self.samples += count;
        if self.reasons.len() < MAX_REASONS {
            self.reasons.push(reason());
        }
    }

    fn message(&self) -> Option<String> {
        if self.reasons.is_empty() {
            return None;
        }
        let mut message = format!("{} not written", self.samples);
        for reason in &self.reasons {
            let _ = write!(message, "; {reason}");
        }
        if self.samples > self.reasons.len() as u64 && self.reasons.len() == MAX_REASONS {
            message.push_str("; and others");
        }
        Some(message)
    }
}

/// A request on its way into the storage.
struct Batch<'a> {
    appender: Box<dyn Appender + 'a>,
    latest_ms: i64,
    /// The newest sample of each series in this request: the storage sees the order only when it is too late to tell.
    newest: HashMap<SeriesRef, (i64, Option<u64>)>,
    written: Written,
    refusals: Refusals,
    invalid_labels: u64,
    without_metadata: u64,
    metadata: Vec<(String, Metadata)>,
}

/// Labels as a storage keeps them: sorted, without empty values.
fn series_labels(pairs: &[(&str, &str)]) -> Result<Labels, String> {
    let shown = || Labels::from_pairs(pairs.iter().copied()).to_string();
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(format!("invalid labels for series {}: a name is empty", shown()));
    }
    if !pairs.iter().any(|(name, value)| *name == METRIC_NAME && !value.is_empty()) {
        return Err(format!("invalid metric name or labels, got {}: there is no metric name", shown()));
    }
    if pairs.is_sorted_by(|before, after| before.0 < after.0) {
        return Ok(Labels::from_sorted(pairs.iter().copied().filter(|(_, value)| !value.is_empty())));
    }
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|left, right| left.0.cmp(right.0));
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("invalid labels for series, labels {}, duplicated label {}", shown(), pair[0].0));
    }
    Ok(Labels::from_sorted(sorted.into_iter().filter(|(_, value)| !value.is_empty())))
}

impl Batch<'_> {
    /// Notes why a sample was not taken.
    fn refuse(&mut self, error: &AppendError, what: &str, labels: &Labels, timestamp_ms: i64) {
        if let AppendError::Storage(error) = error {
            self.refusals.storage.get_or_insert_with(|| error.to_string());
        }
        self.refusals.add(1, || format!("{error}: {what} of series {labels} at {timestamp_ms}"));
    }

    /// Refuses a time that this request or the clock does not allow; `bits` of a float tell a repetition.
    fn check_time(
        &self,
        series: Option<SeriesRef>,
        timestamp_ms: i64,
        bits: Option<u64>,
    ) -> Result<(), AppendError> {
        if timestamp_ms > self.latest_ms {
            return Err(AppendError::OutOfBounds);
        }
        match series.and_then(|series| self.newest.get(&series)) {
            Some((newest, _)) if timestamp_ms < *newest => Err(AppendError::OutOfOrder),
            Some((newest, known)) if timestamp_ms == *newest && *known != bits => {
                Err(AppendError::DuplicateForTimestamp)
            }
            _ => Ok(()),
        }
    }

    fn append(&mut self, labels: &Labels, block: &SeriesBlock<'_>) -> Option<SeriesRef> {
        let mut series = None;
        for sample in &block.samples {
            let bits = Some(sample.value.to_bits());
            let taken = self.check_time(series, sample.timestamp_ms, bits).and_then(|()| {
                if sample.start_ms != 0 {
                    let (time, start) = (sample.timestamp_ms, sample.start_ms);
                    let _ = self.appender.append_start_timestamp(series, labels, time, start);
                }
                self.appender.append(series, labels, sample.timestamp_ms, sample.value)
            });
            // Only after the append it is known which series the labels mean.
            let taken = taken.and_then(|known| {
                let first = series.is_none();
                series = Some(known);
                if first {
                    self.check_time(series, sample.timestamp_ms, bits).map(|()| known)
                } else {
                    Ok(known)
                }
            });
            match taken {
                Ok(known) => {
                    self.newest.insert(known, (sample.timestamp_ms, bits));
                    self.written.samples += 1;
                }
                Err(error) => self.refuse(&error, "sample", labels, sample.timestamp_ms),
            }
        }
        for (sample, wrong) in &block.histograms {
            let (time, start) = (sample.timestamp_ms, sample.start_ms);
            let taken = match wrong {
                Some(reason) => Err(AppendError::Invalid(reason.clone())),
                None => self.check_time(series, time, None),
            };
            let taken = taken.and_then(|()| {
                if start != 0 {
                    let _ = self.appender.append_start_timestamp(series, labels, time, start);
                }
                self.appender.append_histogram(series, labels, time, &sample.histogram)
            });
            match taken {
                Ok(known) => {
                    series = Some(known);
                    self.newest.insert(known, (time, None));
                    self.written.histograms += 1;
                }
                Err(error) => self.refuse(&error, "histogram", labels, time),
            }
        }
        series
    }

    fn append_exemplars(&mut self, series: Option<SeriesRef>, labels: &Labels, block: &SeriesBlock<'_>) {
        for received in &block.exemplars {
            let exemplar = Exemplar {
                labels: Labels::from_pairs(received.labels.iter().copied()),
                value: received.value,
                timestamp_ms: Some(received.timestamp_ms),
            };
            // Exemplars may come apart from the samples of their series; the storage finds it by its labels.
            let series = series.unwrap_or(SeriesRef(0));
            match self.appender.append_exemplar(series, labels, &exemplar) {
                Ok(()) => self.written.exemplars += 1,
                Err(error) => self.refuse(&error, "exemplar", labels, received.timestamp_ms),
            }
        }
    }
}

impl Visit for Batch<'_> {
    fn series(&mut self, block: &SeriesBlock<'_>) {
        let samples = (block.samples.len() + block.histograms.len()) as u64;
        let labels = match series_labels(&block.labels) {
            Ok(labels) => labels,
            Err(reason) => {
                self.invalid_labels += samples;
                self.refusals.add(samples.max(1), || reason);
                return;
            }
        };
        let before = self.written;
        let series = self.append(&labels, block);
        self.append_exemplars(series, &labels, block);
        match &block.metadata {
            Some(metadata) if *metadata != Metadata::default() => {
                if let Some(series) = series {
                    let _ = self.appender.update_metadata(series, &labels, metadata);
                }
                self.metadata.push((labels.metric_name().unwrap_or("").to_owned(), metadata.clone()));
            }
            _ => {
                let added = |after: u64, before: u64| after - before;
                self.without_metadata += added(self.written.samples, before.samples)
                    + added(self.written.histograms, before.histograms);
            }
        }
    }

    fn metadata(&mut self, metric: &str, metadata: Metadata) {
        if !metric.is_empty() {
            self.metadata.push((metric.to_owned(), metadata));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_name_the_message() {
        for (text, expected) in [
            ("application/x-protobuf", Some(Protocol::V1)),
            ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Protocol::V1)),
            ("application/x-protobuf; proto=\"io.prometheus.write.v2.Request\"", Some(Protocol::V2)),
            ("Application/X-Protobuf;charset=utf-8;proto=io.prometheus.write.v2.Request", Some(Protocol::V2)),
            ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
            ("application/x-protobuf;proto", None),
            ("application/json", None),
        ] {
            assert_eq!(protocol(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn labels_are_brought_into_order() {
        let labels = series_labels(&[("b", "2"), ("__name__", "m"), ("a", ""), ("c", "3")]).unwrap();
        assert_eq!(labels.to_string(), r#"{__name__="m", b="2", c="3"}"#);
        for (pairs, reason) in [
            (&[("__name__", "m"), ("", "x")][..], "a name is empty"),
            (&[("a", "x")], "there is no metric name"),
            (&[("__name__", "")], "there is no metric name"),
            (&[("__name__", "m"), ("a", "x"), ("a", "y")], "duplicated label a"),
        ] {
            assert!(series_labels(pairs).unwrap_err().contains(reason), "{pairs:?}");
        }
    }
}
