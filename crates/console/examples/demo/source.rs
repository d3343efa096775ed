//! A shop whose load rises and falls: every value follows from the time alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_console::{
    Address, Chart, ChartQuery, Event, Health, Level, Object, Pod, QueryError, QueryFuture, RangeQuery,
    Route, SeriesData, Service, Snapshot, Source, Unit,
};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    Shop,
    /// Nothing applied yet.
    Empty,
    /// The newest catalog crashes.
    Trouble,
}

pub(crate) struct Demo {
    scene: Scene,
    changes: watch::Receiver<u64>,
}

/// One rise and fall of the load.
const PERIOD: i64 = 600;

impl Demo {
    /// Must be called within a runtime: a task tells of a change every second.
    pub(crate) fn start(scene: Scene) -> Demo {
        let (sender, changes) = watch::channel(0);
        tokio::spawn(async move {
            while !sender.is_closed() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                sender.send_modify(|number| *number += 1);
            }
        });
        Demo { scene, changes }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// A little noise that is the same at the same second.
fn noise(second: i64, stream: i64) -> f64 {
    let mut x = (second.wrapping_mul(0x9e37_79b9) ^ stream.wrapping_mul(0x85eb_ca6b)) as u64;
    x = (x ^ (x >> 15)).wrapping_mul(0x2c1b_3c6d_0000_0001);
    ((x ^ (x >> 31)) & 0xffff) as f64 / 65_536.0
}

fn rate(second: i64) -> f64 {
    let phase = second.rem_euclid(PERIOD);
    let base = match phase {
        0..120 => 40.0,
        120..150 => 40.0 + (phase - 120) as f64 * 12.0,
        150..360 => 400.0,
        360..400 => 400.0 - (phase - 360) as f64 * 9.0,
        _ => 40.0,
    };
    base * (0.95 + 0.1 * noise(second, 1))
}

fn replicas(second: i64) -> f64 {
    match second.rem_euclid(PERIOD) {
        0..135 => 1.0,
        135..150 => 2.0,
        150..430 => 4.0,
        430..460 => 2.0,
        _ => 1.0,
    }
}

fn p99(second: i64) -> f64 {
    let pressure = rate(second) / replicas(second) / 100.0;
    0.012 + 0.02 * pressure * pressure + 0.004 * noise(second, 2)
}

fn value(expr: &str, second: i64, scene: Scene) -> Option<f64> {
    // A scrape that was missed: the page must show a gap.
    if (300..306).contains(&second.rem_euclid(PERIOD)) {
        return None;
    }
    Some(match expr {
        "rate catalog" => rate(second) * 0.8,
        "rate checkout" => rate(second) * 0.2,
        "errors" if scene == Scene::Trouble => rate(second) * 0.06 * noise(second, 3),
        "errors" => 0.0,
        "p50" => p99(second) * 0.35,
        "p99" => p99(second),
        "replicas catalog" => replicas(second),
        "replicas checkout" => 2.0,
        "cpu catalog" => rate(second) * 0.0018 * (0.97 + 0.06 * noise(second, 4)),
        "cpu checkout" => rate(second) * 0.0004,
        "memory catalog" => replicas(second) * 9.4e6 + 1e5 * noise(second, 5),
        "memory checkout" => 2.0 * 8.1e6 + 1e5 * noise(second, 6),
        _ => return None,
    })
}

fn chart(id: &str, title: &str, unit: Unit, stepped: bool, queries: &[(&str, &str)]) -> Chart {
    let queries =
        queries.iter().map(|(expr, legend)| ChartQuery { expr: (*expr).into(), legend: (*legend).into() });
    Chart { id: id.into(), title: title.into(), unit, stepped, queries: queries.collect() }
}

impl Source for Demo {
    fn snapshot(&self) -> Snapshot {
        let now = now_ms();
        let second = now / 1000;
        let mut snapshot = Snapshot {
            name: "examples/shop/overlays/dev".into(),
            version: "0.1.0".into(),
            now_ms: now,
            started_ms: now - 3_725_000,
            addresses: vec![
                address(
                    "Gateway",
                    "http://127.0.0.1:8000",
                    Some("curl -H 'Host: shop.localhost' http://127.0.0.1:8000/products"),
                ),
                address("API server", ".gantry/kubeconfig", Some("export KUBECONFIG=.gantry/kubeconfig")),
                address("Metrics", "http://127.0.0.1:9090", None),
            ],
            ..Snapshot::default()
        };
        if self.scene == Scene::Empty {
            return snapshot;
        }
        let trouble = self.scene == Scene::Trouble;
        let ready = replicas(second) as u32;
        snapshot.charts = vec![
            chart(
                "rate",
                "Requests",
                Unit::PerSecond,
                false,
                &[("rate catalog", "catalog"), ("rate checkout", "checkout")],
            ),
            chart("errors", "Failed requests", Unit::PerSecond, false, &[("errors", "failed")]),
            chart("latency", "Latency", Unit::Seconds, false, &[("p50", "p50"), ("p99", "p99")]),
            chart(
                "replicas",
                "Replicas",
                Unit::Count,
                true,
                &[("replicas catalog", "catalog"), ("replicas checkout", "checkout")],
            ),
            chart(
                "cpu",
                "CPU",
                Unit::Cores,
                false,
                &[("cpu catalog", "catalog"), ("cpu checkout", "checkout")],
            ),
            chart(
                "memory",
                "Memory",
                Unit::Bytes,
                false,
                &[("memory catalog", "catalog"), ("memory checkout", "checkout")],
            ),
        ];
        snapshot.routes = vec![route("catalog", "/products"), route("checkout", "/checkout")];
        let error_share = if trouble { 0.031 } else { 0.0 };
        let desired = if trouble { ready + 1 } else { ready };
        snapshot.services = vec![
            Service {
                namespace: "shop-dev".into(),
                name: "catalog".into(),
                health: if trouble { Health::Critical } else { Health::Good },
                ready,
                desired,
                scale: Some((1, 5)),
                scale_status: format!("cpu {:.0} % of 60 %", rate(second) * 0.18 / f64::from(ready) * 0.9),
                rate: Some(rate(second) * 0.8),
                error_share: Some(error_share),
                p50_seconds: Some(p99(second) * 0.35),
                p99_seconds: Some(p99(second)),
            },
            Service {
                namespace: "shop-dev".into(),
                name: "checkout".into(),
                health: Health::Good,
                ready: 2,
                desired: 2,
                rate: Some(rate(second) * 0.2),
                error_share: Some(0.0),
                p50_seconds: Some(p99(second) * 0.5),
                p99_seconds: Some(p99(second) * 1.4),
                ..Service::default()
            },
        ];
        let names = ["7d4b9c6f5-x2lqk", "7d4b9c6f5-9vwzt", "7d4b9c6f5-m8h4d", "7d4b9c6f5-c6rjn"];
        for name in names.iter().take(ready as usize) {
            snapshot.pods.push(pod("catalog", name, Some(rate(second) * 0.0018 / f64::from(ready))));
        }
        if trouble {
            let crashed = Pod {
                health: Health::Critical,
                status: "CrashLoopBackOff".into(),
                ready: false,
                restarts: 7,
                cpu_cores: None,
                ..pod("catalog", "5f6d8b7c9-q4s2p", None)
            };
            snapshot.pods.push(crashed);
        }
        snapshot.pods.push(pod("checkout", "6c5f7d8b4-t5k9w", Some(rate(second) * 0.0002)));
        snapshot.pods.push(pod("checkout", "6c5f7d8b4-z7n3b", Some(rate(second) * 0.0002)));
        snapshot.objects = objects(&snapshot, trouble, now);
        snapshot
    }

