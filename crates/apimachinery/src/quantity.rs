//! Quantities such as `100m`, `1.5Gi`, `2e3`: exact numbers with a suffix.

use std::cmp::Ordering;
use std::fmt;

/// A quantity in billionths of its unit, which is the finest Kubernetes keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quantity {
    nano: i128,
}

/// What the API says about a text that is no quantity.
pub const FORMAT_MESSAGE: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

const NANO: i128 = 1_000_000_000;
/// More digits than this cannot be told apart by anyone.
const MAX_TEXT: usize = 64;

impl Quantity {
    pub const ZERO: Quantity = Quantity { nano: 0 };

    pub fn from_milli(milli: i64) -> Quantity {
        Quantity { nano: i128::from(milli) * 1_000_000 }
    }

    pub fn from_integer(value: i64) -> Quantity {
        Quantity { nano: i128::from(value) * NANO }
    }

    /// Reads a quantity; fractions of a billionth are rounded up, values beyond all measure are cut off. `None` if the
    /// text is no quantity.
    pub fn parse(text: &str) -> Option<Quantity> {
        if text.is_empty() || text.len() > MAX_TEXT {
            return None;
        }
        let (negative, unsigned) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (digits, suffix) = unsigned.split_at(digits_end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let (numerator, denominator) = scale(suffix)?;
        let mut mantissa: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        }
        let denominator = denominator.checked_mul(10i128.checked_pow(fraction.len() as u32)?)?;
        let scaled =
            mantissa.checked_mul(NANO).and_then(|value| value.checked_mul(numerator)).unwrap_or(i128::MAX);
        let nano = scaled / denominator + i128::from(scaled % denominator != 0);
        Some(Quantity { nano: if negative { -nano } else { nano } })
    }

    pub fn as_f64(self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// Thousandths, rounded up.
    pub fn milli(self) -> i64 {
        clamp(div_up(self.nano, 1_000_000))
    }

    /// Whole units, rounded up.
    pub fn value(self) -> i64 {
        clamp(div_up(self.nano, NANO))
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn div_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

/// Numerator and denominator of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (1000 * NANO, 1),
        "P" => (1_000_000 * NANO, 1),
        "E" => (NANO * NANO, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

impl fmt::Display for Quantity {
    /// In thousandths where it must be, else in units; without a larger suffix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.nano % NANO, self.nano % 1_000_000, self.nano % 1000) {
            (0, _, _) => write!(f, "{}", self.nano / NANO),
            (_, 0, _) => write!(f, "{}m", self.nano / 1_000_000),
            (_, _, 0) => write!(f, "{}u", self.nano / 1000),
            _ => write!(f, "{}n", self.nano),
        }
    }
}

/// Compares two texts as quantities; `None` if one is none.
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    Some(Quantity::parse(a)?.cmp(&Quantity::parse(b)?))
}

/// `text` in billionths, rounded up; `None` when it is not a quantity.
pub fn nano(text: &str) -> Option<i128> {
    Some(Quantity::parse(text)?.nano)
}

/// `text` in thousandths, rounded up and held within `i64`, as controllers compare quantities.
pub fn milli(text: &str) -> Option<i64> {
    Some(Quantity::parse(text)?.milli())
}

/// The canonical decimal text of `value` × 10^`exponent`, where `exponent` is a multiple of 3 between -9 and 18.
pub fn format_decimal(value: i64, exponent: i32) -> String {
    const SUFFIXES: [(i32, &str); 10] = [
        (-9, "n"),
        (-6, "u"),
        (-3, "m"),
        (0, ""),
        (3, "k"),
        (6, "M"),
        (9, "G"),
        (12, "T"),
        (15, "P"),
        (18, "E"),
    ];
    if value == 0 {
        return "0".into();
    }
    let (mut value, mut exponent) = (value, exponent);
    while value % 1000 == 0 && exponent < 18 {
        value /= 1000;
        exponent += 3;
    }
    let suffix = SUFFIXES.iter().find(|(e, _)| *e == exponent).map_or("", |(_, s)| *s);
    format!("{value}{suffix}")
}

/// The canonical binary text of `value`.
pub fn format_binary(value: i64) -> String {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut value = value;
    let mut power = 0;
    while value != 0 && value % 1024 == 0 && power + 1 < SUFFIXES.len() {
        value /= 1024;
        power += 1;
    }
    format!("{value}{}", SUFFIXES[power])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_and_exponents() {
        for (text, milli) in [
            ("100m", 100),
            ("1", 1000),
            ("1.5", 1500),
            ("2k", 2_000_000),
            ("1Ki", 1_024_000),
            ("1e3", 1_000_000),
            ("5E-1", 500),
            ("-1", -1000),
            ("0.5Ki", 512_000),
            (".5", 500),
            ("1n", 1),
        ] {
            assert_eq!(Quantity::parse(text).map(Quantity::milli), Some(milli), "{text}");
        }
        for bad in ["", "x", "1x", "1.2.3", "1 Gi", "--1", ".", "1e", "1e999999"] {
            assert_eq!(Quantity::parse(bad), None, "{bad}");
        }
        assert_eq!(compare("1Gi", "1G"), Some(Ordering::Greater));
        assert_eq!(Quantity::parse("0.1").unwrap().to_string(), "100m");
    }

    #[test]
    fn writes_the_canonical_text() {
        let cases = [
            (0, -9, "0"),
            (5, -3, "5m"),
            (5_000_000, -9, "5m"),
            (1_234_567, -9, "1234567n"),
            (1500, 0, "1500"),
            (2000, 0, "2k"),
            (-3000, -3, "-3"),
        ];
        for (value, exponent, text) in cases {
            assert_eq!(format_decimal(value, exponent), text);
        }
        let cases = [(0, "0"), (1024, "1Ki"), (1025, "1025"), (3 << 30, "3Gi"), (1536, "1536")];
        for (value, text) in cases {
            assert_eq!(format_binary(value), text);
        }
        assert_eq!(milli("1.5"), Some(1500));
        assert_eq!(milli("1u"), Some(1));
        assert_eq!(milli("1Ei"), Some(i64::MAX));
    }

    #[test]
    fn reads_every_suffix() {
        let cases = [
            ("1", 1_000_000_000i128),
            ("100m", 100_000_000),
            ("0.5", 500_000_000),
            ("1n", 1),
            ("0.1n", 1),
            ("1Ki", 1024 * 1_000_000_000),
            ("1.5Gi", 1_610_612_736 * 1_000_000_000),
            ("2k", 2_000 * 1_000_000_000),
            ("1e3", 1_000 * 1_000_000_000),
            ("-1", -1_000_000_000),
            (".5", 500_000_000),
        ];
        for (text, value) in cases {
            assert_eq!(nano(text), Some(value), "{text}");
        }
        for bad in ["", "x", "1x", "1.2.3", "1ee3", "--1", "e3", ".", "é"] {
            assert_eq!(nano(bad), None, "{bad}");
        }
    }
}
