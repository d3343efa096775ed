//! The records of the log: bytes in `docs/wal.md`. Decoding borrows from the record and never trusts a count.

use crate::codec::{Get, Put};

/// First byte of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A reference gets labels.
    Series,
    /// Float samples.
    Samples,
    /// Deleted ranges.
    Tombstones,
    /// Exemplars.
    Exemplars,
    /// Head chunk markers of the out-of-order log.
    MmapMarkers,
    /// Type, unit and help of a series.
    Metadata,
    /// Integer native histograms.
    Histograms,
    /// Float native histograms.
    FloatHistograms,
    /// Integer native histograms with custom bounds.
    CustomHistograms,
    /// Float native histograms with custom bounds.
    CustomFloatHistograms,
    /// A kind this reader does not know.
    Unknown(u8),
}

impl RecordKind {
    fn byte(self) -> u8 {
        match self {
            RecordKind::Series => 1,
            RecordKind::Samples => 2,
            RecordKind::Tombstones => 3,
            RecordKind::Exemplars => 4,
            RecordKind::MmapMarkers => 5,
            RecordKind::Metadata => 6,
            RecordKind::Histograms => 7,
            RecordKind::FloatHistograms => 8,
            RecordKind::CustomHistograms => 9,
            RecordKind::CustomFloatHistograms => 10,
            RecordKind::Unknown(byte) => byte,
        }
    }
}

/// The kind of a record, `None` for an empty one.
pub fn record_kind(record: &[u8]) -> Option<RecordKind> {
    Some(match *record.first()? {
        1 => RecordKind::Series,
        2 => RecordKind::Samples,
        3 => RecordKind::Tombstones,
        4 => RecordKind::Exemplars,
        5 => RecordKind::MmapMarkers,
        6 => RecordKind::Metadata,
        7 => RecordKind::Histograms,
        8 => RecordKind::FloatHistograms,
        9 => RecordKind::CustomHistograms,
        10 => RecordKind::CustomFloatHistograms,
        byte => RecordKind::Unknown(byte),
    })
}

/// A series reference gets labels, in the labels' order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesRecord<'a> {
    /// The reference that other records use.
    pub series: u64,
    /// Names and values.
    pub labels: Vec<(&'a str, &'a str)>,
}

/// One float sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRecord {
    /// Its series.
    pub series: u64,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// The value.
    pub v: f64,
}

/// A deleted range of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstoneRecord {
    /// Its series.
    pub series: u64,
    /// First deleted millisecond.
    pub min_t: i64,
    /// Last deleted millisecond.
    pub max_t: i64,
}

/// One exemplar.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemplarRecord<'a> {
    /// Its series.
    pub series: u64,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// The value.
    pub v: f64,
    /// The exemplar's own labels.
    pub labels: Vec<(&'a str, &'a str)>,
}

/// Metric types as the log numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetricType {
    /// Not known.
    #[default]
    Unknown,
    /// A counter.
    Counter,
    /// A gauge.
    Gauge,
    /// A histogram.
    Histogram,
    /// A histogram of gauges.
    GaugeHistogram,
    /// A summary.
    Summary,
    /// An info.
    Info,
    /// A state set.
    StateSet,
}

impl MetricType {
    const ALL: [MetricType; 8] = [
        MetricType::Unknown,
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Histogram,
        MetricType::GaugeHistogram,
        MetricType::Summary,
        MetricType::Info,
        MetricType::StateSet,
    ];
}

/// Metadata of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataRecord<'a> {
    /// Its series.
    pub series: u64,
    /// The metric's type.
    pub kind: MetricType,
    /// The metric's unit.
    pub unit: &'a str,
    /// The metric's help.
    pub help: &'a str,
}

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Gap to the span before it, or the index of the first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// Counts of a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum Buckets {
    /// Integer counts; buckets are differences to the bucket before.
    Integer {
        /// Observations near zero.
        zero_count: u64,
        /// All observations.
        count: u64,
        /// Differences of positive buckets.
        positive: Vec<i64>,
        /// Differences of negative buckets.
        negative: Vec<i64>,
    },
    /// Absolute float counts.
    Float {
        /// Observations near zero.
        zero_count: f64,
        /// All observations.
        count: f64,
        /// Positive buckets.
        positive: Vec<f64>,
        /// Negative buckets.
        negative: Vec<f64>,
    },
}

