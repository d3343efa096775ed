//! Idle connections to targets, one pool per thread, so that taking one needs no other thread's cooperation.

use crate::upstream_io::Io;
use crate::upstream_tls::TlsPeer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As Kong's `upstream_keepalive_*` settings.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Idle connections kept per target and thread.
    pub pool_size: usize,
    /// Requests after which a connection is not kept.
    pub max_requests: u32,
    pub idle_timeout: Duration,
}

impl Default for KeepAlive {
    fn default() -> KeepAlive {
        KeepAlive { pool_size: 512, max_requests: 10_000, idle_timeout: Duration::from_secs(60) }
    }
}

/// A connection to a target.
pub(crate) struct Upstream {
    pub(crate) io: Io,
    /// Bytes read and not used yet.
    pub(crate) buffer: Vec<u8>,
    pub(crate) requests: u32,
}

/// Which requests a connection may be used for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<TlsPeer>>,
}

struct Idle {
    connection: Upstream,
    since: Instant,
}

pub(crate) struct Pool {
    settings: KeepAlive,
    idle: Mutex<HashMap<PoolKey, Vec<Idle>>>,
}

impl Pool {
    pub(crate) fn new(settings: KeepAlive) -> Pool {
        Pool { settings, idle: Mutex::new(HashMap::new()) }
    }

    /// The connection used last, if one is still open and idle for less than `max_idle`. Costs no system call as long
    /// as nothing was received on it.
    pub(crate) fn take(&self, key: &PoolKey, max_idle: Option<Duration>) -> Option<Upstream> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(key)?;
        if max_idle.is_some_and(|limit| kept.last().is_some_and(|idle| idle.since.elapsed() > limit)) {
            return None;
        }
        while let Some(Idle { mut connection, .. }) = kept.pop() {
            // Others are closed, broken, or speak before they were asked.
            if connection.io.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn put(&self, key: PoolKey, mut connection: Upstream) {
        connection.buffer.clear();
        if connection.requests >= self.settings.max_requests {
            return;
        }
        let mut idle = self.idle.lock();
        let kept = idle.entry(key).or_default();
        if kept.len() < self.settings.pool_size {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what is idle under `key`.
    pub(crate) fn forget(&self, key: &PoolKey) {
        self.idle.lock().remove(key);
    }

    /// Closes what has been idle too long, and what goes to addresses `keep` does not want.
    pub(crate) fn sweep(&self, keep: impl Fn(SocketAddr) -> bool) {
        let timeout = self.settings.idle_timeout;
        self.idle.lock().retain(|key, kept| {
            kept.retain(|idle| idle.since.elapsed() < timeout);
            !kept.is_empty() && keep(key.address)
        });
    }
}
