//! A view in a terminal: charts in braille dots, everything else as text.

use super::chart::stacked;
use super::ticks::{Scale, time_marks};
use crate::color::Color;
use crate::units::Locale;
use crate::view::{Block, Body, Chart, PanelView, Table};

const BRAILLE: u32 = 0x2800;
/// The dot of column and row within a character.
const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The panel as lines of text, `columns` wide; `rows` bounds charts and tables. With colours as ANSI sequences.
pub fn terminal(view: &PanelView, columns: usize, rows: usize, colored: bool, locale: Locale) -> String {
    let (columns, rows) = (columns.clamp(20, 500), rows.clamp(4, 200));
    let mut out = format!("{}\n", view.title);
    match &view.body {
        Body::Chart(chart) => self::chart(&mut out, chart, columns, rows, colored, locale),
        Body::Stat(stats) | Body::Gauge(stats) | Body::BarGauge(stats) => {
            let widest =
                stats.items.iter().map(|item| item.name.chars().count()).max().unwrap_or(0).min(columns / 2);
            for item in stats.items.iter().take(rows) {
                let text = format!("{}{}{}", stats.prefix, item.shown.written.joined(), stats.postfix);
                let bar = match (&view.body, item.shown.share) {
                    (Body::Gauge(_) | Body::BarGauge(_), Some(share)) => {
                        let width = (columns / 3).max(8);
                        let full = (share * width as f64).round() as usize;
                        format!("  {}{}", "█".repeat(full.min(width)), "░".repeat(width - full.min(width)))
                    }
                    _ => format!("  {}", spark(&item.spark, columns / 3)),
                };
                let name = fit(&item.name, widest);
                out.push_str(format!("{name}  {}{bar}", paint(&text, item.shown.color, colored)).trim());
                out.push('\n');
            }
        }
        Body::Table(table) => self::table(&mut out, table, columns, rows),
        Body::Pie(pie) => {
            for slice in pie.slices.iter().take(rows) {
                let line = format!("{:>4.0} %  {}  {}", slice.share * 100.0, slice.text, slice.name);
                out.push_str(&paint(&fit(&line, columns), Some(slice.color), colored));
                out.push('\n');
            }
        }
        Body::Heatmap(heat) => {
            for (name, cells) in heat.buckets.iter().zip(&heat.cells).rev().take(rows) {
                let shade =
                    |shade: &u8| if *shade == 0 { ' ' } else { BLOCKS[usize::from((shade - 1) / 4).min(7)] };
                let cells: String =
                    cells.iter().rev().take(columns.saturating_sub(12)).rev().map(shade).collect();
                out.push_str(&format!("{:>10} {cells}\n", fit(name, 10).trim()));
            }
        }
        Body::Text { blocks } => blocks.iter().take(rows).for_each(|block| {
            let inlines = match block {
                Block::Heading { inlines, .. } | Block::Paragraph { inlines } | Block::Item { inlines } => {
                    inlines.as_slice()
                }
                Block::Code { text } => {
                    out.push_str(text);
                    &[]
                }
            };
            inlines.iter().for_each(|inline| out.push_str(&inline.text));
            out.push('\n');
        }),
        Body::Nothing { text } => out.push_str(&format!("{text}\n")),
        Body::Row { .. } => {}
    }
    for note in view.error.iter().chain(&view.notices) {
        out.push_str(&format!("! {note}\n"));
    }
    // A label's value could hold what a terminal obeys.
    out.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\u{1b}')).collect()
}

/// Exactly `width` characters.
fn fit(text: &str, width: usize) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let count = text.chars().count();
    if count <= width {
        return text + &" ".repeat(width - count);
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn paint(text: &str, color: Option<Color>, colored: bool) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    match color.filter(|_| colored) {
        Some(Color { r, g, b, .. }) => format!("\u{1b}[38;2;{r};{g};{b}m{text}\u{1b}[0m"),
        None => text,
    }
}

fn spark(values: &[Option<f64>], width: usize) -> String {
    let (low, high) =
        values.iter().flatten().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let shown = width.min(values.len());
    let at = |n: usize| values[n * values.len() / shown.max(1)];
    let block = |value: Option<f64>| match value {
        Some(value) if high > low => BLOCKS[(((value - low) / (high - low)) * 7.0).round() as usize % 8],
        Some(_) => BLOCKS[0],
        None => ' ',
    };
    (0..shown).map(|n| block(at(n))).collect()
}

