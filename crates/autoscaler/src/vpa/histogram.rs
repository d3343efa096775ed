//! Weighted histograms whose samples lose half their weight with every half-life, as the recommender keeps usage.
//!
//! A sample's weight is `2^((time − reference) / half-life)`; the reference moves on, and everything is scaled once, when
//! that exponent gets large. Percentiles are the ends of buckets.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The largest weight of a bucket in a checkpoint.
const MOST_CHECKPOINT_WEIGHT: f64 = 10_000.0;
/// Half-lives after which the reference is moved.
const MOST_EXPONENT: i64 = 100;
/// The first instant of the year 1, to which multiples of a half-life are counted.
pub const ZERO_TIME_MS: i64 = -62_135_596_800_000;

/// How values fall into buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    count: usize,
    /// Weights below it are none.
    epsilon: f64,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Linear { size: f64 },
    Exponential { first: f64, ratio: f64 },
}

/// A histogram; without a half-life its samples keep their weight.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Arc<Buckets>,
    weights: Vec<f64>,
    total: f64,
    least: usize,
    most: usize,
    half_life_ms: Option<i64>,
    reference_ms: i64,
}

/// What is kept of a histogram in a `VerticalPodAutoscalerCheckpoint`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HistogramCheckpoint {
    pub reference_timestamp: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    pub bucket_weights: BTreeMap<String, u32>,
    pub total_weight: f64,
}

// === impl Buckets ===

impl Buckets {
    /// Buckets of one size up to `most`.
    pub fn linear(most: f64, size: f64, epsilon: f64) -> Result<Buckets, &'static str> {
        if most <= 0.0 || size <= 0.0 || epsilon <= 0.0 {
            return Err("maxValue and bucketSize must both be positive");
        }
        let count = (most / size).ceil() as usize + 1;
        Ok(Buckets { count, epsilon, shape: Shape::Linear { size } })
    }

    /// Buckets that each are `ratio` times as large as the one before.
    pub fn exponential(most: f64, first: f64, ratio: f64, epsilon: f64) -> Result<Buckets, &'static str> {
        if most <= 0.0 || first <= 0.0 || ratio <= 1.0 || epsilon <= 0.0 {
            return Err("maxValue, firstBucketSize and epsilon must be > 0.0, ratio must be > 1.0");
        }
        let count = log(ratio, most * (ratio - 1.0) / first + 1.0).ceil() as usize + 1;
        Ok(Buckets { count, epsilon, shape: Shape::Exponential { first, ratio } })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    pub fn start(&self, bucket: usize) -> f64 {
        match self.shape {
            Shape::Linear { size } => bucket as f64 * size,
            Shape::Exponential { .. } if bucket == 0 => 0.0,
            Shape::Exponential { first, ratio } => first * (ratio.powf(bucket as f64) - 1.0) / (ratio - 1.0),
        }
    }

    pub fn find(&self, value: f64) -> usize {
        let bucket = match self.shape {
            Shape::Linear { size } => value / size,
            Shape::Exponential { first, .. } if value < first => 0.0,
            Shape::Exponential { first, ratio } => log(ratio, value * (ratio - 1.0) / first + 1.0),
        };
        // The cast takes what is negative, or no number, for zero.
        (bucket as usize).min(self.count - 1)
    }
}

fn log(base: f64, value: f64) -> f64 {
    value.ln() / base.ln()
}

// === impl Histogram ===

impl Histogram {
    pub fn new(buckets: Arc<Buckets>) -> Histogram {
        Histogram {
            weights: vec![0.0; buckets.count],
            total: 0.0,
            least: buckets.count - 1,
            most: 0,
            buckets,
            half_life_ms: None,
            reference_ms: ZERO_TIME_MS,
        }
    }

    pub fn decaying(buckets: Arc<Buckets>, half_life_ms: i64) -> Histogram {
        Histogram { half_life_ms: Some(half_life_ms.max(1)), ..Histogram::new(buckets) }
    }

    pub fn reference_ms(&self) -> i64 {
        self.reference_ms
    }

    pub fn buckets(&self) -> &Arc<Buckets> {
        &self.buckets
    }

    pub fn total(&self) -> f64 {
        self.total
    }

