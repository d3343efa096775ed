//! Kubernetes quantities as whole nano-units, exact for every value an object can hold, and their canonical text.

/// `text` in 10⁻⁹ units, rounded up; `None` when it is not a quantity or is out of range.
pub fn nano(text: &str) -> Option<i128> {
    let number_end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(i, _)| i);
    let (number, suffix) = text.split_at(number_end);
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || digits.len() > 30 {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let binary = |power: u32| Some((1024i128.checked_pow(power)?, 0i32));
    let (factor, exponent) = match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => binary(1)?,
        "Mi" => binary(2)?,
        "Gi" => binary(3)?,
        "Ti" => binary(4)?,
        "Pi" => binary(5)?,
        "Ei" => binary(6)?,
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let exponent = exponent.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = mantissa.checked_mul(factor)?;
    let power = |n: u32| 10i128.checked_pow(n);
    let value = match exponent {
        e if e >= 0 => scaled.checked_mul(power(e.unsigned_abs())?)?,
        e => match power(e.unsigned_abs()) {
            Some(divisor) => scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) != 0),
            None => i128::from(scaled != 0),
        },
    };
    Some(if negative { -value } else { value })
}

/// `text` in thousandths, rounded up and held within `i64`, as controllers compare quantities.
pub fn milli(text: &str) -> Option<i64> {
    let nano = nano(text)?;
    let milli = nano.div_euclid(1_000_000) + i128::from(nano.rem_euclid(1_000_000) != 0);
    Some(i64::try_from(milli).unwrap_or(if milli < 0 { i64::MIN } else { i64::MAX }))
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
