//! Families as text: the classic format 0.0.4 and OpenMetrics 1.0.

use crate::labels::is_plain_label_name;
use crate::{
    BUCKET_LABEL, Exemplar, Labels, MetricFamily, MetricKind, MetricValue, QUANTILE_LABEL,
    format_open_metrics_float, write_float,
};

/// The families in the classic text format (`text/plain; version=0.0.4`). Native histograms have no form in it
/// and are left out.
pub fn encode_text(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        write_header(&mut out, family, Format::Classic);
        write_family(&mut out, family, Format::Classic);
    }
    out
}

/// The families in OpenMetrics 1.0 (`application/openmetrics-text; version=1.0.0`), with the closing `# EOF`.
pub fn encode_open_metrics(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        write_header(&mut out, family, Format::OpenMetrics);
        write_family(&mut out, family, Format::OpenMetrics);
    }
    out.push_str("# EOF\n");
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Classic,
    OpenMetrics,
}

/// Name of the family in its `# TYPE` line: OpenMetrics leaves a counter's `_total` to the sample.
fn family_name(family: &MetricFamily, format: Format) -> &str {
    let is_counter = family.kind == MetricKind::Counter && format == Format::OpenMetrics;
    match family.name.strip_suffix("_total") {
        Some(base) if is_counter => base,
        _ => &family.name,
    }
}

fn write_header(out: &mut String, family: &MetricFamily, format: Format) {
    let name = family_name(family, format);
    if !family.help.is_empty() {
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        push_escaped(out, &family.help, format == Format::OpenMetrics);
        out.push('\n');
    }
    let kind = match (family.kind, format) {
        (MetricKind::Unknown, Format::Classic) => "untyped",
        (MetricKind::GaugeHistogram, Format::Classic) => "histogram",
        (MetricKind::Info | MetricKind::StateSet, Format::Classic) => "gauge",
        (kind, _) => kind.as_str(),
    };
    out.push_str("# TYPE ");
    out.push_str(name);
    out.push(' ');
    out.push_str(kind);
    out.push('\n');
    if format == Format::OpenMetrics && !family.unit.is_empty() {
        out.push_str("# UNIT ");
        out.push_str(name);
        out.push(' ');
        out.push_str(&family.unit);
        out.push('\n');
    }
}

fn push_escaped(out: &mut String, text: &str, escape_quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if escape_quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

fn write_family(out: &mut String, family: &MetricFamily, format: Format) {
    let name = &*family.name;
    for metric in &family.metrics {
        let time = metric.timestamp_ms;
        let labels = &metric.labels;
        let mut line = |suffix: &str, extra: Option<(&str, f64)>, value: f64, exemplar: Option<&Exemplar>| {
            write_series(out, name, suffix, labels, extra, format);
            write_float(out, value);
            write_time(out, time, format);
            if let (Some(exemplar), Format::OpenMetrics) = (exemplar, format) {
                write_exemplar(out, exemplar);
            }
            out.push('\n');
        };
        match &metric.value {
            MetricValue::Counter { value, exemplar } => {
                let is_bare = format == Format::OpenMetrics && !name.ends_with("_total");
                line(if is_bare { "_total" } else { "" }, None, *value, exemplar.as_ref());
            }
            MetricValue::Gauge(value) | MetricValue::Unknown(value) => line("", None, *value, None),
            MetricValue::Native(_) => {}
            MetricValue::Histogram(histogram) => {
                for bucket in &histogram.buckets {
                    let bound = Some((BUCKET_LABEL, bucket.upper_bound));
                    line("_bucket", bound, bucket.cumulative_count as f64, bucket.exemplar.as_ref());
                }
                let count = histogram.count as f64;
                if histogram.buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
                    line("_bucket", Some((BUCKET_LABEL, f64::INFINITY)), count, None);
                }
                line("_sum", None, histogram.sum, None);
                line("_count", None, count, None);
            }
            MetricValue::Summary(summary) => {
                for quantile in &summary.quantiles {
                    line("", Some((QUANTILE_LABEL, quantile.quantile)), quantile.value, None);
                }
                line("_sum", None, summary.sum, None);
                line("_count", None, summary.count as f64, None);
            }
        }
    }
}

fn write_series(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels,
    extra: Option<(&str, f64)>,
    format: Format,
) {
    let is_plain = crate::exposition::is_plain_metric_name(name);
    let mut has_opened = !is_plain;
    if is_plain {
        out.push_str(name);
        out.push_str(suffix);
    } else {
        out.push_str("{\"");
        push_escaped(out, name, true);
        out.push_str(suffix);
        out.push('"');
    }
    let mut pair = |out: &mut String, label: &str, value: &str| {
        out.push(if has_opened { ',' } else { '{' });
        has_opened = true;
        if is_plain_label_name(label) {
            out.push_str(label);
        } else {
            out.push('"');
            push_escaped(out, label, true);
            out.push('"');
        }
        out.push_str("=\"");
        push_escaped(out, value, true);
        out.push('"');
    };
    for (label, value) in labels {
        pair(out, label, value);
    }
    if let Some((label, number)) = extra {
        let mut text = String::new();
        match format {
            Format::Classic => write_float(&mut text, number),
            Format::OpenMetrics => text = format_open_metrics_float(number),
        }
        pair(out, label, &text);
    }
    out.push_str(if has_opened { "} " } else { " " });
}

fn write_time(out: &mut String, timestamp_ms: Option<i64>, format: Format) {
    let Some(ms) = timestamp_ms else { return };
    out.push(' ');
    match format {
        Format::Classic => out.push_str(&ms.to_string()),
        Format::OpenMetrics => push_seconds(out, ms),
    }
}

fn push_seconds(out: &mut String, ms: i64) {
    if ms < 0 {
        out.push('-');
    }
    let magnitude = ms.unsigned_abs();
    out.push_str(&(magnitude / 1000).to_string());
    if !magnitude.is_multiple_of(1000) {
        let fraction = format!(".{:03}", magnitude % 1000);
        out.push_str(fraction.trim_end_matches('0'));
    }
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar) {
    out.push_str(" # {");
    for (index, (label, value)) in exemplar.labels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(label);
        out.push_str("=\"");
        push_escaped(out, value, true);
        out.push('"');
    }
    out.push_str("} ");
    write_float(out, exemplar.value);
    if let Some(ms) = exemplar.timestamp_ms {
        out.push(' ');
        push_seconds(out, ms);
    }
}
