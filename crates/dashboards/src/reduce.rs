//! Many values to one: the calculations of legends, stats and transformations.

use crate::frame::Cell;

/// One calculation over a column. A calculation that is not known gives the last value.
pub(crate) fn reduce(cells: &[Cell], calc: &str) -> Cell {
    let numbers = || cells.iter().filter_map(|cell| if let Cell::Number(n) = cell { Some(*n) } else { None });
    let finite = || numbers().filter(|number| !number.is_nan());
    let or_null = |number: Option<f64>| number.map_or(Cell::Null, Cell::Number);
    let count = |count: usize| Cell::Number(count as f64);
    let filled =
        || cells.iter().filter(|cell| !cell.is_null() && !matches!(cell, Cell::Number(n) if n.is_nan()));
    let min = || finite().reduce(f64::min);
    let max = || finite().reduce(f64::max);
    let mean = || {
        let (sum, count) = finite().fold((0.0, 0u64), |(sum, count), number| (sum + number, count + 1));
        (count > 0).then(|| sum / count as f64)
    };
    let variance = || {
        let mean = mean()?;
        let count = finite().count() as f64;
        Some(finite().map(|number| (number - mean).powi(2)).sum::<f64>() / count)
    };
    match calc {
        "last" => cells.last().cloned().unwrap_or(Cell::Null),
        "first" => cells.first().cloned().unwrap_or(Cell::Null),
        "firstNotNull" => filled().next().cloned().unwrap_or(Cell::Null),
        "min" => or_null(min()),
        "max" => or_null(max()),
        "mean" | "avg" => or_null(mean()),
        "median" => or_null(quantile(finite().collect(), 0.5)),
        "sum" | "total" => or_null(finite().next().map(|_| finite().sum())),
        "count" => count(cells.len()),
        "countAll" => count(cells.len()),
        "range" => or_null(max().zip(min()).map(|(max, min)| max - min)),
        "delta" => {
            // Only what it rose, as of a counter.
            let mut last = None;
            let rises = finite().map(|number| {
                let rise = last.map_or(0.0, |last: f64| if number >= last { number - last } else { number });
                last = Some(number);
                rise
            });
            Cell::Number(rises.sum())
        }
        "diff" => or_null(finite().next_back().zip(finite().next()).map(|(last, first)| last - first)),
        "diffperc" => or_null(
            finite()
                .next_back()
                .zip(finite().next())
                .map(|(last, first)| if first == 0.0 { 0.0 } else { (last - first) / first }),
        ),
        "step" => {
            let steps = finite().zip(finite().skip(1)).map(|(a, b)| b - a);
            or_null(steps.reduce(f64::min))
        }
        "logmin" => or_null(finite().filter(|number| *number > 0.0).reduce(f64::min)),
        "variance" => or_null(variance()),
        "stdDev" => or_null(variance().map(f64::sqrt)),
        "distinctCount" => {
            let distinct: std::collections::HashSet<String> = cells.iter().map(Cell::key).collect();
            count(distinct.len())
        }
        "changeCount" => count(cells.windows(2).filter(|pair| pair[0] != pair[1]).count()),
        "allIsZero" => Cell::Text((finite().count() > 0 && finite().all(|number| number == 0.0)).to_string()),
        "allIsNull" => Cell::Text(cells.iter().all(Cell::is_null).to_string()),
        "uniqueValues" | "allValues" => {
            let mut seen = Vec::new();
            for cell in cells.iter().take(1000) {
                let key = cell.key();
                if calc == "allValues" || !seen.contains(&key) {
                    seen.push(key);
                }
            }
            Cell::Text(seen.join(", "))
        }
        calc => match calc.strip_prefix('p').and_then(|rank| rank.parse::<f64>().ok()) {
            Some(rank) if (0.0..=100.0).contains(&rank) => {
                or_null(quantile(finite().collect(), rank / 100.0))
            }
            _ => filled().next_back().cloned().unwrap_or(Cell::Null),
        },
    }
}

fn quantile(mut numbers: Vec<f64>, rank: f64) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let at = rank * (numbers.len().checked_sub(1)?) as f64;
    let (low, high) = (numbers[at.floor() as usize], numbers[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// What a viewer calls a calculation.
pub(crate) fn reducer_name(calc: &str) -> &str {
    match calc {
        "lastNotNull" | "current" => "Last *",
        "last" => "Last",
        "first" => "First",
        "firstNotNull" => "First *",
        "min" => "Min",
        "max" => "Max",
        "mean" | "avg" => "Mean",
        "median" => "Median",
        "sum" | "total" => "Total",
        "count" => "Count",
        "range" => "Range",
        "delta" => "Delta",
        "diff" => "Difference",
        "diffperc" => "Difference percent",
        "step" => "Step",
        "variance" => "Variance",
        "stdDev" => "StdDev",
        "distinctCount" => "Distinct count",
        "changeCount" => "Change count",
        "logmin" => "Min (above zero)",
        "allIsZero" => "All zeros",
        "allIsNull" => "All nulls",
        "allValues" => "All values",
        "uniqueValues" => "All unique values",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calculations_skip_what_is_missing() {
        let cells = [
            Cell::Null,
            Cell::Number(4.0),
            Cell::Number(f64::NAN),
            Cell::Number(1.0),
            Cell::Number(3.0),
            Cell::Null,
        ];
        for (calc, wanted) in [
            ("lastNotNull", 3.0),
            ("firstNotNull", 4.0),
            ("min", 1.0),
            ("max", 4.0),
            ("mean", 8.0 / 3.0),
            ("sum", 8.0),
            ("range", 3.0),
            ("diff", -1.0),
            ("delta", 3.0),
            ("median", 3.0),
            ("p50", 3.0),
            ("count", 6.0),
        ] {
            assert_eq!(reduce(&cells, calc), Cell::Number(wanted), "{calc}");
        }
        assert_eq!(reduce(&cells, "last"), Cell::Null);
        assert_eq!(reduce(&[], "mean"), Cell::Null);
    }
}
