//! Scales and paths: a lane becomes an SVG in a box of 1000 × 100 that the page stretches, labels stay HTML.

use std::fmt::Write;

use super::{Kind, Lane, Unit};

/// The shared time axis.
#[derive(Clone, Copy)]
pub(super) struct TimeAxis {
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
}

/// A lane's value axis: 0 to a round number.
pub(super) struct ValueAxis {
    pub(super) top: f64,
    pub(super) ticks: Vec<f64>,
}

impl TimeAxis {
    /// Percent of the width.
    pub(super) fn percent(self, at_ms: i64) -> f64 {
        let length = (self.last_ms - self.first_ms).max(1) as f64;
        ((at_ms - self.first_ms) as f64 / length * 100.0).clamp(0.0, 100.0)
    }

    /// Seconds from the start at which to write a label: at most eight round steps.
    pub(super) fn ticks(self) -> Vec<i64> {
        let seconds = (self.last_ms - self.first_ms) / 1000;
        let steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400];
        let step = steps.into_iter().find(|step| seconds / step <= 8).unwrap_or(seconds.max(1));
        (0..=seconds / step).map(|n| n * step).collect()
    }
}

impl ValueAxis {
    pub(super) fn of(lane: &Lane) -> ValueAxis {
        let values =
            lane.series.iter().flat_map(|series| series.points.iter().filter_map(|(_, value)| *value));
        let limits = lane.limits.iter().map(|(_, value)| *value);
        let most = values.chain(limits).filter(|value| value.is_finite()).fold(0.0, f64::max);
        let whole = matches!(lane.unit, Unit::Count | Unit::Bytes);
        let step = round_step(if most > 0.0 { most / 3.0 } else { 1.0 / 3.0 }, lane.unit);
        let step = if whole { step.max(1.0) } else { step };
        let count = (most / step).ceil().max(1.0);
        ValueAxis { top: step * count, ticks: (0..=count as u32).map(|n| f64::from(n) * step).collect() }
    }

    /// From the top of the box of 100.
    fn y(&self, value: f64) -> f64 {
        100.0 - (value / self.top * 100.0).clamp(0.0, 100.0)
    }

    /// Percent of the height, from the bottom.
    pub(super) fn percent(&self, value: f64) -> f64 {
        100.0 - self.y(value)
    }
}

/// 1, 2 or 5 times a power of ten (of 1024 for bytes), not below `least`.
fn round_step(least: f64, unit: Unit) -> f64 {
    let base: f64 = if unit == Unit::Bytes {
        1024.0_f64.powf((least.max(1.0).ln() / 1024.0_f64.ln()).floor())
    } else {
        1.0
    };
    let scaled = least / base;
    let power = 10.0_f64.powf(scaled.log10().floor());
    let digit =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= scaled * 0.999_999).unwrap_or(10.0);
    digit * power * base
}

/// The path of one series: gaps are gaps.
pub(super) fn path(points: &[(i64, Option<f64>)], kind: Kind, time: TimeAxis, values: &ValueAxis) -> String {
    let mut path = String::new();
    let mut previous: Option<f64> = None;
    for (at_ms, value) in points {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            previous = None;
            continue;
        };
        let (x, y) = (time.percent(*at_ms) * 10.0, values.y(value));
        let _ = match (previous, kind) {
            (None, _) => write!(path, "M{x:.1} {y:.1}"),
            (Some(_), Kind::Step) => write!(path, "H{x:.1}V{y:.1}"),
            (Some(_), _) => write!(path, "L{x:.1} {y:.1}"),
        };
        previous = Some(y);
    }
    path
}

/// With the unit people use, at most three significant digits.
pub(super) fn format_value(value: f64, unit: Unit) -> String {
    let digits = crate::summary::three_digits;
    let scaled = |value: f64, thousand: f64, suffixes: [&'static str; 4]| {
        let mut value = value;
        let mut index = 0;
        while value.abs() >= thousand && index + 1 < suffixes.len() {
            value /= thousand;
            index += 1;
        }
        (trim(&digits(value)), suffixes.get(index).copied().unwrap_or_default())
    };
    match unit {
        Unit::Seconds if value != 0.0 && value < 1.0 => format!("{} ms", trim(&digits(value * 1000.0))),
        Unit::Seconds => format!("{} s", trim(&digits(value))),
        Unit::Share => format!("{} %", trim(&digits(value * 100.0))),
        Unit::Count => {
            let (number, suffix) = scaled(value, 1000.0, ["", " k", " M", " G"]);
            format!("{number}{suffix}")
        }
        Unit::PerSecond => {
            let (number, suffix) = scaled(value, 1000.0, ["/s", " k/s", " M/s", " G/s"]);
            format!("{number}{suffix}")
        }
        Unit::Bytes => {
            let (number, suffix) = scaled(value, 1024.0, [" B", " KiB", " MiB", " GiB"]);
            format!("{number}{suffix}")
        }
    }
}

/// Without zeros behind the point that say nothing.
fn trim(number: &str) -> String {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Series;

    #[test]
    fn axes_end_at_round_numbers_above_the_largest_value() {
        let lane = |most: f64, unit| Lane {
            unit,
            series: vec![Series { points: vec![(0, Some(most))], ..Series::default() }],
            ..Lane::default()
        };
        for (most, unit, top) in [
            (7.0, Unit::Count, 10.0),
            (0.27, Unit::Seconds, 0.3),
            (1234.0, Unit::PerSecond, 1500.0),
            (0.0, Unit::Count, 1.0),
        ] {
            let axis = ValueAxis::of(&lane(most, unit));
            assert!(axis.top >= most && axis.ticks.len() <= 5, "{most}: {:?}", axis.ticks);
            assert!((axis.top - top).abs() <= top * 0.4, "{most}: {}", axis.top);
        }
    }

    #[test]
    fn gaps_are_gaps_and_steps_hold() {
        let time = TimeAxis { first_ms: 0, last_ms: 1000 };
        let values = ValueAxis { top: 10.0, ticks: vec![] };
        let points = [(0, Some(0.0)), (500, Some(10.0)), (600, None), (1000, Some(5.0))];
        assert_eq!(path(&points, Kind::Line, time, &values), "M0.0 100.0L500.0 0.0M1000.0 50.0");
        assert_eq!(path(&points[..2], Kind::Step, time, &values), "M0.0 100.0H500.0V0.0");
    }

    #[test]
    fn values_read_as_people_write_them() {
        for (value, unit, text) in [
            (0.34, Unit::Seconds, "340 ms"),
            (1.5, Unit::Seconds, "1.5 s"),
            (1200.0, Unit::PerSecond, "1.2 k/s"),
            (1.5 * 1024.0 * 1024.0 * 1024.0, Unit::Bytes, "1.5 GiB"),
            (0.05, Unit::Share, "5 %"),
            (0.0, Unit::Count, "0"),
        ] {
            assert_eq!(format_value(value, unit), text);
        }
    }
}
