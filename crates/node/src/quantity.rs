//! Kubernetes quantities as whole nano-units, exact for every value a pod can ask for.

/// `text` in 10⁻⁹ units, rounded up; `None` when it is not a quantity or is out of range.
pub(crate) fn nano(text: &str) -> Option<i128> {
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

#[cfg(test)]
mod tests {
    use super::nano;

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
