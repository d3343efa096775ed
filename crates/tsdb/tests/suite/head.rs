//! The head: what is appended is found, also after a restart, and old samples go.

use gantry_prom_model::{
    AppendError, Appendable, CounterResetHint, FloatHistogram, Labels, MatchOp, Matcher, Queryable,
    SampleBuffer, SelectHints, SeriesRef, Span,
};
use gantry_tsdb::{Db, DbOptions, HeadOptions, TsdbError};

use crate::common::{HOUR, T0, append, labels, open, read_all};

#[test]
fn a_restart_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    for step in 0..300 {
        append(&db, 50, T0 + step * 15_000, |id| (id as f64 + 0.5) * step as f64);
    }
    let before = read_all(&db);
    assert_eq!(before.len(), 50);
    assert!(before.values().all(|samples| samples.len() == 300));
    drop(db);
    let db = open(dir.path());
    assert_eq!((db.replay_stats().series, db.replay_stats().samples), (50, 15_000));
    assert_eq!(read_all(&db), before);
    append(&db, 51, T0 + 300 * 15_000, |_| 1.0);
    drop(db);
    let db = open(dir.path());
    assert_eq!(read_all(&db).len(), 51);
    assert_eq!(db.replay_stats().unknown_series, 0);
}

#[test]
fn only_one_process_has_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    assert!(matches!(Db::open(dir.path(), DbOptions::default(), T0), Err(TsdbError::Locked { .. })));
}

#[test]
fn samples_out_of_place_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    append(&db, 1, T0, |_| 1.0);
    let mut batch = db.appender();
    assert!(matches!(batch.append(None, &labels(0), T0 - 1, 1.0), Err(AppendError::OutOfOrder)));
    assert!(matches!(batch.append(None, &labels(0), T0, 2.0), Err(AppendError::DuplicateForTimestamp)));
    assert!(batch.append(None, &labels(0), T0, 1.0).is_ok());
    assert!(matches!(batch.append(None, &labels(9), T0 - HOUR - 1, 1.0), Err(AppendError::OutOfBounds)));
    assert!(matches!(batch.append(None, &Labels::empty(), T0, 1.0), Err(AppendError::Invalid(_))));
    batch.commit().unwrap();
    assert_eq!(db.head().counters().out_of_order.get(), 1);
    assert_eq!(db.head().counters().duplicates.get(), 1);
    assert_eq!(read_all(&db).len(), 1);
}

#[test]
fn a_batch_that_is_dropped_leaves_no_sample() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut batch = db.appender();
    batch.append(None, &labels(1), T0, 1.0).unwrap();
    batch.rollback();
    let mut batch = db.appender();
    batch.append(None, &labels(2), T0, 1.0).unwrap();
    drop(batch);
    assert!(read_all(&db).is_empty());
    append(&db, 3, T0 + 1, |_| 2.0);
    drop(db);
    assert_eq!(read_all(&open(dir.path())).len(), 3);
}

#[test]
fn a_reference_saves_the_look_up_and_a_stale_one_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut batch = db.appender();
    let reference = batch.append(None, &labels(4), T0, 1.0).unwrap();
    assert_eq!(batch.append(Some(reference), &labels(4), T0 + 1, 2.0).unwrap(), reference);
    let other = batch.append(Some(SeriesRef(99)), &labels(5), T0, 3.0).unwrap();
    assert_ne!(other, reference);
    batch.commit().unwrap();
    let all = read_all(&db);
    assert_eq!(all[&labels(4).to_string()].len(), 2);
    assert_eq!(all[&labels(5).to_string()], [(T0, 3f64.to_bits())]);
}

fn options(retention_ms: i64) -> DbOptions {
    let head = HeadOptions { wal_segment_bytes: 256 * 1024, ..HeadOptions::default() };
    DbOptions { head, retention_ms, ..DbOptions::default() }
}

#[test]
fn memory_and_log_stay_bounded_and_a_restart_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options(2 * HOUR), T0).unwrap();
    let (mut most_series, mut most_bytes) = (0, 0);
    let mut last = T0;
    for step in 0..2000 {
        last = T0 + step * 30_000;
        let mut batch = db.appender();
        for id in 0..20usize {
            // Series live for 100 steps, then others take their place.
            let id = id + 20 * (step as usize / 100);
            batch.append(None, &labels(id), last, (id as f64).sqrt() * step as f64).unwrap();
        }
        batch.commit().unwrap();
        if step % 20 == 0 {
            db.maintain(last).unwrap();
        }
        most_series = most_series.max(db.head().series_count());
        let wal: u64 = walk(&dir.path().join("wal"));
        most_bytes = most_bytes.max(wal);
    }
    assert!(most_series <= 20 * 6, "{most_series} series at once");
    assert!(most_bytes < 3 << 20, "{most_bytes} bytes of log at once");
    assert!(db.head().counters().checkpoints.get() > 10);
    let stats = db.head().stats();
    assert!(stats.symbols < 400, "{} texts", stats.symbols);
    let before = read_all(&db);
    assert!(before.values().flatten().all(|(t, _)| *t >= last - 5 * HOUR));
    drop(db);
    let db = Db::open(dir.path(), options(i64::MAX / 4), T0).unwrap();
    let after = read_all(&db);
    for (series, samples) in &before {
        let kept = &after[series];
        assert!(samples.iter().all(|sample| sample.0 < last - 2 * HOUR || kept.contains(sample)), "{series}");
    }
}

