//! Chunks of native histograms: integer counts are read, float counts are read and written; format in
//! `docs/chunk-histogram.md`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use gantry_prom_model::{CounterResetHint, FloatHistogram, SampleBuffer, Span, is_stale_nan};

use super::encoding;
use super::varbit::{get_int, get_uint, put_int, put_uint};
use super::xor::{XorReader, XorWriter};
use crate::bits::{BitReader, BitWriter};
use crate::block::RawChunk;

const CUSTOM_SCHEMA: i32 = gantry_prom_model::CUSTOM_BUCKETS_SCHEMA;
/// Samples a chunk holds at most.
const MAX_SAMPLES: usize = 120;
/// Numbers a chunk holds at most, about: many buckets make short chunks.
const MAX_NUMBERS: usize = 4096;
/// A chunk that claims more buckets than this is damaged.
const MAX_BUCKETS: u64 = 1 << 16;

mod header {
    pub(super) const MASK: u8 = 0b1100_0000;
    pub(super) const RESET: u8 = 0b1000_0000;
    pub(super) const NOT_RESET: u8 = 0b0100_0000;
    pub(super) const GAUGE: u8 = 0b1100_0000;
}

type Sample = (i64, Arc<FloatHistogram>);

// === layout ===

fn indices(spans: &[Span]) -> impl Iterator<Item = i32> {
    let mut at = 0i32;
    spans.iter().flat_map(move |span| {
        at = at.saturating_add(span.offset);
        let start = at;
        at = at.saturating_add(i32::try_from(span.length).unwrap_or(i32::MAX));
        start..at
    })
}

fn spans(indices: &BTreeSet<i32>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0;
    for index in indices {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: index.saturating_sub(next), length: 1 }),
        }
        next = index.saturating_add(1);
    }
    spans
}

/// The counts of `buckets` (which lie at `from`) at the places of `layout`.
fn spread(from: &[Span], buckets: &[f64], layout: &BTreeSet<i32>) -> Vec<f64> {
    let mut have = indices(from).zip(buckets.iter().copied()).peekable();
    layout
        .iter()
        .map(|index| {
            while have.next_if(|(found, _)| found < index).is_some() {}
            have.next_if(|(found, _)| found == index).map_or(0.0, |(_, count)| count)
        })
        .collect()
}

fn put_zero_threshold(out: &mut BitWriter, threshold: f64) {
    if threshold == 0.0 {
        return out.write_byte(0);
    }
    // A power of two, which most are, is its exponent.
    let bits = threshold.to_bits();
    let exponent = (bits >> 52) as i64 - 1022;
    if bits & ((1 << 52) - 1) == 0 && (-242..=11).contains(&exponent) {
        return out.write_byte((exponent + 243) as u8);
    }
    out.write_byte(255);
    out.write_bits(bits, 64);
}

fn get_zero_threshold(input: &mut BitReader<'_>) -> Option<f64> {
    Some(match input.read_bits(8)? {
        0 => 0.0,
        255 => f64::from_bits(input.read_bits(64)?),
        exponent => f64::exp2(exponent as f64 - 244.0),
    })
}

fn put_spans(out: &mut BitWriter, spans: &[Span]) {
    put_uint(out, spans.len() as u64);
    for span in spans {
        put_uint(out, u64::from(span.length));
        put_int(out, i64::from(span.offset));
    }
}

fn get_spans(input: &mut BitReader<'_>) -> Option<(Vec<Span>, usize)> {
    let count = get_uint(input).filter(|count| *count <= MAX_BUCKETS)?;
    let mut spans = Vec::new();
    let mut buckets = 0u64;
    for _ in 0..count {
        let length = u32::try_from(get_uint(input)?).ok()?;
        buckets += u64::from(length);
        spans.push(Span { offset: i32::try_from(get_int(input)?).ok()?, length });
    }
    (buckets <= MAX_BUCKETS).then_some((spans, buckets as usize))
}

