//! Appends records to a log.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::segment::sync_dir;
use super::{HEADER_BYTES, PAGE_BYTES, SEGMENT_BYTES, WalError, fragment, list_segments, segment_path};

/// How record bodies are compressed. Prometheus 2.42 reads both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are.
    None,
    /// Snappy block format, where it makes the record smaller.
    #[default]
    Snappy,
}

/// How a [`Writer`] writes.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// Bytes after which a new segment starts; rounded up to whole pages.
    pub segment_bytes: u64,
    /// Compression of record bodies.
    pub compression: Compression,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions { segment_bytes: SEGMENT_BYTES, compression: Compression::default() }
    }
}

/// The open end of a log. It always starts a new segment, so that a tail torn by a crash is never appended to.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    options: WriterOptions,
    segment: u32,
    file: File,
    /// Bytes of the open segment that are written to the file.
    written: u64,
    /// End of the last whole record: what a failed write is cut back to.
    whole: u64,
    /// The part of the current page that is not yet written.
    pending: Vec<u8>,
    encoder: snap::raw::Encoder,
    compressed: Vec<u8>,
}

impl Writer {
    /// Opens the log in `dir` (created when missing) at a new segment after the last.
    ///
    /// # Errors
    /// When the folder or the segment cannot be made.
    pub fn open(dir: &Path, options: WriterOptions) -> Result<Writer, WalError> {
        fs::create_dir_all(dir).map_err(WalError::io("create folder", dir))?;
        let next = list_segments(dir)?.last().map_or(0, |segment| segment.index + 1);
        Writer::create(dir, next, options)
    }

    /// Opens the log in `dir` at the new segment `index`.
    pub(crate) fn create(dir: &Path, index: u32, options: WriterOptions) -> Result<Writer, WalError> {
        let pages = options.segment_bytes.div_ceil(PAGE_BYTES as u64).max(1);
        Ok(Writer {
            dir: dir.to_path_buf(),
            options: WriterOptions { segment_bytes: pages * PAGE_BYTES as u64, ..options },
            segment: index,
            file: create_segment(dir, index)?,
            written: 0,
            whole: 0,
            pending: Vec::with_capacity(PAGE_BYTES),
            encoder: snap::raw::Encoder::new(),
            compressed: Vec::new(),
        })
    }

    /// Number of the segment that takes the next record.
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// Writes records; when this returns they are with the operating system.
    ///
    /// # Errors
    /// When the write fails, or a record does not fit a segment. What was written before stays.
    pub fn log(&mut self, records: &[&[u8]]) -> Result<(), WalError> {
        for record in records {
            self.append(record)?;
        }
        self.flush()
    }

    fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn left_in_page(&self) -> usize {
        PAGE_BYTES - (self.position() % PAGE_BYTES as u64) as usize
    }

    fn append(&mut self, record: &[u8]) -> Result<(), WalError> {
        let mut flags = 0;
        let mut compressed = std::mem::take(&mut self.compressed);
        if self.options.compression == Compression::Snappy && !record.is_empty() {
            let bound = snap::raw::max_compress_len(record.len());
            if compressed.len() < bound {
                compressed.resize(bound, 0);
            }
            if let Ok(len) = self.encoder.compress(record, &mut compressed)
                && len < record.len()
            {
                compressed.truncate(len);
                flags = fragment::SNAPPY;
            }
        }
        let body = if flags == fragment::SNAPPY { compressed.as_slice() } else { record };
        let outcome = self.append_body(body, flags);
        self.compressed = compressed;
        outcome
    }

    fn append_body(&mut self, body: &[u8], flags: u8) -> Result<(), WalError> {
        if self.left_in_page() < HEADER_BYTES {
            self.pad_page();
        }
        if body.len() as u64 > self.room(self.position()) {
            if body.len() as u64 > self.room(0) {
                return Err(WalError::TooLarge {
                    bytes: body.len(),
                    segment_bytes: self.options.segment_bytes,
                });
            }
            self.next_segment()?;
        }
        let mut rest = body;
        let mut first = true;
        while first || !rest.is_empty() {
            let space = self.left_in_page() - HEADER_BYTES;
            let (part, tail) = rest.split_at(rest.len().min(space));
            let kind = match (first, tail.is_empty()) {
                (true, true) => fragment::FULL,
                (true, false) => fragment::FIRST,
                (false, true) => fragment::LAST,
                (false, false) => fragment::MIDDLE,
            };
            self.pending.push(kind | flags);
            self.pending.extend_from_slice(&(part.len() as u16).to_be_bytes());
            self.pending.extend_from_slice(&crc32c::crc32c(part).to_be_bytes());
            self.pending.extend_from_slice(part);
            if self.left_in_page() < HEADER_BYTES || self.left_in_page() == PAGE_BYTES {
                self.pad_page();
                if self.pending.len() >= 8 * PAGE_BYTES {
                    self.flush()?;
                }
            }
            rest = tail;
            first = false;
        }
        self.whole = self.position();
        Ok(())
    }

    /// Body bytes that fit between `position` and the end of the segment.
    fn room(&self, position: u64) -> u64 {
        let page = PAGE_BYTES as u64;
        let header = HEADER_BYTES as u64;
        let in_page = page - position % page;
        let whole_pages = (self.options.segment_bytes.saturating_sub(position + in_page)) / page;
        if position >= self.options.segment_bytes {
            return 0;
        }
        in_page.saturating_sub(header) + whole_pages * (page - header)
    }

    fn pad_page(&mut self) {
        let left = self.left_in_page();
        if left < PAGE_BYTES {
            self.pending.resize(self.pending.len() + left, 0);
        }
    }

    fn flush(&mut self) -> Result<(), WalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let outcome = self.file.write_all(&self.pending);
        let path = segment_path(&self.dir, self.segment);
        if let Err(error) = outcome {
            // A part may be in the file: cut it off, so that the next record follows a whole one. When even that
            // fails the next start repairs the tail.
            self.written = self.whole.min(self.written);
            self.whole = self.written;
            self.pending.clear();
            if let Err(cut) = self.file.set_len(self.written) {
                tracing::error!(segment = self.segment, error = %cut, "cannot cut a failed write off the log");
            }
            return Err(WalError::io("write", path)(error));
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Ends the open segment, makes it durable, and starts the next. Returns the new segment's number.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn next_segment(&mut self) -> Result<u32, WalError> {
        if self.left_in_page() < PAGE_BYTES {
            self.pad_page();
        }
        self.sync()?;
        let next = self.segment + 1;
        self.file = create_segment(&self.dir, next)?;
        self.segment = next;
        self.written = 0;
        self.whole = 0;
        Ok(next)
    }

    /// Makes all that was logged survive a power cut.
    ///
    /// # Errors
    /// When the write or the sync fails.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.flush()?;
        self.file.sync_data().map_err(WalError::io("sync", segment_path(&self.dir, self.segment)))
    }

    /// Removes the segments before `index`.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn truncate(&mut self, index: u32) -> Result<(), WalError> {
        for segment in list_segments(&self.dir)? {
            if segment.index < index && segment.index != self.segment {
                fs::remove_file(&segment.path).map_err(WalError::io("remove", &segment.path))?;
            }
        }
        sync_dir(&self.dir)
    }
}

fn create_segment(dir: &Path, index: u32) -> Result<File, WalError> {
    let path = segment_path(dir, index);
    let file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(&path)
        .map_err(WalError::io("create segment", &path))?;
    sync_dir(dir)?;
    Ok(file)
}