    /// The weight of each bucket.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Adds a value with a weight that is not negative.
    pub fn add(&mut self, value: f64, weight: f64, at_ms: i64) {
        let weight = weight * self.decay(at_ms);
        let bucket = self.buckets.find(value);
        self.weights[bucket] += weight;
        self.total += weight;
        if self.weights[bucket] >= self.buckets.epsilon {
            self.least = self.least.min(bucket);
            self.most = self.most.max(bucket);
        }
    }

    /// Takes back what [`add`](Histogram::add) added.
    pub fn subtract(&mut self, value: f64, weight: f64, at_ms: i64) {
        let weight = weight * self.decay(at_ms);
        let bucket = self.buckets.find(value);
        let epsilon = self.buckets.epsilon;
        let less = |from: f64| if from - weight < epsilon { 0.0 } else { from - weight };
        self.total = less(self.total);
        self.weights[bucket] = less(self.weights[bucket]);
        self.narrow();
    }

    /// Adds all of another histogram with the same buckets and half-life.
    pub fn merge(&mut self, other: &Histogram) {
        let mut other = other.clone();
        if self.half_life_ms.is_some() {
            match self.reference_ms.cmp(&other.reference_ms) {
                std::cmp::Ordering::Less => self.move_reference(other.reference_ms),
                std::cmp::Ordering::Greater => other.move_reference(self.reference_ms),
                std::cmp::Ordering::Equal => {}
            }
        }
        for bucket in other.least..=other.most {
            if let (Some(weight), Some(more)) = (self.weights.get_mut(bucket), other.weights.get(bucket)) {
                *weight += more;
            }
        }
        self.total += other.total;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most).min(self.buckets.count - 1);
    }

    /// The end of the bucket below which that share of the weight lies; 0 when empty.
    pub fn percentile(&self, share: f64) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        let threshold = share * self.total;
        let mut sum = 0.0;
        let mut bucket = self.least;
        while bucket < self.most {
            sum += self.weights[bucket];
            if sum >= threshold {
                break;
            }
            bucket += 1;
        }
        // The last bucket has no end.
        self.buckets.start(if bucket < self.buckets.count - 1 { bucket + 1 } else { bucket })
    }

    pub fn is_empty(&self) -> bool {
        self.weights[self.least] < self.buckets.epsilon
    }

    /// The same weights up to the epsilon, and the same reference.
    pub fn equals(&self, other: &Histogram) -> bool {
        self.buckets == other.buckets
            && self.half_life_ms == other.half_life_ms
            && self.reference_ms == other.reference_ms
            && (self.least, self.most) == (other.least, other.most)
            && (self.least..=self.most)
                .all(|bucket| (self.weights[bucket] - other.weights[bucket]).abs() <= self.buckets.epsilon)
    }

    pub fn checkpoint(&self) -> HistogramCheckpoint {
        let heaviest =
            self.weights[self.least.min(self.most)..=self.most].iter().copied().fold(0.0, f64::max);
        let mut bucket_weights = BTreeMap::new();
        for bucket in self.least..=self.most {
            let weight = (self.weights[bucket] * MOST_CHECKPOINT_WEIGHT / heaviest).round() as u32;
            if weight > 0 {
                bucket_weights.insert(bucket.to_string(), weight);
            }
        }
        let reference = self.half_life_ms.map(|_| self.reference_ms);
        let reference = reference.and_then(|ms| k8s_openapi::jiff::Timestamp::from_millisecond(ms).ok());
        HistogramCheckpoint {
            reference_timestamp: reference.map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time),
            bucket_weights,
            total_weight: self.total,
        }
    }

    /// Adds what a checkpoint holds.
    pub fn load(&mut self, checkpoint: &HistogramCheckpoint) -> Result<(), String> {
        if checkpoint.total_weight < 0.0 {
            return Err(format!("cannot load checkpoint with negative weight {}", checkpoint.total_weight));
        }
        let mut weights = Vec::with_capacity(checkpoint.bucket_weights.len());
        for (bucket, weight) in &checkpoint.bucket_weights {
            let number: i64 = bucket
                .parse()
                .map_err(|_| format!("checkpoint has the bucket {bucket:?}, which is no number"))?;
            match usize::try_from(number) {
                Err(_) => return Err(format!("checkpoint has a negative bucket {number}")),
                Ok(number) if number >= self.buckets.count => {
                    return Err(format!(
                        "checkpoint has bucket {number} that is exceeding histogram buckets {}",
                        self.buckets.count
                    ));
                }
                Ok(number) => weights.push((number, f64::from(*weight))),
            }
        }
        let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
        if sum > 0.0 {
            let ratio = checkpoint.total_weight / sum;
            for (bucket, weight) in weights {
                self.least = self.least.min(bucket);
                self.most = self.most.max(bucket);
                self.weights[bucket] += weight * ratio;
            }
            self.total += checkpoint.total_weight;
            // Rounding may have left the outermost buckets with less than counts.
            self.narrow();
        }
        if self.half_life_ms.is_some() {
            let reference = checkpoint.reference_timestamp.as_ref();
            self.reference_ms = reference.map_or(ZERO_TIME_MS, |time| time.0.as_millisecond());
        }
        Ok(())
    }

    fn decay(&mut self, at_ms: i64) -> f64 {
        let Some(half_life_ms) = self.half_life_ms else { return 1.0 };
        if at_ms > self.reference_ms.saturating_add(half_life_ms.saturating_mul(MOST_EXPONENT)) {
            self.move_reference(at_ms);
        }
        (at_ms.saturating_sub(self.reference_ms) as f64 / half_life_ms as f64).exp2()
    }

    /// To the multiple of the half-life that is nearest.
    fn move_reference(&mut self, to_ms: i64) {
        let Some(half_life_ms) = self.half_life_ms else { return };
        let since = to_ms.saturating_sub(ZERO_TIME_MS);
        let past = since.rem_euclid(half_life_ms);
        let rounded = if past * 2 >= half_life_ms { since - past + half_life_ms } else { since - past };
        let to_ms = ZERO_TIME_MS.saturating_add(rounded);
        let exponent = (self.reference_ms.saturating_sub(to_ms) as f64 / half_life_ms as f64).round();
        let factor = exponent.exp2();
        self.weights.iter_mut().for_each(|weight| *weight *= factor);
        self.total *= factor;
        self.narrow();
        self.reference_ms = to_ms;
    }

    fn narrow(&mut self) {
        let epsilon = self.buckets.epsilon;
        while self.weights[self.least] < epsilon && self.least < self.buckets.count - 1 {
            self.least += 1;
        }
        while self.weights[self.most] < epsilon && self.most > 0 {
            self.most -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn buckets() -> Arc<Buckets> {
        Arc::new(Buckets::linear(10.0, 1.0, 1e-15).unwrap())
    }

    #[test]
    fn old_samples_fade() {
        let mut histogram = Histogram::decaying(buckets(), HOUR);
        histogram.add(2.0, 1000.0, 0);
        histogram.add(1.0, 1.0, 20 * HOUR);
        assert_eq!((histogram.percentile(0.999), histogram.percentile(1.0)), (2.0, 3.0));
        histogram.add(5.0, 1.0, 200 * HOUR);
        assert_eq!(histogram.percentile(0.01), 6.0, "everything older is gone");
    }

    #[test]
    fn what_was_added_can_be_taken_back() {
        let mut histogram = Histogram::new(buckets());
        histogram.add(3.0, 1.0, 0);
        histogram.add(7.0, 1.0, 0);
        histogram.subtract(7.0, 1.0, 0);
        assert_eq!(histogram.percentile(1.0), 4.0);
        histogram.subtract(3.0, 1.0, 0);
        assert!(histogram.is_empty());
    }

    #[test]
    fn a_checkpoint_gives_the_shape_back() {
        let mut histogram = Histogram::decaying(buckets(), HOUR);
        for (value, weight) in [(1.0, 1.0), (2.0, 4.0), (9.0, 2.0)] {
            histogram.add(value, weight, 1000 * HOUR);
        }
        let checkpoint = histogram.checkpoint();
        assert_eq!(
            checkpoint.bucket_weights,
            [("1", 2500), ("2", 10_000), ("9", 5000)].map(|(b, w)| (b.into(), w)).into()
        );
        let mut loaded = Histogram::decaying(buckets(), HOUR);
        loaded.load(&checkpoint).unwrap();
        assert_eq!(loaded.percentile(0.6), histogram.percentile(0.6));
        assert_eq!(loaded.reference_ms(), histogram.reference_ms());
        let wrong = HistogramCheckpoint { bucket_weights: [("99".into(), 1)].into(), ..checkpoint };
        assert!(loaded.load(&wrong).unwrap_err().contains("exceeding"));
        assert!(Histogram::new(buckets()).checkpoint().bucket_weights.is_empty());
    }
}
