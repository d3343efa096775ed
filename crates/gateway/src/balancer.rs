//! Who gets the next request of an upstream. State is per node, shared by all threads.
//!
//! Invariant: a target that has been taken out gets no lease any more. A lease is counted before the target's state is
//! read, and the state is changed before the count is read, so `drained` cannot miss one.

use crate::entities::{Algorithm, Upstream};
use crate::hashing::Ring;
use crate::metrics::UpstreamMetrics;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A target that refused a connection is left out for so long, as long as another one is there.
const PENALTY: Duration = Duration::from_millis(1_000);

/// After so long without an answer a target's latency counts half.
const LATENCY_HALVES_MS: u64 = 10_000;

/// More entries than this in a rotation would only refine the weights.
const MAX_ROTATION: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// As configured, the value of a `Host` header that is not preserved.
    pub(crate) host: String,
    weight: u16,
    in_flight: AtomicUsize,
    is_open: AtomicBool,
    /// Milliseconds since `Balancer::started`.
    penalty_until_ms: AtomicU64,
    /// How long answers took of late, in microseconds, and when that was last told; only where targets are chosen by it.
    latency_us: AtomicU64,
    observed_ms: AtomicU64,
    changed: Arc<Notify>,
}

impl Target {
    fn lease(self: &Arc<Target>, upstream: &Arc<UpstreamState>) -> Option<Lease> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let lease = Lease { target: Arc::clone(self), upstream: Arc::clone(upstream) };
        upstream.metrics.in_flight.inc();
        self.is_open.load(Ordering::SeqCst).then_some(lease)
    }

    fn close(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn is_drained(&self) -> bool {
        !self.is_open.load(Ordering::SeqCst) && self.in_flight.load(Ordering::SeqCst) == 0
    }

    /// The latency as it counts now: it halves with time, so that a target that was slow is tried again.
    fn faded_latency(&self, now_ms: u64) -> u64 {
        let age = now_ms.saturating_sub(self.observed_ms.load(Ordering::Relaxed)) / LATENCY_HALVES_MS;
        self.latency_us
            .load(Ordering::Relaxed)
            .checked_shr(u32::try_from(age).unwrap_or(u32::MAX))
            .unwrap_or(0)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

/// The right to send one request to a target; counted until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) target: Arc<Target>,
    upstream: Arc<UpstreamState>,
}

impl Lease {
    /// Notes how long the target took to answer.
    pub(crate) fn observe(&self, took: Duration) {
        if !self.upstream.observes.load(Ordering::Relaxed) {
            return;
        }
        let now = self.upstream.now_ms();
        let known = self.target.faded_latency(now);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let mixed = if known == 0 { took } else { (known * 7 + took) / 8 };
        self.target.latency_us.store(mixed, Ordering::Relaxed);
        self.target.observed_ms.store(now, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.upstream.metrics.in_flight.dec();
        let before = self.target.in_flight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && !self.target.is_open.load(Ordering::SeqCst) {
            self.target.changed.notify_waiters();
        }
    }
}

#[derive(Debug, Default)]
struct Rotation {
    algorithm: Algorithm,
    targets: Vec<Arc<Target>>,
    /// Indices into `targets`, each as often as its weight asks.
    order: Vec<u32>,
    /// Empty where nothing is hashed.
    ring: Ring,
}

/// One upstream with what must survive a new configuration.
#[derive(Debug)]
pub(crate) struct UpstreamState {
    pub(crate) name: String,
    rotation: ArcSwap<Rotation>,
    cursor: AtomicUsize,
    /// Whether targets are chosen by their latency.
    observes: AtomicBool,
    started: Instant,
    pub(crate) pending: AtomicUsize,
    pub(crate) ready: Notify,
    pub(crate) metrics: UpstreamMetrics,
}

impl UpstreamState {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn has_targets(&self) -> bool {
        !self.rotation.load().order.is_empty()
    }

    /// The next target that was not tried yet; those that refused a connection just now come last.
    pub(crate) fn lease(self: &Arc<UpstreamState>, tried: &[SocketAddr]) -> Option<Lease> {
        let rotation = self.rotation.load();
        let count = rotation.order.len();
        if count == 0 {
            return None;
        }
        match rotation.algorithm {
            Algorithm::LeastConnections => return self.least_loaded(&rotation, tried),
            Algorithm::Latency => return self.fastest(&rotation, tried),
            // A request without anything to hash is anybody's.
            Algorithm::RoundRobin | Algorithm::ConsistentHashing => {}
        }
        let start = self.cursor.fetch_add(1, Ordering::Relaxed);
        for avoid_penalised in [true, false] {
            for i in 0..count {
                let at = rotation.order[start.wrapping_add(i) % count];
                let target = &rotation.targets[at as usize];
                if tried.contains(&target.address) || (avoid_penalised && self.is_penalised(target)) {
                    continue;
                }
                if let Some(lease) = target.lease(self) {
                    return Some(lease);
                }
            }
        }
        None
    }

    fn least_loaded(self: &Arc<UpstreamState>, rotation: &Rotation, tried: &[SocketAddr]) -> Option<Lease> {
        let load = |target: &Arc<Target>| {
            let requests = target.in_flight.load(Ordering::Relaxed) as u64 + 1;
            (self.is_penalised(target), requests * 65_536 / u64::from(target.weight.max(1)))
        };
        let open = rotation.targets.iter().filter(|target| target.weight > 0 && target.is_open());
        open.filter(|target| !tried.contains(&target.address)).min_by_key(|target| load(target))?.lease(self)
    }

    /// The target of a hash, or the one that comes after it where that was tried or refuses connections.
    pub(crate) fn lease_by_hash(self: &Arc<UpstreamState>, hash: u64, tried: &[SocketAddr]) -> Option<Lease> {
        let rotation = self.rotation.load();
        for avoid_penalised in [true, false] {
            let mut last = None;
            for at in rotation.ring.from(hash) {
                if last == Some(at) {
                    continue;
                }
                last = Some(at);
                let Some(target) = rotation.targets.get(at as usize) else { continue };
                if tried.contains(&target.address) || (avoid_penalised && self.is_penalised(target)) {
                    continue;
                }
                if let Some(lease) = target.lease(self) {
                    return Some(lease);
                }
            }
        }
        None
    }

    /// The target that answered fastest of late; those of which nothing is known, or no longer, go first in turn.
    fn fastest(self: &Arc<UpstreamState>, rotation: &Rotation, tried: &[SocketAddr]) -> Option<Lease> {
        let now = self.now_ms();
        let count = rotation.targets.len();
        let start = self.cursor.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..count).filter_map(|i| rotation.targets.get(start.wrapping_add(i) % count));
        let open = in_turn.filter(|target| target.weight > 0 && target.is_open());
        open.filter(|target| !tried.contains(&target.address))
            .min_by_key(|target| (self.is_penalised(target), target.faded_latency(now)))?
            .lease(self)
    }

    fn is_penalised(&self, target: &Target) -> bool {
        let until = target.penalty_until_ms.load(Ordering::Relaxed);
        until != 0 && self.now_ms() < until
    }

    pub(crate) fn penalise(&self, target: &Target) {
        let until = self.now_ms() + PENALTY.as_millis() as u64;
        target.penalty_until_ms.store(until, Ordering::Relaxed);
    }
}

/// A target with its address resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResolvedTarget {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) weight: u16,
}

