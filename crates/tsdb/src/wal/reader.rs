//! Reads records back, finds where a log is torn, and cuts it there.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::segment::sync_dir;
use super::writer::{Writer, WriterOptions};
use super::{HEADER_BYTES, PAGE_BYTES, WalError, fragment, list_segments};

/// Larger records are taken for corruption: Prometheus' own are at most one segment.
const MAX_RECORD_BYTES: usize = 512 * 1024 * 1024;

/// Reads the records of one segment, one at a time, in constant memory.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    page: Box<[u8]>,
    page_len: usize,
    position: usize,
    pages_before: u64,
    at_end: bool,
    body: Vec<u8>,
    plain: Vec<u8>,
    record_start: u64,
    /// Bytes of the first page that were read before.
    skip: usize,
}

/// One record and where it begins in its segment.
#[derive(Debug, Clone, Copy)]
pub struct LogRecord<'a> {
    /// Byte of its first fragment's header.
    pub offset: u64,
    /// Its body, decompressed.
    pub bytes: &'a [u8],
}

/// A fault inside a segment, before it is known which segment it is.
#[derive(Debug)]
pub struct Fault {
    /// Where the record with the fault begins.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
    /// The operating system's error, if it was one.
    pub io: Option<std::io::Error>,
}

impl<R: Read> Reader<R> {
    /// Reads from the start of a segment.
    pub fn new(input: R) -> Reader<R> {
        Reader {
            input,
            page: vec![0; PAGE_BYTES].into_boxed_slice(),
            page_len: 0,
            position: 0,
            pages_before: 0,
            at_end: false,
            body: Vec::new(),
            plain: Vec::new(),
            record_start: 0,
            skip: 0,
        }
    }

    /// Goes on within a segment: `input` stands at the start of page number `pages_before`, and the next record begins
    /// `position` bytes into it.
    pub(super) fn resume(input: R, pages_before: u64, position: usize) -> Reader<R> {
        Reader { pages_before, skip: position, ..Reader::new(input) }
    }

    /// Byte at which the record last returned ends.
    pub(super) fn end_offset(&self) -> u64 {
        self.offset()
    }

    fn offset(&self) -> u64 {
        self.pages_before * PAGE_BYTES as u64 + self.position as u64
    }

    fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault { offset: self.record_start, reason: reason.into(), io: None }
    }

    /// Byte at which the record last returned begins.
    pub fn record_offset(&self) -> u64 {
        self.record_start
    }

    /// The next record, decompressed; `None` at the end of the segment.
    ///
    /// # Errors
    /// A [`Fault`] when the bytes are not a log; nothing after it can be read.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<LogRecord<'_>>, Fault> {
        self.body.clear();
        let mut fragments = 0u32;
        loop {
            if fragments == 0 {
                self.record_start = self.offset();
            }
            let Some((flags, start, end)) = self.next_fragment(fragments > 0)? else {
                return Ok(None);
            };
            let kind = flags & fragment::TYPE_MASK;
            let expected = match kind {
                fragment::FULL | fragment::FIRST => fragments == 0,
                fragment::MIDDLE | fragment::LAST => fragments > 0,
                _ => false,
            };
            if !expected {
                return Err(self.fault(format!("unexpected fragment type {kind} as number {fragments}")));
            }
            if self.body.len() + (end - start) > MAX_RECORD_BYTES {
                return Err(self.fault("record is larger than any writer makes"));
            }
            self.body.extend_from_slice(&self.page[start..end]);
            fragments += 1;
            if kind == fragment::FULL || kind == fragment::LAST {
                let offset = self.record_start;
                return self.decompress(flags).map(|bytes| Some(LogRecord { offset, bytes }));
            }
        }
    }

    fn decompress(&mut self, flags: u8) -> Result<&[u8], Fault> {
        if flags & fragment::ZSTD != 0 {
            return Err(self.fault("zstd records are not supported; write the log with snappy"));
        }
        if flags & fragment::SNAPPY == 0 {
            return Ok(&self.body);
        }
        let len = snap::raw::decompress_len(&self.body).unwrap_or(usize::MAX);
        if len > MAX_RECORD_BYTES {
            return Err(self.fault("snappy length is larger than any writer makes"));
        }
        self.plain.resize(len, 0);
        match snap::raw::Decoder::new().decompress(&self.body, &mut self.plain) {
            Ok(len) => Ok(&self.plain[..len]),
            Err(error) => Err(Fault { offset: self.record_start, reason: error.to_string(), io: None }),
        }
    }

    /// Header flags and the body's place in the page of the next fragment.
    fn next_fragment(&mut self, inside_record: bool) -> Result<Option<(u8, usize, usize)>, Fault> {
        loop {
            if self.position >= self.page_len {
                if !self.load_page()? {
                    return if inside_record {
                        Err(self.fault("the last record is cut off"))
                    } else {
                        Ok(None)
                    };
                }
                if !inside_record {
                    self.record_start = self.offset();
                }
            }
            let left = &self.page[self.position..self.page_len];
            let first = left.first().copied().unwrap_or_default();
            if first & fragment::TYPE_MASK == fragment::PAGE_TERM {
                if left.iter().any(|byte| *byte != 0) {
                    return Err(self.fault("bytes after the end of a page are not zero"));
                }
                self.position = self.page_len;
                continue;
            }
            if first & fragment::UNUSED != 0 {
                return Err(self.fault(format!("unknown fragment flags {first:#010b}")));
            }
            let Some((header, rest)) = left.split_first_chunk::<HEADER_BYTES>() else {
                return Err(self.fault("fragment header is cut off"));
            };
            let len = usize::from(u16::from_be_bytes([header[1], header[2]]));
            let checksum = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
            let Some(body) = rest.get(..len) else {
                return Err(self.fault(format!("fragment of {len} bytes is cut off after {}", rest.len())));
            };
            let found = crc32c::crc32c(body);
            if found != checksum {
                return Err(self.fault(format!("checksum is {found:08x}, header says {checksum:08x}")));
            }
            let start = self.position + HEADER_BYTES;
            self.position = start + len;
            return Ok(Some((first, start, start + len)));
        }
    }

    fn load_page(&mut self) -> Result<bool, Fault> {
        if self.at_end {
            return Ok(false);
        }
        if self.page_len > 0 {
            self.pages_before += 1;
        }
        self.position = 0;
        self.page_len = 0;
        while self.page_len < PAGE_BYTES {
            match self.input.read(&mut self.page[self.page_len..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(count) => self.page_len += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Fault {
                        offset: self.offset(),
                        reason: "read failed".into(),
                        io: Some(error),
                    });
                }
            }
        }
        // A page that ends before what was read already has nothing new.
        self.position = std::mem::take(&mut self.skip).min(self.page_len);
        Ok(self.position < self.page_len)
    }
}

