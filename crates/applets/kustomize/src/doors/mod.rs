//! The doors of a build, opened: what is remote through git and HTTP and a cache, programs as processes.

mod cache;
mod git;
mod http;
mod lock;
mod process;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use gantry_kustomize::door::{Call, FetchError, Finished, Programs, Remote};
use gantry_kustomize::remote::{Repository, without_credentials};

pub use cache::Cache;
use cache::{Seen, is_commit};
use git::Origin;
use http::Reply;
use lock::Lock;
use process::{Bounds, Group};

/// A build that fetches more is refused.
const MOST_FETCHES: usize = 1000;
/// How long a chart or a function may take where nothing else is said.
pub const DEFAULT_PROGRAM_TIME: Duration = Duration::from_secs(5 * 60);
/// And what it may write.
const PROGRAM_OUTPUT_BYTES: usize = 256 << 20;

type Fetched = Result<PathBuf, FetchError>;

/// What was asked for. Who asks while it is being fetched waits for it; other things are fetched meanwhile.
type Asked<K> = Mutex<HashMap<K, Arc<OnceLock<Fetched>>>>;

/// What is remote, fetched once whoever refers to it, also by several builds at a time.
#[derive(Debug)]
pub struct Fetcher {
    cache: Cache,
    /// Use only what is in the cache.
    offline: bool,
    lock: Mutex<Lock>,
    trees: Asked<(String, String, bool)>,
    files: Asked<String>,
}

// === impl Fetcher ===

impl Fetcher {
    /// `lock_file` pins what it names, and gets what it does not.
    pub fn new(cache: Cache, offline: bool, lock_file: Option<&Path>) -> Result<Fetcher, String> {
        let lock = lock_file.map_or_else(|| Ok(Lock::default()), Lock::read)?;
        Ok(Fetcher {
            cache,
            offline,
            lock: Mutex::new(lock),
            trees: Mutex::default(),
            files: Mutex::default(),
        })
    }

    /// Writes to the lock file what was not in it.
    pub fn save_lock(&self) -> Result<(), String> {
        self.lock().save()
    }

    fn lock(&self) -> MutexGuard<'_, Lock> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of what is asked for, unless it is one too many.
    fn slot<K: Eq + Hash>(&self, asked: &Asked<K>, key: K) -> Result<Arc<OnceLock<Fetched>>, FetchError> {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.contains_key(&key) && asked.len() >= MOST_FETCHES {
            return Err(FetchError::Failed(format!(
                "at most {MOST_FETCHES} repositories and as many files are fetched"
            )));
        }
        Ok(asked.entry(key).or_default().clone())
    }

    fn fetch_tree(&self, repository: &Repository) -> Result<PathBuf, String> {
        let (url, reference) = (repository.url(), repository.reference());
        let submodules = repository.submodules();
        let pinned = self.lock().commit(&url, reference).map(str::to_owned);
        let known = pinned
            .clone()
            .or_else(|| is_commit(reference).then(|| reference.to_owned()))
            .or_else(|| self.offline.then(|| self.cache.reference(&url, reference)).flatten());
        if let Some((commit, path)) =
            known.as_ref().and_then(|commit| Some((commit, self.cache.tree(commit, submodules)?)))
        {
            self.lock().pin_commit(&url, reference, commit);
            return Ok(path);
        }
        if self.offline {
            return Err(format!("'{}' is not in the cache, and --offline was given", repository.shown()));
        }
        let origin = Origin { url: url.clone(), timeout: repository.timeout() };
        if known.is_none()
            && let Some(commit) = origin.resolve(reference)?
            && let Some(path) = self.cache.tree(&commit, submodules)
        {
            return self.found(&url, reference, &commit, path);
        }
        let failed = |error: std::io::Error| format!("cache: {error}");
        let staged = self.cache.staging().map_err(failed)?;
        let wanted = known.as_deref().unwrap_or(reference);
        let commit = origin.check_out(wanted, submodules, staged.path())?;
        if let Some(pinned) = pinned.filter(|pinned| *pinned != commit) {
            let lock = self.lock().shown();
            return Err(format!("'{}' has commit {commit}, but {lock} pins {pinned}", repository.shown()));
        }
        let path = self.cache.keep_tree(staged, &commit, submodules).map_err(failed)?;
        self.found(&url, reference, &commit, path)
    }

    fn found(&self, url: &str, reference: &str, commit: &str, path: PathBuf) -> Result<PathBuf, String> {
        self.cache.note_reference(url, reference, commit).map_err(|error| format!("cache: {error}"))?;
        self.lock().pin_commit(url, reference, commit);
        Ok(path)
    }

