//! The files as they will be: what an edit writes and removes, over the file system that has the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{FileSystem, normal};

pub(super) struct Overlay<'a> {
    below: &'a dyn FileSystem,
    written: BTreeMap<PathBuf, String>,
    removed: BTreeSet<PathBuf>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(below: &'a dyn FileSystem) -> Overlay<'a> {
        Overlay { below, written: BTreeMap::new(), removed: BTreeSet::new() }
    }

    /// `path` is canonical, or that of a new file in a canonical directory.
    pub(super) fn write(&mut self, path: PathBuf, text: String) {
        self.removed.remove(&path);
        self.written.insert(path, text);
    }

    pub(super) fn remove(&mut self, path: PathBuf) {
        self.written.remove(&path);
        self.removed.insert(path);
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.canonical(path).is_ok()
    }

    /// A file's text; `None` when there is none, or none that is text.
    pub(super) fn text(&self, path: &Path) -> Option<String> {
        String::from_utf8(self.read(path).ok()?).ok()
    }

    /// What is written and what is removed.
    pub(super) fn into_changes(self) -> (Vec<(PathBuf, String)>, Vec<PathBuf>) {
        (self.written.into_iter().collect(), self.removed.into_iter().collect())
    }
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file or directory")
}

impl FileSystem for Overlay<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.canonical(path)?;
        match self.written.get(&path) {
            Some(text) => Ok(text.clone().into_bytes()),
            None => self.below.read(&path),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.below.is_dir(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let plain = normal(path);
        if self.written.contains_key(&plain) {
            return Ok(plain);
        }
        let found = self.below.canonical(path)?;
        if self.removed.contains(&found) { Err(not_found()) } else { Ok(found) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let dir = self.below.canonical(path)?;
        let mut names: BTreeSet<String> = self.below.list(path)?.into_iter().collect();
        let name = |path: &PathBuf| {
            let is_here = path.parent() == Some(&dir);
            path.file_name().filter(|_| is_here).map(|name| name.to_string_lossy().into_owned())
        };
        for gone in self.removed.iter().filter_map(name) {
            names.remove(&gone);
        }
        names.extend(self.written.keys().filter_map(name));
        Ok(names.into_iter().collect())
    }
}
