//! What a scrape leaves in the store: labels, limits, staleness, report.

use gantry_prom_model::{ExpositionFormat, Gather, Labels, Registry};
use gantry_scrape::{Body, Ingest, ScrapeReport, Scraped};

use crate::common::{Store, T0, counters, job, read, store};

struct Scraper {
    store: Store,
    ingest: Ingest,
}

impl Scraper {
    fn new(fields: &str) -> Scraper {
        let labels = Labels::from_pairs([("job", "shop"), ("instance", "h:1")]);
        Scraper { store: store(), ingest: Ingest::new(job(fields), labels, 10_000, counters()) }
    }

    fn body(&mut self, second: i64, body: Body) -> ScrapeReport {
        let scraped = Scraped { at_ms: T0 + second * 1000, seconds: 0.5, body_bytes: 100 };
        self.ingest.record(&*self.store.db, scraped, body)
    }

    fn text(&mut self, second: i64, text: &str) -> ScrapeReport {
        self.body(second, Body::Text { text: text.into(), format: ExpositionFormat::Classic })
    }

    fn series(&self, labels: &str) -> Vec<(i64, String)> {
        let all = read(&*self.store.db);
        all.get(labels).cloned().unwrap_or_else(|| panic!("{labels} is not among {:?}", all.keys()))
    }
}

fn values(samples: &[(i64, String)]) -> Vec<&str> {
    samples.iter().map(|(_, value)| value.as_str()).collect()
}

const UP: &str = r#"{__name__="up", instance="h:1", job="shop"}"#;

fn report(name: &str) -> String {
    UP.replace("\"up\"", &format!("\"{name}\""))
}

