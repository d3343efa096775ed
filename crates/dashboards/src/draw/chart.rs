//! Time series and heat maps: axes, lines, areas, bars, legend.

use std::collections::HashMap;

use super::ticks::{Scale, time_marks};
use super::{Anchor, Area, Pen, Point};
use crate::view::{Axis, Chart, ChartSeries, Heatmap};

const TEXT: f32 = 11.0;
const LINE: f32 = 17.0;

/// The lower and upper edge of a series, with those it stands on below.
pub(crate) struct Edges {
    pub(crate) low: Vec<f64>,
    pub(crate) high: Vec<Option<f64>>,
}

/// Puts series of one group on one another; positive and negative ones grow apart.
pub(crate) fn stacked(chart: &Chart) -> Vec<Edges> {
    let length = chart.times_ms.len();
    let mut sums: HashMap<(&str, bool, bool), Vec<f64>> = HashMap::new();
    let mut totals: HashMap<(&str, bool), Vec<f64>> = HashMap::new();
    let visible = |one: &&ChartSeries| !one.hidden && !one.stack.is_empty();
    for one in chart.series.iter().filter(visible).filter(|one| one.percent) {
        let total = totals.entry((&one.stack, one.on_right)).or_insert_with(|| vec![0.0; length]);
        one.values.iter().zip(total).for_each(|(value, total)| *total += value.unwrap_or(0.0).abs());
    }
    let mut out = Vec::with_capacity(chart.series.len());
    for one in &chart.series {
        if one.stack.is_empty() || one.hidden {
            out.push(Edges { low: vec![0.0; length], high: one.values.clone() });
            continue;
        }
        let is_negative = one.values.iter().flatten().any(|value| *value < 0.0);
        let total = totals.get(&(one.stack.as_str(), one.on_right)).filter(|_| one.percent);
        let key = (one.stack.as_str(), one.on_right, is_negative);
        let sum = sums.entry(key).or_insert_with(|| vec![0.0; length]);
        let mut edges = Edges { low: Vec::with_capacity(length), high: Vec::with_capacity(length) };
        for (at, value) in one.values.iter().enumerate() {
            let whole = total.map_or(1.0, |total| if total[at] > 0.0 { total[at] } else { 1.0 });
            edges.low.push(sum[at]);
            // A gap in one series does not let those above it fall.
            edges.high.push(value.map(|value| {
                sum[at] += value / whole;
                sum[at]
            }));
        }
        out.push(edges);
    }
    out
}

fn bounds(chart: &Chart, edges: &[Edges], on_right: bool) -> (f64, f64) {
    let mut range = (f64::INFINITY, f64::NEG_INFINITY);
    let mut add = |value: f64| range = (range.0.min(value), range.1.max(value));
    for (one, edges) in
        chart.series.iter().zip(edges).filter(|(one, _)| one.on_right == on_right && !one.hidden)
    {
        edges.high.iter().flatten().for_each(|value| add(*value));
        if !one.stack.is_empty() || one.draw == "bars" {
            add(0.0);
        }
    }
    range
}

pub(super) fn chart(pen: &mut Pen, chart: &Chart, area: Area) {
    let area = legend(pen, chart, area);
    let edges = stacked(chart);
    let marks = ((area.h / 40.0) as usize).clamp(2, 8);
    let percent = chart.series.iter().any(|one| one.percent);
    let unit_of = |axis: &Axis| {
        if percent { Axis { unit: crate::units::Unit::PercentUnit, ..axis.clone() } } else { axis.clone() }
    };
    let (low, high) = bounds(chart, &edges, false);
    let left = Scale::new(&unit_of(&chart.left), low, high, marks, pen.locale);
    let right = chart.right.as_ref().map(|axis| {
        let (low, high) = bounds(chart, &edges, true);
        Scale::new(&unit_of(axis), low, high, marks, pen.locale)
    });
    let room = |scale: &Scale, pen: &Pen| {
        scale.marks.iter().map(|(_, text)| pen.width(text, TEXT)).fold(0.0f32, f32::max) + 8.0
    };
    let left_room = if chart.left.hidden { 4.0 } else { room(&left, pen) };
    let right_room = right.as_ref().map_or(8.0, |scale| room(scale, pen));
    let plot = Area {
        x: area.x + left_room,
        y: area.y + 6.0,
        w: (area.w - left_room - right_room).max(10.0),
        h: (area.h - 28.0).max(10.0),
    };
    axes(pen, chart, plot, &left, right.as_ref());
    if chart.series.is_empty() {
        pen.centered("No data", plot);
    }
    let bars = chart
        .series
        .iter()
        .filter(|one| one.draw == "bars" && one.stack.is_empty() && !one.hidden)
        .count()
        .max(1);
    let mut bar = 0;
    // Stacked areas from the top down, so that the lines of lower ones stay visible.
    for (one, edges) in chart.series.iter().zip(&edges).rev().filter(|(one, _)| !one.hidden) {
        let scale = if one.on_right { right.as_ref().unwrap_or(&left) } else { &left };
        if one.draw == "bars" {
            let place = if one.stack.is_empty() {
                bar += 1;
                (bars - bar, bars)
            } else {
                (0, 1)
            };
            draw_bars(pen, chart, one, edges, plot, scale, place);
        } else {
            draw_line(pen, chart, one, edges, plot, scale);
        }
    }
}

