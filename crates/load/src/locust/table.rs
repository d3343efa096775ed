//! The statistics tables of the console, column by column as Locust prints them.

use super::csv::percentile_names;
use super::number::Number;
use super::stats::{Entry, PERCENTILES, Stats};

const TYPE_WIDTH: usize = 8;

/// The table of every request; `current`: rates of the last ten seconds instead of the whole run.
/// `width` is that of a name: 80, or less on a narrow terminal.
pub fn stats_table(stats: &Stats, current: bool, width: usize) -> Vec<String> {
    let name_width = width.saturating_sub(TYPE_WIDTH) + 4;
    let separator = format!(
        "{}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
        "-".repeat(TYPE_WIDTH),
        "-".repeat(name_width),
        "-".repeat(7),
        "-".repeat(13),
        "-".repeat(7),
        "-".repeat(7),
        "-".repeat(7),
        "-".repeat(7),
        "-".repeat(8),
        "-".repeat(11)
    );
    let mut lines = vec![
        format!(
            "{:<TYPE_WIDTH$} {:<name_width$} {:>7} {:>12} |{:>7} {:>7} {:>7}{:>7} | {:>7} {:>11}",
            "Type", "Name", "# reqs", "# fails", "Avg", "Min", "Max", "Med", "req/s", "failures/s"
        ),
        separator.clone(),
    ];
    lines.extend(stats.entries().map(|entry| stats_line(stats, entry, current, name_width)));
    lines.push(separator);
    lines.push(stats_line(stats, &stats.total, current, name_width));
    lines
}

fn stats_line(stats: &Stats, entry: &Entry, current: bool, name_width: usize) -> String {
    let (rps, fails) = if current {
        (stats.current_rps(entry), stats.current_fail_per_sec(entry))
    } else {
        (stats.total_rps(entry), stats.total_fail_per_sec(entry))
    };
    let method = if entry.method.is_empty() { String::new() } else { format!("{} ", entry.method) };
    format!(
        "{method:<TYPE_WIDTH$} {:<name_width$} {:>7} {:>12} |{:>7} {:>7} {:>7}{:>7} | {rps:>7.2} {fails:>11.2}",
        entry.name,
        entry.num_requests,
        format!("{}({:.2}%)", entry.num_failures, entry.fail_ratio() * 100.0),
        entry.avg_response_time() as i64,
        entry.min_response_time.map_or(0, Number::truncated),
        entry.max_response_time.truncated(),
        entry.median().truncated(),
    )
}

/// The percentiles of every request.
pub fn percentile_table(stats: &Stats, width: usize) -> Vec<String> {
    let names: Vec<String> = percentile_names().map(|name| format!("{name:>6}")).collect();
    let separator = format!(
        "{}|{}|{}|{}",
        "-".repeat(TYPE_WIDTH),
        "-".repeat(width),
        "-".repeat(8),
        vec!["-".repeat(6); PERCENTILES.len()].join("|")
    );
    // Locust's header has a column more than its format has values left for; `# reqs` is the last one printed.
    let mut header = names;
    header.push(format!("{:>6}", "# reqs"));
    let first = header.remove(0);
    let mut lines = vec![
        "Response time percentiles (approximated)".to_owned(),
        format!("{:<TYPE_WIDTH$} {:<width$} {:>8} {}", "Type", "Name", first.trim_start(), header.join(" ")),
        separator.clone(),
    ];
    let asked = stats.entries().filter(|entry| !entry.response_times.is_empty());
    lines.extend(asked.map(|entry| percentile_line(entry, width)));
    lines.push(separator);
    if !stats.total.response_times.is_empty() {
        lines.push(percentile_line(&stats.total, width));
    }
    lines
}

fn percentile_line(entry: &Entry, width: usize) -> String {
    let mut values: Vec<String> =
        PERCENTILES.iter().map(|share| format!("{:>6}", entry.percentile(*share).truncated())).collect();
    values.push(format!("{:>6}", entry.num_requests));
    let first = values.remove(0);
    format!(
        "{:<TYPE_WIDTH$} {:<width$} {:>8} {}",
        entry.method,
        entry.name,
        first.trim_start(),
        values.join(" ")
    )
}

/// The errors; empty when there are none.
pub fn error_table(stats: &Stats, width: usize) -> Vec<String> {
    if stats.errors.is_empty() {
        return Vec::new();
    }
    let separator = format!("{}|{}", "-".repeat(18), "-".repeat((80 + width).saturating_sub(19)));
    let mut lines = vec![
        "Error report".to_owned(),
        format!("{:<18} {:<100}", "# occurrences", "Error"),
        separator.clone(),
    ];
    for error in stats.errors.values() {
        let text = match error.error.strip_prefix("CatchResponseError(") {
            Some(rest) => rest.strip_suffix(')').unwrap_or(rest),
            None => &error.error,
        };
        lines.push(format!(
            "{:<18} {:<100}",
            error.occurrences,
            format!("{} {}: {text}", error.method, error.name)
        ));
    }
    lines.push(separator);
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_and_its_line_are_locusts() {
        let stats = Stats::new(0.0, false);
        let lines = stats_table(&stats, true, 80);
        assert_eq!(lines[0].len(), 8 + 1 + 76 + 1 + 7 + 1 + 12 + 2 + 7 + 1 + 7 + 1 + 7 + 7 + 3 + 7 + 1 + 11);
        assert!(lines[1].starts_with("--------|-----"));
        assert!(lines.last().unwrap().contains("Aggregated"));
        assert!(error_table(&stats, 80).is_empty());
        let percentiles = percentile_table(&stats, 80);
        assert!(percentiles[1].ends_with("99.99%   100% # reqs"), "{}", percentiles[1]);
    }
}
