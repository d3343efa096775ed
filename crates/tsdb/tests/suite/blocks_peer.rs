//! Blocks go to the real Prometheus and promtool, and come back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use gantry_prom_model::{Appendable, FloatHistogram, Labels, Span};
use gantry_tsdb::{Db, DbOptions};

use crate::common::{HOUR, append, labels, read_all};
use crate::interop::{dump, get, now_ms, program, sorted, start};

const LONG: &str = "--storage.tsdb.retention.time=1000d";

fn options() -> DbOptions {
    DbOptions { retention_ms: 1000 * 24 * HOUR, max_block_ms: Some(6 * HOUR), ..DbOptions::default() }
}

/// Twelve hours up to now; says when they began.
fn fill(db: &Db) -> i64 {
    let begin = now_ms() / 60_000 * 60_000 - 12 * HOUR + 137;
    for step in 0..720 {
        append(db, 30, begin + step * 60_000, |id| (id as i64 * step) as f64 / 4.0);
        if step % 60 == 0 {
            db.maintain(begin + step * 60_000).unwrap();
        }
    }
    begin
}

fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn promtool_lists_analyzes_and_dumps_our_blocks() {
    let Some(promtool) = program("promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options(), now_ms()).unwrap();
    fill(&db);
    let ours = read_all(&db);
    let blocks = db.blocks();
    assert!(blocks.iter().any(|block| block.meta().compaction.level > 1));
    drop(db);
    let path = dir.path().to_str().unwrap();
    let listed = run(&promtool, &["tsdb", "list", path]);
    for block in &blocks {
        let (meta, stats) = (block.meta(), block.meta().stats);
        let line =
            listed.lines().find(|line| line.starts_with(&meta.ulid)).unwrap_or_else(|| panic!("{listed}"));
        let numbers: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(numbers[1..3], [meta.min_time.to_string(), meta.max_time.to_string()]);
        assert_eq!(numbers[4], stats.num_samples.to_string(), "{line}");
        assert_eq!(numbers[5], stats.num_chunks.to_string(), "{line}");
        assert_eq!(numbers[6], stats.num_series.to_string(), "{line}");
    }
    let analyzed = run(&promtool, &["tsdb", "analyze", path, &blocks[0].meta().ulid]);
    assert!(analyzed.contains("Series: 30") && analyzed.contains("Label names: 4"), "{analyzed}");
    assert_eq!(sorted(dump(&promtool, dir.path())), sorted(ours));
}

#[test]
fn prometheus_answers_from_our_blocks_and_we_open_what_it_leaves() {
    let Some(prometheus) = program("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let db = Db::open(&data, options(), now_ms()).unwrap();
    let begin = fill(&db);
    let ours = read_all(&db);
    let before: Vec<String> = db.blocks().iter().map(|block| block.meta().ulid.clone()).collect();
    drop(db);
    let server = start(&prometheus, "global: {}\n", dir.path(), &[LONG]);
    let end = (begin + 720 * 60_000) / 1000;
    let answer =
        get(server.1, &format!("/api/v1/query?query=sum_over_time(requests_total[12h])&time={end}")).unwrap();
    for id in (0..30).step_by(2) {
        let sum: f64 = ours[&labels(id).to_string()]
            .iter()
            .filter(|(t, _)| *t >= end * 1000 - 12 * HOUR && *t <= end * 1000)
            .map(|(_, bits)| f64::from_bits(*bits))
            .sum();
        let expected = format!(
            "\"id\":\"{id}\",\"instance\":\"10.0.0.{}:9090\",\"job\":\"shop\"}},\"value\":[{end},\"{sum}\"]",
            id % 7
        );
        assert!(answer.contains(&expected), "{expected} is not in {answer}");
    }
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert!(!log.contains("orrupt") && !log.contains("rror") && !log.contains("nknown series"), "{log}");
    drop(server);
    let db = Db::open(&data, options(), now_ms()).unwrap();
    assert_eq!(read_all(&db), ours);
    assert!(before.iter().any(|ulid| db.blocks().iter().any(|block| block.meta().ulid == *ulid)));
}

#[test]
fn we_read_the_blocks_that_promtool_makes() {
    let Some(promtool) = program("promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("in.txt");
    let mut lines = String::from("# TYPE m gauge\n");
    let begin = now_ms() / 1000 - 21 * 3600;
    for step in 0..1200i64 {
        for id in 0..40 {
            lines.push_str(&format!(
                "m{{id=\"{id}\",long=\"{}\"}} {} {}\n",
                "x".repeat(id),
                id as i64 * step,
                begin + step * 60
            ));
        }
    }
    lines.push_str("# EOF\n");
    fs::write(&text, lines).unwrap();
    let data = dir.path().join("data");
    run(
        &promtool,
        &["tsdb", "create-blocks-from", "openmetrics", text.to_str().unwrap(), data.to_str().unwrap()],
    );
    // It writes blocks alone; an empty log makes a data folder of it.
    fs::create_dir_all(data.join("wal")).unwrap();
    let theirs: BTreeMap<_, _> = dump(&promtool, &data);
    let db = Db::open(&data, options(), now_ms()).unwrap();
    assert!(db.blocks().len() >= 4, "{} blocks", db.blocks().len());
    assert_eq!(sorted(read_all(&db)), sorted(theirs.clone()));
    let done = db.maintain(now_ms()).unwrap();
    assert!(!done.compacted.is_empty(), "{done:?}");
    assert_eq!(sorted(read_all(&db)), sorted(theirs.clone()));
    drop(db);
    assert_eq!(sorted(dump(&promtool, &data)), sorted(theirs));
}

#[test]
fn prometheus_reads_our_histogram_chunks() {
    let Some(prometheus) = program("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let db = Db::open(&data, options(), now_ms()).unwrap();
    let begin = now_ms() / 60_000 * 60_000 - 6 * HOUR;
    let name = Labels::from_pairs([("__name__", "latency")]);
    for step in 0..360i64 {
        // A bucket that appears late, and a restart of the counts at step 100.
        let run = if step < 100 { step } else { step - 100 };
        let mut histogram = FloatHistogram {
            schema: 2,
            zero_threshold: 2f64.powi(-128),
            zero_count: 1.0,
            count: 3.0 * run as f64 + 1.0,
            sum: 0.1 * run as f64,
            positive_spans: vec![Span { offset: -3, length: 2 }],
            positive_buckets: vec![run as f64, 2.0 * run as f64],
            ..FloatHistogram::default()
        };
        if run > 50 {
            histogram.positive_spans.push(Span { offset: 4, length: 1 });
            histogram.positive_buckets.push(run as f64 - 50.0);
            histogram.count += run as f64 - 50.0;
        }
        let mut batch = db.appender();
        batch.append_histogram(None, &name, begin + step * 60_000, &histogram).unwrap();
        batch.commit().unwrap();
    }
    db.maintain(now_ms()).unwrap();
    assert!(!db.blocks().is_empty());
    let ends = db.blocks()[0].meta().max_time;
    drop(db);
    // The log is not theirs to read here: what is asked about lies in the block.
    let server =
        start(&prometheus, "global: {}\n", dir.path(), &[LONG, "--enable-feature=native-histograms"]);
    let last_step = (ends - 1 - begin) / 60_000;
    let last = (begin + last_step * 60_000) / 1000;
    let run = if last_step < 100 { last_step } else { last_step - 100 };
    let count = 3 * run + 1 + (run - 50).max(0);
    let answer = get(server.1, &format!("/api/v1/query?query=histogram_count(latency)&time={last}")).unwrap();
    assert!(answer.contains(&format!("\"{count}\"")), "{count} is not in {answer}");
    let total =
        get(server.1, &format!("/api/v1/query?query=count_over_time(latency[5h])&time={last}")).unwrap();
    assert!(total.contains(&format!("\"{}\"", last_step + 1)), "{} is not in {total}", last_step + 1);
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert!(!log.contains("orrupt"), "{log}");
}