    fn events(&self, from_ms: i64, to_ms: i64) -> Vec<Event> {
        if self.scene == Scene::Empty {
            return Vec::new();
        }
        let kinds: [(i64, Level, &str, &str, &str, &str); 8] = [
            (
                121,
                Level::Normal,
                "traffic",
                "gateway",
                "rate rises: 40/s → 400/s",
                "More than twice the mean of the last five minutes.",
            ),
            (
                135,
                Level::Decision,
                "scaling",
                "hpa/catalog",
                "scaled 1 → 2",
                "cpu was 187 % of the request over all pods, target 60 %: wanted 4; the policy allows one pod more per 15 s.",
            ),
            (
                137,
                Level::Normal,
                "pods",
                "pod/catalog-7d4b9c6f5-9vwzt",
                "ready after 1.4 s",
                "Startup probe /healthz answered 200 at the first try.",
            ),
            (
                150,
                Level::Decision,
                "scaling",
                "hpa/catalog",
                "scaled 2 → 4",
                "cpu was 143 % of the request over all pods, target 60 %: wanted 5; the policy allows double per 15 s.",
            ),
            (152, Level::Normal, "pods", "pod/catalog-7d4b9c6f5-m8h4d", "ready after 1.3 s", ""),
            (
                302,
                Level::Warning,
                "traffic",
                "scrape/catalog",
                "5 scrapes missed",
                "The target did not answer in 1 s.",
            ),
            (
                430,
                Level::Decision,
                "scaling",
                "hpa/catalog",
                "scaled 4 → 2",
                "cpu was 11 % of the request; the stabilisation window of 60 s is over.",
            ),
            (
                460,
                Level::Decision,
                "scaling",
                "hpa/catalog",
                "scaled 2 → 1",
                "cpu was 14 % of the request; at the minimum now.",
            ),
        ];
        let mut list = Vec::new();
        let first = (from_ms / 1000).div_euclid(PERIOD).max((to_ms / 1000).div_euclid(PERIOD) - 50);
        for round in first..=(to_ms / 1000).div_euclid(PERIOD) {
            for (index, (offset, level, lane, object, text, reason)) in (0..).zip(kinds) {
                let mut event = Event {
                    id: (round * 10 + index) as u64,
                    at_ms: (round * PERIOD + offset) * 1000,
                    level,
                    lane: lane.into(),
                    object: object.into(),
                    namespace: "shop-dev".into(),
                    text: text.into(),
                    reason: reason.into(),
                };
                if self.scene == Scene::Trouble && index == 4 {
                    event.level = Level::Critical;
                    event.object = "pod/catalog-5f6d8b7c9-q4s2p".into();
                    event.text = "exited with code 2, restarting in 40 s".into();
                    event.reason =
                        "The container said last: error: where is the database: set DATABASE_URL".into();
                }
                if (from_ms..=to_ms).contains(&event.at_ms) {
                    list.push(event);
                }
            }
        }
        list
    }

