//! Series of unit tests in the notation of test scripts, written as time passes.

use super::items::{Item, parse_items, parse_metric, split_series, take_histogram};
use gantry_prom_model::{AppendError, Appendable, FloatHistogram, Labels};

/// A series and its samples, some of which are written already.
#[derive(Debug, Clone)]
pub struct InputSeries {
    labels: Labels,
    items: Vec<Item>,
    next: usize,
}

impl InputSeries {
    /// Reads `series` such as `up{job="api"}` and `values` such as `0+1x10 _ stale`.
    ///
    /// # Errors
    /// What is not of the notation.
    pub fn parse(series: &str, values: &str) -> Result<InputSeries, String> {
        let (labels, rest) = split_series(series.trim())?;
        if !rest.is_empty() {
            return Err(format!("unexpected {rest:?} after series {series:?}"));
        }
        Ok(InputSeries { labels, items: parse_items(values)?, next: 0 })
    }

    /// Writes the samples that are due at `until_ms`; the first one is of `start_ms`, each `step_ms` after the one before.
    ///
    /// # Errors
    /// When the storage does not take one.
    pub fn write_until(
        &mut self,
        storage: &dyn Appendable,
        (start_ms, step_ms): (i64, i64),
        until_ms: i64,
    ) -> Result<(), AppendError> {
        let mut appender = storage.appender();
        while let Some(item) = self.items.get(self.next) {
            let time =
                i64::try_from(self.next).unwrap_or(i64::MAX).saturating_mul(step_ms).saturating_add(start_ms);
            if time > until_ms {
                break;
            }
            match item {
                Item::Gap => {}
                Item::Float(value) => {
                    appender.append(None, &self.labels, time, *value)?;
                }
                Item::Histogram(histogram) => {
                    appender.append_histogram(None, &self.labels, time, histogram)?;
                }
            }
            self.next += 1;
            // Later samples are checked against the ones that are stored.
            appender.commit()?;
            appender = storage.appender();
        }
        appender.commit()
    }
}

/// Reads `{{schema:0 count:1 …}}`.
///
/// # Errors
/// What is not of the notation.
pub fn parse_histogram_description(text: &str) -> Result<FloatHistogram, String> {
    let (histogram, rest) = take_histogram(text.trim())?;
    if rest.is_empty() { Ok(histogram) } else { Err(format!("unexpected {rest:?} after a histogram")) }
}

/// Reads `up{job="api"}` or `{job="api"}`; an empty text is no labels.
///
/// # Errors
/// What is not of the notation.
pub fn parse_series_labels(text: &str) -> Result<Labels, String> {
    parse_metric(text.trim())
}
