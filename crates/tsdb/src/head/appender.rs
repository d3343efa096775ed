//! Batches: checked against the head when a sample comes, logged and stored when the batch is committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gantry_prom_model::{
    AppendError, Appendable, Appender, CounterResetHint, Exemplar, FloatHistogram, Labels, METRIC_NAME,
    SeriesRef, StorageError,
};

use super::Head;
use super::exemplars::Stored;
use super::series::{MemSeries, Refused, Taken};
use crate::wal::{
    Buckets, ExemplarRecord, HistogramRecord, RecordKind, SampleRecord, Span, encode_exemplars,
    encode_histograms, encode_samples,
};

/// Samples in one log record; keeps every record far below the size of a segment.
const SAMPLES_PER_RECORD: usize = 50_000;

struct HeadAppender<'h> {
    head: &'h Head,
    /// Samples before this time are refused: the head's bound, and half a chunk range behind its newest sample.
    min_valid_ms: i64,
    samples: Vec<(Arc<MemSeries>, SampleRecord)>,
    histograms: Vec<(Arc<MemSeries>, i64, Arc<FloatHistogram>)>,
    /// By the number of their series.
    exemplars: Vec<(u64, Stored)>,
}

impl Appendable for Head {
    fn appender(&self) -> Box<dyn Appender + '_> {
        let newest = self.max_ms.load(Ordering::Acquire);
        let behind = newest.saturating_sub(self.options.chunk_range_ms / 2);
        Box::new(HeadAppender {
            head: self,
            min_valid_ms: self.min_valid_ms.load(Ordering::Acquire).max(behind),
            samples: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
        })
    }
}

fn check_labels(labels: &Labels) -> Result<(), AppendError> {
    if labels.is_empty() {
        return Err(AppendError::Invalid("empty labelset".into()));
    }
    if labels.get(METRIC_NAME).is_some_and(str::is_empty) {
        return Err(AppendError::Invalid("empty metric name".into()));
    }
    Ok(())
}

