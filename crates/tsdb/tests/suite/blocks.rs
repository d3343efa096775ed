//! Samples go from the head into blocks, from blocks into longer ones, and out: no reader sees a difference.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use gantry_prom_model::{
    Appendable, FloatHistogram, MatchOp, Matcher, Queryable, SampleBuffer, SelectHints, Span,
};
use gantry_tsdb::block::{Block, BlockMeta};
use gantry_tsdb::{Db, DbOptions};

use crate::common::{HOUR, T0, append, labels, read_all};

const DAY: i64 = 24 * HOUR;

fn options() -> DbOptions {
    DbOptions { retention_ms: 300 * DAY, max_block_ms: Some(DAY), ..DbOptions::default() }
}

fn value(id: usize, step: i64) -> f64 {
    (id as f64 + 0.5) * step as f64
}

/// One sample a minute for each of 20 series, with a look at what is to be done every half hour.
fn fill(db: &Db, from: i64, to: i64) {
    for step in from..to {
        append(db, 20, T0 + step * 60_000, |id| value(id, step));
        if step % 30 == 0 {
            db.maintain(T0 + step * 60_000).unwrap();
        }
    }
}

fn expected(steps: i64) -> BTreeMap<String, Vec<(i64, u64)>> {
    let samples = |id| (0..steps).map(|step| (T0 + step * 60_000, value(id, step).to_bits())).collect();
    (0..20).map(|id| (labels(id).to_string(), samples(id))).collect()
}

#[test]
fn two_days_are_all_there_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options(), T0).unwrap();
    fill(&db, 0, 2 * 1440);
    let metas: Vec<BlockMeta> = db.blocks().iter().map(|block| block.meta().clone()).collect();
    assert!(metas.iter().any(|meta| meta.max_time - meta.min_time == 18 * HOUR), "{metas:?}");
    assert!(metas.windows(2).all(|pair| pair[0].max_time == pair[1].min_time), "{metas:?}");
    let longest = metas.iter().max_by_key(|meta| meta.compaction.level).unwrap();
    assert_eq!((longest.compaction.level, longest.compaction.sources.len()), (3, 9));
    assert_eq!(longest.stats.num_samples, 20 * 18 * 60);
    assert_eq!(longest.stats.num_series, 20);
    assert!(db.head().time_range().unwrap().0 >= metas.last().unwrap().max_time);
    assert_eq!(read_all(&db), expected(2 * 1440));
    drop(db);
    let db = Db::open(dir.path(), options(), T0).unwrap();
    assert!(db.replay_stats().samples < 20 * 4 * 60);
    assert_eq!(read_all(&db), expected(2 * 1440));
    fill(&db, 2 * 1440, 2 * 1440 + 300);
    assert_eq!(read_all(&db), expected(2 * 1440 + 300));
}

#[test]
fn a_query_that_began_before_a_cut_reads_all() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Db::open(dir.path(), options(), T0).unwrap());
    for step in 0..400 {
        append(&db, 20, T0 + step * 60_000, |id| value(id, step));
    }
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    let cutting = {
        let db = db.clone();
        std::thread::spawn(move || db.maintain(T0 + 400 * 60_000).unwrap())
    };
    while db.blocks().is_empty() {
        std::thread::yield_now();
    }
    let all = Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap();
    let mut set = querier.select(true, &SelectHints::default(), &[all]).unwrap();
    let mut series = 0;
    while set.advance().unwrap() {
        let mut buffer = SampleBuffer::default();
        set.fill(i64::MIN, i64::MAX, &mut buffer).unwrap();
        assert_eq!(buffer.timestamps.len(), 400);
        series += 1;
    }
    assert_eq!(series, 20);
    drop(set);
    drop(querier);
    assert!(!cutting.join().unwrap().cut.is_empty());
    db.maintain(T0 + 400 * 60_000).unwrap();
    let oldest = db.head().time_range().unwrap().0;
    assert!(oldest >= db.blocks().last().unwrap().meta().max_time, "the head kept what is in a block");
    assert_eq!(read_all(&db), expected(400));
}

#[test]
fn what_is_too_old_or_too_much_goes() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), DbOptions { retention_ms: DAY, ..options() }, T0).unwrap();
    fill(&db, 0, 3 * 1440);
    let blocks = db.blocks();
    let newest = blocks.last().unwrap().meta().max_time;
    assert!(blocks.iter().all(|block| newest - block.meta().max_time <= DAY));
    assert!(blocks[0].meta().min_time > T0);
    drop(db);
    let limit = 60_000;
    let db = Db::open(dir.path(), DbOptions { retention_bytes: limit, ..options() }, T0).unwrap();
    fill(&db, 3 * 1440, 3 * 1440 + 31);
    assert!(db.block_bytes() <= limit, "{} bytes", db.block_bytes());
    let folders =
        fs::read_dir(dir.path()).unwrap().flatten().filter(|entry| entry.path().join("index").is_file());
    assert_eq!(folders.count(), db.blocks().len());
    // The newest samples stay whatever the limit.
    assert_eq!(db.head().time_range().unwrap().1, T0 + (3 * 1440 + 30) * 60_000);
}

#[test]
fn what_interrupted_work_left_goes() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options(), T0).unwrap();
    fill(&db, 0, 301);
    let mut wanted: Vec<String> = db.blocks().iter().map(|block| block.meta().ulid.clone()).collect();
    wanted.extend(["lock", "notes.tmp-for-creation", "wal"].map(str::to_owned));
    wanted.sort();
    drop(db);
    for suffix in [".tmp-for-creation", ".tmp-for-deletion"] {
        fs::create_dir(dir.path().join(format!("01BKGTZQ1SYQJTR4PB43C8PD98{suffix}"))).unwrap();
    }
    fs::create_dir(dir.path().join("notes.tmp-for-creation")).unwrap();
    drop(Db::open(dir.path(), options(), T0).unwrap());
    let mut left: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, wanted);
}

