//! The CSV files, by the rules of Python's `csv` module and of Locust: who is quoted, what is `N/A`, what is an int.

use super::exceptions::Exception;
use super::number::{Number, python_float};
use super::stats::{Entry, PERCENTILES, Stats};

/// How often a row is added to the history.
pub const HISTORY_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Writes the tables as CSV text.
pub struct CsvTables;

/// One row: fields with a comma, quote or line break are quoted, rows end with CR LF.
pub fn csv_row<'a>(fields: impl IntoIterator<Item = &'a str>, out: &mut String) {
    let start = out.len();
    let mut count = 0;
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        count = index + 1;
        if field.contains([',', '"', '\r', '\n']) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    // Python quotes a lone empty field, so that the row is not an empty line.
    if count == 1 && out.len() == start {
        out.push_str("\"\"");
    }
    out.push_str("\r\n");
}

fn row(fields: &[String], out: &mut String) {
    csv_row(fields.iter().map(String::as_str), out);
}

/// `50%` … `99.99%`, `100%`.
pub(super) fn percentile_names() -> impl Iterator<Item = String> {
    PERCENTILES.iter().map(|share| {
        let percent = share * 100.0;
        if percent.fract() == 0.0 {
            format!("{}%", percent as i64)
        } else {
            // `round(x, 6)` keeps 98.99999999999999 from showing.
            let rounded: f64 = format!("{percent:.6}").parse().unwrap_or(percent);
            format!("{}%", python_float(rounded))
        }
    })
}

// === impl CsvTables ===

impl CsvTables {
    pub fn stats_header() -> String {
        let names = "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,\
                     Min Response Time,Max Response Time,Average Content Size,Requests/s,Failures/s";
        let mut out = String::new();
        csv_row(
            names.split(',').chain(percentile_names().collect::<Vec<_>>().iter().map(String::as_str)),
            &mut out,
        );
        out
    }

    /// `_stats.csv` below its header: one row per entry, then the total.
    pub fn stats_rows(stats: &Stats) -> String {
        let mut out = String::new();
        for entry in stats.entries().chain([&stats.total]) {
            let mut fields = vec![
                entry.method.clone(),
                entry.name.clone(),
                entry.num_requests.to_string(),
                entry.num_failures.to_string(),
                entry.median().to_string(),
                python_float(entry.avg_response_time()),
                min(entry).to_string(),
                entry.max_response_time.to_string(),
                entry.avg_content_length().to_string(),
                python_float(stats.total_rps(entry)),
                python_float(stats.total_fail_per_sec(entry)),
            ];
            fields.extend(percentiles(entry, None));
            row(&fields, &mut out);
        }
        out
    }

    pub fn history_header() -> String {
        let names = percentile_names().collect::<Vec<_>>();
        let mut out = String::new();
        let first = "Timestamp,User Count,Type,Name,Requests/s,Failures/s".split(',');
        let last =
            "Total Request Count,Total Failure Count,Total Median Response Time,Total Average Response Time,\
                    Total Min Response Time,Total Max Response Time,Total Average Content Size"
                .split(',');
        csv_row(first.chain(names.iter().map(String::as_str)).chain(last), &mut out);
        out
    }

    /// The rows `_stats_history.csv` gets now: the total, and with `full` every entry before it.
    pub fn history_rows(stats: &Stats, now: f64, user_count: i64, full: bool) -> String {
        let mut out = String::new();
        let entries = stats.entries().filter(|_| full);
        for entry in entries.chain([&stats.total]) {
            let mut fields = vec![
                (now as i64).to_string(),
                user_count.to_string(),
                entry.method.clone(),
                entry.name.clone(),
                format!("{:.6}", stats.current_rps(entry)),
                format!("{:.6}", stats.current_fail_per_sec(entry)),
            ];
            fields.extend(percentiles(entry, full.then_some(now)));
            fields.extend([
                entry.num_requests.to_string(),
                entry.num_failures.to_string(),
                entry.median().to_string(),
                python_float(entry.avg_response_time()),
                min(entry).to_string(),
                entry.max_response_time.to_string(),
                entry.avg_content_length().to_string(),
            ]);
            row(&fields, &mut out);
        }
        out
    }

    pub fn failures_header() -> String {
        let mut out = String::new();
        csv_row("Method,Name,Error,Occurrences,First Seen,Last Seen".split(','), &mut out);
        out
    }