impl HeadAppender<'_> {
    /// Finds the series, or makes it, and holds it; what is held is released when the batch ends.
    fn hold(
        &self,
        series: Option<SeriesRef>,
        labels: &Labels,
        t: i64,
        check: impl Fn(&MemSeries) -> Result<Taken, Refused>,
    ) -> Result<(Arc<MemSeries>, Taken), AppendError> {
        if t < self.min_valid_ms {
            self.head.counters.out_of_bounds.inc();
            return Err(AppendError::OutOfBounds);
        }
        if let Some(SeriesRef(reference)) = series {
            // Under the lock of the index, so that the series cannot be removed between look-up and hold.
            let index = self.head.index.read();
            if let Some(found) = index.by_ref(reference) {
                let taken = check(found).map_err(|refused| self.refuse(refused))?;
                return Ok((found.clone(), taken));
            }
        }
        check_labels(labels)?;
        loop {
            let made = self.head.series_for(labels)?;
            let index = self.head.index.read();
            if index.by_ref(made.reference).is_some() {
                let taken = check(&made).map_err(|refused| self.refuse(refused))?;
                return Ok((made, taken));
            }
        }
    }

    fn refuse(&self, refused: Refused) -> AppendError {
        match refused {
            Refused::OutOfOrder => {
                self.head.counters.out_of_order.inc();
                AppendError::OutOfOrder
            }
            Refused::Duplicate => {
                self.head.counters.duplicates.inc();
                AppendError::DuplicateForTimestamp
            }
        }
    }

    fn release(&mut self) {
        for (series, _) in self.samples.drain(..) {
            series.release();
        }
        for (series, _, _) in self.histograms.drain(..) {
            series.release();
        }
    }

    fn log_and_store(&mut self) -> Result<(), AppendError> {
        let head = self.head;
        let mut log = head.log.lock();
        // What is older may be on its way to disk, where a late sample would be missing.
        let min_valid = head.min_valid_ms.load(Ordering::Acquire);
        let oldest = self.samples.iter().map(|(_, sample)| sample.t);
        let oldest = oldest.chain(self.histograms.iter().map(|(_, t, _)| *t)).min();
        if oldest.is_some_and(|oldest| oldest < min_valid) {
            head.counters.out_of_bounds.inc();
            return Err(AppendError::OutOfBounds);
        }
        let series = std::mem::take(&mut *head.unlogged.lock());
        let mut records: Vec<Vec<u8>> = Vec::with_capacity(3);
        let mut buffer = std::mem::take(&mut log.buffer);
        buffer.clear();
        for part in self.samples.chunks(SAMPLES_PER_RECORD) {
            let samples: Vec<SampleRecord> = part.iter().map(|(_, sample)| *sample).collect();
            let mut encoded = if records.is_empty() { std::mem::take(&mut buffer) } else { Vec::new() };
            encode_samples(&mut encoded, &samples);
            records.push(encoded);
        }
        for part in self.histograms.chunks(1000) {
            let samples: Vec<_> =
                part.iter().map(|(series, t, h)| to_record(series.reference, *t, h)).collect();
            for kind in [RecordKind::FloatHistograms, RecordKind::CustomFloatHistograms] {
                let mut encoded = Vec::new();
                encode_histograms(&mut encoded, kind, &samples);
                if !encoded.is_empty() {
                    records.push(encoded);
                }
            }
        }
        for part in self.exemplars.chunks(1000) {
            let mut encoded = Vec::new();
            let part: Vec<_> = part.iter().map(|(series, stored)| exemplar_record(*series, stored)).collect();
            encode_exemplars(&mut encoded, &part);
            records.push(encoded);
        }
        let all: Vec<&[u8]> = series.iter().chain(&records).map(Vec::as_slice).collect();
        let bytes: usize = all.iter().map(|record| record.len()).sum();
        if let Err(error) = log.writer.log(&all) {
            head.counters.wal_failures.inc();
            // The series are in the index without a record: put it back in front of what came meanwhile.
            head.unlogged.lock().splice(0..0, series);
            return Err(StorageError::Unreadable(error.to_string()).into());
        }
        head.counters.wal_bytes.add(bytes as u64);
        self.store();
        if let Some(first) = records.into_iter().next()
            && first.capacity() <= 1 << 20
        {
            log.buffer = first;
        }
        Ok(())
    }

    /// Puts the batch into memory; runs under the log's lock, so memory has the log's order.
    fn store(&mut self) {
        let head = self.head;
        let range = head.options.chunk_range_ms;
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        let (mut stored, mut stored_histograms) = (0, 0);
        for (series, sample) in &self.samples {
            match series.append(sample.t, sample.v, range) {
                Ok(Taken::New) => {
                    stored += 1;
                    min = min.min(sample.t);
                    max = max.max(sample.t);
                }
                Ok(Taken::Already) => {}
                Err(refused) => drop(self.refuse(refused)),
            }
        }
        for (series, t, histogram) in &self.histograms {
            match series.append_histogram(*t, histogram.clone(), range) {
                Ok(_) => {
                    stored_histograms += 1;
                    min = min.min(*t);
                    max = max.max(*t);
                }
                Err(refused) => drop(self.refuse(refused)),
            }
        }
        head.counters.samples_appended.add(stored);
        head.counters.histograms_appended.add(stored_histograms);
        for (series, stored) in self.exemplars.drain(..) {
            head.exemplars.add(series, stored);
        }
        if min <= max {
            head.widen(min, max);
        }
    }
}

