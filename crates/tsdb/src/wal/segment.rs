//! Segment files: names, order, and what a folder holds.

use std::fs;
use std::path::{Path, PathBuf};

use super::WalError;

/// One segment of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number, which is its name.
    pub index: u32,
    /// Where it is.
    pub path: PathBuf,
    /// Its size now.
    pub bytes: u64,
}

/// The file of segment `index` in `dir`: eight digits or more.
pub fn segment_path(dir: &Path, index: u32) -> PathBuf {
    dir.join(format!("{index:08}"))
}

/// The segments in `dir` by number; other files are left out, a missing folder holds none.
///
/// # Errors
/// When the folder cannot be read or a number between the first and the last is missing.
pub fn list_segments(dir: &Path) -> Result<Vec<SegmentFile>, WalError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(WalError::io("read folder", dir)(error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry.map_err(WalError::io("read folder", dir))?;
        let Some(index) = entry.file_name().to_str().and_then(segment_index) else { continue };
        let metadata = entry.metadata().map_err(WalError::io("stat", entry.path()))?;
        if metadata.is_file() {
            segments.push(SegmentFile { index, path: entry.path(), bytes: metadata.len() });
        }
    }
    segments.sort_by_key(|segment| segment.index);
    for pair in segments.windows(2) {
        if let [before, after] = pair
            && before.index + 1 != after.index
        {
            return Err(WalError::MissingSegment { dir: dir.to_path_buf(), missing: before.index + 1 });
        }
    }
    Ok(segments)
}

fn segment_index(name: &str) -> Option<u32> {
    (name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.parse().ok())?
}

/// Makes the folder's entries durable (new, renamed and removed files).
pub(crate) fn sync_dir(dir: &Path) -> Result<(), WalError> {
    fs::File::open(dir).and_then(|file| file.sync_all()).map_err(WalError::io("sync folder", dir))
}
