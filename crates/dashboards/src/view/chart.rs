//! A time series panel: all series on one time axis, with how each is drawn and what the legend says.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use super::{Input, Seen};
use crate::color::{self, Color};
use crate::frame::{Cell, FieldType};
use crate::json::{as_number, flag, is_set, number, str_at, strings, text};
use crate::plan::When;
use crate::reduce::{reduce, reducer_name};
use crate::scope::{Purpose, Scope};
use crate::units::Unit;

/// Moments of a chart; more cannot be seen.
const MOST_TIMES: usize = 22_000;

/// A chart over time.
#[derive(Clone, Debug, Serialize)]
pub struct Chart {
    pub from_ms: i64,
    pub to_ms: i64,
    pub times_ms: Vec<i64>,
    pub series: Vec<ChartSeries>,
    /// Series that are not shown because there are too many.
    pub left_out: usize,
    pub left: Axis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<Axis>,
    pub legend: Legend,
    /// Lines and areas of thresholds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
}

/// One series.
#[derive(Clone, Debug, Serialize)]
pub struct ChartSeries {
    pub name: String,
    pub color: Color,
    /// Parallel to the chart's times; a gap is `null`.
    pub values: Vec<Option<f64>>,
    pub unit: Unit,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u32>,
    /// `line`, `bars` or `points`.
    pub draw: &'static str,
    /// `linear`, `smooth`, `stepBefore` or `stepAfter`.
    pub shape: &'static str,
    pub width: f64,
    /// Opacity of the area below, 0 to 1.
    pub fill: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dash: Vec<f64>,
    pub points: bool,
    /// Lines go on across gaps.
    pub spans: bool,
    /// Series of the same group stand on one another; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stack: String,
    /// The group is drawn as shares of its sum.
    pub percent: bool,
    pub on_right: bool,
    pub hidden: bool,
    pub in_legend: bool,
    pub calcs: Vec<LegendValue>,
}

/// What the legend says of one series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LegendValue {
    pub text: String,
    pub value: Option<f64>,
}

/// A scale of values.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Axis {
    pub unit: Unit,
    pub decimals: Option<u32>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub soft_min: Option<f64>,
    pub soft_max: Option<f64>,
    /// Base of a logarithmic scale.
    pub log: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    pub hidden: bool,
    pub centered: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Legend {
    pub shown: bool,
    pub as_table: bool,
    pub at_right: bool,
    /// Names of the calculations, as columns.
    pub calcs: Vec<String>,
    pub sort_by: Option<String>,
    pub sort_desc: bool,
}

/// A threshold in a chart.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    pub from: Option<f64>,
    pub to: Option<f64>,
    pub color: Color,
    pub line: bool,
    pub area: bool,
}

pub(super) fn chart(input: &Input<'_>) -> Chart {
    let step_ms = input.plan.queries.iter().filter_map(|query| crate::frame::step_of(query.when)).max();
    let mut seen: Vec<Seen<'_>> = input
        .fields()
        .filter(|seen| seen.field.kind == FieldType::Number && seen.frame.time().is_some())
        .collect();
    let left_out = seen.len().saturating_sub(input.look.most_series);
    if left_out > 0 {
        // The ones that matter now: by last value.
        let last = |seen: &Seen<'_>| {
            reduce(&seen.field.cells, "lastNotNull").number().unwrap_or(f64::NEG_INFINITY).abs()
        };
        seen.sort_by(|a, b| last(b).total_cmp(&last(a)));
        seen.truncate(input.look.most_series);
    }
    let times_ms = times(input, &seen);
    let index: HashMap<i64, usize> = times_ms.iter().enumerate().map(|(index, ms)| (*ms, index)).collect();
    let legend = legend(&input.panel.options);
    let calcs = strings(&input.panel.options, "/legend/calcs");
    let mut series = Vec::with_capacity(seen.len());
    let (mut left, mut right): (Option<Axis>, Option<Axis>) = (None, None);
    for (at, seen) in seen.iter().enumerate() {
        let one = one_series(input, seen, at, &index, times_ms.len(), step_ms, &calcs);
        let axis = if one.on_right { &mut right } else { &mut left };
        if axis.is_none() {
            *axis = Some(axis_of(seen, input.scope));
        }
        series.push(one);
    }
    let limits = seen.first().map(limits).unwrap_or_default();
    let left = left
        .or_else(|| right.is_none().then(|| default_axis(input)))
        .unwrap_or(Axis { hidden: true, ..Axis::default() });
    Chart {
        from_ms: input.plan.from_ms,
        to_ms: input.plan.to_ms,
        times_ms,
        series,
        left_out,
        left,
        right,
        legend,
        limits,
    }
}

