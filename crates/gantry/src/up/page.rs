//! What the console shows of this `up`: the informers' objects, the metric store's values, the events and decisions.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_clock::Clock;
use gantry_console::{
    Address, Chart, ChartQuery, Event, Health, Level, Object, QueryError, QueryFuture, RangeQuery, Route,
    SeriesData, Service, Snapshot, Source, Unit,
};
use gantry_operator::{Change, Informer, Operator, time_to_ms};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Event as KubernetesEvent, Pod, Service as KubernetesService};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::metrics::Metrics;
use super::stack::ScaleDecision;
use super::state::Addresses;

/// What is kept for the timeline; older events go.
const KEPT_EVENTS: usize = 2000;
/// Namespaces whose objects are the control plane's own.
const OWN_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Implements the console's [`Source`] for a running stack.
pub(super) struct Page {
    name: String,
    started_ms: i64,
    clock: Arc<dyn Clock>,
    addresses: Addresses,
    kubeconfig: PathBuf,
    metrics: Metrics,
    pods: Informer<Pod>,
    services: Informer<KubernetesService>,
    deployments: Informer<Deployment>,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    ingresses: Informer<Ingress>,
    timeline: Arc<Timeline>,
}

/// Events in the order they came, and a counter that tells pages of a change.
struct Timeline {
    events: Mutex<VecDeque<Event>>,
    next_id: AtomicU64,
    changed: watch::Sender<u64>,
}

pub(super) struct PageConfig {
    pub name: String,
    pub clock: Arc<dyn Clock>,
    pub addresses: Addresses,
    pub kubeconfig: PathBuf,
    pub metrics: Metrics,
}

impl Page {
    /// Must be made before the operator runs, since it registers the informers it reads.
    pub(super) fn new(config: PageConfig, operator: &Operator) -> Arc<Page> {
        let timeline = Arc::new(Timeline {
            events: Mutex::default(),
            next_id: AtomicU64::new(1),
            changed: watch::Sender::new(0),
        });
        let started_ms = config.clock.now_ms();
        timeline.follow(&operator.informer::<KubernetesEvent>(), started_ms);
        timeline.wake_with(&operator.informer::<Pod>());
        timeline.wake_with(&operator.informer::<Deployment>());
        Arc::new(Page {
            name: config.name,
            started_ms,
            clock: config.clock,
            addresses: config.addresses,
            kubeconfig: config.kubeconfig,
            metrics: config.metrics,
            pods: operator.informer(),
            services: operator.informer(),
            deployments: operator.informer(),
            autoscalers: operator.informer(),
            ingresses: operator.informer(),
            timeline,
        })
    }

    /// Shows a decision of the autoscaler in the scaling lane.
    pub(super) fn decided(&self, decision: &ScaleDecision) {
        self.timeline.push(Event {
            id: 0,
            at_ms: decision.at_ms,
            level: Level::Decision,
            lane: "scaling".to_owned(),
            object: decision.target.clone(),
            namespace: decision.namespace.clone(),
            text: format!("scaled {} → {}", decision.from, decision.to),
            reason: decision.reason.clone(),
        });
    }

    fn addresses(&self) -> Vec<Address> {
        let kubeconfig = self.kubeconfig.display().to_string();
        let row = |label: &str, value: String, command: String| Address {
            label: label.to_owned(),
            value,
            command: Some(command),
        };
        let gateway = self.addresses.gateway;
        let host = self.routes().into_iter().find(|route| !route.host.is_empty());
        let request = match host {
            Some(route) => format!("curl -H 'Host: {}' http://{gateway}{}", route.host, route.path),
            None => format!("curl http://{gateway}/"),
        };
        vec![
            row(
                "API server",
                format!("https://{}", self.addresses.api_server),
                format!("kubectl --kubeconfig {kubeconfig} get pods -A"),
            ),
            row("Gateway", url(gateway), request),
            row(
                "Metrics",
                url(self.addresses.metrics),
                format!("curl '{}/api/v1/query?query=up'", url(self.addresses.metrics)),
            ),
        ]
    }

