//! Stats, gauges, bars, tables, pies and texts.

use super::chart::circle;
use super::{Anchor, Area, Pen, Point};
use crate::color::Color;
use crate::view::{Block, Pie, Stat, Stats, Table};

/// Cells of about one shape for `count` things.
fn cells(area: Area, count: usize, stacked: bool) -> Vec<Area> {
    let count = count.max(1);
    let columns = if stacked {
        1
    } else {
        // As square as the area allows, rather wide than tall.
        (1..=count)
            .min_by_key(|columns| {
                let rows = count.div_ceil(*columns);
                let (w, h) = (area.w / *columns as f32, area.h / rows as f32);
                ((w / h / 1.8).ln().abs() * 1000.0) as i64
            })
            .unwrap_or(1)
    };
    let rows = count.div_ceil(columns);
    let (w, h) = (area.w / columns as f32, area.h / rows as f32);
    (0..count)
        .map(|at| Area {
            x: area.x + (at % columns) as f32 * w + 2.0,
            y: area.y + (at / columns) as f32 * h + 2.0,
            w: w - 4.0,
            h: h - 4.0,
        })
        .collect()
}

fn shows_name(stats: &Stats) -> bool {
    match stats.text_mode.as_str() {
        "value" | "none" => false,
        "name" | "value_and_name" => true,
        _ => stats.items.len() > 1,
    }
}

fn words(stats: &Stats, item: &Stat) -> String {
    if stats.text_mode == "name" {
        return item.name.clone();
    }
    format!("{}{}{}", stats.prefix, item.shown.written.joined(), stats.postfix)
}

pub(super) fn stats(pen: &mut Pen, stats: &Stats, area: Area) {
    for (item, cell) in stats.items.iter().zip(cells(area, stats.items.len(), false)) {
        let filled = stats.color_mode.starts_with("background");
        let color = item.shown.color.filter(|color| color.a > 0).unwrap_or(pen.theme.dim());
        let ink = match stats.color_mode.as_str() {
            "none" => pen.theme.ink(),
            _ if filled => item.on_color,
            _ => item.ink,
        };
        if filled {
            pen.rect(cell.x, cell.y, cell.w, cell.h, color);
        }
        if stats.graph && item.spark.len() > 1 {
            spark(pen, item, cell, if filled { ink } else { color });
        }
        let text = words(stats, item);
        let name = shows_name(stats) && stats.text_mode != "name";
        let size = (cell.h * if name { 0.34 } else { 0.42 }).clamp(11.0, 64.0);
        let size = (size * (cell.w - 16.0) / pen.width(&text, size).max(1.0)).min(size).max(10.0);
        let middle = cell.y + cell.h / 2.0;
        if name {
            pen.text(
                cell.x + cell.w / 2.0,
                middle - size * 0.42,
                &item.name,
                12.0,
                if filled { ink } else { pen.theme.dim() },
                Anchor::Middle,
                false,
                cell.w - 8.0,
            );
        }
        let baseline = if name { middle + size * 0.62 } else { middle + size * 0.35 };
        pen.text(cell.x + cell.w / 2.0, baseline, &text, size, ink, Anchor::Middle, true, cell.w - 4.0);
    }
}

fn spark(pen: &mut Pen, item: &Stat, cell: Area, color: Color) {
    let numbers = item.spark.iter().flatten();
    let (low, high) =
        numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), n| (low.min(*n), high.max(*n)));
    let height = cell.h * 0.32;
    let y = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        cell.y + cell.h - 2.0 - height * share as f32
    };
    let step = cell.w / (item.spark.len() - 1) as f32;
    let points: Vec<Point> = item
        .spark
        .iter()
        .enumerate()
        .filter_map(|(at, value)| Some((cell.x + at as f32 * step, y((*value)?))))
        .collect();
    let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else { return };
    let mut below = points.clone();
    below.extend([(last.0, cell.y + cell.h), (first.0, cell.y + cell.h)]);
    pen.area(below, color.with_alpha(0.18));
    pen.line(points, 1.2, color.with_alpha(0.8), Vec::new());
}

