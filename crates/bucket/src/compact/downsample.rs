//! Samples of long blocks as aggregates of windows, so that years can be drawn.
//!
//! A counter's aggregate begins with the first sample of the chunk and ends with the last one at the time of the last
//! window again, so that what happened between two chunks can be told.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use gantry_prom_model::{SampleBuffer, is_stale_nan};
use gantry_tsdb::block::{Block, BlockError, BlockMeta, BlockWriter, ChunkSeriesSet};
use gantry_tsdb::chunks::xor::XorAppender;
use gantry_tsdb::chunks::{self, encoding};

use crate::storeapi::{AggrChunk, Aggregate, EncodedChunk};

/// The finer resolution.
pub const FIVE_MINUTES_MS: i64 = 5 * 60 * 1000;
/// The coarser resolution.
pub const HOUR_MS: i64 = 60 * 60 * 1000;
/// Raw blocks of at least this length get a version of five minutes.
pub const FIVE_MINUTES_FROM_MS: i64 = 40 * HOUR_MS;
/// Blocks of five minutes of at least this length get a version of an hour.
pub const HOUR_FROM_MS: i64 = 10 * 24 * HOUR_MS;
/// What raw samples are taken to be apart.
const RAW_INTERVAL_MS: i64 = 60 * 1000;
/// A chunk holds about so many windows.
const TARGET_WINDOWS: usize = 140;

/// A sample.
pub type Sample = (i64, f64);

/// The end of the window that `t` is in.
fn window_end(t: i64, resolution_ms: i64) -> i64 {
    t - t % resolution_ms + resolution_ms - 1
}

#[derive(Debug, Clone, Copy)]
struct Window {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    /// Goes on from window to window.
    counter: f64,
    last: f64,
    started: bool,
}

impl Window {
    fn new() -> Window {
        Window { count: 0, sum: 0.0, min: f64::MAX, max: f64::MIN, counter: 0.0, last: 0.0, started: false }
    }

    fn next(&mut self) {
        *self = Window { counter: self.counter, last: self.last, started: self.started, ..Window::new() };
    }

    fn add(&mut self, value: f64) {
        self.counter += match (self.started, value < self.last) {
            (false, _) | (true, true) => value,
            (true, false) => value - self.last,
        };
        self.started = true;
        self.last = value;
        self.sum += value;
        self.count += 1;
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }
}

/// Calls `add` with the end of each window and what is in it; says the last end, `None` without samples. No window
/// ends behind the last sample.
fn windows(samples: &[Sample], resolution_ms: i64, mut add: impl FnMut(i64, &Window)) -> Option<i64> {
    let (last_t, _) = *samples.last()?;
    let mut window = Window::new();
    let mut end: Option<i64> = None;
    for (t, value) in samples {
        if is_stale_nan(*value) {
            continue;
        }
        if end.is_none_or(|end| *t > end) {
            if let Some(end) = end {
                add(end, &window);
            }
            window.next();
            end = Some(window_end(*t, resolution_ms).min(last_t));
        }
        window.add(*value);
    }
    add(end?, &window);
    end
}

/// Into how many chunks samples go.
fn chunk_count(min_t: i64, max_t: i64, from_ms: i64, to_ms: i64, count: usize) -> usize {
    let most = ((max_t - min_t) / to_ms) as f64;
    let fullness = (count as f64 / ((max_t - min_t) as f64 / from_ms as f64)).min(1.0);
    let expected = (most * fullness) as usize + 1;
    (1..).find(|parts| expected / parts <= TARGET_WINDOWS).unwrap_or(1)
}

#[derive(Default)]
struct Builder {
    parts: [Option<XorAppender>; 5],
    range: Option<(i64, i64)>,
}

impl Builder {
    fn append(&mut self, aggregate: Aggregate, t: i64, value: f64) {
        self.parts[aggregate as usize].get_or_insert_default().append(t, value);
        self.range = Some(self.range.map_or((t, t), |(min, max)| (min.min(t), max.max(t))));
    }

    fn finish(self) -> Option<AggrChunk> {
        let (min_t, max_t) = self.range?;
        let encode =
            |part: XorAppender| EncodedChunk { encoding: encoding::XOR, data: Bytes::from(part.finish()) };
        Some(AggrChunk { min_t, max_t, raw: None, aggregates: self.parts.map(|part| part.map(encode)) })
    }
}