impl Appender for HeadAppender<'_> {
    fn append(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        timestamp_ms: i64,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        let (series, taken) =
            self.hold(series, labels, timestamp_ms, |series| series.check_and_hold(timestamp_ms, value))?;
        let reference = series.reference;
        match taken {
            Taken::New => {
                let sample = SampleRecord { series: reference, t: timestamp_ms, v: value };
                self.samples.push((series, sample));
            }
            Taken::Already => series.release(),
        }
        Ok(SeriesRef(reference))
    }

    fn append_histogram(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        timestamp_ms: i64,
        histogram: &FloatHistogram,
    ) -> Result<SeriesRef, AppendError> {
        check_histogram(histogram)?;
        let (series, _) =
            self.hold(series, labels, timestamp_ms, |series| series.check_histogram_and_hold(timestamp_ms))?;
        let reference = series.reference;
        self.histograms.push((series, timestamp_ms, Arc::new(histogram.clone())));
        Ok(SeriesRef(reference))
    }

    fn append_exemplar(
        &mut self,
        series: SeriesRef,
        labels: &Labels,
        exemplar: &Exemplar,
    ) -> Result<(), AppendError> {
        let index = self.head.index.read();
        let found = index.by_ref(series.0).or_else(|| index.by_labels(labels.iter()));
        let reference = found.ok_or(AppendError::UnknownSeries)?.reference;
        let Some(t) = exemplar.timestamp_ms else {
            return Err(AppendError::Invalid("an exemplar has no timestamp".into()));
        };
        let stored = Stored { labels: exemplar.labels.clone(), t, v: exemplar.value };
        if self.head.exemplars.check(reference, &stored)? {
            self.exemplars.push((reference, stored));
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), AppendError> {
        if self.samples.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty() {
            return Ok(());
        }
        self.log_and_store()
    }

    fn rollback(self: Box<Self>) {}
}

impl Drop for HeadAppender<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

fn exemplar_record(series: u64, stored: &Stored) -> ExemplarRecord<'_> {
    ExemplarRecord { series, t: stored.t, v: stored.v, labels: stored.labels.iter().collect() }
}

/// A histogram whose spans and buckets do not agree would be unreadable later.
fn check_histogram(histogram: &FloatHistogram) -> Result<(), AppendError> {
    let sides = [
        ("positive", &histogram.positive_spans, histogram.positive_buckets.len()),
        ("negative", &histogram.negative_spans, histogram.negative_buckets.len()),
    ];
    for (side, spans, buckets) in sides {
        let spanned: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
        if spanned != buckets as u64 {
            return Err(AppendError::Invalid(format!(
                "{side} spans need {spanned} buckets, have {buckets} buckets"
            )));
        }
        if spans.iter().skip(1).any(|span| span.offset < 0) {
            return Err(AppendError::Invalid(format!("a {side} span after the first has a negative offset")));
        }
    }
    Ok(())
}

fn to_record(series: u64, t: i64, histogram: &FloatHistogram) -> HistogramRecord {
    let spans = |spans: &[gantry_prom_model::Span]| -> Vec<Span> {
        spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect()
    };
    HistogramRecord {
        series,
        t,
        reset_hint: match histogram.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        },
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        sum: histogram.sum,
        positive_spans: spans(&histogram.positive_spans),
        negative_spans: spans(&histogram.negative_spans),
        buckets: Buckets::Float {
            zero_count: histogram.zero_count,
            count: histogram.count,
            positive: histogram.positive_buckets.clone(),
            negative: histogram.negative_buckets.clone(),
        },
        custom_bounds: histogram.custom_values.to_vec(),
    }
}

/// The histogram of a log record; integer counts become floats, bucket differences become counts.
pub fn from_record(record: HistogramRecord) -> FloatHistogram {
    let spans = |spans: Vec<Span>| -> Vec<gantry_prom_model::Span> {
        spans
            .iter()
            .map(|span| gantry_prom_model::Span { offset: span.offset, length: span.length })
            .collect()
    };
    let absolute = |differences: Vec<i64>| -> Vec<f64> {
        let counts = differences.iter().scan(0i64, |count, difference| {
            *count = count.wrapping_add(*difference);
            Some(*count as f64)
        });
        counts.collect()
    };
    let (zero_count, count, positive_buckets, negative_buckets) = match record.buckets {
        Buckets::Integer { zero_count, count, positive, negative } => {
            (zero_count as f64, count as f64, absolute(positive), absolute(negative))
        }
        Buckets::Float { zero_count, count, positive, negative } => (zero_count, count, positive, negative),
    };
    FloatHistogram {
        counter_reset_hint: match record.reset_hint {
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
        schema: record.schema,
        zero_threshold: record.zero_threshold,
        zero_count,
        count,
        sum: record.sum,
        positive_spans: spans(record.positive_spans),
        negative_spans: spans(record.negative_spans),
        positive_buckets,
        negative_buckets,
        custom_values: record.custom_bounds.into(),
    }
}