/// All upstreams of the node.
#[derive(Debug)]
pub(crate) struct Balancer {
    upstreams: Mutex<HashMap<String, Arc<UpstreamState>>>,
    by_address: Mutex<HashMap<SocketAddr, Vec<Weak<Target>>>>,
    changed: Arc<Notify>,
    started: Instant,
}

impl Balancer {
    pub(crate) fn new() -> Balancer {
        Balancer {
            upstreams: Mutex::new(HashMap::new()),
            by_address: Mutex::new(HashMap::new()),
            changed: Arc::new(Notify::new()),
            started: Instant::now(),
        }
    }

    /// The state of the upstream `name`, new when nothing is known of it.
    pub(crate) fn upstream(
        &self,
        name: &str,
        metrics: impl FnOnce() -> UpstreamMetrics,
    ) -> Arc<UpstreamState> {
        let mut upstreams = self.upstreams.lock();
        let state = upstreams.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(UpstreamState {
                name: name.to_owned(),
                rotation: ArcSwap::default(),
                cursor: AtomicUsize::new(0),
                observes: AtomicBool::new(false),
                started: self.started,
                pending: AtomicUsize::new(0),
                ready: Notify::new(),
                metrics: metrics(),
            })
        });
        Arc::clone(state)
    }

    /// Replaces the targets of `state`. A target that stays keeps its counters; one that goes is closed at once.
    pub(crate) fn set_targets(&self, state: &UpstreamState, algorithm: Algorithm, wanted: &[ResolvedTarget]) {
        let old = state.rotation.load_full();
        let mut targets: Vec<Arc<Target>> = Vec::with_capacity(wanted.len());
        for target in wanted {
            let kept = old.targets.iter().find(|known| {
                known.address == target.address && known.host == target.host && known.weight == target.weight
            });
            targets.push(kept.cloned().unwrap_or_else(|| self.new_target(target)));
        }
        let order = rotation_order(&targets);
        let is_ready = !order.is_empty();
        let ring = match algorithm {
            Algorithm::ConsistentHashing => {
                Ring::new(&targets.iter().map(|one| (one.address, one.weight)).collect::<Vec<_>>())
            }
            _ => Ring::default(),
        };
        state.observes.store(algorithm == Algorithm::Latency, Ordering::Relaxed);
        state.rotation.store(Arc::new(Rotation { algorithm, targets: targets.clone(), order, ring }));
        for gone in old.targets.iter().filter(|known| !targets.iter().any(|kept| Arc::ptr_eq(kept, known))) {
            gone.close();
        }
        if is_ready {
            state.ready.notify_waiters();
        }
    }

    fn new_target(&self, wanted: &ResolvedTarget) -> Arc<Target> {
        let target = Arc::new(Target {
            address: wanted.address,
            host: wanted.host.clone(),
            weight: wanted.weight,
            in_flight: AtomicUsize::new(0),
            is_open: AtomicBool::new(true),
            penalty_until_ms: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
            observed_ms: AtomicU64::new(0),
            changed: Arc::clone(&self.changed),
        });
        let mut by_address = self.by_address.lock();
        let same = by_address.entry(wanted.address).or_default();
        same.retain(|known| known.strong_count() > 0);
        same.push(Arc::downgrade(&target));
        target
    }

    /// Drops upstreams that `keep` does not name; their targets are closed.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut removed = Vec::new();
        self.upstreams.lock().retain(|name, state| {
            let stays = keep(name);
            if !stays {
                removed.push(Arc::clone(state));
            }
            stays
        });
        for state in removed {
            self.set_targets(&state, Algorithm::RoundRobin, &[]);
        }
        let mut by_address = self.by_address.lock();
        by_address.retain(|_, targets| {
            targets.retain(|target| target.strong_count() > 0);
            !targets.is_empty()
        });
    }

    /// Whether a target at `address` is in some rotation.
    pub(crate) fn has_open(&self, address: SocketAddr) -> bool {
        let by_address = self.by_address.lock();
        let known = by_address.get(&address).into_iter().flatten();
        known.filter_map(Weak::upgrade).any(|target| target.is_open())
    }

    /// Requests that are at some target now.
    pub(crate) fn in_flight(&self) -> usize {
        let by_address = self.by_address.lock();
        let targets = by_address.values().flatten().filter_map(Weak::upgrade);
        targets.map(|target| target.in_flight.load(Ordering::SeqCst)).sum()
    }

    /// Resolves when a target has left or become idle after leaving.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Resolves when no request is at `address` and none can get there any more.
    pub(crate) async fn drained(&self, address: SocketAddr) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let busy = {
                let by_address = self.by_address.lock();
                let known = by_address.get(&address).into_iter().flatten();
                known.filter_map(Weak::upgrade).any(|target| !target.is_drained())
            };
            if !busy {
                return;
            }
            changed.await;
        }
    }
}

