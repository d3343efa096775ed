//! CSV files that a real Locust wrote: the same header, quoting and number forms come out of our writer. What is in the rows
//! follows from response times that the files do not have, so it is not judged here.

use std::path::Path;

use gantry_load::locust::{CsvTables, csv_row, python_float};

use super::Case;

/// Columns of a kind of file that hold floats as Python prints them, and ints.
struct Kind {
    suffix: &'static str,
    header: fn() -> String,
    floats: &'static [usize],
    ints: &'static [usize],
}

const KINDS: &[Kind] = &[
    // The longer names first: `_stats_history.csv` ends like no other, `_stats.csv` does not end like it.
    Kind {
        suffix: "_stats_history.csv",
        header: CsvTables::history_header,
        floats: &[20],
        ints: &[0, 1, 17, 18],
    },
    Kind {
        suffix: "_stats.csv",
        header: CsvTables::stats_header,
        floats: &[5, 9, 10],
        ints: &[2, 3, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21],
    },
    Kind { suffix: "_failures.csv", header: CsvTables::failures_header, floats: &[], ints: &[3] },
    Kind { suffix: "_exceptions.csv", header: CsvTables::exceptions_header, floats: &[], ints: &[0] },
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
    Ok(())
}

fn same(what: &str, ours: &str, theirs: &str) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}\nexpected {theirs:?}\nfound    {ours:?}")) }
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
