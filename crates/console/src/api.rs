//! The JSON behind the page: `/api/snapshot`, `/api/events`, `/api/charts`.

use serde::Serialize;

use crate::Source;
use crate::model::{Chart, ChartQuery, Event, RangeQuery, SeriesData};

/// Points of one chart at most; a longer range gets a longer step.
const MOST_STEPS: i64 = 1200;
const MOST_SERIES: usize = 50;
const LEAST_STEP_MS: i64 = 1000;
/// A year: more is a mistake in the address.
const LONGEST_MS: i64 = 366 * 24 * 3600 * 1000;

/// A range as the page asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    step_ms: i64,
}

/// All charts over one time axis, column by column, as a chart library takes them.
#[derive(Serialize)]
pub(crate) struct Charts {
    times_ms: Vec<i64>,
    charts: Vec<ChartData>,
}

#[derive(Serialize)]
struct ChartData {
    id: String,
    series: Vec<Column>,
    error: Option<String>,
    /// Series left out because there were too many.
    left_out: usize,
}

#[derive(Serialize)]
struct Column {
    name: String,
    values: Vec<Option<f64>>,
}

// === impl Range ===

impl Range {
    /// From `from`, `to` and optionally `step`, all in milliseconds.
    pub(crate) fn parse(query: Option<&str>) -> Result<Range, String> {
        let number = |name: &str| {
            let text = value(query, name)?;
            Some(
                text.parse::<i64>()
                    .map_err(|_| format!("{name}: expected milliseconds since 1970, found {text:?}")),
            )
        };
        let from_ms = number("from").ok_or("from is missing: milliseconds since 1970")??;
        let to_ms = number("to").ok_or("to is missing: milliseconds since 1970")??;
        let length = to_ms.checked_sub(from_ms).filter(|length| (0..=LONGEST_MS).contains(length));
        let length = length.ok_or("to must be after from, by at most a year")?;
        if from_ms < 0 {
            return Err("from must not be before 1970".to_owned());
        }
        let wanted = number("step").transpose()?.unwrap_or(LEAST_STEP_MS).clamp(LEAST_STEP_MS, LONGEST_MS);
        let step_ms = wanted.max((length / MOST_STEPS / 1000 + 1) * 1000);
        Ok(Range { from_ms, to_ms, step_ms })
    }

    /// Multiples of the step, so that a range that moves on asks for the same moments again.
    fn times(self) -> Vec<i64> {
        let first = self.from_ms.div_euclid(self.step_ms) * self.step_ms;
        (0..).map(|n| first + n * self.step_ms).take_while(|time| *time <= self.to_ms).collect()
    }
}

pub(crate) fn events(source: &dyn Source, range: Range) -> Vec<Event> {
    source.events(range.from_ms, range.to_ms)
}

pub(crate) async fn charts(source: &dyn Source, range: Range) -> Charts {
    let times_ms = range.times();
    let mut charts = Vec::new();
    for chart in source.snapshot().charts {
        charts.push(chart_data(source, &chart, range.step_ms, &times_ms).await);
    }
    Charts { times_ms, charts }
}

async fn chart_data(source: &dyn Source, chart: &Chart, step_ms: i64, times: &[i64]) -> ChartData {
    let mut data = ChartData { id: chart.id.clone(), series: Vec::new(), error: None, left_out: 0 };
    let (Some(&from_ms), Some(&to_ms)) = (times.first(), times.last()) else { return data };
    for query in &chart.queries {
        // Four steps hold at least two samples even when one scrape is late.
        let window = format!("{}s", (step_ms * 4 / 1000).max(4));
        let expr = query.expr.replace("$window", &window);
        match source.query_range(RangeQuery { expr, from_ms, to_ms, step_ms }).await {
            Err(error) => data.error = Some(error.to_string()),
            Ok(list) => {
                for series in list {
                    if data.series.len() >= MOST_SERIES {
                        data.left_out += 1;
                        continue;
                    }
                    data.series.push(column(query, &series, times, step_ms));
                }
            }
        }
    }
    data
}

fn column(query: &ChartQuery, series: &SeriesData, times: &[i64], step_ms: i64) -> Column {
    let mut values = vec![None; times.len()];
    let first = times.first().copied().unwrap_or(0);
    for &(time, value) in &series.points {
        let index = usize::try_from((time - first + step_ms / 2).div_euclid(step_ms)).ok();
        if let Some(slot) = index.and_then(|index| values.get_mut(index)) {
            // JSON has no NaN; what is not a number is a gap.
            *slot = value.is_finite().then_some(value);
        }
    }
    Column { name: legend(&query.legend, &series.labels), values }
}

fn legend(template: &str, labels: &[(String, String)]) -> String {
    let mut name = template.to_owned();
    for (label, value) in labels {
        name = name.replace(&format!("{{{{{label}}}}}"), value);
    }
    if !template.is_empty() {
        return name;
    }
    labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(" ")
}

/// The value of `name` in a query string; numbers need no decoding.
fn value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_bounded() {
        let range = Range::parse(Some("from=1000&to=61000&step=1000")).unwrap();
        assert_eq!((range.step_ms, range.times().len()), (1000, 61));
        let day = Range::parse(Some("from=0&to=86400000")).unwrap();
        assert!(day.times().len() <= MOST_STEPS as usize + 1);
        for wrong in [
            None,
            Some("from=1"),
            Some("from=5&to=1"),
            Some("from=x&to=1"),
            Some("from=-9223372036854775808&to=9223372036854775807"),
        ] {
            assert!(Range::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn missing_and_infinite_values_are_gaps() {
        let series = SeriesData {
            labels: vec![("pod".to_owned(), "a".to_owned())],
            points: vec![(1000, 1.0), (3000, f64::NAN), (4010, 4.0), (99_000, 9.0)],
        };
        let query = ChartQuery { legend: "{{pod}} cpu".to_owned(), ..ChartQuery::default() };
        let column = column(&query, &series, &[1000, 2000, 3000, 4000], 1000);
        assert_eq!((column.name.as_str(), column.values), ("a cpu", vec![Some(1.0), None, None, Some(4.0)]));
    }
}