/// One native histogram sample.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramRecord {
    /// Its series.
    pub series: u64,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    pub reset_hint: u8,
    /// Resolution; -53 means custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Sum of observations.
    pub sum: f64,
    /// Where the positive buckets are.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets are.
    pub negative_spans: Vec<Span>,
    /// The counts.
    pub buckets: Buckets,
    /// Upper bounds, for schema -53.
    pub custom_bounds: Vec<f64>,
}

/// Schema of histograms with custom bounds.
const CUSTOM_SCHEMA: i32 = -53;

impl HistogramRecord {
    /// The record kind that holds this sample.
    pub fn kind(&self) -> RecordKind {
        match (&self.buckets, self.schema == CUSTOM_SCHEMA) {
            (Buckets::Integer { .. }, false) => RecordKind::Histograms,
            (Buckets::Integer { .. }, true) => RecordKind::CustomHistograms,
            (Buckets::Float { .. }, false) => RecordKind::FloatHistograms,
            (Buckets::Float { .. }, true) => RecordKind::CustomFloatHistograms,
        }
    }
}

/// A decoded record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record<'a> {
    /// See [`SeriesRecord`].
    Series(Vec<SeriesRecord<'a>>),
    /// See [`SampleRecord`].
    Samples(Vec<SampleRecord>),
    /// See [`TombstoneRecord`].
    Tombstones(Vec<TombstoneRecord>),
    /// See [`ExemplarRecord`].
    Exemplars(Vec<ExemplarRecord<'a>>),
    /// See [`MetadataRecord`].
    Metadata(Vec<MetadataRecord<'a>>),
    /// See [`HistogramRecord`].
    Histograms(Vec<HistogramRecord>),
    /// A kind that is stepped over, as Prometheus steps over it.
    Skipped(RecordKind),
}

// === encoding ===

fn put_labels<'l>(out: &mut Vec<u8>, labels: impl ExactSizeIterator<Item = (&'l str, &'l str)>) {
    out.put_uvarint(labels.len() as u64);
    for (name, value) in labels {
        out.put_str(name);
        out.put_str(value);
    }
}

/// Appends one series to a record that is started when `out` is empty.
pub fn encode_series<'l>(
    out: &mut Vec<u8>,
    series: u64,
    labels: impl ExactSizeIterator<Item = (&'l str, &'l str)>,
) {
    if out.is_empty() {
        out.put_u8(RecordKind::Series.byte());
    }
    out.put_be64(series);
    put_labels(out, labels);
}

/// Encodes float samples as one record; nothing for none.
pub fn encode_samples(out: &mut Vec<u8>, samples: &[SampleRecord]) {
    let Some(first) = samples.first() else { return };
    out.put_u8(RecordKind::Samples.byte());
    out.put_be64(first.series);
    out.put_be64(first.t as u64);
    for sample in samples {
        out.put_varint(sample.series.wrapping_sub(first.series) as i64);
        out.put_varint(sample.t.wrapping_sub(first.t));
        out.put_f64(sample.v);
    }
}

/// Encodes deleted ranges as one record.
pub fn encode_tombstones(out: &mut Vec<u8>, tombstones: &[TombstoneRecord]) {
    out.put_u8(RecordKind::Tombstones.byte());
    for tombstone in tombstones {
        out.put_be64(tombstone.series);
        out.put_varint(tombstone.min_t);
        out.put_varint(tombstone.max_t);
    }
}

