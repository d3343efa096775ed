//! The receiver's part of Remote-Write 1.0.

use gantry_prom_model::{MetricKind, is_stale_nan};
use gantry_remote::proto::Writer;
use gantry_remote::{MAX_DECODED_BYTES, compress};

use crate::common::*;

#[test]
fn a_request_is_stored_and_answered_with_no_content() {
    let bench = Bench::new();
    let request = request_v1(&[
        (&[("__name__", "a"), ("job", "x")], &[(NOW_MS, 1.5), (NOW_MS + 1, -0.0)]),
        (&[("__name__", "b")], &[(NOW_MS, 2.0)]),
    ]);
    let outcome = bench.send(V1, &request);
    assert_eq!((outcome.status, outcome.message.as_str()), (204, ""));
    assert_eq!(outcome.written, written(3, 0, 0));
    let stored = bench.stored();
    assert_eq!(stored[0].0, r#"{__name__="a", job="x"}"#);
    assert_eq!(stored[0].1.timestamps, [NOW_MS, NOW_MS + 1]);
    assert_eq!(stored[0].1.values[1].to_bits(), (-0.0f64).to_bits());
    assert_eq!(stored[1].1.values, [2.0]);
}

#[test]
fn the_same_request_again_changes_nothing_and_succeeds() {
    let bench = Bench::new();
    let request = request_v1(&[(&[("__name__", "a")], &[(NOW_MS, 1.0)])]);
    assert_eq!(bench.send(V1, &request).status, 204);
    assert_eq!(bench.send(V1, &request).status, 204);
    assert_eq!(bench.stored()[0].1.timestamps, [NOW_MS]);
}

#[test]
fn headers_may_be_missing_but_not_wrong() {
    let bench = Bench::new();
    let body = compress(&request_v1(&[(&[("__name__", "a")], &[(NOW_MS, 1.0)])])).unwrap();
    for (content_type, encoding, status) in [
        (None, None, 204),
        (Some(""), Some(""), 204),
        (Some(V1), Some("SNAPPY"), 204),
        (Some("application/x-protobuf;proto=prometheus.WriteRequest"), Some("snappy"), 204),
        (Some("text/plain"), Some("snappy"), 415),
        (Some("application/json"), None, 415),
        (Some("application/x-protobuf;proto=foo"), Some("snappy"), 415),
        (Some(V1), Some("gzip"), 415),
        (Some(V1), Some("zstd"), 415),
    ] {
        let outcome = bench.receiver.receive(content_type, encoding, &body);
        assert_eq!(outcome.status, status, "{content_type:?} {encoding:?}");
        assert_eq!(outcome.message.is_empty(), status == 204, "{}", outcome.message);
    }
}

#[test]
fn what_is_no_request_is_a_bad_request() {
    let bench = Bench::new();
    assert_eq!(bench.receiver.receive(Some(V1), Some("snappy"), b"not snappy").status, 400);
    assert_eq!(bench.send(V1, &[0x0a, 0x05, 1]).status, 400);
    // Framed snappy is not the block format.
    assert_eq!(bench.receiver.receive(Some(V1), None, b"\xff\x06\x00\x00sNaPpY").status, 400);
    assert!(bench.stored().is_empty());
}

#[test]
fn a_request_that_breaks_off_stores_nothing() {
    let bench = Bench::new();
    let mut request = request_v1(&[(&[("__name__", "a")], &[(NOW_MS, 1.0)])]);
    request.extend_from_slice(&[0x0a, 0x7f, 0]);
    assert_eq!(bench.send(V1, &request).status, 400);
    assert!(bench.stored().is_empty());
}

#[test]
fn a_body_that_would_grow_too_large_is_refused_before_it_grows() {
    let bench = Bench::new();
    let mut bomb = Vec::new();
    let mut length = MAX_DECODED_BYTES + 1;
    while length >= 0x80 {
        bomb.push(length as u8 | 0x80);
        length >>= 7;
    }
    bomb.push(length as u8);
    let outcome = bench.receiver.receive(Some(V1), Some("snappy"), &bomb);
    assert_eq!(outcome.status, 400);
    assert!(outcome.message.contains("send smaller batches"), "{}", outcome.message);
}

#[test]
fn invalid_labels_are_a_bad_request_and_the_rest_is_written() {
    let good: &[(&str, &str)] = &[("__name__", "good")];
    for bad in [
        &[("a", "no name")][..],
        &[("__name__", "")],
        &[("__name__", "m"), ("", "x")],
        &[("__name__", "m"), ("a", "1"), ("a", "2")],
        &[],
    ] {
        let bench = Bench::new();
        let outcome = bench.send(V1, &request_v1(&[(bad, &[(NOW_MS, 1.0)]), (good, &[(NOW_MS, 1.0)])]));
        assert_eq!(outcome.status, 400, "{bad:?}");
        assert!(outcome.message.starts_with("1 not written; "), "{}", outcome.message);
        assert_eq!(outcome.written, written(1, 0, 0));
        assert_eq!(bench.stored().len(), 1);
        let counted = "prometheus_api_remote_write_invalid_labels_samples_total 1";
        assert!(bench.registry.encode().contains(counted));
    }
}

#[test]
fn labels_out_of_order_and_empty_values_are_put_right() {
    let bench = Bench::new();
    let labels = &[("z", "1"), ("__name__", "m"), ("a", "2"), ("gone", "")];
    assert_eq!(bench.send(V1, &request_v1(&[(labels, &[(NOW_MS, 1.0)])])).status, 204);
    assert_eq!(bench.stored()[0].0, r#"{__name__="m", a="2", z="1"}"#);
}

#[test]
fn names_may_be_any_utf8() {
    let bench = Bench::new();
    let labels = &[("__name__", "http.requests"), ("städte", "Köln")];
    assert_eq!(bench.send(V1, &request_v1(&[(labels, &[(NOW_MS, 1.0)])])).status, 204);
    let mut invalid = Writer::new();
    invalid.nested(1, |series| {
        series.nested(1, |label| {
            label.message(1, b"__name__");
            label.message(2, &[0xff, 0xfe]);
        });
    });
    assert_eq!(bench.send(V1, invalid.as_bytes()).status, 400);
}

#[test]
fn samples_out_of_order_are_a_bad_request_so_that_they_are_not_sent_again() {
    let bench = Bench::new();
    let a: &[(&str, &str)] = &[("__name__", "a")];
    let b: &[(&str, &str)] = &[("__name__", "b")];
    assert_eq!(bench.send(V1, &request_v1(&[(a, &[(NOW_MS, 1.0)])])).status, 204);
    let outcome = bench.send(V1, &request_v1(&[(a, &[(NOW_MS - 1, 1.0)]), (b, &[(NOW_MS, 1.0)])]));
    assert_eq!(outcome.status, 400);
    assert!(outcome.message.contains("out of order sample"), "{}", outcome.message);
    assert_eq!(bench.stored().len(), 2, "the other series is written");
    let outcome = bench.send(V1, &request_v1(&[(a, &[(NOW_MS, 2.0)])]));
    assert_eq!(outcome.status, 400);
    assert!(outcome.message.contains("duplicate sample for timestamp"), "{}", outcome.message);
}

#[test]
fn samples_out_of_order_within_one_request_are_told() {
    let a: &[(&str, &str)] = &[("__name__", "a")];
    for request in [
        request_v1(&[(a, &[(NOW_MS, 1.0), (NOW_MS - 5, 2.0)])]),
        request_v1(&[(a, &[(NOW_MS, 1.0)]), (a, &[(NOW_MS - 5, 2.0)])]),
        request_v1(&[(a, &[(NOW_MS, 1.0)]), (a, &[(NOW_MS, 2.0)])]),
    ] {
        let bench = Bench::new();
        let outcome = bench.send(V1, &request);
        assert_eq!((outcome.status, outcome.written), (400, written(1, 0, 0)), "{}", outcome.message);
        assert_eq!(bench.stored()[0].1.timestamps, [NOW_MS]);
    }
}

#[test]
fn samples_far_ahead_of_the_clock_are_refused() {
    let bench = Bench::new();
    let a: &[(&str, &str)] = &[("__name__", "a")];
    let minute = 60_000;
    assert_eq!(bench.send(V1, &request_v1(&[(a, &[(NOW_MS + 9 * minute, 1.0)])])).status, 204);
    let outcome = bench.send(V1, &request_v1(&[(a, &[(NOW_MS + 11 * minute, 1.0)])]));
    assert_eq!(outcome.status, 400);
    assert!(outcome.message.contains("out of bounds"), "{}", outcome.message);
}

#[test]
fn stale_markers_and_odd_floats_arrive_bit_by_bit() {
    let bench = Bench::new();
    let bits = [0x7ff0_0000_0000_0002, f64::NAN.to_bits(), f64::INFINITY.to_bits(), 1];
    let samples: Vec<(i64, f64)> =
        bits.iter().enumerate().map(|(i, bits)| (NOW_MS + i as i64, f64::from_bits(*bits))).collect();
    assert_eq!(bench.send(V1, &request_v1(&[(&[("__name__", "a")], &samples)])).status, 204);
    let stored = bench.stored().remove(0).1;
    assert!(is_stale_nan(stored.values[0]) && !is_stale_nan(stored.values[1]));
    let found: Vec<u64> = stored.values.iter().map(|value| value.to_bits()).collect();
    assert_eq!(found, bits);
}

#[test]
fn metadata_is_kept() {
    let bench = Bench::new();
    let mut request = Writer::new();
    request.nested(3, |metadata| {
        metadata.varint(1, 1);
        metadata.text(2, "requests_total");
        metadata.text(4, "All requests.");
        metadata.text(5, "requests");
    });
    assert_eq!(bench.send(V1, request.as_bytes()).status, 204);
    let known = bench.receiver.metadata();
    assert_eq!(known[0].0, "requests_total");
    assert_eq!(known[0].1.kind, MetricKind::Counter);
    assert_eq!((known[0].1.help.as_str(), known[0].1.unit.as_str()), ("All requests.", "requests"));
}

#[test]
fn native_histograms_of_both_kinds_of_counts_are_stored() {
    let bench = Bench::new();
    let mut request = Writer::new();
    for (name, is_float) in [("f", true), ("i", false)] {
        request.nested(1, |series| {
            series.nested(1, |label| {
                label.text(1, "__name__");
                label.text(2, name);
            });
            series.nested(4, |h| {
                h.double(3, 12.0);
                h.nested(11, |span| span.varint(2, 2));
                if is_float {
                    h.double(2, 3.0);
                    h.packed_doubles(13, &[1.0, 2.0]);
                } else {
                    h.varint(1, 3);
                    h.packed_signed(12, &[1, 1]);
                }
                h.int(15, NOW_MS);
            });
        });
    }
    let outcome = bench.send(V1, request.as_bytes());
    assert_eq!((outcome.status, outcome.written), (204, written(0, 2, 0)), "{}", outcome.message);
    for (name, samples) in bench.stored() {
        assert_eq!(samples.histograms[0].positive_buckets, [1.0, 2.0], "{name}");
        assert_eq!(samples.histograms[0].count, 3.0, "{name}");
    }
}

#[test]
fn bytes_of_chance_are_answered_and_never_stored() {
    let bench = Bench::new();
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let good = request_v1(&[(&[("__name__", "a"), ("b", "c")], &[(NOW_MS, 1.0)])]);
    for round in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        bytes.truncate(1 + next() % bytes.len());
        let kind = if round % 2 == 0 { V1 } else { V2 };
        let status = bench.send(kind, &bytes).status;
        assert!(matches!(status, 204 | 400), "{status}");
    }
}
