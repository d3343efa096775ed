//! One series in memory: encoded chunks that are closed, and one that still takes samples.

use std::sync::Arc;

use bytes::Bytes;
use gantry_prom_model::{FloatHistogram, SampleBuffer};
use parking_lot::Mutex;

use crate::block::RawChunk;
use crate::chunks::xor::XorAppender;
use crate::chunks::{self, encoding};

/// Samples a chunk is meant to hold.
const TARGET_SAMPLES: u16 = 120;
/// After this many samples the end of the chunk is predicted, so that the chunks of a range are about equal.
const PREDICT_AT: u16 = TARGET_SAMPLES / 4;

/// Why a sample does not go into a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    OutOfOrder,
    Duplicate,
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is stored.
    New,
    /// The very same sample is there already.
    Already,
}

#[derive(Debug)]
enum Open {
    Empty,
    Float(XorAppender),
    Histogram(Vec<(i64, Arc<FloatHistogram>)>),
}

#[derive(Debug)]
struct Sealed {
    min_t: i64,
    max_t: i64,
    encoding: u8,
    data: Box<[u8]>,
}

#[derive(Debug)]
struct Chunks {
    sealed: Vec<Sealed>,
    open: Open,
    open_min_t: i64,
    /// A sample at or after this time starts a new chunk.
    next_at: i64,
    /// Samples in batches that are not committed yet; such a series is not removed.
    pending: u32,
}

/// A series of the head.
#[derive(Debug)]
pub(crate) struct MemSeries {
    /// Its number in the log.
    pub(crate) reference: u64,
    chunks: Mutex<Chunks>,
}

/// The predicted end of a chunk that began at `start`, is at `now` after a quarter of its samples, and may not go
/// past `limit`: the room up to the limit divided into equal chunks.
fn chunk_end(start: i64, now: i64, limit: i64) -> i64 {
    let room = limit.saturating_sub(start);
    let expected = now.saturating_sub(start).saturating_add(1).saturating_mul(4);
    match room / expected.max(1) {
        ..=1 => limit,
        parts => start + room / parts,
    }
}

impl MemSeries {
    pub(crate) fn new(reference: u64) -> MemSeries {
        let chunks = Chunks {
            sealed: Vec::new(),
            open: Open::Empty,
            open_min_t: i64::MAX,
            next_at: i64::MIN,
            pending: 0,
        };
        MemSeries { reference, chunks: Mutex::new(chunks) }
    }

    /// Checks, and keeps the series from being removed until [`MemSeries::release`].
    pub(crate) fn check_and_hold(&self, t: i64, v: f64) -> Result<Taken, Refused> {
        let mut chunks = self.chunks.lock();
        let outcome = chunks.check(t, |last| last.is_some_and(|last| last.to_bits() == v.to_bits()))?;
        chunks.pending += 1;
        Ok(outcome)
    }

    /// As [`MemSeries::check_and_hold`] for a histogram.
    pub(crate) fn check_histogram_and_hold(&self, t: i64) -> Result<Taken, Refused> {
        let mut chunks = self.chunks.lock();
        let outcome = chunks.check(t, |_| false)?;
        chunks.pending += 1;
        Ok(outcome)
    }

    /// Ends a hold.
    pub(crate) fn release(&self) {
        let mut chunks = self.chunks.lock();
        chunks.pending = chunks.pending.saturating_sub(1);
    }

    /// Appends a float sample.
    pub(crate) fn append(&self, t: i64, v: f64, chunk_range: i64) -> Result<Taken, Refused> {
        let mut chunks = self.chunks.lock();
        if chunks.check(t, |last| last.is_some_and(|last| last.to_bits() == v.to_bits()))? == Taken::Already {
            return Ok(Taken::Already);
        }
        chunks.append(t, v, chunk_range);
        Ok(Taken::New)
    }

    /// Appends a histogram sample.
    pub(crate) fn append_histogram(
        &self,
        t: i64,
        histogram: Arc<FloatHistogram>,
        chunk_range: i64,
    ) -> Result<Taken, Refused> {
        let mut chunks = self.chunks.lock();
        chunks.check(t, |_| false)?;
        chunks.append_histogram(t, histogram, chunk_range);
        Ok(Taken::New)
    }

    /// First and last sample time, if there is a sample.
    pub(crate) fn range(&self) -> Option<(i64, i64)> {
        self.chunks.lock().range()
    }

