//! Chunks as the StoreAPI hands them out: raw, or five aggregates of a downsampled one.

use bytes::{BufMut, Bytes, BytesMut};
use gantry_tsdb::block::RawChunk;
use gantry_tsdb::chunks::encoding;

/// What a downsampled chunk has of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aggregate {
    /// Number of samples.
    Count,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The value of a counter without its resets.
    Counter,
}

impl Aggregate {
    /// In the order of the encoding.
    pub const ALL: [Aggregate; 5] =
        [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max, Aggregate::Counter];
}

/// Encoded samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChunk {
    /// The encoding as blocks name it.
    pub encoding: u8,
    /// The samples.
    pub data: Bytes,
}

impl EncodedChunk {
    /// What tells whether two chunks are the same.
    pub fn hash(&self) -> u64 {
        xxhash_rust::xxh64::xxh64(&self.data, 0)
    }
}

/// Samples of a time range, raw or aggregated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggrChunk {
    /// First time.
    pub min_t: i64,
    /// Last time.
    pub max_t: i64,
    /// The samples, of a raw chunk.
    pub raw: Option<EncodedChunk>,
    /// By [`Aggregate`], of a downsampled chunk.
    pub aggregates: [Option<EncodedChunk>; 5],
}

impl AggrChunk {
    /// A raw chunk.
    pub fn raw(min_t: i64, max_t: i64, encoding: u8, data: Bytes) -> AggrChunk {
        AggrChunk { min_t, max_t, raw: Some(EncodedChunk { encoding, data }), aggregates: Default::default() }
    }

    /// One aggregate.
    pub fn get(&self, aggregate: Aggregate) -> Option<&EncodedChunk> {
        self.aggregates.get(aggregate as usize)?.as_ref()
    }

    /// All parts, the raw one first.
    pub fn parts(&self) -> impl Iterator<Item = &EncodedChunk> {
        self.raw.iter().chain(self.aggregates.iter().flatten())
    }

    /// A chunk of a block: of a downsampled one only the aggregates that are wanted, all when none is named.
    ///
    /// # Errors
    /// When a downsampled chunk is damaged.
    pub fn from_block(chunk: RawChunk, wanted: &[Aggregate]) -> Result<AggrChunk, String> {
        if chunk.encoding != encoding::AGGREGATES {
            return Ok(AggrChunk::raw(chunk.min_t, chunk.max_t, chunk.encoding, chunk.data));
        }
        let mut aggregates = split(&chunk.data)?;
        for aggregate in Aggregate::ALL {
            if !wanted.is_empty() && !wanted.contains(&aggregate) {
                aggregates[aggregate as usize] = None;
            }
        }
        Ok(AggrChunk { min_t: chunk.min_t, max_t: chunk.max_t, raw: None, aggregates })
    }

    /// As a block holds it; `None` when it has neither samples nor aggregates.
    pub fn into_block(self) -> Option<RawChunk> {
        let (min_t, max_t) = (self.min_t, self.max_t);
        match self.raw {
            Some(EncodedChunk { encoding, data }) => Some(RawChunk { min_t, max_t, encoding, data }),
            None if self.aggregates.iter().all(Option::is_none) => None,
            None => {
                let data = join(&self.aggregates);
                Some(RawChunk { min_t, max_t, encoding: encoding::AGGREGATES, data })
            }
        }
    }
}

/// Takes a downsampled chunk apart: of each aggregate the length of its data, and if that is not 0 the encoding and
/// the data.
fn split(data: &Bytes) -> Result<[Option<EncodedChunk>; 5], String> {
    const DAMAGED: &str = "a downsampled chunk ends early";
    let mut found: [Option<EncodedChunk>; 5] = Default::default();
    let mut at = 0;
    for part in &mut found {
        let mut len = 0usize;
        for shift in (0..).step_by(7) {
            let byte = *data.get(at).ok_or(DAMAGED)?;
            if shift > 28 {
                return Err("a downsampled chunk holds an impossible length".into());
            }
            at += 1;
            len |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        if len == 0 {
            continue;
        }
        let encoding = *data.get(at).ok_or(DAMAGED)?;
        let end = at + 1 + len;
        if end > data.len() {
            return Err(DAMAGED.into());
        }
        *part = Some(EncodedChunk { encoding, data: data.slice(at + 1..end) });
        at = end;
    }
    Ok(found)
}

fn join(aggregates: &[Option<EncodedChunk>; 5]) -> Bytes {
    let mut out = BytesMut::new();
    for part in aggregates {
        let mut len = part.as_ref().map_or(0, |part| part.data.len());
        while len >= 0x80 {
            out.put_u8(len as u8 | 0x80);
            len >>= 7;
        }
        out.put_u8(len as u8);
        if let Some(part) = part.as_ref().filter(|part| !part.data.is_empty()) {
            out.put_u8(part.encoding);
            out.extend_from_slice(&part.data);
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregates_come_apart_and_together() {
        let mut chunk = AggrChunk { min_t: 1, max_t: 2, raw: None, aggregates: Default::default() };
        chunk.aggregates[0] = Some(EncodedChunk { encoding: 1, data: Bytes::from(vec![7; 300]) });
        chunk.aggregates[4] = Some(EncodedChunk { encoding: 3, data: Bytes::from_static(b"xyz") });
        let block = chunk.clone().into_block().unwrap();
        assert_eq!(block.encoding, 0xff);
        assert_eq!(AggrChunk::from_block(block.clone(), &[]).unwrap(), chunk);
        let counter = AggrChunk::from_block(block.clone(), &[Aggregate::Counter]).unwrap();
        assert!(counter.get(Aggregate::Count).is_none() && counter.get(Aggregate::Counter).is_some());
        for cut in 0..block.data.len() {
            let torn = RawChunk { data: block.data.slice(..cut), ..block.clone() };
            assert!(AggrChunk::from_block(torn, &[]).is_err(), "cut at {cut}");
        }
    }
}