fn default_axis(input: &Input<'_>) -> Axis {
    Axis {
        unit: Unit::of(&text(&input.panel.field_defaults, "/unit").unwrap_or_default()),
        ..Axis::default()
    }
}

/// Every step of the queries, so that gaps are gaps; where queries have different steps, every moment there is.
fn times(input: &Input<'_>, seen: &[Seen<'_>]) -> Vec<i64> {
    let ranges = input.plan.queries.iter().filter_map(|query| match query.when {
        When::Range { start_ms, end_ms, step_ms } => Some((start_ms, end_ms, step_ms)),
        When::Instant { .. } => None,
    });
    let mut ranges: Vec<(i64, i64, i64)> = ranges.collect();
    ranges.dedup();
    let mut all: Vec<i64> = Vec::new();
    for (start, end, step) in ranges {
        all.extend((0..).map(|n| start + n * step).take_while(|time| *time <= end).take(MOST_TIMES));
    }
    for seen in seen {
        let cells = seen.frame.time().map(|time| time.cells.as_slice()).unwrap_or_default();
        all.extend(cells.iter().filter_map(|cell| if let Cell::Time(ms) = cell { Some(*ms) } else { None }));
    }
    all.sort_unstable();
    all.dedup();
    all.truncate(MOST_TIMES);
    all
}

fn one_series(
    input: &Input<'_>,
    seen: &Seen<'_>,
    at: usize,
    index: &HashMap<i64, usize>,
    length: usize,
    step_ms: Option<i64>,
    calcs: &[String],
) -> ChartSeries {
    let style = &seen.style;
    let custom = &style.custom;
    let sign = if style.custom_str("/transform") == Some("negative-Y") { -1.0 } else { 1.0 };
    let mut values: Vec<Option<f64>> = vec![None; length];
    let times = seen.frame.time().map(|time| time.cells.as_slice()).unwrap_or_default();
    let mut own_points: Vec<usize> = Vec::new();
    for (time, value) in times.iter().zip(seen.field.numbers()) {
        let (Cell::Time(ms), Some(value)) = (time, value) else { continue };
        if let Some(place) = index.get(ms).filter(|_| value.is_finite()) {
            values[*place] = Some(value * sign);
            own_points.push(*place);
        }
    }
    if step_ms.is_some() && own_points.len() * 2 < length {
        bridge(&mut values, &own_points, times, index);
    }
    if style.custom_flag("/nullsAreZero") {
        values.iter_mut().filter(|value| value.is_none()).for_each(|value| *value = Some(0.0));
    }
    let cells: Vec<Cell> = seen
        .field
        .cells
        .iter()
        .map(|cell| match cell {
            Cell::Number(value) => Cell::Number(value * sign),
            other => other.clone(),
        })
        .collect();
    let calcs = calcs.iter().map(|calc| {
        let cell = reduce(&cells, calc);
        let shown = style.show(&cell, input.scope.locale, (0.0, 0.0));
        LegendValue { text: shown.written.joined(), value: cell.number() }
    });
    let draw = match style.custom_str("/drawStyle") {
        Some("bars") => "bars",
        Some("points") => "points",
        _ => "line",
    };
    let stack_mode = style.custom_str("/stacking/mode").unwrap_or("none");
    let color = series_color(style, at, &cells, &seen.name).visible_on(input.look.theme.ground());
    ChartSeries {
        name: seen.name.clone(),
        color,
        unit: style.unit.clone(),
        decimals: style.decimals,
        shape: match style.custom_str("/lineInterpolation") {
            Some("smooth") => "smooth",
            Some("stepBefore") => "stepBefore",
            Some("stepAfter") => "stepAfter",
            _ => "linear",
        },
        width: number(custom, "/lineWidth").unwrap_or(1.0).clamp(0.0, 10.0),
        fill: number(custom, "/fillOpacity")
            .unwrap_or(if draw == "bars" { 100.0 } else { 0.0 })
            .clamp(0.0, 100.0)
            / 100.0,
        dash: match str_at(custom, "/lineStyle/fill") {
            Some("dash") => {
                let given: Vec<f64> = crate::json::list(custom, "/lineStyle/dash")
                    .iter()
                    .filter_map(as_number)
                    .take(8)
                    .collect();
                if given.is_empty() { vec![8.0, 6.0] } else { given }
            }
            Some("dot") => vec![1.0, 4.0],
            _ => Vec::new(),
        },
        points: draw == "points"
            || style.custom_str("/showPoints") == Some("always")
            || own_points.len() == 1,
        spans: custom
            .pointer("/spanNulls")
            .is_some_and(|spans| spans == &Value::Bool(true) || spans.is_number()),
        stack: match stack_mode {
            "normal" | "percent" => text(custom, "/stacking/group")
                .filter(|group| !group.is_empty())
                .unwrap_or_else(|| "A".to_owned()),
            _ => String::new(),
        },
        percent: stack_mode == "percent",
        on_right: style.custom_str("/axisPlacement") == Some("right"),
        hidden: is_set(custom, "/hideFrom/viz"),
        in_legend: !is_set(custom, "/hideFrom/legend"),
        draw,
        calcs: calcs.collect(),
        values,
    }
}

