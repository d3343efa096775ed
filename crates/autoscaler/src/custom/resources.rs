//! Usage of pods and nodes from queries, as prometheus-adapter's `resourceRules` ask for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_apimachinery::selector::Selector;
use gantry_clock::Clock;
use gantry_operator::{Informer, Operator};
use gantry_prom_model::Labels;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::CustomMetrics;
use super::kinds::GroupResource;
use super::query::{self, Wanted};
use super::rules::{ResourceRule, ResourceRules};
use super::series::Known;
use crate::metrics::{NodeMetrics, PodMetrics, ResourceMetrics, Use};

/// Usage as the rules' queries give it, asked for again and again.
pub struct QueriedResources {
    metrics: CustomMetrics,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    clock: Arc<dyn Clock>,
    current: RwLock<Current>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Current {
    pods: BTreeMap<(String, String), Arc<PodMetrics>>,
    nodes: Vec<Arc<NodeMetrics>>,
}

impl QueriedResources {
    /// Registers the informers it reads, so it must be made before the operator runs.
    pub fn new(operator: &Operator, metrics: CustomMetrics) -> QueriedResources {
        QueriedResources {
            metrics,
            pods: operator.informer(),
            nodes: operator.informer(),
            clock: operator.clock().clone(),
            current: RwLock::default(),
            version: watch::Sender::new(0),
        }
    }

    /// Asks every `interval` until `cancel`. Without `resourceRules` it ends at once.
    pub async fn run(&self, interval: Duration, cancel: CancellationToken) {
        let Some(rules) = self.metrics.rules().resources.clone() else { return };
        loop {
            if let Err(error) = self.read(&rules).await {
                tracing::warn!(%error, "cannot ask for the usage of pods and nodes");
            }
            tokio::select! {
                _ = cancel.cancelled() => return,
                _ = tokio::time::sleep(interval) => {}
            }
        }
    }

    async fn read(&self, rules: &ResourceRules) -> Result<(), String> {
        let known = self.metrics.known_with(|known| known.kinds.find("", "pods").is_some()).await;
        let at_ms = self.clock.now_ms();
        let mut by_namespace: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in self.pods.list() {
            let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) else {
                continue;
            };
            by_namespace.entry(namespace.clone()).or_default().push(name.clone());
        }
        let mut current = Current::default();
        for (namespace, names) in by_namespace {
            let ask = |rule| self.ask(rule, &known, "pods", &namespace, &names);
            let (cpu, memory) = (ask(&rules.cpu).await?, ask(&rules.memory).await?);
            for name in names {
                // A pod of which one of the two is not known is left out, a container is not.
                let (Some(cpu), Some(memory)) = (cpu.get(&name), memory.get(&name)) else { continue };
                let mut containers: BTreeMap<String, Use> = BTreeMap::new();
                for (labels, value) in cpu {
                    let container = labels.get(&rules.cpu.container_label).unwrap_or_default();
                    containers.entry(container.to_owned()).or_default().cpu_nano = nano(*value);
                }
                for (labels, value) in memory {
                    let container = labels.get(&rules.memory.container_label).unwrap_or_default();
                    containers.entry(container.to_owned()).or_default().memory_bytes = *value as u64;
                }
                let metrics = PodMetrics {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    at_ms,
                    window_ms: rules.window_ms,
                    containers,
                };
                current.pods.insert((namespace.clone(), name), Arc::new(metrics));
            }
        }
        let nodes: Vec<String> =
            self.nodes.list().iter().filter_map(|node| node.metadata.name.clone()).collect();
        if !nodes.is_empty() {
            let cpu = self.ask(&rules.cpu, &known, "nodes", "", &nodes).await?;
            let memory = self.ask(&rules.memory, &known, "nodes", "", &nodes).await?;
            for name in nodes {
                let first = |of: &BTreeMap<String, Vec<(Labels, f64)>>| {
                    of.get(&name)?.first().map(|(_, value)| *value)
                };
                let (Some(cpu), Some(memory)) = (first(&cpu), first(&memory)) else { continue };
                let usage = Use { cpu_nano: nano(cpu), memory_bytes: memory as u64 };
                let metrics = NodeMetrics { name, at_ms, window_ms: rules.window_ms, usage };
                current.nodes.push(Arc::new(metrics));
            }
        }
        *self.current.write() = current;
        self.version.send_modify(|version| *version += 1);
        Ok(())
    }

    /// Results by the object that each is of, never negative and always numbers.
    async fn ask(
        &self,
        rule: &ResourceRule,
        known: &Known,
        resource: &str,
        namespace: &str,
        names: &[String],
    ) -> Result<BTreeMap<String, Vec<(Labels, f64)>>, String> {
        let resource = GroupResource::core(resource);
        let label = rule.labels.label(&known.kinds, &resource)?;
        let of_pods = resource.resource == "pods";
        let also_group_by = if of_pods { vec![rule.container_label.as_str()] } else { Vec::new() };
        let wanted = Wanted {
            series: "",
            resource: &resource,
            namespace,
            names,
            selector: &Selector::default(),
            also_group_by: &also_group_by,
        };
        let template = if of_pods { &rule.containers } else { &rule.nodes };
        let promql = query::of_objects(template, &rule.labels, &known.kinds, &wanted)?;
        let results = self.metrics.ask(&promql).await.map_err(|error| error.to_string())?;
        let mut by_name: BTreeMap<String, Vec<(Labels, f64)>> = BTreeMap::new();
        for (labels, value) in results {
            let Some(name) = labels.get(&label).map(str::to_owned) else { continue };
            let value = if value.is_nan() { 0.0 } else { value.max(0.0) };
            by_name.entry(name).or_default().push((labels, value));
        }
        Ok(by_name)
    }
}

/// Whole thousandths of a core, in billionths.
fn nano(cores: f64) -> u64 {
    // The cast saturates.
    ((cores * 1000.0) as u64).saturating_mul(1_000_000)
}

impl ResourceMetrics for QueriedResources {
    fn pods(&self, namespace: Option<&str>) -> Vec<Arc<PodMetrics>> {
        let current = self.current.read();
        let wanted = |pod: &&Arc<PodMetrics>| namespace.is_none_or(|namespace| pod.namespace == namespace);
        current.pods.values().filter(wanted).cloned().collect()
    }

    fn nodes(&self) -> Vec<Arc<NodeMetrics>> {
        self.current.read().nodes.clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
