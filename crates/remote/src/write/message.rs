//! The two messages of remote write: `prometheus.WriteRequest` (1.0) and `io.prometheus.write.v2.Request` (2.0).
//!
//! Reading visits series by series over one reused block; texts borrow from the request.

use std::collections::HashMap;

use gantry_prom_model::{FloatHistogram, Labels, Metadata, MetricKind};

use crate::histogram::{self, HistogramSample};
use crate::proto::{Field, Message, WireError, Writer, packed_varints, text};

/// A float sample of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatSample {
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The value.
    pub value: f64,
    /// When its counting began; 0 when that is not known.
    pub start_ms: i64,
}

/// An exemplar of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemplarSample<'b> {
    /// Its own labels.
    pub labels: Vec<(&'b str, &'b str)>,
    /// The value.
    pub value: f64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// One series of a request.
#[derive(Debug, Default)]
pub(crate) struct SeriesBlock<'b> {
    pub(crate) labels: Vec<(&'b str, &'b str)>,
    pub(crate) samples: Vec<FloatSample>,
    /// With the reason why one cannot be taken.
    pub(crate) histograms: Vec<(HistogramSample, Option<String>)>,
    pub(crate) exemplars: Vec<ExemplarSample<'b>>,
    pub(crate) metadata: Option<Metadata>,
}

impl SeriesBlock<'_> {
    fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata = None;
    }
}

const KINDS: [MetricKind; 8] = [
    MetricKind::Unknown,
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::GaugeHistogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::StateSet,
];

fn kind(number: u64) -> MetricKind {
    usize::try_from(number).ok().and_then(|index| KINDS.get(index)).copied().unwrap_or_default()
}

fn kind_number(kind: MetricKind) -> u64 {
    KINDS.iter().position(|known| *known == kind).unwrap_or(0) as u64
}

/// Whoever is shown the parts of a request.
pub(crate) trait Visit {
    /// A series.
    fn series(&mut self, series: &SeriesBlock<'_>);
    /// What is known of a metric, in a 1.0 request.
    fn metadata(&mut self, _metric: &str, _metadata: Metadata) {}
}

/// Reads a 1.0 request.
///
/// # Errors
/// When it is none; what came before has been shown.
pub(crate) fn read_v1(bytes: &[u8], visit: &mut dyn Visit) -> Result<(), WireError> {
    let mut block = SeriesBlock::default();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => {
                block.clear();
                read_series_v1(field.bytes(1)?, &mut block)?;
                visit.series(&block);
            }
            3 => {
                let (metric, metadata) = read_metadata_v1(field.bytes(3)?)?;
                visit.metadata(metric, metadata);
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_series_v1<'b>(bytes: &'b [u8], block: &mut SeriesBlock<'b>) -> Result<(), WireError> {
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => block.labels.push(label(field.bytes(1)?)?),
            2 => block.samples.push(sample(field.bytes(2)?)?),
            3 => block.exemplars.push(exemplar(field.bytes(3)?, None)?),
            4 => block.histograms.push(histogram::read(field.bytes(4)?)?),
            _ => {}
        }
    }
    Ok(())
}

/// A label message.
pub(crate) fn label(bytes: &[u8]) -> Result<(&str, &str), WireError> {
    let (mut name, mut value) = ("", "");
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => name = field.text(1)?,
            2 => value = field.text(2)?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn sample(bytes: &[u8]) -> Result<FloatSample, WireError> {
    let mut sample = FloatSample { timestamp_ms: 0, value: 0.0, start_ms: 0 };
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => sample.value = field.double(1)?,
            2 => sample.timestamp_ms = field.varint(2)? as i64,
            3 => sample.start_ms = field.varint(3)? as i64,
            _ => {}
        }
    }
    Ok(sample)
}