fn axes(pen: &mut Pen, chart: &Chart, plot: Area, left: &Scale, right: Option<&Scale>) {
    let (grid, dim) = (pen.theme.grid(), pen.theme.dim());
    let y = |scale: &Scale, value: f64| plot.y + plot.h * (1.0 - scale.share(value));
    for limit in chart.limits.iter().filter(|limit| limit.area) {
        let top = y(left, limit.to.unwrap_or(left.max).min(left.max));
        let bottom = y(left, limit.from.unwrap_or(left.min).max(left.min));
        pen.rect(plot.x, top, plot.w, bottom - top, limit.color.with_alpha(0.12));
    }
    for (mark, text) in &left.marks {
        let y = y(left, *mark);
        pen.line(vec![(plot.x, y), (plot.x + plot.w, y)], 1.0, grid, Vec::new());
        if !chart.left.hidden {
            pen.text(plot.x - 6.0, y + 4.0, text, TEXT, dim, Anchor::End, false, 200.0);
        }
    }
    for (mark, text) in right.map_or(&[][..], |scale| &scale.marks) {
        let y = right.map_or(0.0, |scale| y(scale, *mark));
        pen.text(plot.x + plot.w + 6.0, y + 4.0, text, TEXT, dim, Anchor::Start, false, 200.0);
    }
    time_axis(pen, chart.from_ms, chart.to_ms, plot);
    for limit in chart.limits.iter().filter(|limit| limit.line) {
        if let Some(from) = limit.from.filter(|from| (left.min..=left.max).contains(from)) {
            let y = y(left, from);
            pen.line(vec![(plot.x, y), (plot.x + plot.w, y)], 1.5, limit.color, vec![6.0, 4.0]);
        }
    }
}

fn time_axis(pen: &mut Pen, from_ms: i64, to_ms: i64, plot: Area) {
    let (grid, dim) = (pen.theme.grid(), pen.theme.dim());
    let count = ((plot.w / 90.0) as usize).clamp(1, 20);
    for (ms, text) in time_marks(from_ms, to_ms, count, pen.locale) {
        let x = x_of(ms, from_ms, to_ms, plot);
        pen.line(vec![(x, plot.y), (x, plot.y + plot.h)], 1.0, grid, Vec::new());
        let half = pen.width(&text, TEXT) / 2.0;
        if x - half > plot.x - 20.0 && x + half < plot.x + plot.w + 10.0 {
            pen.text(x, plot.y + plot.h + 15.0, &text, TEXT, dim, Anchor::Middle, false, 200.0);
        }
    }
}

fn x_of(ms: i64, from_ms: i64, to_ms: i64, plot: Area) -> f32 {
    let share = (ms - from_ms) as f64 / (to_ms - from_ms).max(1) as f64;
    plot.x + plot.w * share.clamp(-0.1, 1.1) as f32
}

