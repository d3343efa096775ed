//! Segment files of chunks (`docs/chunks.md`).

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::BlockError;
use super::meta::sync_dir;
use super::source::ReadAt;
use crate::codec::{Get, Put};

const MAGIC: u32 = 0x85BD_40DD;
const VERSION: u8 = 1;
const HEADER_BYTES: u64 = 8;
/// Bytes after which a new segment begins.
pub const SEGMENT_MAX_BYTES: u64 = 512 * 1024 * 1024;
/// A length of up to ten bytes, the encoding and the checksum around each chunk's data.
const AROUND_BYTES: u64 = 15;
/// Where the end of a chunk is not known, so many bytes are read.
const GUESS_BYTES: u64 = 1024 + AROUND_BYTES;

/// Writes chunks one after the other.
#[derive(Debug)]
pub struct ChunkWriter {
    dir: PathBuf,
    segment_bytes: u64,
    out: Option<(PathBuf, BufWriter<File>)>,
    /// Number of segments begun.
    segments: u64,
    position: u64,
    largest: u64,
}

impl ChunkWriter {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(dir: &Path, segment_bytes: u64) -> Result<ChunkWriter, BlockError> {
        fs::create_dir_all(dir).map_err(BlockError::io("create folder", dir))?;
        let segment_bytes = segment_bytes.clamp(64, SEGMENT_MAX_BYTES);
        Ok(ChunkWriter { dir: dir.into(), segment_bytes, out: None, segments: 0, position: 0, largest: 0 })
    }

    fn next_segment(&mut self) -> Result<(), BlockError> {
        self.end_segment()?;
        self.segments += 1;
        let path = self.dir.join(format!("{:06}", self.segments));
        let file = File::create(&path).map_err(BlockError::io("create", &path))?;
        let mut out = BufWriter::with_capacity(1 << 16, file);
        let mut header = MAGIC.to_be_bytes().to_vec();
        header.extend_from_slice(&[VERSION, 0, 0, 0]);
        out.write_all(&header).map_err(BlockError::io("write", &path))?;
        self.out = Some((path, out));
        self.position = HEADER_BYTES;
        Ok(())
    }

    fn end_segment(&mut self) -> Result<(), BlockError> {
        if let Some((path, mut out)) = self.out.take() {
            out.flush().map_err(BlockError::io("write", &path))?;
            out.get_ref().sync_all().map_err(BlockError::io("sync", &path))?;
        }
        Ok(())
    }

    /// Writes a chunk; hands out its reference.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, encoding: u8, data: &[u8]) -> Result<u64, BlockError> {
        let mut head = Vec::with_capacity(11);
        head.put_uvarint(data.len() as u64);
        head.put_u8(encoding);
        let total = (head.len() + data.len() + 4) as u64;
        if self.out.is_none() || self.position + total > self.segment_bytes.max(HEADER_BYTES + total) {
            self.next_segment()?;
        }
        let reference = (self.segments - 1) << 32 | self.position;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&[encoding]), data);
        if let Some((path, out)) = &mut self.out {
            for part in [head.as_slice(), data, &sum.to_be_bytes()] {
                out.write_all(part).map_err(BlockError::io("write", &*path))?;
            }
        }
        self.position += total;
        self.largest = self.largest.max(total);
        Ok(reference)
    }

    /// Bytes of the largest chunk so far, with what is around it.
    pub fn chunk_max_bytes(&self) -> u64 {
        self.largest
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// When the sync fails.
    pub fn finish(mut self) -> Result<(), BlockError> {
        self.end_segment()?;
        sync_dir(&self.dir)
    }
}

/// Reads chunks by reference.
#[derive(Debug)]
pub struct ChunkReader {
    segments: Vec<Arc<dyn ReadAt>>,
}

/// Where a chunk lies, and where it is known to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkPlace {
    pub(crate) reference: u64,
    /// A reference at or behind its end, if one is known.
    pub(crate) next: Option<u64>,
}

impl ChunkReader {
    /// Over the segments in order.
    ///
    /// # Errors
    /// When one does not begin as a segment does.
    pub fn new(segments: Vec<Arc<dyn ReadAt>>) -> Result<ChunkReader, BlockError> {
        for segment in &segments {
            let header = segment.read(0, HEADER_BYTES as usize)?;
            if header.get(..5) != Some(&[MAGIC.to_be_bytes().as_slice(), &[VERSION]].concat()) {
                return Err(BlockError::corrupt(segment.name(), 0, "not a chunk segment of version 1"));
            }
        }
        Ok(ChunkReader { segments })
    }

    /// Over the segments in order, without a look at them.
    pub(crate) fn unchecked(segments: Vec<Arc<dyn ReadAt>>) -> ChunkReader {
        ChunkReader { segments }
    }