fn rotation_order(targets: &[Arc<Target>]) -> Vec<u32> {
    rotation_of(targets.iter().map(|target| u64::from(target.weight)).collect())
}

/// Smooth weighted round robin, written out once: positions in `weights`, each as often as its weight asks.
pub(crate) fn rotation_of(weights: Vec<u64>) -> Vec<u32> {
    let divisor = weights.iter().copied().filter(|&weight| weight > 0).fold(0, greatest_common_divisor);
    if divisor == 0 {
        return Vec::new();
    }
    let mut weights: Vec<u64> = weights.iter().map(|weight| weight / divisor).collect();
    let total: u64 = weights.iter().sum();
    if total > MAX_ROTATION {
        for weight in weights.iter_mut().filter(|weight| **weight > 0) {
            *weight = (*weight * MAX_ROTATION / total).max(1);
        }
    }
    let total: u64 = weights.iter().sum();
    let mut credit = vec![0i64; weights.len()];
    let mut order = Vec::new();
    for _ in 0..total {
        let mut best: Option<usize> = None;
        for (i, &weight) in weights.iter().enumerate() {
            credit[i] += weight as i64;
            if weight > 0 && best.is_none_or(|best| credit[i] > credit[best]) {
                best = Some(i);
            }
        }
        if let Some(best) = best {
            credit[best] -= total as i64;
            order.push(best as u32);
        }
    }
    order
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Splits a target into host and port; Kong's default port is 8000.
pub(crate) fn split_target(target: &str) -> Option<(String, u16)> {
    if let Ok(address) = target.parse::<SocketAddr>() {
        return Some((address.ip().to_string(), address.port()));
    }
    let bare = target.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Some((bare.to_owned(), 8_000));
    }
    match target.rsplit_once(':') {
        None if !target.is_empty() => Some((target.to_owned(), 8_000)),
        Some((host, port)) if !host.is_empty() && !host.contains(':') => {
            Some((host.to_owned(), port.parse().ok()?))
        }
        _ => None,
    }
}