/// Raw samples, rising in time, as chunks of windows.
pub fn downsample_raw(samples: &[Sample], resolution_ms: i64) -> Vec<AggrChunk> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let parts = chunk_count(first.0, last.0, RAW_INTERVAL_MS, resolution_ms, samples.len());
    let size = samples.len() / parts + 1;
    let mut rest = samples;
    let mut made = Vec::with_capacity(parts);
    while !rest.is_empty() {
        let mut end = size.min(rest.len());
        // A chunk ends with a window.
        let last_window = window_end(rest[end - 1].0, resolution_ms);
        while rest.get(end).is_some_and(|(t, _)| *t <= last_window) {
            end += 1;
        }
        let (batch, after) = rest.split_at(end);
        rest = after;
        let batch: Vec<Sample> = batch.iter().copied().filter(|(_, value)| !value.is_nan()).collect();
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { continue };
        let mut builder = Builder::default();
        builder.append(Aggregate::Counter, first.0, first.1);
        let last_end = windows(&batch, resolution_ms, |t, window| {
            builder.append(Aggregate::Count, t, window.count as f64);
            builder.append(Aggregate::Sum, t, window.sum);
            builder.append(Aggregate::Min, t, window.min);
            builder.append(Aggregate::Max, t, window.max);
            builder.append(Aggregate::Counter, t, window.counter);
        });
        if let Some(last_end) = last_end {
            builder.append(Aggregate::Counter, last_end, last.1);
            made.extend(builder.finish());
        }
    }
    made
}

/// Chunks of windows as chunks of longer windows.
///
/// # Errors
/// When a chunk is damaged.
pub fn downsample_aggregates(
    chunks: &[AggrChunk],
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<AggrChunk>, String> {
    let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(Vec::new()) };
    let count = |chunk: &AggrChunk| {
        chunk
            .get(Aggregate::Count)
            .and_then(|part| part.data.first_chunk::<2>())
            .map_or(0, |n| usize::from(u16::from_be_bytes(*n)))
    };
    let samples = chunks.iter().map(count).sum();
    let parts = chunk_count(first.min_t, last.max_t, from_ms, to_ms, samples);
    let size = (chunks.len() / parts).max(1);
    let mut made = Vec::new();
    for batch in chunks.chunks(size) {
        made.extend(merge_batch(batch, to_ms)?);
    }
    Ok(made)
}

fn merge_batch(batch: &[AggrChunk], resolution_ms: i64) -> Result<Option<AggrChunk>, String> {
    let mut builder = Builder::default();
    type Value = fn(&Window) -> f64;
    let simple: [(Aggregate, Value); 4] = [
        (Aggregate::Count, |window| window.sum),
        (Aggregate::Sum, |window| window.sum),
        (Aggregate::Min, |window| window.min),
        (Aggregate::Max, |window| window.max),
    ];
    for (aggregate, value) in simple {
        let mut samples = Vec::new();
        for part in batch.iter().filter_map(|chunk| chunk.get(aggregate)) {
            expand(&decode(part)?, &mut samples);
        }
        windows(&samples, resolution_ms, |t, window| builder.append(aggregate, t, value(window)));
    }
    let mut counter = CounterReader::default();
    let mut joined = SampleBuffer::default();
    for part in batch.iter().filter_map(|chunk| chunk.get(Aggregate::Counter)) {
        counter.read(&decode(part)?, &mut joined);
    }
    let samples: Vec<Sample> = joined.timestamps.iter().copied().zip(joined.values.iter().copied()).collect();
    if let Some((first_t, first)) = samples.first() {
        builder.append(Aggregate::Counter, *first_t, *first);
        let last_end = windows(&samples, resolution_ms, |t, window| {
            builder.append(Aggregate::Counter, t, window.counter)
        });
        if let Some(last_end) = last_end {
            builder.append(Aggregate::Counter, last_end, counter.last);
        }
    }
    Ok(builder.finish())
}

fn decode(part: &EncodedChunk) -> Result<SampleBuffer, String> {
    let mut samples = SampleBuffer::default();
    chunks::decode(part.encoding, &part.data, i64::MIN, i64::MAX, &mut samples)?;
    Ok(samples)
}

/// Appends the samples that are neither stale nor older than one before them.
pub fn expand(samples: &SampleBuffer, into: &mut Vec<Sample>) {
    let mut last_t = into.last().map_or(i64::MIN, |(t, _)| *t);
    for (t, value) in samples.timestamps.iter().zip(&samples.values) {
        if !is_stale_nan(*value) && *t >= last_t {
            into.push((*t, *value));
            last_t = *t;
        }
    }
}

/// Reads chunks of a counter, raw or aggregated, one after the other as a counter that never falls.
#[derive(Debug, Default, Clone, Copy)]
pub struct CounterReader {
    started: bool,
    last_t: i64,
    last: f64,
    total: f64,
}