/// An exemplar; with symbols its labels are references to them.
fn exemplar<'b>(bytes: &'b [u8], symbols: Option<&[&'b str]>) -> Result<ExemplarSample<'b>, WireError> {
    let mut exemplar = ExemplarSample { labels: Vec::new(), value: 0.0, timestamp_ms: 0 };
    let mut references = Vec::new();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, symbols) {
            (1, None) => exemplar.labels.push(label(field.bytes(1)?)?),
            (1, Some(_)) => packed_varints(field, 1, &mut references)?,
            (2, _) => exemplar.value = field.double(2)?,
            (3, _) => exemplar.timestamp_ms = field.varint(3)? as i64,
            _ => {}
        }
    }
    if let Some(symbols) = symbols {
        resolve(&references, symbols, &mut exemplar.labels)?;
    }
    Ok(exemplar)
}

fn read_metadata_v1(bytes: &[u8]) -> Result<(&str, Metadata), WireError> {
    let mut metric = "";
    let mut metadata = Metadata::default();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => metadata.kind = kind(field.varint(1)?),
            2 => metric = field.text(2)?,
            4 => metadata.help = field.text(4)?.to_owned(),
            5 => metadata.unit = field.text(5)?.to_owned(),
            _ => {}
        }
    }
    Ok((metric, metadata))
}

/// Reads a 2.0 request.
///
/// # Errors
/// When it is none, or its references point nowhere; what came before has been shown.
pub(crate) fn read_v2(bytes: &[u8], visit: &mut dyn Visit) -> Result<(), WireError> {
    let mut symbols: Vec<&str> = Vec::new();
    let mut has_series = false;
    // The table may come after the series that refer to it.
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            4 => symbols.push(field.text(4)?),
            5 => has_series = true,
            _ => {}
        }
    }
    if has_series && symbols.first() != Some(&"") {
        return Err(WireError::Invalid("the first symbol must be an empty text".into()));
    }
    let mut block = SeriesBlock::default();
    let mut references = Vec::new();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        if number != 5 {
            continue;
        }
        block.clear();
        references.clear();
        read_series_v2(field.bytes(5)?, &symbols, &mut references, &mut block)?;
        visit.series(&block);
    }
    Ok(())
}

fn read_series_v2<'b>(
    bytes: &'b [u8],
    symbols: &[&'b str],
    references: &mut Vec<u64>,
    block: &mut SeriesBlock<'b>,
) -> Result<(), WireError> {
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => packed_varints(field, 1, references)?,
            2 => block.samples.push(sample(field.bytes(2)?)?),
            3 => block.histograms.push(histogram::read(field.bytes(3)?)?),
            4 => block.exemplars.push(exemplar(field.bytes(4)?, Some(symbols))?),
            5 => block.metadata = Some(read_metadata_v2(field.bytes(5)?, symbols)?),
            _ => {}
        }
    }
    resolve(references, symbols, &mut block.labels)
}

fn symbol<'b>(reference: u64, symbols: &[&'b str]) -> Result<&'b str, WireError> {
    let found = usize::try_from(reference).ok().and_then(|index| symbols.get(index));
    found.copied().ok_or_else(|| {
        WireError::Invalid(format!("symbol {reference} is referred to, there are {}", symbols.len()))
    })
}

fn resolve<'b>(
    references: &[u64],
    symbols: &[&'b str],
    labels: &mut Vec<(&'b str, &'b str)>,
) -> Result<(), WireError> {
    let (pairs, rest) = references.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(WireError::Invalid("label references do not come in pairs".into()));
    }
    for [name, value] in pairs {
        labels.push((symbol(*name, symbols)?, symbol(*value, symbols)?));
    }
    Ok(())
}

fn read_metadata_v2(bytes: &[u8], symbols: &[&str]) -> Result<Metadata, WireError> {
    let mut metadata = Metadata::default();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Varint(value)) => metadata.kind = kind(value),
            (3, Field::Varint(value)) => metadata.help = symbol(value, symbols)?.to_owned(),
            (4, Field::Varint(value)) => metadata.unit = symbol(value, symbols)?.to_owned(),
            (1 | 3 | 4, _) => return Err(WireError::WrongType(number)),
            _ => {}
        }
    }
    Ok(metadata)
}