#[test]
fn a_head_over_its_budget_gives_up_its_oldest_samples() {
    let dir = tempfile::tempdir().unwrap();
    let options = DbOptions { max_head_bytes: 200_000, ..options(i64::MAX / 4) };
    let db = Db::open(dir.path(), options, T0).unwrap();
    let mut most = 0;
    for step in 0..1500 {
        append(&db, 20, T0 + step * 60_000, |id| (id as f64 + 0.1).sqrt() * step as f64);
        if step % 10 == 0 {
            db.maintain(T0 + step * 60_000).unwrap();
        }
        most = most.max(db.head().stats().heap_bytes);
    }
    assert!(most < 300_000, "{most} bytes at once");
    let (oldest, newest) = db.head().time_range().unwrap();
    assert!(newest - oldest >= HOUR && newest == T0 + 1499 * 60_000);
    assert!(!db.blocks().is_empty());
    assert!(read_all(&db).values().all(|samples| samples.len() == 1500), "samples are missing");
}

fn walk(dir: &std::path::Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { walk(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

#[test]
fn more_series_than_allowed_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let head = HeadOptions { max_series: 3, ..HeadOptions::default() };
    let db = Db::open(dir.path(), DbOptions { head, ..DbOptions::default() }, T0).unwrap();
    let mut batch = db.appender();
    for id in 0..3 {
        batch.append(None, &labels(id), T0, 1.0).unwrap();
    }
    let refused = batch.append(None, &labels(3), T0, 1.0);
    assert!(
        matches!(&refused, Err(AppendError::Storage(error)) if error.to_string().contains("limit of 3")),
        "{refused:?}"
    );
    batch.append(None, &labels(2), T0 + 1, 1.0).unwrap();
    batch.commit().unwrap();
}

#[test]
fn labels_are_listed_with_and_without_matchers() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    append(&db, 10, T0, |_| 1.0);
    let querier = db.querier(T0 - 1, T0 + 1).unwrap();
    assert_eq!(querier.label_names(&[], 0).unwrap(), ["__name__", "id", "instance", "job"]);
    assert_eq!(querier.label_values("__name__", &[], 0).unwrap(), ["queue_length", "requests_total"]);
    let even = Matcher::equal("__name__", "requests_total");
    assert_eq!(
        querier.label_values("id", std::slice::from_ref(&even), 0).unwrap(),
        ["0", "2", "4", "6", "8"]
    );
    assert_eq!(querier.label_values("id", &[even], 2).unwrap(), ["0", "2"]);
    assert!(db.querier(T0 + 1, T0 + 2).unwrap().label_names(&[], 0).unwrap().is_empty());
    let some = Matcher::new(MatchOp::Regex, "id", "1|3").unwrap();
    let mut series = querier.select(true, &SelectHints::range(T0, T0), &[some]).unwrap();
    let mut ids = Vec::new();
    while series.advance().unwrap() {
        ids.extend(series.labels().get("id").map(str::to_owned));
    }
    assert_eq!(ids, ["1", "3"]);
}

fn histogram(step: i64, schema: i32) -> FloatHistogram {
    FloatHistogram {
        schema,
        zero_threshold: 0.001,
        zero_count: 1.0,
        count: 4.0 + step as f64,
        sum: 2.5,
        positive_spans: vec![Span { offset: -1, length: 2 }],
        positive_buckets: vec![1.0, 2.0 + step as f64],
        custom_values: if schema == -53 { vec![0.5, 1.0].into() } else { Vec::new().into() },
        ..FloatHistogram::default()
    }
}

#[test]
fn native_histograms_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    for step in 0..250 {
        let mut batch = db.appender();
        for (id, schema) in [(1, 3), (2, -53)] {
            batch.append_histogram(None, &labels(id), T0 + step * 1000, &histogram(step, schema)).unwrap();
        }
        batch.commit().unwrap();
    }
    let bad = FloatHistogram { positive_buckets: vec![1.0], ..histogram(0, 3) };
    assert!(matches!(
        db.appender().append_histogram(None, &labels(1), T0 + HOUR, &bad),
        Err(AppendError::Invalid(_))
    ));
    drop(db);
    let db = open(dir.path());
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    for (id, schema) in [("1", 3), ("2", -53)] {
        let mut series = querier.select(true, &SelectHints::default(), &[Matcher::equal("id", id)]).unwrap();
        assert!(series.advance().unwrap());
        let mut buffer = SampleBuffer::default();
        series.fill(T0 + 100_000, T0 + 199_000, &mut buffer).unwrap();
        assert_eq!(buffer.histogram_timestamps.len(), 100);
        assert!(buffer.histograms[7].same_as(&histogram(107, schema)), "{}", buffer.histograms[7]);
        assert_eq!(buffer.histograms[7].counter_reset_hint, CounterResetHint::NotReset);
    }
}

#[test]
fn a_damaged_log_is_cut_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    for step in 0..100 {
        append(&db, 20, T0 + step * 1000, |id| id as f64);
    }
    drop(db);
    let segment = dir.path().join("wal/00000000");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let db = open(dir.path());
    assert!(db.replay_stats().lost_bytes > 0);
    let kept = read_all(&db);
    let samples: usize = kept.values().map(Vec::len).sum();
    assert!((500..1500).contains(&samples), "{samples} samples kept");
    append(&db, 20, T0 + 100_000, |_| 7.0);
    drop(db);
    let db = open(dir.path());
    assert_eq!(db.replay_stats().lost_bytes, 0);
    assert_eq!(read_all(&db).values().map(Vec::len).sum::<usize>(), samples + 20);
}
