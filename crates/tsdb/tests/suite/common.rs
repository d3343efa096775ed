//! Opening, filling and reading a store in tests.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_prom_model::{Appendable, Labels, MatchOp, Matcher, Queryable, SampleBuffer, SelectHints};
use gantry_tsdb::{Db, DbOptions};

pub(crate) const T0: i64 = 1_700_000_000_000;
pub(crate) const HOUR: i64 = 3_600_000;

pub(crate) fn open(dir: &Path) -> Db {
    Db::open(dir, DbOptions::default(), T0).unwrap()
}

pub(crate) fn labels(id: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", if id.is_multiple_of(2) { "requests_total" } else { "queue_length" }),
        ("instance", &format!("10.0.0.{}:9090", id % 7)),
        ("job", "shop"),
        ("id", &id.to_string()),
    ])
}

/// Appends one sample to each of `count` series in one batch.
pub(crate) fn append(db: &impl Appendable, count: usize, t: i64, value: impl Fn(usize) -> f64) {
    let mut batch = db.appender();
    for id in 0..count {
        batch.append(None, &labels(id), t, value(id)).unwrap();
    }
    batch.commit().unwrap();
}

/// All samples of all series, values as bits.
pub(crate) fn read_all(db: &impl Queryable) -> BTreeMap<String, Vec<(i64, u64)>> {
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    let all = Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap();
    let mut series = querier.select(true, &SelectHints::default(), &[all]).unwrap();
    let mut found = BTreeMap::new();
    while series.advance().unwrap() {
        let mut buffer = SampleBuffer::default();
        series.fill(i64::MIN, i64::MAX, &mut buffer).unwrap();
        let samples = buffer.timestamps.iter().zip(&buffer.values).map(|(t, v)| (*t, v.to_bits())).collect();
        found.insert(series.labels().to_string(), samples);
    }
    found
}
