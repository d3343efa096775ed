//! The folder in which one `gantry up` keeps everything: who holds it, where things are, what was applied.
//!
//! Invariant: at most one living process holds a folder (an advisory lock on `lock`), and `state.json` is replaced
//! whole, never half-written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

/// The names of what lies in the folder.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
}

/// Held for as long as the process works on the folder.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// `state.json`: what `status`, `down` and `logs` need to find a running `up`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub pid: u32,
    /// Clock ticks since boot, from /proc/PID/stat: with the pid it names one process, whatever reuses the number.
    pub pid_start_time: u64,
    /// The kustomization that was brought up.
    pub dir: PathBuf,
    pub ready: bool,
    pub addresses: Option<Addresses>,
    pub kubeconfig: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Addresses {
    pub api_server: SocketAddr,
    pub gateway: SocketAddr,
    pub metrics: SocketAddr,
    pub console: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("{what} {path}: {error}", path = path.display())]
    Io { what: &'static str, path: PathBuf, error: io::Error },
    #[error(
        "{root} is in use by pid {pid}: another `gantry up` runs there; end it with `gantry down --data-dir {root}` \
         or choose another --data-dir",
        root = root.display()
    )]
    Held { root: PathBuf, pid: u32 },
    #[error("{path} is not a state file: {error}", path = path.display())]
    Corrupt { path: PathBuf, error: serde_json::Error },
}

// === impl StateDir ===

impl StateDir {
    pub(crate) fn open(root: &Path) -> Result<StateDir, StateError> {
        let builder = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        builder(root).map_err(|error| StateError::Io { what: "cannot create", path: root.into(), error })?;
        let root = fs::canonicalize(root).map_err(|error| StateError::Io {
            what: "cannot resolve",
            path: root.into(),
            error,
        })?;
        Ok(StateDir { root })
    }

    /// The folder if it is there; does not make one.
    pub(crate) fn existing(root: &Path) -> Option<StateDir> {
        fs::canonicalize(root).ok().map(|root| StateDir { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn api_server(&self) -> PathBuf {
        self.root.join("apiserver")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.root.join("tsdb")
    }

    pub(crate) fn dashboards(&self) -> PathBuf {
        self.root.join("dashboards")
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("gantry.log")
    }

    fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }

    fn applied_file(&self) -> PathBuf {
        self.root.join("applied.json")
    }

    fn moving_file(&self) -> PathBuf {
        self.root.join("moving-services.json")
    }

    /// Services that a start before was making anew.
    pub(crate) fn read_moving<T: for<'de> Deserialize<'de> + Default>(&self) -> Result<T, StateError> {
        Ok(self.read_json(&self.moving_file())?.unwrap_or_default())
    }

    pub(crate) fn write_moving<T: Serialize>(&self, moving: &T) -> Result<(), StateError> {
        self.write_json(&self.moving_file(), moving)
    }

    pub(crate) fn clear_moving(&self) -> Result<(), StateError> {
        let path = self.moving_file();
        fs::remove_file(&path).map_err(|error| StateError::Io { what: "cannot remove", path, error })
    }

    /// Takes the folder, or says who has it.
    pub(crate) fn lock(&self) -> Result<Lock, StateError> {
        let path = self.root.join("lock");
        let failed = |what: &'static str| {
            let path = path.clone();
            move |error: io::Error| StateError::Io { what, path, error }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("cannot open"))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed("cannot read"))?;
            return Err(StateError::Held { root: self.root.clone(), pid: pid.trim().parse().unwrap_or(0) });
        }
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)).map(|_| ()))
            .map_err(failed("cannot write"))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("cannot write"))?;
        Ok(Lock { _file: file })
    }

    pub(crate) fn read_state(&self) -> Result<Option<State>, StateError> {
        self.read_json(&self.state_file())
    }

    pub(crate) fn write_state(&self, state: &State) -> Result<(), StateError> {
        self.write_json(&self.state_file(), state)
    }

    pub(crate) fn clear_state(&self) {
        let _ = fs::remove_file(self.state_file());
    }

    /// The objects that the last `up` applied, for pruning what is gone from the files.
    pub(crate) fn read_applied<T: for<'de> Deserialize<'de> + Default>(&self) -> Result<T, StateError> {
        Ok(self.read_json(&self.applied_file())?.unwrap_or_default())
    }

    pub(crate) fn write_applied<T: Serialize>(&self, applied: &T) -> Result<(), StateError> {
        self.write_json(&self.applied_file(), applied)
    }

    fn read_json<T: for<'de> Deserialize<'de>>(&self, path: &Path) -> Result<Option<T>, StateError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| StateError::Corrupt { path: path.into(), error }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::Io { what: "cannot read", path: path.into(), error }),
        }
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), StateError> {
        let failed = |error| StateError::Io { what: "cannot write", path: path.into(), error };
        let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let draft = path.with_extension("draft");
        let mut file = File::create(&draft).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&draft, path).map_err(failed)
    }
}

// === impl State ===

impl State {
    /// Whether the process that wrote this still runs.
    pub(crate) fn is_alive(&self) -> bool {
        process_start_time(self.pid) == Some(self.pid_start_time)
    }
}

/// The process' start in clock ticks since boot; `None` when it is gone or a zombie.
pub(crate) fn process_start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses; the fields after it do not.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(start_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let lock = state.lock().unwrap();
        let error = state.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("in use by pid {}", std::process::id())), "{error}");
        drop(lock);
        state.lock().unwrap();
    }

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let own = process_start_time(std::process::id()).unwrap();
        assert!(own > 0);
        let state = State {
            pid: std::process::id(),
            pid_start_time: own + 1,
            dir: "x".into(),
            ready: true,
            addresses: None,
            kubeconfig: "k".into(),
        };
        assert!(!state.is_alive());
    }

    #[test]
    fn state_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        assert!(dir.read_state().unwrap().is_none());
        let applied = vec!["a".to_owned()];
        dir.write_applied(&applied).unwrap();
        assert_eq!(dir.read_applied::<Vec<String>>().unwrap(), applied);
        fs::write(folder.path().join("state.json"), "{").unwrap();
        assert!(dir.read_state().unwrap_err().to_string().contains("not a state file"));
    }
}
