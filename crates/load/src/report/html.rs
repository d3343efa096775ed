//! The page: verdicts first, then the timeline whose lanes share one axis and one cursor, then the tables.

use std::fmt::Write;

use serde_json::json;

use super::chart::{TimeAxis, ValueAxis, format_value, path};
use super::{Event, Kind, Lane, Level, Report, Unit};
use crate::summary::three_digits;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(super) fn page(report: &Report) -> String {
    let time = time_axis(report);
    let mut html = String::with_capacity(64 * 1024);
    let title = escape(&report.title);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    header(&mut html, report);
    verdicts(&mut html, report);
    timeline(&mut html, report, time);
    events(&mut html, report, time);
    requests(&mut html, report);
    report.tables.iter().for_each(|shown| table(&mut html, shown));
    for note in &report.notes {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
    }
    let _ = write!(
        html,
        "</main>\n<script type=\"application/json\" id=\"data\">{}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        data(report, time)
    );
    html
}

fn time_axis(report: &Report) -> TimeAxis {
    let points = report.lanes.iter().flat_map(|lane| &lane.series).flat_map(|series| &series.points);
    let moments = points.map(|(at_ms, _)| *at_ms).chain(report.events.iter().map(|event| event.at_ms));
    let end = report.started_ms + (report.seconds * 1000.0) as i64;
    let (first_ms, last_ms) =
        moments.fold((report.started_ms, end), |(first, last), at_ms| (first.min(at_ms), last.max(at_ms)));
    TimeAxis { first_ms, last_ms: last_ms.max(first_ms + 1000) }
}

