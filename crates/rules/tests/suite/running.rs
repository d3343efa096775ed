//! Groups that run: reloads, stale markers, restored alerts.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use gantry_clock::{Clock, SystemClock};
use gantry_prom_model::{Appendable, Labels, Queryable, Registry};
use gantry_promql::testing::LiveStorage;
use gantry_promql::{Cancellation, Engine, QueryValue};
use gantry_rules::{
    AlertState, Environment, GroupDefaults, Health, Notification, Notify, ReadOptions, RuleFile, RuleMetrics,
    Rules, RulesOptions, read_rule_file,
};
use parking_lot::Mutex;

/// Keeps what it is told.
#[derive(Default)]
struct Heard(Mutex<Vec<Notification>>);

impl Notify for Heard {
    fn notify(&self, alerts: Vec<Notification>) {
        self.0.lock().extend(alerts);
    }
}

struct Bench {
    storage: Arc<LiveStorage>,
    heard: Arc<Heard>,
    clock: Arc<SystemClock>,
    registry: Registry,
    metrics: RuleMetrics,
}

const DEFAULTS: GroupDefaults = GroupDefaults { interval_ms: 20, query_offset_ms: 0 };

impl Bench {
    fn new() -> Bench {
        let registry = Registry::new();
        Bench {
            storage: Arc::new(LiveStorage::new()),
            heard: Arc::default(),
            clock: Arc::new(SystemClock::new()),
            metrics: RuleMetrics::new(&registry),
            registry,
        }
    }

    fn environment(&self) -> Arc<Environment> {
        Arc::new(Environment {
            storage: self.storage.clone() as Arc<dyn Queryable>,
            appendable: self.storage.clone() as Arc<dyn Appendable>,
            engine: Engine::default(),
            clock: self.clock.clone(),
            notify: self.heard.clone(),
            external_labels: Labels::empty(),
            external_url: "http://p".into(),
            resend_delay_ms: 60_000,
            outage_tolerance_ms: 3_600_000,
            for_grace_period_ms: 300_000,
            extra_threads: Arc::new(AtomicUsize::new(4)),
            metrics: self.metrics.clone(),
            cancellation: Cancellation::new(),
        })
    }

    fn values(&self, query: &str) -> Vec<f64> {
        let result = Engine::default().instant(&*self.storage, query, self.clock.now_ms());
        let QueryValue::Vector(samples) = result.expect("an answer").value else {
            panic!("{query} is a vector")
        };
        samples
            .iter()
            .map(|sample| match sample.value {
                gantry_promql::Value::Float(value) => value,
                gantry_promql::Value::Histogram(_) => f64::NAN,
            })
            .collect()
    }

    /// Waits until a query gives these values.
    async fn until(&self, query: &str, expected: &[f64]) {
        let is_so = async {
            while self.values(query) != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), is_so).await.is_err() {
            panic!("{query} gives {:?}, not {expected:?}", self.values(query));
        }
    }
}

fn files(text: &str) -> Vec<(String, RuleFile)> {
    vec![("r.yml".to_owned(), read_rule_file("r.yml", text, ReadOptions::default()).expect("good rules"))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_what_stays_and_ends_what_goes() {
    let bench = Bench::new();
    let rules = Rules::new(RulesOptions::default());
    let before = "groups:\n- name: stays\n  rules:\n  - {record: a, expr: vector(1)}\n- name: changes\n  rules:\n  - {record: b, expr: vector(1)}\n  - {record: c, expr: vector(1)}\n- name: goes\n  rules:\n  - {record: d, expr: vector(1)}\n";
    rules.apply(files(before), DEFAULTS, &bench.environment());
    bench.until("count({__name__=~\"a|b|c|d\"})", &[4.0]).await;
    let stays = rules.groups().into_iter().find(|group| group.name == "stays").expect("it runs");
    let after = "groups:\n- name: stays\n  rules:\n  - {record: a, expr: vector(1)}\n- name: changes\n  rules:\n  - {record: b, expr: vector(2)}\n";
    rules.apply(files(after), DEFAULTS, &bench.environment());
    let names: Vec<String> = rules.groups().iter().map(|group| group.name.clone()).collect();
    assert_eq!(names, ["changes", "stays"]);
    assert!(rules.groups().iter().any(|group| Arc::ptr_eq(group, &stays)), "the same group goes on");
    bench.until("b", &[2.0]).await;
    bench.until("count({__name__=~\"c|d\"})", &[]).await;
    bench.until("a", &[1.0]).await;
    rules.shutdown().await;
    let text = bench.registry.encode();
    assert!(text.contains("prometheus_rule_group_rules{rule_group=\"r.yml;stays\"} 1"), "{text}");
    assert!(!text.contains("rule_group=\"r.yml;goes\""), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_fire_and_end_and_are_told() {
    let bench = Bench::new();
    let rules = Rules::new(RulesOptions { restore: false });
    let text = "groups:\n- name: g\n  rules:\n  - {alert: Always, expr: vector(7), labels: {team: a}, annotations: {summary: 'it is {{ $value }}'}}\n";
    rules.apply(files(text), DEFAULTS, &bench.environment());
    bench.until("ALERTS{alertstate=\"firing\", team=\"a\"}", &[1.0]).await;
    let group = rules.groups().remove(0);
    let alerting = group.rules[0].alerting().expect("an alert");
    assert_eq!(alerting.state(), AlertState::Firing);
    assert_eq!(group.rules[0].status().health, Health::Good);
    let heard = bench.heard.0.lock().clone();
    assert_eq!(heard[0].labels.to_string(), r#"{alertname="Always", team="a"}"#);
    assert_eq!(heard[0].annotations.get("summary"), Some("it is 7"));
    assert_eq!(&*heard[0].generator_url, "http://p/graph?g0.expr=vector%287%29&g0.tab=1");
    assert_eq!(heard.len(), 1, "it is not sent again before the delay");
    rules.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_waits_on_after_a_restart() {
    let bench = Bench::new();
    let now_ms = bench.clock.now_ms();
    // Fifty of sixty minutes had passed when the server went down two minutes ago.
    let state = Labels::from_pairs([("__name__", "ALERTS_FOR_STATE"), ("alertname", "Slow"), ("team", "a")]);
    let active_since = ((now_ms - 52 * 60_000) / 1000) as f64;
    let mut appender = bench.storage.appender();
    appender.append(None, &state, now_ms - 120_000, active_since).expect("stored");
    appender.commit().expect("stored");
    let rules = Rules::new(RulesOptions::default());
    let text =
        "groups:\n- name: g\n  rules:\n  - {alert: Slow, expr: vector(1), for: 1h, labels: {team: a}}\n";
    rules.apply(files(text), DEFAULTS, &bench.environment());
    // Series are written again only after the state has been looked for.
    bench.until("ALERTS{alertname=\"Slow\", alertstate=\"pending\"}", &[1.0]).await;
    let group = rules.groups().remove(0);
    let alert = group.rules[0].alerting().expect("an alert").alerts().remove(0);
    let waited_ms = bench.clock.now_ms() - alert.active_at_ms;
    // The outage does not count: about fifty minutes, and not the two of it.
    assert!((49 * 60_000..52 * 60_000).contains(&waited_ms), "{waited_ms}");
    rules.shutdown().await;
}
