//! One series over all steps of a query, in a column.

use gantry_prom_model::{FloatHistogram, Labels, STALE_NAN_BITS, is_stale_nan};
use std::sync::Arc;

/// What a column holds at a step without a value. Stale markers end a series, so they are never a value; any
/// arithmetic on one gives an ordinary NaN, so it must be checked for first.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

pub(crate) fn is_absent(value: f64) -> bool {
    is_stale_nan(value)
}

/// A value at one step.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Absent,
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Cell {
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Cell::Absent)
    }
}

/// One column per kind of value, one entry per step.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// Whether `__name__` is to be removed at the end of the query.
    pub(crate) drop_name: bool,
    pub(crate) values: Vec<f64>,
    /// `None` as long as there is no histogram.
    pub(crate) histograms: Option<Vec<Option<Arc<FloatHistogram>>>>,
}

impl Series {
    pub(crate) fn absent(labels: Labels, steps: usize) -> Series {
        Series { labels, drop_name: false, values: vec![ABSENT; steps], histograms: None }
    }

    pub(crate) fn cell(&self, step: usize) -> Cell {
        let value = self.values[step];
        if !is_absent(value) {
            return Cell::Float(value);
        }
        match self.histogram(step) {
            Some(histogram) => Cell::Histogram(Arc::clone(histogram)),
            None => Cell::Absent,
        }
    }

    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        self.histograms.as_ref()?.get(step)?.as_ref()
    }

    pub(crate) fn is_present(&self, step: usize) -> bool {
        !is_absent(self.values[step]) || self.histogram(step).is_some()
    }

    pub(crate) fn set(&mut self, step: usize, cell: Cell) {
        match cell {
            Cell::Absent => self.clear(step),
            Cell::Float(value) => {
                self.values[step] = value;
                if let Some(histograms) = &mut self.histograms {
                    histograms[step] = None;
                }
            }
            Cell::Histogram(histogram) => {
                self.values[step] = ABSENT;
                let steps = self.values.len();
                self.histograms.get_or_insert_with(|| vec![None; steps])[step] = Some(histogram);
            }
        }
    }

    pub(crate) fn clear(&mut self, step: usize) {
        self.values[step] = ABSENT;
        if let Some(histograms) = &mut self.histograms {
            histograms[step] = None;
        }
    }

    /// Whether no step has a value.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.iter().all(|value| is_absent(*value)) && !self.has_histograms()
    }

    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.as_ref().is_some_and(|histograms| histograms.iter().any(Option::is_some))
    }

    /// Samples held, a histogram counting by its size.
    pub(crate) fn sample_count(&self) -> usize {
        let floats = self.values.iter().filter(|value| !is_absent(**value)).count();
        let histograms = self.histograms.iter().flatten().flatten();
        floats + histograms.map(|histogram| histogram.size_bytes() / 16).sum::<usize>()
    }

    /// Bytes held.
    pub(crate) fn byte_count(&self) -> usize {
        let histograms = self.histograms.iter().flatten().flatten();
        size_of::<Series>()
            + self.labels.encoded_len()
            + 8 * self.values.len()
            + self.histograms.as_ref().map_or(0, |column| 8 * column.len())
            + histograms.map(|histogram| histogram.size_bytes()).sum::<usize>()
    }

    /// Applies a function to each float and removes the histograms.
    pub(crate) fn map_floats(&mut self, function: impl Fn(f64) -> f64) {
        for value in &mut self.values {
            if !is_absent(*value) {
                *value = function(*value);
            }
        }
        self.histograms = None;
    }
}
