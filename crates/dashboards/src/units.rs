//! Units: an id of a dashboard to a way of writing numbers, and the writing itself.
//!
//! The ids and what kind each is are a table of facts; an id that is not in it stands for itself as a suffix.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Serialize;

use crate::dates;

const TABLE: &str = include_str!("../data/grafana@13/units.tsv");
const SI: [&str; 14] = ["f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const SI_ONE: i32 = 5;
const BINARY: [&str; 9] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const COUNT: [&str; 5] = ["", "K", "M", "B", "T"];

/// How numbers of a unit are written. Its JSON is what the page formats axis ticks with.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Unit {
    /// The number and a suffix, which brings its own space.
    Fixed {
        suffix: String,
    },
    Prefixed {
        prefix: String,
    },
    /// Steps of 1000 with SI prefixes; `power` says which prefix a value of 1 has.
    Si {
        symbol: String,
        power: i32,
    },
    /// Steps of 1024.
    Binary {
        symbol: String,
        power: i32,
    },
    /// Steps of 1000 as K, M, B, T.
    Count {
        symbol: String,
    },
    /// Steps of 1000 with names of their own.
    Scaled {
        names: Vec<String>,
    },
    Currency {
        symbol: String,
        after: bool,
    },
    Percent,
    /// 1 is 100 %.
    PercentUnit,
    Hex {
        prefix: String,
    },
    Scientific,
    /// Thousands apart.
    Locale,
    Text,
    Bool {
        yes: String,
        no: String,
    },
    /// A length of time, written in the largest fitting unit: `ns`, `us`, `ms`, `s`, `m`, `h`, `d`.
    Time {
        scale: String,
    },
    /// A length of time in words: `ms`, `s`, `ticks` (hundredths of a second).
    Duration {
        scale: String,
    },
    /// `hh:mm:ss`, with days before it or not.
    Hms {
        days: bool,
    },
    /// `01h:02m:03s:004ms`.
    Clock {
        scale: String,
    },
    /// A moment in milliseconds since 1970.
    Date {
        style: String,
    },
}

/// A written number. What is before and after it may be drawn smaller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    pub text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub suffix: String,
}

/// What formatting needs to know besides the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locale {
    /// For units that say how long ago something was.
    pub now_ms: i64,
    /// East of UTC is positive.
    pub utc_offset_min: i32,
}

// === impl Unit ===

impl Unit {
    /// The unit of an id; an empty id is a plain number.
    pub fn of(id: &str) -> Unit {
        if let Some(unit) = table().get(id) {
            return unit.clone();
        }
        let custom = |kind: &str| id.strip_prefix(kind).map(str::to_owned);
        if let Some(suffix) = custom("suffix:") {
            return Unit::Fixed { suffix };
        }
        if let Some(prefix) = custom("prefix:") {
            return Unit::Prefixed { prefix };
        }
        if let Some(style) = custom("time:") {
            return Unit::Date { style };
        }
        if let Some(symbol) = custom("si:") {
            return custom_si(&symbol);
        }
        if let Some(symbol) = custom("count:") {
            return Unit::Count { symbol };
        }
        if let Some(symbol) = custom("currency:") {
            return Unit::Currency { symbol, after: false };
        }
        if let Some((yes, no)) = id.strip_prefix("bool:").and_then(|words| words.split_once('/')) {
            return Unit::Bool { yes: yes.to_owned(), no: no.to_owned() };
        }
        if id.is_empty() {
            return Unit::Fixed { suffix: String::new() };
        }
        Unit::Fixed { suffix: format!(" {id}") }
    }

