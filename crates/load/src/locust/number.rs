//! Numbers as Python has them: integers that stay integers, floats as `repr` writes them, rounding half to even.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// An `int` or a `float`; they compare by value, as in Python.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Int(i64),
    Float(f64),
}

// === impl Number ===

impl Number {
    pub const ZERO: Number = Number::Int(0);

    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Float(value) => value,
        }
    }

    /// Python's `int(x)`.
    pub fn truncated(self) -> i64 {
        match self {
            Number::Int(value) => value,
            Number::Float(value) => value as i64,
        }
    }

    pub fn min(self, other: Number) -> Number {
        if other < self { other } else { self }
    }

    pub fn max(self, other: Number) -> Number {
        if other > self { other } else { self }
    }

    /// Floats that JSON has no word for become 0.
    pub fn to_json(self) -> serde_json::Value {
        match self {
            Number::Int(value) => value.into(),
            Number::Float(value) => serde_json::Number::from_f64(value).map_or(0.into(), Into::into),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Int(value) => value.fmt(f),
            Number::Float(value) => f.write_str(&python_float(*value)),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(b),
            _ => {
                // -0.0 and 0.0 are one key.
                let (a, b) = (self.as_f64() + 0.0, other.as_f64() + 0.0);
                a.total_cmp(&b)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
                Ok(Number::Int(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
                Ok(i64::try_from(value).map_or(Number::Float(value as f64), Number::Int))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
                if value.is_finite() {
                    Ok(Number::Float(value))
                } else {
                    Err(E::custom("not a finite number"))
                }
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Number::Int(value) => serializer.serialize_i64(*value),
            Number::Float(value) => serializer.serialize_f64(*value),
        }
    }
}

/// `repr` of a float: the shortest digits that read back, in exponent form below 1e-4 and from 1e16.
pub fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

/// Locust's key of a response time: 1 ms below 100 ms, two digits above; halves go to the even neighbour.
pub fn bucket(ms: f64) -> i64 {
    if ms < 100.0 {
        return ms.round_ties_even() as i64;
    }
    let step = if ms < 1000.0 {
        10.0
    } else if ms < 10_000.0 {
        100.0
    } else {
        1000.0
    };
    // Dividing a whole half (145, 1250) is exact, so that halves are seen as such. A quotient that only rounding
    // made a half (145.00000000000001 / 10) is told apart by the remainder, which is always exact.
    let mut steps = (ms / step).floor();
    let rest = ms % step;
    match rest.total_cmp(&(step / 2.0)) {
        Ordering::Greater => steps += 1.0,
        Ordering::Equal if steps % 2.0 != 0.0 => steps += 1.0,
        _ => {}
    }
    (steps * step) as i64
}

/// Locust's `proper_round`: a nudge in the last printed digit makes halves go up.
pub fn proper_round(value: f64, digits: usize) -> f64 {
    let printed = python_float(value).len();
    let nudged = value + 10_f64.powi(-(printed as i32) - 1);
    if digits == 0 {
        return nudged.round_ties_even();
    }
    // Correctly rounded decimal output is Python's `round(x, n)`.
    format!("{nudged:.digits$}").parse().unwrap_or(nudged)
}

/// `repr` of a string.
pub fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c as u32 == 0xad => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_does() {
        for (value, text) in [
            (0.0, "0.0"),
            (20.0, "20.0"),
            (11.664679399973465, "11.664679399973465"),
            (693.0714285714286, "693.0714285714286"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (123456789012345.0, "123456789012345.0"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn response_times_fall_into_locusts_buckets() {
        for (ms, key) in [
            (0.4, 0),
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (99.4, 99),
            (99.6, 100),
            (145.0, 140),
            (147.0, 150),
            (155.0, 160),
            (145.000_000_000_000_03, 150),
            (995.1, 1000),
            (3432.0, 3400),
            (1250.0, 1200),
            (1350.0, 1400),
            (58_760.0, 59_000),
            (10_500.0, 10_000),
            (11_500.0, 12_000),
        ] {
            assert_eq!(bucket(ms), key, "{ms}");
        }
    }

    #[test]
    fn halves_go_up_in_a_proper_round() {
        assert_eq!(proper_round(2.5, 0), 3.0);
        assert_eq!(proper_round(0.0, 0), 0.0);
        assert_eq!(proper_round(8.345, 2), 8.35);
        assert_eq!(proper_round(33.43738600005963, 0), 33.0);
    }

    #[test]
    fn numbers_compare_by_value() {
        assert_eq!(Number::Int(5), Number::Float(5.0));
        assert!(Number::Int(5) < Number::Float(5.5));
        assert_eq!(Number::Int(8).to_string(), "8");
        assert_eq!(Number::Float(8.0).to_string(), "8.0");
    }

    #[test]
    fn strings_are_quoted_as_python_does() {
        assert_eq!(python_repr("a'b"), "\"a'b\"");
        assert_eq!(python_repr("a\n\"b'"), "'a\\n\"b\\''");
    }
}
