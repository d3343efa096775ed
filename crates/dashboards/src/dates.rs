//! Moments in words, and the time ranges a dashboard writes: `now-6h/h`, ISO dates, milliseconds.

use crate::units::Locale;

const DAY_MS: i64 = 86_400_000;
/// A range longer than this is a mistake.
const FURTHEST_MS: i64 = 1000 * 366 * DAY_MS;

/// Year, month (1 to 12), day (1 to 31) of a day counted from 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days from 1970 to a date of the proleptic calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

struct Moment {
    year: i64,
    month: i64,
    day: i64,
    ms_of_day: i64,
}

impl Moment {
    fn local(ms: i64, locale: Locale) -> Moment {
        let ms = ms.clamp(-FURTHEST_MS, FURTHEST_MS) + i64::from(locale.utc_offset_min) * 60_000;
        let (year, month, day) = civil(ms.div_euclid(DAY_MS));
        Moment { year, month, day, ms_of_day: ms.rem_euclid(DAY_MS) }
    }

    fn hour(&self) -> i64 {
        self.ms_of_day / 3_600_000
    }

    fn minute(&self) -> i64 {
        self.ms_of_day / 60_000 % 60
    }

    fn second(&self) -> i64 {
        self.ms_of_day / 1000 % 60
    }
}

/// A moment in one of the styles of [`Unit::Date`](crate::Unit::Date), or in a pattern such as `YYYY-MM-DD`.
pub(crate) fn write(ms: i64, style: &str, locale: Locale) -> String {
    let is_today = || {
        let offset = i64::from(locale.utc_offset_min) * 60_000;
        (ms.saturating_add(offset)).div_euclid(DAY_MS) == (locale.now_ms + offset).div_euclid(DAY_MS)
    };
    match style {
        "iso" => pattern(ms, "YYYY-MM-DD HH:mm:ss", locale),
        "iso-today" if is_today() => pattern(ms, "HH:mm:ss", locale),
        "iso-today" => pattern(ms, "YYYY-MM-DD HH:mm:ss", locale),
        "us" => pattern(ms, "MM/DD/YYYY h:mm:ss a", locale),
        "us-today" if is_today() => pattern(ms, "h:mm:ss a", locale),
        "us-today" => pattern(ms, "MM/DD/YYYY h:mm:ss a", locale),
        "from-now" => from_now(ms, locale.now_ms),
        other => pattern(ms, other, locale),
    }
}

/// Hours and minutes, with seconds when they are not zero: for a time axis.
pub(crate) fn clock(ms: i64, locale: Locale) -> String {
    pattern(ms, if ms % 60_000 == 0 { "HH:mm" } else { "HH:mm:ss" }, locale)
}

/// As [`clock`], with the day before it.
pub(crate) fn day_and_clock(ms: i64, locale: Locale) -> String {
    pattern(ms, "MM/DD HH:mm", locale)
}

/// The date alone when the moment is a local midnight, else with the time.
pub(crate) fn pattern(ms: i64, pattern: &str, locale: Locale) -> String {
    let moment = Moment::local(ms, locale);
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let run = rest.chars().take_while(|c| *c == first).count();
        let twelve = (moment.hour() + 11) % 12 + 1;
        let (text, used) = match (first, run) {
            ('Y', 4..) => (format!("{:04}", moment.year), 4),
            ('Y', 2..) => (format!("{:02}", moment.year.rem_euclid(100)), 2),
            ('M', 3..) => (month_name(moment.month).to_owned(), run.min(4)),
            ('M', 2) => (format!("{:02}", moment.month), 2),
            ('M', _) => (moment.month.to_string(), 1),
            ('D', 2..) => (format!("{:02}", moment.day), 2),
            ('D', _) => (moment.day.to_string(), 1),
            ('H', 2..) => (format!("{:02}", moment.hour()), 2),
            ('H', _) => (moment.hour().to_string(), 1),
            ('h', 2..) => (format!("{twelve:02}"), 2),
            ('h', _) => (twelve.to_string(), 1),
            ('m', 2..) => (format!("{:02}", moment.minute()), 2),
            ('m', _) => (moment.minute().to_string(), 1),
            ('s', 2..) => (format!("{:02}", moment.second()), 2),
            ('s', _) => (moment.second().to_string(), 1),
            ('S', 3..) => (format!("{:03}", moment.ms_of_day % 1000), 3),
            ('x', _) => (ms.to_string(), 1),
            ('X', _) => (ms.div_euclid(1000).to_string(), 1),
            ('a', _) => (if moment.hour() < 12 { "am" } else { "pm" }.to_owned(), 1),
            ('A', _) => (if moment.hour() < 12 { "AM" } else { "PM" }.to_owned(), 1),
            ('[', _) => match rest.split_once(']') {
                Some((literal, _)) => (literal[1..].to_owned(), literal.chars().count() + 1),
                None => ("[".to_owned(), 1),
            },
            (other, _) => (other.to_string(), 1),
        };
        out.push_str(&text);
        let bytes: usize = rest.chars().take(used).map(char::len_utf8).sum();
        rest = &rest[bytes..];
    }
    out
}

