//! What was fetched before, by content: trees by their commit, files by their SHA-256.
//!
//! Layout: `trees/<commit>[-submodules]/`, `files/<sha256>`, and what was last found where: `refs/<key>` holds a commit,
//! `addresses/<key>` a SHA-256 and an ETag, the key being the SHA-256 of the address. An entry appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Beyond so many entries of a kind the ones that were not used for longest go …
const MOST_ENTRIES: usize = 512;
/// … unless somebody may still be reading them.
const IN_USE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    /// Set where nothing outlives the build.
    _temporary: Option<TempDir>,
}

/// What an address had when it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sha256: String,
    pub(super) etag: String,
}

impl Cache {
    /// A cache in this folder, which is made when something is put there.
    pub fn at(root: PathBuf) -> Cache {
        Cache { root, _temporary: None }
    }

    /// A cache for this build alone.
    pub fn temporary() -> io::Result<Cache> {
        let folder = tempfile::Builder::new().prefix("gantry-kustomize-").tempdir()?;
        Ok(Cache { root: folder.path().to_owned(), _temporary: Some(folder) })
    }

    fn kind(&self, kind: &str) -> PathBuf {
        self.root.join(kind)
    }

    fn make(&self, kind: &str) -> io::Result<PathBuf> {
        let folder = self.kind(kind);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    fn tree_path(&self, commit: &str, submodules: bool) -> PathBuf {
        let suffix = if submodules { "-submodules" } else { "" };
        self.kind("trees").join(format!("{commit}{suffix}"))
    }

    pub(super) fn tree(&self, commit: &str, submodules: bool) -> Option<PathBuf> {
        let path = self.tree_path(commit, submodules);
        path.is_dir().then(|| {
            touch(&path);
            path
        })
    }

    /// A folder in which a tree is put together.
    pub(super) fn staging(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix("tree-").tempdir_in(self.make("staging")?)
    }

    /// Makes a staged tree the one of its commit. Who comes second uses what is there.
    pub(super) fn keep_tree(&self, staged: TempDir, commit: &str, submodules: bool) -> io::Result<PathBuf> {
        let trees = self.make("trees")?;
        let path = self.tree_path(commit, submodules);
        match fs::rename(staged.path(), &path) {
            // Nothing is left to remove where it was put together.
            Ok(()) => drop(staged.keep()),
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(error),
        }
        prune(&trees, &path, MOST_ENTRIES, SystemTime::now());
        Ok(path)
    }

    /// The commit that a ref of a repository had when it was last asked.
    pub(super) fn reference(&self, url: &str, reference: &str) -> Option<String> {
        let path = self.kind("refs").join(key(&[url, reference]));
        let commit = fs::read_to_string(path).ok()?.trim().to_owned();
        is_commit(&commit).then_some(commit)
    }

    pub(super) fn note_reference(&self, url: &str, reference: &str, commit: &str) -> io::Result<()> {
        let folder = self.make("refs")?;
        write_whole(&folder.join(key(&[url, reference])), format!("{commit}\n").as_bytes())
    }

    /// The file with this content, if it is there and still has it.
    pub(super) fn file(&self, sha256: &str) -> Option<PathBuf> {
        let path = self.kind("files").join(sha256);
        let bytes = fs::read(&path).ok()?;
        if sha256_of(&bytes) != sha256 {
            drop(fs::remove_file(&path));
            return None;
        }
        touch(&path);
        Some(path)
    }

    pub(super) fn keep_file(&self, bytes: &[u8]) -> io::Result<(String, PathBuf)> {
        let folder = self.make("files")?;
        let sha256 = sha256_of(bytes);
        let path = folder.join(&sha256);
        write_whole(&path, bytes)?;
        prune(&folder, &path, MOST_ENTRIES, SystemTime::now());
        Ok((sha256, path))
    }

    pub(super) fn seen(&self, address: &str) -> Option<Seen> {
        let text = fs::read_to_string(self.kind("addresses").join(key(&[address]))).ok()?;
        let (sha256, etag) = text.trim_end().split_once('\n').unwrap_or((text.trim_end(), ""));
        is_sha256(sha256).then(|| Seen { sha256: sha256.to_owned(), etag: etag.to_owned() })
    }

    pub(super) fn note_seen(&self, address: &str, seen: &Seen) -> io::Result<()> {
        let folder = self.make("addresses")?;
        write_whole(&folder.join(key(&[address])), format!("{}\n{}\n", seen.sha256, seen.etag).as_bytes())
    }
}

fn key(parts: &[&str]) -> String {
    sha256_of(parts.join("\n").as_bytes())
}

pub(super) fn sha256_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text is a whole commit id, and so the name of one tree and of no other path.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && is_commit(text)
}

/// Writes beside and renames.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Says that an entry was used. One that cannot be told so is only forgotten earlier.
fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        drop(file.set_modified(SystemTime::now()));
    }
}

fn prune(folder: &Path, but: &Path, most: usize, now: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    let surplus = entries.len().saturating_sub(most);
    entries.sort();
    let old = |used: &SystemTime| now.duration_since(*used).is_ok_and(|age| age > IN_USE);
    for (_, path) in entries.iter().take(surplus).filter(|(used, path)| old(used) && path != but) {
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        // Another build may have been faster.
        drop(removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_what_is_in_it_and_not_when_that_changed() {
        let cache = Cache::temporary().unwrap();
        let (sha256, path) = cache.keep_file(b"kind: Pod\n").unwrap();
        assert_eq!(cache.file(&sha256), Some(path.clone()));
        fs::write(&path, "kind: Secret\n").unwrap();
        assert_eq!(cache.file(&sha256), None);
    }

    #[test]
    fn a_tree_that_is_there_is_not_replaced() {
        let cache = Cache::temporary().unwrap();
        let commit = "a".repeat(40);
        for text in ["first", "second"] {
            let staged = cache.staging().unwrap();
            fs::write(staged.path().join("file"), text).unwrap();
            let path = cache.keep_tree(staged, &commit, false).unwrap();
            assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "first");
        }
        assert!(cache.tree(&commit, false).is_some());
        assert!(cache.tree(&commit, true).is_none());
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (name, days) in [("a", 3), ("b", 9), ("c", 0)] {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            File::open(&path).unwrap().set_modified(now - Duration::from_secs(days * 86_400)).unwrap();
        }
        prune(folder.path(), Path::new(""), 2, now);
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "c"]);
        prune(folder.path(), Path::new(""), 0, now);
        assert!(folder.path().join("c").exists(), "what was used a moment ago stays");
    }
}
