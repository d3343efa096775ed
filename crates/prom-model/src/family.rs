//! Metric families: what an instrument registry gathers and the exposition formats carry.

use crate::{Exemplar, FloatHistogram, Labels, LabelsBuilder, METRIC_NAME};
use std::fmt;
use std::sync::Arc;

/// The type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    #[default]
    Unknown,
}

impl MetricKind {
    /// The word of OpenMetrics and of the metadata API.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
            MetricKind::Unknown => "unknown",
        }
    }

    /// Reads the word of either text format (`untyped` is the classic one's `unknown`).
    pub fn parse(word: &str) -> Option<MetricKind> {
        Some(match word {
            "counter" => MetricKind::Counter,
            "gauge" => MetricKind::Gauge,
            "histogram" => MetricKind::Histogram,
            "gaugehistogram" => MetricKind::GaugeHistogram,
            "summary" => MetricKind::Summary,
            "info" => MetricKind::Info,
            "stateset" => MetricKind::StateSet,
            "unknown" | "untyped" => MetricKind::Unknown,
            _ => return None,
        })
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a metric apart from its values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

/// All metrics of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricFamily {
    /// The name as the classic format writes it; a counter's ends in `_total`.
    pub name: Arc<str>,
    pub help: Arc<str>,
    pub unit: Arc<str>,
    pub kind: MetricKind,
    pub metrics: Vec<Metric>,
}

/// One label set of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Without `__name__`, `le` and `quantile`.
    pub labels: Labels,
    pub value: MetricValue,
    pub timestamp_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    Counter { value: f64, exemplar: Option<Exemplar> },
    Gauge(f64),
    Histogram(HistogramValue),
    Summary(SummaryValue),
    Native(Arc<FloatHistogram>),
    Unknown(f64),
}

/// A classic histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramValue {
    /// By rising bound; the `+Inf` bucket may be left out, it is the count.
    pub buckets: Vec<Bucket>,
    pub count: u64,
    pub sum: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    pub upper_bound: f64,
    /// Observations at or below the bound.
    pub cumulative_count: u64,
    pub exemplar: Option<Exemplar>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SummaryValue {
    pub quantiles: Vec<Quantile>,
    pub count: u64,
    pub sum: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantile {
    pub quantile: f64,
    pub value: f64,
}

/// One sample of a family as a series has it.
#[derive(Debug, Clone, PartialEq)]
pub enum FamilySample<'a> {
    Float(f64),
    Native(&'a Arc<FloatHistogram>),
}

/// Takes a series' labels, its value, its timestamp if it has one, and its exemplar.
pub type SampleVisitor<'v> = &'v mut dyn FnMut(&Labels, FamilySample<'_>, Option<i64>, Option<&Exemplar>);

impl MetricFamily {
    /// Calls `visit` for each series of the family with its complete labels (`__name__`, `le`, `quantile`
    /// included), its value, its timestamp if it has one, and its exemplar.
    ///
    /// `scratch` is only there to save allocations between calls.
    pub fn visit_samples(&self, scratch: &mut LabelsBuilder, visit: SampleVisitor<'_>) {
        let mut series = |labels: &Labels, suffix: &str, extra: Option<(&str, &str)>| {
            scratch.clear();
            for (name, value) in labels {
                scratch.set(name, value);
            }
            if suffix.is_empty() {
                scratch.set(METRIC_NAME, &self.name);
            } else {
                scratch.set(METRIC_NAME, &format!("{}{suffix}", self.name));
            }
            if let Some((name, value)) = extra {
                scratch.set(name, value);
            }
            scratch.build()
        };
        for metric in &self.metrics {
            let time = metric.timestamp_ms;
            let labels = &metric.labels;
            match &metric.value {
                MetricValue::Counter { value, exemplar } => {
                    visit(&series(labels, "", None), FamilySample::Float(*value), time, exemplar.as_ref());
                }
                MetricValue::Gauge(value) | MetricValue::Unknown(value) => {
                    visit(&series(labels, "", None), FamilySample::Float(*value), time, None);
                }
                MetricValue::Native(histogram) => {
                    visit(&series(labels, "", None), FamilySample::Native(histogram), time, None);
                }
                MetricValue::Histogram(histogram) => {
                    for bucket in &histogram.buckets {
                        let bound = crate::format_open_metrics_float(bucket.upper_bound);
                        let bucket_labels = series(labels, "_bucket", Some((crate::BUCKET_LABEL, &bound)));
                        let count = FamilySample::Float(bucket.cumulative_count as f64);
                        visit(&bucket_labels, count, time, bucket.exemplar.as_ref());
                    }
                    let count = FamilySample::Float(histogram.count as f64);
                    if histogram.buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
                        let bucket_labels = series(labels, "_bucket", Some((crate::BUCKET_LABEL, "+Inf")));
                        visit(&bucket_labels, count.clone(), time, None);
                    }
                    visit(&series(labels, "_sum", None), FamilySample::Float(histogram.sum), time, None);
                    visit(&series(labels, "_count", None), count, time, None);
                }
                MetricValue::Summary(summary) => {
                    for quantile in &summary.quantiles {
                        let text = crate::format_open_metrics_float(quantile.quantile);
                        let quantile_labels = series(labels, "", Some((crate::QUANTILE_LABEL, &text)));
                        visit(&quantile_labels, FamilySample::Float(quantile.value), time, None);
                    }
                    visit(&series(labels, "_sum", None), FamilySample::Float(summary.sum), time, None);
                    let count = FamilySample::Float(summary.count as f64);
                    visit(&series(labels, "_count", None), count, time, None);
                }
            }
        }
    }
}
