//! A store to scrape into, and reading it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_prom_model::{MatchOp, Matcher, Queryable, Registry, SampleBuffer, SelectHints, is_stale_nan};
use gantry_scrape::{Config, Counters, ScrapeConfig};
use gantry_tsdb::{Db, DbOptions};

pub(crate) const T0: i64 = 1_700_000_000_000;

pub(crate) struct Store {
    pub(crate) db: Arc<Db>,
    _dir: tempfile::TempDir,
}

pub(crate) fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    Store { db: Arc::new(Db::open(dir.path(), DbOptions::default(), T0).unwrap()), _dir: dir }
}

/// All samples by series, `stale` for the stale marker.
pub(crate) fn read(db: &impl Queryable) -> BTreeMap<String, Vec<(i64, String)>> {
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    let all = Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap();
    let mut series = querier.select(true, &SelectHints::default(), &[all]).unwrap();
    let mut found = BTreeMap::new();
    while series.advance().unwrap() {
        let mut buffer = SampleBuffer::default();
        series.fill(i64::MIN, i64::MAX, &mut buffer).unwrap();
        let text = |v: f64| if is_stale_nan(v) { "stale".to_owned() } else { v.to_string() };
        let samples = buffer.timestamps.iter().zip(&buffer.values).map(|(t, v)| (t - T0, text(*v))).collect();
        found.insert(series.labels().to_string(), samples);
    }
    found
}

/// A completed job from its YAML fields.
pub(crate) fn job(fields: &str) -> Arc<ScrapeConfig> {
    let text = format!("scrape_configs:\n- job_name: shop\n{fields}");
    Arc::new(Config::parse("test.yml", &text).unwrap().scrape_configs.remove(0))
}

pub(crate) fn counters() -> Arc<Counters> {
    Arc::new(Counters::new(&Registry::new()))
}