    fn routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        for ingress in self.ingresses.list() {
            let rules = ingress.spec.as_ref().and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
            for rule in rules {
                for path in rule.http.iter().flat_map(|http| &http.paths) {
                    let Some(service) = &path.backend.service else { continue };
                    routes.push(Route {
                        namespace: ingress.namespace().unwrap_or_default(),
                        service: service.name.clone(),
                        host: rule.host.clone().unwrap_or_default(),
                        path: path.path.clone().unwrap_or_else(|| "/".to_owned()),
                    });
                }
            }
        }
        routes
    }

    fn services(&self) -> Vec<Service> {
        let rates = self.by_service("sum by (service) (rate(kong_http_requests_total[5s]))");
        let failures =
            self.by_service("sum by (service) (rate(kong_http_requests_total{code=~\"5..\"}[5s]))");
        let quantile = |q: &str| {
            self.by_service(&format!(
                "histogram_quantile({q}, sum by (service, le) (rate(kong_request_latency_ms_bucket[10s]))) / 1000"
            ))
        };
        let (p50, p99) = (quantile("0.5"), quantile("0.99"));
        let deployments = self.deployments.list();
        let autoscalers = self.autoscalers.list();
        let mut shown = Vec::new();
        for service in self.services.list() {
            let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
            if selector.is_empty() || OWN_NAMESPACES.contains(&namespace.as_str()) {
                continue;
            }
            let behind = deployments.iter().find(|deployment| {
                deployment.namespace().as_deref() == Some(&namespace) && selects(&selector, deployment)
            });
            let pods = self.pods.list_in(&namespace);
            let own = pods.iter().filter(|pod| matches(&selector, pod.labels()));
            let ready = own.clone().filter(|pod| is_ready(pod)).count();
            let desired = behind
                .and_then(|deployment| deployment.spec.as_ref()?.replicas)
                .and_then(|replicas| usize::try_from(replicas).ok())
                .unwrap_or_else(|| own.clone().count());
            let autoscaler = behind.and_then(|deployment| {
                autoscalers.iter().find(|autoscaler| {
                    let target = &autoscaler.spec.scale_target_ref;
                    autoscaler.namespace().as_deref() == Some(&namespace)
                        && target.name == deployment.name_any()
                })
            });
            let key = (namespace.clone(), name.clone());
            let rate = rates.get(&key).copied();
            let failed = failures.get(&key).copied().unwrap_or(0.0);
            shown.push(Service {
                health: health_of_counts(ready, desired),
                ready: u32::try_from(ready).unwrap_or(u32::MAX),
                desired: u32::try_from(desired).unwrap_or(u32::MAX),
                scale: autoscaler.and_then(|autoscaler| bounds(autoscaler)),
                scale_status: autoscaler.map(|autoscaler| current_metrics(autoscaler)).unwrap_or_default(),
                rate,
                error_share: rate.filter(|rate| *rate > 0.0).map(|rate| failed / rate),
                p50_seconds: p50.get(&key).copied().filter(|value| value.is_finite()),
                p99_seconds: p99.get(&key).copied().filter(|value| value.is_finite()),
                namespace,
                name,
            });
        }
        shown.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        shown
    }

    /// Values by namespace and name, from the gateway's `service` label (`NAMESPACE.NAME.PORT`).
    fn by_service(&self, expr: &str) -> BTreeMap<(String, String), f64> {
        let mut values = BTreeMap::new();
        for (labels, value) in self.metrics.instant(expr) {
            let mut parts = labels.get("service").unwrap_or_default().split('.');
            if let (Some(namespace), Some(name)) = (parts.next(), parts.next()) {
                *values.entry((namespace.to_owned(), name.to_owned())).or_insert(0.0) += value;
            }
        }
        values
    }

    fn by_pod(&self, expr: &str) -> BTreeMap<(String, String), f64> {
        let values = self.metrics.instant(expr);
        let label =
            |labels: &gantry_prom_model::Labels, name: &str| labels.get(name).unwrap_or_default().to_owned();
        values
            .into_iter()
            .map(|(labels, value)| ((label(&labels, "namespace"), label(&labels, "pod")), value))
            .collect()
    }

    fn pods(&self) -> Vec<gantry_console::Pod> {
        let cpu = self.by_pod("sum by (namespace, pod) (rate(container_cpu_usage_seconds_total[5s]))");
        let memory = self.by_pod("sum by (namespace, pod) (container_memory_working_set_bytes)");
        let services = self.services.list();
        let mut shown = Vec::new();
        for pod in self.pods.list() {
            let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
            let selected = services.iter().filter(|service| {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                service.namespace() == pod.namespace()
                    && selector
                        .is_some_and(|selector| !selector.is_empty() && matches(selector, pod.labels()))
            });
            let status = pod.status.as_ref();
            let containers =
                status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
            let waiting = containers
                .iter()
                .find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
            let phase =
                status.and_then(|status| status.phase.clone()).unwrap_or_else(|| "Unknown".to_owned());
            let key = (namespace.clone(), name.clone());
            let ready = is_ready(&pod);
            shown.push(gantry_console::Pod {
                health: match (ready, pod.metadata.deletion_timestamp.is_some(), &waiting) {
                    (true, false, _) => Health::Good,
                    (_, true, _) => Health::Progressing,
                    (false, _, Some(reason))
                        if reason != "ContainerCreating" && reason != "PodInitializing" =>
                    {
                        Health::Critical
                    }
                    _ => Health::Progressing,
                },
                status: match pod.metadata.deletion_timestamp {
                    Some(_) => "Terminating".to_owned(),
                    None => waiting.unwrap_or(phase),
                },
                ready,
                restarts: containers
                    .iter()
                    .map(|container| u32::try_from(container.restart_count).unwrap_or(0))
                    .sum(),
                cpu_cores: cpu.get(&key).copied(),
                memory_bytes: memory.get(&key).map(|bytes| *bytes as u64),
                started_ms: status.and_then(|status| status.start_time.as_ref()).map(to_ms),
                services: selected.map(|service| service.name_any()).collect(),
                namespace,
                name,
            });
        }
        shown.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        shown
    }

    fn objects(&self) -> Vec<Object> {
        let pods: Vec<Pod> = self.pods.list().iter().map(|pod| Pod::clone(pod)).collect();
        let mut objects: Vec<Object> = Vec::new();
        for deployment in self.deployments.list() {
            let found = gantry_workloads::health::of_deployment(&deployment, &pods);
            objects.push(Object {
                kind: "Deployment".to_owned(),
                namespace: found.namespace.clone(),
                name: found.name.clone(),
                health: if found.healthy { Health::Good } else { Health::Progressing },
                status: format!("{}/{} ready", found.ready, found.desired),
                message: found.reason,
                created_ms: deployment.creation_timestamp().as_ref().map(to_ms),
            });
        }
        for service in self.services.list() {
            let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone()).unwrap_or_default();
            objects.push(plain("Service", service.as_ref(), address));
        }
        for ingress in self.ingresses.list() {
            let rules = ingress.spec.as_ref().and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
            let hosts: Vec<&str> = rules.iter().filter_map(|rule| rule.host.as_deref()).collect();
            objects.push(plain("Ingress", ingress.as_ref(), hosts.join(", ")));
        }
        for autoscaler in self.autoscalers.list() {
            objects.push(plain("HorizontalPodAutoscaler", autoscaler.as_ref(), current_metrics(&autoscaler)));
        }
        // The others are told by their Deployment.
        for pod in pods.iter().filter(|pod| !is_of_replica_set(pod)) {
            let found = gantry_workloads::health::of_pod(pod);
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
            objects.push(Object {
                kind: "Pod".to_owned(),
                namespace: found.namespace.clone(),
                name: found.name.clone(),
                health: if found.healthy { Health::Good } else { Health::Progressing },
                status: phase.unwrap_or_else(|| "Unknown".to_owned()),
                message: found.reason,
                created_ms: pod.creation_timestamp().as_ref().map(to_ms),
            });
        }
        objects.sort_by(|a, b| (&a.namespace, &a.kind, &a.name).cmp(&(&b.namespace, &b.kind, &b.name)));
        objects
    }
}