    /// Writes `value`; without `decimals` as many as its size calls for.
    pub fn write(&self, value: f64, decimals: Option<u32>, locale: Locale) -> Written {
        let plain =
            |text: String, suffix: &str| Written { prefix: String::new(), text, suffix: suffix.to_owned() };
        if value.is_nan() {
            return plain("NaN".to_owned(), "");
        }
        if value.is_infinite() && !matches!(self, Unit::Text) {
            return plain(if value > 0.0 { "∞" } else { "-∞" }.to_owned(), "");
        }
        match self {
            Unit::Fixed { suffix } => plain(to_fixed(value, decimals), suffix),
            Unit::Prefixed { prefix } => {
                Written { prefix: prefix.clone(), text: to_fixed(value, decimals), suffix: String::new() }
            }
            Unit::Si { symbol, power } => {
                let (text, index) = scaled(value, 1000.0, SI_ONE + power, SI.len(), decimals);
                plain(text, &format!(" {}{symbol}", SI[index]))
            }
            Unit::Binary { symbol, power } => {
                // A value below one keeps the unit it is counted in.
                let from = usize::try_from(*power).unwrap_or(0).min(BINARY.len() - 1);
                let (text, index) = scaled(value, 1024.0, 0, BINARY.len() - from, decimals);
                plain(text, &format!(" {}{symbol}", BINARY[from + index]))
            }
            Unit::Count { symbol } => {
                let (text, index) = scaled(value, 1000.0, 0, COUNT.len(), decimals);
                plain(text, format!("{} {symbol}", COUNT[index]).trim_end())
            }
            Unit::Scaled { names } => {
                let (text, index) = scaled(value, 1000.0, 0, names.len(), decimals);
                plain(text, names.get(index).map_or("", String::as_str))
            }
            Unit::Currency { symbol, after } => {
                let (text, index) = scaled(value, 1000.0, 0, COUNT.len(), decimals);
                if *after {
                    return plain(text, &format!("{} {symbol}", COUNT[index]));
                }
                Written { prefix: symbol.clone(), text, suffix: COUNT[index].to_owned() }
            }
            Unit::Percent => plain(to_fixed(value, decimals), "%"),
            Unit::PercentUnit => plain(to_fixed(value * 100.0, decimals), "%"),
            Unit::Hex { prefix } => {
                let sign = if value < 0.0 { "-" } else { "" };
                plain(format!("{sign}{prefix}{:X}", value.abs() as u64), "")
            }
            Unit::Scientific => plain(scientific(value, decimals), ""),
            Unit::Locale => plain(thousands(&to_fixed(value, decimals)), ""),
            Unit::Text => plain(gantry_prom_model::format_float_plain(value), ""),
            Unit::Bool { yes, no } => plain(if value == 0.0 { no } else { yes }.clone(), ""),
            Unit::Time { scale } => time(value, scale, decimals),
            Unit::Duration { scale } => plain(duration(value, scale, decimals), ""),
            Unit::Hms { days } => plain(hms(value, *days), ""),
            Unit::Clock { scale } => plain(clock(value, scale, decimals), ""),
            Unit::Date { style } => plain(dates::write(value as i64, style, locale), ""),
        }
    }
}

impl Written {
    /// All of it, as one text.
    pub fn joined(&self) -> String {
        format!("{}{}{}", self.prefix, self.text, self.suffix)
    }
}

impl Default for Unit {
    fn default() -> Unit {
        Unit::Fixed { suffix: String::new() }
    }
}

fn table() -> &'static HashMap<&'static str, Unit> {
    static UNITS: OnceLock<HashMap<&'static str, Unit>> = OnceLock::new();
    UNITS.get_or_init(|| TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect())
}

