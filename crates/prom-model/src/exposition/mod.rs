//! The text exposition formats: the classic one (0.0.4) and OpenMetrics 1.0, read without copying.
//!
//! [`ExpositionParser`] yields one entry at a time and accepts what Prometheus accepts. The further rules that
//! OpenMetrics sets for producers (grouping, order, histograms that add up) are [`check_open_metrics`].

mod cursor;
mod parser;
mod strict;

pub use parser::{Entry, ExpositionFormat, ExpositionParser, RawText, SampleLine};
pub use strict::check_open_metrics;

/// A text that is not of the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ExpositionError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
}

impl ExpositionError {
    pub(crate) fn at(text: &str, offset: usize, message: String) -> ExpositionError {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let column = 1 + text.get(line_start..offset).map_or(0, |start| start.chars().count());
        ExpositionError { line, column, message }
    }
}

/// Whether a metric name can stand outside braces and quotes.
pub(crate) fn is_plain_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b == b':' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b == b':' || b.is_ascii_alphanumeric())
}