#[test]
fn a_damaged_block_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options(), T0).unwrap();
    fill(&db, 0, 301);
    let folder = dir.path().join(&db.blocks()[0].meta().ulid);
    drop(db);
    let chunks = folder.join("chunks/000001");
    let mut bytes = fs::read(&chunks).unwrap();
    bytes[30] ^= 1;
    fs::write(&chunks, &bytes).unwrap();
    let db = Db::open(dir.path(), options(), T0).unwrap();
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    let mut set = querier.select(true, &SelectHints::default(), &[]).unwrap();
    assert!(set.advance().unwrap());
    let error = set.fill(i64::MIN, i64::MAX, &mut SampleBuffer::default()).unwrap_err().to_string();
    assert!(error.contains("000001 at byte") && error.contains("checksum"), "{error}");
    drop(set);
    drop(querier);
    drop(db);
    fs::write(folder.join("index"), b"nonsense").unwrap();
    let error = Db::open(dir.path(), options(), T0).unwrap_err().to_string();
    assert!(error.contains("index at byte 0"), "{error}");
}

#[test]
fn garbage_in_an_index_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options(), T0).unwrap();
    fill(&db, 0, 301);
    let folder = dir.path().join(&db.blocks()[0].meta().ulid);
    drop(db);
    let whole = fs::read(folder.join("index")).unwrap();
    let mut seed = 7u64;
    for _ in 0..400 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut bytes = whole.clone();
        let at = (seed >> 33) as usize % bytes.len();
        bytes[at] ^= (seed >> 20) as u8 | 1;
        fs::write(folder.join("index"), &bytes).unwrap();
        let Ok(block) = Block::open(&folder) else { continue };
        let block = Arc::new(block);
        let matcher = Matcher::new(MatchOp::Regex, "instance", "10.+").unwrap();
        if let Ok(found) = block.select(&[matcher], i64::MIN, i64::MAX) {
            let mut set = gantry_tsdb::block::SampleSet::new(found, 0);
            use gantry_prom_model::SeriesSet;
            while set.advance().unwrap_or(false) {
                let _ = set.fill(i64::MIN, i64::MAX, &mut SampleBuffer::default());
            }
        }
    }
}

#[test]
fn matchers_choose_the_same_series_in_head_and_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options(), T0).unwrap();
    fill(&db, 0, 301);
    let block = db.blocks().remove(0);
    let cases: [&[(MatchOp, &str, &str)]; 9] = [
        &[(MatchOp::Equal, "__name__", "queue_length")],
        &[(MatchOp::NotEqual, "__name__", "queue_length")],
        &[(MatchOp::Regex, "id", "1.?"), (MatchOp::Equal, "job", "shop")],
        &[(MatchOp::NotRegex, "instance", ".*[0-4]:9090")],
        &[(MatchOp::Equal, "absent", "")],
        &[(MatchOp::NotEqual, "absent", "")],
        &[(MatchOp::Regex, "id", "3|7|99")],
        &[(MatchOp::Regex, "absent", ".*"), (MatchOp::NotEqual, "id", "2")],
        &[],
    ];
    for case in cases {
        let matchers: Vec<Matcher> =
            case.iter().map(|(op, name, value)| Matcher::new(*op, name, value).unwrap()).collect();
        let mut from_block = Vec::new();
        let mut set = block.select(&matchers, i64::MIN, i64::MAX).unwrap();
        use gantry_tsdb::block::ChunkSeriesSet;
        while set.advance().unwrap() {
            from_block.push(set.labels().clone());
        }
        let querier = db.head().querier(i64::MIN, i64::MAX).unwrap();
        let mut from_head = Vec::new();
        let mut set = querier.select(true, &SelectHints::default(), &matchers).unwrap();
        while set.advance().unwrap() {
            from_head.push(set.labels().clone());
        }
        assert_eq!(from_block, from_head, "{matchers:?}");
        assert_eq!(
            block.index().label_values_of("id", &matchers).unwrap(),
            querier.label_values("id", &matchers, 0).unwrap()
        );
        assert_eq!(
            block.index().label_names_of(&matchers).unwrap(),
            querier.label_names(&matchers, 0).unwrap()
        );
    }
}

#[test]
fn histograms_survive_the_way_into_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options(), T0).unwrap();
    let histogram = |step: i64| FloatHistogram {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: step as f64,
        count: 4.0 * step as f64,
        sum: 1.5 * step as f64,
        positive_spans: vec![Span { offset: -2, length: 1 }, Span { offset: 3, length: 1 }],
        positive_buckets: vec![step as f64, 2.0 * step as f64],
        ..FloatHistogram::default()
    };
    for step in 0..300 {
        let mut batch = db.appender();
        batch.append_histogram(None, &labels(1), T0 + step * 60_000, &histogram(step)).unwrap();
        batch.commit().unwrap();
    }
    db.maintain(T0 + 300 * 60_000).unwrap();
    assert!(!db.blocks().is_empty());
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    let mut set = querier.select(true, &SelectHints::default(), &[]).unwrap();
    assert!(set.advance().unwrap());
    let mut buffer = SampleBuffer::default();
    set.fill(i64::MIN, i64::MAX, &mut buffer).unwrap();
    assert_eq!(buffer.histogram_timestamps.len(), 300);
    for (step, found) in buffer.histograms.iter().enumerate() {
        assert!(found.same_as(&histogram(step as i64)), "step {step}: {found}");
    }
}
