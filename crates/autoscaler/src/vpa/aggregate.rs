//! What is known of a container's usage over days, and how samples and memory kills come in.

use std::sync::Arc;

use super::amounts;
use super::histogram::{Buckets, Histogram, HistogramCheckpoint};

pub const DAY_MS: i64 = 24 * 3_600_000;
/// The version of checkpoints that is written and read.
pub const CHECKPOINT_VERSION: &str = "v3";
/// Every CPU sample weighs the same.
pub const CPU_SAMPLE_WEIGHT: f64 = 0.1;
const EPSILON: f64 = 0.001 * CPU_SAMPLE_WEIGHT;

/// How usage is aggregated; the defaults are upstream's.
#[derive(Clone, Debug)]
pub struct AggregationConfig {
    pub cpu: Arc<Buckets>,
    pub memory: Arc<Buckets>,
    pub half_life_ms: i64,
    /// One memory peak counts per interval.
    pub memory_interval_ms: i64,
    pub oom_bump_up_ratio: f64,
    pub oom_min_bump_up_bytes: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Memory,
}

/// One reading: thousandths of a core or bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub at_ms: i64,
    pub usage: i64,
    pub resource: Resource,
}

/// Where samples of a container go; memory is counted by the peaks of intervals.
pub trait Aggregate {
    fn add(&mut self, sample: Sample);
    fn subtract(&mut self, sample: Sample);
}

/// The usage of all containers of one name.
#[derive(Clone, Debug)]
pub struct AggregateState {
    pub cpu: Histogram,
    pub memory_peaks: Histogram,
    pub first_sample_ms: Option<i64>,
    pub last_sample_ms: Option<i64>,
    pub samples: u64,
}

/// One running container: what it takes to count its samples once.
#[derive(Clone, Debug, Default)]
pub struct ContainerState {
    last_cpu_ms: Option<i64>,
    last_memory_ms: Option<i64>,
    memory_peak: i64,
    oom_peak: i64,
    /// The end of the interval whose peak is being measured.
    window_end_ms: Option<i64>,
}

impl Default for AggregationConfig {
    fn default() -> AggregationConfig {
        let exponential = |most, first| {
            Arc::new(Buckets::exponential(most, first, 1.05, EPSILON).expect("the constants are positive"))
        };
        AggregationConfig {
            cpu: exponential(1000.0, 0.01),
            memory: exponential(1e12, 1e7),
            half_life_ms: DAY_MS,
            memory_interval_ms: DAY_MS,
            oom_bump_up_ratio: 1.2,
            oom_min_bump_up_bytes: 100 << 20,
        }
    }
}

// === impl AggregateState ===

impl AggregateState {
    pub fn new(config: &AggregationConfig) -> AggregateState {
        AggregateState {
            cpu: Histogram::decaying(config.cpu.clone(), config.half_life_ms),
            memory_peaks: Histogram::decaying(config.memory.clone(), config.half_life_ms),
            first_sample_ms: None,
            last_sample_ms: None,
            samples: 0,
        }
    }

    pub fn load(
        &mut self,
        version: &str,
        cpu: &HistogramCheckpoint,
        memory: &HistogramCheckpoint,
        samples: u64,
        first_ms: Option<i64>,
        last_ms: Option<i64>,
    ) -> Result<(), String> {
        if version != CHECKPOINT_VERSION {
            return Err(format!("unsupported checkpoint version {version:?}; {CHECKPOINT_VERSION} is read"));
        }
        self.memory_peaks.load(memory)?;
        self.cpu.load(cpu)?;
        self.samples = samples;
        (self.first_sample_ms, self.last_sample_ms) = (first_ms, last_ms);
        Ok(())
    }
}

impl Aggregate for AggregateState {
    fn add(&mut self, sample: Sample) {
        match sample.resource {
            Resource::Cpu => {
                self.cpu.add(amounts::cores(sample.usage), CPU_SAMPLE_WEIGHT, sample.at_ms);
                self.last_sample_ms =
                    Some(self.last_sample_ms.map_or(sample.at_ms, |at| at.max(sample.at_ms)));
                self.first_sample_ms =
                    Some(self.first_sample_ms.map_or(sample.at_ms, |at| at.min(sample.at_ms)));
                self.samples += 1;
            }
            Resource::Memory => self.memory_peaks.add(sample.usage as f64, 1.0, sample.at_ms),
        }
    }

    fn subtract(&mut self, sample: Sample) {
        match sample.resource {
            Resource::Cpu => self.cpu.subtract(amounts::cores(sample.usage), CPU_SAMPLE_WEIGHT, sample.at_ms),
            Resource::Memory => self.memory_peaks.subtract(sample.usage as f64, 1.0, sample.at_ms),
        }
    }
}

// === impl ContainerState ===

impl ContainerState {
    /// Whether the sample counts: one that is negative, known already or out of order does not.
    pub fn add(&mut self, sample: Sample, config: &AggregationConfig, to: &mut dyn Aggregate) -> bool {
        if sample.usage < 0 {
            return false;
        }
        match sample.resource {
            Resource::Cpu if self.last_cpu_ms.is_some_and(|last| sample.at_ms <= last) => false,
            Resource::Cpu => {
                to.add(sample);
                self.last_cpu_ms = Some(sample.at_ms);
                true
            }
            Resource::Memory => self.add_memory(sample, false, config, to),
        }
    }

