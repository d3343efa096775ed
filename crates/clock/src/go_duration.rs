//! Go durations: `1h2m3.5s`, as `time.ParseDuration` reads and `time.Duration.String` prints them.

use crate::DurationError;
use std::time::Duration;

/// Reads a Go duration such as `300ms`, `-1.5h` or `2h45m` into nanoseconds.
///
/// # Errors
/// When the text is empty, has no unit, has an unknown unit, or does not fit 64 bits of nanoseconds.
pub fn parse_go_duration(text: &str) -> Result<i64, DurationError> {
    let malformed = || DurationError::Malformed { text: text.to_owned(), example: "1h30m" };
    let out_of_range = || DurationError::OutOfRange { text: text.to_owned() };
    let (negative, unsigned) = match text.as_bytes().first() {
        None => return Err(DurationError::Empty),
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
    };
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(malformed());
    }
    let mut total: i128 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole_text, after_whole) = rest.split_at(whole_len);
        let (fraction_text, after_number) = match after_whole.strip_prefix('.') {
            None => ("", after_whole),
            Some(after_dot) => {
                let len = after_dot.bytes().take_while(u8::is_ascii_digit).count();
                after_dot.split_at(len)
            }
        };
        if whole_text.is_empty() && fraction_text.is_empty() {
            return Err(malformed());
        }
        let unit_len = after_number.bytes().take_while(|b| *b != b'.' && !b.is_ascii_digit()).count();
        let (unit, after_unit) = after_number.split_at(unit_len);
        if unit.is_empty() {
            return Err(malformed());
        }
        let nanos_per_unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(DurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() }),
        };
        let whole: i128 =
            if whole_text.is_empty() { 0 } else { whole_text.parse().map_err(|_| out_of_range())? };
        let mut nanos = whole.checked_mul(nanos_per_unit).ok_or_else(out_of_range)?;
        // Digits past the 18th cannot change a nanosecond.
        let (mut numerator, mut denominator) = (0i128, 1i128);
        for digit in fraction_text.bytes().take(18) {
            numerator = numerator * 10 + i128::from(digit - b'0');
            denominator *= 10;
        }
        nanos += numerator * nanos_per_unit / denominator;
        total = total.checked_add(nanos).ok_or_else(out_of_range)?;
        if total > i128::from(i64::MAX) + 1 {
            return Err(out_of_range());
        }
        rest = after_unit;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| out_of_range())
}

/// Reads a Go duration that may not be negative.
///
/// # Errors
/// As [`parse_go_duration`], and when the duration is negative.
pub fn parse_go_duration_unsigned(text: &str) -> Result<Duration, DurationError> {
    let nanos = parse_go_duration(text)?;
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| DurationError::Negative { text: text.to_owned() })
}

/// Prints nanoseconds as Go does: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn format_go_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    if magnitude < 1_000_000_000 {
        let (unit, per_unit) = match magnitude {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(magnitude, per_unit));
    }
    let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000);
    let minutes = magnitude / 60_000_000_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / per_unit` (a power of ten) in decimal, without trailing zeros.
fn decimal(value: u64, per_unit: u64) -> String {
    let fraction = value % per_unit;
    if fraction == 0 {
        return (value / per_unit).to_string();
    }
    let digits = per_unit.ilog10() as usize;
    let text = format!("{}.{fraction:0digits$}", value / per_unit);
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1478s", 1_478_000_000_000),
            ("-5s", -5_000_000_000),
            ("+0", 0),
            ("5.6s", 5_600_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("12µs", 12_000),
            ("3h30m", 12_600_000_000_000),
            ("10.5s4m", 250_500_000_000),
            ("-1.5h", -5_400_000_000_000),
        ] {
            assert_eq!(parse_go_duration(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in ["", "3", "-", "s", ".", ".s", "+.s", "1d", "9223372036854775810ns", "1x2s", "1\u{1F600}"]
        {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prints_what_go_prints() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (-60_000_000_000, "-1m0s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_go_duration(nanos), text);
        }
    }
}