fn draw_line(pen: &mut Pen, chart: &Chart, one: &ChartSeries, edges: &Edges, plot: Area, scale: &Scale) {
    let x =
        |at: usize| x_of(chart.times_ms[at], chart.from_ms, chart.to_ms, plot).clamp(plot.x, plot.x + plot.w);
    let y = |value: f64| {
        (plot.y + plot.h * (1.0 - scale.share(value))).clamp(plot.y - 1.0, plot.y + plot.h + 1.0)
    };
    let zero = 0f64.clamp(scale.min, scale.max);
    let mut runs: Vec<Vec<usize>> = vec![Vec::new()];
    for (at, value) in edges.high.iter().enumerate() {
        match value {
            Some(_) => runs.last_mut().expect("never empty").push(at),
            None if !one.spans => runs.push(Vec::new()),
            None => {}
        }
    }
    for run in runs.iter().filter(|run| !run.is_empty()) {
        let top: Vec<Point> = run.iter().map(|at| (x(*at), y(edges.high[*at].unwrap_or(0.0)))).collect();
        let top = shaped(&top, one.shape);
        if one.fill > 0.0 && one.draw == "line" {
            let base = |at: &usize| if one.stack.is_empty() { zero } else { edges.low[*at] };
            let bottom: Vec<Point> = run.iter().map(|at| (x(*at), y(base(at)))).collect();
            let mut points = top.clone();
            points.extend(shaped(&bottom, one.shape).into_iter().rev());
            pen.area(points, one.color.with_alpha(one.fill * 0.9));
        }
        if one.points || run.len() == 1 {
            for at in run {
                let (x, y) = (x(*at), y(edges.high[*at].unwrap_or(0.0)));
                pen.area(circle(x, y, 2.5), one.color);
            }
        }
        if one.draw == "line" {
            let dash = one.dash.iter().map(|part| *part as f32).collect();
            pen.line(top, one.width as f32, one.color, dash);
        }
    }
}

/// Steps, or a curve through the points.
fn shaped(points: &[Point], shape: &str) -> Vec<Point> {
    let mut out = Vec::with_capacity(points.len() * 2);
    for pair in points.windows(2) {
        let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
        out.push((x1, y1));
        match shape {
            "stepAfter" => out.push((x2, y1)),
            "stepBefore" => out.push((x1, y2)),
            "smooth" if x2 - x1 > 3.0 => {
                // Flat where it meets the points: never above or below them.
                out.extend(
                    (1..6)
                        .map(|n| n as f32 / 6.0)
                        .map(|t| (x1 + (x2 - x1) * t, y1 + (y2 - y1) * t * t * (3.0 - 2.0 * t))),
                );
            }
            _ => {}
        }
    }
    out.extend(points.last());
    out
}

fn draw_bars(
    pen: &mut Pen,
    chart: &Chart,
    one: &ChartSeries,
    edges: &Edges,
    plot: Area,
    scale: &Scale,
    (place, of): (usize, usize),
) {
    let step = chart.times_ms.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(1).max(1);
    let slot = plot.w * (step as f64 / (chart.to_ms - chart.from_ms).max(1) as f64) as f32;
    let width = (slot * 0.8 / of as f32).max(1.0);
    let y = |value: f64| plot.y + plot.h * (1.0 - scale.share(value).clamp(0.0, 1.0));
    for (at, value) in edges.high.iter().enumerate() {
        let Some(value) = value else { continue };
        let center = x_of(chart.times_ms[at], chart.from_ms, chart.to_ms, plot);
        let x = (center - slot * 0.4 + width * place as f32).max(plot.x);
        let low = if one.stack.is_empty() { 0f64.clamp(scale.min, scale.max) } else { edges.low[at] };
        let (a, b) = (y(*value), y(low));
        pen.rect(
            x,
            a.min(b),
            width.min(plot.x + plot.w - x),
            (a - b).abs(),
            one.color.with_alpha(one.fill.max(0.15)),
        );
    }
}

pub(super) fn circle(x: f32, y: f32, radius: f32) -> Vec<Point> {
    let at = |n: u32| {
        let angle = n as f32 / 16.0 * std::f32::consts::TAU;
        (x + radius * angle.cos(), y + radius * angle.sin())
    };
    (0..16).map(at).collect()
}