/// Part of a ring, from and to as shares of the turn that begins at the lower left.
#[expect(clippy::too_many_arguments, reason = "two radii, two ends and where the turn begins")]
fn arc(x: f32, y: f32, inner: f32, outer: f32, from: f64, to: f64, start: f64, turn: f64) -> Vec<Point> {
    let steps = ((to - from).abs() * 60.0).ceil().max(2.0) as u32;
    let at = |n: u32, radius: f32| {
        let share = from + (to - from) * f64::from(n) / f64::from(steps);
        let angle = (start + turn * share) as f32;
        (x + radius * angle.cos(), y + radius * angle.sin())
    };
    let mut points: Vec<Point> = (0..=steps).map(|n| at(n, outer)).collect();
    points.extend((0..=steps).rev().map(|n| at(n, inner)));
    points
}

pub(super) fn gauges(pen: &mut Pen, stats: &Stats, area: Area) {
    use std::f64::consts::PI;
    let (start, turn) = (PI * 0.83, PI * 1.34);
    for (item, cell) in stats.items.iter().zip(cells(area, stats.items.len(), false)) {
        let name = if shows_name(stats) { 18.0 } else { 0.0 };
        let radius = (cell.w / 2.0 - 6.0).min((cell.h - name) / 1.55).max(10.0);
        let (x, y) = (cell.x + cell.w / 2.0, cell.y + (cell.h - name) / 2.0 + radius * 0.24);
        let (outer, inner) = (radius * 0.92, radius * 0.68);
        pen.area(arc(x, y, inner, outer, 0.0, 1.0, start, turn), pen.theme.grid());
        let color = item.shown.color.filter(|color| color.a > 0).unwrap_or(pen.theme.dim());
        if let Some(share) = item.shown.share.filter(|share| *share > 0.0) {
            pen.area(arc(x, y, inner, outer, 0.0, share, start, turn), color);
        }
        if stats.threshold_markers {
            for (at, (from, color)) in item.steps.iter().enumerate() {
                let to = item.steps.get(at + 1).map_or(1.0, |next| next.0);
                if to > *from {
                    pen.area(
                        arc(x, y, outer + radius * 0.03, outer + radius * 0.08, *from, to, start, turn),
                        *color,
                    );
                }
            }
        }
        let text = words(stats, item);
        let size = (radius * 0.42).min(48.0);
        let size = (size * inner * 1.7 / pen.width(&text, size).max(1.0)).min(size).max(9.0);
        pen.text(x, y + size * 0.3, &text, size, item.ink, Anchor::Middle, true, cell.w);
        if name > 0.0 {
            pen.text(
                x,
                cell.y + cell.h - 4.0,
                &item.name,
                12.0,
                pen.theme.dim(),
                Anchor::Middle,
                false,
                cell.w,
            );
        }
    }
}

pub(super) fn bars(pen: &mut Pen, stats: &Stats, area: Area) {
    let count = stats.items.len().max(1) as f32;
    let (grid, ink) = (pen.theme.grid(), pen.theme.ink());
    if stats.vertical {
        let width = area.w / count;
        for (at, item) in stats.items.iter().enumerate() {
            let (x, w) = (area.x + at as f32 * width + 3.0, (width - 6.0).max(2.0));
            let (top, height) = (area.y + 20.0, (area.h - 42.0).max(4.0));
            let share = item.shown.share.unwrap_or(0.0) as f32;
            let color = item.shown.color.unwrap_or(ink);
            if stats.unfilled {
                pen.rect(x, top, w, height, grid);
            }
            pen.rect(x, top + height * (1.0 - share), w, height * share, color);
            pen.text(
                x + w / 2.0,
                area.y + 14.0,
                &words(stats, item),
                12.0,
                item.ink,
                Anchor::Middle,
                true,
                w,
            );
            pen.text(x + w / 2.0, area.y + area.h - 6.0, &item.name, 11.0, ink, Anchor::Middle, false, w);
        }
        return;
    }
    let height = (area.h / count).min(46.0);
    let has_names = stats.items.len() > 1 || stats.items.iter().any(|item| !item.name.is_empty());
    let above = has_names && height >= 34.0;
    let names =
        stats.items.iter().map(|item| pen.width(&item.name, 12.0)).fold(0.0f32, f32::max).min(area.w * 0.35);
    let left = if above || !has_names { 0.0 } else { names + 10.0 };
    let values = stats.items.iter().map(|item| pen.width(&words(stats, item), 13.0)).fold(0.0f32, f32::max)
        * 1.08
        + 12.0;
    for (at, item) in stats.items.iter().enumerate() {
        let y = area.y + at as f32 * height;
        let (bar_y, bar_h) = if above { (y + 16.0, height - 20.0) } else { (y + 2.0, height - 4.0) };
        let (x, w) = (area.x + left, (area.w - left - values).max(4.0));
        let share = item.shown.share.unwrap_or(0.0) as f32;
        let color = item.shown.color.unwrap_or(ink);
        if has_names {
            let baseline = if above { y + 12.0 } else { bar_y + bar_h / 2.0 + 4.0 };
            pen.text(
                area.x,
                baseline,
                &item.name,
                12.0,
                ink,
                Anchor::Start,
                false,
                if above { area.w } else { names },
            );
        }
        if stats.display_mode == "lcd" {
            let parts = ((w / 10.0) as u32).max(1);
            for part in 0..parts {
                let is_on = (part as f32 + 0.5) / parts as f32 <= share;
                let color = if is_on { color } else { grid };
                pen.rect(
                    x + part as f32 * w / parts as f32,
                    bar_y,
                    w / parts as f32 - 2.0,
                    bar_h.max(2.0),
                    color,
                );
            }
        } else {
            if stats.unfilled {
                pen.rect(x, bar_y, w, bar_h.max(2.0), grid);
            }
            pen.rect(x, bar_y, w * share, bar_h.max(2.0), color);
        }
        let baseline = bar_y + bar_h / 2.0 + 5.0;
        pen.text(
            area.x + area.w - 2.0,
            baseline,
            &words(stats, item),
            13.0,
            item.ink,
            Anchor::End,
            true,
            values,
        );
    }
}

