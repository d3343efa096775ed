//! Round places on an axis.

use crate::dates;
use crate::units::{Locale, Unit};
use crate::view::Axis;

/// The ends of a scale and the marks between them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) log: Option<f64>,
    pub(crate) marks: Vec<(f64, String)>,
}

impl Scale {
    /// For values between `low` and `high`, with about `count` marks.
    pub(crate) fn new(axis: &Axis, low: f64, high: f64, count: usize, locale: Locale) -> Scale {
        let (mut low, mut high) = if low.is_finite() && high.is_finite() { (low, high) } else { (0.0, 1.0) };
        low = axis.soft_min.map_or(low, |soft| low.min(soft));
        high = axis.soft_max.map_or(high, |soft| high.max(soft));
        if let Some(base) = axis.log {
            return Scale::logarithmic(axis, low, high, base, locale);
        }
        // Where nothing is far from zero, zero is in the picture.
        if axis.min.is_none() && low > 0.0 && low < high * 0.6 {
            low = 0.0;
        }
        if axis.centered {
            high = high.abs().max(low.abs());
            low = -high;
        }
        if low == high {
            (low, high) = if low == 0.0 {
                (0.0, 1.0)
            } else if low > 0.0 {
                (0.0, low * 1.2)
            } else {
                (low * 1.2, 0.0)
            };
        }
        let is_binary = matches!(axis.unit, Unit::Binary { .. });
        let step = round_step(
            (axis.max.unwrap_or(high) - axis.min.unwrap_or(low)).abs() / count.max(1) as f64,
            is_binary,
        );
        let min = axis.min.unwrap_or_else(|| (low / step).floor() * step);
        let max = axis
            .max
            .filter(|max| *max > min)
            .unwrap_or_else(|| ((high / step).ceil() * step).max(min + step));
        let first = (min / step - 1e-9).ceil();
        let marks =
            (0..200).map(|n| (first + f64::from(n)) * step).take_while(|mark| *mark <= max + step * 1e-6);
        let write = |mark: f64| {
            axis.unit.write(mark, axis.decimals.or(decimals_of(step, mark, &axis.unit)), locale).joined()
        };
        Scale { min, max, log: None, marks: marks.map(|mark| (mark, write(mark))).collect() }
    }

    fn logarithmic(axis: &Axis, low: f64, high: f64, base: f64, locale: Locale) -> Scale {
        let low = if low > 0.0 { low } else { high.max(1.0) / base.powi(6) };
        let floor = (axis.min.filter(|min| *min > 0.0).unwrap_or(low).ln() / base.ln()).floor();
        let ceil = (axis.max.filter(|max| *max > 0.0).unwrap_or(high.max(low)).ln() / base.ln())
            .ceil()
            .max(floor + 1.0);
        let every = (((ceil - floor) / 8.0).ceil() as usize).max(1);
        let powers = (floor as i32..=ceil as i32).step_by(every).take(100);
        let marks = powers
            .map(|power| base.powi(power))
            .map(|mark| (mark, axis.unit.write(mark, axis.decimals, locale).joined()));
        Scale { min: base.powf(floor), max: base.powf(ceil), log: Some(base), marks: marks.collect() }
    }

    /// How far up a value is, 0 to 1 within the scale.
    pub(crate) fn share(&self, value: f64) -> f32 {
        let share = match self.log {
            Some(_) => (value.max(self.min).ln() - self.min.ln()) / (self.max.ln() - self.min.ln()),
            None => (value - self.min) / (self.max - self.min),
        };
        share.clamp(-0.5, 1.5) as f32
    }
}

/// Marks of one axis have the digits that their distance needs, as far as their unit does not scale them.
fn decimals_of(step: f64, mark: f64, unit: &Unit) -> Option<u32> {
    let is_plain = matches!(unit, Unit::Fixed { .. } | Unit::Percent)
        || (matches!(unit, Unit::Scaled { .. }) && mark.abs() < 1000.0);
    if mark == 0.0 {
        return Some(0);
    }
    let step = if matches!(unit, Unit::PercentUnit) { step * 100.0 } else { step };
    if is_plain || matches!(unit, Unit::PercentUnit) {
        return Some((-step.log10().floor()).clamp(0.0, 12.0) as u32 + u32::from(is_quarter(step)));
    }
    None
}

fn is_quarter(step: f64) -> bool {
    let digits = step / 10f64.powf(step.log10().floor());
    (digits - 2.5).abs() < 1e-6 && step < 25.0
}

/// 1, 2, 2.5 or 5 times a power of ten; a power of two for bytes.
fn round_step(step: f64, is_binary: bool) -> f64 {
    let step = if step.is_finite() && step > 0.0 { step } else { 1.0 };
    if is_binary && step >= 1.0 {
        return 2f64.powf(step.log2().ceil());
    }
    let power = 10f64.powf(step.log10().floor());
    let digits = step / power;
    let rounded = [1.0, 2.0, 2.5, 5.0].into_iter().find(|round| digits <= round + 1e-9).unwrap_or(10.0);
    rounded * power
}

/// Marks of a time axis, about `count`, at round local times.
pub(crate) fn time_marks(from_ms: i64, to_ms: i64, count: usize, locale: Locale) -> Vec<(i64, String)> {
    const STEPS: [i64; 22] = [
        1000,
        2000,
        5000,
        10_000,
        15_000,
        30_000,
        60_000,
        120_000,
        300_000,
        600_000,
        900_000,
        1_800_000,
        3_600_000,
        7_200_000,
        10_800_000,
        21_600_000,
        43_200_000,
        86_400_000,
        172_800_000,
        604_800_000,
        2_592_000_000,
        31_536_000_000,
    ];
    let length = (to_ms - from_ms).max(1);
    let wanted = length / i64::try_from(count.max(1)).unwrap_or(1);
    let step = STEPS.into_iter().find(|step| *step >= wanted).unwrap_or(31_536_000_000);
    let offset = i64::from(locale.utc_offset_min) * 60_000;
    let first = (from_ms + offset).div_euclid(step) * step + step - offset;
    let write = |ms: i64| match step {
        86_400_000.. => dates::pattern(ms, "MM/DD", locale),
        _ if length > 86_400_000 => dates::day_and_clock(ms, locale),
        _ => dates::clock(ms, locale),
    };
    (0..200).map(|n| first + n * step).take_while(|ms| *ms < to_ms).map(|ms| (ms, write(ms))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(unit: &str, low: f64, high: f64) -> Vec<String> {
        let axis = Axis { unit: Unit::of(unit), ..Axis::default() };
        Scale::new(&axis, low, high, 4, Locale::default()).marks.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn marks_are_round_in_their_unit() {
        assert_eq!(marks("short", 0.0, 87.0), ["0", "25", "50", "75", "100"]);
        assert_eq!(marks("bytes", 0.0, 3.0e9), ["0 B", "1 GiB", "2 GiB", "3 GiB"]);
        assert_eq!(marks("percentunit", 0.0, 0.9), ["0%", "25%", "50%", "75%", "100%"]);
        assert_eq!(marks("none", 7.0, 7.0), ["0", "2.5", "5.0", "7.5", "10.0"]);
        assert!(marks("none", f64::NAN, f64::INFINITY).len() > 1);
    }

    #[test]
    fn times_are_round() {
        let marks = time_marks(1_795_861_230_000, 1_795_864_830_000, 6, Locale::default());
        assert_eq!(
            marks.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(),
            ["10:30", "10:40", "10:50", "11:00", "11:10", "11:20"]
        );
    }
}
