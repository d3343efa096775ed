//! What pods and the machine use, read at a fixed rate, and the kubelet's `/metrics/resource` families of it.

use std::sync::Arc;

use gantry_prom_model::{Labels, Metric, MetricFamily, MetricKind, MetricValue};
use k8s_openapi::jiff::Timestamp;

use crate::procfs;
use crate::runtime::{ContainerSample, PodRef};

/// One reading of everything. CPU is cumulative, so two readings make a rate.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageSnapshot {
    pub at: Timestamp,
    pub node: Usage,
    /// Ordered by namespace and name; only pods with a running container.
    pub pods: Vec<PodUsage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU time since the start of what is measured.
    pub cpu_ns: u64,
    pub working_set_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodUsage {
    pub pod: PodRef,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerUsage {
    pub name: String,
    /// Changes with every restart, when `cpu_ns` begins again at 0.
    pub started_at: Timestamp,
    pub usage: Usage,
}

impl Default for UsageSnapshot {
    fn default() -> UsageSnapshot {
        UsageSnapshot { at: Timestamp::UNIX_EPOCH, node: Usage::default(), pods: Vec::new() }
    }
}

impl PodUsage {
    pub fn total(&self) -> Usage {
        self.containers.iter().fold(Usage::default(), |sum, c| Usage {
            cpu_ns: sum.cpu_ns.saturating_add(c.usage.cpu_ns),
            working_set_bytes: sum.working_set_bytes.saturating_add(c.usage.working_set_bytes),
        })
    }
}

/// Groups samples by pod and adds the machine's own use.
pub(crate) fn snapshot(samples: Vec<ContainerSample>, at: Timestamp) -> UsageSnapshot {
    let mut pods: Vec<PodUsage> = Vec::new();
    for sample in samples {
        let container = ContainerUsage {
            name: sample.key.container,
            started_at: sample.started_at,
            usage: Usage { cpu_ns: sample.cpu_ns, working_set_bytes: sample.working_set_bytes },
        };
        match pods.iter_mut().find(|p| p.pod.uid == sample.pod.uid) {
            Some(pod) => pod.containers.push(container),
            None => pods.push(PodUsage { pod: sample.pod, containers: vec![container] }),
        }
    }
    pods.sort_by(|a, b| (&a.pod.namespace, &a.pod.name).cmp(&(&b.pod.namespace, &b.pod.name)));
    for pod in &mut pods {
        pod.containers.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let ns_per_tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let total = procfs::meminfo("MemTotal").unwrap_or(0);
    let available = procfs::meminfo("MemAvailable").unwrap_or(0);
    let node = Usage {
        cpu_ns: procfs::machine_busy_ticks().saturating_mul(ns_per_tick),
        working_set_bytes: total.saturating_sub(available),
    };
    UsageSnapshot { at, node, pods }
}

/// The families of the kubelet's `/metrics/resource`, sorted by name.
pub fn resource_families(snapshot: &UsageSnapshot) -> Vec<MetricFamily> {
    let at = Some(snapshot.at.as_millisecond());
    let seconds = |ns: u64| ns as f64 / 1e9;
    let family = |name: &str, help: &str, kind: MetricKind, samples: Vec<(Labels, f64)>| MetricFamily {
        name: Arc::from(name),
        help: Arc::from(help),
        unit: Arc::from(""),
        kind,
        metrics: samples
            .into_iter()
            .map(|(labels, value)| Metric {
                labels,
                value: match kind {
                    MetricKind::Counter => MetricValue::Counter { value, exemplar: None },
                    _ => MetricValue::Gauge(value),
                },
                timestamp_ms: at,
            })
            .collect(),
    };
    let containers = |value: fn(&ContainerUsage) -> f64| -> Vec<(Labels, f64)> {
        let all = snapshot.pods.iter().flat_map(|p| p.containers.iter().map(move |c| (p, c)));
        all.map(|(p, c)| {
            let labels = [("container", &c.name), ("namespace", &p.pod.namespace), ("pod", &p.pod.name)];
            (Labels::from_pairs(labels.map(|(n, v)| (n, v.as_str()))), value(c))
        })
        .collect()
    };
    let pods = |value: fn(Usage) -> f64| -> Vec<(Labels, f64)> {
        let labels = |p: &PodUsage| {
            Labels::from_pairs([("namespace", p.pod.namespace.as_str()), ("pod", p.pod.name.as_str())])
        };
        snapshot.pods.iter().map(|p| (labels(p), value(p.total()))).collect()
    };
    let node = |value: f64| vec![(Labels::empty(), value)];
    let cpu = "Cumulative cpu time consumed in core-seconds";
    let memory = "Current working set in bytes";
    use MetricKind::{Counter, Gauge};
    vec![
        family(
            "container_cpu_usage_seconds_total",
            cpu,
            Counter,
            containers(|c| c.usage.cpu_ns as f64 / 1e9),
        ),
        family(
            "container_memory_working_set_bytes",
            memory,
            Gauge,
            containers(|c| c.usage.working_set_bytes as f64),
        ),
        family(
            "container_start_time_seconds",
            "Start time of the container since the Unix epoch in seconds",
            Gauge,
            containers(|c| c.started_at.as_millisecond() as f64 / 1e3),
        ),
        family("node_cpu_usage_seconds_total", cpu, Counter, node(seconds(snapshot.node.cpu_ns))),
        family("node_memory_working_set_bytes", memory, Gauge, node(snapshot.node.working_set_bytes as f64)),
        family("pod_cpu_usage_seconds_total", cpu, Counter, pods(|u| u.cpu_ns as f64 / 1e9)),
        family("pod_memory_working_set_bytes", memory, Gauge, pods(|u| u.working_set_bytes as f64)),
        family(
            "resource_scrape_error",
            "1 if there was an error while reading usage, 0 otherwise",
            Gauge,
            node(0.0),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ContainerKey;

    #[test]
    fn samples_become_pods_and_families() {
        let sample = |container: &str, cpu_ns| ContainerSample {
            key: ContainerKey { pod_uid: "u".into(), container: container.into(), attempt: 0 },
            pod: PodRef { namespace: "ns".into(), name: "p".into(), uid: "u".into() },
            started_at: Timestamp::from_second(100).unwrap(),
            cpu_ns,
            working_set_bytes: 4096,
            processes: 1,
        };
        let at = Timestamp::from_second(200).unwrap();
        let snapshot = snapshot(vec![sample("b", 500_000_000), sample("a", 1_000_000_000)], at);
        assert_eq!(snapshot.pods.len(), 1);
        assert_eq!(snapshot.pods[0].total(), Usage { cpu_ns: 1_500_000_000, working_set_bytes: 8192 });
        let text = gantry_prom_model::encode_text(&resource_families(&snapshot));
        for line in [
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"ns\",pod=\"p\"} 1 200000",
            "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"p\"} 8192 200000",
            "container_start_time_seconds{container=\"b\",namespace=\"ns\",pod=\"p\"} 100 200000",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
