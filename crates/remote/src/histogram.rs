//! Native histograms as both remote write messages carry them: integer counts as differences, float counts as they are.

use gantry_prom_model::{
    CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, Span, is_exponential_schema,
};

use crate::proto::{Field, Message, WireError, Writer, packed_doubles, packed_signed, zigzag};

/// A histogram sample of a request.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct HistogramSample {
    pub(crate) timestamp_ms: i64,
    /// 0 when it is not known.
    pub(crate) start_ms: i64,
    pub(crate) histogram: FloatHistogram,
}

/// Counts as they come: one of the two forms.
#[derive(Default)]
struct Counts {
    is_integer: bool,
    integer_count: u64,
    deltas: [Vec<i64>; 2],
    counts: [Vec<f64>; 2],
}

const POSITIVE: usize = 0;
const NEGATIVE: usize = 1;

/// Reads a histogram message. What contradicts itself is in the second result: a reason not to take the sample.
pub(crate) fn read(bytes: &[u8]) -> Result<(HistogramSample, Option<String>), WireError> {
    let mut sample = HistogramSample::default();
    let h = &mut sample.histogram;
    let mut counts = Counts::default();
    let mut custom = Vec::new();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => {
                counts.is_integer = true;
                counts.integer_count = field.varint(1)?;
            }
            2 => h.count = field.double(2)?,
            3 => h.sum = field.double(3)?,
            4 => h.schema = i32::try_from(zigzag(field.varint(4)?)).unwrap_or(i32::MAX),
            5 => h.zero_threshold = field.double(5)?,
            6 => h.zero_count = field.varint(6)? as f64,
            7 => h.zero_count = field.double(7)?,
            8 => h.negative_spans.push(span(field.bytes(8)?)?),
            9 => packed_signed(field, 9, &mut counts.deltas[NEGATIVE])?,
            10 => packed_doubles(field, 10, &mut counts.counts[NEGATIVE])?,
            11 => h.positive_spans.push(span(field.bytes(11)?)?),
            12 => packed_signed(field, 12, &mut counts.deltas[POSITIVE])?,
            13 => packed_doubles(field, 13, &mut counts.counts[POSITIVE])?,
            14 => {
                h.counter_reset_hint = match field.varint(14)? {
                    1 => CounterResetHint::Reset,
                    2 => CounterResetHint::NotReset,
                    3 => CounterResetHint::Gauge,
                    _ => CounterResetHint::Unknown,
                }
            }
            15 => sample.timestamp_ms = field.varint(15)? as i64,
            16 => packed_doubles(field, 16, &mut custom)?,
            17 => sample.start_ms = field.varint(17)? as i64,
            _ => {}
        }
    }
    h.custom_values = custom.into();
    let Counts { is_integer, integer_count, deltas, counts } = counts;
    if is_integer {
        h.count = integer_count as f64;
        h.positive_buckets = absolute(&deltas[POSITIVE]);
        h.negative_buckets = absolute(&deltas[NEGATIVE]);
    } else {
        let [positive, negative] = counts;
        (h.positive_buckets, h.negative_buckets) = (positive, negative);
    }
    let wrong = check(h, is_integer);
    Ok((sample, wrong))
}

fn span(bytes: &[u8]) -> Result<Span, WireError> {
    let mut span = Span { offset: 0, length: 0 };
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Varint(value)) => {
                span.offset = i32::try_from(zigzag(value))
                    .map_err(|_| WireError::Invalid("a span's offset is out of range".into()))?;
            }
            (2, Field::Varint(value)) => {
                span.length = u32::try_from(value)
                    .map_err(|_| WireError::Invalid("a span's length is out of range".into()))?;
            }
            (1 | 2, _) => return Err(WireError::WrongType(number)),
            _ => {}
        }
    }
    Ok(span)
}

fn absolute(deltas: &[i64]) -> Vec<f64> {
    let counts = deltas.iter().scan(0i64, |count, delta| {
        *count = count.wrapping_add(*delta);
        Some(*count as f64)
    });
    counts.collect()
}