fn row(line: &'static str) -> Option<(&'static str, Unit)> {
    let mut cells = line.split('\t');
    let (id, kind) = (cells.next()?, cells.next()?);
    let symbol = cells.next().unwrap_or("").to_owned();
    let last = cells.next().unwrap_or("");
    let power = last.parse().unwrap_or(0);
    let unit = match kind {
        "fixed" if symbol.is_empty() => Unit::default(),
        "fixed" => Unit::Fixed { suffix: format!(" {symbol}") },
        "si" => Unit::Si { symbol, power },
        "binary" => Unit::Binary { symbol, power },
        "count" => Unit::Count { symbol },
        "scaled" => Unit::Scaled {
            // All names of one unit have a space before them or none has.
            names: symbol.split('|').map(str::to_owned).collect(),
        },
        "currency" => Unit::Currency { symbol, after: last == "after" },
        "percent" => Unit::Percent,
        "percentunit" => Unit::PercentUnit,
        "hex" => Unit::Hex { prefix: symbol },
        "sci" => Unit::Scientific,
        "locale" => Unit::Locale,
        "string" => Unit::Text,
        "bool" => {
            let (yes, no) = symbol.split_once('|')?;
            Unit::Bool { yes: yes.to_owned(), no: no.to_owned() }
        }
        "time" => Unit::Time { scale: symbol },
        "duration" => Unit::Duration { scale: symbol },
        "hms" => Unit::Hms { days: symbol == "d" },
        "clock" => Unit::Clock { scale: symbol },
        "date" => Unit::Date { style: symbol },
        _ => return None,
    };
    Some((id, unit))
}

/// `µF` counts from micro; a symbol that begins with no prefix from one.
fn custom_si(symbol: &str) -> Unit {
    let mut chars = symbol.chars();
    if let Some(first) = chars.next()
        && !chars.as_str().is_empty()
        && let Some(index) = SI.iter().position(|prefix| *prefix == first.to_string())
    {
        let power = i32::try_from(index).unwrap_or(SI_ONE) - SI_ONE;
        return Unit::Si { symbol: chars.as_str().to_owned(), power };
    }
    Unit::Si { symbol: symbol.to_owned(), power: 0 }
}

/// The number in its step and which of `count` steps it is, `one` being that of 1.
fn scaled(value: f64, factor: f64, one: i32, count: usize, decimals: Option<u32>) -> (String, usize) {
    let last = i32::try_from(count).unwrap_or(1) - 1;
    let one = one.clamp(0, last);
    let step = if value == 0.0 { 0 } else { (value.abs().ln() / factor.ln() + 1e-12).floor() as i32 };
    let step = step.clamp(-one, last - one);
    (to_fixed(value / factor.powi(step), decimals), usize::try_from(one + step).unwrap_or(0))
}

/// Digits after the point that a number of this size is shown with when nobody says.
fn auto_decimals(value: f64) -> u32 {
    if value == 0.0 || value % 1.0 == 0.0 {
        return 0;
    }
    let mut decimals = 1 - value.abs().log10().floor() as i32;
    if value.abs() / 10f64.powi(-decimals) > 2.25 {
        decimals += 1;
    }
    u32::try_from(decimals).unwrap_or(0)
}

/// `value` with `decimals` digits after the point, or as many as its size calls for.
pub fn to_fixed(value: f64, decimals: Option<u32>) -> String {
    let decimals = decimals.unwrap_or_else(|| auto_decimals(value)).min(20);
    let text = format!("{:.*}", decimals as usize, round_half_up(value, decimals));
    if text.trim_matches(|c| matches!(c, '0' | '.' | '-')).is_empty() {
        return text.trim_start_matches('-').to_owned();
    }
    text
}

fn round_half_up(value: f64, decimals: u32) -> f64 {
    let factor = 10f64.powi(decimals as i32);
    let scaled = (value * factor + 0.5).floor() / factor;
    if scaled.is_finite() { scaled } else { value }
}

fn scientific(value: f64, decimals: Option<u32>) -> String {
    let text = match decimals {
        Some(decimals) => format!("{value:.*e}", decimals.min(20) as usize),
        None => format!("{value:e}"),
    };
    match text.split_once('e') {
        Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
        _ => text,
    }
}

