//! What the threads of a node share, and what each has for itself.

use crate::balancer::Balancer;
use crate::certificates::Certificates;
use crate::http1::head::HeadLimits;
use crate::metrics::Metrics;
use crate::net::IpRange;
use crate::network::Network;
use crate::plugins::Counters;
use crate::pool::{KeepAlive, Pool};
use crate::request_id::RequestIds;
use crate::router::Flavour;
use crate::snapshot::Compiled;
use crate::upstream_tls::TlsSettings;
use arc_swap::ArcSwap;
use gantry_clock::Clock;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Buffers kept for connections that wake up, per thread.
const SPARE_BUFFERS: usize = 256;
/// A buffer that grew beyond this is not kept.
const MAX_SPARE_BYTES: usize = 64 * 1024;

/// Bounds on what a client may ask of the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub head: HeadLimits,
    pub response_head: HeadLimits,
    /// For a whole request head, from the first byte (or, on a new connection, from its start).
    pub head_timeout: Duration,
    /// Between two reads of a request's body.
    pub body_timeout: Duration,
    /// Between two writes to the client.
    pub send_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// Client connections of the node; those beyond are closed when accepted.
    pub max_connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        let minute = Duration::from_secs(60);
        Limits {
            head: HeadLimits::default(),
            response_head: HeadLimits { max_head_bytes: 64 * 1024, ..HeadLimits::default() },
            head_timeout: minute,
            body_timeout: minute,
            send_timeout: minute,
            idle_timeout: Duration::from_secs(75),
            max_connections: 16_384,
        }
    }
}

/// The door through which the gateway asks for a first target.
pub trait Activator: Send + Sync {
    /// Called for each request that waits at an upstream without a ready target. Must return at once.
    fn activate(&self, upstream: &str);
}

/// Requests to an upstream without a ready target wait instead of failing.
#[derive(Clone)]
pub struct ScaleFromZero {
    pub activator: Arc<dyn Activator>,
    pub max_wait: Duration,
    /// Waiting requests per upstream; those beyond fail at once.
    pub max_pending: usize,
}

impl ScaleFromZero {
    /// A minute, a thousand requests.
    pub fn new(activator: Arc<dyn Activator>) -> ScaleFromZero {
        ScaleFromZero { activator, max_wait: Duration::from_secs(60), max_pending: 1_000 }
    }
}

/// How the gateway runs; what it serves comes with [`crate::Gateway::apply`].
#[derive(Clone, Default)]
pub struct Config {
    /// Addresses on which routes are served.
    pub proxy_listen: Vec<SocketAddr>,
    /// As many as there are cores, one where there are two or fewer, when `None`.
    pub threads: Option<usize>,
    pub flavour: Flavour,
    pub limits: Limits,
    pub upstream_keepalive: KeepAlive,
    /// Peers whose `X-Forwarded-*` fields are believed.
    pub trusted_ips: Vec<IpRange>,
    pub scale_from_zero: Option<ScaleFromZero>,
    pub registry: gantry_prom_model::Registry,
    /// From which request ids are drawn.
    pub seed: u64,
    /// Authorities in PEM that targets are checked against where a service names none.
    pub trusted_certificates: Option<String>,
    /// What windows of rate limits and lifetimes of tokens are measured with; the system's when `None`.
    pub clock: Option<Arc<dyn Clock>>,
    /// Where targets and listeners are that are not in this machine's own network.
    pub network: Option<Arc<dyn Network>>,
}

/// What a listener does with its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Requests are routed.
    Proxy,
    /// Requests go to one service, unchanged.
    Service { service: String },
    /// Bytes go to one service.
    Stream { service: String },
    /// Requests are routed among the routes of one entrance, over TLS where the entrance says so.
    Entrance { name: String },
}

/// Copies of requests that are on their way to mirrors at once; those beyond are not sent.
const MAX_MIRRORED: usize = 1_024;

/// Room for copies of requests.
pub(crate) fn mirror_slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_MIRRORED))
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) current: ArcSwap<Compiled>,
    pub(crate) balancer: Balancer,
    pub(crate) metrics: Metrics,
    pub(crate) ids: RequestIds,
    pub(crate) counters: Counters,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) tls_settings: TlsSettings,
    pub(crate) mirror_slots: Arc<Semaphore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stopping: AtomicBool,
    pub(crate) stop: Notify,
    pub(crate) connections: AtomicUsize,
    /// Told whenever a connection ends.
    pub(crate) connection_ended: Notify,
    /// Told whenever names must be looked up anew.
    pub(crate) names_changed: Notify,
}

/// One thread's own.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Pool,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Worker {
        let pool = Pool::new(shared.config.upstream_keepalive);
        Worker { shared, pool, spare: Mutex::new(Vec::new()) }
    }

    /// Takes the buffers of a connection that waits, so that waiting connections hold none.
    pub(crate) fn give_buffers(&self, first: &mut Vec<u8>, second: &mut Vec<u8>) {
        let mut spare = self.spare.lock();
        for buffer in [first, second] {
            let mut buffer = std::mem::take(buffer);
            if buffer.capacity() > 0 && buffer.capacity() <= MAX_SPARE_BYTES && spare.len() < SPARE_BUFFERS {
                buffer.clear();
                spare.push(buffer);
            }
        }
    }

    pub(crate) fn take_buffers(&self, first: &mut Vec<u8>, second: &mut Vec<u8>) {
        let mut spare = self.spare.lock();
        *first = spare.pop().unwrap_or_default();
        *second = spare.pop().unwrap_or_default();
    }
}