/// Encodes exemplars as one record; nothing for none.
pub fn encode_exemplars(out: &mut Vec<u8>, exemplars: &[ExemplarRecord<'_>]) {
    let Some(first) = exemplars.first() else { return };
    out.put_u8(RecordKind::Exemplars.byte());
    out.put_be64(first.series);
    out.put_be64(first.t as u64);
    for exemplar in exemplars {
        out.put_varint(exemplar.series.wrapping_sub(first.series) as i64);
        out.put_varint(exemplar.t.wrapping_sub(first.t));
        out.put_f64(exemplar.v);
        put_labels(out, exemplar.labels.iter().copied());
    }
}

/// Encodes metadata as one record.
pub fn encode_metadata(out: &mut Vec<u8>, metadata: &[MetadataRecord<'_>]) {
    out.put_u8(RecordKind::Metadata.byte());
    for entry in metadata {
        out.put_uvarint(entry.series);
        out.put_u8(entry.kind as u8);
        // Named fields, so that a reader can step over those it does not know.
        out.put_uvarint(2);
        out.put_str("UNIT");
        out.put_str(entry.unit);
        out.put_str("HELP");
        out.put_str(entry.help);
    }
}

/// Encodes those of `histograms` that belong in a record of `kind`; nothing when there are none.
pub fn encode_histograms(out: &mut Vec<u8>, kind: RecordKind, histograms: &[HistogramRecord]) {
    let mut of_kind = histograms.iter().filter(|sample| sample.kind() == kind).peekable();
    let Some(first) = of_kind.peek().copied() else { return };
    out.put_u8(kind.byte());
    out.put_be64(first.series);
    out.put_be64(first.t as u64);
    for sample in of_kind {
        out.put_varint(sample.series.wrapping_sub(first.series) as i64);
        out.put_varint(sample.t.wrapping_sub(first.t));
        put_histogram(out, sample);
    }
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    out.put_uvarint(spans.len() as u64);
    for span in spans {
        out.put_varint(i64::from(span.offset));
        out.put_uvarint(u64::from(span.length));
    }
}

fn put_histogram(out: &mut Vec<u8>, sample: &HistogramRecord) {
    out.put_u8(sample.reset_hint);
    out.put_varint(i64::from(sample.schema));
    out.put_f64(sample.zero_threshold);
    match &sample.buckets {
        Buckets::Integer { zero_count, count, .. } => {
            out.put_uvarint(*zero_count);
            out.put_uvarint(*count);
        }
        Buckets::Float { zero_count, count, .. } => {
            out.put_f64(*zero_count);
            out.put_f64(*count);
        }
    }
    out.put_f64(sample.sum);
    put_spans(out, &sample.positive_spans);
    put_spans(out, &sample.negative_spans);
    match &sample.buckets {
        Buckets::Integer { positive, negative, .. } => {
            for side in [positive, negative] {
                out.put_uvarint(side.len() as u64);
                side.iter().for_each(|bucket| out.put_varint(*bucket));
            }
        }
        Buckets::Float { positive, negative, .. } => {
            for side in [positive, negative] {
                out.put_uvarint(side.len() as u64);
                side.iter().for_each(|bucket| out.put_f64(*bucket));
            }
        }
    }
    if sample.schema == CUSTOM_SCHEMA {
        out.put_uvarint(sample.custom_bounds.len() as u64);
        sample.custom_bounds.iter().for_each(|bound| out.put_f64(*bound));
    }
}

// === decoding ===

/// Decodes a record.
///
/// # Errors
/// What is wrong with it, when its bytes do not follow the format.
pub fn decode(record: &[u8]) -> Result<Record<'_>, String> {
    let Some(kind) = record_kind(record) else { return Err("empty record".into()) };
    let mut input = Get::new(record.get(1..).unwrap_or_default());
    let decoded = match kind {
        RecordKind::Series => decode_series(&mut input).map(Record::Series),
        RecordKind::Samples => decode_samples(&mut input).map(Record::Samples),
        RecordKind::Tombstones => decode_tombstones(&mut input).map(Record::Tombstones),
        RecordKind::Exemplars => decode_exemplars(&mut input).map(Record::Exemplars),
        RecordKind::Metadata => decode_metadata(&mut input).map(Record::Metadata),
        RecordKind::Histograms | RecordKind::CustomHistograms => {
            decode_histograms(&mut input, false).map(Record::Histograms)
        }
        RecordKind::FloatHistograms | RecordKind::CustomFloatHistograms => {
            decode_histograms(&mut input, true).map(Record::Histograms)
        }
        RecordKind::MmapMarkers | RecordKind::Unknown(_) => return Ok(Record::Skipped(kind)),
    };
    decoded.ok_or_else(|| format!("a {kind:?} record ends early or holds an impossible number"))
}

fn get_labels<'a>(input: &mut Get<'a>) -> Option<Vec<(&'a str, &'a str)>> {
    let count = input.count(2)?;
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        labels.push((input.str()?, input.str()?));
    }
    Some(labels)
}

fn decode_series<'a>(input: &mut Get<'a>) -> Option<Vec<SeriesRecord<'a>>> {
    let mut series = Vec::new();
    while !input.is_empty() {
        series.push(SeriesRecord { series: input.be64()?, labels: get_labels(input)? });
    }
    Some(series)
}

/// The first reference and time, against which the others are written.
fn base(input: &mut Get<'_>) -> Option<Option<(u64, i64)>> {
    if input.is_empty() {
        return Some(None);
    }
    Some(Some((input.be64()?, input.be64()? as i64)))
}