    /// Drops the chunks that end before `min_t`; says how many went and whether the series can go too.
    pub(crate) fn truncate(&self, min_t: i64) -> (usize, bool) {
        let mut chunks = self.chunks.lock();
        let before = chunks.sealed.len();
        chunks.sealed.retain(|chunk| chunk.max_t >= min_t);
        let mut removed = before - chunks.sealed.len();
        if removed > 0 {
            chunks.sealed.shrink_to_fit();
        }
        if chunks.last_t().is_some_and(|last| last < min_t) {
            chunks.open = Open::Empty;
            removed += 1;
        }
        (removed, chunks.range().is_none() && chunks.pending == 0)
    }

    /// Appends the samples of a time range to `into`.
    pub(crate) fn fill(&self, min_t: i64, max_t: i64, into: &mut SampleBuffer) -> Result<(), String> {
        let series = self.chunks.lock();
        for chunk in &series.sealed {
            if chunk.max_t < min_t || chunk.min_t > max_t {
                continue;
            }
            chunks::decode(chunk.encoding, &chunk.data, min_t, max_t, into)?;
        }
        match &series.open {
            Open::Float(open) if series.open_min_t <= max_t => {
                chunks::decode(encoding::XOR, open.bytes(), min_t, max_t, into)
            }
            Open::Histogram(samples) => {
                fill_histograms(samples, min_t, max_t, into);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The chunks that have samples in a time range, as they are.
    pub(crate) fn raw_chunks(&self, min_t: i64, max_t: i64) -> Vec<RawChunk> {
        let series = self.chunks.lock();
        let overlaps = |min: i64, max: i64| min <= max_t && min_t <= max;
        let mut found: Vec<RawChunk> = series
            .sealed
            .iter()
            .filter(|chunk| overlaps(chunk.min_t, chunk.max_t))
            .map(|chunk| RawChunk {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: Bytes::copy_from_slice(&chunk.data),
            })
            .collect();
        match (&series.open, series.last_t()) {
            (Open::Float(open), Some(last)) if overlaps(series.open_min_t, last) => found.push(RawChunk {
                min_t: series.open_min_t,
                max_t: last,
                encoding: encoding::XOR,
                data: Bytes::copy_from_slice(open.bytes()),
            }),
            (Open::Histogram(samples), Some(last)) if overlaps(series.open_min_t, last) => {
                found.extend(chunks::histogram::encode(samples));
            }
            _ => {}
        }
        found
    }

    /// Number of chunks, and bytes of heap that the series holds.
    pub(crate) fn weight(&self) -> (usize, usize) {
        let chunks = self.chunks.lock();
        let list = chunks.sealed.capacity() * size_of::<Sealed>();
        let samples: usize = chunks.sealed.iter().map(|chunk| chunk.data.len()).sum();
        let open = match &chunks.open {
            Open::Empty => 0,
            Open::Float(open) => open.capacity(),
            Open::Histogram(samples) => samples.len() * (24 + size_of::<FloatHistogram>()),
        };
        let count = chunks.sealed.len() + usize::from(!matches!(chunks.open, Open::Empty));
        (count, size_of::<MemSeries>() + 16 + list + samples + open)
    }
}

fn fill_histograms(samples: &[(i64, Arc<FloatHistogram>)], min_t: i64, max_t: i64, into: &mut SampleBuffer) {
    let start = samples.partition_point(|(t, _)| *t < min_t);
    for (t, histogram) in samples.get(start..).unwrap_or_default() {
        if *t > max_t {
            break;
        }
        into.push_histogram(*t, histogram.clone());
    }
}

impl Chunks {
    fn last_t(&self) -> Option<i64> {
        match &self.open {
            Open::Empty => None,
            Open::Float(open) => open.last().map(|(t, _)| t),
            Open::Histogram(samples) => samples.last().map(|(t, _)| *t),
        }
    }

    fn range(&self) -> Option<(i64, i64)> {
        let first = self.sealed.first().map(|chunk| chunk.min_t);
        let open = self.last_t().map(|last| (self.open_min_t, last));
        let last = open.map(|(_, last)| last).or(self.sealed.last().map(|chunk| chunk.max_t));
        first.or(open.map(|(first, _)| first)).zip(last)
    }

    fn check(&self, t: i64, same: impl FnOnce(Option<f64>) -> bool) -> Result<Taken, Refused> {
        let last_t = self.last_t().or(self.sealed.last().map(|chunk| chunk.max_t));
        match last_t {
            Some(last) if t < last => Err(Refused::OutOfOrder),
            Some(last) if t == last => {
                let value = match &self.open {
                    Open::Float(open) => open.last().map(|(_, v)| v),
                    _ => None,
                };
                if same(value) { Ok(Taken::Already) } else { Err(Refused::Duplicate) }
            }
            _ => Ok(Taken::New),
        }
    }

    fn seal(&mut self) {
        match std::mem::replace(&mut self.open, Open::Empty) {
            Open::Float(open) => {
                let Some((max_t, _)) = open.last() else { return };
                self.sealed.reserve_exact(1);
                let (min_t, data) = (self.open_min_t, open.finish());
                self.sealed.push(Sealed { min_t, max_t, encoding: encoding::XOR, data });
            }
            Open::Histogram(samples) => {
                let encoded = chunks::histogram::encode(&samples);
                self.sealed.reserve_exact(encoded.len());
                for RawChunk { min_t, max_t, encoding, data } in encoded {
                    let data = data.to_vec().into_boxed_slice();
                    self.sealed.push(Sealed { min_t, max_t, encoding, data });
                }
            }
            Open::Empty => {}
        }
    }

    fn begin(&mut self, t: i64, chunk_range: i64) {
        self.open_min_t = t;
        self.next_at =
            (t.div_euclid(chunk_range.max(1))).saturating_add(1).saturating_mul(chunk_range.max(1));
    }

    fn append(&mut self, t: i64, v: f64, chunk_range: i64) {
        if let Open::Float(open) = &mut self.open {
            let count = open.count();
            if count == PREDICT_AT {
                self.next_at =
                    chunk_end(self.open_min_t, open.last().map_or(t, |(last, _)| last), self.next_at);
            }
            if t < self.next_at && count < 2 * TARGET_SAMPLES && open.append(t, v) {
                return;
            }
        }
        self.seal();
        self.begin(t, chunk_range);
        let mut open = XorAppender::new();
        open.append(t, v);
        self.open = Open::Float(open);
    }

    fn append_histogram(&mut self, t: i64, histogram: Arc<FloatHistogram>, chunk_range: i64) {
        if let Open::Histogram(samples) = &mut self.open
            && t < self.next_at
            && samples.len() < usize::from(TARGET_SAMPLES)
        {
            samples.push((t, histogram));
            return;
        }
        self.seal();
        self.begin(t, chunk_range);
        self.open = Open::Histogram(vec![(t, histogram)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: i64 = 7_200_000;

    #[test]
    fn chunks_of_a_range_are_about_equal() {
        let series = MemSeries::new(1);
        for n in 0..1000 {
            assert_eq!(series.append(n * 15_000, n as f64, RANGE), Ok(Taken::New));
        }
        let mut sizes = Vec::new();
        let chunks = series.chunks.lock();
        sizes.extend(chunks.sealed.iter().map(|chunk| (chunk.max_t - chunk.min_t) / 15_000 + 1));
        sizes.extend(chunks.last_t().map(|last| (last - chunks.open_min_t) / 15_000 + 1));
        drop(chunks);
        assert_eq!(sizes.iter().sum::<i64>(), 1000);
        assert!(sizes[..4].iter().all(|size| (110..=130).contains(size)), "{sizes:?}");
        let mut buffer = SampleBuffer::default();
        series.fill(300_000, 4_500_000, &mut buffer).unwrap();
        assert_eq!(buffer.values, (20..=300).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn order_and_duplicates_as_prometheus_has_them() {
        let series = MemSeries::new(1);
        assert_eq!(series.append(10, 1.0, RANGE), Ok(Taken::New));
        assert_eq!(series.append(10, 1.0, RANGE), Ok(Taken::Already));
        assert_eq!(series.append(10, 2.0, RANGE), Err(Refused::Duplicate));
        assert_eq!(series.append(9, 1.0, RANGE), Err(Refused::OutOfOrder));
    }

    #[test]
    fn old_chunks_go_and_the_series_with_the_last() {
        let series = MemSeries::new(1);
        for n in 0..500 {
            series.append(n * 60_000, 1.0, RANGE).unwrap();
        }
        let (removed, gone) = series.truncate(3 * RANGE);
        assert!(removed >= 3 && !gone);
        assert_eq!(series.range().unwrap().0, 3 * RANGE);
        assert!(series.truncate(i64::MAX).1);
        series.check_and_hold(1, 1.0).unwrap();
        assert!(!series.truncate(i64::MAX).1, "a series with a pending sample stays");
    }
}
