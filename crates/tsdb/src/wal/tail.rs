//! Follows a log that is being written: hands out each record once, from a place that can be kept and come back to.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::{PAGE_BYTES, WalError, list_segments, segment_path};

/// A place between two records of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The segment.
    pub segment: u32,
    /// The byte in it at which the next record begins.
    pub offset: u64,
}

/// What a look at the log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Followed {
    /// Records handed out.
    pub records: u64,
    /// Segments that were gone or damaged and have been passed over.
    pub skipped_segments: u32,
}

/// Follows the log of a folder.
#[derive(Debug)]
pub struct Tail {
    dir: PathBuf,
    place: Place,
}

/// How one segment's reading ended.
enum End {
    /// At the end of what is written.
    Written,
    /// At the bound of one look.
    Bound,
    /// At bytes that are no record.
    Fault(String),
}

impl Tail {
    /// Follows the log in `dir` from a place on.
    pub fn new(dir: &Path, place: Place) -> Tail {
        Tail { dir: dir.to_path_buf(), place }
    }

    /// Where the next record begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Hands out the records that are complete by now, in order, each with its segment; ends early after about
    /// `max_bytes`.
    ///
    /// A record that is being written is left for the next look. A segment that ends in damage, and is not the one that
    /// is written, is passed over from there.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn follow(
        &mut self,
        max_bytes: u64,
        mut visit: impl FnMut(u32, &[u8]),
    ) -> Result<Followed, WalError> {
        let mut followed = Followed::default();
        let mut left = max_bytes;
        loop {
            // Looked at before reading: a segment that has a successor is not written any more.
            let next = list_segments(&self.dir)?.into_iter().find(|file| file.index > self.place.segment);
            let path = segment_path(&self.dir, self.place.segment);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let Some(next) = next else { return Ok(followed) };
                    followed.skipped_segments += next.index - self.place.segment;
                    self.place = Place { segment: next.index, offset: 0 };
                    continue;
                }
                Err(error) => return Err(WalError::io("open", path)(error)),
            };
            let before = self.place.offset;
            let segment = self.place.segment;
            let end = self.read(file, &path, left, &mut |bytes| {
                followed.records += 1;
                visit(segment, bytes);
            })?;
            left = left.saturating_sub(self.place.offset - before);
            match (end, next) {
                (End::Bound, _) | (_, None) => return Ok(followed),
                (End::Written, Some(next)) => self.place = Place { segment: next.index, offset: 0 },
                (End::Fault(reason), Some(next)) => {
                    tracing::warn!(
                        segment = self.place.segment,
                        offset = self.place.offset,
                        %reason,
                        "a damaged segment of the log is passed over"
                    );
                    followed.skipped_segments += 1;
                    self.place = Place { segment: next.index, offset: 0 };
                }
            }
            if left == 0 {
                return Ok(followed);
            }
        }
    }

    fn read(
        &mut self,
        mut file: File,
        path: &Path,
        max_bytes: u64,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<End, WalError> {
        let pages = self.place.offset / PAGE_BYTES as u64;
        let in_page = (self.place.offset % PAGE_BYTES as u64) as usize;
        file.seek(SeekFrom::Start(pages * PAGE_BYTES as u64)).map_err(WalError::io("seek", path))?;
        let mut reader = Reader::resume(BufReader::with_capacity(8 * PAGE_BYTES, file), pages, in_page);
        let begin = self.place.offset;
        loop {
            match reader.next() {
                Ok(Some(record)) => visit(record.bytes),
                Ok(None) => return Ok(End::Written),
                Err(fault) => match fault.io {
                    Some(error) => return Err(WalError::io("read", path)(error)),
                    None => return Ok(End::Fault(fault.reason)),
                },
            }
            self.place.offset = reader.end_offset();
            if self.place.offset - begin >= max_bytes {
                return Ok(End::Bound);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compression, Writer, WriterOptions};
    use super::*;

    fn writer(dir: &Path) -> Writer {
        let options = WriterOptions { segment_bytes: 2 * PAGE_BYTES as u64, compression: Compression::None };
        Writer::open(dir, options).unwrap()
    }

    fn record(number: u32) -> Vec<u8> {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(100 + (number as usize * 37) % 9000, 7);
        bytes
    }

    fn numbers(tail: &mut Tail, max_bytes: u64) -> Vec<u32> {
        let mut found = Vec::new();
        tail.follow(max_bytes, |_, bytes| {
            found.push(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        })
        .unwrap();
        found
    }

    #[test]
    fn every_record_comes_once_while_the_log_grows() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let mut tail = Tail::new(dir.path(), Place { segment: 0, offset: 0 });
        let mut found = Vec::new();
        for number in 0..200 {
            writer.log(&[&record(number)]).unwrap();
            if number % 3 == 0 {
                found.extend(numbers(&mut tail, 10_000));
                // A new one goes on from the same place.
                tail = Tail::new(dir.path(), tail.place());
            }
        }
        while found.len() < 200 {
            let more = numbers(&mut tail, u64::MAX);
            assert!(!more.is_empty(), "{} of 200 records", found.len());
            found.extend(more);
        }
        assert_eq!(found, (0..200).collect::<Vec<_>>());
        assert!(tail.place().segment > 2, "the log has several segments");
    }

    #[test]
    fn half_a_record_waits_and_damage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = writer(dir.path());
        first.log(&[&record(1), &record(2)]).unwrap();
        drop(first);
        let path = segment_path(dir.path(), 0);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut tail = Tail::new(dir.path(), Place { segment: 0, offset: 0 });
        assert_eq!(numbers(&mut tail, u64::MAX), [1]);
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(numbers(&mut tail, u64::MAX), [2]);
        // Torn for good: the next segment goes on.
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut again = Tail::new(dir.path(), Place { segment: 0, offset: 0 });
        let mut second = writer(dir.path());
        second.log(&[&record(3)]).unwrap();
        let mut found = Vec::new();
        let followed = again.follow(u64::MAX, |_, bytes| found.push(bytes[3])).unwrap();
        assert_eq!((found, followed.skipped_segments), (vec![1, 3], 1));
    }

    #[test]
    fn segments_that_are_gone_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path());
        for number in 0..200 {
            log.log(&[&record(number)]).unwrap();
        }
        std::fs::remove_file(segment_path(dir.path(), 0)).unwrap();
        std::fs::remove_file(segment_path(dir.path(), 1)).unwrap();
        let mut tail = Tail::new(dir.path(), Place { segment: 0, offset: 0 });
        let followed = tail.follow(u64::MAX, |_, _| {}).unwrap();
        assert_eq!(followed.skipped_segments, 2);
        assert!(followed.records > 0);
    }
}
