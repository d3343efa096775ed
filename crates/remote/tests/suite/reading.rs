//! Remote read: what is answered, field by field.

use gantry_prom_model::{Appendable, Labels, METRIC_NAME, Matcher, SelectHints, StorageError};
use gantry_remote::proto::{Field, Message};
use gantry_remote::read::{Accepts, Query, ReadLimits, ReadRequest, answer_samples, answer_stream};

use crate::common::*;

fn filled() -> Bench {
    let bench = Bench::new();
    let mut appender = bench.db.appender();
    for series in 0..3 {
        let labels = Labels::from_pairs([(METRIC_NAME, "m"), ("s", &series.to_string())]);
        for t in 0..300 {
            appender.append(None, &labels, NOW_MS + t, (series * 1000 + t) as f64).expect("it is taken");
        }
    }
    appender.commit().expect("it is written");
    bench
}

fn request(accepts: Accepts) -> ReadRequest {
    let query = Query {
        start_ms: NOW_MS + 10,
        end_ms: NOW_MS + 280,
        matchers: vec![Matcher::equal(METRIC_NAME, "m"), Matcher::equal("cluster", "c")],
        hints: SelectHints::range(NOW_MS + 10, NOW_MS + 280),
    };
    ReadRequest { queries: vec![query], accepts: vec![accepts] }
}

fn external() -> Labels {
    Labels::from_pairs([("cluster", "c")])
}

#[test]
fn samples_are_answered_with_the_labels_that_tell_us_from_others() {
    let bench = filled();
    let answer = answer_samples(&*bench.db, &request(Accepts::Samples), &external(), &ReadLimits::default());
    let plain = answer.expect("it is answered");
    let Some((1, Field::Bytes(result))) = Message::new(&plain).next().expect("a message") else {
        panic!("the answer has no result")
    };
    let (mut series, mut samples) = (0, 0);
    let mut message = Message::new(result);
    while let Some((number, field)) = message.next().expect("a message") {
        let (1, Field::Bytes(inner)) = (number, field) else { panic!("field {number} of a result") };
        series += 1;
        let mut labels = 0;
        let mut message = Message::new(inner);
        while let Some((number, _)) = message.next().expect("a message") {
            match number {
                1 => labels += 1,
                _ => samples += 1,
            }
        }
        assert_eq!(labels, 3, "name, own and external");
    }
    assert_eq!((series, samples), (3, 3 * 271));
}

#[test]
fn too_many_samples_are_refused() {
    let bench = filled();
    let limits = ReadLimits { samples: 100, ..ReadLimits::default() };
    let answer = answer_samples(&*bench.db, &request(Accepts::Samples), &external(), &limits);
    assert!(matches!(answer, Err(StorageError::LimitExceeded { limit: 100, .. })));
}

#[test]
fn a_stream_is_made_of_checked_frames_of_chunks() {
    let bench = filled();
    let limits = ReadLimits { frame_bytes: 1, ..ReadLimits::default() };
    let mut frames = Vec::new();
    answer_stream(&*bench.db, &request(Accepts::Chunks), &external(), &limits, &mut |frame| {
        frames.push(frame);
        true
    })
    .expect("it is answered");
    let (mut series, mut samples) = (std::collections::BTreeSet::new(), 0);
    for frame in &frames {
        let (length, rest) = (usize::from(frame[0] & 0x7f) | usize::from(frame[1]) << 7, &frame[2..]);
        let (length, rest) =
            if frame[0] & 0x80 == 0 { (usize::from(frame[0]), &frame[1..]) } else { (length, rest) };
        let (checksum, body) = rest.split_first_chunk::<4>().expect("a checksum");
        assert_eq!(body.len(), length);
        assert_eq!(u32::from_be_bytes(*checksum), crc32c::crc32c(body));
        let mut response = Message::new(body);
        while let Some((number, field)) = response.next().expect("a message") {
            let (1, Field::Bytes(inner)) = (number, field) else { continue };
            let mut labels = Vec::new();
            let mut message = Message::new(inner);
            while let Some((number, field)) = message.next().expect("a message") {
                match (number, field) {
                    (1, Field::Bytes(label)) => labels.push(label.to_vec()),
                    (2, Field::Bytes(chunk)) => samples += chunk_samples(chunk),
                    _ => {}
                }
            }
            assert_eq!(labels.len(), 3, "the external label is there");
            series.insert(labels);
        }
    }
    assert_eq!((series.len(), samples), (3, 3 * 271));
    assert_eq!(frames.len(), 9, "no frame has more than one of three chunks");
    let mut taken = 0;
    answer_stream(&*bench.db, &request(Accepts::Chunks), &external(), &limits, &mut |_| {
        taken += 1;
        false
    })
    .expect("it ends early");
    assert_eq!(taken, 1, "nobody wanted more");
}

fn chunk_samples(bytes: &[u8]) -> u64 {
    let mut message = Message::new(bytes);
    let (mut kind, mut count) = (0, 0);
    while let Some((number, field)) = message.next().expect("a chunk") {
        match (number, field) {
            (3, Field::Varint(value)) => kind = value,
            (4, Field::Bytes(data)) => count = u64::from(u16::from_be_bytes([data[0], data[1]])),
            _ => {}
        }
    }
    assert_eq!(kind, 1, "floats");
    count
}
