//! Chunks: up to a few hundred samples of one series, encoded.

pub mod histogram;
mod varbit;
pub mod xor;

use bytes::Bytes;
use gantry_prom_model::SampleBuffer;

use crate::block::RawChunk;

/// The byte that names an encoding in a block.
pub mod encoding {
    /// Floats, see `docs/chunk-xor.md`.
    pub const XOR: u8 = 1;
    /// Histograms with integer counts, see `docs/chunk-histogram.md`.
    pub const HISTOGRAM: u8 = 2;
    /// Histograms with float counts.
    pub const FLOAT_HISTOGRAM: u8 = 3;
    /// Five chunks of aggregates, as Thanos downsamples.
    pub const AGGREGATES: u8 = 0xff;
}

/// Appends the samples with `min_t <= t <= max_t` to `into`.
///
/// # Errors
/// What is wrong with the chunk, when it is damaged or its encoding is not one we read.
pub fn decode(
    encoding: u8,
    data: &[u8],
    min_t: i64,
    max_t: i64,
    into: &mut SampleBuffer,
) -> Result<(), String> {
    match encoding {
        encoding::XOR => {
            let mut samples = xor::XorIter::new(data);
            for (t, v) in samples.by_ref() {
                if t > max_t {
                    return Ok(());
                }
                if t >= min_t {
                    into.push(t, v);
                }
            }
            if samples.is_torn() { Err("a chunk ends early".into()) } else { Ok(()) }
        }
        encoding::HISTOGRAM => histogram::decode(data, false, min_t, max_t, into),
        encoding::FLOAT_HISTOGRAM => histogram::decode(data, true, min_t, max_t, into),
        encoding::AGGREGATES => {
            Err("a downsampled chunk is read by the aggregate that is wanted of it".into())
        }
        other => Err(format!("chunk encoding {other} is not read; 1 (floats), 2 and 3 (histograms) are")),
    }
}

/// Samples a chunk of floats is meant to hold.
const TARGET_SAMPLES: u16 = 120;

/// Encodes samples; at every change between floats and histograms, and every 120 samples, a new chunk begins.
pub fn encode(samples: &SampleBuffer) -> Vec<RawChunk> {
    let mut chunks = Vec::new();
    let mut floats = samples.timestamps.iter().copied().zip(samples.values.iter().copied()).peekable();
    let mut histograms =
        samples.histogram_timestamps.iter().copied().zip(samples.histograms.iter().cloned()).peekable();
    loop {
        let float_at = floats.peek().map(|(t, _)| *t);
        let histogram_at = histograms.peek().map(|(t, _)| *t);
        match (float_at, histogram_at) {
            (None, None) => return chunks,
            (Some(float_at), other) if other.is_none_or(|other| float_at <= other) => {
                let mut open = xor::XorAppender::new();
                while let Some((t, v)) = floats
                    .next_if(|(t, _)| other.is_none_or(|other| *t <= other) && open.count() < TARGET_SAMPLES)
                {
                    open.append(t, v);
                }
                let max_t = open.last().map_or(float_at, |(t, _)| t);
                let data = Bytes::from(open.finish());
                chunks.push(RawChunk { min_t: float_at, max_t, encoding: encoding::XOR, data });
            }
            _ => {
                let mut run = Vec::new();
                while let Some(sample) =
                    histograms.next_if(|(t, _)| float_at.is_none_or(|float_at| *t < float_at))
                {
                    run.push(sample);
                }
                chunks.extend(histogram::encode(&run));
            }
        }
    }
}

/// The chunk without the samples in the `deleted` ranges, which are rising; nothing when none is left.
pub(crate) fn without(chunk: RawChunk, deleted: &[(i64, i64)]) -> Result<Vec<RawChunk>, String> {
    if !deleted.iter().any(|(min, max)| *min <= chunk.max_t && chunk.min_t <= *max) {
        return Ok(vec![chunk]);
    }
    let mut samples = SampleBuffer::default();
    let mut from = i64::MIN;
    for (min, max) in deleted {
        if let Some(to) = min.checked_sub(1).filter(|to| *to >= from) {
            decode(chunk.encoding, &chunk.data, from, to, &mut samples)?;
        }
        let Some(next) = max.checked_add(1) else { return Ok(encode(&samples)) };
        from = next;
    }
    decode(chunk.encoding, &chunk.data, from, i64::MAX, &mut samples)?;
    Ok(encode(&samples))
}

/// The part of a chunk with `min_t <= t <= max_t`; nothing when there is none.
pub(crate) fn clip(chunk: RawChunk, min_t: i64, max_t: i64) -> Result<Vec<RawChunk>, String> {
    if min_t <= chunk.min_t && chunk.max_t <= max_t {
        return Ok(vec![chunk]);
    }
    let mut samples = SampleBuffer::default();
    decode(chunk.encoding, &chunk.data, min_t, max_t, &mut samples)?;
    Ok(encode(&samples))
}