    pub fn failures_rows(stats: &Stats) -> String {
        let mut out = String::new();
        for error in stats.sorted_errors() {
            let time = |seen: Option<f64>| seen.map(utc).unwrap_or_default();
            let fields = [
                error.method.clone(),
                error.name.clone(),
                without_addresses(&error.error),
                error.occurrences.to_string(),
                time(error.first_seen),
                time(error.last_seen),
            ];
            row(&fields, &mut out);
        }
        out
    }

    pub fn exceptions_header() -> String {
        let mut out = String::new();
        csv_row("Count,Message,Traceback,Nodes".split(','), &mut out);
        out
    }

    pub fn exceptions_rows<'a>(exceptions: impl IntoIterator<Item = &'a Exception>) -> String {
        let mut out = String::new();
        for exception in exceptions {
            let nodes: Vec<&str> = exception.nodes.iter().map(String::as_str).collect();
            let fields = [
                exception.count.to_string(),
                exception.msg.clone(),
                exception.traceback.clone(),
                nodes.join(", "),
            ];
            row(&fields, &mut out);
        }
        out
    }
}

/// `x or 0` makes a minimum of 0.0 the integer.
fn min(entry: &Entry) -> Number {
    entry.min_response_time.filter(|min| min.as_f64() != 0.0).unwrap_or(Number::ZERO)
}

/// `current`: over the last ten seconds before this moment, where the entry keeps them.
fn percentiles(entry: &Entry, current: Option<f64>) -> Vec<String> {
    if entry.num_requests == 0 {
        return vec!["N/A".to_owned(); PERCENTILES.len()];
    }
    let one = |share: f64| match current {
        Some(now) if entry.caches() => entry.current_percentile(share, now).unwrap_or(Number::ZERO),
        _ => entry.percentile(share),
    };
    PERCENTILES.iter().map(|share| one(*share).truncated().to_string()).collect()
}

/// Takes the changing address out of `<object at 0x7f…>`, so that equal errors are equal.
pub(super) fn without_addresses(error: &str) -> String {
    const TARGET: &str = "object at 0x";
    let Some(at) = error.find(TARGET) else { return error.to_owned() };
    let start = at + TARGET.len() - 2;
    let Some(length) = error.get(start..).and_then(|rest| rest.find('>')) else { return error.to_owned() };
    match error.get(start..start + length) {
        Some(address) => error.replace(address, "0x...."),
        None => error.to_owned(),
    }
}

/// Whole seconds since 1970 as `2026-11-28T07:00:00Z`.
pub fn utc(seconds: f64) -> String {
    let seconds = seconds as i64;
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// `2026-11-28 07:00:00,123`, as Python's logging writes a moment (in UTC).
pub fn log_time(ms: i64) -> String {
    let text = utc(ms.div_euclid(1000) as f64);
    format!("{},{:03}", text.trim_end_matches('Z').replace('T', " "), ms.rem_euclid(1000))
}

/// `2026-11-28-07h00`, for the names of downloads.
pub fn file_time(seconds: f64) -> String {
    let text = utc(seconds);
    let (day, time) = text.split_once('T').unwrap_or((&text, "00:00"));
    format!("{day}-{}h{}", time.get(..2).unwrap_or("00"), time.get(3..5).unwrap_or("00"))
}

/// A day since 1970 in the Gregorian calendar (Howard Hinnant's days-to-civil).
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_quoted_as_python_does() {
        let mut out = String::new();
        csv_row(["a,b", "say \"x\"", "plain", "two\nlines", ""], &mut out);
        csv_row([""], &mut out);
        assert_eq!(out, "\"a,b\",\"say \"\"x\"\"\",plain,\"two\nlines\",\r\n\"\"\r\n");
    }

    #[test]
    fn an_empty_history_row_has_locusts_zeros() {
        let stats = Stats::new(10.0, false);
        let row = CsvTables::history_rows(&stats, 1_795_369_976.7, 0, false);
        assert_eq!(
            row,
            "1795369976,0,,Aggregated,0.000000,0.000000,N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A,0,0,0,0.0,0,0,0\r\n"
        );
    }

    #[test]
    fn percentiles_are_named_without_rounding_dust() {
        let names: Vec<_> = percentile_names().collect();
        assert_eq!(names.join(","), "50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,100%");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(utc(1_795_369_978.9), "2026-11-22T17:52:58Z");
        assert_eq!(utc(951_782_400.0), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn addresses_are_taken_out() {
        assert_eq!(
            without_addresses("<X object at 0x7f12ab> and 0x7f12ab"),
            "<X object at 0x....> and 0x...."
        );
    }
}
