//! Prometheus durations: `1w2d3h4m5s6ms`, each unit at most once and in falling order.

use crate::DurationError;
use std::fmt::Write;

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a Prometheus duration (`5m`, `1h30m`, `0`) into milliseconds.
///
/// # Errors
/// When the text is empty, is not of the form, or passes what fits 64 bits of nanoseconds (about 292 years).
pub fn parse_prometheus_duration(text: &str) -> Result<i64, DurationError> {
    let malformed = || DurationError::Malformed { text: text.to_owned(), example: "1h30m" };
    let out_of_range = || DurationError::OutOfRange { text: text.to_owned() };
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let mut total_ms: i64 = 0;
    let mut next_unit = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after_number) = rest.split_at(digits);
        let unit_len = after_number.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after_unit) = after_number.split_at(unit_len);
        if number.is_empty() || unit.is_empty() {
            return Err(malformed());
        }
        let Some(position) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(DurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() });
        };
        if position < next_unit {
            return Err(malformed());
        }
        next_unit = position + 1;
        let count: i64 = number.parse().map_err(|_| out_of_range())?;
        let (_, ms_per_unit) = UNITS[position];
        total_ms = count
            .checked_mul(ms_per_unit)
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or_else(out_of_range)?;
        rest = after_unit;
    }
    Ok(total_ms)
}

/// Prints milliseconds as Prometheus does: years, weeks and days only where they divide evenly
/// (`1d` but `25h`), `0s` for zero.
pub fn format_prometheus_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    if ms < 0 {
        text.push('-');
    }
    let mut rest = ms.unsigned_abs();
    for (unit, ms_per_unit) in UNITS {
        let ms_per_unit = ms_per_unit.unsigned_abs();
        let only_when_exact = matches!(unit, "y" | "w" | "d");
        if rest < ms_per_unit || (only_when_exact && !rest.is_multiple_of(ms_per_unit)) {
            continue;
        }
        write!(text, "{}{unit}", rest / ms_per_unit).expect("writing to a string does not fail");
        rest %= ms_per_unit;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_back() {
        for (text, ms, printed) in [
            ("0", 0, "0s"),
            ("0w", 0, "0s"),
            ("324ms", 324, "324ms"),
            ("3s", 3_000, "3s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("4d", 345_600_000, "4d"),
            ("4d1h", 349_200_000, "97h"),
            ("14d", 1_209_600_000, "2w"),
            ("3w2d1h", 1_990_800_000, "553h"),
            ("10y", 315_360_000_000, "10y"),
            ("1m30s", 90_000, "1m30s"),
        ] {
            assert_eq!(parse_prometheus_duration(text), Ok(ms), "{text}");
            assert_eq!(format_prometheus_duration(ms), printed);
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "1", "1y1m1d", "-1w", "1.5d", "d", "294y", "200y10400w", "107675d", "1q", "5m5m"] {
            assert!(parse_prometheus_duration(text).is_err(), "{text}");
        }
    }
}