fn chart(out: &mut String, chart: &Chart, columns: usize, rows: usize, colored: bool, locale: Locale) {
    let edges = stacked(chart);
    let (low, high) = edges
        .iter()
        .flat_map(|edges| edges.high.iter().flatten())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let scale = Scale::new(&chart.left, low, high, rows / 4, locale);
    let room = scale.marks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0) + 1;
    let width = columns.saturating_sub(room).max(8);
    let mut dots = vec![vec![(0u32, None); width]; rows];
    for (one, edges) in chart.series.iter().zip(&edges).filter(|(one, _)| !one.hidden) {
        let mut before: Option<(usize, usize)> = None;
        for (ms, value) in chart.times_ms.iter().zip(&edges.high) {
            let share = (ms - chart.from_ms) as f64 / (chart.to_ms - chart.from_ms).max(1) as f64;
            let Some(value) = value.filter(|_| (0.0..=1.0).contains(&share)) else {
                before = None;
                continue;
            };
            let x = ((share * (width * 2 - 1) as f64) as usize).min(width * 2 - 1);
            let up = f64::from(scale.share(value).clamp(0.0, 1.0));
            let y = (((1.0 - up) * (rows * 4 - 1) as f64).round() as usize).min(rows * 4 - 1);
            for (x, y) in between(before.unwrap_or((x, y)), (x, y)) {
                let cell = &mut dots[y / 4][x / 2];
                *cell = (cell.0 | DOTS[y % 4][x % 2], Some(one.color));
            }
            before = Some((x, y));
        }
    }
    for (row, line) in dots.iter().enumerate() {
        let is_mark = |(value, _): &&(f64, String)| {
            let up = f64::from(scale.share(*value));
            ((1.0 - up) * (rows - 1) as f64).round() as usize == row
        };
        let mark = scale.marks.iter().find(is_mark).map_or("", |(_, text)| text.as_str());
        out.push_str(&format!("{mark:>width$} ", width = room - 1));
        for (dots, color) in line {
            let c = if *dots == 0 { ' ' } else { char::from_u32(BRAILLE + dots).unwrap_or(' ') };
            out.push_str(&paint(&c.to_string(), color.filter(|_| *dots != 0), colored));
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    let mut axis = vec![' '; columns];
    for (ms, text) in time_marks(chart.from_ms, chart.to_ms, width / 14, locale) {
        let share = (ms - chart.from_ms) as f64 / (chart.to_ms - chart.from_ms).max(1) as f64;
        let at = room + (share * width as f64) as usize;
        for (n, c) in text.chars().enumerate() {
            if let Some(slot) = axis.get_mut(at + n) {
                *slot = c;
            }
        }
    }
    out.push_str(axis.iter().collect::<String>().trim_end());
    out.push('\n');
    for one in chart.series.iter().filter(|one| one.in_legend).take(20) {
        let calcs =
            chart.legend.calcs.iter().zip(&one.calcs).map(|(name, calc)| format!("  {name} {}", calc.text));
        out.push_str(&format!(
            "{} {}{}\n",
            paint("━━", Some(one.color), colored),
            fit(&one.name, columns.min(60)).trim_end(),
            calcs.collect::<String>()
        ));
    }
}

/// The dots from one point to the next.
fn between((x1, y1): (usize, usize), (x2, y2): (usize, usize)) -> Vec<(usize, usize)> {
    let steps = x1.abs_diff(x2).max(y1.abs_diff(y2)).max(1);
    let at = |a: usize, b: usize, n: usize| {
        (a as f64 + (b as f64 - a as f64) * n as f64 / steps as f64).round() as usize
    };
    (0..=steps).map(|n| (at(x1, x2, n), at(y1, y2, n))).collect()
}

fn table(out: &mut String, table: &Table, columns: usize, rows: usize) {
    let mut widths: Vec<usize> = table.columns.iter().map(|column| column.name.chars().count()).collect();
    for row in table.rows.iter().take(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count()).min(40);
        }
    }
    let mut line = |cells: Vec<(&str, bool)>| {
        let cell = |((text, right), width): ((&str, bool), &usize)| {
            if right {
                format!("{:>width$}", fit(text, *width).trim_end(), width = *width)
            } else {
                fit(text, *width)
            }
        };
        let text: String = cells.into_iter().zip(&widths).map(cell).collect::<Vec<_>>().join("  ");
        out.push_str(fit(&text, columns).trim_end());
        out.push('\n');
    };
    line(table.columns.iter().map(|column| (column.name.as_str(), column.right)).collect());
    for row in table.rows.iter().take(rows) {
        line(
            row.iter().zip(&table.columns).map(|(cell, column)| (cell.text.as_str(), column.right)).collect(),
        );
    }
    if table.rows.len() > rows {
        out.push_str(&format!("… {} more rows\n", table.rows.len() + table.left_out - rows));
    }
}
