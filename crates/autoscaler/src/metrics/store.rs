//! Resource metrics from cumulative readings: two points of a counter make a rate, as metrics-server computes it.
//!
//! The last points are kept per node. A container that restarted has no rate until it has two points of its own; a
//! container younger than the resolution is measured from its start; a pod is shown only when every container has a
//! rate and uses memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

/// One reading of a node and its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsagePoint {
    pub at_ms: i64,
    pub node: String,
    pub node_usage: Cumulative,
    pub pods: Vec<PodPoint>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodPoint {
    pub namespace: String,
    pub name: String,
    pub containers: Vec<ContainerPoint>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerPoint {
    pub name: String,
    pub started_ms: i64,
    pub usage: Cumulative,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cumulative {
    /// Since the start of what is measured.
    pub cpu_ns: u64,
    /// Now.
    pub memory_bytes: u64,
}

/// Use over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Billionths of a core.
    pub cpu_nano: u64,
    pub memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodMetrics {
    pub namespace: String,
    pub name: String,
    pub at_ms: i64,
    pub window_ms: i64,
    pub containers: BTreeMap<String, Use>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodeMetrics {
    pub name: String,
    pub at_ms: i64,
    pub window_ms: i64,
    pub usage: Use,
}

/// Where the autoscaler and `metrics.k8s.io` read what pods and nodes use.
pub trait ResourceMetrics: Send + Sync + 'static {
    /// The pods of a namespace, or of all, ordered by namespace and name.
    fn pods(&self, namespace: Option<&str>) -> Vec<Arc<PodMetrics>>;
    fn nodes(&self) -> Vec<Arc<NodeMetrics>>;
    /// Changes with every new reading.
    fn changes(&self) -> watch::Receiver<u64>;
}

#[derive(Clone, Copy, Debug)]
pub struct StoreSettings {
    /// The earlier of the two points is at least this much older; 0 takes the one before the last.
    pub least_window_ms: i64,
    /// A container at least this old and younger than the resolution is measured from its start.
    pub fresh_from_ms: i64,
    pub resolution_ms: i64,
}

impl Default for StoreSettings {
    /// metrics-server's, with the resolution of its manifest.
    fn default() -> StoreSettings {
        StoreSettings { least_window_ms: 0, fresh_from_ms: 10_000, resolution_ms: 15_000 }
    }
}

/// Keeps the last readings of each node and the rates between them.
pub struct MetricsStore {
    settings: StoreSettings,
    points: Mutex<HashMap<String, VecDeque<UsagePoint>>>,
    current: RwLock<HashMap<String, Computed>>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Computed {
    pods: BTreeMap<(String, String), Arc<PodMetrics>>,
    node: Option<Arc<NodeMetrics>>,
}

/// Enough for a window of a minute at one point per second.
const POINTS_KEPT: usize = 64;

// === impl MetricsStore ===

impl MetricsStore {
    pub fn new(settings: StoreSettings) -> MetricsStore {
        let (version, _) = watch::channel(0);
        MetricsStore { settings, points: Mutex::default(), current: RwLock::default(), version }
    }

    /// Takes in a reading. One that is not newer than the last of its node is ignored.
    pub fn push(&self, point: UsagePoint) {
        let node = point.node.clone();
        let computed = {
            let mut all = self.points.lock();
            let points = all.entry(node.clone()).or_default();
            if points.back().is_some_and(|last| last.at_ms >= point.at_ms) {
                return;
            }
            let computed = compute(points, &point, self.settings);
            points.push_back(point);
            let least = self.settings.least_window_ms;
            let newest = points.back().map_or(0, |p| p.at_ms);
            // Only one point that is old enough is needed.
            while points.len() > POINTS_KEPT
                || points.get(1).is_some_and(|p| newest - p.at_ms >= least.max(1))
            {
                points.pop_front();
            }
            computed
        };
        self.current.write().insert(node, computed);
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Forgets a node that is gone.
    pub fn forget(&self, node: &str) {
        self.points.lock().remove(node);
        self.current.write().remove(node);
    }
}

impl ResourceMetrics for MetricsStore {
    fn pods(&self, namespace: Option<&str>) -> Vec<Arc<PodMetrics>> {
        let current = self.current.read();
        let wanted = |p: &&Arc<PodMetrics>| namespace.is_none_or(|n| p.namespace == n);
        let mut pods: Vec<_> =
            current.values().flat_map(|c| c.pods.values().filter(wanted)).cloned().collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        pods
    }

    fn nodes(&self) -> Vec<Arc<NodeMetrics>> {
        let mut nodes: Vec<_> = self.current.read().values().filter_map(|c| c.node.clone()).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

fn compute(earlier: &VecDeque<UsagePoint>, last: &UsagePoint, settings: StoreSettings) -> Computed {
    let old_enough = |p: &&UsagePoint| last.at_ms - p.at_ms >= settings.least_window_ms;
    let previous = earlier.iter().rev().find(old_enough).or_else(|| earlier.front());
    let mut computed = Computed::default();
    if let Some(previous) = previous {
        let usage = rate(previous.node_usage, previous.at_ms, last.node_usage, last.at_ms);
        computed.node = usage.map(|usage| {
            let window_ms = last.at_ms - previous.at_ms;
            Arc::new(NodeMetrics { name: last.node.clone(), at_ms: last.at_ms, window_ms, usage })
        });
    }
    for pod in &last.pods {
        // A pod younger than the window has its own first point.
        let has_pod = |p: &&UsagePoint| find(p, pod).is_some();
        let before = previous
            .and_then(|p| Some((find(p, pod)?, p.at_ms)))
            .or_else(|| earlier.iter().find(has_pod).and_then(|p| Some((find(p, pod)?, p.at_ms))));
        if let Some(metrics) = pod_metrics(pod, last.at_ms, before, settings) {
            computed.pods.insert((pod.namespace.clone(), pod.name.clone()), Arc::new(metrics));
        }
    }
    computed
}

fn find<'a>(point: &'a UsagePoint, pod: &PodPoint) -> Option<&'a PodPoint> {
    point.pods.iter().find(|p| p.name == pod.name && p.namespace == pod.namespace)
}

fn pod_metrics(
    pod: &PodPoint,
    at_ms: i64,
    before: Option<(&PodPoint, i64)>,
    settings: StoreSettings,
) -> Option<PodMetrics> {
    let mut containers = BTreeMap::new();
    let mut window_ms = 0;
    for container in &pod.containers {
        if container.usage.memory_bytes == 0 {
            return None;
        }
        let same_run = |p: &&ContainerPoint| p.name == container.name && p.started_ms == container.started_ms;
        let earlier = before.and_then(|(pod, at_ms)| Some((pod.containers.iter().find(same_run)?, at_ms)));
        let age_ms = at_ms - container.started_ms;
        let fresh = settings.fresh_from_ms <= age_ms && age_ms < settings.resolution_ms;
        let (since, since_ms) = match earlier {
            Some((earlier, earlier_ms)) => (earlier.usage, earlier_ms),
            None if fresh => (Cumulative::default(), container.started_ms),
            None => return None,
        };
        containers.insert(container.name.clone(), rate(since, since_ms, container.usage, at_ms)?);
        window_ms = window_ms.max(at_ms - since_ms);
    }
    if containers.is_empty() {
        return None;
    }
    Some(PodMetrics {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        at_ms,
        window_ms,
        containers,
    })
}

/// `None` when the counter went back or no time has passed.
fn rate(before: Cumulative, before_ms: i64, now: Cumulative, now_ms: i64) -> Option<Use> {
    let elapsed_ms = u64::try_from(now_ms - before_ms).ok().filter(|ms| *ms > 0)?;
    let used_ns = now.cpu_ns.checked_sub(before.cpu_ns)?;
    let cpu_nano = u128::from(used_ns) * 1000 / u128::from(elapsed_ms);
    Some(Use { cpu_nano: u64::try_from(cpu_nano).unwrap_or(u64::MAX), memory_bytes: now.memory_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_s: i64, containers: &[(&str, i64, u64)]) -> UsagePoint {
        let container = |&(name, started_s, cpu_ms): &(&str, i64, u64)| ContainerPoint {
            name: name.into(),
            started_ms: started_s * 1000,
            usage: Cumulative { cpu_ns: cpu_ms * 1_000_000, memory_bytes: 1 << 20 },
        };
        UsagePoint {
            at_ms: at_s * 1000,
            node: "n".into(),
            node_usage: Cumulative { cpu_ns: at_s as u64 * 500_000_000, memory_bytes: 1 << 30 },
            pods: vec![PodPoint {
                namespace: "ns".into(),
                name: "p".into(),
                containers: containers.iter().map(container).collect(),
            }],
        }
    }

    fn cpu(store: &MetricsStore) -> Option<(u64, i64)> {
        let pods = store.pods(Some("ns"));
        pods.first().map(|p| (p.containers.values().map(|u| u.cpu_nano).sum(), p.window_ms))
    }

    #[test]
    fn two_points_make_a_rate() {
        let store = MetricsStore::new(StoreSettings::default());
        store.push(point(100, &[("a", 0, 1000)]));
        assert_eq!(cpu(&store), None);
        store.push(point(115, &[("a", 0, 4000)]));
        assert_eq!(cpu(&store), Some((200_000_000, 15_000)));
        assert_eq!(store.nodes()[0].usage.cpu_nano, 500_000_000);
        store.push(point(115, &[("a", 0, 9000)]));
        assert_eq!(cpu(&store), Some((200_000_000, 15_000)), "an old point is ignored");
        assert!(store.pods(Some("other")).is_empty());
    }

    #[test]
    fn restarts_and_fresh_containers() {
        let store = MetricsStore::new(StoreSettings::default());
        store.push(point(100, &[("a", 0, 5000)]));
        store.push(point(115, &[("a", 110, 100)]));
        assert_eq!(cpu(&store), None, "5 s old, and restarted");
        store.push(point(130, &[("a", 110, 1100), ("b", 118, 600)]));
        // a: 1 s in 15 s; b: 0.6 s since its start 12 s ago.
        assert_eq!(cpu(&store), Some((66_666_666 + 50_000_000, 15_000)));
        store.push(point(145, &[("a", 110, 900)]));
        assert_eq!(cpu(&store), None, "a counter that went back");
        let mut empty = point(160, &[("a", 110, 2000)]);
        empty.pods[0].containers[0].usage.memory_bytes = 0;
        store.push(empty);
        assert_eq!(cpu(&store), None);
    }

    #[test]
    fn a_least_window_smooths() {
        let settings = StoreSettings { least_window_ms: 3000, fresh_from_ms: 500, resolution_ms: 3000 };
        let store = MetricsStore::new(settings);
        for (second, cpu_ms) in [(100, 0), (101, 100), (102, 1100), (103, 1200), (104, 1300)] {
            store.push(point(second, &[("a", 90, cpu_ms)]));
        }
        assert_eq!(cpu(&store), Some((400_000_000, 3000)));
        assert!(store.points.lock()["n"].len() <= 5);
    }
}
