//! Labels, matchers, samples, exposition formats, and the instruments every room counts with.
//!
//! No I/O and no clock: what is read is a `&str`, what is written is a `String`, times are arguments.
#![forbid(unsafe_code)]

mod append;
mod encode;
mod exposition;
mod family;
mod float_text;
mod gather;
mod go_regex;
mod histogram;
mod instruments;
mod labels;
mod matcher;
mod query;
mod sample;

pub use append::{AppendError, Appendable, Appender, SeriesRef};
pub use encode::{encode_open_metrics, encode_text};
pub use exposition::{
    Entry, ExpositionError, ExpositionFormat, ExpositionParser, RawText, SampleLine, check_open_metrics,
};
pub use family::{
    Bucket, FamilySample, HistogramValue, Metadata, Metric, MetricFamily, MetricKind, MetricValue, Quantile,
    SampleVisitor, SummaryValue,
};
pub use float_text::{format_float, format_float_plain, format_open_metrics_float, parse_float, write_float};
pub use gather::Gather;
pub use go_regex::{compile_go_regex, compile_go_regex_search};
pub use histogram::{
    CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, HistogramBucket, HistogramError, HistogramSum,
    Reconciled, Span, is_exponential_schema,
};
pub use instruments::{
    Counter, CounterVec, DEFAULT_BUCKETS, Gauge, GaugeVec, Histogram, HistogramVec, Registry, RegistryError,
    exponential_buckets, linear_buckets,
};
pub use labels::{BUCKET_LABEL, Labels, LabelsBuilder, METRIC_NAME, QUANTILE_LABEL};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use query::{Querier, Queryable, SampleBuffer, SelectHints, SeriesSet, StorageError};
pub use sample::{Exemplar, STALE_NAN_BITS, Sample, is_stale_nan, stale_nan, write_quoted};
