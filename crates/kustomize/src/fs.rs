//! Where files come from: the disk, or memory in tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

/// What a build needs to know of a file system. Paths are absolute.
pub trait FileSystem {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    fn is_dir(&self, path: &Path) -> bool;

    /// The path without links, `.` and `..`; an error when nothing is there.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;

    /// Names of the files and directories in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
}

/// The real file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct Disk;

/// Files in memory, by absolute path.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// A file larger than this is refused.
const MAX_FILE_BYTES: u64 = 256 << 20;

impl FileSystem for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let length = std::fs::metadata(path)?.len();
        if length > MAX_FILE_BYTES {
            return Err(io::Error::other(format!(
                "file has {length} bytes, at most {MAX_FILE_BYTES} are read"
            )));
        }
        std::fs::read(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

impl Memory {
    pub fn insert(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), content.into());
    }
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file or directory")
}

impl FileSystem for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(&normal(path)).cloned().ok_or_else(not_found)
    }

    fn is_dir(&self, path: &Path) -> bool {
        let path = normal(path);
        self.files.keys().any(|file| file != &path && file.starts_with(&path))
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let path = normal(path);
        if self.files.contains_key(&path) || self.is_dir(&path) { Ok(path) } else { Err(not_found()) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let path = normal(path);
        let below = self.files.keys().filter_map(|file| file.strip_prefix(&path).ok());
        let names = below.filter_map(|rest| Some(rest.components().next()?.as_os_str().to_string_lossy()));
        let names: BTreeSet<String> = names.map(|name| name.into_owned()).collect();
        Ok(names.into_iter().collect())
    }
}

/// Without `.` and `..`, by text alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    clean.push("..");
                }
            }
            other => clean.push(other),
        }
    }
    clean
}