impl CounterReader {
    /// Appends the samples of the next chunk.
    pub fn read(&mut self, samples: &SampleBuffer, into: &mut SampleBuffer) {
        for (t, value) in samples.timestamps.iter().zip(&samples.values) {
            if value.is_nan() {
                continue;
            }
            if !self.started {
                *self = CounterReader { started: true, last_t: *t, last: *value, total: *value };
                into.push(*t, self.total);
            } else if *t > self.last_t {
                self.total += if *value >= self.last { value - self.last } else { *value };
                (self.last_t, self.last) = (*t, *value);
                into.push(*t, self.total);
            } else if *t == self.last_t {
                // The last raw value of a chunk, at the time of its last window.
                self.last = *value;
            }
        }
    }

    /// The last raw value.
    pub fn last(&self) -> f64 {
        self.last
    }
}

/// Writes the coarser version of a block as `ulid` in the folder `dir`. `None`, and no block, when nothing is left.
/// Histograms are left out.
///
/// # Errors
/// When the block cannot be read, has chunks that overlap, or the new one cannot be written.
pub fn downsample_block(
    dir: &Path,
    ulid: &str,
    block: &Arc<Block>,
    from_ms: i64,
    to_ms: i64,
) -> Result<Option<BlockMeta>, BlockError> {
    let symbols = block.index().symbols()?;
    let mut writer = BlockWriter::create(dir, ulid, symbols.iter(), |_| {})?;
    let mut set = block.select(&[], i64::MIN, i64::MAX)?;
    let failed = |error: &dyn std::fmt::Display| BlockError::Invalid(error.to_string());
    while set.advance().map_err(|error| failed(&error))? {
        let raw = set.chunks().map_err(|error| failed(&error))?;
        let overlaps = raw.windows(2).find(|pair| pair[1].min_t <= pair[0].max_t);
        if let Some(pair) = overlaps {
            let (at, labels) = (pair[1].min_t, set.labels());
            return Err(BlockError::Invalid(format!("chunks of {labels} overlap at {at}")));
        }
        let coarse = if from_ms == 0 {
            let mut samples = Vec::new();
            for chunk in &raw {
                let mut decoded = SampleBuffer::default();
                chunks::decode(chunk.encoding, &chunk.data, i64::MIN, i64::MAX, &mut decoded)
                    .map_err(|reason| failed(&reason))?;
                expand(&decoded, &mut samples);
            }
            downsample_raw(&samples, to_ms)
        } else {
            let mut fine = Vec::with_capacity(raw.len());
            for chunk in raw {
                fine.push(AggrChunk::from_block(chunk, &[]).map_err(|reason| failed(&reason))?);
            }
            downsample_aggregates(&fine, from_ms, to_ms).map_err(|reason| failed(&reason))?
        };
        let encoded: Vec<_> = coarse.into_iter().filter_map(AggrChunk::into_block).collect();
        writer.add(set.labels(), &encoded)?;
    }
    // The version of a block is of the same origin: level and sources stay.
    writer.finish(BlockMeta { ulid: ulid.to_owned(), ..block.meta().clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(chunk: &AggrChunk, aggregate: Aggregate) -> Vec<Sample> {
        let decoded = decode(chunk.get(aggregate).unwrap()).unwrap();
        decoded.timestamps.into_iter().zip(decoded.values).collect()
    }

    #[test]
    fn windows_and_a_counter_that_restarts() {
        let raw = [(10, 1.0), (20, 3.0), (110, 2.0), (150, 5.0)];
        let made = downsample_raw(&raw, 100);
        assert_eq!(made.len(), 1);
        assert_eq!(samples(&made[0], Aggregate::Count), [(99, 2.0), (150, 2.0)]);
        assert_eq!(samples(&made[0], Aggregate::Max), [(99, 3.0), (150, 5.0)]);
        assert_eq!(samples(&made[0], Aggregate::Counter), [(10, 1.0), (99, 3.0), (150, 8.0), (150, 5.0)]);
        let coarser = downsample_aggregates(&made, 100, 1000).unwrap();
        assert_eq!(samples(&coarser[0], Aggregate::Sum), [(150, 11.0)]);
        assert_eq!(samples(&coarser[0], Aggregate::Counter), [(10, 1.0), (150, 8.0), (150, 5.0)]);
        let mut all = SampleBuffer::default();
        CounterReader::default()
            .read(&decode(coarser[0].get(Aggregate::Counter).unwrap()).unwrap(), &mut all);
        assert_eq!(all.values, [1.0, 8.0]);
        assert!(downsample_raw(&[], 100).is_empty());
    }
}