pub(super) fn table(pen: &mut Pen, table: &Table, area: Area) {
    if table.columns.is_empty() {
        return pen.centered("No data", area);
    }
    let (ink, dim, grid) = (pen.theme.ink(), pen.theme.dim(), pen.theme.grid());
    let natural: Vec<f32> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = table
                .rows
                .iter()
                .take(40)
                .filter_map(|row| row.get(at))
                .map(|cell| pen.width(&cell.text, 12.0));
            let widest = cells.fold(pen.width(&column.name, 12.0), f32::max) + 20.0;
            column.width.map_or(widest.min(360.0), |width| width as f32)
        })
        .collect();
    let scale = area.w / natural.iter().sum::<f32>().max(1.0);
    let row_height = 24.0;
    let mut y = area.y;
    let edges: Vec<(f32, f32)> = natural
        .iter()
        .scan(area.x, |x, width| {
            let left = *x;
            *x += width * scale;
            Some((left, width * scale))
        })
        .collect();
    let place = |right: bool, (x, w): (f32, f32)| {
        if right { (x + w - 8.0, Anchor::End) } else { (x + 6.0, Anchor::Start) }
    };
    if table.header {
        for (column, edge) in table.columns.iter().zip(&edges) {
            let (x, anchor) = place(column.right, *edge);
            pen.text(x, y + 16.0, &column.name, 12.0, dim, anchor, true, edge.1 - 10.0);
        }
        y += row_height;
        pen.line(vec![(area.x, y), (area.x + area.w, y)], 1.0, grid, Vec::new());
    }
    let fits = ((area.y + area.h - y) / row_height).max(0.0) as usize;
    for (n, row) in table.rows.iter().enumerate().take(fits) {
        if n + 1 == fits && table.rows.len() > fits {
            let more = format!("… {} more rows", table.rows.len() + table.left_out - n);
            pen.text(area.x + 6.0, y + 16.0, &more, 12.0, dim, Anchor::Start, false, area.w);
            break;
        }
        for ((cell, column), edge) in row.iter().zip(&table.columns).zip(&edges) {
            let color = cell.color.unwrap_or(ink);
            match column.cell.as_str() {
                "color-background" if cell.color.is_some() => {
                    pen.rect(edge.0 + 1.0, y + 1.0, edge.1 - 2.0, row_height - 2.0, color)
                }
                "gauge" => {
                    let width = (edge.1 - pen.width(&cell.text, 12.0) - 20.0).max(0.0);
                    pen.rect(edge.0 + 4.0, y + 7.0, width, 10.0, grid);
                    pen.rect(edge.0 + 4.0, y + 7.0, width * cell.share.unwrap_or(0.0) as f32, 10.0, color);
                }
                _ => {}
            }
            let (x, anchor) = place(column.right, *edge);
            pen.text(x, y + 16.0, &cell.text, 12.0, cell.ink.unwrap_or(ink), anchor, false, edge.1 - 10.0);
        }
        y += row_height;
        pen.line(vec![(area.x, y), (area.x + area.w, y)], 1.0, grid, Vec::new());
    }
}