/// What is sent of one series at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    /// A float sample.
    Float(f64),
    /// A native histogram sample.
    Histogram(std::sync::Arc<FloatHistogram>),
    /// An exemplar with its own labels.
    Exemplar(Labels, f64),
}

/// A point to be sent, with its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The series as the peer is to see it.
    pub labels: Labels,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The value.
    pub point: Point,
}

/// Labels as 1.0 messages have them.
pub(crate) fn write_labels(out: &mut Writer, number: u32, labels: &Labels) {
    for (name, value) in labels.iter() {
        out.nested(number, |label| {
            label.text(1, name);
            label.text(2, value);
        });
    }
}

/// A float sample's message.
pub(crate) fn write_sample(out: &mut Writer, number: u32, timestamp_ms: i64, value: f64) {
    out.nested(number, |sample| {
        sample.double(1, value);
        sample.int(2, timestamp_ms);
    });
}

/// A 1.0 request with these points, each as a series of its own.
pub fn encode_v1(points: &[Outgoing]) -> Vec<u8> {
    let mut out = Writer::new();
    for outgoing in points {
        out.nested(1, |series| {
            write_labels(series, 1, &outgoing.labels);
            match &outgoing.point {
                Point::Float(value) => write_sample(series, 2, outgoing.timestamp_ms, *value),
                Point::Exemplar(labels, value) => series.nested(3, |exemplar| {
                    write_labels(exemplar, 1, labels);
                    exemplar.double(2, *value);
                    exemplar.int(3, outgoing.timestamp_ms);
                }),
                Point::Histogram(h) => histogram::write(series, 4, h, outgoing.timestamp_ms, 0),
            }
        });
    }
    out.into_bytes()
}

/// A 1.0 request that only says what metrics are.
pub fn encode_metadata_v1(metrics: &[(String, Metadata)]) -> Vec<u8> {
    let mut out = Writer::new();
    for (metric, metadata) in metrics {
        out.nested(3, |message| {
            message.varint(1, kind_number(metadata.kind));
            message.text(2, metric);
            message.text(4, &metadata.help);
            message.text(5, &metadata.unit);
        });
    }
    out.into_bytes()
}

/// The texts of a 2.0 request, each once, the empty one first.
struct Symbols<'s> {
    texts: Vec<&'s str>,
    numbers: HashMap<&'s str, u64>,
}

impl<'s> Symbols<'s> {
    fn new() -> Symbols<'s> {
        Symbols { texts: vec![""], numbers: HashMap::from([("", 0)]) }
    }

    fn number(&mut self, text: &'s str) -> u64 {
        let texts = &mut self.texts;
        *self.numbers.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() as u64 - 1
        })
    }

    fn of(&mut self, labels: &'s Labels) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(2 * labels.len());
        for (name, value) in labels.iter() {
            numbers.push(self.number(name));
            numbers.push(self.number(value));
        }
        numbers
    }
}

/// A 2.0 request with these points; `metadata` says what is known of each point's metric.
///
/// An exemplar goes with a sample of its series where the request has one.
pub fn encode_v2(points: &[Outgoing], metadata: &dyn Fn(&Outgoing) -> Option<Metadata>) -> Vec<u8> {
    let known: Vec<Option<Metadata>> = points.iter().map(metadata).collect();
    let (carriers, exemplars) = carriers(points);
    let mut symbols = Symbols::new();
    let mut all_series = Writer::new();
    for carrier in carriers {
        let outgoing = &points[carrier];
        let references = symbols.of(&outgoing.labels);
        let metadata = known[carrier]
            .as_ref()
            .map(|known| (kind_number(known.kind), symbols.number(&known.help), symbols.number(&known.unit)));
        all_series.nested(5, |series| {
            series.packed(1, references);
            match &outgoing.point {
                Point::Float(value) => write_sample(series, 2, outgoing.timestamp_ms, *value),
                Point::Histogram(h) => histogram::write(series, 3, h, outgoing.timestamp_ms, 0),
                Point::Exemplar(..) => {}
            }
            for exemplar in exemplars.get(&carrier).into_iter().flatten() {
                let Point::Exemplar(labels, value) = &points[*exemplar].point else { continue };
                let own = symbols.of(labels);
                series.nested(4, |message| {
                    message.packed(1, own);
                    message.double(2, *value);
                    message.int(3, points[*exemplar].timestamp_ms);
                });
            }
            if let Some((kind, help, unit)) = metadata {
                series.nested(5, |message| {
                    message.varint(1, kind);
                    message.varint(3, help);
                    message.varint(4, unit);
                });
            }
        });
    }
    let mut out = Writer::new();
    for text in &symbols.texts {
        out.message(4, text.as_bytes());
    }
    let mut bytes = out.into_bytes();
    bytes.extend_from_slice(all_series.as_bytes());
    bytes
}

