//! Answers remote read requests from a storage.
//!
//! `SAMPLES` is one snappy message, bounded in samples. `STREAMED_XOR_CHUNKS` is a stream of frames, each a length (a
//! varint), a CRC-32C (four bytes, big-endian) and a message; one series at a time is in memory.

use bytes::Bytes;
use gantry_prom_model::{Labels, MatchOp, Matcher, Queryable, SampleBuffer, StorageError};
use gantry_tsdb::chunks;

use super::message::{Query, ReadRequest};
use crate::histogram;
use crate::proto::Writer;
use crate::write::message::{write_labels, write_sample};

/// `Content-Type` of a stream of chunks.
pub const STREAM_CONTENT_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// What one answer may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Samples in an answer of samples; 0 for no bound.
    pub samples: usize,
    /// Bytes of a frame of a stream; a larger series comes in several.
    pub frame_bytes: usize,
}

impl Default for ReadLimits {
    fn default() -> ReadLimits {
        ReadLimits { samples: 50_000_000, frame_bytes: 1 << 20 }
    }
}

/// The matchers without those that only say that it is us: our external labels are on no series of ours.
fn without_external(matchers: &[Matcher], external: &Labels) -> Vec<Matcher> {
    let is_ours = |matcher: &Matcher| {
        matcher.op == MatchOp::Equal
            && external.get(&matcher.name).is_some_and(|value| value == &*matcher.value)
    };
    matchers.iter().filter(|matcher| !is_ours(matcher)).cloned().collect()
}

fn with_external(labels: &Labels, external: &Labels) -> Labels {
    if external.is_empty() {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    for (name, value) in external.iter() {
        if builder.get(name).is_none() {
            builder.set(name, value);
        }
    }
    builder.build()
}

/// Shows each series of a query, with its samples.
fn each_series(
    storage: &dyn Queryable,
    query: &Query,
    external: &Labels,
    mut visit: impl FnMut(&Labels, &SampleBuffer) -> Result<bool, StorageError>,
) -> Result<(), StorageError> {
    let querier = storage.querier(query.start_ms, query.end_ms)?;
    let matchers = without_external(&query.matchers, external);
    let mut set = querier.select(true, &query.hints, &matchers)?;
    let mut samples = SampleBuffer::default();
    while set.advance()? {
        samples.clear();
        set.fill(query.start_ms, query.end_ms, &mut samples)?;
        if samples.is_empty() && query.hints.function != Some("series") {
            continue;
        }
        if !visit(&with_external(set.labels(), external), &samples)? {
            break;
        }
    }
    Ok(())
}

/// The answer as samples: a `prometheus.ReadResponse`, not compressed yet.
///
/// # Errors
/// When the storage cannot be read, or there are more samples than the limit.
pub fn answer_samples(
    storage: &dyn Queryable,
    request: &ReadRequest,
    external: &Labels,
    limits: &ReadLimits,
) -> Result<Vec<u8>, StorageError> {
    let mut out = Writer::new();
    let mut count = 0usize;
    for query in &request.queries {
        let mut result = Writer::new();
        each_series(storage, query, external, |labels, samples| {
            count += samples.len();
            if limits.samples > 0 && count > limits.samples {
                let what = "the number of samples of a remote read".into();
                return Err(StorageError::LimitExceeded { what, limit: limits.samples as u64 });
            }
            result.nested(1, |series| {
                write_labels(series, 1, labels);
                for (t, v) in samples.timestamps.iter().zip(&samples.values) {
                    write_sample(series, 2, *t, *v);
                }
                for (t, h) in samples.histogram_timestamps.iter().zip(&samples.histograms) {
                    histogram::write(series, 4, h, *t, 0);
                }
            });
            Ok(true)
        })?;
        out.message(1, result.as_bytes());
    }
    Ok(out.into_bytes())
}

/// Takes the frames of a stream; `false` when nobody wants more.
pub type Frames<'f> = dyn FnMut(Bytes) -> bool + 'f;

/// The answer as a stream of `prometheus.ChunkedReadResponse`s.
///
/// # Errors
/// When the storage cannot be read; what came before has been handed out.
pub fn answer_stream(
    storage: &dyn Queryable,
    request: &ReadRequest,
    external: &Labels,
    limits: &ReadLimits,
    emit: &mut Frames<'_>,
) -> Result<(), StorageError> {
    for (index, query) in request.queries.iter().enumerate() {
        each_series(storage, query, external, |labels, samples| {
            let chunks = chunks::encode(samples);
            let mut left = chunks.as_slice();
            loop {
                let mut bytes = labels.encoded_len();
                let fitting = left.iter().take_while(|chunk| {
                    bytes += chunk.data.len() + 32;
                    bytes <= limits.frame_bytes
                });
                // At least one, so that the stream goes on whatever its size.
                let take = fitting.count().max(1).min(left.len());
                let (now, later) = left.split_at(take);
                if !emit(frame(labels, now, index)) {
                    return Ok(false);
                }
                left = later;
                if left.is_empty() {
                    return Ok(true);
                }
            }
        })?;
    }
    Ok(())
}

fn frame(labels: &Labels, chunks: &[gantry_tsdb::block::RawChunk], query: usize) -> Bytes {
    let mut message = Writer::new();
    message.nested(1, |series| {
        write_labels(series, 1, labels);
        for chunk in chunks {
            series.nested(2, |out| {
                out.int(1, chunk.min_t);
                out.int(2, chunk.max_t);
                out.varint(3, u64::from(chunk.encoding));
                out.message(4, &chunk.data);
            });
        }
    });
    message.varint(2, query as u64);
    let body = message.into_bytes();
    let mut framed = Vec::with_capacity(body.len() + 14);
    let mut length = body.len();
    while length >= 0x80 {
        framed.push(length as u8 | 0x80);
        length >>= 7;
    }
    framed.push(length as u8);
    framed.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    framed.extend_from_slice(&body);
    Bytes::from(framed)
}
