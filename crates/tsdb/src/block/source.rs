//! Bytes that are read by range: a local file today, an object in a bucket for whoever implements [`ReadAt`].

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::BlockError;

/// Ranges closer together than this are read at once.
pub const COALESCE_GAP_BYTES: u64 = 32 * 1024;

/// Immutable bytes with random access.
pub trait ReadAt: Send + Sync + std::fmt::Debug {
    /// What the bytes are, for errors.
    fn name(&self) -> String;

    /// Number of bytes.
    fn size(&self) -> u64;

    /// The bytes of each range, in the order asked. A range past the end gives what there is of it.
    ///
    /// # Errors
    /// When the bytes cannot be read.
    fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BlockError>;

    /// The bytes of one range; fewer when it reaches past the end.
    ///
    /// # Errors
    /// As [`read_ranges`](Self::read_ranges).
    fn read(&self, offset: u64, len: usize) -> Result<Bytes, BlockError> {
        let range = offset..offset.saturating_add(len as u64);
        Ok(self.read_ranges(std::slice::from_ref(&range))?.pop().unwrap_or_default())
    }
}

/// Joins ranges whose distance is at most `gap`: the joined ranges, rising, and for each input the number of the one
/// it lies in.
pub fn coalesce(ranges: &[Range<u64>], gap: u64) -> (Vec<Range<u64>>, Vec<usize>) {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_unstable_by_key(|index| ranges[*index].start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    let mut places = vec![0; ranges.len()];
    for index in order {
        let range = &ranges[index];
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => joined.push(range.clone()),
        }
        places[index] = joined.len() - 1;
    }
    (joined, places)
}

/// Cuts each of `ranges` out of the joined ranges' bytes.
pub fn cut_out(
    ranges: &[Range<u64>],
    joined: &[Range<u64>],
    places: &[usize],
    bytes: &[Bytes],
) -> Vec<Bytes> {
    let cut = |(range, place): (&Range<u64>, &usize)| {
        let (Some(whole), Some(outer)) = (bytes.get(*place), joined.get(*place)) else {
            return Bytes::new();
        };
        let start = usize::try_from(range.start - outer.start).unwrap_or(usize::MAX).min(whole.len());
        let end = usize::try_from(range.end - outer.start).unwrap_or(usize::MAX).min(whole.len());
        whole.slice(start..end.max(start))
    };
    ranges.iter().zip(places).map(cut).collect()
}

/// A local file.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    file: File,
    size: u64,
}

impl FileSource {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<FileSource, BlockError> {
        let file = File::open(path).map_err(BlockError::io("open", path))?;
        let size = file.metadata().map_err(BlockError::io("stat", path))?.len();
        Ok(FileSource { path: path.to_path_buf(), file, size })
    }
}

impl ReadAt for FileSource {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BlockError> {
        let (joined, places) = coalesce(ranges, COALESCE_GAP_BYTES);
        let mut read = Vec::with_capacity(joined.len());
        for range in &joined {
            let end = range.end.min(self.size);
            let len = usize::try_from(end.saturating_sub(range.start)).unwrap_or(0);
            let mut buffer = vec![0; len];
            self.file.read_exact_at(&mut buffer, range.start).map_err(BlockError::io("read", &self.path))?;
            read.push(Bytes::from(buffer));
        }
        Ok(cut_out(ranges, &joined, &places, &read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_read_at_once_and_cut_apart_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let content: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = FileSource::open(&path).unwrap();
        let ranges = [100_000..100_010, 0..5, 100_020..100_030, 199_990..300_000, 5..7];
        let (joined, _) = coalesce(&ranges, 100);
        assert_eq!(joined, [0..7, 100_000..100_030, 199_990..300_000]);
        for (range, bytes) in ranges.iter().zip(file.read_ranges(&ranges).unwrap()) {
            let end = (range.end as usize).min(content.len());
            assert_eq!(bytes, content[range.start as usize..end]);
        }
    }
}
