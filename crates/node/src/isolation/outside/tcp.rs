//! Connections out of the pods' network: made first, accepted then, and passed on byte by byte.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::packet::{self, Unreachable};
use super::{Injector, PAUSE, real};
use crate::isolation::{Flow, PodNetworks};

/// At a time. More wait for nothing: their first packets are dropped, and sent again by the pods' kernel.
const MOST_CONNECTIONS: usize = 4_096;
/// As long as a kernel tries, about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// Between the packet that is written back and the connection that it makes.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A listener without connections goes after this time.
const LISTENER_IDLE: Duration = Duration::from_secs(60);
/// A pod may take this long for what is left when the other side has closed.
const LINGER: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 32 * 1024;

pub(super) struct Connections {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

struct Shared {
    networks: PodNetworks,
    injector: Arc<Injector>,
    /// From the first packet to the end; a first packet that is sent again must not open a second one.
    open: Mutex<HashSet<Flow>>,
    /// Those that are being accepted, by destination and then by source.
    listeners: Mutex<HashMap<SocketAddrV4, Waiting>>,
    /// Held while a listener is made: there cannot be two of one address.
    making: tokio::sync::Mutex<()>,
    /// Held during a request to the holder: others would wait for its answer too, each in a thread.
    asking: tokio::sync::Mutex<()>,
}

type Waiting = HashMap<SocketAddrV4, oneshot::Sender<TcpStream>>;

impl Connections {
    pub(super) fn new(networks: PodNetworks, injector: Arc<Injector>) -> Connections {
        let shared = Shared {
            networks,
            injector,
            open: Mutex::default(),
            listeners: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        };
        Connections { shared: Arc::new(shared), places: Arc::new(Semaphore::new(MOST_CONNECTIONS)) }
    }

    /// Takes up the connection whose first packet this is.
    pub(super) fn open(&mut self, flow: Flow, opening: &[u8]) {
        let Ok(place) = self.places.clone().try_acquire_owned() else { return };
        if !self.shared.open.lock().insert(flow) {
            return;
        }
        tokio::spawn(self.shared.clone().serve(flow, opening.to_vec(), place));
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, flow: Flow, opening: Vec<u8>, _place: OwnedSemaphorePermit) {
        let destination = SocketAddr::V4(real(flow.destination));
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(destination)).await {
            Ok(Ok(outside)) => {
                if let Err(error) = self.join(flow, &opening, outside).await {
                    tracing::debug!(%error, source = %flow.source, %destination, "a connection out of a pod ended");
                }
            }
            Ok(Err(error)) => self.refuse(flow, &opening, &error),
            // The pod's kernel has given up by then.
            Err(_) => {}
        }
        self.open.lock().remove(&flow);
    }

    fn refuse(&self, flow: Flow, opening: &[u8], error: &io::Error) {
        let answer = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => packet::reset(opening, flow),
            kind => {
                let is_network = kind == io::ErrorKind::NetworkUnreachable;
                let why = if is_network { Unreachable::Network } else { Unreachable::Host };
                packet::quotation(opening).and_then(|quotation| packet::unreachable(&quotation, flow, why))
            }
        };
        self.injector.write(answer);
    }

    async fn join(self: &Arc<Self>, flow: Flow, opening: &[u8], outside: TcpStream) -> io::Result<()> {
        let accepted = self.expect(flow).await?;
        let outcome = self.carry(flow, opening, outside, accepted).await;
        self.forget(flow).await;
        outcome
    }

    async fn carry(
        &self,
        flow: Flow,
        opening: &[u8],
        mut outside: TcpStream,
        accepted: oneshot::Receiver<TcpStream>,
    ) -> io::Result<()> {
        self.ask(move |networks| networks.divert(flow, true)).await?;
        self.injector.write(packet::summed(opening));
        let accepted = tokio::time::timeout(ACCEPT_TIMEOUT, accepted).await?;
        let mut inside = accepted.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        let _ = inside.set_nodelay(true);
        let _ = outside.set_nodelay(true);
        tokio::io::copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER_BYTES, BUFFER_BYTES)
            .await?;
        delivered(inside).await
    }

    /// Takes back what was arranged for a connection, at its end.
    async fn forget(&self, flow: Flow) {
        if let Some(waiting) = self.listeners.lock().get_mut(&flow.destination) {
            waiting.remove(&flow.source);
        }
        if let Err(error) = self.ask(move |networks| networks.divert(flow, false)).await {
            tracing::debug!(%error, "a rule for a connection is not removed");
        }
    }

    /// Asks the holder, whose answers may take their time, without blocking other connections' bytes.
    async fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(&PodNetworks) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let _turn = self.asking.lock().await;
        let networks = self.networks.clone();
        tokio::task::spawn_blocking(move || request(&networks)).await.map_err(io::Error::other)?
    }

    /// Gets the connection of `flow` once it is accepted; there is a listener for it then.
    async fn expect(self: &Arc<Self>, flow: Flow) -> io::Result<oneshot::Receiver<TcpStream>> {
        let (give, accepted) = oneshot::channel();
        let _making = self.making.lock().await;
        let Some(give) = self.wait_at_listener(flow, give) else { return Ok(accepted) };
        let destination = flow.destination;
        let listener = self.ask(move |networks| networks.listen_diverted(destination)).await?;
        let listener = TcpListener::from_std(listener)?;
        self.listeners.lock().entry(destination).or_default().insert(flow.source, give);
        tokio::spawn(self.clone().accept(destination, listener));
        Ok(accepted)
    }

    /// Gives back the sender when there is no listener for it.
    fn wait_at_listener(
        &self,
        flow: Flow,
        give: oneshot::Sender<TcpStream>,
    ) -> Option<oneshot::Sender<TcpStream>> {
        match self.listeners.lock().get_mut(&flow.destination) {
            Some(waiting) => {
                waiting.insert(flow.source, give);
                None
            }
            None => Some(give),
        }
    }

    async fn accept(self: Arc<Self>, destination: SocketAddrV4, listener: TcpListener) {
        loop {
            let accepted = tokio::time::timeout(LISTENER_IDLE, listener.accept()).await;
            let has_failed = matches!(accepted, Ok(Err(_)));
            {
                let mut listeners = self.listeners.lock();
                let Some(waiting) = listeners.get_mut(&destination) else { return };
                match accepted {
                    Ok(Ok((stream, SocketAddr::V4(source)))) => {
                        // Nobody waits for a connection of an earlier rule; it is closed.
                        if let Some(give) = waiting.remove(&source) {
                            let _ = give.send(stream);
                        }
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) | Err(_) if waiting.is_empty() => {
                        // Its address is free before the next can be made.
                        drop(listener);
                        listeners.remove(&destination);
                        return;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "a connection out of a pod is not accepted"),
                    Err(_) => {}
                }
            }
            if has_failed {
                // Out of descriptors: the next would fail at once.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Returns when the pod has got all that was written, or does not take it: until then its answers must find the socket.
async fn delivered(inside: TcpStream) -> io::Result<()> {
    let inside = inside.into_std()?;
    socket2::SockRef::from(&inside).set_linger(Some(LINGER))?;
    // Closing waits.
    tokio::task::spawn_blocking(move || drop(inside)).await.map_err(io::Error::other)
}