/// Reads all segments of a folder in order.
#[derive(Debug)]
pub struct SegmentedReader {
    dir: PathBuf,
    segments: std::vec::IntoIter<super::SegmentFile>,
    open: Option<(u32, PathBuf, Reader<BufReader<File>>)>,
    done: bool,
}

impl SegmentedReader {
    /// Reads the segments of `dir` from number `from` on.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn open(dir: &Path, from: u32) -> Result<SegmentedReader, WalError> {
        let mut segments = list_segments(dir)?;
        segments.retain(|segment| segment.index >= from);
        Ok(SegmentedReader {
            dir: dir.to_path_buf(),
            segments: segments.into_iter(),
            open: None,
            done: false,
        })
    }

    /// Reads no segment after number `last`.
    pub(crate) fn limit(&mut self, last: u32) {
        let kept: Vec<_> = self.segments.by_ref().filter(|segment| segment.index <= last).collect();
        self.segments = kept.into_iter();
    }

    /// Segment and byte of the record last handed out.
    pub fn place(&self) -> Option<(u32, u64)> {
        self.open.as_ref().map(|(index, _, reader)| (*index, reader.record_offset()))
    }

    /// Hands each record to `visit`; a reason returned from it is a corruption at that record.
    ///
    /// # Errors
    /// At the first fault; what came before has been handed out.
    pub fn for_each(&mut self, mut visit: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), WalError> {
        while !self.done {
            if self.open.is_none() {
                let Some(segment) = self.segments.next() else {
                    self.done = true;
                    break;
                };
                let file = File::open(&segment.path).map_err(WalError::io("open", &segment.path))?;
                let reader = Reader::new(BufReader::with_capacity(8 * PAGE_BYTES, file));
                self.open = Some((segment.index, segment.path, reader));
            }
            let Some((index, path, reader)) = &mut self.open else { break };
            let corrupt =
                |offset, reason| WalError::Corrupt { dir: self.dir.clone(), segment: *index, offset, reason };
            let outcome = match reader.next() {
                Ok(None) => {
                    self.open = None;
                    continue;
                }
                Ok(Some(record)) => visit(record.bytes),
                Err(Fault { io: Some(error), .. }) => {
                    self.done = true;
                    return Err(WalError::io("read", path.as_path())(error));
                }
                Err(fault) => {
                    self.done = true;
                    return Err(corrupt(fault.offset, fault.reason));
                }
            };
            if let Err(reason) = outcome {
                self.done = true;
                return Err(corrupt(reader.record_offset(), reason));
            }
        }
        Ok(())
    }
}

/// Makes a log whole again after a [`WalError::Corrupt`]: the records before the fault are kept, the rest of that
/// segment and all later segments are removed. Returns the bytes that were lost.
///
/// # Errors
/// When files cannot be rewritten.
pub fn repair(dir: &Path, segment: u32, offset: u64, options: WriterOptions) -> Result<u64, WalError> {
    let mut lost = 0;
    for file in list_segments(dir)? {
        if file.index > segment {
            lost += file.bytes;
            fs::remove_file(&file.path).map_err(WalError::io("remove", &file.path))?;
        }
    }
    let path = super::segment_path(dir, segment);
    let damaged = path.with_extension("repair");
    let bytes = fs::metadata(&path).map_err(WalError::io("stat", &path))?.len();
    fs::rename(&path, &damaged).map_err(WalError::io("rename", &path))?;
    let file = File::open(&damaged).map_err(WalError::io("open", &damaged))?;
    let mut reader = Reader::new(BufReader::with_capacity(8 * PAGE_BYTES, file));
    let mut writer = Writer::create(dir, segment, options)?;
    while let Ok(Some(record)) = reader.next() {
        if record.offset >= offset {
            break;
        }
        writer.log(&[record.bytes])?;
    }
    writer.sync()?;
    fs::remove_file(&damaged).map_err(WalError::io("remove", &damaged))?;
    sync_dir(dir)?;
    Ok(lost + bytes.saturating_sub(offset))
}
