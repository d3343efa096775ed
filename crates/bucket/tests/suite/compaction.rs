//! A bucket is compacted: fewer blocks, the same samples; coarser versions; what is over goes.

use std::sync::Arc;

use gantry_bucket::compact::{CompactError, Compactor, CompactorOptions, Planner, Retention};
use gantry_bucket::{Bucket, BucketStore, BucketStoreOptions, FanOutOptions, Fetcher, FetcherOptions};

use crate::common::{HOUR, MINUTE, Series, T0, bucket, fan_out, read, runtime, ship, store};

const DAY: i64 = 24 * HOUR;

fn options(dir: &std::path::Path) -> CompactorOptions {
    CompactorOptions {
        dir: dir.join("work"),
        planner: Planner::default(),
        vertical: false,
        downsample: true,
        retention: Retention::default(),
        consistency_delay_ms: 0,
        delete_delay_ms: 2 * DAY,
    }
}

fn counter(id: usize, minute: i64) -> f64 {
    // Restarts every five hours.
    ((minute % 300) * (id as i64 + 1)) as f64
}

/// What a counter grew by between two moments, over its restarts.
fn increase(samples: &[(i64, f64)], from: i64, to: i64) -> f64 {
    let grown = |pair: &[(i64, f64)]| match pair[1].1 < pair[0].1 {
        true => pair[1].1,
        false => pair[1].1 - pair[0].1,
    };
    samples.windows(2).filter(|pair| pair[1].0 > from && pair[1].0 <= to).map(grown).sum()
}

fn answer(bucket: &Bucket, function: &'static str, max_resolution_ms: i64, end: i64) -> Series {
    let fetcher = FetcherOptions { ignore_deletion_marks_ms: -1, ..FetcherOptions::default() };
    let store =
        BucketStore::new(bucket.clone(), BucketStoreOptions { fetcher, ..BucketStoreOptions::default() });
    assert_eq!(store.sync(i64::MAX / 4).unwrap().failed, []);
    let options = FanOutOptions { max_resolution_ms, ..FanOutOptions::default() };
    read(&fan_out(Arc::new(store), options), Some(function), end).unwrap()
}

#[test]
fn blocks_are_merged_made_coarser_and_removed() {
    let (local, remote, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), runtime());
    drop(store(local.path(), 5 * 24, counter));
    let bucket = bucket(remote.path(), &runtime);
    let uploaded = ship(&bucket, local.path(), &[("cluster", "eu")]);
    assert!(uploaded.len() > 55);
    let end = T0 + 4 * DAY;
    let before = answer(&bucket, "last_over_time", 0, end);
    let now = T0 + 6 * DAY;
    let compactor = Compactor::new(bucket.clone(), options(local.path()));
    let pass = compactor.pass(now).unwrap();
    assert!(!pass.compacted.is_empty() && !pass.downsampled.is_empty(), "{pass:?}");
    assert_eq!(compactor.pass(now).unwrap(), Default::default(), "a second pass found work");
    let fetcher = Fetcher::new(
        bucket.clone(),
        FetcherOptions { ignore_deletion_marks_ms: -1, ..FetcherOptions::default() },
    );
    let blocks = fetcher.fetch(now).unwrap().blocks;
    let raw: Vec<_> = blocks.iter().filter(|view| view.thanos.downsample.resolution == 0).collect();
    assert!(raw.len() < 25, "{} raw blocks", raw.len());
    assert!(raw.iter().any(|view| view.meta.max_time - view.meta.min_time == 2 * DAY));
    assert_eq!(answer(&bucket, "last_over_time", 0, end), before, "samples changed");
    // Coarse: a window of five minutes ends a millisecond before the next one begins.
    let coarse = answer(&bucket, "max_over_time", 5 * MINUTE, end);
    let some = coarse.values().next().unwrap();
    assert!(some.len() < before.values().next().unwrap().len() / 2, "{} samples", some.len());
    assert!(some.iter().filter(|(t, _)| (t + 1) % (5 * MINUTE) == 0).count() > 500);
    // A counter read from coarse blocks never falls, and grows by what the raw one grows.
    let total = answer(&bucket, "rate", 5 * MINUTE, T0 + 2 * DAY);
    assert_eq!(total.len(), before.len());
    for (name, samples) in &total {
        assert!(samples.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        // One a window of five minutes, and a few at the ends of chunks.
        assert!((576..640).contains(&samples.len()), "{name}: {} samples in two days", samples.len());
        let (first, last) = (samples[0], samples[samples.len() - 1]);
        assert_eq!(last.1 - first.1, increase(&before[name], first.0, last.0), "{name}");
    }
    // The marked ones go after their time.
    let later = compactor.pass(now + 3 * DAY).unwrap();
    assert_eq!(later.deleted.len(), pass.marked.len());
    assert!(!remote.path().join("some/where").join(&uploaded[0]).exists());
    assert_eq!(answer(&bucket, "last_over_time", 0, end), before, "samples went");
}

#[test]
fn retention_by_resolution() {
    let (local, remote, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), runtime());
    drop(store(local.path(), 13, counter));
    let bucket = bucket(remote.path(), &runtime);
    let uploaded = ship(&bucket, local.path(), &[("cluster", "eu")]);
    let retention = Retention { raw_ms: 6 * HOUR, ..Retention::default() };
    let planner = Planner { ranges: vec![2 * HOUR], ..Planner::default() };
    let compactor = Compactor::new(bucket, CompactorOptions { retention, planner, ..options(local.path()) });
    let pass = compactor.pass(T0 + 13 * HOUR).unwrap();
    assert_eq!(pass.marked, uploaded[..3], "blocks that ended more than six hours ago");
}

#[test]
fn blocks_that_overlap_halt_and_are_named() {
    let (left, right, remote) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = runtime();
    let bucket = bucket(remote.path(), &runtime);
    let mut uploaded = Vec::new();
    for dir in [&left, &right] {
        drop(store(dir.path(), 6, counter));
        uploaded.extend(ship(&bucket, dir.path(), &[("cluster", "eu")]));
    }
    let error = Compactor::new(bucket.clone(), options(left.path())).pass(T0 + DAY).unwrap_err();
    assert!(matches!(error, CompactError::Overlap { .. }), "{error}");
    assert!(error.to_string().contains(&uploaded[0]), "{error}");
    let before = answer(&bucket, "last_over_time", 0, T0 + 2 * HOUR);
    let vertical = CompactorOptions { vertical: true, ..options(left.path()) };
    let pass = Compactor::new(bucket.clone(), vertical).pass(T0 + DAY).unwrap();
    assert!(!pass.compacted.is_empty());
    assert_eq!(answer(&bucket, "last_over_time", 0, T0 + 2 * HOUR), before);
}
