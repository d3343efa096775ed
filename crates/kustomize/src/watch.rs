//! Which files a build looked at, and word when one of them changes.
//!
//! Invariant: a change that comes while a build runs is not lost. Each file's state is noted before it is read and
//! compared once its folder is watched, and nothing is forgotten until [`Watcher::changed`] asks. Linux inotify on
//! folders, not on files: editors replace files instead of writing to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::fs::{Disk, FileSystem};

/// A build that reads from more folders is not watched.
const MOST_FOLDERS: usize = 4096;
const EVENT_BYTES: usize = 16 << 10;

/// The disk, remembering every path that a build read or looked for in vain.
#[derive(Debug, Default)]
pub struct Recording {
    seen: Mutex<BTreeMap<PathBuf, Option<State>>>,
}

/// What tells one content of a file from another without reading it; `None` in its place is a file that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    inode: u64,
    length: u64,
    modified_ns: i128,
}

/// Folders under watch. Its descriptor is readable when something happened in one of them.
#[derive(Debug)]
pub struct Watcher {
    inotify: OwnedFd,
    folders: HashMap<i32, PathBuf>,
    wanted: BTreeSet<PathBuf>,
    /// Changed between being read and being watched.
    missed: BTreeSet<PathBuf>,
}

// === impl Recording ===

impl Recording {
    /// Counts `path` as looked at. What it was when it was first looked at is what it is compared with.
    pub fn note(&self, path: &Path) {
        let path = crate::fs::normal(path);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(path).or_insert_with_key(|path| state(path));
    }
}

fn state(path: &Path) -> Option<State> {
    let metadata = std::fs::metadata(path).ok()?;
    let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Some(State { inode: metadata.ino(), length: metadata.len(), modified_ns })
}

impl FileSystem for Recording {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.note(path);
        Disk.read(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        Disk.is_dir(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let found = Disk.canonical(path);
        if found.is_err() {
            self.note(path);
        }
        found
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Disk.list(path)
    }
}

// === impl Watcher ===

impl Watcher {
    pub fn new() -> io::Result<Watcher> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Watcher { inotify, folders: HashMap::new(), wanted: BTreeSet::new(), missed: BTreeSet::new() })
    }

    /// From now on what was recorded is what counts. Folders that were watched before stay so, at no cost.
    pub fn watch(&mut self, recording: Recording) -> io::Result<()> {
        self.wanted.clear();
        self.watch_more(recording)
    }

    /// What was recorded counts as well.
    pub fn watch_more(&mut self, recording: Recording) -> io::Result<()> {
        let seen = recording.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        let folders: BTreeSet<&Path> = seen.keys().filter_map(|path| nearest_folder(path)).collect();
        if folders.len() > MOST_FOLDERS {
            let number = folders.len();
            return Err(io::Error::other(format!("{number} folders, at most {MOST_FOLDERS} are watched")));
        }
        for folder in folders {
            match inotify::add_watch(&self.inotify, folder, flags) {
                Ok(id) => drop(self.folders.insert(id, folder.to_owned())),
                // Removed since the build looked: whatever comes back is seen from the folder above.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.missed.extend(
            seen.iter().filter(|(path, before)| state(path) != **before).map(|(path, _)| path.clone()),
        );
        self.wanted.extend(seen.into_keys());
        Ok(())
    }

    /// Takes what has happened since the last call; the paths that count among it. Does not wait.
    pub fn changed(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        let mut changed = std::mem::take(&mut self.missed);
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(changed),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                // More happened than the kernel kept: anything may have changed.
                changed.extend(self.wanted.iter().cloned());
                continue;
            }
            let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), event.file_name()) else {
                continue;
            };
            let path = folder.join(OsStr::from_bytes(name.to_bytes()));
            if self.counts(&path) {
                changed.insert(path);
            }
        }
    }

    /// A wanted file, or a folder in which one is wanted.
    fn counts(&self, path: &Path) -> bool {
        self.wanted.range(path.to_owned()..).next().is_some_and(|wanted| wanted.starts_with(path))
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}

fn nearest_folder(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(folder: &Path) -> Watcher {
        let recording = Recording::default();
        crate::build(&recording, folder, &crate::Options::default()).unwrap();
        let mut watcher = Watcher::new().unwrap();
        watcher.watch(recording).unwrap();
        watcher
    }

    fn project() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("kustomization.yaml", "configMapGenerator:\n- {name: a, files: [data.txt]}\n");
        write("data.txt", "one");
        write("other.txt", "not part of the build");
        folder
    }

    #[test]
    fn a_file_the_build_read_counts_and_another_does_not() {
        let folder = project();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let mut watcher = watched(&root);
        std::fs::write(root.join("other.txt"), "changed").unwrap();
        assert_eq!(watcher.changed().unwrap(), BTreeSet::new());
        std::fs::write(root.join("data.txt"), "two").unwrap();
        assert_eq!(watcher.changed().unwrap(), BTreeSet::from([root.join("data.txt")]));
        assert_eq!(watcher.changed().unwrap(), BTreeSet::new());
    }

    #[test]
    fn a_file_that_is_replaced_as_editors_do_counts() {
        let folder = project();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let mut watcher = watched(&root);
        std::fs::write(root.join(".data.txt.swp"), "two").unwrap();
        std::fs::rename(root.join(".data.txt.swp"), root.join("data.txt")).unwrap();
        assert_eq!(watcher.changed().unwrap(), BTreeSet::from([root.join("data.txt")]));
    }

    #[test]
    fn a_file_that_was_missing_counts_when_it_comes() {
        let folder = project();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::write(root.join("kustomization.yaml"), "resources: [sub/late.yaml]\n").unwrap();
        let recording = Recording::default();
        assert!(crate::build(&recording, &root, &crate::Options::default()).is_err());
        let mut watcher = Watcher::new().unwrap();
        watcher.watch(recording).unwrap();
        std::fs::create_dir(root.join("sub")).unwrap();
        assert_eq!(watcher.changed().unwrap(), BTreeSet::from([root.join("sub")]));
    }

    #[test]
    fn a_file_that_changed_before_it_was_watched_counts() {
        let folder = project();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let recording = Recording::default();
        crate::build(&recording, &root, &crate::Options::default()).unwrap();
        std::fs::write(root.join("data.txt"), "longer than before").unwrap();
        let mut watcher = Watcher::new().unwrap();
        watcher.watch(recording).unwrap();
        assert_eq!(watcher.changed().unwrap(), BTreeSet::from([root.join("data.txt")]));
        assert_eq!(watcher.changed().unwrap(), BTreeSet::new());
    }
}
