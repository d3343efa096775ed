//! Deleted ranges of a block.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::BlockError;
use crate::codec::{Get, Put};

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;

/// Deleted ranges of one series, rising, both ends included.
pub type Intervals = Vec<(i64, i64)>;

/// Deleted ranges by series.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tombstones {
    by_series: HashMap<u64, Intervals>,
}

impl Tombstones {
    /// The ranges of a series.
    pub fn of(&self, series: u64) -> &[(i64, i64)] {
        self.by_series.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.by_series.is_empty()
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.by_series.values().map(Vec::len).sum()
    }

    /// Adds a range, joined with those it touches.
    pub fn add(&mut self, series: u64, min_t: i64, max_t: i64) {
        let intervals = self.by_series.entry(series).or_default();
        intervals.push((min_t, max_t));
        intervals.sort_unstable();
        let mut joined: Intervals = Vec::with_capacity(intervals.len());
        for (min, max) in intervals.drain(..) {
            match joined.last_mut() {
                Some(last) if min <= last.1.saturating_add(1) => last.1 = last.1.max(max),
                _ => joined.push((min, max)),
            }
        }
        *intervals = joined;
    }

    /// Reads the file; a missing one deletes nothing.
    ///
    /// # Errors
    /// When it cannot be read or is not what the format says.
    pub fn read(path: &Path) -> Result<Tombstones, BlockError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Tombstones::default()),
            Err(error) => return Err(BlockError::io("read", path)(error)),
        };
        let wrong =
            |offset: u64, reason: &str| BlockError::corrupt(path.display().to_string(), offset, reason);
        let Some((head, rest)) = bytes.split_first_chunk::<5>() else {
            return Err(wrong(0, "the file is too short"));
        };
        if head[..4] != MAGIC.to_be_bytes() || head[4] != VERSION {
            return Err(wrong(0, "not a tombstones file of version 1"));
        }
        let Some((entries, sum)) = rest.split_last_chunk::<4>() else {
            return Err(wrong(5, "the checksum is missing"));
        };
        if crc32c::crc32c(entries) != u32::from_be_bytes(*sum) {
            return Err(wrong(5, "the checksum does not fit"));
        }
        let mut found = Tombstones::default();
        let mut input = Get::new(entries);
        while !input.is_empty() {
            let entry = (|| Some((input.uvarint()?, input.varint()?, input.varint()?)))();
            let Some((series, min, max)) = entry else { return Err(wrong(5, "an entry ends early")) };
            found.add(series, min, max);
        }
        Ok(found)
    }

    /// Writes the file durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), BlockError> {
        let mut entries = Vec::new();
        let mut series: Vec<_> = self.by_series.iter().collect();
        series.sort_unstable_by_key(|(series, _)| **series);
        for (series, intervals) in series {
            for (min, max) in intervals {
                entries.put_uvarint(*series);
                entries.put_varint(*min);
                entries.put_varint(*max);
            }
        }
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        out.extend_from_slice(&entries);
        out.extend_from_slice(&crc32c::crc32c(&entries).to_be_bytes());
        let mut file = File::create(path).map_err(BlockError::io("create", path))?;
        file.write_all(&out).map_err(BlockError::io("write", path))?;
        file.sync_all().map_err(BlockError::io("sync", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_come_back() {
        let mut tombstones = Tombstones::default();
        tombstones.add(7, 10, 20);
        tombstones.add(7, 21, 30);
        tombstones.add(7, -5, 0);
        tombstones.add(3, 1, 1);
        assert_eq!(tombstones.of(7), [(-5, 0), (10, 30)]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tombstones");
        assert_eq!(Tombstones::read(&path).unwrap(), Tombstones::default());
        tombstones.write(&path).unwrap();
        assert_eq!(Tombstones::read(&path).unwrap(), tombstones);
        let mut bytes = fs::read(&path).unwrap();
        bytes[6] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(Tombstones::read(&path).unwrap_err().to_string().contains("checksum"));
    }
}
