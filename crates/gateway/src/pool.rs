//! Idle connections to targets, one pool per thread, so that taking one needs no other thread's cooperation.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

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
    pub(crate) io: TcpStream,
    /// Bytes read and not used yet.
    pub(crate) buffer: Vec<u8>,
    pub(crate) requests: u32,
}

struct Idle {
    connection: Upstream,
    since: Instant,
}

pub(crate) struct Pool {
    settings: KeepAlive,
    idle: Mutex<HashMap<SocketAddr, Vec<Idle>>>,
}

impl Pool {
    pub(crate) fn new(settings: KeepAlive) -> Pool {
        Pool { settings, idle: Mutex::new(HashMap::new()) }
    }

    /// The connection used last, if one is still open and idle for less than `max_idle`. Costs no system call as long
    /// as nothing was received on it.
    pub(crate) fn take(&self, address: SocketAddr, max_idle: Option<Duration>) -> Option<Upstream> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(&address)?;
        if max_idle.is_some_and(|limit| kept.last().is_some_and(|idle| idle.since.elapsed() > limit)) {
            return None;
        }
        while let Some(Idle { connection, .. }) = kept.pop() {
            let mut probe = [0u8; 1];
            match connection.io.try_read(&mut probe) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(connection),
                // Closed, broken, or speaking before it was asked.
                _ => continue,
            }
        }
        None
    }

    pub(crate) fn put(&self, address: SocketAddr, mut connection: Upstream) {
        connection.buffer.clear();
        if connection.requests >= self.settings.max_requests {
            return;
        }
        let mut idle = self.idle.lock();
        let kept = idle.entry(address).or_default();
        if kept.len() < self.settings.pool_size {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what is idle to `address`.
    pub(crate) fn forget(&self, address: SocketAddr) {
        self.idle.lock().remove(&address);
    }

    /// Closes what has been idle too long, and what goes to addresses `keep` does not want.
    pub(crate) fn sweep(&self, keep: impl Fn(SocketAddr) -> bool) {
        let timeout = self.settings.idle_timeout;
        self.idle.lock().retain(|address, kept| {
            kept.retain(|idle| idle.since.elapsed() < timeout);
            !kept.is_empty() && keep(*address)
        });
    }
}
