//! When things are due: piecewise linear levels (users or a rate) over time, arrivals, think times, and the seeded
//! numbers that choose among them.

use std::time::Duration;

/// SplitMix64: small, fast, and the same everywhere for the same seed and stream.
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// `stream` separates users (or purposes) that share a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Rng {
        let mut rng = Rng(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        rng.0 = rng.next();
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in [0, n); 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }
}

/// Time between an answer and the user's next request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Think {
    Constant(Duration),
    Between(Duration, Duration),
    /// Exponentially distributed with this mean.
    Exponential(Duration),
}

impl Think {
    pub(crate) fn next(self, rng: &mut Rng) -> Duration {
        match self {
            Think::Constant(time) => time,
            Think::Between(least, most) => least + most.saturating_sub(least).mul_f64(rng.unit()),
            // Ten means are exceeded once in 22,000 draws; the bound keeps a run from waiting on one.
            Think::Exponential(mean) => mean.mul_f64(rng.exponential(1.0).min(10.0)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    start: f64,
    length: f64,
    from: f64,
    to: f64,
    /// The integral up to `start`.
    before: f64,
}

/// A level (users, or requests per second) over time: linear pieces one after the other, then nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    segments: Vec<Segment>,
    end: f64,
}

impl Level {
    /// Starts at `first`; each stage reaches its level in a straight line over its duration (0: at once).
    pub(crate) fn new(first: f64, stages: &[(Duration, f64)]) -> Level {
        let (mut start, mut from, mut before) = (0.0, first, 0.0);
        let mut segments = Vec::with_capacity(stages.len());
        for &(length, to) in stages {
            let length = length.as_secs_f64();
            if length > 0.0 {
                segments.push(Segment { start, length, from, to, before });
            }
            start += length;
            before += (from + to) / 2.0 * length;
            from = to;
        }
        Level { segments, end: start }
    }

    /// The same, cut off at `duration` or held at its last level until then.
    pub(crate) fn lasting(&self, duration: Duration) -> Level {
        let end = duration.as_secs_f64();
        let mut segments: Vec<Segment> = self.segments.iter().filter(|s| s.start < end).copied().collect();
        if let Some(last) = segments.last_mut() {
            let length = last.length.min(end - last.start);
            last.to = last.from + (last.to - last.from) * length / last.length;
            last.length = length;
            let (start, level) = (last.start + length, last.to);
            let before = last.before + (last.from + last.to) / 2.0 * length;
            if start < end {
                segments.push(Segment { start, length: end - start, from: level, to: level, before });
            }
        }
        Level { segments, end }
    }

    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.end)
    }

    pub fn max(&self) -> f64 {
        self.segments.iter().fold(0.0, |max, s| f64::max(max, s.from.max(s.to)))
    }

    /// The level at this time; 0 after the end.
    pub fn at(&self, time: Duration) -> f64 {
        let t = time.as_secs_f64();
        let segment = self.segments.iter().find(|s| t < s.start + s.length);
        segment.map_or(0.0, |s| s.from + (s.to - s.from) * ((t - s.start) / s.length).clamp(0.0, 1.0))
    }

    /// The first moment at or after `time` when the level is above `level`.
    pub(crate) fn next_above(&self, level: f64, time: Duration) -> Option<Duration> {
        let now = time.as_secs_f64();
        for s in self.segments.iter().filter(|s| s.start + s.length > now) {
            let local = (now - s.start).max(0.0);
            let value = s.from + (s.to - s.from) * local / s.length;
            if value > level {
                return Some(time.max(Duration::from_secs_f64(s.start + local)));
            }
            if s.to > level {
                let crossing = (level - s.from) / (s.to - s.from) * s.length;
                return Some(time.max(Duration::from_secs_f64(s.start + crossing.max(local))));
            }
        }
        None
    }

    /// The moment at which the integral reaches `area`: when arrival number `area` is due.
    pub(crate) fn time_of(&self, area: f64) -> Option<Duration> {
        let after = self.segments.partition_point(|s| s.before <= area);
        let s = self.segments.get(after.checked_sub(1)?)?;
        let rest = area - s.before;
        let slope = (s.to - s.from) / s.length;
        // from·x + slope·x²/2 = rest, in the form that does not divide by a vanishing slope.
        let root = (s.from * s.from + 2.0 * slope * rest).max(0.0).sqrt();
        let x = if rest <= 0.0 { 0.0 } else { 2.0 * rest / (s.from + root) };
        if x.is_finite() && x <= s.length * (1.0 + 1e-12) {
            return Some(Duration::from_secs_f64(s.start + x.min(s.length)));
        }
        None
    }
}

/// How arrivals are spread around their rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// At equal distances.
    Even,
    /// Independently of one another, as separate people arrive.
    Poisson,
}