/// Joins points whose own distance is larger than the chart's: they are no gaps.
fn bridge(values: &mut [Option<f64>], own: &[usize], times: &[Cell], index: &HashMap<i64, usize>) {
    let distances = times.windows(2).filter_map(|pair| match pair {
        [Cell::Time(a), Cell::Time(b)] => Some(index.get(b)?.checked_sub(*index.get(a)?)?),
        _ => None,
    });
    let Some(usual) = distances.filter(|distance| *distance > 0).min() else { return };
    for pair in own.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (Some(a), Some(b)) = (values[from], values[to]) else { continue };
        if to - from > 1 && to - from <= usual + usual / 2 {
            for (step, value) in values[from + 1..to].iter_mut().enumerate() {
                let share = (step + 1) as f64 / (to - from) as f64;
                *value = Some(a + (b - a) * share);
            }
        }
    }
}

fn series_color(style: &crate::style::FieldStyle, at: usize, cells: &[Cell], name: &str) -> Color {
    let by_value = || {
        let last = reduce(cells, "lastNotNull").number();
        style.color_of(last, None)
    };
    match style.color_mode.as_str() {
        "fixed" | "shades" => style.fixed_color.unwrap_or_else(|| color::of_series(at, "")),
        "palette-classic-by-name" => color::of_name(name),
        "thresholds" => by_value().unwrap_or_else(|| color::of_series(at, "")),
        mode if mode.starts_with("continuous") => by_value().unwrap_or_else(|| color::of_series(at, mode)),
        mode => color::of_series(at, mode),
    }
}

fn axis_of(seen: &Seen<'_>, scope: &Scope) -> Axis {
    let style = &seen.style;
    Axis {
        unit: style.unit.clone(),
        decimals: style.decimals,
        min: style.min,
        max: style.max,
        soft_min: style.custom_number("/axisSoftMin"),
        soft_max: style.custom_number("/axisSoftMax"),
        log: (style.custom_str("/scaleDistribution/type") == Some("log"))
            .then(|| style.custom_number("/scaleDistribution/log").unwrap_or(2.0).max(2.0)),
        label: scope.expand(style.custom_str("/axisLabel").unwrap_or_default(), None, Purpose::Text),
        hidden: style.custom_str("/axisPlacement") == Some("hidden"),
        centered: style.custom_flag("/axisCenteredZero"),
    }
}

fn legend(options: &Value) -> Legend {
    Legend {
        shown: flag(options, "/legend/showLegend").unwrap_or(true),
        as_table: str_at(options, "/legend/displayMode") == Some("table")
            || is_set(options, "/legend/asTable"),
        at_right: str_at(options, "/legend/placement") == Some("right"),
        calcs: strings(options, "/legend/calcs").iter().map(|calc| reducer_name(calc).to_owned()).collect(),
        sort_by: text(options, "/legend/sortBy"),
        sort_desc: is_set(options, "/legend/sortDesc"),
    }
}

fn limits(seen: &Seen<'_>) -> Vec<Limit> {
    let mode = seen.style.custom_str("/thresholdsStyle/mode").unwrap_or("off");
    if mode == "off" || seen.style.thresholds.is_percent {
        return Vec::new();
    }
    let (line, area) = (mode.contains("line") || mode == "dashed", mode.contains("area"));
    let steps = &seen.style.thresholds.steps;
    let one = |(at, (from, color)): (usize, &(f64, Color))| Limit {
        from: from.is_finite().then_some(*from),
        to: steps.get(at + 1).map(|(to, _)| *to),
        color: *color,
        line,
        area,
    };
    steps.iter().enumerate().filter(|(_, (_, color))| color.a > 0).map(one).collect()
}