fn thousands(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, rest) = text.find('.').map_or((text, ""), |at| text.split_at(at));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// The unit from which on the next larger one is used, what it is divided by, and its name.
fn time(value: f64, scale: &str, decimals: Option<u32>) -> Written {
    const NS: &[(f64, f64, &str)] = &[
        (1e3, 1.0, " ns"),
        (1e6, 1e3, " µs"),
        (1e9, 1e6, " ms"),
        (6e10, 1e9, " s"),
        (3.6e12, 6e10, " min"),
        (8.64e13, 3.6e12, " hour"),
        (f64::INFINITY, 8.64e13, " day"),
    ];
    const US: &[(f64, f64, &str)] = &[(1e3, 1.0, " µs"), (1e6, 1e3, " ms"), (f64::INFINITY, 1e6, " s")];
    const MS: &[(f64, f64, &str)] = &[
        (1e3, 1.0, " ms"),
        (6e4, 1e3, " s"),
        (3.6e6, 6e4, " min"),
        (8.64e7, 3.6e6, " hour"),
        (3.1536e10, 8.64e7, " day"),
        (f64::INFINITY, 3.1536e10, " year"),
    ];
    const S: &[(f64, f64, &str)] = &[
        (1e-6, 1e-9, " ns"),
        (1e-3, 1e-6, " µs"),
        (1.0, 1e-3, " ms"),
        (60.0, 1.0, " s"),
        (3600.0, 60.0, " min"),
        (86400.0, 3600.0, " hour"),
        (604_800.0, 86400.0, " day"),
        (31_536_000.0, 604_800.0, " week"),
        (f64::INFINITY, 31_556_900.0, " year"),
    ];
    const M: &[(f64, f64, &str)] = &[
        (60.0, 1.0, " min"),
        (1440.0, 60.0, " hour"),
        (10080.0, 1440.0, " day"),
        (525_948.0, 10080.0, " week"),
        (f64::INFINITY, 525_948.0, " year"),
    ];
    const H: &[(f64, f64, &str)] = &[
        (24.0, 1.0, " hour"),
        (168.0, 24.0, " day"),
        (8760.0, 168.0, " week"),
        (f64::INFINITY, 8760.0, " year"),
    ];
    const D: &[(f64, f64, &str)] =
        &[(7.0, 1.0, " day"), (365.0, 7.0, " week"), (f64::INFINITY, 365.0, " year")];
    let steps = match scale {
        "ns" => NS,
        "us" => US,
        "ms" => MS,
        "m" => M,
        "h" => H,
        "d" => D,
        _ => S,
    };
    let zero = if scale == "s" { 3 } else { 0 };
    let index = if value == 0.0 {
        zero
    } else {
        steps.iter().position(|step| value.abs() < step.0).unwrap_or(steps.len() - 1)
    };
    let (_, divisor, name) = steps[index];
    Written { prefix: String::new(), text: to_fixed(value / divisor, decimals), suffix: name.to_owned() }
}

/// `2 days, 3 hours`: as many parts after the first as there are decimals.
fn duration(value: f64, scale: &str, decimals: Option<u32>) -> String {
    const PARTS: [(&str, f64); 8] = [
        ("year", 31_536_000_000.0),
        ("month", 2_592_000_000.0),
        ("week", 604_800_000.0),
        ("day", 86_400_000.0),
        ("hour", 3_600_000.0),
        ("minute", 60_000.0),
        ("second", 1000.0),
        ("millisecond", 1.0),
    ];
    let ms = match scale {
        "ms" => value,
        "ticks" => value * 10.0,
        _ => value * 1000.0,
    };
    if ms == 0.0 {
        return if scale == "ms" { "0 milliseconds" } else { "0 seconds" }.to_owned();
    }
    let (mut rest, mut words) = (ms.abs(), Vec::new());
    let most = decimals.unwrap_or(0) as usize + 1;
    for (name, size) in PARTS {
        let count = (rest / size).floor();
        if count > 0.0 || !words.is_empty() {
            rest -= count * size;
            words.push(format!("{count} {name}{}", if count == 1.0 { "" } else { "s" }));
            if words.len() == most {
                break;
            }
        }
    }
    if words.is_empty() {
        words.push(format!("{} milliseconds", to_fixed(ms.abs(), None)));
    }
    words.join(", ") + if ms < 0.0 { " ago" } else { "" }
}