    fn fetch_file(&self, address: &str) -> Fetched {
        let shown = without_credentials(address);
        let failed = FetchError::Failed;
        let pinned = self.lock().content(address).map(str::to_owned);
        let seen = self.cache.seen(address);
        if let Some(path) = pinned.as_ref().and_then(|sha256| self.cache.file(sha256)) {
            return Ok(path);
        }
        let cached = seen.as_ref().and_then(|seen| Some((seen, self.cache.file(&seen.sha256)?)));
        if self.offline {
            return match cached.filter(|_| pinned.is_none()) {
                Some((seen, path)) => {
                    self.lock().pin_content(address, &seen.sha256);
                    Ok(path)
                }
                None => Err(failed(format!("'{shown}' is not in the cache, and --offline was given"))),
            };
        }
        let etag = cached.as_ref().map(|(seen, _)| seen.etag.as_str()).filter(|etag| !etag.is_empty());
        let (sha256, path) = match http::get(address, etag).map_err(failed)? {
            Reply::Status(status) => return Err(FetchError::Status(status)),
            Reply::Unchanged => match cached {
                Some((seen, path)) => (seen.sha256.clone(), path),
                None => {
                    return Err(failed(format!("'{shown}' says that it is unchanged, but was not asked")));
                }
            },
            Reply::File { bytes, etag } => {
                let kept = self.cache.keep_file(&bytes).and_then(|(sha256, path)| {
                    self.cache.note_seen(address, &Seen { sha256: sha256.clone(), etag })?;
                    Ok((sha256, path))
                });
                kept.map_err(|error| failed(format!("cache: {error}")))?
            }
        };
        if let Some(pinned) = pinned.filter(|pinned| *pinned != sha256) {
            let lock = self.lock().shown();
            return Err(failed(format!(
                "'{shown}' has content sha256:{sha256}, but {lock} pins sha256:{pinned}"
            )));
        }
        self.lock().pin_content(address, &sha256);
        Ok(path)
    }
}

impl Remote for Fetcher {
    fn tree(&self, repository: &Repository) -> Fetched {
        let key = (repository.url(), repository.reference().to_owned(), repository.submodules());
        let slot = self.slot(&self.trees, key)?;
        slot.get_or_init(|| self.fetch_tree(repository).map_err(FetchError::Failed)).clone()
    }

    fn file(&self, address: &str) -> Fetched {
        let slot = self.slot(&self.files, address.to_owned())?;
        slot.get_or_init(|| self.fetch_file(address)).clone()
    }
}

/// Programs of this machine.
#[derive(Debug)]
pub struct Processes {
    bounds: Bounds,
    scratch: OnceCell<tempfile::TempDir>,
    scratch_files: std::cell::Cell<usize>,
}

// === impl Processes ===

impl Processes {
    /// `time` is how long one program may take.
    pub fn new(time: Duration) -> Processes {
        let bounds = Bounds { time, output_bytes: PROGRAM_OUTPUT_BYTES };
        Processes { bounds, scratch: OnceCell::new(), scratch_files: std::cell::Cell::new(0) }
    }
}

impl Programs for Processes {
    fn run(&self, call: &Call) -> Result<Finished, String> {
        let mut command = Command::new(&call.program);
        command.args(&call.arguments).envs(call.environment.iter().map(|(key, value)| (key, value)));
        if let Some(folder) = &call.directory {
            command.current_dir(folder);
            // What is relative is so from where it runs, and not from here.
            if call.program.contains('/') && !Path::new(&call.program).is_absolute() {
                let mut there = Command::new(folder.join(&call.program));
                there.args(&call.arguments).envs(call.environment.iter().map(|(key, value)| (key, value)));
                there.current_dir(folder);
                command = there;
            }
        }
        process::run(command, call.input.clone(), self.bounds, Group::Own)
    }

    fn scratch_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, String> {
        let number = self.scratch_files.get();
        self.scratch_files.set(number + 1);
        // Charts of one name may have different values.
        let folder = self.scratch()?.join(format!("values-{number}"));
        let path = folder.join(name);
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, content))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    fn scratch(&self) -> Result<PathBuf, String> {
        if let Some(folder) = self.scratch.get() {
            return Ok(folder.path().to_owned());
        }
        let made = tempfile::Builder::new().prefix("gantry-kustomize-").tempdir();
        let made = made.map_err(|error| format!("temporary folder: {error}"))?;
        Ok(self.scratch.get_or_init(|| made).path().to_owned())
    }

    fn container_engine(&self) -> Result<String, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = ["docker", "podman"]
            .into_iter()
            .find(|name| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
        found.map(str::to_owned).ok_or_else(|| {
            "it runs in a container, and neither docker nor podman was found on PATH".to_owned()
        })
    }

    fn user(&self) -> String {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        format!("{}:{}", uid.as_raw(), gid.as_raw())
    }
}