fn put_custom_bound(out: &mut BitWriter, bound: f64) {
    let thousandths = bound * 1000.0;
    if (0.0..=33_554_430.0).contains(&thousandths) && thousandths.round() / 1000.0 == bound {
        return put_uint(out, thousandths.round() as u64 + 1);
    }
    out.write_bit(false);
    out.write_bits(bound.to_bits(), 64);
}

fn get_custom_bounds(input: &mut BitReader<'_>) -> Option<Vec<f64>> {
    let count = get_uint(input).filter(|count| *count <= MAX_BUCKETS)?;
    let mut bounds = Vec::new();
    for _ in 0..count {
        bounds.push(match get_uint(input)? {
            0 => f64::from_bits(input.read_bits(64)?),
            more => (more - 1) as f64 / 1000.0,
        });
    }
    Some(bounds)
}

// === encoding ===

/// Samples that share a chunk.
struct Group<'s> {
    samples: Vec<&'s Sample>,
    header: u8,
    positive: BTreeSet<i32>,
    negative: BTreeSet<i32>,
}

impl<'s> Group<'s> {
    fn new(sample: &'s Sample, is_reset: bool) -> Group<'s> {
        let header = match sample.1.counter_reset_hint {
            CounterResetHint::Gauge => header::GAUGE,
            CounterResetHint::NotReset if !is_reset => header::NOT_RESET,
            CounterResetHint::Unknown if !is_reset => 0,
            _ => header::RESET,
        };
        let mut group =
            Group { samples: Vec::new(), header, positive: BTreeSet::new(), negative: BTreeSet::new() };
        group.add(sample);
        group
    }

    fn add(&mut self, sample: &'s Sample) {
        if !sample.1.is_stale() {
            self.positive.extend(indices(&sample.1.positive_spans));
            self.negative.extend(indices(&sample.1.negative_spans));
        }
        self.samples.push(sample);
    }

    fn numbers(&self) -> usize {
        self.samples.len() * (4 + self.positive.len() + self.negative.len())
    }

    fn encode(&self) -> Option<RawChunk> {
        let (first, last) = (self.samples.first()?, self.samples.last()?);
        let mut out = BitWriter::from_bytes((self.samples.len() as u16).to_be_bytes().to_vec());
        out.write_byte(self.header);
        let empty = FloatHistogram::default();
        let shape = if first.1.is_stale() { &empty } else { first.1.as_ref() };
        put_zero_threshold(&mut out, shape.zero_threshold);
        put_int(&mut out, i64::from(shape.schema));
        put_spans(&mut out, &spans(&self.positive));
        put_spans(&mut out, &spans(&self.negative));
        if shape.schema == CUSTOM_SCHEMA {
            put_uint(&mut out, shape.custom_values.len() as u64);
            shape.custom_values.iter().for_each(|bound| put_custom_bound(&mut out, *bound));
        }
        let buckets = self.positive.len() + self.negative.len();
        // Count, zero count, sum, and the buckets, each with a window of its own.
        let mut columns = vec![XorWriter::default(); 3 + buckets];
        let (mut last_t, mut last_delta) = (0i64, 0i64);
        for (index, (t, histogram)) in self.samples.iter().map(|sample| (sample.0, &sample.1)).enumerate() {
            if index == 0 {
                put_int(&mut out, t);
            } else {
                let delta = t.wrapping_sub(last_t);
                put_int(&mut out, delta.wrapping_sub(last_delta));
                last_delta = delta;
            }
            last_t = t;
            let stale = histogram.is_stale();
            let mut numbers = if stale {
                vec![0.0, 0.0, histogram.sum]
            } else {
                vec![histogram.count, histogram.zero_count, histogram.sum]
            };
            if !stale {
                let sides = [
                    (&histogram.positive_spans, &histogram.positive_buckets, &self.positive),
                    (&histogram.negative_spans, &histogram.negative_buckets, &self.negative),
                ];
                for (from, counts, layout) in sides {
                    numbers.extend(spread(from, counts, layout));
                }
            }
            for (column, number) in columns.iter_mut().zip(numbers) {
                if index == 0 { column.first(&mut out, number) } else { column.next(&mut out, number) }
            }
        }
        let data = Bytes::from(out.into_boxed());
        Some(RawChunk { min_t: first.0, max_t: last.0, encoding: encoding::FLOAT_HISTOGRAM, data })
    }
}

fn same_shape(left: &FloatHistogram, right: &FloatHistogram) -> bool {
    let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset_hint == CounterResetHint::Gauge;
    left.schema == right.schema
        && left.zero_threshold == right.zero_threshold
        && left.custom_values == right.custom_values
        && is_gauge(left) == is_gauge(right)
}

/// Encodes histograms of rising times. A chunk ends where counts start again, where the buckets' bounds change, behind
/// a stale marker, and when it is full.
pub fn encode(samples: &[(i64, Arc<FloatHistogram>)]) -> Vec<RawChunk> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut before: Option<&FloatHistogram> = None;
    for sample in samples {
        let histogram = sample.1.as_ref();
        let is_gauge = histogram.counter_reset_hint == CounterResetHint::Gauge;
        let is_reset = !is_gauge
            && !histogram.is_stale()
            && before.is_some_and(|before| !before.is_stale() && histogram.is_reset_after(before));
        let goes_on = !is_reset
            && before.is_some_and(|before| {
                (histogram.is_stale() || same_shape(before, histogram))
                    && (!before.is_stale() || histogram.is_stale())
            });
        match groups.last_mut() {
            Some(group) if goes_on && group.samples.len() < MAX_SAMPLES && group.numbers() < MAX_NUMBERS => {
                group.add(sample);
            }
            _ => groups.push(Group::new(sample, is_reset)),
        }
        before = Some(histogram);
    }
    groups.iter().filter_map(Group::encode).collect()
}

