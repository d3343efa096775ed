//! Classic histograms as native ones with custom bounds.

use gantry_prom_model::{
    BUCKET_LABEL, CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Labels, METRIC_NAME, SampleBuffer, Span, parse_float,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the series of one classic histogram say at one time.
#[derive(Default)]
struct Classic {
    /// Upper bound and cumulative count.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn convert(mut self) -> FloatHistogram {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total = self.count.or(self.buckets.last().map(|(_, count)| *count)).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, total));
        }
        let mut previous = 0.0;
        let mut counts = Vec::with_capacity(self.buckets.len());
        for (_, cumulative) in &self.buckets {
            counts.push(cumulative - previous);
            previous = *cumulative;
        }
        let bounds: Vec<f64> =
            self.buckets.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect();
        let mut histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: total,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts,
            custom_values: Arc::from(bounds),
            ..FloatHistogram::default()
        };
        histogram.compact();
        histogram
    }
}

/// The native histograms that the classic ones among these series amount to.
pub(super) fn convert_classic<'a>(
    series: impl Iterator<Item = (&'a Labels, &'a SampleBuffer)>,
) -> Vec<(Labels, SampleBuffer)> {
    let mut histograms: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for (labels, samples) in series {
        let Some(name) = labels.metric_name() else { continue };
        let (base, part) = match name.rsplit_once('_') {
            Some((base, part @ ("bucket" | "count" | "sum"))) => (base, part),
            _ => continue,
        };
        let bound = labels.get(BUCKET_LABEL).and_then(parse_float);
        if part == "bucket" && bound.is_none() {
            continue;
        }
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, base).remove(BUCKET_LABEL);
        let times = histograms.entry(builder.build()).or_default();
        for (time, value) in samples.timestamps.iter().zip(&samples.values) {
            let classic = times.entry(*time).or_default();
            match (part, bound) {
                ("count", _) => classic.count = Some(*value),
                ("sum", _) => classic.sum = *value,
                (_, Some(bound)) => classic.buckets.push((bound, *value)),
                _ => {}
            }
        }
    }
    let mut converted = Vec::new();
    for (labels, times) in histograms {
        let mut samples = SampleBuffer::default();
        for (time, classic) in times {
            if !classic.buckets.is_empty() || classic.count.is_some() {
                samples.push_histogram(time, Arc::new(classic.convert()));
            }
        }
        // Counts and sums without buckets belong to summaries.
        converted.push((labels, samples));
    }
    converted
}
