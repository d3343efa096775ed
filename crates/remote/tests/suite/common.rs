//! A store in a folder of its own, and requests written field by field, so that wrong ones can be written too.

use std::sync::Arc;

use gantry_clock::ManualClock;
use gantry_prom_model::{METRIC_NAME, MatchOp, Matcher, Queryable, Registry, SampleBuffer, SelectHints};
use gantry_remote::proto::Writer;
use gantry_remote::{Outcome, Receiver, Written, compress};
use gantry_tsdb::{Db, DbOptions};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const V1: &str = "application/x-protobuf";
pub(crate) const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

pub(crate) struct Bench {
    pub(crate) db: Arc<Db>,
    pub(crate) receiver: Receiver,
    pub(crate) registry: Registry,
    pub(crate) _dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let db = Arc::new(Db::open(dir.path(), DbOptions::default(), NOW_MS).expect("a store"));
        let registry = Registry::new();
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let receiver = Receiver::new(db.clone(), clock, &registry);
        Bench { db, receiver, registry, _dir: dir }
    }

    pub(crate) fn send(&self, content_type: &str, message: &[u8]) -> Outcome {
        let body = compress(message).expect("it is small");
        self.receiver.receive(Some(content_type), Some("snappy"), &body)
    }

    /// All series with their samples.
    pub(crate) fn stored(&self) -> Vec<(String, SampleBuffer)> {
        stored(&*self.db)
    }
}

pub(crate) fn stored(storage: &dyn Queryable) -> Vec<(String, SampleBuffer)> {
    let (from, to) = (i64::MIN / 4, i64::MAX / 4);
    let querier = storage.querier(from, to).expect("it is read");
    let all = [Matcher::new(MatchOp::Regex, METRIC_NAME, ".+").expect("a matcher")];
    let mut set = querier.select(true, &SelectHints::range(from, to), &all).expect("it is read");
    let mut found = Vec::new();
    while set.advance().expect("it is read") {
        let mut samples = SampleBuffer::default();
        set.fill(from, to, &mut samples).expect("it is read");
        found.push((set.labels().to_string(), samples));
    }
    found
}

pub(crate) fn written(samples: u64, histograms: u64, exemplars: u64) -> Option<Written> {
    Some(Written { samples, histograms, exemplars })
}

/// A series of a 1.0 request.
pub(crate) fn series_v1(out: &mut Writer, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
    out.nested(1, |series| {
        for (name, value) in labels {
            series.nested(1, |label| {
                label.text(1, name);
                label.text(2, value);
            });
        }
        for (t, v) in samples {
            series.nested(2, |sample| {
                sample.double(1, *v);
                sample.int(2, *t);
            });
        }
    });
}

/// Labels and samples.
pub(crate) type Series<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

pub(crate) fn request_v1(series: &[Series<'_>]) -> Vec<u8> {
    let mut out = Writer::new();
    for (labels, samples) in series {
        series_v1(&mut out, labels, samples);
    }
    out.into_bytes()
}

/// A 2.0 request of these symbols; `write` adds the series.
pub(crate) fn request_v2(symbols: &[&str], write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    for symbol in symbols {
        out.message(4, symbol.as_bytes());
    }
    write(&mut out);
    out.into_bytes()
}

/// A series of a 2.0 request with float samples.
pub(crate) fn series_v2(out: &mut Writer, references: &[u64], samples: &[(i64, f64)]) {
    out.nested(5, |series| {
        series.packed(1, references.iter().copied());
        for (t, v) in samples {
            series.nested(2, |sample| {
                sample.double(1, *v);
                sample.int(2, *t);
            });
        }
    });
}
