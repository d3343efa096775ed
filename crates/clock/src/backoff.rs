//! Exponential back-off whose jitter comes from a seed.

use std::time::Duration;

/// How a [`Backoff`] grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffConfig {
    /// The first delay.
    pub initial: Duration,
    /// No delay is longer than this.
    pub max: Duration,
    /// Each delay is this many times the one before; below 1 is taken as 1.
    pub factor: f64,
    /// Share of a delay that chance may take away, 0 (none) to 1 (all of it).
    pub jitter: f64,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        BackoffConfig {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(30),
            factor: 2.0,
            jitter: 0.2,
        }
    }
}

/// The delays between retries of one piece of work.
#[derive(Debug, Clone)]
pub struct Backoff {
    config: BackoffConfig,
    attempts: u32,
    random_state: u64,
}

impl Backoff {
    pub fn new(config: BackoffConfig, seed: u64) -> Self {
        Backoff { config, attempts: 0, random_state: seed }
    }

    /// How many delays were handed out since the start or the last [`reset`](Self::reset).
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let exponent = i32::try_from(self.attempts).unwrap_or(i32::MAX);
        self.attempts = self.attempts.saturating_add(1);
        let growth = self.config.factor.max(1.0).powi(exponent);
        let max_seconds = self.config.max.as_secs_f64();
        let seconds = (self.config.initial.as_secs_f64() * growth).min(max_seconds);
        let taken = self.config.jitter.clamp(0.0, 1.0) * self.next_unit();
        Duration::try_from_secs_f64(seconds * (1.0 - taken)).unwrap_or(self.config.max)
    }

    /// Starts again from the first delay, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next number in `[0, 1)` of the splitmix64 sequence.
    fn next_unit(&mut self) -> f64 {
        self.random_state = self.random_state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random_state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(config: BackoffConfig, seed: u64, count: usize) -> Vec<Duration> {
        let mut backoff = Backoff::new(config, seed);
        (0..count).map(|_| backoff.next_delay()).collect()
    }

    #[test]
    fn grows_to_the_maximum_and_starts_again() {
        let config = BackoffConfig {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(5),
            factor: 2.0,
            jitter: 0.0,
        };
        let seconds: Vec<u64> = delays(config, 1, 5).iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        let mut backoff = Backoff::new(config, 1);
        backoff.next_delay();
        backoff.next_delay();
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
    }

    #[test]
    fn the_same_seed_gives_the_same_jitter() {
        let config = BackoffConfig { jitter: 0.5, ..BackoffConfig::default() };
        assert_eq!(delays(config, 7, 20), delays(config, 7, 20));
        assert_ne!(delays(config, 7, 20), delays(config, 8, 20));
        for (jittered, full) in
            delays(config, 7, 20).iter().zip(delays(BackoffConfig { jitter: 0.0, ..config }, 7, 20))
        {
            assert!(*jittered <= full && *jittered >= full / 2);
        }
    }

    #[test]
    fn endless_attempts_stay_at_the_maximum() {
        let mut backoff = Backoff::new(BackoffConfig { jitter: 0.0, ..BackoffConfig::default() }, 0);
        for _ in 0..5_000 {
            backoff.next_delay();
        }
        assert_eq!(backoff.next_delay(), Duration::from_secs(30));
    }
}
