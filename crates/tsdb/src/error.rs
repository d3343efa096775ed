//! What can go wrong when the store is opened or kept.

use std::path::PathBuf;

use crate::block::BlockError;
use crate::wal::WalError;

/// A failure of the store as a whole; samples that are not taken are an
/// [`AppendError`](gantry_prom_model::AppendError) instead.
#[derive(Debug, thiserror::Error)]
pub enum TsdbError {
    /// The log cannot be read or written.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A block cannot be read or written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// What is in memory or on disk contradicts itself.
    #[error("{what}: {reason}")]
    Damaged {
        /// What it is.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another process has the folder.
    #[error(
        "{} is in use by another process (it holds the lock on {}); stop it or choose another folder",
        dir.display(),
        dir.join("lock").display()
    )]
    Locked {
        /// The data folder.
        dir: PathBuf,
    },
}

impl TsdbError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> TsdbError {
        let path = path.into();
        move |source| TsdbError::Io { action, path, source }
    }
}