pub(super) fn pie(pen: &mut Pen, pie: &Pie, area: Area) {
    if pie.slices.is_empty() {
        return pen.centered("No data", area);
    }
    let ink = pen.theme.ink();
    let legend = if pie.legend && area.w > 220.0 { (area.w * 0.45).min(260.0) } else { 0.0 };
    let radius = ((area.w - legend) / 2.0).min(area.h / 2.0) - 4.0;
    let (x, y) = (area.x + (area.w - legend) / 2.0, area.y + area.h / 2.0);
    let inner = if pie.donut { radius * 0.6 } else { 0.0 };
    let mut from = 0.0;
    for slice in &pie.slices {
        let to = from + slice.share;
        let points = if slice.share > 0.999 {
            circle_or_ring(x, y, inner, radius)
        } else {
            arc(x, y, inner, radius, from, to, -std::f64::consts::FRAC_PI_2, std::f64::consts::TAU)
        };
        pen.area(points, slice.color);
        if slice.share > 0.06 && !pie.labels.is_empty() {
            let angle = (((from + to) / 2.0) * std::f64::consts::TAU - std::f64::consts::FRAC_PI_2) as f32;
            let middle = if pie.donut { (inner + radius) / 2.0 } else { radius * 0.65 };
            let (tx, ty) = (x + middle * angle.cos(), y + middle * angle.sin() + 4.0);
            pen.text(tx, ty, &label(pie, slice), 11.0, slice.color.text_on(), Anchor::Middle, false, radius);
        }
        from = to;
    }
    for (at, slice) in pie.slices.iter().enumerate() {
        let line = area.y + 14.0 + at as f32 * 18.0;
        if legend == 0.0 || line > area.y + area.h {
            break;
        }
        let left = area.x + area.w - legend;
        pen.rect(left, line - 9.0, 10.0, 10.0, slice.color);
        let value = match pie.legend_values.iter().any(|value| value == "percent") {
            true => format!("{}  {:.0}%", slice.text, slice.share * 100.0),
            false => slice.text.clone(),
        };
        let width = pen.width(&value, 11.0);
        pen.text(left + 16.0, line, &slice.name, 11.0, ink, Anchor::Start, false, legend - width - 26.0);
        pen.text(left + legend - 2.0, line, &value, 11.0, ink, Anchor::End, false, legend);
    }
}

fn circle_or_ring(x: f32, y: f32, inner: f32, outer: f32) -> Vec<Point> {
    if inner == 0.0 {
        return circle(x, y, outer);
    }
    arc(x, y, inner, outer, 0.0, 1.0, 0.0, std::f64::consts::TAU)
}

fn label(pie: &Pie, slice: &crate::view::Slice) -> String {
    let part = |name: &String| match name.as_str() {
        "name" => slice.name.clone(),
        "value" => slice.text.clone(),
        _ => format!("{:.0}%", slice.share * 100.0),
    };
    pie.labels.iter().map(part).collect::<Vec<_>>().join(" ")
}

pub(super) fn text(pen: &mut Pen, blocks: &[Block], area: Area) {
    let ink = pen.theme.ink();
    let mut y = area.y;
    for block in blocks {
        let (text, size, bold, indent) = match block {
            Block::Heading { level, inlines } => (joined(inlines), 20.0 - f32::from(*level) * 1.5, true, 0.0),
            Block::Paragraph { inlines } => (joined(inlines), 13.0, false, 0.0),
            Block::Item { inlines } => (format!("• {}", joined(inlines)), 13.0, false, 10.0),
            Block::Code { text } => (text.clone(), 12.0, false, 10.0),
        };
        for line in wrap(pen, &text, size, area.w - indent) {
            y += size * 1.45;
            if y > area.y + area.h {
                return;
            }
            pen.text(area.x + indent, y, &line, size, ink, Anchor::Start, bold, area.w - indent);
        }
        y += 6.0;
    }
}

fn joined(inlines: &[crate::view::Inline]) -> String {
    inlines.iter().map(|inline| inline.text.as_str()).collect()
}

fn wrap(pen: &Pen, text: &str, size: f32, width: f32) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if pen.width(&longer, size) > width && !line.is_empty() {
                lines.push(std::mem::replace(&mut line, word.to_owned()));
            } else {
                line = longer;
            }
        }
        lines.push(line);
    }
    lines
}