fn header(html: &mut String, report: &Report) {
    let failed = report.assertions.iter().filter(|assertion| !assertion.passed).count();
    let total = report.assertions.len();
    let (class, verdict) = match (total, failed) {
        (0, _) => ("none", "Nothing was asserted".to_owned()),
        (_, 0) => ("good", format!("✓ Passed: all {total} assertions hold")),
        _ => ("bad", format!("✗ Failed: {failed} of {total} assertions do not hold")),
    };
    let _ = writeln!(
        html,
        "<main>\n<header><h1>{}</h1><p class=\"verdict {class}\">{verdict}</p></header>\n<dl class=\"facts\">",
        escape(&report.title)
    );
    for (name, value) in &report.facts {
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    let _ = writeln!(
        html,
        "<div><dt>Started</dt><dd><time data-ms=\"{}\">{} ms since 1970</time></dd></div>\n\
         <div><dt>Duration</dt><dd>{}</dd></div>\n</dl>",
        report.started_ms,
        report.started_ms,
        format_value(report.seconds, Unit::Seconds)
    );
}

fn verdicts(html: &mut String, report: &Report) {
    if report.assertions.is_empty() {
        return;
    }
    html.push_str("<section aria-label=\"Assertions\"><ul class=\"verdicts\">\n");
    // What failed is what a reader came for.
    let (passed, failed): (Vec<_>, Vec<_>) = report.assertions.iter().partition(|assertion| assertion.passed);
    for assertion in failed.into_iter().chain(passed) {
        let (class, mark) = if assertion.passed { ("good", "✓ held") } else { ("bad", "✗ failed") };
        let _ = writeln!(
            html,
            "<li><span class=\"{class}\">{mark}</span> <code>{}</code> <span class=\"dim\">{} · {}</span></li>",
            escape(&assertion.name),
            escape(&assertion.group),
            escape(&assertion.message)
        );
    }
    html.push_str("</ul></section>\n");
}

fn timeline(html: &mut String, report: &Report, time: TimeAxis) {
    html.push_str("<section id=\"timeline\" aria-label=\"Timeline\">\n");
    for (index, lane) in report.lanes.iter().enumerate() {
        lane_html(html, index, lane, report, time);
    }
    if !report.events.is_empty() {
        html.push_str("<div class=\"lane events\"><div class=\"head\"><h2>Events</h2></div><div class=\"axis\"></div><div class=\"plot\">");
        for (index, event) in report.events.iter().enumerate() {
            let _ = write!(
                html,
                "<a class=\"mark {}\" href=\"#event-{index}\" style=\"left:{:.2}%\" aria-label=\"{}\"></a>",
                level_class(event.level),
                time.percent(event.at_ms),
                escape(&format!("{} {}", event.subject, event.text))
            );
        }
        html.push_str("</div></div>\n");
    }
    html.push_str(
        "<div class=\"lane times\"><div class=\"head\"></div><div class=\"axis\"></div><div class=\"plot\">",
    );
    for second in time.ticks() {
        let _ = write!(
            html,
            "<span style=\"left:{:.2}%\">{}</span>",
            time.percent(time.first_ms + second * 1000),
            clock(second)
        );
    }
    html.push_str("</div></div>\n<div id=\"cursor\" hidden><span></span></div>\n</section>\n");
}

fn lane_html(html: &mut String, index: usize, lane: &Lane, report: &Report, time: TimeAxis) {
    let axis = ValueAxis::of(lane);
    let _ = write!(
        html,
        "<div class=\"lane\" data-lane=\"{index}\"><div class=\"head\"><h2>{}</h2>",
        escape(&lane.title)
    );
    for (number, series) in lane.series.iter().enumerate() {
        let last = series.points.iter().rev().find_map(|(_, value)| *value);
        let _ = write!(
            html,
            "<span class=\"key {}\"><i></i>{} <b data-series=\"{number}\">{}</b></span>",
            series_class(number, series.kind),
            escape(&series.name),
            last.map_or_else(|| "–".to_owned(), |value| format_value(value, lane.unit))
        );
    }
    html.push_str("</div><div class=\"axis\">");
    for tick in &axis.ticks {
        let _ = write!(
            html,
            "<span style=\"bottom:{:.1}%\">{}</span>",
            axis.percent(*tick),
            format_value(*tick, lane.unit)
        );
    }
    html.push_str(
        "</div><div class=\"plot\"><svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" role=\"img\">",
    );
    let _ = write!(html, "<title>{}</title>", escape(&lane.title));
    for tick in &axis.ticks {
        let y = 100.0 - axis.percent(*tick);
        let _ = write!(html, "<line class=\"grid\" x1=\"0\" x2=\"1000\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
    }
    for event in &report.events {
        let x = time.percent(event.at_ms) * 10.0;
        let class = level_class(event.level);
        let _ = write!(html, "<line class=\"at {class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"100\"/>");
    }
    for (_, value) in &lane.limits {
        let y = 100.0 - axis.percent(*value);
        let _ = write!(html, "<line class=\"limit\" x1=\"0\" x2=\"1000\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
    }
    for (number, series) in lane.series.iter().enumerate() {
        let class = series_class(number, series.kind);
        let _ = write!(
            html,
            "<path class=\"{class}\" d=\"{}\"/>",
            path(&series.points, series.kind, time, &axis)
        );
    }
    html.push_str("</svg>");
    for (label, value) in &lane.limits {
        let bottom = axis.percent(*value);
        let _ = write!(html, "<span class=\"limit\" style=\"bottom:{bottom:.1}%\">{}</span>", escape(label));
    }
    html.push_str("</div></div>\n");
}

fn events(html: &mut String, report: &Report, time: TimeAxis) {
    if report.events.is_empty() {
        return;
    }
    html.push_str("<section aria-label=\"Events\"><h2>Events</h2><table><thead><tr><th class=\"number\">At</th><th>What</th><th>Event</th><th>Why</th></tr></thead><tbody>\n");
    let mut events: Vec<(usize, &Event)> = report.events.iter().enumerate().collect();
    events.sort_by_key(|(_, event)| event.at_ms);
    for (index, event) in events {
        let _ = writeln!(
            html,
            "<tr id=\"event-{index}\"><td class=\"number\">{}</td><td><code>{}</code></td><td><span class=\"{}\">{}</span></td><td class=\"dim\">{}</td></tr>",
            clock((event.at_ms - time.first_ms) / 1000),
            escape(&event.subject),
            level_class(event.level),
            escape(&event.text),
            escape(&event.reason)
        );
    }
    html.push_str("</tbody></table></section>\n");
}

fn table(html: &mut String, shown: &super::Table) {
    if shown.rows.is_empty() {
        return;
    }
    let class = |column: usize| if column < shown.text_columns { "" } else { " class=\"number\"" };
    let title = escape(&shown.title);
    let _ = write!(
        html,
        "<section aria-label=\"{title}\"><h2>{title}</h2><div class=\"wide\"><table><thead><tr>"
    );
    for (column, heading) in shown.headings.iter().enumerate() {
        let _ = write!(html, "<th{}>{}</th>", class(column), escape(heading));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in &shown.rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            // Tracebacks keep their lines.
            let cell = escape(cell).replace('\n', "<br>");
            let _ = write!(html, "<td{}>{cell}</td>", class(column));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn requests(html: &mut String, report: &Report) {
    if report.requests.is_empty() {
        return;
    }
    html.push_str("<section aria-label=\"Requests\"><h2>Requests</h2><div class=\"wide\"><table><thead><tr><th>Request</th>");
    for name in ["Requests", "Failed", "Rate /s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"] {
        let _ = write!(html, "<th class=\"number\">{name}</th>");
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in &report.requests {
        let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), three_digits);
        let latency = &row.intended;
        let _ = write!(html, "<tr><td><code>{}</code></td>", escape(&row.name));
        let failed = if row.failed > 0 {
            let reasons = row.failures.iter().map(|(reason, count)| format!("{count} {reason}"));
            format!("<span class=\"bad\">{}</span>", escape(&reasons.collect::<Vec<_>>().join(", ")))
        } else {
            "0".to_owned()
        };
        for cell in [
            row.requests.to_string(),
            failed,
            three_digits(row.rate),
            ms(latency.p50_ms),
            ms(latency.p90_ms),
            ms(latency.p99_ms),
            ms(latency.p999_ms),
            ms(latency.max_ms),
        ] {
            let _ = write!(html, "<td class=\"number\">{cell}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div></section>\n");
}

/// What the cursor needs: the axis, and every lane's points.
fn data(report: &Report, time: TimeAxis) -> String {
    let lanes: Vec<_> = report
        .lanes
        .iter()
        .map(|lane| {
            let unit = match lane.unit {
                Unit::Count => "count",
                Unit::PerSecond => "rate",
                Unit::Seconds => "seconds",
                Unit::Share => "share",
                Unit::Bytes => "bytes",
            };
            let series: Vec<_> = lane.series.iter().map(|series| &series.points).collect();
            json!({ "unit": unit, "series": series })
        })
        .collect();
    let text = json!({ "first": time.first_ms, "last": time.last_ms, "lanes": lanes }).to_string();
    // "</script>" in a value would end the element.
    text.replace('<', "\\u003c")
}

fn series_class(number: usize, kind: Kind) -> String {
    match kind {
        Kind::Failure => "series failed".to_owned(),
        Kind::Wanted => format!("series wanted s{}", number % 6),
        Kind::Line | Kind::Step => format!("series s{}", number % 6),
    }
}

fn level_class(level: Level) -> &'static str {
    match level {
        Level::Normal => "normal",
        Level::Warning => "warning",
        Level::Failure => "bad",
    }
}

/// Seconds from the start as `1:05`.
fn clock(seconds: i64) -> String {
    match seconds {
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{}:{:02}", s / 60, s % 60),
        s => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
