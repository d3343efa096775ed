//! Objects read by range: an index in pages, chunks as long as they are, both through the cache.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gantry_tsdb::block::{BlockError, ReadAt, coalesce, cut_out};

use crate::bucket::{Bucket, BucketError};
use crate::cache::RangeCache;

/// An index is fetched in pieces of this many bytes.
const PAGE_BYTES: u64 = 64 * 1024;
/// What a request costs is worth this many bytes of transfer.
const GAP_BYTES: u64 = 256 * 1024;

/// An object that never changes.
#[derive(Debug)]
pub(crate) struct ObjectSource {
    bucket: Bucket,
    name: Arc<str>,
    size: u64,
    cache: Arc<RangeCache>,
    paged: bool,
}

impl ObjectSource {
    /// An index: neighbouring reads are likely, so whole pages are fetched.
    pub(crate) fn index(bucket: Bucket, name: &str, size: u64, cache: Arc<RangeCache>) -> ObjectSource {
        ObjectSource { bucket, name: Arc::from(name), size, cache, paged: true }
    }

    /// A segment of chunks: what is asked for is fetched.
    pub(crate) fn segment(bucket: Bucket, name: &str, size: u64, cache: Arc<RangeCache>) -> ObjectSource {
        ObjectSource { bucket, name: Arc::from(name), size, cache, paged: false }
    }

    fn failed(&self, error: BucketError) -> BlockError {
        BlockError::Fetch { name: self.name.to_string(), reason: error.to_string() }
    }

    /// Fetches the ranges that are not in the cache with one wave of requests.
    fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BlockError> {
        let mut found: Vec<Option<Bytes>> = ranges
            .iter()
            .map(|range| self.cache.get(&self.name, range.start, range.end - range.start))
            .collect();
        let missing: Vec<usize> = (0..ranges.len()).filter(|index| found[*index].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<Range<u64>> = missing.iter().map(|index| ranges[*index].clone()).collect();
            let (joined, places) = coalesce(&wanted, GAP_BYTES);
            let bytes =
                self.bucket.get_ranges(&self.name, joined.clone()).map_err(|error| self.failed(error))?;
            for (index, bytes) in missing.into_iter().zip(cut_out(&wanted, &joined, &places, &bytes)) {
                let range = &ranges[index];
                self.cache.put(&self.name, range.start, range.end - range.start, &bytes);
                found[index] = Some(bytes);
            }
        }
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }

    fn read_pages(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BlockError> {
        let mut pages: Vec<u64> = ranges
            .iter()
            .flat_map(|range| range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES))
            .collect();
        pages.sort_unstable();
        pages.dedup();
        let wanted: Vec<Range<u64>> =
            pages.iter().map(|page| page * PAGE_BYTES..((page + 1) * PAGE_BYTES).min(self.size)).collect();
        let fetched = self.fetch(&wanted)?;
        Ok(ranges.iter().map(|range| piece(&pages, &fetched, range)).collect())
    }
}

/// The bytes of a range out of the pages that hold it.
fn piece(pages: &[u64], fetched: &[Bytes], range: &Range<u64>) -> Bytes {
    let first = pages.partition_point(|page| *page < range.start / PAGE_BYTES);
    let mut parts: Vec<Bytes> = Vec::new();
    for (page, bytes) in pages.iter().zip(fetched).skip(first) {
        let at = page * PAGE_BYTES;
        if at >= range.end {
            break;
        }
        let from = (range.start.saturating_sub(at) as usize).min(bytes.len());
        let to = ((range.end - at) as usize).min(bytes.len());
        parts.push(bytes.slice(from..to));
    }
    match parts.as_slice() {
        [only] => only.clone(),
        _ => {
            let mut whole = BytesMut::new();
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            whole.freeze()
        }
    }
}

impl ReadAt for ObjectSource {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BlockError> {
        let clipped: Vec<Range<u64>> = ranges
            .iter()
            .map(|range| range.start.min(self.size)..range.end.clamp(range.start.min(self.size), self.size))
            .collect();
        // An empty range must not become a request.
        let asked: Vec<Range<u64>> = clipped.iter().filter(|range| !range.is_empty()).cloned().collect();
        let read = if self.paged { self.read_pages(&asked)? } else { self.fetch(&asked)? };
        let mut read = read.into_iter();
        let mut take = |range: &Range<u64>| if range.is_empty() { Some(Bytes::new()) } else { read.next() };
        Ok(clipped.iter().map(|range| take(range).unwrap_or_default()).collect())
    }
}
