//! The sender's part of Remote-Write 1.0 and 2.0: from a store's log to a receiver of this file.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_clock::{Clock, SystemClock};
use gantry_prom_model::{
    Appendable, FloatHistogram, Labels, METRIC_NAME, Metadata, MetricKind, Registry, Span, is_stale_nan,
    stale_nan,
};
use gantry_remote::write::message::{Outgoing, Point, points_of, symbols_of};
use gantry_remote::{
    MetadataOptions, Post, Protocol, QueueOptions, Relabel, Reply, Sender, SenderMetrics, SenderOptions,
    Written, decompress,
};
use gantry_tsdb::{Db, DbOptions};
use parking_lot::Mutex;

/// A request as it came.
#[derive(Clone)]
struct Request {
    headers: Vec<(&'static str, &'static str)>,
    plain: Vec<u8>,
}

/// A receiver: answers as told, then always well.
#[derive(Default)]
struct Peer {
    requests: Mutex<Vec<Request>>,
    answers: Mutex<VecDeque<Result<Reply, String>>>,
    /// While it is set, every request fails.
    down: std::sync::atomic::AtomicBool,
}

struct Connection(Arc<Peer>);

#[async_trait]
impl Post for Connection {
    async fn post(&mut self, headers: &[(&'static str, &'static str)], body: Bytes) -> Result<Reply, String> {
        if self.0.down.load(std::sync::atomic::Ordering::Acquire) {
            return Err("connection refused".into());
        }
        let plain = decompress(&body).expect("snappy's block format");
        self.0.requests.lock().push(Request { headers: headers.to_vec(), plain: plain.clone() });
        let answer = self.0.answers.lock().pop_front();
        answer.unwrap_or_else(|| {
            let is_v2 = headers.contains(&("content-type", Protocol::V2.content_type()));
            Ok(Reply { status: 204, written: is_v2.then(|| count(&plain, true)), ..Reply::default() })
        })
    }
}

fn count(plain: &[u8], is_v2: bool) -> Written {
    let mut written = Written::default();
    for outgoing in points_of(plain, is_v2).expect("a request").0 {
        match outgoing.point {
            Point::Float(_) => written.samples += 1,
            Point::Histogram(_) => written.histograms += 1,
            Point::Exemplar(..) => written.exemplars += 1,
        }
    }
    written
}

impl Peer {
    fn points(&self, is_v2: bool) -> Vec<Outgoing> {
        let requests = self.requests.lock().clone();
        requests.iter().flat_map(|request| points_of(&request.plain, is_v2).expect("a request").0).collect()
    }

    fn answer(&self, status: u16) {
        self.answers.lock().push_back(Ok(Reply { status, message: "no".into(), ..Reply::default() }));
    }
}

struct Bench {
    dir: tempfile::TempDir,
    db: Arc<Db>,
    peer: Arc<Peer>,
    registry: Registry,
    metrics: SenderMetrics,
    clock: Arc<SystemClock>,
}

fn unchanged() -> Relabel {
    Arc::new(|labels: &Labels| Some(labels.clone()))
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(SystemClock::new());
        let db = Arc::new(Db::open(dir.path(), DbOptions::default(), clock.now_ms()).expect("a store"));
        let registry = Registry::new();
        let metrics = SenderMetrics::new(&registry);
        Bench { dir, db, peer: Arc::default(), registry, metrics, clock }
    }

    fn options(&self) -> SenderOptions {
        SenderOptions {
            name: "q".into(),
            url: "http://peer/".into(),
            protocol: Protocol::V1,
            external_labels: Labels::empty(),
            relabel: unchanged(),
            queue: QueueOptions {
                batch_send_deadline: Duration::from_millis(20),
                min_backoff: Duration::from_millis(1),
                max_backoff: Duration::from_millis(5),
                ..QueueOptions::default()
            },
            send_native_histograms: true,
            send_exemplars: true,
            metadata: None,
            metadata_source: Arc::new(Vec::new),
            wal_dir: self.dir.path().join("wal"),
            place_file: self.place_file(),
            flush_deadline: Duration::from_secs(20),
            seed: 1,
        }
    }

    fn place_file(&self) -> std::path::PathBuf {
        self.dir.path().join("remote").join("q.json")
    }

    fn start(&self, options: SenderOptions) -> Sender {
        let peer = self.peer.clone();
        let connect =
            Arc::new(move || -> Result<Box<dyn Post>, String> { Ok(Box::new(Connection(peer.clone()))) });
        Sender::start(options, connect, self.clock.clone(), &self.metrics)
    }

    fn append(&self, name: &str, t: i64, v: f64) {
        let mut appender = self.db.appender();
        appender.append(None, &labels(name), t, v).expect("it is taken");
        appender.commit().expect("it is written");
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Bench) -> bool) {
        for _ in 0..6000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} does not come: {}", self.registry.encode());
    }
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([(METRIC_NAME, name), ("job", "j")])
}