#[test]
fn series_that_vanish_are_marked_stale_and_the_report_is_complete() {
    let mut scraper = Scraper::new("");
    let first = scraper.text(0, "a 1\nb{x=\"y\"} 2\n");
    assert_eq!(first, ScrapeReport { error: None, scraped: 2, after_relabelling: 2, series_added: 2 });
    scraper.text(15, "a 3\n");
    scraper.text(30, "a 4\nb{x=\"y\"} 5\n");
    let b = scraper.series(r#"{__name__="b", instance="h:1", job="shop", x="y"}"#);
    assert_eq!(values(&b), ["2", "stale", "5"]);
    assert_eq!(values(&scraper.series(UP)), ["1", "1", "1"]);
    assert_eq!(values(&scraper.series(&report("scrape_samples_scraped"))), ["2", "1", "2"]);
    assert_eq!(values(&scraper.series(&report("scrape_samples_post_metric_relabeling"))), ["2", "1", "2"]);
    assert_eq!(values(&scraper.series(&report("scrape_series_added"))), ["2", "0", "1"]);
    assert_eq!(values(&scraper.series(&report("scrape_duration_seconds"))), ["0.5", "0.5", "0.5"]);
}

#[test]
fn a_failed_scrape_ends_all_series_until_the_next() {
    let mut scraper = Scraper::new("");
    scraper.text(0, "a 1\n");
    let failed = scraper.body(15, Body::Failed("dial: refused".into()));
    assert_eq!(failed.error.as_deref(), Some("dial: refused"));
    let broken = scraper.text(30, "a 2\nb{ 3\n");
    assert!(broken.error.is_some_and(|error| error.starts_with("2:")), "the place in the text is named");
    scraper.text(45, "a 4\n");
    let a = scraper.series(r#"{__name__="a", instance="h:1", job="shop"}"#);
    assert_eq!(a, [(0, "1".into()), (15_000, "stale".into()), (45_000, "4".into())]);
    assert_eq!(values(&scraper.series(UP)), ["1", "0", "0", "1"]);
    assert!(
        read(&*scraper.store.db).keys().all(|series| !series.contains("\"b\"")),
        "half a scrape was kept"
    );
}

#[test]
fn labels_of_target_and_sample_are_joined() {
    let text = "a{job=\"own\",exported_job=\"x\"} 1\n";
    let mut scraper = Scraper::new("");
    scraper.text(0, text);
    let joined =
        r#"{__name__="a", exported_exported_job="own", exported_job="x", instance="h:1", job="shop"}"#;
    scraper.series(joined);
    let mut honest = Scraper::new("  honor_labels: true\n");
    honest.text(0, text);
    honest.series(r#"{__name__="a", exported_job="x", instance="h:1", job="own"}"#);
}

#[test]
fn metric_relabelling_drops_and_renames() {
    let fields = "  metric_relabel_configs:\n  - {source_labels: [__name__], regex: 'go_.*', action: drop}\n  - {source_labels: [code], regex: '(.).*', target_label: class, replacement: '${1}xx'}\n  - {regex: code, action: labeldrop}\n";
    let mut scraper = Scraper::new(fields);
    let done = scraper.text(0, "go_gc 1\nreq{code=\"404\"} 2\n");
    assert_eq!((done.scraped, done.after_relabelling), (2, 1));
    scraper.series(r#"{__name__="req", class="4xx", instance="h:1", job="shop"}"#);
    assert_eq!(scraper.text(15, "go_gc 1\nreq{code=\"404\"} 2\n").series_added, 0);
}

#[test]
fn limits_fail_the_whole_scrape() {
    for (limit, expected) in [
        ("sample_limit: 2", "sample limit exceeded"),
        ("label_limit: 3", "label_limit exceeded (metric: c, number of labels: 4, limit: 3)"),
        (
            "label_name_length_limit: 8",
            "label_name_length_limit exceeded (metric: c, label name: long_name, limit: 8)",
        ),
        (
            "label_value_length_limit: 4",
            "label_value_length_limit exceeded (metric: c, label name: long_name, length: 6, limit: 4)",
        ),
    ] {
        let mut scraper = Scraper::new(&format!("  {limit}\n"));
        let done = scraper.text(0, "a 1\nb 1\nc{long_name=\"values\"} 1\n");
        assert_eq!(done.error.as_deref(), Some(expected));
        assert_eq!(done.scraped, 3);
        assert_eq!(values(&scraper.series(UP)), ["0"]);
        assert_eq!(read(&*scraper.store.db).len(), 5, "nothing but the report is stored");
    }
}

#[test]
fn own_timestamps_are_honoured_and_not_marked_stale() {
    let own = format!("a 1 {}\nb 2 {}\n", T0 - 5000, T0 + 3_600_000);
    let mut scraper = Scraper::new("");
    scraper.text(0, &own);
    scraper.text(15, "c 1\n");
    let a = r#"{__name__="a", instance="h:1", job="shop"}"#;
    assert_eq!(scraper.series(a), [(-5000, "1".into())]);
    assert!(
        !read(&*scraper.store.db).contains_key(&a.replace("\"a\"", "\"b\"")),
        "an hour ahead of the clock"
    );
    let mut tracked = Scraper::new("  track_timestamps_staleness: true\n");
    tracked.text(0, &own);
    tracked.text(15, "c 1\n");
    assert_eq!(values(&tracked.series(a)), ["1", "stale"]);
    let mut ignored = Scraper::new("  honor_timestamps: false\n");
    ignored.text(0, &own);
    assert_eq!(ignored.series(a), [(0, "1".into())]);
}

#[test]
fn a_target_that_goes_takes_its_report_with_it() {
    let mut scraper = Scraper::new("");
    scraper.text(0, "a 1\n");
    scraper.ingest.end(&*scraper.store.db, T0 + 15_000);
    assert!(read(&*scraper.store.db).values().all(|samples| samples.last().unwrap().1 == "stale"));
}

#[test]
fn a_local_target_leaves_what_its_text_would() {
    let registry = Registry::new();
    registry.counter("requests_total", "Requests.").inc_by(3);
    registry.gauge_vec("queue_length", "Waiting.", ["queue"]).with(["mail"]).set(2.5);
    let histogram = registry.histogram("latency_seconds", "Latency.", &[0.1, 1.0]);
    histogram.observe(0.05);
    histogram.observe(5.0);
    let mut local = Scraper::new("");
    assert_eq!(local.body(0, Body::Local(registry.gather())).error, None);
    let mut text = Scraper::new("");
    text.text(0, &registry.encode());
    assert_eq!(read(&*local.store.db), read(&*text.store.db));
    let metadata = |scraper: &Scraper| {
        let cache = scraper.ingest.metadata();
        let cache = cache.lock();
        let mut all: Vec<_> =
            cache.iter().map(|(name, metadata)| (name.to_owned(), metadata.clone())).collect();
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all
    };
    assert_eq!(metadata(&local), metadata(&text));
    local.body(15, Body::Local(Vec::new()));
    assert_eq!(
        values(&local.series(r#"{__name__="requests_total", instance="h:1", job="shop"}"#)),
        ["3", "stale"]
    );
}
