//! Numbers as alert texts show them: with metric prefixes, as durations, as times.

use gantry_clock::CivilTime;
use gantry_gotemplate::{Value, printf};

/// Four significant digits.
fn short(value: f64) -> String {
    printf("%.4g", &[Value::Float(value)])
}

const LARGER: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALLER: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

fn scale_down(mut value: f64, by: f64, prefixes: &[&'static str]) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < by {
            break;
        }
        prefix = next;
        value /= by;
    }
    (value, prefix)
}

fn scale_up(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in SMALLER {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

/// `1234567` as `1.235M`.
pub(crate) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return short(value);
    }
    let (value, prefix) =
        if value.abs() >= 1.0 { scale_down(value, 1000.0, &LARGER) } else { scale_up(value) };
    format!("{}{prefix}", short(value))
}

/// `1048576` as `1Mi`.
pub(crate) fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return short(value);
    }
    let (value, prefix) = scale_down(value, 1024.0, &BINARY);
    format!("{}{prefix}", short(value))
}

/// `3661` as `1h 1m 1s`, `0.01` as `10ms`.
pub(crate) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return short(value);
    }
    if value == 0.0 {
        return format!("{}s", short(value));
    }
    if value.abs() < 1.0 {
        let (value, prefix) = scale_up(value);
        return format!("{}{prefix}s", short(value));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    // Saturates, as far as it can be written down at all.
    let whole = value as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", short(value)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

/// `0.1234` as `12.34%`.
pub(crate) fn humanize_percentage(value: f64) -> String {
    format!("{}%", short(value * 100.0))
}

/// Unix seconds as `2015-07-01 20:10:51.781 +0000 UTC`.
///
/// # Errors
/// When the time is out of the range of nanoseconds in 64 bits.
pub(crate) fn humanize_timestamp(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Ok(short(value));
    }
    let nanos = value * 1e9;
    if nanos.abs() > i64::MAX as f64 {
        return Err(format!(
            "{value} cannot be represented as a nanoseconds timestamp since it overflows int64"
        ));
    }
    // Prometheus' own times have milliseconds.
    let ms = (nanos as i64).div_euclid(1_000_000);
    let time = CivilTime::from_ms(ms);
    let fraction = match time.millisecond {
        0 => String::new(),
        ms => format!(".{ms:03}").trim_end_matches('0').to_owned(),
    };
    Ok(format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{fraction} +0000 UTC",
        time.year, time.month, time.day, time.hour, time.minute, time.second
    ))
}

/// RFC 3339 in UTC with milliseconds, as the Alertmanager's API takes it.
pub(crate) fn rfc3339(ms: i64) -> String {
    let time = CivilTime::from_ms(ms);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year, time.month, time.day, time.hour, time.minute, time.second, time.millisecond
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (1_234_567.0, "1.235M"),
            (0.12, "120m"),
            (-0.000_12, "-120u"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(humanize(value), text);
        }
        for (value, text) in [(0.5, "0.5"), (1024.0, "1ki"), (1_048_576.0, "1Mi"), (-2048.0, "-2ki")] {
            assert_eq!(humanize_1024(value), text);
        }
        assert_eq!(humanize_percentage(0.123_456), "12.35%");
    }

    #[test]
    fn durations() {
        for (value, text) in [
            (0.0, "0s"),
            (1.0, "1s"),
            (60.0, "1m 0s"),
            (3600.0, "1h 0m 0s"),
            (86_400.0, "1d 0h 0m 0s"),
            (86_400.0 + 3600.0, "1d 1h 0m 0s"),
            (-(86_400.0 * 2.0 + 3600.0 * 3.0 + 60.0 * 4.0 + 5.0), "-2d 3h 4m 5s"),
            (899.99, "14m 59s"),
            (0.1, "100ms"),
            (0.0001, "100us"),
            (0.012_345, "12.35ms"),
            (1.2345, "1.234s"),
        ] {
            assert_eq!(humanize_duration(value), text, "{value}");
        }
        assert_eq!(humanize_duration(1e300), format!("{}d 15h 30m 7s", i64::MAX / 86_400));
    }

    #[test]
    fn times() {
        assert_eq!(humanize_timestamp(1_435_065_584.128).unwrap(), "2015-06-23 13:19:44.128 +0000 UTC");
        assert_eq!(humanize_timestamp(0.0).unwrap(), "1970-01-01 00:00:00 +0000 UTC");
        assert!(humanize_timestamp(1e300).is_err());
        assert_eq!(humanize_timestamp(f64::INFINITY).unwrap(), "+Inf");
        assert_eq!(rfc3339(1_435_781_451_781), "2015-07-01T20:10:51.781Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