impl Source for Page {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_ms: self.clock.now_ms(),
            started_ms: self.started_ms,
            addresses: self.addresses(),
            routes: self.routes(),
            services: self.services(),
            pods: self.pods(),
            objects: self.objects(),
            charts: charts(),
        }
    }

    fn events(&self, from_ms: i64, to_ms: i64) -> Vec<Event> {
        let events = self.timeline.events.lock();
        events.iter().filter(|event| (from_ms..=to_ms).contains(&event.at_ms)).cloned().collect()
    }

    fn query_range(&self, query: RangeQuery) -> QueryFuture<'_> {
        Box::pin(async move {
            let step = std::time::Duration::from_millis(u64::try_from(query.step_ms).unwrap_or(1000));
            let series = self
                .metrics
                .range(&query.expr, query.from_ms, query.to_ms, step)
                .await
                .map_err(QueryError)?;
            let pairs = |labels: &gantry_prom_model::Labels| {
                labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            Ok(series
                .into_iter()
                .map(|(labels, points)| SeriesData { labels: pairs(&labels), points })
                .collect())
        })
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.timeline.changed.subscribe()
    }
}

// === impl Timeline ===

impl Timeline {
    fn follow(self: &Arc<Self>, events: &Informer<KubernetesEvent>, since_ms: i64) {
        let timeline = self.clone();
        let subscription = events.subscribe(move |change| {
            let Change::Applied { new: event, .. } = change else { return };
            let event = as_event(event);
            if event.at_ms >= since_ms {
                timeline.push(event);
            }
        });
        subscription.keep();
    }

    fn wake_with<K: gantry_operator::Object>(self: &Arc<Self>, informer: &Informer<K>) {
        let timeline = self.clone();
        informer.subscribe(move |_| timeline.wake()).keep();
    }