    fn query_range(&self, query: RangeQuery) -> QueryFuture<'_> {
        let scene = self.scene;
        Box::pin(async move {
            if query.expr == "broken" {
                return Err(QueryError("1:4: parse error: unexpected end of input".into()));
            }
            let steps =
                (0..).map(|n| query.from_ms + n * query.step_ms).take_while(|time| *time <= query.to_ms);
            let points =
                steps.filter_map(|time| Some((time, value(&query.expr, time / 1000, scene)?))).collect();
            Ok(vec![SeriesData { labels: Vec::new(), points }])
        })
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

fn address(label: &str, value: &str, command: Option<&str>) -> Address {
    Address { label: label.into(), value: value.into(), command: command.map(Into::into) }
}

fn route(service: &str, path: &str) -> Route {
    Route {
        namespace: "shop-dev".into(),
        service: service.into(),
        host: "shop.localhost".into(),
        path: path.into(),
    }
}

fn pod(service: &str, suffix: &str, cpu_cores: Option<f64>) -> Pod {
    Pod {
        namespace: "shop-dev".into(),
        name: format!("{service}-{suffix}"),
        services: vec![service.into()],
        health: Health::Good,
        status: "Running".into(),
        ready: true,
        cpu_cores,
        memory_bytes: Some(9_400_000),
        ..Pod::default()
    }
}

fn objects(snapshot: &Snapshot, trouble: bool, now: i64) -> Vec<Object> {
    let object = |kind: &str, name: &str, status: &str| Object {
        kind: kind.into(),
        namespace: "shop-dev".into(),
        name: name.into(),
        health: Health::Good,
        status: status.into(),
        message: String::new(),
        created_ms: Some(now - 3_720_000),
    };
    let mut list = vec![
        Object { namespace: String::new(), ..object("Namespace", "shop-dev", "Active") },
        object("ConfigMap", "catalog-config-6h8k2m5t7f", "3 keys"),
        object("Secret", "checkout-secret-9gt5b7fc2k", "1 key"),
        object("Service", "catalog", "127.96.0.11:80"),
        object("Service", "checkout", "127.96.0.12:80"),
        object("Ingress", "shop", "shop.localhost"),
        object("HorizontalPodAutoscaler", "catalog", "1–5, cpu 60 %"),
    ];
    for service in &snapshot.services {
        let mut deployment =
            object("Deployment", &service.name, &format!("{}/{} ready", service.ready, service.desired));
        deployment.health = service.health;
        if service.health == Health::Critical {
            deployment.message =
                "ProgressDeadlineExceeded: ReplicaSet \"catalog-5f6d8b7c9\" has timed out progressing".into();
        }
        list.push(deployment);
    }
    for pod in &snapshot.pods {
        let mut one = object("Pod", &pod.name, &pod.status);
        one.health = pod.health;
        if trouble && pod.health == Health::Critical {
            one.message = "back-off 40 s restarting container catalog: exit code 2".into();
        }
        list.push(one);
    }
    list
}
