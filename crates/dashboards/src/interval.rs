//! How far apart a panel's points are, and what `$__interval` and its relatives stand for.

/// Points of a series that no query goes beyond.
const MOST_POINTS: i64 = 11_000;
const DEFAULT_INTERVAL_MS: i64 = 15_000;
/// When a panel does not say how wide it is.
const DEFAULT_POINTS: i64 = 1500;

/// From which length on the next rung is taken, and what a length below it becomes.
const LADDER: [(i64, i64); 29] = [
    (10, 1),
    (15, 10),
    (35, 20),
    (75, 50),
    (150, 100),
    (350, 200),
    (750, 500),
    (1500, 1000),
    (3500, 2000),
    (7500, 5000),
    (12_500, 10_000),
    (17_500, 15_000),
    (25_000, 20_000),
    (45_000, 30_000),
    (90_000, 60_000),
    (210_000, 120_000),
    (450_000, 300_000),
    (750_000, 600_000),
    (1_050_000, 900_000),
    (1_500_000, 1_200_000),
    (2_700_000, 1_800_000),
    (5_400_000, 3_600_000),
    (9_000_000, 7_200_000),
    (16_200_000, 10_800_000),
    (32_400_000, 21_600_000),
    (86_400_000, 43_200_000),
    (604_800_000, 86_400_000),
    (1_814_400_000, 604_800_000),
    (3_628_800_000, 2_592_000_000),
];
const YEAR_MS: i64 = 31_536_000_000;

/// A length that people use, near `ms`.
pub fn round_interval(ms: i64) -> i64 {
    LADDER.iter().find(|(below, _)| ms < *below).map_or(YEAR_MS, |(_, rung)| *rung)
}

/// What decides the distance of points.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    pub range_ms: i64,
    /// Pixels, or what the panel says; 0 when nobody knows.
    pub points: i64,
    /// The least step of the query or panel.
    pub least_ms: Option<i64>,
    /// How often the data source is fed.
    pub source_ms: Option<i64>,
    pub factor: i64,
}

/// The distances of one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// `$__interval`
    pub interval_ms: i64,
    /// `$__rate_interval`
    pub rate_interval_ms: i64,
    /// What is asked for.
    pub step_ms: i64,
}

impl Wish {
    /// The distances that follow.
    pub fn intervals(self) -> Intervals {
        let range = self.range_ms.max(1);
        let points = if self.points > 0 { self.points } else { DEFAULT_POINTS };
        let source = self.source_ms.unwrap_or(DEFAULT_INTERVAL_MS).max(1);
        let least = self.least_ms.unwrap_or(source).max(1);
        let wanted = round_interval(range / points).max(least);
        let interval_ms = wanted.max(round_interval(range / MOST_POINTS));
        let scrape = self.least_ms.unwrap_or(source).max(1);
        Intervals {
            interval_ms,
            rate_interval_ms: interval_ms.saturating_add(scrape).max(scrape.saturating_mul(4)),
            step_ms: interval_ms.saturating_mul(self.factor.max(1)),
        }
    }
}

/// A length in the largest unit that divides it: `90s`, `1h`.
pub(crate) fn write_duration(ms: i64) -> String {
    for (size, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if ms >= size && ms % size == 0 {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range_ms: i64, points: i64, least_ms: Option<i64>, factor: i64) -> Intervals {
        Wish { range_ms, points, least_ms, source_ms: None, factor }.intervals()
    }

    #[test]
    fn steps_follow_range_and_width() {
        let hour = of(3_600_000, 500, None, 1);
        assert_eq!(hour, Intervals { interval_ms: 15_000, rate_interval_ms: 60_000, step_ms: 15_000 });
        let day = of(86_400_000, 800, None, 1);
        assert_eq!((day.interval_ms, day.rate_interval_ms), (120_000, 135_000));
        assert_eq!(of(3_600_000, 500, Some(60_000), 2).step_ms, 120_000);
        assert_eq!(of(3_600_000, 500, Some(1000), 1).step_ms, 5000);
        // Never more than 11,000 points, however small the least step.
        let year = of(YEAR_MS, 1_000_000, Some(1), 1);
        assert!(YEAR_MS / year.step_ms <= MOST_POINTS, "{year:?}");
        assert!(of(0, 0, None, 0).step_ms > 0);
    }

    #[test]
    fn durations_are_written_in_one_unit() {
        let all: Vec<String> = [90_000, 3_600_000, 250, 172_800_000].map(write_duration).to_vec();
        assert_eq!(all, ["90s", "1h", "250ms", "2d"]);
    }
}
