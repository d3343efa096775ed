//! The lock file: which commit and which content every remote thing stands for.
//!
//! Format: one line each, tab-separated and sorted: `git`, the repository, its ref (`-` for none), the commit; or `http`,
//! the address, `-`, `sha256:` and the digest. Credentials are never in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gantry_kustomize::remote::without_credentials;

use super::cache::{is_commit, is_sha256, write_whole};

const HEAD: &str = "# What remote bases and files stand for. Made by `gantry kustomize build --lock-file`; delete a line to have\n\
                    # it looked up again.\n";
const MOST_BYTES: u64 = 8 << 20;
const DIGEST: &str = "sha256:";

#[derive(Debug, Default)]
pub(super) struct Lock {
    path: Option<PathBuf>,
    pins: BTreeMap<(Kind, String, String), String>,
    changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Git,
    Http,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Git => "git",
            Kind::Http => "http",
        }
    }
}

impl Lock {
    /// Reads a lock file; one that is not there yet is empty.
    pub(super) fn read(path: &Path) -> Result<Lock, String> {
        let wrong = |reason: String| format!("{}: {reason}", path.display());
        let text = match std::fs::metadata(path) {
            Ok(about) if about.len() > MOST_BYTES => {
                return Err(wrong(format!("a lock file has at most {MOST_BYTES} bytes")));
            }
            Ok(_) => std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let mut pins = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) =
                read_line(line).map_err(|reason| format!("{}:{}:1: {reason}", path.display(), index + 1))?;
            if pins.insert(key, value).is_some() {
                return Err(format!("{}:{}:1: this is pinned above already", path.display(), index + 1));
            }
        }
        Ok(Lock { path: Some(path.to_owned()), pins, changed: false })
    }

    pub(super) fn shown(&self) -> String {
        self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    pub(super) fn commit(&self, url: &str, reference: &str) -> Option<&str> {
        self.pins.get(&git_key(url, reference)).map(String::as_str)
    }

    pub(super) fn pin_commit(&mut self, url: &str, reference: &str, commit: &str) {
        self.pin(git_key(url, reference), commit.to_owned());
    }

    /// The SHA-256 of what an address has.
    pub(super) fn content(&self, address: &str) -> Option<&str> {
        self.pins.get(&http_key(address)).and_then(|value| value.strip_prefix(DIGEST))
    }

    pub(super) fn pin_content(&mut self, address: &str, sha256: &str) {
        self.pin(http_key(address), format!("{DIGEST}{sha256}"));
    }

    fn pin(&mut self, key: (Kind, String, String), value: String) {
        if self.pins.get(&key) != Some(&value) {
            self.pins.insert(key, value);
            self.changed = true;
        }
    }

    /// Writes what was pinned since it was read.
    pub(super) fn save(&mut self) -> Result<(), String> {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return Ok(()) };
        let mut text = HEAD.to_owned();
        for ((kind, address, reference), value) in &self.pins {
            text.push_str(&format!("{}\t{address}\t{reference}\t{value}\n", kind.word()));
        }
        write_whole(path, text.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))?;
        self.changed = false;
        Ok(())
    }
}

fn clean(address: &str) -> String {
    without_credentials(address).replace(['\t', '\n'], "%20")
}

fn git_key(url: &str, reference: &str) -> (Kind, String, String) {
    (Kind::Git, clean(url), if reference.is_empty() { "-".to_owned() } else { clean(reference) })
}

fn http_key(address: &str) -> (Kind, String, String) {
    (Kind::Http, clean(address), "-".to_owned())
}

fn read_line(line: &str) -> Result<((Kind, String, String), String), String> {
    let parts: Vec<&str> = line.split('\t').collect();
    let [kind, address, reference, value] = parts[..] else {
        return Err(format!("expected four parts between tabs, found {}", parts.len()));
    };
    let (kind, fits) = match kind {
        "git" => (Kind::Git, is_commit(value)),
        "http" => (Kind::Http, value.strip_prefix(DIGEST).is_some_and(is_sha256)),
        other => return Err(format!("'{other}' is no kind of remote; known are git, http")),
    };
    if !fits {
        let wanted = if kind == Kind::Git { "a whole commit id" } else { "sha256: and a digest" };
        return Err(format!("expected {wanted}, found '{value}'"));
    }
    Ok(((kind, address.to_owned(), reference.to_owned()), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("remote.lock");
        let mut lock = Lock::read(&path).unwrap();
        let (commit, digest) = ("a1".repeat(20), "b2".repeat(32));
        lock.pin_commit("https://me:s3cret@git.example/o/r", "", &commit);
        lock.pin_content("https://example.com/x.yaml", &digest);
        lock.save().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        let lock = Lock::read(&path).unwrap();
        assert_eq!(lock.commit("https://me:s3cret@git.example/o/r", ""), Some(commit.as_str()));
        assert_eq!(lock.content("https://example.com/x.yaml"), Some(digest.as_str()));
        assert_eq!(lock.content("https://example.com/y.yaml"), None);
    }

    #[test]
    fn a_wrong_line_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("remote.lock");
        for (line, why) in [
            ("git\thttps://x/o/r\tv1\t../../etc", "expected a whole commit id"),
            ("git\thttps://x/o/r", "expected four parts"),
            ("svn\tx\t-\ty", "known are git, http"),
        ] {
            std::fs::write(&path, format!("# head\n{line}\n")).unwrap();
            let error = Lock::read(&path).unwrap_err();
            assert!(error.contains("remote.lock:2:1: ") && error.contains(why), "{error}");
        }
    }
}
