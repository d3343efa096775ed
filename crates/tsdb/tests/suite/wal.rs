//! The log: what is written is read, and a tail torn anywhere costs only what was torn.

use std::fs;
use std::path::Path;

use gantry_tsdb::wal::{
    Buckets, Compression, HistogramRecord, Record, RecordKind, SampleRecord, SegmentedReader, Span, WalError,
    Writer, WriterOptions, checkpoint, decode, encode_histograms, encode_samples, encode_series,
    last_checkpoint, list_segments, repair, segment_path,
};

fn options(compression: Compression) -> WriterOptions {
    WriterOptions { segment_bytes: 128 * 1024, compression }
}

fn records(count: usize) -> Vec<Vec<u8>> {
    let mut state = 99u64;
    (0..count)
        .map(|index| {
            let len = [0, 1, 10, 700, 32 * 1024 - 7, 32 * 1024, 70_000][index % 7];
            (0..len)
                .map(|at| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                    if index % 2 == 0 { (state >> 56) as u8 } else { (at / 100) as u8 }
                })
                .collect()
        })
        .collect()
}

fn read(dir: &Path) -> (Vec<Vec<u8>>, Option<WalError>) {
    let mut found = Vec::new();
    let outcome = SegmentedReader::open(dir, 0).and_then(|mut reader| {
        reader.for_each(|record| {
            found.push(record.to_vec());
            Ok(())
        })
    });
    (found, outcome.err())
}

#[test]
fn records_of_every_size_come_back_over_many_segments() {
    for compression in [Compression::None, Compression::Snappy] {
        let dir = tempfile::tempdir().unwrap();
        let wrote = records(40);
        let mut writer = Writer::open(dir.path(), options(compression)).unwrap();
        for batch in wrote.chunks(3) {
            let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            writer.log(&batch).unwrap();
        }
        let (found, error) = read(dir.path());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(found, wrote);
        let segments = list_segments(dir.path()).unwrap();
        assert!(segments.len() > 3);
        assert!(segments.iter().all(|segment| segment.bytes <= 128 * 1024));
        assert!(matches!(writer.log(&[&vec![7; 200_000]]), Ok(()) | Err(WalError::TooLarge { .. })));
    }
}

#[test]
fn a_record_larger_than_a_segment_is_refused_and_leaves_the_log_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), options(Compression::None)).unwrap();
    writer.log(&[b"before"]).unwrap();
    assert!(matches!(writer.log(&[&vec![7; 200_000]]), Err(WalError::TooLarge { bytes: 200_000, .. })));
    writer.log(&[b"after"]).unwrap();
    assert_eq!(read(dir.path()).0, [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn a_tail_torn_at_any_byte_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let wrote: Vec<Vec<u8>> = (0..60u8).map(|index| vec![index; 1500]).collect();
    let mut writer = Writer::open(dir.path(), options(Compression::None)).unwrap();
    let refs: Vec<&[u8]> = wrote.iter().map(Vec::as_slice).collect();
    writer.log(&refs).unwrap();
    drop(writer);
    let whole = fs::read(segment_path(dir.path(), 0)).unwrap();
    for cut in (0..whole.len()).step_by(997) {
        let torn = tempfile::tempdir().unwrap();
        fs::write(segment_path(torn.path(), 0), &whole[..cut]).unwrap();
        let (before, error) = read(torn.path());
        assert_eq!(before, wrote[..before.len()]);
        if let Some(WalError::Corrupt { segment, offset, .. }) = error {
            repair(torn.path(), segment, offset, options(Compression::None)).unwrap();
        }
        let (after, error) = read(torn.path());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(after, before);
        let mut writer = Writer::open(torn.path(), options(Compression::None)).unwrap();
        writer.log(&[b"next"]).unwrap();
        assert_eq!(read(torn.path()).0.last().unwrap(), b"next");
    }
}

#[test]
fn a_flipped_bit_is_found_and_what_came_before_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), options(Compression::None)).unwrap();
    for index in 0..100u8 {
        writer.log(&[&[index; 3000]]).unwrap();
    }
    drop(writer);
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[50_000] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let (before, error) = read(dir.path());
    let Some(WalError::Corrupt { segment: 1, offset, .. }) = error else { panic!("{error:?}") };
    assert!(offset <= 50_000 && offset > 45_000);
    let lost = repair(dir.path(), 1, offset, options(Compression::None)).unwrap();
    assert!(lost > 0);
    let (after, error) = read(dir.path());
    assert!(error.is_none());
    assert_eq!(after, before);
}