// === decoding ===

/// The numbers of an integer column: each is the difference to the one before, as a difference.
#[derive(Debug, Clone, Copy, Default)]
struct Differences {
    value: i64,
    delta: i64,
}

impl Differences {
    fn next(&mut self, input: &mut BitReader<'_>) -> Option<()> {
        self.delta = self.delta.wrapping_add(get_int(input)?);
        self.value = self.value.wrapping_add(self.delta);
        Some(())
    }
}

enum Columns {
    Integer { count: Differences, zero_count: Differences, sum: XorReader, buckets: Vec<Differences> },
    Float { columns: Vec<XorReader> },
}

struct Decoder<'a> {
    input: BitReader<'a>,
    shape: FloatHistogram,
    positive_len: usize,
    time: Differences,
    columns: Columns,
}

impl<'a> Decoder<'a> {
    fn new(data: &'a [u8], float: bool) -> Option<Decoder<'a>> {
        let mut input = BitReader::new(data.get(3..)?);
        let zero_threshold = get_zero_threshold(&mut input)?;
        let schema = i32::try_from(get_int(&mut input)?).ok()?;
        let (positive_spans, positive_len) = get_spans(&mut input)?;
        let (negative_spans, negative_len) = get_spans(&mut input)?;
        let custom_values = if schema == CUSTOM_SCHEMA { get_custom_bounds(&mut input)? } else { Vec::new() };
        let shape = FloatHistogram {
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_values: custom_values.into(),
            ..FloatHistogram::default()
        };
        let buckets = positive_len + negative_len;
        let columns = if float {
            Columns::Float { columns: vec![XorReader::default(); 3 + buckets] }
        } else {
            Columns::Integer {
                count: Differences::default(),
                zero_count: Differences::default(),
                sum: XorReader::default(),
                buckets: vec![Differences::default(); buckets],
            }
        };
        Some(Decoder { input, shape, positive_len, time: Differences::default(), columns })
    }

    fn next(&mut self, is_first: bool) -> Option<(i64, FloatHistogram)> {
        let input = &mut self.input;
        if is_first {
            self.time.value = get_int(input)?;
        } else {
            self.time.next(input)?;
        }
        let mut found = self.shape.clone();
        let counts: Vec<f64> = match &mut self.columns {
            Columns::Float { columns } => {
                let mut numbers = Vec::with_capacity(columns.len());
                for (index, column) in columns.iter_mut().enumerate() {
                    let number = if is_first { column.first(input)? } else { column.next(input)? };
                    numbers.push(number);
                    if index == 2 && is_stale_nan(number) {
                        return Some((self.time.value, stale(number)));
                    }
                }
                let counts = numbers.split_off(3);
                let [count, zero_count, sum] = numbers[..] else { return None };
                (found.count, found.zero_count, found.sum) = (count, zero_count, sum);
                counts
            }
            Columns::Integer { count, zero_count, sum, buckets } => {
                if is_first {
                    count.value = get_uint(input)? as i64;
                    zero_count.value = get_uint(input)? as i64;
                    found.sum = sum.first(input)?;
                } else {
                    count.next(input)?;
                    zero_count.next(input)?;
                    found.sum = sum.next(input)?;
                }
                if is_stale_nan(found.sum) {
                    return Some((self.time.value, stale(found.sum)));
                }
                for bucket in buckets.iter_mut() {
                    if is_first {
                        bucket.value = get_int(input)?;
                    } else {
                        bucket.next(input)?;
                    }
                }
                (found.count, found.zero_count) = (count.value as u64 as f64, zero_count.value as u64 as f64);
                // Each bucket is written as the difference to the one below it, on each side anew.
                let absolute = |side: &[Differences]| -> Vec<f64> {
                    let counts = side.iter().scan(0i64, |count, bucket| {
                        *count = count.wrapping_add(bucket.value);
                        Some(*count as f64)
                    });
                    counts.collect()
                };
                let (positive, negative) = buckets.split_at_checked(self.positive_len)?;
                let mut counts = absolute(positive);
                counts.extend(absolute(negative));
                counts
            }
        };
        let (positive, negative) = counts.split_at_checked(self.positive_len)?;
        found.positive_buckets = positive.to_vec();
        found.negative_buckets = negative.to_vec();
        Some((self.time.value, found))
    }
}

fn stale(sum: f64) -> FloatHistogram {
    FloatHistogram { sum, ..FloatHistogram::default() }
}

/// Appends the histograms with `min_t <= t <= max_t` to `into`.
///
/// # Errors
/// When the chunk is damaged.
pub fn decode(
    data: &[u8],
    float: bool,
    min_t: i64,
    max_t: i64,
    into: &mut SampleBuffer,
) -> Result<(), String> {
    const DAMAGED: &str = "a chunk of histograms ends early or holds an impossible number";
    let Some((head, _)) = data.split_first_chunk::<3>() else { return Err(DAMAGED.into()) };
    let total = u16::from_be_bytes([head[0], head[1]]);
    if total == 0 {
        return Ok(());
    }
    let mut decoder = Decoder::new(data, float).ok_or(DAMAGED)?;
    for read in 0..total {
        let (t, mut histogram) = decoder.next(read == 0).ok_or(DAMAGED)?;
        if t > max_t {
            break;
        }
        histogram.counter_reset_hint = match (head[2] & header::MASK, read) {
            (header::GAUGE, _) => CounterResetHint::Gauge,
            (_, 1..) => CounterResetHint::NotReset,
            (header::RESET, _) => CounterResetHint::Reset,
            (header::NOT_RESET, _) => CounterResetHint::NotReset,
            _ => CounterResetHint::Unknown,
        };
        if t >= min_t {
            into.push_histogram(t, Arc::new(histogram));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(t: i64, counts: &[(i32, f64)], sum: f64) -> Sample {
        let places: BTreeSet<i32> = counts.iter().map(|(index, _)| *index).collect();
        let histogram = FloatHistogram {
            schema: 3,
            zero_threshold: 2f64.powi(-128),
            zero_count: 2.0,
            count: counts.iter().map(|(_, count)| count).sum::<f64>() + 2.0,
            sum,
            positive_spans: spans(&places),
            positive_buckets: counts.iter().map(|(_, count)| *count).collect(),
            ..FloatHistogram::default()
        };
        (t, Arc::new(histogram))
    }

    fn decoded(chunks: &[RawChunk]) -> SampleBuffer {
        let mut buffer = SampleBuffer::default();
        for chunk in chunks {
            super::super::decode(chunk.encoding, &chunk.data, i64::MIN, i64::MAX, &mut buffer).unwrap();
        }
        buffer
    }

    #[test]
    fn growing_buckets_share_a_chunk_and_resets_end_it() {
        let mut samples = Vec::new();
        for n in 0..40 {
            let mut counts = vec![(-3, n as f64), (5, 2.0 * n as f64)];
            if n > 10 {
                counts.insert(1, (0, n as f64 - 10.0));
            }
            samples.push(sample(1000 + n * 15_000, &counts, n as f64 * 1.5));
        }
        samples.push(sample(700_000, &[(-3, 1.0)], 0.5));
        samples.push((715_000, Arc::new(stale(gantry_prom_model::stale_nan()))));
        samples.push(sample(730_000, &[(-3, 4.0)], 0.5));
        let chunks = encode(&samples);
        assert_eq!(chunks.iter().map(RawChunk::samples).collect::<Vec<_>>(), [40, 2, 1]);
        let buffer = decoded(&chunks);
        assert_eq!(buffer.histogram_timestamps, samples.iter().map(|(t, _)| *t).collect::<Vec<_>>());
        for (found, (t, wanted)) in buffer.histograms.iter().zip(&samples) {
            let mut compact = (**found).clone();
            compact.compact();
            let mut wanted = (**wanted).clone();
            wanted.compact();
            assert!(compact.same_as(&wanted) || (found.is_stale() && wanted.is_stale()), "at {t}: {found}");
        }
        assert_eq!(buffer.histograms[40].counter_reset_hint, CounterResetHint::Reset);
        assert_eq!(buffer.histograms[1].counter_reset_hint, CounterResetHint::NotReset);
    }

    #[test]
    fn thresholds_and_bounds() {
        let mut out = BitWriter::default();
        let numbers = [0.0, 1e-3, 2f64.powi(-128), 1.0, 2f64.powi(10), 2f64.powi(-300), 0.3];
        numbers.iter().for_each(|number| put_zero_threshold(&mut out, *number));
        put_uint(&mut out, numbers.len() as u64);
        numbers.iter().for_each(|number| put_custom_bound(&mut out, *number));
        let mut input = BitReader::new(out.bytes());
        for number in numbers {
            assert_eq!(get_zero_threshold(&mut input), Some(number));
        }
        assert_eq!(get_custom_bounds(&mut input).unwrap(), numbers);
    }

    #[test]
    fn garbage_is_an_error() {
        let chunk = encode(&[sample(5, &[(1, 2.0)], 1.0), sample(6, &[(1, 3.0)], 2.0)]).remove(0);
        for cut in 0..chunk.data.len() {
            let mut buffer = SampleBuffer::default();
            let outcome = decode(&chunk.data[..cut], true, 0, 100, &mut buffer);
            assert!(outcome.is_err(), "cut at {cut}");
        }
        for seed in 0..2000u64 {
            let mut bytes = chunk.data.to_vec();
            let state = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] ^= (state >> 20) as u8 | 1;
            let _ = decode(&bytes, seed % 2 == 0, 0, 100, &mut SampleBuffer::default());
        }
    }
}
