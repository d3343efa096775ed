//! CSV files that a real Locust wrote: the same header, quoting and number forms come out of our writer, and the rules
//! between the rows (order, totals, what is `N/A`) are those ours follow.

use std::path::Path;

use gantry_load::locust::{CsvTables, csv_row, python_float};

use super::Case;

/// Columns of a kind of file that hold floats as Python prints them, and ints.
struct Kind {
    suffix: &'static str,
    header: fn() -> String,
    floats: &'static [usize],
    ints: &'static [usize],
    check: fn(&[Vec<String>]) -> Result<(), String>,
}

const KINDS: &[Kind] = &[
    // The longer names first: `_stats_history.csv` ends like no other, `_stats.csv` does not end like it.
    Kind {
        suffix: "_stats_history.csv",
        header: CsvTables::history_header,
        floats: &[20],
        ints: &[0, 1, 17, 18],
        check: history,
    },
    Kind {
        suffix: "_stats.csv",
        header: CsvTables::stats_header,
        floats: &[5, 9, 10],
        ints: &[2, 3, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21],
        check: stats,
    },
    Kind {
        suffix: "_failures.csv",
        header: CsvTables::failures_header,
        floats: &[],
        ints: &[3],
        check: |_| Ok(()),
    },
    Kind {
        suffix: "_exceptions.csv",
        header: CsvTables::exceptions_header,
        floats: &[],
        ints: &[0],
        check: |_| Ok(()),
    },
];

/// One case per file.
pub(crate) fn wire(data: &Path) -> Option<Vec<Case>> {
    let mut files: Vec<_> =
        std::fs::read_dir(data.join("locust/wire")).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort_unstable();
    let cases = files.iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let kind = KINDS.iter().find(|kind| name.ends_with(kind.suffix))?;
        Some(Case::new(name, judge(path, kind)))
    });
    Some(cases.collect())
}

fn judge(path: &Path, kind: &Kind) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let rows = parse(&text)?;
    let mut again = String::new();
    for row in &rows {
        csv_row(row.iter().map(String::as_str), &mut again);
    }
    same("the file written again", &again, &text)?;
    let header = (kind.header)();
    same("the header", &header, text.get(..header.len()).unwrap_or(&text))?;
    let body = rows.get(1..).unwrap_or_default();
    for (number, row) in body.iter().enumerate() {
        for &column in kind.floats {
            let field = row.get(column).ok_or_else(|| format!("row {number} has no column {column}"))?;
            let value: f64 = field.parse().map_err(|_| format!("row {number}: {field:?} is no float"))?;
            same(&format!("row {number}, column {column}"), &python_float(value), field)?;
        }
        for &column in kind.ints {
            let field = row.get(column).ok_or_else(|| format!("row {number} has no column {column}"))?;
            if field != "N/A" {
                let value: i64 =
                    field.parse().map_err(|_| format!("row {number}: {field:?} is no integer"))?;
                same(&format!("row {number}, column {column}"), &value.to_string(), field)?;
            }
        }
    }
    (kind.check)(body)
}

fn same(what: &str, ours: &str, theirs: &str) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}\nexpected {theirs:?}\nfound    {ours:?}")) }
}

fn number(row: &[String], column: usize) -> f64 {
    row.get(column).and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

/// Rows by name and method, then the total, which is what they add up to.
fn stats(rows: &[Vec<String>]) -> Result<(), String> {
    let Some((total, entries)) = rows.split_last() else { return Err("no row".to_owned()) };
    same("the last row's name", "Aggregated", total.get(1).map_or("", String::as_str))?;
    let key = |row: &Vec<String>| (row.get(1).cloned(), row.first().cloned());
    if !entries.is_sorted_by_key(key) {
        return Err("the rows are not in the order of name and method".to_owned());
    }
    for (column, name) in [(2, "requests"), (3, "failures")] {
        let sum: f64 = entries.iter().map(|row| number(row, column)).sum();
        if sum != number(total, column) {
            return Err(format!("{name}: the rows have {sum}, the total {}", number(total, column)));
        }
    }
    for row in rows {
        // Requests and failures are divided by the same time.
        let (requests, failures) = (number(row, 2), number(row, 3));
        if requests > 0.0 && (number(row, 9) * failures - number(row, 10) * requests).abs() > 1e-6 {
            return Err(format!("the rates of {row:?} are not over one time"));
        }
        let median = number(row, 4);
        if median < number(row, 6) || median > number(row, 7) {
            return Err(format!("the median of {row:?} is not between its minimum and maximum"));
        }
    }
    Ok(())
}

/// One row of the total per second; percentiles are `N/A` exactly while nothing was asked.
fn history(rows: &[Vec<String>]) -> Result<(), String> {
    if !rows.is_sorted_by(|a, b| number(a, 0) <= number(b, 0)) {
        return Err("the seconds go back".to_owned());
    }
    for row in rows {
        let nothing = number(row, 17) == 0.0;
        let absent = row.get(6..17).unwrap_or_default().iter().all(|field| field == "N/A");
        if nothing != absent {
            return Err(format!("{row:?}: N/A and the count of requests disagree"));
        }
        for column in [4, 5] {
            let field = row.get(column).map_or("", String::as_str);
            same("a rate", &format!("{:.6}", number(row, column)), field)?;
        }
        if nothing {
            let zeros = row.get(17..).unwrap_or_default().join(",");
            same("a row without requests", "0,0,0,0.0,0,0,0", &zeros)?;
        }
    }
    Ok(())
}

/// CSV as Python's `csv` reads it.
fn parse(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let (mut row, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                if chars.next() != Some('\n') {
                    return Err("a row does not end with CR LF".to_owned());
                }
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            other => field.push(other),
        }
    }
    if field.is_empty() && row.is_empty() { Ok(rows) } else { Err("the last row does not end".to_owned()) }
}
