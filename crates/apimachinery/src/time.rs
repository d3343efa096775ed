//! Kubernetes timestamps: RFC 3339 in UTC, to the second (`Time`) or the microsecond (`MicroTime`).

/// `2026-11-22T19:32:50Z` for milliseconds since the Unix epoch.
pub fn format_time(unix_ms: i64) -> String {
    let (date, second_of_day) = split(unix_ms.div_euclid(1000));
    format!("{date}T{}Z", clock_text(second_of_day))
}

/// `2026-11-22T19:32:50.123456Z` for microseconds since the Unix epoch.
pub fn format_micro_time(unix_us: i64) -> String {
    let (date, second_of_day) = split(unix_us.div_euclid(1_000_000));
    format!("{date}T{}.{:06}Z", clock_text(second_of_day), unix_us.rem_euclid(1_000_000))
}

/// Milliseconds since the Unix epoch for an RFC 3339 text with any fraction and offset; `None` if it is not one.
pub fn parse_time(text: &str) -> Option<i64> {
    Some(parse_micro_time(text)?.div_euclid(1000))
}

/// The same in microseconds.
pub fn parse_micro_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 || !matches!(bytes[10], b'T' | b't') {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    if bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        for (place, digit) in fraction.bytes().take(length.min(6)).enumerate() {
            micros += i64::from(digit - b'0') * [100_000, 10_000, 1000, 100, 10, 1][place];
        }
        rest = &fraction[length..];
    }
    let offset_minutes = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = match rest.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = rest.get(1..)?.split_once(':')?;
            if hours.len() != 2 || minutes.len() != 2 {
                return None;
            }
            sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?)
        }
    };
    let days = days_from_civil(year, month, day);
    Some((((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second) * 1_000_000 + micros)
}

fn split(unix_seconds: i64) -> (String, i64) {
    let (year, month, day) = civil_from_days(unix_seconds.div_euclid(86_400));
    (format!("{year:04}-{month:02}-{day:02}"), unix_seconds.rem_euclid(86_400))
}

fn clock_text(second_of_day: i64) -> String {
    format!("{:02}:{:02}:{:02}", second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date, counted in years that begin in March so that the leap
/// day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for seconds in [0, 951_782_400, 1_700_000_000, 4_102_444_799, -86_401] {
            let text = format_time(seconds * 1000);
            assert_eq!(parse_time(&text), Some(seconds * 1000), "{text}");
        }
        assert_eq!(format_time(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(format_micro_time(1_000_001), "1970-01-01T00:00:01.000001Z");
    }

    #[test]
    fn offsets_and_fractions() {
        assert_eq!(parse_time("1970-01-01T01:00:00.25+01:00"), Some(250));
        assert_eq!(parse_micro_time("1970-01-01T00:00:01.000001Z"), Some(1_000_001));
        for bad in [
            "",
            "1970-01-01",
            "1970-13-01T00:00:00Z",
            "1970-02-30T00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.Z",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