fn floats(points: &[Outgoing], name: &str) -> Vec<f64> {
    let of = points.iter().filter(|outgoing| outgoing.labels.metric_name() == Some(name));
    of.filter_map(|outgoing| match outgoing.point {
        Point::Float(value) => Some(value),
        _ => None,
    })
    .collect()
}

/// Waits until a sender has begun to follow the log, so that what comes next is its business.
async fn settle(bench: &Bench) {
    bench
        .until("the shards", |bench| {
            bench
                .registry
                .encode()
                .contains("prometheus_remote_storage_shards{remote_name=\"q\",url=\"http://peer/\"}")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_the_headers_of_the_protocol() {
    for (protocol, content_type, version) in [
        (Protocol::V1, "application/x-protobuf", "0.1.0"),
        (Protocol::V2, "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    ] {
        let bench = Bench::new();
        let sender = bench.start(SenderOptions { protocol, ..bench.options() });
        bench.append("a", bench.clock.now_ms() + 1000, 1.0);
        bench.until("a request", |bench| !bench.peer.requests.lock().is_empty()).await;
        sender.stop().await;
        let request = bench.peer.requests.lock()[0].clone();
        assert_eq!(
            request.headers,
            [
                ("content-encoding", "snappy"),
                ("content-type", content_type),
                ("x-prometheus-remote-write-version", version),
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_of_a_series_come_in_the_order_of_time_over_many_shards() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.queue.min_shards = 4;
    options.queue.max_samples_per_send = 7;
    let sender = bench.start(options);
    let from = bench.clock.now_ms() + 1000;
    for round in 0..100 {
        let mut appender = bench.db.appender();
        for series in 0..10 {
            let t = from + round;
            appender.append(None, &labels(&format!("m{series}")), t, round as f64).expect("it is taken");
        }
        appender.commit().expect("it is written");
    }
    bench.until("all samples", |bench| bench.peer.points(false).len() >= 1000).await;
    sender.stop().await;
    let points = bench.peer.points(false);
    assert_eq!(points.len(), 1000);
    for series in 0..10 {
        let values = floats(&points, &format!("m{series}"));
        assert_eq!(values, (0..100).map(f64::from).collect::<Vec<_>>());
    }
    assert!(bench.peer.requests.lock().iter().all(|request| count(&request.plain, false).samples <= 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_are_sorted_with_external_ones_and_relabelled() {
    let bench = Bench::new();
    let relabel: Relabel = Arc::new(|labels: &Labels| {
        (labels.metric_name() != Some("hidden")).then(|| {
            let mut builder = labels.to_builder();
            builder.set("zone", "z");
            builder.build()
        })
    });
    let external_labels = Labels::from_pairs([("cluster", "c"), ("job", "not this")]);
    let sender = bench.start(SenderOptions { relabel, external_labels, ..bench.options() });
    let now = bench.clock.now_ms() + 1000;
    bench.append("hidden", now, 1.0);
    bench.append("shown", now, 1.0);
    bench.until("a request", |bench| !bench.peer.requests.lock().is_empty()).await;
    sender.stop().await;
    let points = bench.peer.points(false);
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].labels.to_string(), r#"{__name__="shown", cluster="c", job="j", zone="z"}"#);
    let dropped = "prometheus_remote_storage_samples_dropped_total{remote_name=\"q\",url=\"http://peer/\"} 1";
    assert!(bench.registry.encode().contains(dropped), "{}", bench.registry.encode());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_markers_and_histograms_are_sent_as_they_are() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let bench = Bench::new();
        let sender = bench.start(SenderOptions { protocol, ..bench.options() });
        let now = bench.clock.now_ms() + 1000;
        bench.append("a", now, stale_nan());
        let histogram = FloatHistogram {
            schema: 1,
            count: 3.0,
            sum: 4.0,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![3.0],
            ..FloatHistogram::default()
        };
        let mut appender = bench.db.appender();
        appender.append_histogram(None, &labels("h"), now, &histogram).expect("it is taken");
        appender.commit().expect("it is written");
        let is_v2 = protocol == Protocol::V2;
        bench.until("both", |bench| bench.peer.points(is_v2).len() == 2).await;
        sender.stop().await;
        let points = bench.peer.points(is_v2);
        assert!(floats(&points, "a").iter().all(|value| is_stale_nan(*value)));
        let found = points.iter().find_map(|outgoing| match &outgoing.point {
            Point::Histogram(found) => Some((**found).clone()),
            _ => None,
        });
        assert_eq!(found, Some(histogram));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_the_server_is_tried_again_and_nothing_is_lost() {
    let bench = Bench::new();
    for status in [500, 503, 599] {
        bench.peer.answer(status);
    }
    bench.peer.answers.lock().push_back(Err("connection reset".into()));
    let sender = bench.start(bench.options());
    bench.append("a", bench.clock.now_ms() + 1000, 1.0);
    bench.until("the fifth attempt", |bench| bench.peer.requests.lock().len() == 5).await;
    sender.stop().await;
    let requests = bench.peer.requests.lock().clone();
    assert!(requests.iter().all(|request| request.plain == requests[0].plain), "the same is sent again");
    let text = bench.registry.encode();
    assert!(text.contains("samples_retried_total{remote_name=\"q\",url=\"http://peer/\"} 4"), "{text}");
    assert!(text.contains("storage_samples_total{remote_name=\"q\",url=\"http://peer/\"} 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_not_tried_again_and_what_follows_is_sent() {
    for status in [400, 404, 415, 429] {
        let bench = Bench::new();
        bench.peer.answer(status);
        let sender = bench.start(bench.options());
        let now = bench.clock.now_ms() + 1000;
        bench.append("a", now, 1.0);
        bench.until("the refusal", |bench| bench.peer.requests.lock().len() == 1).await;
        bench.append("a", now + 1, 2.0);
        bench.until("the next", |bench| bench.peer.requests.lock().len() == 2).await;
        sender.stop().await;
        assert_eq!(floats(&bench.peer.points(false), "a"), [1.0, 2.0], "{status}");
        let text = bench.registry.encode();
        assert!(text.contains("samples_failed_total{remote_name=\"q\",url=\"http://peer/\"} 1"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_are_tried_again_when_that_is_asked_for() {
    let bench = Bench::new();
    let retry_after = Some(Duration::from_millis(30));
    bench.peer.answers.lock().push_back(Ok(Reply { status: 429, retry_after, ..Reply::default() }));
    let mut options = bench.options();
    options.queue.retry_on_http_429 = true;
    let sender = bench.start(options);
    bench.append("a", bench.clock.now_ms() + 1000, 1.0);
    bench.until("the second attempt", |bench| bench.peer.requests.lock().len() == 2).await;
    sender.stop().await;
    assert_eq!(floats(&bench.peer.points(false), "a"), [1.0, 1.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_say_what_it_wrote_did_not_understand() {
    let bench = Bench::new();
    bench.peer.answers.lock().push_back(Ok(Reply { status: 200, ..Reply::default() }));
    let sender = bench.start(SenderOptions { protocol: Protocol::V2, ..bench.options() });
    bench.append("a", bench.clock.now_ms() + 1000, 1.0);
    bench
        .until("the failure", |bench| {
            bench.registry.encode().contains("samples_failed_total{remote_name=\"q\",url=\"http://peer/\"} 1")
        })
        .await;
    sender.stop().await;
    assert_eq!(bench.peer.requests.lock().len(), 1, "it is not tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_write_is_counted_as_the_answer_says() {
    let bench = Bench::new();
    let written = Some(Written { samples: 1, ..Written::default() });
    bench.peer.answers.lock().push_back(Ok(Reply { status: 400, written, ..Reply::default() }));
    let sender = bench.start(SenderOptions { protocol: Protocol::V2, ..bench.options() });
    settle(&bench).await;
    let now = bench.clock.now_ms() + 1000;
    let mut appender = bench.db.appender();
    for name in ["a", "b", "c"] {
        appender.append(None, &labels(name), now, 1.0).expect("it is taken");
    }
    appender.commit().expect("it is written");
    bench
        .until("the failures", |bench| {
            bench.registry.encode().contains("samples_failed_total{remote_name=\"q\",url=\"http://peer/\"} 2")
        })
        .await;
    sender.stop().await;
    let text = bench.registry.encode();
    assert!(text.contains("storage_samples_total{remote_name=\"q\",url=\"http://peer/\"} 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_symbols_begins_empty_and_has_no_text_twice() {
    let bench = Bench::new();
    let known = Metadata { kind: MetricKind::Gauge, help: "All.".into(), unit: String::new() };
    let source = vec![("a".to_owned(), known.clone())];
    let sender = bench.start(SenderOptions {
        protocol: Protocol::V2,
        metadata: Some(MetadataOptions { interval: Duration::from_secs(60), max_per_send: 10 }),
        metadata_source: Arc::new(move || source.clone()),
        ..bench.options()
    });
    settle(&bench).await;
    let now = bench.clock.now_ms() + 1000;
    let mut appender = bench.db.appender();
    for name in ["a", "b"] {
        appender.append(None, &labels(name), now, 1.0).expect("it is taken");
    }
    appender.commit().expect("it is written");
    bench.until("both", |bench| bench.peer.points(true).len() == 2).await;
    sender.stop().await;
    for request in bench.peer.requests.lock().iter() {
        let mut symbols = symbols_of(&request.plain).expect("a request");
        assert_eq!(symbols[0], "");
        symbols.sort_unstable();
        let before = symbols.len();
        symbols.dedup();
        assert_eq!(symbols.len(), before, "{symbols:?}");
        for (metric, metadata) in points_of(&request.plain, true).expect("a request").1 {
            assert_eq!((metric.as_str(), &metadata), ("a", &known));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_told_again_and_again() {
    let bench = Bench::new();
    let known = Metadata { kind: MetricKind::Counter, help: "All.".into(), unit: "u".into() };
    let source: Vec<_> = (0..3).map(|number| (format!("m{number}"), known.clone())).collect();
    let sender = bench.start(SenderOptions {
        metadata: Some(MetadataOptions { interval: Duration::from_millis(20), max_per_send: 2 }),
        metadata_source: Arc::new(move || source.clone()),
        ..bench.options()
    });
    bench.until("two rounds", |bench| bench.peer.requests.lock().len() >= 4).await;
    sender.stop().await;
    let requests = bench.peer.requests.lock().clone();
    let told = |index: usize| points_of(&requests[index].plain, false).expect("a request").1;
    assert_eq!(told(0).len(), 2);
    assert_eq!(told(1), [("m2".to_owned(), known)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_where_the_receiver_has_answered() {
    let bench = Bench::new();
    let sender = bench.start(bench.options());
    settle(&bench).await;
    let from = bench.clock.now_ms() + 1000;
    for round in 0..10 {
        bench.append("a", from + round, round as f64);
    }
    bench.until("the first ten", |bench| bench.peer.points(false).len() == 10).await;
    sender.stop().await;
    // Nobody sends meanwhile.
    for round in 10..20 {
        bench.append("a", from + round, round as f64);
    }
    let sender = bench.start(bench.options());
    bench.until("all", |bench| bench.peer.points(false).len() >= 20).await;
    sender.stop().await;
    let values = floats(&bench.peer.points(false), "a");
    assert_eq!(values, (0..20).map(f64::from).collect::<Vec<_>>(), "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_that_is_away_did_not_get_is_sent_after_a_restart() {
    let bench = Bench::new();
    let sender = bench.start(bench.options());
    settle(&bench).await;
    let from = bench.clock.now_ms() + 1000;
    bench.append("a", from, 0.0);
    bench.until("the first", |bench| bench.peer.points(false).len() == 1).await;
    sender.stop().await;
    bench.peer.down.store(true, std::sync::atomic::Ordering::Release);
    // A small queue, so that it is full when the end comes.
    let mut options = bench.options();
    options.flush_deadline = Duration::from_millis(50);
    options.queue.capacity = 3;
    options.queue.max_samples_per_send = 2;
    let sender = bench.start(options);
    for round in 1..50 {
        bench.append("a", from + round, round as f64);
    }
    bench
        .until("an attempt", |bench| {
            !bench
                .registry
                .encode()
                .contains("samples_retried_total{remote_name=\"q\",url=\"http://peer/\"} 0")
        })
        .await;
    sender.stop().await;
    bench.peer.down.store(false, std::sync::atomic::Ordering::Release);
    let sender = bench.start(bench.options());
    bench.until("all", |bench| bench.peer.points(false).len() >= 50).await;
    sender.stop().await;
    let values = floats(&bench.peer.points(false), "a");
    assert_eq!(values, (0..50).map(f64::from).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_new_sends_nothing_old_and_one_that_is_lost_begins_anew() {
    let bench = Bench::new();
    bench.append("a", bench.clock.now_ms() - 60_000, 1.0);
    write(&bench.place_file(), "{\"segment\":9999,\"offset\":0}");
    let sender = bench.start(bench.options());
    settle(&bench).await;
    bench.append("a", bench.clock.now_ms() + 1000, 2.0);
    bench.until("the new one", |bench| !bench.peer.points(false).is_empty()).await;
    sender.stop().await;
    assert_eq!(floats(&bench.peer.points(false), "a"), [2.0]);
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
    std::fs::write(path, text).expect("it is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_that_became_too_old_are_dropped() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.queue.sample_age_limit = Duration::from_millis(1);
    bench.peer.down.store(true, std::sync::atomic::Ordering::Release);
    let sender = bench.start(options);
    settle(&bench).await;
    bench.append("a", bench.clock.now_ms() + 20, 1.0);
    bench
        .until("the drop", |bench| {
            bench
                .registry
                .encode()
                .contains("samples_dropped_total{remote_name=\"q\",url=\"http://peer/\"} 1")
        })
        .await;
    sender.stop().await;
    assert!(bench.peer.requests.lock().is_empty());
}
