//! From a rule's alert to the body that an Alertmanager gets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_clock::ManualClock;
use gantry_prom_model::{Labels, Registry};
use gantry_rules::{Alertmanager, Deliver, Notification, Notifier, NotifierOptions, Notify, Relabel};
use tokio::sync::{Mutex, Semaphore, mpsc};

/// Notes each body; takes as many as it is allowed to.
struct Noting {
    bodies: mpsc::UnboundedSender<String>,
    allowed: Arc<Semaphore>,
    fails: bool,
}

#[async_trait]
impl Deliver for Noting {
    async fn deliver(&self, body: Bytes) -> Result<(), String> {
        let permit = self.allowed.acquire().await.map_err(|error| error.to_string())?;
        permit.forget();
        let _ = self.bodies.send(String::from_utf8_lossy(&body).into_owned());
        if self.fails { Err("no".into()) } else { Ok(()) }
    }
}

fn unchanged() -> Relabel {
    Arc::new(|labels: &Labels| Some(labels.clone()))
}

struct Bench {
    notifier: Notifier,
    registry: Registry,
    bodies: Mutex<mpsc::UnboundedReceiver<String>>,
    allowed: Arc<Semaphore>,
}

fn bench(options: NotifierOptions, relabel: Relabel, fails: bool) -> Bench {
    let registry = Registry::new();
    let notifier = Notifier::new(options, Arc::new(ManualClock::new(0)), &registry);
    let (sender, receiver) = mpsc::unbounded_channel();
    let allowed = Arc::new(Semaphore::new(0));
    let deliver = Arc::new(Noting { bodies: sender, allowed: allowed.clone(), fails });
    let alertmanager = Alertmanager {
        url: "http://am/api/v2/alerts".into(),
        deliver,
        relabel,
        timeout: Duration::from_secs(60),
    };
    notifier.set_alertmanagers(0, vec![alertmanager], Vec::new());
    Bench { notifier, registry, bodies: Mutex::new(receiver), allowed }
}

fn alerts(names: &[&str]) -> Vec<Notification> {
    names
        .iter()
        .map(|name| Notification {
            labels: Labels::from_pairs([("alertname", *name)]),
            annotations: Labels::empty(),
            starts_at_ms: 0,
            ends_at_ms: 1,
            generator_url: "u".into(),
        })
        .collect()
}

fn names(body: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let list = list.as_array().expect("a list");
    list.iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap_or("").to_owned()).collect()
}

#[tokio::test]
async fn alerts_are_relabelled_and_delivered_in_batches() {
    let relabel: Relabel =
        Arc::new(|labels: &Labels| (labels.get("alertname") != Some("hidden")).then(|| labels.clone()));
    let options = NotifierOptions { max_batch: 2, ..NotifierOptions::default() };
    let bench = bench(options, relabel, false);
    let all: Relabel = Arc::new(|labels: &Labels| {
        (labels.get("alertname") != Some("dropped")).then(|| {
            let mut builder = labels.to_builder();
            builder.set("via", "all");
            builder.build()
        })
    });
    bench.notifier.configure(Labels::from_pairs([("cluster", "c"), ("alertname", "never")]), all, 1);
    bench.notifier.notify(alerts(&["a", "hidden", "dropped", "b", "c"]));
    bench.allowed.add_permits(2);
    let mut bodies = bench.bodies.lock().await;
    let first = bodies.recv().await.expect("the first batch");
    assert_eq!(names(&first), ["a", "b"]);
    assert!(first.contains(r#""labels":{"alertname":"a","cluster":"c","via":"all"}"#), "{first}");
    assert_eq!(names(&bodies.recv().await.expect("the second batch")), ["c"]);
    drop(bodies);
    bench.notifier.shutdown().await;
    let metrics = bench.registry.encode();
    let sent = r#"prometheus_notifications_sent_total{alertmanager="http://am/api/v2/alerts"} 3"#;
    assert!(metrics.contains(sent), "{metrics}");
}

#[tokio::test]
async fn a_full_queue_loses_its_oldest_and_the_end_drains_it() {
    let options = NotifierOptions { queue_capacity: 2, ..NotifierOptions::default() };
    let bench = bench(options, unchanged(), false);
    bench.notifier.notify(alerts(&["a", "b", "c"]));
    bench.allowed.add_permits(10);
    bench.notifier.shutdown().await;
    let body = bench.bodies.lock().await.recv().await.expect("what waited is delivered at the end");
    assert_eq!(names(&body), ["b", "c"]);
    let metrics = bench.registry.encode();
    let dropped = r#"prometheus_notifications_dropped_total{alertmanager="http://am/api/v2/alerts"} 1"#;
    assert!(metrics.contains(dropped), "{metrics}");
}

#[tokio::test]
async fn without_draining_what_waits_is_dropped_and_counted() {
    let options = NotifierOptions { drain: false, ..NotifierOptions::default() };
    let bench = bench(options, unchanged(), false);
    // No time for the delivery to begin: the loop sees the end first.
    bench.notifier.notify(alerts(&["a", "b"]));
    bench.notifier.shutdown().await;
    let metrics = bench.registry.encode();
    let dropped = r#"prometheus_notifications_dropped_total{alertmanager="http://am/api/v2/alerts"} 2"#;
    assert!(metrics.contains(dropped), "{metrics}");
}

#[tokio::test]
async fn what_is_not_taken_is_counted() {
    let bench = bench(NotifierOptions::default(), unchanged(), true);
    bench.notifier.notify(alerts(&["a", "b"]));
    bench.allowed.add_permits(1);
    bench.bodies.lock().await.recv().await.expect("a delivery that fails");
    bench.notifier.shutdown().await;
    let metrics = bench.registry.encode();
    for name in ["errors", "dropped"] {
        let counted =
            format!(r#"prometheus_notifications_{name}_total{{alertmanager="http://am/api/v2/alerts"}} 2"#);
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

#[tokio::test]
async fn alertmanagers_that_are_gone_hear_nothing_more() {
    let bench = bench(NotifierOptions::default(), unchanged(), false);
    assert_eq!(bench.notifier.active(), ["http://am/api/v2/alerts"]);
    bench.notifier.configure(Labels::empty(), unchanged(), 0);
    assert!(bench.notifier.active().is_empty());
    bench.notifier.notify(alerts(&["a"]));
    assert!(bench.registry.encode().contains("gantry_notifications_without_alertmanager_total 1"));
}