    fn add_memory(
        &mut self,
        sample: Sample,
        is_oom: bool,
        config: &AggregationConfig,
        to: &mut dyn Aggregate,
    ) -> bool {
        let late = self.last_memory_ms.is_some_and(|last| sample.at_ms < last);
        if sample.usage < 0 || (late && !is_oom) {
            return false;
        }
        self.last_memory_ms = Some(sample.at_ms);
        let window_end = self.window_end_ms.unwrap_or(sample.at_ms);
        let mut counts = false;
        if sample.at_ms < window_end {
            let peak = self.peak();
            if peak != 0 && sample.usage > peak {
                to.subtract(Sample { at_ms: window_end, usage: peak, resource: Resource::Memory });
                counts = true;
            }
            self.window_end_ms = Some(window_end);
        } else {
            let interval = config.memory_interval_ms.max(1);
            let passed = (sample.at_ms - window_end) / interval;
            self.window_end_ms = Some(window_end + (passed + 1) * interval);
            (self.memory_peak, self.oom_peak) = (0, 0);
            counts = true;
        }
        if counts {
            let at_ms = self.window_end_ms.unwrap_or(window_end);
            to.add(Sample { at_ms, ..sample });
            *(if is_oom { &mut self.oom_peak } else { &mut self.memory_peak }) = sample.usage;
        }
        true
    }

    /// Counts a kill for lack of memory as the use of more than was requested or ever used.
    pub fn record_oom(
        &mut self,
        at_ms: i64,
        requested_bytes: i64,
        config: &AggregationConfig,
        to: &mut dyn Aggregate,
    ) -> Result<(), String> {
        // The kill may be reported after the next interval has begun.
        if self.window_end_ms.is_some_and(|end| at_ms < end - 2 * config.memory_interval_ms) {
            return Err(format!("OOM event will be discarded - it is too old ({at_ms} ms)"));
        }
        // Without the peak of the last kill, so that kills one after another do not run away.
        let used = requested_bytes.max(self.memory_peak);
        let needed = used
            .saturating_add(config.oom_min_bump_up_bytes)
            .max(amounts::scale(used, config.oom_bump_up_ratio));
        let sample = Sample { at_ms, usage: needed, resource: Resource::Memory };
        if !self.add_memory(sample, true, config, to) {
            return Err("adding OOM sample failed".into());
        }
        Ok(())
    }

    fn peak(&self) -> i64 {
        self.memory_peak.max(self.oom_peak)
    }

    /// The peak of the interval that is still being measured, as it was added. A checkpoint leaves it out, because it
    /// will be measured again.
    pub fn current_peak(&self, now_ms: i64) -> Option<Sample> {
        let at_ms = self.window_end_ms.filter(|end| now_ms < *end)?;
        Some(Sample { at_ms, usage: self.peak(), resource: Resource::Memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Log(Vec<(bool, i64, i64)>);

    impl Aggregate for Log {
        fn add(&mut self, sample: Sample) {
            self.0.push((true, sample.usage, sample.at_ms));
        }

        fn subtract(&mut self, sample: Sample) {
            self.0.push((false, sample.usage, sample.at_ms));
        }
    }

    const MIB: i64 = 1 << 20;

    fn memory(at_ms: i64, usage: i64) -> Sample {
        Sample { at_ms, usage, resource: Resource::Memory }
    }

    #[test]
    fn an_interval_has_one_peak() {
        let (config, mut log) = (AggregationConfig::default(), Log::default());
        let mut container = ContainerState::default();
        for (at, usage) in [(0, 5), (DAY_MS / 2, 10), (DAY_MS / 2 + 1, 7), (DAY_MS, 2)] {
            assert!(container.add(memory(at, usage), &config, &mut log));
        }
        assert!(!container.add(memory(DAY_MS - 1, 50), &config, &mut log), "out of order");
        assert_eq!(log.0, [(true, 5, DAY_MS), (false, 5, DAY_MS), (true, 10, DAY_MS), (true, 2, 2 * DAY_MS)]);
    }

    #[test]
    fn kills_ask_for_more_but_do_not_run_away() {
        let (config, mut log) = (AggregationConfig::default(), Log::default());
        let mut container = ContainerState::default();
        let mut oom = |at: i64, mib: i64| container.record_oom(at, mib * MIB, &config, &mut log);
        oom(0, 1000).unwrap();
        oom(0, 999).unwrap();
        oom(0, 2000).unwrap();
        assert!(oom(-3 * DAY_MS, 1).is_err());
        assert_eq!(
            log.0,
            [(true, 1200 * MIB, DAY_MS), (false, 1200 * MIB, DAY_MS), (true, 2400 * MIB, DAY_MS)]
        );
    }

    #[test]
    fn both_histograms_have_176_buckets() {
        let config = AggregationConfig::default();
        assert_eq!((config.cpu.count(), config.memory.count()), (176, 176));
    }
}