/// The moments at which requests are due, and the number of each.
pub(crate) struct Arrivals<'a> {
    level: &'a Level,
    spread: Spread,
    rng: Rng,
    number: u64,
    area: f64,
}

impl<'a> Arrivals<'a> {
    pub(crate) fn new(level: &'a Level, spread: Spread, seed: u64) -> Arrivals<'a> {
        Arrivals { level, spread, rng: Rng::new(seed, u64::MAX), number: 0, area: 0.0 }
    }
}

impl Iterator for Arrivals<'_> {
    type Item = (u64, Duration);

    fn next(&mut self) -> Option<(u64, Duration)> {
        if self.spread == Spread::Poisson {
            self.area += self.rng.exponential(1.0);
        }
        let due = self.level.time_of(self.area).filter(|due| *due < self.level.duration())?;
        if self.spread == Spread::Even {
            self.area = (self.number + 1) as f64;
        }
        self.number += 1;
        Some((self.number - 1, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn even_arrivals_follow_a_ramp() {
        // 0 to 100/s over 10 s is 500 requests; half the area is reached at 10/√2 s.
        let level = Level::new(0.0, &[(seconds(10.0), 100.0)]);
        let due: Vec<_> = Arrivals::new(&level, Spread::Even, 1).collect();
        assert_eq!(due.len(), 500);
        assert!((due[250].1.as_secs_f64() - 7.0711).abs() < 0.001, "{:?}", due[250]);
        assert!(due.is_sorted_by_key(|(_, time)| *time));
    }

    #[test]
    fn arrivals_pause_where_the_rate_is_zero() {
        let stages = [
            (seconds(1.0), 10.0),
            (seconds(0.0), 0.0),
            (seconds(5.0), 0.0),
            (seconds(0.0), 10.0),
            (seconds(1.0), 10.0),
        ];
        let level = Level::new(10.0, &stages);
        let due: Vec<_> = Arrivals::new(&level, Spread::Even, 1).map(|(_, t)| t).collect();
        assert_eq!(due.len(), 20);
        assert!(due[9] < seconds(1.0) && due[10] >= seconds(6.0), "{due:?}");
    }

    #[test]
    fn poisson_arrivals_repeat_with_their_seed_and_keep_the_rate() {
        let level = Level::new(200.0, &[(seconds(50.0), 200.0)]);
        let first: Vec<_> = Arrivals::new(&level, Spread::Poisson, 9).collect();
        let again: Vec<_> = Arrivals::new(&level, Spread::Poisson, 9).collect();
        let other: Vec<_> = Arrivals::new(&level, Spread::Poisson, 10).collect();
        assert_eq!(first, again);
        assert_ne!(first, other);
        // 10,000 expected with a standard deviation of 100.
        assert!((9500..10500).contains(&first.len()), "{}", first.len());
    }

    #[test]
    fn a_level_is_cut_off_or_held() {
        let level = Level::new(0.0, &[(seconds(10.0), 10.0)]);
        assert_eq!(level.lasting(seconds(5.0)), Level::new(0.0, &[(seconds(5.0), 5.0)]));
        let held = level.lasting(seconds(20.0));
        assert_eq!(held, Level::new(0.0, &[(seconds(10.0), 10.0), (seconds(10.0), 10.0)]));
    }

    #[test]
    fn a_user_is_active_while_the_level_is_above_its_number() {
        let level = Level::new(0.0, &[(seconds(10.0), 10.0), (seconds(10.0), 0.0), (seconds(10.0), 10.0)]);
        assert_eq!(level.next_above(0.0, Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(level.next_above(5.0, Duration::ZERO), Some(seconds(5.0)));
        assert_eq!(level.next_above(5.0, seconds(7.0)), Some(seconds(7.0)));
        assert_eq!(level.next_above(5.0, seconds(16.0)), Some(seconds(25.0)));
        assert_eq!(level.next_above(10.0, seconds(0.0)), None);
        assert_eq!(level.at(seconds(5.0)), 5.0);
        assert_eq!(level.at(seconds(40.0)), 0.0);
    }

    #[test]
    fn think_times_stay_in_their_range() {
        let mut rng = Rng::new(3, 3);
        let between = Think::Between(seconds(0.1), seconds(0.3));
        for _ in 0..1000 {
            let time = between.next(&mut rng);
            assert!(time >= seconds(0.1) && time <= seconds(0.3));
        }
        let mean: f64 =
            (0..20000).map(|_| Think::Exponential(seconds(0.2)).next(&mut rng).as_secs_f64()).sum::<f64>()
                / 20000.0;
        assert!((mean - 0.2).abs() < 0.01, "{mean}");
    }
}
