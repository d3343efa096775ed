//! Stores that are filled, buckets in folders, and reading them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gantry_bucket::storeapi::StoreApi;
use gantry_bucket::{Bucket, FanOut, FanOutOptions, ObjectStorage, Shipper, ShipperOptions};
use gantry_prom_model::{
    Appendable, Labels, MatchOp, Matcher, Queryable, SampleBuffer, SelectHints, StorageError,
};
use gantry_tsdb::{Db, DbOptions};
use tokio::runtime::Runtime;

pub(crate) const T0: i64 = 1_700_006_400_000;
pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;

pub(crate) type Series = BTreeMap<String, Vec<(i64, f64)>>;

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(crate) fn bucket(dir: &Path, runtime: &Runtime) -> Bucket {
    let text = format!("type: FILESYSTEM\nconfig: {{directory: {:?}}}\nprefix: some/where\n", dir.display());
    let storage = ObjectStorage::parse("bucket.yml", &text).unwrap();
    Bucket::open(&storage, runtime.handle().clone()).unwrap()
}

pub(crate) fn labels(id: usize) -> Labels {
    Labels::from_pairs([("__name__", "requests_total"), ("id", &id.to_string()), ("job", "shop")])
}

/// A store of `hours` with a sample a minute for each of ten series, all that is due in blocks.
pub(crate) fn store(dir: &Path, hours: i64, value: impl Fn(usize, i64) -> f64) -> Db {
    let options =
        DbOptions { retention_ms: 10_000 * HOUR, max_block_ms: Some(2 * HOUR), ..DbOptions::default() };
    let db = Db::open(dir, options, T0).unwrap();
    for minute in 0..hours * 60 {
        let mut batch = db.appender();
        for id in 0..10 {
            batch.append(None, &labels(id), T0 + minute * MINUTE, value(id, minute)).unwrap();
        }
        batch.commit().unwrap();
    }
    db.maintain(T0 + hours * HOUR).unwrap();
    db
}

pub(crate) fn ship(bucket: &Bucket, dir: &Path, external: &[(&str, &str)]) -> Vec<String> {
    let options = ShipperOptions {
        dir: dir.to_path_buf(),
        external: Labels::from_pairs(external.iter().copied()),
        upload_compacted: false,
    };
    let shipped = Shipper::new(bucket.clone(), options).unwrap().sync(T0).unwrap();
    assert_eq!(shipped.failed, []);
    shipped.uploaded
}

/// All samples of all series up to `end`.
pub(crate) fn read(
    storage: &dyn Queryable,
    function: Option<&'static str>,
    end: i64,
) -> Result<Series, StorageError> {
    let querier = storage.querier(T0 - HOUR, end)?;
    let all = Matcher::new(MatchOp::Equal, "__name__", "requests_total").unwrap();
    let hints = SelectHints { function, ..SelectHints::range(T0 - HOUR, end) };
    let mut set = querier.select(true, &hints, &[all])?;
    let mut found = Series::new();
    let mut last: Option<Labels> = None;
    while set.advance()? {
        assert!(last.as_ref().is_none_or(|last| last < set.labels()), "out of order: {}", set.labels());
        last = Some(set.labels().clone());
        let mut buffer = SampleBuffer::default();
        set.fill(T0 - HOUR, end, &mut buffer)?;
        let samples = buffer.timestamps.into_iter().zip(buffer.values).collect();
        found.insert(set.labels().to_string(), samples);
    }
    match set.warnings().as_slice() {
        [] => Ok(found),
        [first, ..] => Err(StorageError::Unreadable(first.clone())),
    }
}

pub(crate) fn fan_out(store: Arc<dyn StoreApi>, options: FanOutOptions) -> FanOut {
    FanOut::new(store, options)
}
