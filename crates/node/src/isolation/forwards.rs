//! Ports of pods as loopback ports of this machine, for clients that take an address and no connection.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::PodNetworks;

/// The one that was asked for longest ago makes room for another.
const MOST_PORTS: usize = 256;
const MOST_CONNECTIONS: usize = 1024;
/// Without descriptors left, accepting fails at once and would be tried without a pause.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Opened when they are asked for, closed when it is dropped; connections under way go on.
pub struct Forwards {
    networks: PodNetworks,
    open: Mutex<Open>,
    connections: Arc<Semaphore>,
}

#[derive(Default)]
struct Open {
    by_target: HashMap<SocketAddr, Forward>,
    turn: u64,
}

struct Forward {
    at: SocketAddr,
    asked_for: u64,
    task: JoinHandle<()>,
}

// === impl Forwards ===

impl Forwards {
    pub fn new(networks: PodNetworks) -> Forwards {
        let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        Forwards { networks, open: Mutex::default(), connections }
    }

    fn open(&self, target: SocketAddr, asked_for: u64) -> io::Result<Forward> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let at = listener.local_addr()?;
        let serving = serve(listener, target, self.networks.clone(), self.connections.clone());
        Ok(Forward { at, asked_for, task: tokio::spawn(serving) })
    }

    /// The loopback address that leads to `target`; `None` when it is none of the pods' or no port can be opened. Within a
    /// tokio runtime.
    pub fn to(&self, target: SocketAddr) -> Option<SocketAddr> {
        if !self.networks.owns(target.ip()) {
            return None;
        }
        let mut open = self.open.lock();
        open.turn += 1;
        let turn = open.turn;
        if let Some(forward) = open.by_target.get_mut(&target) {
            forward.asked_for = turn;
            return Some(forward.at);
        }
        if open.by_target.len() >= MOST_PORTS {
            let oldest = open.by_target.iter().min_by_key(|(_, forward)| forward.asked_for);
            if let Some(oldest) = oldest.map(|(target, _)| *target) {
                open.by_target.remove(&oldest);
            }
        }
        match self.open(target, turn) {
            Ok(forward) => {
                let at = forward.at;
                open.by_target.insert(target, forward);
                Some(at)
            }
            Err(error) => {
                tracing::warn!(%target, %error, "cannot open a port that leads to a pod");
                None
            }
        }
    }
}

// === impl Forward ===

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    networks: PodNetworks,
    connections: Arc<Semaphore>,
) {
    while let Ok(permit) = connections.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((client, _)) => {
                let networks = networks.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = pass(client, target, &networks).await {
                        tracing::debug!(%target, %error, "a connection to a pod ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%target, %error, "cannot accept a connection for a pod");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr, networks: &PodNetworks) -> io::Result<()> {
    let mut pod = networks.connect_tcp(target).await?;
    let _ = client.set_nodelay(true);
    let _ = pod.set_nodelay(true);
    copy_bidirectional(&mut client, &mut pod).await.map(drop)
}