fn hms(seconds: f64, with_days: bool) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    let total = seconds.abs() as u64;
    let (days, hours) = if with_days { (total / 86400, total % 86400 / 3600) } else { (0, total / 3600) };
    let clock = format!("{hours:02}:{:02}:{:02}", total % 3600 / 60, total % 60);
    if with_days { format!("{sign}{days} d {clock}") } else { format!("{sign}{clock}") }
}

fn clock(value: f64, scale: &str, decimals: Option<u32>) -> String {
    let ms = (if scale == "ms" { value } else { value * 1000.0 }).abs() as u64;
    let parts = [(ms / 3_600_000, "h"), (ms / 60_000 % 60, "m"), (ms / 1000 % 60, "s"), (ms % 1000, "ms")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = decimals.map_or(4, |decimals| decimals as usize + 1);
    let words: Vec<String> = parts[first..]
        .iter()
        .take(shown)
        .map(
            |(count, name)| {
                if *name == "ms" { format!("{count:03}{name}") } else { format!("{count:02}{name}") }
            },
        )
        .collect();
    words.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(id: &str, value: f64, decimals: Option<u32>) -> String {
        Unit::of(id).write(value, decimals, Locale::default()).joined()
    }

    #[test]
    fn every_row_of_the_table_is_a_unit() {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!((rows, table().len()), (273, 273));
    }

    #[test]
    fn numbers_are_written_as_their_unit_says() {
        for (id, value, decimals, text) in [
            ("short", 1234.0, None, "1.23 K"),
            ("none", 0.5, None, "0.500"),
            ("", 12.34, None, "12.3"),
            ("bytes", 1536.0, None, "1.50 KiB"),
            ("bytes", 0.0, None, "0 B"),
            ("decbytes", 2_500_000.0, Some(0), "3 MB"),
            ("mbytes", 2048.0, None, "2 GiB"),
            ("kbytes", 0.5, None, "0.500 KiB"),
            ("percent", 12.5, Some(1), "12.5%"),
            ("percentunit", 0.256, Some(0), "26%"),
            ("s", 0.0042, None, "4.20 ms"),
            ("s", 0.0, None, "0 s"),
            ("s", 5400.0, None, "1.50 hour"),
            ("ms", 1500.0, None, "1.50 s"),
            ("reqps", 1200.0, None, "1.20K req/s"),
            ("ops", 3.0, None, "3 ops/s"),
            ("currencyUSD", 1_250_000.0, None, "$1.25M"),
            ("pps", 0.004, None, "4 mp/s"),
            ("dtdurations", 90_061.0, Some(1), "1 day, 1 hour"),
            ("dthms", 3661.0, None, "01:01:01"),
            ("locale", 1_234_567.0, None, "1,234,567"),
            ("/ sec", 2.0, None, "2 / sec"),
            ("suffix:/min", 2.0, None, "2/min"),
            ("si:µF", 2000.0, None, "2 mF"),
            ("bool_on_off", 1.0, None, "On"),
            ("none", -0.000_000_1, Some(2), "0.00"),
            ("hex0x", 255.0, None, "0xFF"),
            ("bytes", f64::NAN, None, "NaN"),
        ] {
            assert_eq!(written(id, value, decimals), text, "{id} {value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_number_makes_a_panic(value: f64, id in 0usize..273, decimals in proptest::option::of(0u32..400)) {
            let line = TABLE.lines().filter(|line| !line.starts_with('#')).nth(id).unwrap();
            let id = line.split('\t').next().unwrap();
            written(id, value, decimals);
            written(id, value * 1e300, decimals);
        }
    }
}