    fn range(&self, place: &ChunkPlace) -> Result<(usize, Range<u64>), BlockError> {
        let segment = (place.reference >> 32) as usize;
        let start = place.reference & 0xffff_ffff;
        let source = self.segments.get(segment).ok_or_else(|| {
            let name = self.segments.first().map_or_else(|| "chunks".to_owned(), |first| first.name());
            BlockError::corrupt(name, 0, format!("a chunk is in segment {}, which is missing", segment + 1))
        })?;
        let end = match place.next {
            Some(next) if next >> 32 == place.reference >> 32 && next > place.reference => next & 0xffff_ffff,
            _ => start + GUESS_BYTES,
        };
        // A forged distance must not make us read a whole segment.
        let end = end.min(start + (1 << 20)).min(source.size());
        if start >= end {
            return Err(BlockError::corrupt(
                source.name(),
                start,
                "a chunk is behind the end of its segment",
            ));
        }
        Ok((segment, start..end))
    }

    /// The encoding and data of each chunk, in the order asked.
    pub(crate) fn read(&self, places: &[ChunkPlace]) -> Result<Vec<(u8, Bytes)>, BlockError> {
        let mut by_segment: Vec<(Vec<usize>, Vec<Range<u64>>)> =
            vec![Default::default(); self.segments.len()];
        for (index, place) in places.iter().enumerate() {
            let (segment, range) = self.range(place)?;
            by_segment[segment].0.push(index);
            by_segment[segment].1.push(range);
        }
        let mut found = vec![(0, Bytes::new()); places.len()];
        for (segment, (indices, ranges)) in self.segments.iter().zip(&by_segment) {
            if ranges.is_empty() {
                continue;
            }
            let bytes = segment.read_ranges(ranges)?;
            for ((index, range), bytes) in indices.iter().zip(ranges).zip(bytes) {
                found[*index] = self.parse(segment.as_ref(), range.start, bytes)?;
            }
        }
        Ok(found)
    }

    fn parse(&self, segment: &dyn ReadAt, at: u64, bytes: Bytes) -> Result<(u8, Bytes), BlockError> {
        let wrong = |reason: &str| BlockError::corrupt(segment.name(), at, reason);
        let mut bytes = bytes;
        for _ in 0..2 {
            let mut input = Get::new(&bytes);
            let len = input.uvarint().ok_or_else(|| wrong("a chunk ends early"))?;
            let head = (bytes.len() - input.rest.len()) as u64;
            let total = len.saturating_add(head + 5);
            if total > segment.size().saturating_sub(at) {
                return Err(wrong("a chunk reaches behind the end of its segment"));
            }
            let (head, total) = (head as usize, total as usize);
            if bytes.len() < total {
                bytes = segment.read(at, total)?;
                continue;
            }
            let body = &bytes[head..total];
            let Some((content, sum)) = body.split_last_chunk::<4>() else {
                return Err(wrong("a chunk ends early"));
            };
            if crc32c::crc32c(content) != u32::from_be_bytes(*sum) {
                return Err(wrong("the checksum of a chunk does not fit"));
            }
            return Ok((body[0], bytes.slice(head + 1..total - 4)));
        }
        Err(wrong("a chunk ends early"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::FileSource;
    use crate::block::segment_files;

    #[test]
    fn chunks_come_back_from_several_segments() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ChunkWriter::create(dir.path(), 4096).unwrap();
        let data: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; 20 + usize::from(n) * 60]).collect();
        let places: Vec<u64> = data.iter().map(|data| writer.write(1, data).unwrap()).collect();
        assert!(writer.chunk_max_bytes() > 2900);
        writer.finish().unwrap();
        let files = segment_files(dir.path()).unwrap();
        assert!(files.len() > 5);
        let segments = files.iter().map(|path| Arc::new(FileSource::open(path).unwrap()) as _).collect();
        let reader = ChunkReader::new(segments).unwrap();
        for next_known in [true, false] {
            let asked: Vec<ChunkPlace> = (0..places.len())
                .rev()
                .map(|index| ChunkPlace {
                    reference: places[index],
                    next: places.get(index + 1).copied().filter(|_| next_known),
                })
                .collect();
            let found = reader.read(&asked).unwrap();
            for (index, (encoding, bytes)) in found.iter().rev().enumerate() {
                assert_eq!((*encoding, bytes.as_ref()), (1, data[index].as_slice()));
            }
        }
        let error = reader.read(&[ChunkPlace { reference: places[0] + 1, next: None }]).unwrap_err();
        assert!(error.to_string().contains("000001 at byte 9"), "{error}");
    }
}