/// Why a histogram cannot be true.
fn check(h: &FloatHistogram, is_integer: bool) -> Option<String> {
    if !is_exponential_schema(h.schema) && h.schema != CUSTOM_BUCKETS_SCHEMA {
        return Some(format!("histogram schema {} is neither -4 to 8 nor -53", h.schema));
    }
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        if h.custom_values
            .windows(2)
            .any(|pair| pair[0].partial_cmp(&pair[1]) != Some(std::cmp::Ordering::Less))
            || h.custom_values.iter().any(|bound| !bound.is_finite())
        {
            return Some("custom bounds of a histogram must be finite and rise".into());
        }
        if h.zero_count != 0.0 || !h.negative_spans.is_empty() || !h.negative_buckets.is_empty() {
            return Some("a histogram with custom bounds has no zero bucket and no negative buckets".into());
        }
    } else if !h.custom_values.is_empty() {
        return Some("a histogram with an exponential schema has custom bounds".into());
    }
    for (side, spans, buckets) in [
        ("positive", &h.positive_spans, &h.positive_buckets),
        ("negative", &h.negative_spans, &h.negative_buckets),
    ] {
        let spanned: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
        if spanned != buckets.len() as u64 {
            return Some(format!("{side} spans need {spanned} buckets, have {} buckets", buckets.len()));
        }
        if spans.iter().skip(1).any(|span| span.offset < 0) {
            return Some(format!("a {side} span after the first has a negative offset"));
        }
        if buckets.iter().any(|count| *count < 0.0) {
            return Some(format!("a {side} bucket has a negative count"));
        }
    }
    let in_buckets: f64 = h.positive_buckets.iter().chain(&h.negative_buckets).sum::<f64>() + h.zero_count;
    // Observations of NaN are in no bucket.
    let fits = if h.sum.is_nan() { in_buckets <= h.count } else { in_buckets == h.count };
    if is_integer && !h.is_stale() && !fits {
        return Some(format!("{in_buckets} observations found in buckets, but the count is {}", h.count));
    }
    None
}

/// Writes a histogram's message; the counts are floats, as they are kept.
pub(crate) fn write(out: &mut Writer, number: u32, h: &FloatHistogram, timestamp_ms: i64, start_ms: i64) {
    out.nested(number, |out| {
        out.present_double(2, h.count);
        out.double(3, h.sum);
        out.signed(4, i64::from(h.schema));
        out.double(5, h.zero_threshold);
        out.present_double(7, h.zero_count);
        for span in &h.negative_spans {
            write_span(out, 8, *span);
        }
        out.packed_doubles(10, &h.negative_buckets);
        for span in &h.positive_spans {
            write_span(out, 11, *span);
        }
        out.packed_doubles(13, &h.positive_buckets);
        let hint = match h.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        };
        out.varint(14, hint);
        out.int(15, timestamp_ms);
        out.packed_doubles(16, &h.custom_values);
        out.int(17, start_ms);
    });
}

fn write_span(out: &mut Writer, number: u32, span: Span) {
    out.nested(number, |out| {
        out.signed(1, i64::from(span.offset));
        out.varint(2, u64::from(span.length));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut out = Writer::new();
        write(&mut out);
        out.into_bytes()
    }

    #[test]
    fn what_is_written_is_read() {
        let histogram = FloatHistogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: -1,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 7.5,
            sum: -3.25,
            positive_spans: vec![Span { offset: -2, length: 1 }, Span { offset: 3, length: 1 }],
            positive_buckets: vec![1.5, 2.0],
            negative_spans: vec![Span { offset: 0, length: 1 }],
            negative_buckets: vec![2.0],
            custom_values: [].into(),
        };
        let bytes = message(|out| write(out, 1, &histogram, 1234, 5));
        let Some((1, Field::Bytes(inner))) = Message::new(&bytes).next().unwrap() else {
            panic!("no field 1")
        };
        let (sample, wrong) = read(inner).unwrap();
        assert_eq!(wrong, None);
        assert_eq!(sample, HistogramSample { timestamp_ms: 1234, start_ms: 5, histogram });
    }

    #[test]
    fn integer_counts_are_differences_and_have_to_add_up() {
        let integers = |count: u64| {
            message(|out| {
                out.varint(1, count);
                out.varint(6, 1);
                out.nested(11, |span| span.varint(2, 3));
                out.packed_signed(12, &[1, 2, -1]);
            })
        };
        let (sample, wrong) = read(&integers(7)).unwrap();
        assert_eq!(wrong, None);
        assert_eq!(sample.histogram.positive_buckets, [1.0, 3.0, 2.0]);
        let (_, wrong) = read(&integers(8)).unwrap();
        assert!(wrong.unwrap().contains("7 observations found in buckets, but the count is 8"));
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        let schema = message(|out| out.signed(4, 60));
        assert!(read(&schema).unwrap().1.unwrap().contains("schema 60"));
        let bounds = message(|out| {
            out.signed(4, -53);
            out.packed_doubles(16, &[2.0, 1.0]);
        });
        assert!(read(&bounds).unwrap().1.unwrap().contains("must be finite and rise"));
        let spans = message(|out| out.nested(11, |span| span.varint(2, u64::from(u32::MAX))));
        assert!(read(&spans).unwrap().1.unwrap().contains("positive spans need 4294967295 buckets"));
    }
}