/// An upstream's targets that are addresses already, and whether there are names besides.
pub(crate) fn resolved_targets(upstream: &Upstream) -> (Vec<ResolvedTarget>, bool) {
    let mut resolved = Vec::new();
    let mut has_names = false;
    for target in &upstream.targets {
        let Some((host, port)) = split_target(&target.target) else { continue };
        match host.parse::<std::net::IpAddr>() {
            Ok(ip) => resolved.push(ResolvedTarget {
                address: SocketAddr::new(ip, port),
                host: host_header(upstream, &host, port),
                weight: target.weight,
            }),
            Err(_) => has_names = true,
        }
    }
    (resolved, has_names)
}

pub(crate) fn host_header(upstream: &Upstream, host: &str, port: u16) -> String {
    if let Some(host) = &upstream.host_header {
        return host.clone();
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == 80 { host } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u16, weight: u16) -> ResolvedTarget {
        ResolvedTarget { address: SocketAddr::from(([127, 0, 0, 1], port)), host: "t".into(), weight }
    }

    fn upstream(balancer: &Balancer) -> Arc<UpstreamState> {
        balancer.upstream("shop", UpstreamMetrics::detached)
    }

    #[test]
    fn weights_share_the_rotation_and_zero_gets_nothing() {
        let balancer = Balancer::new();
        let state = upstream(&balancer);
        balancer.set_targets(&state, Algorithm::RoundRobin, &[target(1, 300), target(2, 100), target(3, 0)]);
        let mut counts = HashMap::new();
        for _ in 0..80 {
            *counts.entry(state.lease(&[]).unwrap().target.address.port()).or_insert(0) += 1;
        }
        assert_eq!(counts, HashMap::from([(1, 60), (2, 20)]));
    }

    #[test]
    fn a_hash_keeps_its_target_until_that_is_gone() {
        let balancer = Balancer::new();
        let state = upstream(&balancer);
        let all = [target(1, 100), target(2, 100), target(3, 100)];
        balancer.set_targets(&state, Algorithm::ConsistentHashing, &all);
        let of = |hash: u64, tried: &[SocketAddr]| {
            let hash = crate::hashing::hash(&[&hash.to_le_bytes()]);
            state.lease_by_hash(hash, tried).unwrap().target.address
        };
        let first = of(7, &[]);
        assert!((0..5).all(|_| of(7, &[]) == first));
        let second = of(7, &[first]);
        assert_ne!(second, first);
        let rest: Vec<ResolvedTarget> = all.into_iter().filter(|one| one.address != first).collect();
        balancer.set_targets(&state, Algorithm::ConsistentHashing, &rest);
        assert_eq!(of(7, &[]), second);
    }

    #[test]
    fn the_fastest_target_gets_the_requests() {
        let balancer = Balancer::new();
        let state = upstream(&balancer);
        balancer.set_targets(&state, Algorithm::Latency, &[target(1, 1), target(2, 1)]);
        for _ in 0..2 {
            let lease = state.lease(&[]).unwrap();
            let slow = lease.target.address.port() == 1;
            lease.observe(Duration::from_millis(if slow { 50 } else { 5 }));
        }
        for _ in 0..4 {
            assert_eq!(state.lease(&[]).unwrap().target.address.port(), 2);
        }
    }

    #[test]
    fn tried_and_penalised_targets_come_last() {
        let balancer = Balancer::new();
        let state = upstream(&balancer);
        balancer.set_targets(&state, Algorithm::RoundRobin, &[target(1, 1), target(2, 1)]);
        let first = state.lease(&[]).unwrap();
        state.penalise(&first.target);
        for _ in 0..4 {
            assert_ne!(state.lease(&[]).unwrap().target.address, first.target.address);
        }
        let other = state.lease(&[]).unwrap().target.address;
        assert_eq!(state.lease(&[other]).unwrap().target.address, first.target.address);
        assert!(state.lease(&[other, first.target.address]).is_none());
    }

    #[test]
    fn least_connections_prefers_the_idle_one() {
        let balancer = Balancer::new();
        let state = upstream(&balancer);
        balancer.set_targets(&state, Algorithm::LeastConnections, &[target(1, 1), target(2, 1)]);
        let held = state.lease(&[]).unwrap();
        for _ in 0..3 {
            assert_ne!(state.lease(&[]).unwrap().target.address, held.target.address);
        }
    }

    #[tokio::test]
    async fn a_target_is_drained_when_it_is_gone_and_its_last_request_ended() {
        let balancer = Arc::new(Balancer::new());
        let state = upstream(&balancer);
        let address = target(1, 1).address;
        balancer.set_targets(&state, Algorithm::RoundRobin, &[target(1, 1), target(2, 1)]);
        let lease = state.lease(&[target(2, 1).address]).unwrap();
        let waiting = tokio::spawn({
            let balancer = Arc::clone(&balancer);
            async move { balancer.drained(address).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        balancer.set_targets(&state, Algorithm::RoundRobin, &[target(2, 1)]);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(state.lease(&[target(2, 1).address]).is_none());
        drop(lease);
        waiting.await.unwrap();
        balancer.drained(SocketAddr::from(([127, 0, 0, 1], 9))).await;
    }

    #[test]
    fn targets_are_hosts_with_ports() {
        assert_eq!(split_target("10.0.0.1:80"), Some(("10.0.0.1".into(), 80)));
        assert_eq!(split_target("10.0.0.1"), Some(("10.0.0.1".into(), 8_000)));
        assert_eq!(split_target("[::1]:80"), Some(("::1".into(), 80)));
        assert_eq!(split_target("shop.internal:81"), Some(("shop.internal".into(), 81)));
        assert_eq!(split_target("shop:x"), None);
        assert_eq!(split_target(""), None);
    }
}
