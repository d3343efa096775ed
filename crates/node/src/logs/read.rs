//! Reads a run's log back: tail, since, follow, with or without the times.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

use super::rotated;

/// What `kubectl logs` can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    /// The run before the current one.
    pub previous: bool,
    pub timestamps: bool,
    /// Lines from the end; `None` is all.
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// Only entries at or after this time.
    pub since: Option<Timestamp>,
    /// Only this stream (`stdout` or `stderr`).
    pub stream: Option<super::Stream>,
}

/// Walks a log from its oldest kept line to its newest, through rotations.
pub struct Reader {
    log: PathBuf,
    file: Option<BufReader<File>>,
    inode: u64,
    /// Bytes of an entry whose newline is not written yet.
    partial: Vec<u8>,
    /// The last entry given out was partial, so the next one continues its line.
    inside_line: bool,
    skip: u64,
    remaining: Option<u64>,
    options: LogOptions,
}

const MAX_OLDER: usize = 64;

impl Reader {
    /// A log that does not exist yet reads as empty.
    pub fn open(log: &Path, options: LogOptions) -> io::Result<Reader> {
        let mut reader = Reader {
            log: log.into(),
            file: None,
            inode: 0,
            partial: Vec::new(),
            inside_line: false,
            skip: 0,
            remaining: options.limit_bytes,
            options,
        };
        if let Some(tail) = reader.options.tail_lines {
            reader.skip = reader.count()?.saturating_sub(tail);
        }
        Ok(reader)
    }

    /// The next text, at most about `max` bytes; empty at the end of what is written so far, `None` when the byte
    /// limit is reached.
    pub fn read(&mut self, max: usize) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        if self.remaining == Some(0) {
            return Ok(None);
        }
        while out.len() < max {
            let Some(line) = self.next_line()? else { break };
            if !self.wanted(&line) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= u64::from(is_full(&line));
                continue;
            }
            self.render(&line, &mut out);
        }
        if let Some(remaining) = &mut self.remaining {
            let keep = usize::try_from(*remaining).unwrap_or(usize::MAX).min(out.len());
            out.truncate(keep);
            *remaining -= keep as u64;
        }
        Ok(Some(out))
    }

    fn wanted(&self, line: &[u8]) -> bool {
        let Some((time, stream, _, _)) = fields(line) else { return false };
        if self.options.stream.is_some_and(|s| s.as_str() != stream) {
            return false;
        }
        match self.options.since {
            Some(since) => time.parse::<Timestamp>().is_ok_and(|t| t >= since),
            None => true,
        }
    }

    fn render(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some((time, _, full, text)) = fields(line) else { return };
        if self.options.timestamps && !self.inside_line {
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(text);
        if full {
            out.push(b'\n');
        }
        self.inside_line = !full;
    }

    /// Lines (not entries) that the options select.
    fn count(&mut self) -> io::Result<u64> {
        let mut lines = 0;
        while let Some(line) = self.next_line()? {
            lines += u64::from(self.wanted(&line) && is_full(&line));
        }
        (self.file, self.inode) = (None, 0);
        self.partial.clear();
        Ok(lines)
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.file.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            file.read_until(b'\n', &mut self.partial)?;
            if self.partial.last() == Some(&b'\n') {
                let mut line = std::mem::take(&mut self.partial);
                line.pop();
                return Ok(Some(line));
            }
            let current = std::fs::metadata(&self.log).map(|m| m.ino()).unwrap_or(0);
            if current == self.inode || current == 0 {
                return Ok(None);
            }
            if !self.open_next()? {
                return Ok(None);
            }
        }
    }

    /// Opens the file that follows the one being read, the oldest at first.
    fn open_next(&mut self) -> io::Result<bool> {
        let mut files: VecDeque<PathBuf> = VecDeque::from([self.log.clone()]);
        for n in 1..MAX_OLDER {
            let older = rotated(&self.log, n);
            if !older.exists() {
                break;
            }
            files.push_front(older);
        }
        let mut next = None;
        for path in files.into_iter().rev() {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let inode = file.metadata()?.ino();
            if inode == self.inode {
                break;
            }
            next = Some((file, inode));
        }
        let Some((file, inode)) = next else { return Ok(false) };
        self.file = Some(BufReader::new(file));
        self.inode = inode;
        self.partial.clear();
        Ok(true)
    }
}

