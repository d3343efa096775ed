//! Floats as they come out after a passage through JSON.

/// The text go-yaml v2 gives a float that it read from JSON: an integer where it is one, else Go's shortest `%g`.
pub(super) fn to_yaml(x: f64) -> String {
    if x.is_nan() {
        return ".nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    // JSON writes numbers below 1e21 without an exponent, and those are read back as integers where they fit.
    if x.fract() == 0.0 && x.abs() < 1e21 {
        let digits = format!("{x}");
        if let Ok(int) = digits.parse::<i64>() {
            return int.to_string();
        }
        if digits.parse::<u64>().is_ok() {
            return digits;
        }
    }
    shortest(x)
}

/// Go's `strconv.FormatFloat(x, 'g', -1, 64)`: exponent form below 1e-4 and from 1e6 on.
fn shortest(x: f64) -> String {
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    } else {
        format!("{x}")
    }
}

#[cfg(test)]
mod tests {
    use super::to_yaml;

    #[test]
    fn numbers_as_go_writes_them() {
        for (x, text) in [
            (1.0, "1"),
            (-0.0, "0"),
            (1e6, "1000000"),
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (1.2345678901234568e+29, "1.2345678901234568e+29"),
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (1234567.5, "1.2345675e+06"),
            (123456.5, "123456.5"),
        ] {
            assert_eq!(to_yaml(x), text);
        }
    }
}
