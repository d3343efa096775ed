//! Numbers as Go prints and reads them.

use std::fmt::Write;

/// A number as Go's `strconv.FormatFloat(value, 'g', -1, 64)` prints it:
/// `100000`, `1e+06`, `NaN`, `+Inf`.
pub fn format_float(value: f64) -> String {
    let mut text = String::new();
    write_float(&mut text, value);
    text
}

/// As [`format_float`], appended to `out`.
pub fn write_float(out: &mut String, value: f64) {
    if write_special(out, value) {
        return;
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // For the shortest representation Go takes the exponent form below 1e-4 and from 1e6 on.
    if (-4..6).contains(&exponent) {
        push_display(out, value);
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        // The parts are digits, so writing them cannot fail.
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
}

/// A number as Go's `strconv.FormatFloat(value, 'f', -1, 64)` prints it: never with an exponent.
pub fn format_float_plain(value: f64) -> String {
    let mut text = String::new();
    if !write_special(&mut text, value) {
        push_display(&mut text, value);
    }
    text
}

/// A number as OpenMetrics writes bounds and quantiles: like [`format_float`], with `.0` on whole numbers.
pub fn format_open_metrics_float(value: f64) -> String {
    let mut text = format_float(value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

fn write_special(out: &mut String, value: f64) -> bool {
    let word = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "+Inf"
    } else if value == f64::NEG_INFINITY {
        "-Inf"
    } else {
        return false;
    };
    out.push_str(word);
    true
}

fn push_display(out: &mut String, value: f64) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}

/// Reads a number as Go's `strconv.ParseFloat` does: decimal, hexadecimal (`0x1p-2`), `Inf`, `NaN`, without
/// regard to case and with underscores refused. `None` when the text is not a number.
pub fn parse_float(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let (negative, unsigned) = match bytes.first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let magnitude = match unsigned.as_bytes().first()? {
        b'0'..=b'9' | b'.' => {
            if let Some(hex) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
                parse_hex_float(hex)?
            } else {
                unsigned.parse::<f64>().ok()?
            }
        }
        b'i' | b'I' if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") => {
            f64::INFINITY
        }
        b'n' | b'N' if unsigned.eq_ignore_ascii_case("nan") => f64::NAN,
        _ => return None,
    };
    Some(if negative { -magnitude } else { magnitude })
}

fn parse_hex_float(hex: &str) -> Option<f64> {
    let (mantissa, exponent) = match hex.split_once(['p', 'P']) {
        None => (hex, 0),
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0f64;
    for digit in whole.chars() {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let mut scale = 1.0 / 16.0;
    for digit in fraction.chars() {
        value += f64::from(digit.to_digit(16)?) * scale;
        scale /= 16.0;
    }
    Some(value * 2f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (1e21, "1e+21"),
            (1.5e-300, "1.5e-300"),
            (123_456_789.125, "1.23456789125e+08"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_float(value), text);
        }
        assert_eq!(format_open_metrics_float(1.0), "1.0");
        assert_eq!(format_open_metrics_float(0.5), "0.5");
        assert_eq!(format_float_plain(1e21), "1000000000000000000000");
    }

    #[test]
    fn reads_as_go_does() {
        for (text, value) in [
            ("1", 1.0),
            ("-1.5e3", -1500.0),
            ("+Inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("0x1.8p1", 3.0),
            (".5", 0.5),
            ("1.", 1.0),
        ] {
            assert_eq!(parse_float(text), Some(value), "{text}");
        }
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
        for text in ["", "-", "1_000", "e1", "0x", "infin", "nano", "1 ", "--1", "1e"] {
            assert_eq!(parse_float(text), None, "{text}");
        }
    }
}
