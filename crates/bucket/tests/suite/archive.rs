//! Blocks go up, leave the local folder, and still answer; replicas answer as one.

use std::sync::Arc;

use gantry_bucket::{BucketStore, BucketStoreOptions, Endpoint, FanOutOptions, Fetcher, LocalStore, Proxy};
use gantry_prom_model::Labels;
use gantry_tsdb::{Db, DbOptions};

use crate::common::{HOUR, MINUTE, T0, bucket, fan_out, labels, read, runtime, ship, store};

fn value(id: usize, minute: i64) -> f64 {
    (id as i64 * 1000 + minute) as f64
}

#[test]
fn what_was_dropped_here_is_answered_from_the_bucket() {
    let (local, remote, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), runtime());
    let db = store(local.path(), 13, value);
    let whole = read(&db, None, T0 + 13 * HOUR).unwrap();
    let bucket = bucket(remote.path(), &runtime);
    let uploaded = ship(&bucket, local.path(), &[("cluster", "eu")]);
    assert_eq!(uploaded.len(), 5);
    assert_eq!(ship(&bucket, local.path(), &[("cluster", "eu")]), Vec::<String>::new(), "uploaded twice");
    assert!(local.path().join("thanos.shipper.json").is_file());
    drop(db);
    // A short retention: the blocks go from here.
    let db =
        Db::open(local.path(), DbOptions { retention_ms: 2 * HOUR, ..DbOptions::default() }, T0).unwrap();
    db.maintain(T0 + HOUR).unwrap();
    assert!(db.blocks().len() <= 2, "{} blocks", db.blocks().len());
    let store = Arc::new(BucketStore::new(bucket, BucketStoreOptions::default()));
    assert_eq!(store.sync(T0).unwrap().blocks, 5);
    let external = Labels::from_pairs([("cluster", "eu")]);
    let here = Arc::new(LocalStore::new(Arc::new(db), external, "sidecar"));
    let endpoints = vec![Endpoint { store: here, strict: true }, Endpoint { store, strict: true }];
    let answer =
        read(&fan_out(Arc::new(Proxy::new(endpoints)), FanOutOptions::default()), None, T0 + 13 * HOUR)
            .unwrap();
    assert_eq!(answer.len(), 10);
    for (series, samples) in &answer {
        assert!(series.contains("cluster=\"eu\""));
        let local = series.replace("cluster=\"eu\", ", "");
        assert_eq!(samples, &whole[&local], "{series}");
    }
}

#[test]
fn the_meta_is_what_thanos_expects() {
    let (local, remote, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), runtime());
    drop(store(local.path(), 4, value));
    let bucket = bucket(remote.path(), &runtime);
    let ulid = ship(&bucket, local.path(), &[("cluster", "eu"), ("replica", "a")]).remove(0);
    let text =
        std::fs::read_to_string(remote.path().join("some/where").join(&ulid).join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&text).unwrap();
    let thanos = &meta["thanos"];
    assert_eq!(thanos["version"], 1);
    assert_eq!(thanos["labels"], serde_json::json!({"cluster": "eu", "replica": "a"}));
    assert_eq!(thanos["downsample"], serde_json::json!({"resolution": 0}));
    assert_eq!(thanos["source"], "sidecar");
    assert_eq!(thanos["segment_files"], serde_json::json!(["000001"]));
    let files: Vec<_> =
        thanos["files"].as_array().unwrap().iter().map(|file| file["rel_path"].as_str().unwrap()).collect();
    assert_eq!(files, ["chunks/000001", "index", "meta.json"]);
    assert!(
        thanos["files"][0]["size_bytes"].as_u64().unwrap() > 100
            && thanos["files"][2].get("size_bytes").is_none()
    );
    assert!(thanos["index_stats"]["chunk_max_size"].as_u64().unwrap() > 100);
    assert!(thanos["upload_time"].as_str().unwrap().ends_with('Z'));
    assert!(!remote.path().join("some/where").join(&ulid).join("tombstones").exists());
    let found = Fetcher::new(bucket, Default::default()).fetch(T0).unwrap();
    assert_eq!(found.blocks.len(), 1);
    assert_eq!(found.blocks[0].labels.to_string(), "{cluster=\"eu\", replica=\"a\"}");
}

#[test]
fn replicas_with_gaps_answer_as_one() {
    let (left, right, remote) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = runtime();
    let bucket = bucket(remote.path(), &runtime);
    for (dir, replica) in [(&left, "a"), (&right, "b")] {
        drop(store(dir.path(), 6, value));
        ship(&bucket, dir.path(), &[("replica", replica)]);
    }
    let store = Arc::new(BucketStore::new(bucket, BucketStoreOptions::default()));
    assert_eq!(store.sync(T0).unwrap().failed, []);
    let plain = read(&fan_out(store.clone(), FanOutOptions::default()), None, T0 + 2 * HOUR - 1).unwrap();
    assert_eq!(plain.len(), 20);
    let options =
        FanOutOptions { replica_labels: vec!["replica".into()], dedup: true, ..FanOutOptions::default() };
    let joined = read(&fan_out(store, options), None, T0 + 2 * HOUR - 1).unwrap();
    assert_eq!(joined.len(), 10);
    let first = &joined[&labels(3).to_string()];
    let expected: Vec<(i64, f64)> = (0..120).map(|minute| (T0 + minute * MINUTE, value(3, minute))).collect();
    assert_eq!(first, &expected);
}

#[test]
fn a_damaged_block_is_a_warning_and_the_others_answer() {
    let (local, remote, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), runtime());
    drop(store(local.path(), 8, value));
    let bucket = bucket(remote.path(), &runtime);
    let uploaded = ship(&bucket, local.path(), &[("cluster", "eu")]);
    let index = remote.path().join("some/where").join(&uploaded[0]).join("index");
    std::fs::write(&index, b"nonsense").unwrap();
    let store = Arc::new(BucketStore::new(bucket, BucketStoreOptions::default()));
    let synced = store.sync(T0).unwrap();
    assert_eq!(synced.blocks, uploaded.len() - 1);
    assert!(synced.failed[0].1.contains("index at byte 0"), "{:?}", synced.failed);
    assert_eq!(read(&fan_out(store, FanOutOptions::default()), None, T0 + 8 * HOUR).unwrap().len(), 10);
}