/// Time, stream, whether the line ends here, text.
fn fields(line: &[u8]) -> Option<(&str, &str, bool, &[u8])> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let full = parts.next()? == b"F";
    Some((time, stream, full, parts.next()?))
}

fn is_full(line: &[u8]) -> bool {
    fields(line).is_some_and(|(_, _, full, _)| full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Limits, LogWriter, MAX_LINE_BYTES, Stream};

    fn log(dir: &Path, lines: i64, max_bytes: u64) -> PathBuf {
        let path = dir.join("0.log");
        let mut writer = LogWriter::open(&path, Limits { max_bytes, max_files: 3 }).unwrap();
        for i in 0..lines {
            let stream = if i % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            writer
                .push(stream, format!("line {i}\n").as_bytes(), Timestamp::from_second(i).unwrap())
                .unwrap();
        }
        path
    }

    fn all(path: &Path, options: LogOptions) -> String {
        let mut reader = Reader::open(path, options).unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = reader.read(10).unwrap() {
            if chunk.is_empty() {
                break;
            }
            text.extend(chunk);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn options_select() {
        let dir = tempfile::tempdir().unwrap();
        let path = log(dir.path(), 5, 1 << 20);
        let options = LogOptions::default;
        assert_eq!(all(&path, options()), "line 0\nline 1\nline 2\nline 3\nline 4\n");
        assert_eq!(all(&path, LogOptions { tail_lines: Some(2), ..options() }), "line 3\nline 4\n");
        assert_eq!(all(&path, LogOptions { tail_lines: Some(0), ..options() }), "");
        let since = Some(Timestamp::from_second(3).unwrap());
        assert_eq!(all(&path, LogOptions { since, ..options() }), "line 3\nline 4\n");
        assert_eq!(all(&path, LogOptions { since, tail_lines: Some(1), ..options() }), "line 4\n");
        assert_eq!(all(&path, LogOptions { limit_bytes: Some(9), ..options() }), "line 0\nli");
        assert_eq!(all(&path, LogOptions { stream: Some(Stream::Stderr), ..options() }), "line 1\nline 3\n");
        let stamped = all(&path, LogOptions { timestamps: true, tail_lines: Some(1), ..options() });
        assert_eq!(stamped, "1970-01-01T00:00:04.000000000Z line 4\n");
        assert_eq!(all(&dir.path().join("none.log"), options()), "");
    }

    #[test]
    fn follows_through_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut writer = LogWriter::open(&path, Limits { max_bytes: 300, max_files: 4 }).unwrap();
        let mut reader = Reader::open(&path, LogOptions::default()).unwrap();
        let mut text = Vec::new();
        let mut expected = String::new();
        for i in 0..60 {
            let line = format!("line {i}\n");
            writer.push(Stream::Stdout, line.as_bytes(), Timestamp::from_second(i).unwrap()).unwrap();
            expected += &line;
            if i % 5 == 0 {
                text.extend(reader.read(1 << 20).unwrap().unwrap());
            }
        }
        text.extend(reader.read(1 << 20).unwrap().unwrap());
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_long_line_comes_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut writer = LogWriter::open(&path, Limits { max_bytes: 1 << 20, max_files: 2 }).unwrap();
        let line = "z".repeat(MAX_LINE_BYTES * 2 + 5) + "\n";
        writer.push(Stream::Stdout, line.as_bytes(), Timestamp::UNIX_EPOCH).unwrap();
        let stamped = all(&path, LogOptions { timestamps: true, tail_lines: Some(1), ..Default::default() });
        assert_eq!(stamped, format!("1970-01-01T00:00:00.000000000Z {line}"));
    }
}