fn histogram(series: u64, t: i64, schema: i32, float: bool) -> HistogramRecord {
    let buckets = if float {
        Buckets::Float { zero_count: 0.5, count: 7.5, positive: vec![1.0, 2.5], negative: vec![3.5] }
    } else {
        Buckets::Integer { zero_count: 1, count: 9, positive: vec![3, -1], negative: vec![3] }
    };
    HistogramRecord {
        series,
        t,
        reset_hint: 2,
        schema,
        zero_threshold: 1e-128,
        sum: 18.4,
        positive_spans: vec![Span { offset: -3, length: 1 }, Span { offset: 2, length: 1 }],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        buckets,
        custom_bounds: if schema == -53 { vec![0.1, 1.0, f64::INFINITY] } else { Vec::new() },
    }
}

#[test]
fn histograms_of_all_four_kinds_come_back() {
    let samples = vec![
        histogram(5, 100, 3, false),
        histogram(4, 90, 3, true),
        histogram(6, 1, -53, false),
        histogram(7, 2, -53, true),
    ];
    for (kind, index) in [
        (RecordKind::Histograms, 0),
        (RecordKind::FloatHistograms, 1),
        (RecordKind::CustomHistograms, 2),
        (RecordKind::CustomFloatHistograms, 3),
    ] {
        let mut encoded = Vec::new();
        encode_histograms(&mut encoded, kind, &samples);
        assert_eq!(decode(&encoded), Ok(Record::Histograms(vec![samples[index].clone()])));
        for len in 1..encoded.len() {
            // Either an error or fewer samples, never a panic.
            let _ = decode(&encoded[..len]);
        }
    }
}

#[test]
fn a_forged_count_reserves_nothing() {
    let mut record = vec![1, 0, 0, 0, 0, 0, 0, 0, 1];
    record.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    assert!(decode(&record).is_err());
}

#[test]
fn a_checkpoint_keeps_what_is_still_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), options(Compression::Snappy)).unwrap();
    for series in 1..=4u64 {
        let mut record = Vec::new();
        let id = series.to_string();
        encode_series(&mut record, series, [("__name__", "m"), ("id", id.as_str())].into_iter());
        let mut samples = Vec::new();
        let list: Vec<_> = (0..10).map(|t| SampleRecord { series, t: t * 1000, v: t as f64 }).collect();
        encode_samples(&mut samples, &list);
        writer.log(&[&record, &samples]).unwrap();
    }
    writer.next_segment().unwrap();
    let stats =
        checkpoint(dir.path(), 0, 5000, options(Compression::Snappy), |series| series % 2 == 0).unwrap();
    assert_eq!((stats.series, stats.dropped_series, stats.samples, stats.dropped_samples), (2, 2, 10, 30));
    let (path, index) = last_checkpoint(dir.path()).unwrap().unwrap();
    assert_eq!(index, 0);
    let kept: Vec<_> = read(&path).0;
    let decoded: Vec<_> = kept.iter().map(|record| decode(record).unwrap()).collect();
    assert!(matches!(&decoded[0], Record::Series(series) if series[0].labels[1] == ("id", "2")));
    assert!(matches!(&decoded[1], Record::Samples(samples) if samples.len() == 5 && samples[0].t == 5000));
    assert_eq!(decoded.len(), 4);
}
