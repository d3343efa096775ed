//! Container logs: lines in CRI format (`<RFC 3339 nano time> <stream> <F|P> <text>`), in files with a bound.
//!
//! A container writes into two named pipes; this process reads them and stamps each line. The pipes are opened for
//! reading and writing on the container's side, so a container outlives a killed Gantry without SIGPIPE: what it
//! writes meanwhile waits in the kernel's pipe (64 KiB, then its writes block) and is read by the next start, which
//! opens the same pipes by name. Nothing on disk can grow while nobody rotates it.

mod capture;
mod read;
mod write;

use std::path::{Path, PathBuf};

pub use capture::{Capture, Pipes};
pub use read::{LogOptions, Reader};
pub use write::{Limits, LogWriter};

/// Lines longer than this are split into partial entries.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// Which of the two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The current log file of one run of a container.
pub fn path(container_dir: &Path, attempt: u32) -> PathBuf {
    container_dir.join("logs").join(format!("{attempt}.log"))
}

/// The runs of a container that have a log, oldest first.
pub fn attempts(container_dir: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(container_dir.join("logs")).into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok();
    let mut attempts: Vec<u32> = entries.filter_map(number).collect();
    attempts.sort_unstable();
    attempts
}

pub fn latest_attempt(container_dir: &Path) -> Option<u32> {
    attempts(container_dir).last().copied()
}

/// Removes the logs of all runs but the newest `keep`.
pub fn prune(container_dir: &Path, keep: usize) {
    let attempts = attempts(container_dir);
    for attempt in attempts.iter().take(attempts.len().saturating_sub(keep)) {
        let log = path(container_dir, *attempt);
        let mut file = log.clone();
        let mut n = 0;
        // What cannot be removed now is tried again with the next start.
        while std::fs::remove_file(&file).is_ok() {
            n += 1;
            file = rotated(&log, n);
        }
    }
}

/// The `n`-th older file of `log`.
fn rotated(log: &Path, n: usize) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}