    fn push(&self, mut event: Event) {
        event.id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut events = self.events.lock();
        if events.len() == KEPT_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
        drop(events);
        self.wake();
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn as_event(event: &KubernetesEvent) -> Event {
    let about = &event.involved_object;
    let kind = about.kind.clone().unwrap_or_default().to_lowercase();
    let reason = event.reason.clone().unwrap_or_default();
    let level = if event.type_.as_deref() == Some("Warning") { Level::Warning } else { Level::Normal };
    let at = event.last_timestamp.as_ref().map(to_ms);
    let at = at.or_else(|| event.event_time.as_ref().map(|time| time.0.as_millisecond()));
    Event {
        id: 0,
        at_ms: at.or_else(|| event.creation_timestamp().as_ref().map(to_ms)).unwrap_or(0),
        level,
        lane: if kind == "pod" { "pods".to_owned() } else { "objects".to_owned() },
        object: format!("{kind}/{}", about.name.clone().unwrap_or_default()),
        namespace: about.namespace.clone().unwrap_or_default(),
        text: reason,
        reason: event.message.clone().unwrap_or_default(),
    }
}

fn to_ms(time: &Time) -> i64 {
    time_to_ms(time)
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

fn matches(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn selects(selector: &BTreeMap<String, String>, deployment: &Deployment) -> bool {
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    template.and_then(|metadata| metadata.labels.as_ref()).is_some_and(|labels| matches(selector, labels))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn health_of_counts(ready: usize, desired: usize) -> Health {
    match (ready, desired) {
        (_, 0) => Health::Good,
        (0, _) => Health::Critical,
        (ready, desired) if ready < desired => Health::Progressing,
        _ => Health::Good,
    }
}

fn bounds(autoscaler: &HorizontalPodAutoscaler) -> Option<(u32, u32)> {
    let spec = &autoscaler.spec;
    Some((u32::try_from(spec.min_replicas.unwrap_or(1)).ok()?, u32::try_from(spec.max_replicas).ok()?))
}

/// Such as `cpu 62 % of 70 %`.
fn current_metrics(autoscaler: &HorizontalPodAutoscaler) -> String {
    let current =
        autoscaler.status.as_ref().and_then(|status| status.current_metrics.as_deref()).unwrap_or_default();
    let wanted = autoscaler.spec.metrics.as_deref().unwrap_or_default();
    let mut parts = Vec::new();
    for metric in current {
        let Some(resource) = &metric.resource else { continue };
        let target = wanted
            .iter()
            .filter_map(|wanted| wanted.resource.as_ref())
            .find(|wanted| wanted.name == resource.name);
        let target = target.and_then(|wanted| wanted.target.average_utilization);
        if let (Some(value), Some(target)) = (resource.current.average_utilization, target) {
            parts.push(format!("{} {value} % of {target} %", resource.name));
        }
    }
    parts.join(", ")
}

fn is_of_replica_set(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.kind == "ReplicaSet")
}

fn plain<K: ResourceExt>(kind: &str, object: &K, status: String) -> Object {
    Object {
        kind: kind.to_owned(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        health: Health::Good,
        status,
        message: String::new(),
        created_ms: object.creation_timestamp().as_ref().map(to_ms),
    }
}

fn charts() -> Vec<Chart> {
    let chart = |id: &str, title: &str, unit: Unit, stepped: bool, queries: &[(&str, &str)]| Chart {
        id: id.to_owned(),
        title: title.to_owned(),
        unit,
        stepped,
        queries: queries
            .iter()
            .map(|(expr, legend)| ChartQuery { expr: (*expr).to_owned(), legend: (*legend).to_owned() })
            .collect(),
    };
    let latency = |q: &str| {
        format!("histogram_quantile({q}, sum by (le) (rate(kong_request_latency_ms_bucket[$window]))) / 1000")
    };
    vec![
        chart(
            "rate",
            "Requests",
            Unit::PerSecond,
            false,
            &[("sum by (service) (rate(kong_http_requests_total[$window]))", "{{service}}")],
        ),
        chart(
            "errors",
            "Failed requests",
            Unit::PerSecond,
            false,
            &[("sum(rate(kong_http_requests_total{code=~\"5..\"}[$window])) or vector(0)", "failed")],
        ),
        chart(
            "latency",
            "Latency",
            Unit::Seconds,
            false,
            &[(&latency("0.5"), "p50"), (&latency("0.99"), "p99")],
        ),
        chart(
            "replicas",
            "Replicas",
            Unit::Count,
            true,
            &[("kube_deployment_status_replicas_ready", "{{deployment}}")],
        ),
        chart(
            "cpu",
            "CPU",
            Unit::Cores,
            false,
            &[("sum by (pod) (rate(container_cpu_usage_seconds_total[$window]))", "{{pod}}")],
        ),
        chart(
            "memory",
            "Memory",
            Unit::Bytes,
            false,
            &[("sum by (pod) (container_memory_working_set_bytes)", "{{pod}}")],
        ),
    ]
}