/// Draws the legend and gives what is left for the chart.
fn legend(pen: &mut Pen, chart: &Chart, area: Area) -> Area {
    let entries: Vec<&ChartSeries> = chart.series.iter().filter(|one| one.in_legend).collect();
    if !chart.legend.shown || entries.is_empty() || area.h < 90.0 {
        return area;
    }
    let (ink, dim) = (pen.theme.ink(), pen.theme.dim());
    let with_table = chart.legend.as_table && !chart.legend.calcs.is_empty();
    let column = 64.0;
    let columns = if with_table { chart.legend.calcs.len() as f32 * column } else { 0.0 };
    let longest = entries.iter().map(|one| pen.width(&one.name, TEXT)).fold(40.0f32, f32::max) + 22.0;
    if chart.legend.as_table || chart.legend.at_right {
        let own = if chart.legend.at_right {
            let width = (longest + columns).min(area.w * 0.5);
            Area { x: area.x + area.w - width, w: width, ..area }
        } else {
            let lines = entries.len() as f32 + f32::from(u8::from(with_table));
            let height = (lines * LINE + 4.0).min(area.h * 0.42);
            Area { y: area.y + area.h - height, h: height, ..area }
        };
        let mut y = own.y + 12.0;
        let calc_x = |n: usize| own.x + own.w - columns + (n as f32 + 1.0) * column - 4.0;
        if with_table {
            for (n, calc) in chart.legend.calcs.iter().enumerate() {
                pen.text(calc_x(n), y, calc, TEXT, dim, Anchor::End, false, column - 6.0);
            }
            y += LINE;
        }
        let fits = (((own.y + own.h - y) / LINE) as usize + 1).min(entries.len());
        for (n, one) in entries.iter().enumerate().take(fits) {
            if n + 1 == fits && fits < entries.len() {
                pen.text(
                    own.x + 18.0,
                    y,
                    &format!("… {} more", entries.len() - n),
                    TEXT,
                    dim,
                    Anchor::Start,
                    false,
                    own.w,
                );
                break;
            }
            pen.rect(own.x + 2.0, y - 5.0, 12.0, 3.0, one.color);
            pen.text(own.x + 18.0, y, &one.name, TEXT, ink, Anchor::Start, false, own.w - columns - 20.0);
            if with_table {
                for (n, calc) in one.calcs.iter().enumerate() {
                    pen.text(calc_x(n), y, &calc.text, TEXT, ink, Anchor::End, false, column - 4.0);
                }
            }
            y += LINE;
        }
        return if chart.legend.at_right {
            Area { w: (area.w - own.w - 12.0).max(40.0), ..area }
        } else {
            Area { h: area.h - own.h - 4.0, ..area }
        };
    }
    let text_of = |one: &ChartSeries| match one.calcs.first() {
        Some(_) => {
            let calcs = chart
                .legend
                .calcs
                .iter()
                .zip(&one.calcs)
                .map(|(name, value)| format!("{name}: {}", value.text));
            format!("{}  {}", one.name, calcs.collect::<Vec<_>>().join("  "))
        }
        None => one.name.clone(),
    };
    let (mut x, mut line) = (area.x, 0);
    let most_lines = ((area.h * 0.3 / LINE) as usize).max(1);
    let mut placed = Vec::new();
    for one in &entries {
        let text = text_of(one);
        let width = (pen.width(&text, TEXT) + 34.0).min(area.w);
        if x + width > area.x + area.w + 16.0 && x > area.x {
            (x, line) = (area.x, line + 1);
        }
        if line >= most_lines {
            break;
        }
        placed.push((x, line, text, one.color));
        x += width;
    }
    let lines = placed.last().map_or(0, |(_, line, _, _)| line + 1);
    let top = area.y + area.h - lines as f32 * LINE;
    for (x, line, text, color) in placed {
        let y = top + line as f32 * LINE + 12.0;
        pen.rect(x + 2.0, y - 5.0, 12.0, 3.0, color);
        pen.text(x + 18.0, y, &text, TEXT, ink, Anchor::Start, false, area.w - 20.0);
    }
    Area { h: area.h - lines as f32 * LINE - 4.0, ..area }
}

pub(super) fn heatmap(pen: &mut Pen, heat: &Heatmap, area: Area) {
    if heat.buckets.is_empty() {
        return pen.centered("No data", area);
    }
    let room = heat.buckets.iter().map(|text| pen.width(text, TEXT)).fold(0.0f32, f32::max).min(120.0) + 8.0;
    let plot = Area {
        x: area.x + room,
        y: area.y + 6.0,
        w: (area.w - room - 8.0).max(10.0),
        h: (area.h - 28.0).max(10.0),
    };
    let height = plot.h / heat.buckets.len() as f32;
    let width = plot.w * (heat.step_ms as f64 / (heat.to_ms - heat.from_ms).max(1) as f64) as f32;
    let every = (16.0 / height).ceil().max(1.0) as usize;
    let dim = pen.theme.dim();
    for (row, (name, cells)) in heat.buckets.iter().zip(&heat.cells).enumerate() {
        let y = plot.y + plot.h - (row as f32 + 1.0) * height;
        if row % every == 0 {
            pen.text(plot.x - 6.0, y + height / 2.0 + 4.0, name, TEXT, dim, Anchor::End, false, 120.0);
        }
        for (at, shade) in cells.iter().enumerate().filter(|(_, shade)| **shade > 0) {
            let x = x_of(heat.times_ms[at], heat.from_ms, heat.to_ms, plot);
            let color = heat.colors.get(usize::from(*shade) - 1).copied().unwrap_or(dim);
            let left = (x - width).max(plot.x);
            pen.rect(left, y + 0.5, (x - left).max(1.0), (height - 1.0).max(1.0), color);
        }
    }
    time_axis(pen, heat.from_ms, heat.to_ms, plot);
}
