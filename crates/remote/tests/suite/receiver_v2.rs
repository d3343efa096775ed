//! The receiver's part of Remote-Write 2.0.

use gantry_prom_model::MetricKind;
use gantry_remote::proto::Writer;
use gantry_remote::{Written, compress};

use crate::common::*;

const SYMBOLS: [&str; 9] = ["", "__name__", "m", "job", "x", "All of them.", "seconds", "trace_id", "abc"];

#[test]
fn a_request_is_stored_and_its_parts_are_counted() {
    let bench = Bench::new();
    let request =
        request_v2(&SYMBOLS, |out| series_v2(out, &[1, 2, 3, 4], &[(NOW_MS, 1.0), (NOW_MS + 1, 2.0)]));
    let outcome = bench.send(V2, &request);
    assert_eq!((outcome.status, outcome.message.as_str()), (204, ""));
    assert_eq!(outcome.written, written(2, 0, 0));
    assert_eq!(bench.stored()[0].0, r#"{__name__="m", job="x"}"#);
}

#[test]
fn the_message_is_chosen_by_the_content_type() {
    let bench = Bench::new();
    let request = request_v2(&SYMBOLS, |out| series_v2(out, &[1, 2], &[(NOW_MS, 1.0)]));
    // Read as the other message it has no series.
    let outcome = bench.send(V1, &request);
    assert_eq!((outcome.status, outcome.written), (204, written(0, 0, 0)));
    assert!(bench.stored().is_empty());
    assert_eq!(bench.send(V2, &request).written, written(1, 0, 0));
}

#[test]
fn the_table_may_come_after_the_series() {
    let bench = Bench::new();
    let mut request = Writer::new();
    series_v2(&mut request, &[1, 2], &[(NOW_MS, 1.0)]);
    for symbol in SYMBOLS {
        request.message(4, symbol.as_bytes());
    }
    assert_eq!(bench.send(V2, request.as_bytes()).status, 204);
}

#[test]
fn references_point_into_the_table_and_come_in_pairs() {
    for (symbols, references) in [
        (&SYMBOLS[..], &[1, 99][..]),
        (&SYMBOLS, &[1, 2, 3]),
        // The first symbol must be the empty text.
        (&["__name__", "m"], &[0, 1]),
    ] {
        let bench = Bench::new();
        let request = request_v2(symbols, |out| series_v2(out, references, &[(NOW_MS, 1.0)]));
        let outcome = bench.send(V2, &request);
        assert_eq!(outcome.status, 400, "{references:?}");
        assert!(bench.stored().is_empty());
    }
}

#[test]
fn what_is_invalid_is_a_bad_request_and_the_rest_is_written_and_counted() {
    let bench = Bench::new();
    let symbols = ["", "__name__", "m", "a", "x", "y"];
    let request = request_v2(&symbols, |out| {
        series_v2(out, &[1, 2], &[(NOW_MS, 1.0)]);
        series_v2(out, &[3, 4], &[(NOW_MS, 1.0), (NOW_MS + 1, 1.0)]);
        series_v2(out, &[1, 2, 3, 4, 3, 5], &[(NOW_MS, 1.0)]);
        series_v2(out, &[1, 2, 3, 4], &[(NOW_MS, 1.0)]);
    });
    let outcome = bench.send(V2, &request);
    assert_eq!((outcome.status, outcome.written), (400, written(2, 0, 0)));
    assert!(outcome.message.starts_with("3 not written; "), "{}", outcome.message);
    for reason in ["there is no metric name", "duplicated label a"] {
        assert!(outcome.message.contains(reason), "{}", outcome.message);
    }
    assert_eq!(bench.stored().len(), 2);
}

#[test]
fn samples_out_of_order_are_told_apart_from_those_written() {
    let bench = Bench::new();
    let request = |samples: &[(i64, f64)]| request_v2(&SYMBOLS, |out| series_v2(out, &[1, 2], samples));
    assert_eq!(bench.send(V2, &request(&[(NOW_MS, 1.0)])).status, 204);
    let outcome = bench.send(V2, &request(&[(NOW_MS - 1, 1.0), (NOW_MS, 2.0), (NOW_MS + 1, 3.0)]));
    assert_eq!((outcome.status, outcome.written), (400, written(1, 0, 0)));
    for reason in ["out of order sample", "duplicate sample for timestamp"] {
        assert!(outcome.message.contains(reason), "{}", outcome.message);
    }
}

#[test]
fn an_unknown_type_or_encoding_is_unsupported_and_counts_nothing() {
    let bench = Bench::new();
    let body = compress(&request_v2(&SYMBOLS, |out| series_v2(out, &[1, 2], &[(NOW_MS, 1.0)]))).unwrap();
    for (content_type, encoding) in [
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy"),
        ("application/octet-stream", "snappy"),
        (V2, "gzip"),
    ] {
        let outcome = bench.receiver.receive(Some(content_type), Some(encoding), &body);
        assert_eq!((outcome.status, outcome.written), (415, None), "{content_type} {encoding}");
    }
}

#[test]
fn histograms_of_exponential_and_custom_bounds_are_stored() {
    let bench = Bench::new();
    let symbols = ["", "__name__", "custom", "exponential"];
    let request = request_v2(&symbols, |out| {
        for (name, schema) in [(2, -53), (3, 2)] {
            out.nested(5, |series| {
                series.packed(1, [1, name]);
                series.nested(3, |h| {
                    h.varint(1, 6);
                    h.double(3, 9.5);
                    h.signed(4, schema);
                    h.nested(11, |span| span.varint(2, 2));
                    h.packed_signed(12, &[2, 2]);
                    h.int(15, NOW_MS);
                    if schema == -53 {
                        h.packed_doubles(16, &[0.5, 1.0]);
                    }
                });
            });
        }
    });
    let outcome = bench.send(V2, &request);
    assert_eq!((outcome.status, outcome.written), (204, written(0, 2, 0)), "{}", outcome.message);
    let stored = bench.stored();
    assert_eq!(&*stored[0].1.histograms[0].custom_values, [0.5, 1.0]);
    assert_eq!(stored[1].1.histograms[0].schema, 2);
}

#[test]
fn a_histogram_that_contradicts_itself_is_refused_by_name() {
    let bench = Bench::new();
    let request = request_v2(&SYMBOLS, |out| {
        out.nested(5, |series| {
            series.packed(1, [1, 2]);
            series.nested(3, |h| {
                h.varint(1, 6);
                h.nested(11, |span| span.varint(2, 7));
                h.packed_signed(12, &[1]);
                h.int(15, NOW_MS);
            });
        });
    });
    let outcome = bench.send(V2, &request);
    assert_eq!((outcome.status, outcome.written), (400, written(0, 0, 0)));
    assert!(outcome.message.contains("positive spans need 7 buckets, have 1 buckets"), "{}", outcome.message);
}

#[test]
fn metadata_comes_with_the_series() {
    let bench = Bench::new();
    let request = request_v2(&SYMBOLS, |out| {
        out.nested(5, |series| {
            series.packed(1, [1, 2]);
            series.nested(2, |sample| sample.int(2, NOW_MS));
            series.nested(5, |metadata| {
                metadata.varint(1, 2);
                metadata.varint(3, 5);
                metadata.varint(4, 6);
            });
        });
    });
    assert_eq!(bench.send(V2, &request).status, 204);
    let (metric, metadata) = bench.receiver.metadata().remove(0);
    assert_eq!((metric.as_str(), metadata.kind), ("m", MetricKind::Gauge));
    assert_eq!((metadata.help.as_str(), metadata.unit.as_str()), ("All of them.", "seconds"));
    let counter = "prometheus_api_remote_write_without_metadata_appended_samples_total 0";
    assert!(bench.registry.encode().contains(counter), "{}", bench.registry.encode());
}

#[test]
fn a_start_time_does_not_stand_in_the_way() {
    let bench = Bench::new();
    let request = request_v2(&SYMBOLS, |out| {
        out.nested(5, |series| {
            series.packed(1, [1, 2]);
            series.nested(2, |sample| {
                sample.double(1, 5.0);
                sample.int(2, NOW_MS);
                sample.int(3, NOW_MS - 1000);
            });
        });
    });
    let outcome = bench.send(V2, &request);
    assert_eq!(outcome.written, Some(Written { samples: 1, ..Written::default() }));
}

#[test]
fn fields_of_later_versions_are_stepped_over() {
    let bench = Bench::new();
    let request = request_v2(&SYMBOLS, |out| {
        out.text(17, "something new");
        out.nested(5, |series| {
            series.packed(1, [1, 2]);
            series.nested(2, |sample| {
                sample.int(2, NOW_MS);
                sample.double(15, 3.0);
            });
            series.varint(16, 3);
        });
    });
    assert_eq!(bench.send(V2, &request).status, 204);
}