/// The points that become series of a request, and the exemplars that each of them carries.
fn carriers(points: &[Outgoing]) -> (Vec<usize>, HashMap<usize, Vec<usize>>) {
    let is_exemplar = |index: usize| matches!(points[index].point, Point::Exemplar(..));
    let (all_exemplars, mut carriers): (Vec<usize>, Vec<usize>) =
        (0..points.len()).partition(|index| is_exemplar(*index));
    let mut exemplars: HashMap<usize, Vec<usize>> = HashMap::new();
    if all_exemplars.is_empty() {
        return (carriers, exemplars);
    }
    let mut last_of: HashMap<&Labels, usize> =
        carriers.iter().map(|index| (&points[*index].labels, *index)).collect();
    for exemplar in all_exemplars {
        let carrier = *last_of.entry(&points[exemplar].labels).or_insert_with(|| {
            carriers.push(exemplar);
            exemplar
        });
        exemplars.entry(carrier).or_default().push(exemplar);
    }
    (carriers, exemplars)
}

/// The texts of a 2.0 request's table, for those who look into one.
///
/// # Errors
/// When it is no request.
pub fn symbols_of(bytes: &[u8]) -> Result<Vec<&str>, WireError> {
    let mut symbols = Vec::new();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        if number == 4 {
            symbols.push(text(field.bytes(4)?, 4)?);
        }
    }
    Ok(symbols)
}

/// The points of a request, and what it tells of metrics by their names.
pub type Contents = (Vec<Outgoing>, Vec<(String, Metadata)>);

/// The points of a request of either kind, for those who look into one; `is_v2` says which it is.
///
/// # Errors
/// When it is no request.
pub fn points_of(bytes: &[u8], is_v2: bool) -> Result<Contents, WireError> {
    #[derive(Default)]
    struct Collect {
        points: Vec<Outgoing>,
        metadata: Vec<(String, Metadata)>,
    }
    impl Visit for Collect {
        fn series(&mut self, series: &SeriesBlock<'_>) {
            let labels = Labels::from_pairs(series.labels.iter().copied());
            if let Some(metadata) = &series.metadata {
                self.metadata.push((labels.metric_name().unwrap_or("").to_owned(), metadata.clone()));
            }
            let point = |timestamp_ms, point| Outgoing { labels: labels.clone(), timestamp_ms, point };
            for sample in &series.samples {
                self.points.push(point(sample.timestamp_ms, Point::Float(sample.value)));
            }
            for (sample, _) in &series.histograms {
                let histogram = std::sync::Arc::new(sample.histogram.clone());
                self.points.push(point(sample.timestamp_ms, Point::Histogram(histogram)));
            }
            for exemplar in &series.exemplars {
                let own = Labels::from_pairs(exemplar.labels.iter().copied());
                self.points.push(point(exemplar.timestamp_ms, Point::Exemplar(own, exemplar.value)));
            }
        }

        fn metadata(&mut self, metric: &str, metadata: Metadata) {
            self.metadata.push((metric.to_owned(), metadata));
        }
    }
    let mut collect = Collect::default();
    if is_v2 {
        read_v2(bytes, &mut collect)?
    } else {
        read_v1(bytes, &mut collect)?
    }
    Ok((collect.points, collect.metadata))
}
