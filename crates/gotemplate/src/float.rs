//! Floats in Go's notations.

/// Decimal digits and the place of the point: the value is `0.DIGITS × 10^point`.
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    point: i32,
}

/// No float has more digits that are not zero.
const MOST_PLACES: usize = 1100;

/// As `strconv.FormatFloat(value, verb, precision, 64)`; `None` is the shortest form that reads back the same.
pub(crate) fn format(value: f64, verb: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    match verb {
        'e' | 'E' => exponential(value, verb, precision),
        'f' | 'F' => match precision {
            Some(places) => {
                let exact = places.min(MOST_PLACES);
                format!("{value:.exact$}{}", "0".repeat(places - exact))
            }
            None => format!("{value}"),
        },
        'b' => binary(value),
        'x' | 'X' => hexadecimal(value, verb, precision),
        _ => general(value, if verb == 'G' { 'E' } else { 'e' }, precision),
    }
}

fn exponential(value: f64, e: char, precision: Option<usize>) -> String {
    let exact = precision.map(|places| places.min(MOST_PLACES));
    let text = match exact {
        Some(places) => format!("{value:.places$e}"),
        None => format!("{value:e}"),
    };
    let zeros = "0".repeat(precision.unwrap_or(0) - exact.unwrap_or(0));
    // Go writes the exponent with a sign and at least two digits.
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}{zeros}{e}{sign}{:02}", exponent.abs())
}

fn digits(value: f64, significant: Option<usize>) -> Digits {
    let text = match significant {
        Some(count) => format!("{:.*e}", count.saturating_sub(1).min(MOST_PLACES), value.abs()),
        None => format!("{:e}", value.abs()),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mut digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    Digits { negative: value.is_sign_negative(), digits, point }
}

fn general(value: f64, e: char, precision: Option<usize>) -> String {
    let precision = precision.map(|p| p.max(1));
    let Digits { negative, digits, point } = digits(value, precision);
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let threshold = match precision {
        None => 6,
        Some(p) => {
            let p = i32::try_from(p).unwrap_or(i32::MAX);
            if p > count && count >= point { count } else { p }
        }
    };
    let exponent = point - 1;
    let mut out = String::new();
    if negative {
        out.push('-');
    }
    let text = String::from_utf8_lossy(&digits);
    if value != 0.0 && (exponent < -4 || exponent >= threshold) {
        out.push_str(&text[..1]);
        if text.len() > 1 {
            out.push('.');
            out.push_str(&text[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        out.push_str(&format!("{e}{sign}{:02}", exponent.abs()));
        return out;
    }
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    if value == 0.0 {
        out.push('0');
    } else if point <= 0 {
        out.push_str("0.");
        out.push_str(&zeros(-point));
        out.push_str(&text);
    } else if point >= count {
        out.push_str(&text);
        out.push_str(&zeros(point - count));
    } else {
        let (whole, fraction) = text.split_at(usize::try_from(point).unwrap_or(0));
        out.push_str(&format!("{whole}.{fraction}"));
    }
    out
}

/// Mantissa as an integer and exponent of two, without normalising.
fn parts(value: f64) -> (bool, u64, i32) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let biased = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
    match biased {
        0 => (value.is_sign_negative(), fraction, -1074),
        _ => (value.is_sign_negative(), fraction | 1 << 52, biased - 1075),
    }
}

fn binary(value: f64) -> String {
    let (negative, mantissa, exponent) = parts(value);
    format!("{}{mantissa}p{exponent:+}", if negative { "-" } else { "" })
}

fn hexadecimal(value: f64, verb: char, precision: Option<usize>) -> String {
    let (negative, mut mantissa, mut exponent) = parts(value);
    if mantissa == 0 {
        exponent = 0;
    } else {
        // One digit before the point: bit 60 is the leading one.
        let shift = mantissa.leading_zeros() - 3;
        mantissa <<= shift;
        exponent = exponent + 60 - i32::try_from(shift).unwrap_or(0);
    }
    if let Some(places) = precision.filter(|places| *places < 15) {
        let dropped = u32::try_from((15 - places) * 4).unwrap_or(0);
        let extra = mantissa & ((1 << dropped) - 1);
        mantissa >>= dropped;
        let half = 1u64 << (dropped - 1);
        if extra > half || (extra == half && mantissa & 1 == 1) {
            mantissa += 1;
        }
        mantissa <<= dropped;
        if mantissa >> 61 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let mut fraction = format!("{:015x}", mantissa & ((1 << 60) - 1));
    match precision {
        Some(places) if places <= 15 => fraction.truncate(places),
        Some(places) => fraction.push_str(&"0".repeat(places - 15)),
        None => fraction.truncate(fraction.trim_end_matches('0').len()),
    }
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    let text = format!(
        "{}0x{}{point}{fraction}p{sign}{:02}",
        if negative { "-" } else { "" },
        mantissa >> 60,
        exponent.abs()
    );
    if verb == 'X' { text.to_uppercase() } else { text }
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn go_prints_floats_so() {
        let cases: &[(f64, char, Option<usize>, &str)] = &[
            (1.0, 'e', None, "1e+00"),
            (1234.5678, 'e', Some(2), "1.23e+03"),
            (1234.5678, 'f', None, "1234.5678"),
            (0.000_012, 'g', None, "1.2e-05"),
            (0.000_12, 'g', None, "0.00012"),
            (100_000.0, 'g', Some(6), "100000"),
            (1_000_000.0, 'g', Some(6), "1e+06"),
            (123_456_789.0, 'g', Some(3), "1.23e+08"),
            (3.0, 'g', Some(3), "3"),
            (-0.0, 'g', None, "-0"),
            (1e300, 'G', None, "1E+300"),
            (1.0, 'b', None, "4503599627370496p-52"),
            (1.0, 'x', None, "0x1p+00"),
            (-23.7, 'x', Some(3), "-0x1.7b3p+04"),
            (f64::INFINITY, 'f', Some(2), "+Inf"),
        ];
        for (value, verb, precision, expected) in cases {
            assert_eq!(format(*value, *verb, *precision), *expected, "{value} %{verb} {precision:?}");
        }
    }
}
