//! The gateway as its owner holds it: start, apply, listen, shut down.

use crate::balancer::Balancer;
use crate::certificates;
use crate::entities::Snapshot;
use crate::listen::{self, AcceptFrom, ListenError, Listener};
use crate::metrics::Metrics;
use crate::network;
use crate::node::{Config, Mode, Shared, Worker, mirror_slots};
use crate::plugins::Counters;
use crate::request_id::RequestIds;
use crate::snapshot::{self, Compiled, ConfigError};
use arc_swap::ArcSwap;
use gantry_clock::SystemClock;
use gantry_prom_model::{Gather as _, Registry};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

const SWEEP_EVERY: Duration = Duration::from_secs(5);
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// The number of a configuration; the first that is applied has 1.
pub type Generation = u64;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}

enum Command {
    Accept(std::net::TcpListener, AcceptFrom),
    Stop,
}

struct Thread {
    commands: mpsc::UnboundedSender<Command>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

struct Open {
    mode: Mode,
    from: AcceptFrom,
}

struct Inner {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    listeners: Mutex<HashMap<SocketAddr, Open>>,
    /// Serialises configurations.
    applying: Mutex<()>,
}

/// A running gateway. Clones are the same one.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

impl Gateway {
    /// Binds `config.proxy_listen` and starts the threads. Nothing is routed until the first [`Gateway::apply`].
    pub fn start(config: Config) -> Result<Gateway, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let default_threads = if cores <= 2 { 1 } else { cores };
        let thread_count = config.threads.unwrap_or(default_threads).max(1);
        let proxy_listen = config.proxy_listen.clone();
        let shared = Arc::new(Shared {
            metrics: Metrics::new(&config.registry),
            ids: RequestIds::new(config.seed),
            counters: Counters::new(config.seed),
            certificates: Arc::default(),
            tls_settings: Default::default(),
            mirror_slots: mirror_slots(),
            clock: config.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::new())),
            current: ArcSwap::from_pointee(Compiled::empty(
                &Balancer::new(),
                &Metrics::new(&Registry::new()),
            )),
            balancer: Balancer::new(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            connections: AtomicUsize::new(0),
            connection_ended: Notify::new(),
            names_changed: Notify::new(),
            config,
        });
        let mut threads = Vec::new();
        for number in 0..thread_count {
            let (commands, receiver) = mpsc::unbounded_channel();
            let shared = Arc::clone(&shared);
            // One thread also keeps the names of targets resolved.
            let resolves = number == 0;
            let handle = std::thread::Builder::new()
                .name(format!("gateway-{number}"))
                .spawn(move || run_thread(shared, receiver, resolves))
                .map_err(StartError::Thread)?;
            threads.push(Thread { commands, handle: Mutex::new(Some(handle)) });
        }
        let inner = Inner { shared, threads, listeners: Mutex::default(), applying: Mutex::default() };
        let gateway = Gateway { inner: Arc::new(inner) };
        for address in proxy_listen {
            gateway.listen(Listener::proxy(address))?;
        }
        Ok(gateway)
    }

    /// Everything in the registry of the configuration, in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        gantry_prom_model::encode_text(&self.inner.shared.config.registry.gather())
    }

    /// Swaps the configuration. Requests that are on their way finish under the one they began with; no connection is
    /// closed. After an error the old configuration stays in effect, unchanged.
    pub fn apply(&self, snapshot: Snapshot) -> Result<Generation, ConfigError> {
        let shared = &self.inner.shared;
        let _one_at_a_time = self.inner.applying.lock();
        let previous = shared.current.load_full();
        let certificates = certificates::check(&snapshot.certificates)?;
        let node = snapshot::Node {
            flavour: shared.config.flavour,
            trusted: shared.config.trusted_certificates.as_deref(),
            balancer: &shared.balancer,
            metrics: &shared.metrics,
            tls_settings: &shared.tls_settings,
        };
        let compiled = snapshot::compile(&snapshot, &node, &previous)?;
        shared.certificates.install(certificates);
        let generation = compiled.generation;
        let has_names = !compiled.named.is_empty();
        shared.current.store(Arc::new(compiled));
        drop(previous);
        shared.tls_settings.sweep();
        shared.metrics.generation.set(generation as f64);
        if has_names {
            shared.names_changed.notify_one();
        }
        Ok(generation)
    }

    /// Resolves once `target` is in no upstream any more and the last request that was sent to it has ended: its
    /// process can be stopped without anybody noticing.
    pub async fn drained(&self, target: SocketAddr) {
        self.inner.shared.balancer.drained(target).await;
    }

    /// Whether some upstream sends requests to `target`.
    pub fn serves_target(&self, target: SocketAddr) -> bool {
        self.inner.shared.balancer.has_open(target)
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.inner.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests that are at some target now.
    pub fn in_flight(&self) -> usize {
        self.inner.shared.balancer.in_flight()
    }

    /// Starts to listen; returns the address, its port filled in.
    pub fn listen(&self, listener: Listener) -> Result<SocketAddr, ListenError> {
        let socket = network::bind(&self.inner.shared.config, listener.address)?;
        let failed = |source| ListenError::Other { address: listener.address, source };
        let address = socket.local_addr().map_err(failed)?;
        let from = AcceptFrom {
            mode: Arc::new(listener.mode.clone()),
            tls: listener.tls.map(TlsAcceptor::from),
            port: address.port(),
            closed: Arc::new(Notify::new()),
            is_closed: Arc::new(AtomicBool::new(false)),
        };
        for thread in &self.inner.threads {
            let socket = socket.try_clone().map_err(failed)?;
            // A thread that has ended is only found while the gateway shuts down.
            let _ = thread.commands.send(Command::Accept(socket, from.clone()));
        }
        self.inner.listeners.lock().insert(address, Open { mode: listener.mode, from });
        Ok(address)
    }

    /// Stops to listen on `address`. Connections that were accepted go on. Returns whether there was such a listener.
    pub fn unlisten(&self, address: SocketAddr) -> bool {
        let Some(open) = self.inner.listeners.lock().remove(&address) else { return false };
        open.from.is_closed.store(true, Ordering::SeqCst);
        open.from.closed.notify_waiters();
        true
    }

    /// Where the gateway listens, and what for.
    pub fn listeners(&self) -> Vec<(SocketAddr, Mode)> {
        let listeners = self.inner.listeners.lock();
        let mut all: Vec<_> = listeners.iter().map(|(address, open)| (*address, open.mode.clone())).collect();
        all.sort_by_key(|(address, _)| *address);
        all
    }

    /// Settings of a listener that presents the configuration's certificates, and `default` (a chain and its key in
    /// PEM) where none fits.
    pub fn tls(&self, default: Option<(&str, &str)>) -> Result<Arc<rustls::ServerConfig>, ConfigError> {
        let error = |reason: String| ConfigError {
            entity: "certificate",
            name: "default".into(),
            field: "cert".into(),
            reason,
        };
        let certificates = &self.inner.shared.certificates;
        if let Some((cert, key)) = default {
            certificates.set_default(cert, key).map_err(error)?;
        }
        certificates::server_config(Arc::clone(certificates)).map_err(|reason| error(reason.to_string()))
    }

    /// What the gateway counts.
    pub fn registry(&self) -> Registry {
        self.inner.shared.config.registry.clone()
    }

    /// The number of the configuration in effect; 0 before the first.
    pub fn generation(&self) -> Generation {
        self.inner.shared.current.load().generation
    }

    /// Stops listening, closes idle connections, lets requests finish for up to `grace`, then ends the threads.
    /// Returns the number of connections that were cut.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        let shared = &self.inner.shared;
        let open: Vec<SocketAddr> = self.inner.listeners.lock().keys().copied().collect();
        for address in open {
            self.unlisten(address);
        }
        shared.stopping.store(true, Ordering::SeqCst);
        shared.stop.notify_waiters();
        let all_ended = async {
            loop {
                let mut ended = std::pin::pin!(shared.connection_ended.notified());
                ended.as_mut().enable();
                if shared.connections.load(Ordering::SeqCst) == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(grace, all_ended).await;
        let cut = shared.connections.load(Ordering::SeqCst);
        for thread in &self.inner.threads {
            let _ = thread.commands.send(Command::Stop);
        }
        let handles: Vec<JoinHandle<()>> =
            self.inner.threads.iter().filter_map(|thread| thread.handle.lock().take()).collect();
        let _ =
            tokio::task::spawn_blocking(move || handles.into_iter().for_each(|handle| drop(handle.join())))
                .await;
        cut
    }
}

fn run_thread(shared: Arc<Shared>, mut commands: mpsc::UnboundedReceiver<Command>, resolves: bool) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start a gateway thread");
            return;
        }
    };
    runtime.block_on(async move {
        let worker = Arc::new(Worker::new(Arc::clone(&shared)));
        tokio::spawn(sweep(Arc::clone(&worker)));
        if resolves {
            tokio::spawn(resolve(shared));
        }
        while let Some(command) = commands.recv().await {
            match command {
                Command::Accept(socket, from) => {
                    tokio::spawn(listen::accept(socket, from, Arc::clone(&worker)));
                }
                Command::Stop => return,
            }
        }
    });
}

/// Lets idle upstream connections go: the old ones, and those to targets that are gone.
async fn sweep(worker: Arc<Worker>) {
    loop {
        let _ = tokio::time::timeout(SWEEP_EVERY, worker.shared.balancer.changed()).await;
        worker.pool.sweep(|address| worker.shared.balancer.has_open(address));
    }
}

async fn resolve(shared: Arc<Shared>) {
    loop {
        let current = shared.current.load_full();
        for named in &current.named {
            snapshot::refresh(named, &shared.balancer).await;
        }
        drop(current);
        let _ = tokio::time::timeout(RESOLVE_EVERY, shared.names_changed.notified()).await;
    }
}
