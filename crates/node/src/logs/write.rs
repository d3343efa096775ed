//! Splits a byte stream into stamped lines and keeps the files within their bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

use super::{MAX_LINE_BYTES, Stream, rotated};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A file is rotated when it has grown past this.
    pub max_bytes: u64,
    /// Files kept per run, the current one included.
    pub max_files: usize,
}

/// Writes one run's log.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    limits: Limits,
    file: File,
    size: u64,
    /// Unfinished last line of each stream.
    pending: [Vec<u8>; 2],
}

impl LogWriter {
    pub fn open(path: &Path, limits: Limits) -> io::Result<LogWriter> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(LogWriter { path: path.into(), limits, file, size, pending: [Vec::new(), Vec::new()] })
    }

    /// Adds what was read at `now`; complete lines reach the file before this returns.
    pub fn push(&mut self, stream: Stream, mut data: &[u8], now: Timestamp) -> io::Result<()> {
        let mut out = Vec::with_capacity(data.len() + 64);
        let pending = &mut self.pending[stream as usize];
        while let Some(newline) = data.iter().position(|b| *b == b'\n') {
            let (line, rest) = (&data[..newline], &data[newline + 1..]);
            if pending.is_empty() {
                split_long(&mut out, stream, line, now, true);
            } else {
                pending.extend_from_slice(line);
                split_long(&mut out, stream, pending, now, true);
                pending.clear();
            }
            data = rest;
        }
        pending.extend_from_slice(data);
        if pending.len() >= MAX_LINE_BYTES {
            let whole = pending.len() - pending.len() % MAX_LINE_BYTES;
            split_long(&mut out, stream, &pending[..whole], now, false);
            pending.drain(..whole);
        }
        self.write(&out)
    }

    /// Writes lines that lack their newline, at the end of a run.
    pub fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        let mut out = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(&mut self.pending[stream as usize]);
            if !line.is_empty() {
                split_long(&mut out, stream, &line, now, true);
            }
        }
        self.write(&out)
    }

    fn write(&mut self, entries: &[u8]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.file.write_all(entries)?;
        self.size += entries.len() as u64;
        if self.size > self.limits.max_bytes {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let older = self.limits.max_files.saturating_sub(1);
        for n in (1..older).rev() {
            match std::fs::rename(rotated(&self.path, n), rotated(&self.path, n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if older > 0 {
            std::fs::rename(&self.path, rotated(&self.path, 1))?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// Appends `line` as entries of at most [`MAX_LINE_BYTES`]; all but the last, and the last too when not `complete`,
/// are partial.
fn split_long(out: &mut Vec<u8>, stream: Stream, line: &[u8], now: Timestamp, complete: bool) {
    let mut chunks = line.chunks(MAX_LINE_BYTES).peekable();
    if chunks.peek().is_none() {
        entry(out, stream, &[], now, complete);
    }
    while let Some(chunk) = chunks.next() {
        entry(out, stream, chunk, now, complete && chunks.peek().is_none());
    }
}

fn entry(out: &mut Vec<u8>, stream: Stream, text: &[u8], now: Timestamp, full: bool) {
    let tag = if full { 'F' } else { 'P' };
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{} {} {tag} ", now.strftime("%Y-%m-%dT%H:%M:%S.%9fZ"), stream.as_str());
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_files: 3 };

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 5).unwrap()
    }

    #[test]
    fn lines_are_stamped_and_streams_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut writer = LogWriter::open(&path, LIMITS).unwrap();
        writer.push(Stream::Stdout, b"one\ntw", at(0)).unwrap();
        writer.push(Stream::Stderr, b"err\n\n", at(1)).unwrap();
        writer.push(Stream::Stdout, b"o\nlast", at(2)).unwrap();
        writer.finish(at(3)).unwrap();
        let expected = "\
1970-01-01T00:00:00.000000005Z stdout F one
1970-01-01T00:00:01.000000005Z stderr F err
1970-01-01T00:00:01.000000005Z stderr F 
1970-01-01T00:00:02.000000005Z stdout F two
1970-01-01T00:00:03.000000005Z stdout F last
";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn long_lines_are_partial_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut writer = LogWriter::open(&path, LIMITS).unwrap();
        let long = vec![b'x'; MAX_LINE_BYTES + 10];
        writer.push(Stream::Stdout, &long, at(0)).unwrap();
        writer.push(Stream::Stdout, b"y\n", at(0)).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let tags: Vec<&str> = text.lines().map(|l| l.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["P", "F"]);
        assert!(text.ends_with("xxxxxxxxxxy\n"));
    }

    #[test]
    fn rotation_keeps_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut writer = LogWriter::open(&path, Limits { max_bytes: 200, max_files: 3 }).unwrap();
        for i in 0..100 {
            writer.push(Stream::Stdout, format!("line {i}\n").as_bytes(), at(i)).unwrap();
        }
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 3);
        let total: u64 =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(total < 3 * 300, "{total}");
        assert!(std::fs::read_to_string(rotated(&path, 1)).unwrap().contains("line 9"));
    }
}