fn relative(input: &mut Get<'_>, first: (u64, i64)) -> Option<(u64, i64)> {
    let series = first.0.wrapping_add(input.varint()? as u64);
    Some((series, first.1.wrapping_add(input.varint()?)))
}

fn decode_samples(input: &mut Get<'_>) -> Option<Vec<SampleRecord>> {
    let Some(first) = base(input)? else { return Some(Vec::new()) };
    let mut samples = Vec::with_capacity(input.rest.len() / 10);
    while !input.is_empty() {
        let (series, t) = relative(input, first)?;
        samples.push(SampleRecord { series, t, v: input.f64()? });
    }
    Some(samples)
}

fn decode_tombstones(input: &mut Get<'_>) -> Option<Vec<TombstoneRecord>> {
    let mut tombstones = Vec::new();
    while !input.is_empty() {
        tombstones.push(TombstoneRecord {
            series: input.be64()?,
            min_t: input.varint()?,
            max_t: input.varint()?,
        });
    }
    Some(tombstones)
}

fn decode_exemplars<'a>(input: &mut Get<'a>) -> Option<Vec<ExemplarRecord<'a>>> {
    let Some(first) = base(input)? else { return Some(Vec::new()) };
    let mut exemplars = Vec::new();
    while !input.is_empty() {
        let (series, t) = relative(input, first)?;
        exemplars.push(ExemplarRecord { series, t, v: input.f64()?, labels: get_labels(input)? });
    }
    Some(exemplars)
}

fn decode_metadata<'a>(input: &mut Get<'a>) -> Option<Vec<MetadataRecord<'a>>> {
    let mut metadata = Vec::new();
    while !input.is_empty() {
        let series = input.uvarint()?;
        let kind = MetricType::ALL.get(usize::from(input.u8()?)).copied().unwrap_or_default();
        let (mut unit, mut help) = ("", "");
        for _ in 0..input.count(2)? {
            match (input.str()?, input.str()?) {
                ("UNIT", value) => unit = value,
                ("HELP", value) => help = value,
                _ => {}
            }
        }
        metadata.push(MetadataRecord { series, kind, unit, help });
    }
    Some(metadata)
}

fn get_spans(input: &mut Get<'_>) -> Option<Vec<Span>> {
    let count = input.count(2)?;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = i32::try_from(input.varint()?).ok()?;
        spans.push(Span { offset, length: u32::try_from(input.uvarint()?).ok()? });
    }
    Some(spans)
}

fn get_list<T>(
    input: &mut Get<'_>,
    unit: usize,
    mut item: impl FnMut(&mut Get<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = input.count(unit)?;
    (0..count).map(|_| item(input)).collect()
}

fn decode_histograms(input: &mut Get<'_>, float: bool) -> Option<Vec<HistogramRecord>> {
    let Some(first) = base(input)? else { return Some(Vec::new()) };
    let mut samples = Vec::new();
    while !input.is_empty() {
        let (series, t) = relative(input, first)?;
        samples.push(get_histogram(input, series, t, float)?);
    }
    Some(samples)
}

fn get_histogram(input: &mut Get<'_>, series: u64, t: i64, float: bool) -> Option<HistogramRecord> {
    let reset_hint = input.u8()?;
    let schema = i32::try_from(input.varint()?).ok()?;
    let zero_threshold = input.f64()?;
    let (float_counts, integer_counts) = if float {
        ((input.f64()?, input.f64()?), (0, 0))
    } else {
        ((0.0, 0.0), (input.uvarint()?, input.uvarint()?))
    };
    let sum = input.f64()?;
    let positive_spans = get_spans(input)?;
    let negative_spans = get_spans(input)?;
    let buckets = if float {
        Buckets::Float {
            zero_count: float_counts.0,
            count: float_counts.1,
            positive: get_list(input, 8, |input| input.f64())?,
            negative: get_list(input, 8, |input| input.f64())?,
        }
    } else {
        Buckets::Integer {
            zero_count: integer_counts.0,
            count: integer_counts.1,
            positive: get_list(input, 1, |input| input.varint())?,
            negative: get_list(input, 1, |input| input.varint())?,
        }
    };
    let custom_bounds =
        if schema == CUSTOM_SCHEMA { get_list(input, 8, |input| input.f64())? } else { Vec::new() };
    Some(HistogramRecord {
        series,
        t,
        reset_hint,
        schema,
        zero_threshold,
        sum,
        positive_spans,
        negative_spans,
        buckets,
        custom_bounds,
    })
}