fn month_name(month: i64) -> &'static str {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    NAMES[usize::try_from(month - 1).unwrap_or(0).min(11)]
}

fn from_now(ms: i64, now_ms: i64) -> String {
    let distance = now_ms.saturating_sub(ms).unsigned_abs() / 1000;
    let words = match distance {
        0..45 => "a few seconds".to_owned(),
        45..90 => "a minute".to_owned(),
        90..2700 => format!("{} minutes", (distance + 30) / 60),
        2700..5400 => "an hour".to_owned(),
        5400..79_200 => format!("{} hours", (distance + 1800) / 3600),
        79_200..129_600 => "a day".to_owned(),
        129_600..2_246_400 => format!("{} days", (distance + 43_200) / 86_400),
        2_246_400..3_888_000 => "a month".to_owned(),
        3_888_000..27_648_000 => format!("{} months", (distance + 1_314_000) / 2_628_000),
        27_648_000..47_304_000 => "a year".to_owned(),
        _ => format!("{} years", (distance + 15_768_000) / 31_536_000),
    };
    if ms <= now_ms { format!("{words} ago") } else { format!("in {words}") }
}

/// One end of a range, in milliseconds since 1970: `now`, `now-6h`, `now-1d/d`, `now/w`, an ISO date, or milliseconds.
/// `round_up` is for the later end, where `/d` means the end of the day.
pub fn parse_time(text: &str, locale: Locale, round_up: bool) -> Option<i64> {
    let text = text.trim();
    let Some(mut rest) = text.strip_prefix("now") else {
        return absolute(text);
    };
    let mut ms = locale.now_ms;
    while let Some(sign) = rest.chars().next() {
        rest = &rest[sign.len_utf8()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount = if digits == 0 { 1 } else { rest[..digits].parse::<i64>().ok()? };
        rest = &rest[digits..];
        let unit = rest.chars().next()?;
        rest = &rest[unit.len_utf8()..];
        match sign {
            '-' => ms = shift(ms, -amount, unit, locale)?,
            '+' => ms = shift(ms, amount, unit, locale)?,
            '/' if digits == 0 => ms = round(ms, unit, locale, round_up)?,
            _ => return None,
        }
        if ms.abs() > FURTHEST_MS {
            return None;
        }
    }
    Some(ms)
}

fn absolute(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        // Ten digits are seconds.
        let ms = if text.len() <= 10 { number.checked_mul(1000)? } else { number };
        return (0..=FURTHEST_MS).contains(&ms).then_some(ms);
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut seconds = days_from_civil(year, month, day) * 86_400;
    if text.len() > 10 {
        let (hour, minute) = (number(11..13)?, number(14..16)?);
        seconds += hour * 3600 + minute * 60 + number(17..19).unwrap_or(0);
    }
    Some(seconds * 1000 + number(20..23).filter(|_| text.get(19..20) == Some(".")).unwrap_or(0))
}

fn shift(ms: i64, amount: i64, unit: char, locale: Locale) -> Option<i64> {
    let fixed = match unit {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => DAY_MS,
        'w' => 7 * DAY_MS,
        'M' | 'Q' | 'y' => {
            let months = amount.checked_mul(match unit {
                'M' => 1,
                'Q' => 3,
                _ => 12,
            })?;
            let moment = Moment::local(ms, locale);
            let total = (moment.year * 12 + moment.month - 1).checked_add(months)?;
            let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
            if !(-10_000..=10_000).contains(&year) {
                return None;
            }
            let longest =
                days_from_civil(year + month / 12, month % 12 + 1, 1) - days_from_civil(year, month, 1);
            let days = days_from_civil(year, month, moment.day.min(longest));
            return Some(days * DAY_MS + moment.ms_of_day - i64::from(locale.utc_offset_min) * 60_000);
        }
        _ => return None,
    };
    ms.checked_add(amount.checked_mul(fixed)?)
}

fn round(ms: i64, unit: char, locale: Locale, up: bool) -> Option<i64> {
    let offset = i64::from(locale.utc_offset_min) * 60_000;
    let local = ms + offset;
    let floor = |size: i64| local.div_euclid(size) * size;
    let start = match unit {
        's' => floor(1000),
        'm' => floor(60_000),
        'h' => floor(3_600_000),
        'd' => floor(DAY_MS),
        // 1970 began on a Thursday; weeks begin on Sunday.
        'w' => (local + 4 * DAY_MS).div_euclid(7 * DAY_MS) * 7 * DAY_MS - 4 * DAY_MS,
        'M' => {
            let moment = Moment::local(ms, locale);
            days_from_civil(moment.year, moment.month, 1) * DAY_MS
        }
        'Q' => {
            let moment = Moment::local(ms, locale);
            days_from_civil(moment.year, (moment.month - 1) / 3 * 3 + 1, 1) * DAY_MS
        }
        'y' => days_from_civil(Moment::local(ms, locale).year, 1, 1) * DAY_MS,
        _ => return None,
    } - offset;
    if up { Some(shift(start, 1, unit, locale)? - 1) } else { Some(start) }
}

/// A length such as `30s`, `1h`, `1d`, `500ms` in milliseconds; also `1m30s`.
pub fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total = 0i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let size = match &rest[..letters] {
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            "w" => 604_800_000.0,
            "M" => 2_592_000_000.0,
            "y" => 31_536_000_000.0,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add((amount * size) as i64).filter(|total| *total <= FURTHEST_MS)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28 10:20:30.456 UTC, a Saturday.
    const NOW: Locale = Locale { now_ms: 1_795_861_230_456, utc_offset_min: 0 };

    fn iso(text: &str, up: bool) -> String {
        pattern(parse_time(text, NOW, up).unwrap(), "YYYY-MM-DD HH:mm:ss.SSS", NOW)
    }

    #[test]
    fn relative_times_are_read() {
        assert_eq!(iso("now", false), "2026-11-28 10:20:30.456");
        assert_eq!(iso("now-1h/h", false), "2026-11-28 09:00:00.000");
        assert_eq!(iso("now/d", true), "2026-11-28 23:59:59.999");
        assert_eq!(iso("now/w", false), "2026-11-22 00:00:00.000");
        assert_eq!(iso("now-9M", false), "2026-02-28 10:20:30.456");
        assert_eq!(iso("now-1M/M", false), "2026-10-01 00:00:00.000");
        assert_eq!(iso("now-1y/y", true), "2025-12-31 23:59:59.999");
        assert_eq!(iso("2024-02-29T12:00:00.000Z", false), "2024-02-29 12:00:00.000");
        for wrong in ["now-", "now-1x", "now*2h", "", "yesterday", "2024-13-01", "now-99999999999y", "now-é"]
        {
            assert_eq!(parse_time(wrong, NOW, false), None, "{wrong}");
        }
    }

    #[test]
    fn local_days_follow_the_offset() {
        let east = Locale { utc_offset_min: 14 * 60, ..NOW };
        let start = parse_time("now/d", east, false).unwrap();
        assert_eq!(pattern(start, "YYYY-MM-DD HH:mm", east), "2026-11-29 00:00");
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("1m30s"), Some(90_000));
        assert_eq!(parse_duration("250ms"), Some(250));
        assert_eq!(parse_duration("auto"), None);
        assert_eq!(parse_duration("9999999999y"), None);
    }

    #[test]
    fn how_long_ago_is_said_in_words() {
        assert_eq!(write(NOW.now_ms - 7_200_000, "from-now", NOW), "2 hours ago");
        assert_eq!(write(NOW.now_ms, "us", NOW), "11/28/2026 10:20:30 am");
        assert_eq!(write(NOW.now_ms, "iso-today", NOW), "10:20:30");
        assert_eq!(pattern(NOW.now_ms, "[é]D MMM", NOW), "é28 Nov");
    }
}
