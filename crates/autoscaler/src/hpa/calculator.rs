//! How many replicas a metric asks for: the HorizontalPodAutoscaler's arithmetic, over plain values.
//!
//! All usages and targets are integers in thousandths, as upstream computes them; a division is an integer division
//! exactly where upstream's is.

use std::collections::{BTreeMap, BTreeSet};

/// By how much a ratio may differ from 1 without an action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    pub up: f64,
    pub down: f64,
}

/// Periods in which a young pod's readings are not trusted, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub cpu_initialization_ms: i64,
    pub initial_readiness_delay_ms: i64,
}

/// One pod's reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub value: i64,
    pub at_ms: i64,
    pub window_ms: i64,
}

/// Readings by pod name.
pub type Readings = BTreeMap<String, Reading>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    Pending,
    Running,
    /// Failed or succeeded.
    Terminal,
    Unknown,
}

/// What the arithmetic needs to know about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    pub name: String,
    pub phase: PodPhase,
    pub deleted: bool,
    pub start_ms: Option<i64>,
    /// Status and last transition of the `Ready` condition, where there is one.
    pub ready: Option<(bool, i64)>,
}

/// What a metric asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: i32,
    /// Percentage of the request, for utilization targets.
    pub utilization: Option<i32>,
    /// Average or total usage, as the status shows it.
    pub usage: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalculationError {
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoReadings,
    #[error("no metrics returned matched known pods")]
    Disjoint,
    #[error("missing request for {resource} in container {container} of Pod {pod}")]
    MissingRequest { resource: String, container: String, pod: String },
    #[error("the target value must be greater than zero")]
    ZeroTarget,
}

// === impl Tolerance ===

impl Tolerance {
    pub fn both(tolerance: f64) -> Tolerance {
        Tolerance { up: tolerance, down: tolerance }
    }

    pub fn holds(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// Pods sorted by what their readings are worth.
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn group(pods: &[PodFacts], readings: &Readings, is_cpu: bool, patience: Patience, now_ms: i64) -> Groups {
    let mut groups =
        Groups { ready: 0, unready: BTreeSet::new(), missing: BTreeSet::new(), ignored: BTreeSet::new() };
    for pod in pods {
        let name = || pod.name.clone();
        if pod.deleted || pod.phase == PodPhase::Terminal {
            groups.ignored.insert(name());
            continue;
        }
        if pod.phase == PodPhase::Pending {
            groups.unready.insert(name());
            continue;
        }
        let Some(reading) = readings.get(&pod.name) else {
            groups.missing.insert(name());
            continue;
        };
        let unready = is_cpu
            && match (pod.ready, pod.start_ms) {
                (Some((ready, changed_ms)), Some(start_ms)) => {
                    if start_ms.saturating_add(patience.cpu_initialization_ms) > now_ms {
                        !ready || reading.at_ms < changed_ms.saturating_add(reading.window_ms)
                    } else {
                        // A pod that has been unready since its start is still starting.
                        !ready && start_ms.saturating_add(patience.initial_readiness_delay_ms) > changed_ms
                    }
                }
                _ => true,
            };
        if unready {
            groups.unready.insert(name());
        } else {
            groups.ready += 1;
        }
    }
    groups
}

/// How a set of readings compares with the target.
#[derive(Clone, Copy)]
struct Comparison {
    ratio: f64,
    utilization: Option<i32>,
    usage: i64,
}

/// Replicas for a target average utilization, in percent of what pods request.
#[allow(clippy::too_many_arguments)]
pub fn utilization_replicas(
    current: i32,
    target_percent: i32,
    mut readings: Readings,
    requests: &BTreeMap<String, i64>,
    pods: &[PodFacts],
    is_cpu: bool,
    tolerance: Tolerance,
    patience: Patience,
    now_ms: i64,
) -> Result<Proposal, CalculationError> {
    if target_percent <= 0 {
        return Err(CalculationError::ZeroTarget);
    }
    let fallback = i128::from(target_percent.max(100));
    let compare = |readings: &Readings| utilization(readings, requests, target_percent);
    let fill = |pod: &str| {
        let request = requests.get(pod).copied().unwrap_or(0);
        saturate(i128::from(request) * fallback / 100)
    };
    per_pod_replicas(current, &mut readings, pods, is_cpu, tolerance, patience, now_ms, compare, fill)
}

/// Replicas for a target average value per pod.
#[allow(clippy::too_many_arguments)]
pub fn average_replicas(
    current: i32,
    target: i64,
    mut readings: Readings,
    pods: &[PodFacts],
    is_cpu: bool,
    tolerance: Tolerance,
    patience: Patience,
    now_ms: i64,
) -> Result<Proposal, CalculationError> {
    if target <= 0 {
        return Err(CalculationError::ZeroTarget);
    }
    let compare = |readings: &Readings| {
        let usage = total(readings.values().map(|r| r.value)) / readings.len().max(1) as i64;
        Ok(Comparison { ratio: usage as f64 / target as f64, utilization: None, usage })
    };
    per_pod_replicas(current, &mut readings, pods, is_cpu, tolerance, patience, now_ms, compare, |_| target)
}

#[allow(clippy::too_many_arguments)]
fn per_pod_replicas(
    current: i32,
    readings: &mut Readings,
    pods: &[PodFacts],
    is_cpu: bool,
    tolerance: Tolerance,
    patience: Patience,
    now_ms: i64,
    compare: impl Fn(&Readings) -> Result<Comparison, CalculationError>,
    fill_on_scale_down: impl Fn(&str) -> i64,
) -> Result<Proposal, CalculationError> {
    if pods.is_empty() {
        return Err(CalculationError::NoPods);
    }
    let groups = group(pods, readings, is_cpu, patience, now_ms);
    readings.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
    if readings.is_empty() {
        return Err(CalculationError::NoReadings);
    }
    let first = compare(readings)?;
    let proposal = |replicas| Proposal { replicas, utilization: first.utilization, usage: first.usage };
    let unready_matter = !groups.unready.is_empty() && first.ratio > 1.0;
    if !unready_matter && groups.missing.is_empty() {
        if tolerance.holds(first.ratio) {
            return Ok(proposal(current));
        }
        return Ok(proposal(ceil(first.ratio * groups.ready as f64)));
    }

    // Pods without a trusted reading must dampen the movement, never cause it.
    let filled = |value| Reading { value, at_ms: 0, window_ms: 0 };
    if first.ratio < 1.0 {
        for pod in &groups.missing {
            readings.insert(pod.clone(), filled(fill_on_scale_down(pod)));
        }
    } else if first.ratio > 1.0 {
        for pod in &groups.missing {
            readings.insert(pod.clone(), filled(0));
        }
    }
    if unready_matter {
        for pod in &groups.unready {
            readings.insert(pod.clone(), filled(0));
        }
    }
    let second = compare(readings)?;
    let turned = (first.ratio < 1.0 && second.ratio > 1.0) || (first.ratio > 1.0 && second.ratio < 1.0);
    if tolerance.holds(second.ratio) || turned {
        return Ok(proposal(current));
    }
    let replicas = ceil(second.ratio * readings.len() as f64);
    let contradicts =
        (second.ratio < 1.0 && replicas > current) || (second.ratio > 1.0 && replicas < current);
    Ok(proposal(if contradicts { current } else { replicas }))
}

fn utilization(
    readings: &Readings,
    requests: &BTreeMap<String, i64>,
    target_percent: i32,
) -> Result<Comparison, CalculationError> {
    let known: Vec<(i64, i64)> =
        readings.iter().filter_map(|(pod, r)| Some((r.value, *requests.get(pod)?))).collect();
    let usage = total(known.iter().map(|(value, _)| *value));
    let requested = total(known.iter().map(|(_, request)| *request));
    if requested <= 0 {
        return Err(CalculationError::Disjoint);
    }
    let percent = i128::from(usage) * 100 / i128::from(requested);
    let percent = i32::try_from(percent).unwrap_or(i32::MAX);
    Ok(Comparison {
        ratio: f64::from(percent) / f64::from(target_percent),
        utilization: Some(percent),
        usage: usage / known.len().max(1) as i64,
    })
}

/// Percentage of the request that pods use, its ratio to the target, and the average use per pod.
pub fn utilization_ratio(
    readings: &Readings,
    requests: &BTreeMap<String, i64>,
    target_percent: i32,
) -> Result<(f64, i32, i64), CalculationError> {
    let comparison = utilization(readings, requests, target_percent)?;
    Ok((comparison.ratio, comparison.utilization.unwrap_or(0), comparison.usage))
}

/// Replicas for an object or external metric with a target value.
pub fn value_replicas(
    current: i32,
    target: i64,
    usage: i64,
    pods: &[PodFacts],
    tolerance: Tolerance,
) -> Result<Proposal, CalculationError> {
    if target <= 0 {
        return Err(CalculationError::ZeroTarget);
    }
    let ratio = usage as f64 / target as f64;
    let proposal = |replicas| Proposal { replicas, utilization: None, usage };
    if current == 0 {
        return Ok(proposal(ceil(ratio)));
    }
    if tolerance.holds(ratio) {
        return Ok(proposal(current));
    }
    if pods.is_empty() {
        return Err(CalculationError::NoPods);
    }
    let ready = pods
        .iter()
        .filter(|p| p.phase == PodPhase::Running && p.ready.is_some_and(|(ready, _)| ready))
        .count();
    Ok(proposal(ceil(ratio * ready as f64)))
}

/// Replicas for an object or external metric with a target average value. `status_replicas` is what runs.
pub fn value_per_pod_replicas(
    status_replicas: i32,
    target: i64,
    usage: i64,
    tolerance: Tolerance,
) -> Result<Proposal, CalculationError> {
    if target <= 0 {
        return Err(CalculationError::ZeroTarget);
    }
    let ratio = usage as f64 / (target as f64 * f64::from(status_replicas));
    let replicas = match tolerance.holds(ratio) {
        true => status_replicas,
        false => ceil(usage as f64 / target as f64),
    };
    let average = match status_replicas {
        0 => 0.0,
        replicas => (usage as f64 / f64::from(replicas)).ceil(),
    };
    Ok(Proposal { replicas, utilization: None, usage: average as i64 })
}

fn ceil(value: f64) -> i32 {
    // A float-to-integer cast saturates, and takes NaN to 0.
    value.ceil() as i32
}

fn total(values: impl Iterator<Item = i64>) -> i64 {
    values.fold(0, i64::saturating_add)
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { cpu_initialization_ms: 120_000, initial_readiness_delay_ms: 10_000 };
    const NOW: i64 = 1_000_000_000;

    fn pods(count: usize) -> Vec<PodFacts> {
        (0..count).map(|i| pod(i, true)).collect()
    }

    fn pod(index: usize, ready: bool) -> PodFacts {
        PodFacts {
            name: format!("p{index}"),
            phase: PodPhase::Running,
            deleted: false,
            start_ms: Some(NOW - 600_000),
            ready: Some((ready, NOW - 595_000)),
        }
    }

    fn readings(values: &[i64]) -> Readings {
        let reading = |value| Reading { value, at_ms: NOW, window_ms: 60_000 };
        values.iter().enumerate().map(|(i, v)| (format!("p{i}"), reading(*v))).collect()
    }

    fn cpu(
        current: i32,
        target: i32,
        values: &[i64],
        pods: &[PodFacts],
    ) -> Result<Proposal, CalculationError> {
        let requests = pods.iter().map(|p| (p.name.clone(), 1000)).collect();
        let tolerance = Tolerance::both(0.1);
        utilization_replicas(
            current,
            target,
            readings(values),
            &requests,
            pods,
            true,
            tolerance,
            PATIENCE,
            NOW,
        )
    }

    #[test]
    fn utilization_table() {
        let replicas = |current, target, values: &[i64], pods: &[PodFacts]| {
            cpu(current, target, values, pods).map(|p| p.replicas)
        };
        assert_eq!(replicas(2, 50, &[1000, 1000], &pods(2)), Ok(4));
        assert_eq!(replicas(4, 50, &[100, 100, 100, 100], &pods(4)), Ok(1));
        assert_eq!(replicas(2, 50, &[540, 540], &pods(2)), Ok(2), "within tolerance");
        assert_eq!(replicas(2, 50, &[1000, 1000], &[]), Err(CalculationError::NoPods));
        assert_eq!(replicas(2, 50, &[], &pods(2)), Err(CalculationError::NoReadings));
        // One pod without a reading counts as idle on the way up and as fully used on the way down.
        assert_eq!(replicas(3, 50, &[1000, 1000], &pods(3)), Ok(4));
        assert_eq!(replicas(3, 50, &[100, 100], &pods(3)), Ok(3));
        let starting = vec![pod(0, true), pod(1, true), pod(2, false)];
        assert_eq!(replicas(3, 50, &[1000, 1000, 0], &starting), Ok(4), "an unready pod counts as idle");
        let mut gone = pods(3);
        gone[2].deleted = true;
        assert_eq!(replicas(3, 50, &[1000, 1000, 9000], &gone), Ok(4), "a deleted pod does not count");
        assert_eq!(cpu(2, 50, &[1000, 500], &pods(2)).unwrap().utilization, Some(75));
        assert_eq!(cpu(2, 0, &[1, 1], &pods(2)), Err(CalculationError::ZeroTarget));
    }

    #[test]
    fn a_young_pod_is_trusted_once_it_was_ready_for_a_window() {
        let mut young = pods(2);
        young[1].start_ms = Some(NOW - 30_000);
        young[1].ready = Some((true, NOW - 20_000));
        let requests = young.iter().map(|p| (p.name.clone(), 1000)).collect();
        let run = |window_ms| {
            let mut readings = readings(&[1000, 1000]);
            readings.get_mut("p1").unwrap().window_ms = window_ms;
            let tolerance = Tolerance::both(0.1);
            utilization_replicas(2, 40, readings, &requests, &young, true, tolerance, PATIENCE, NOW)
                .unwrap()
                .replicas
        };
        assert_eq!(run(60_000), 3);
        assert_eq!(run(1_000), 5);
    }

    #[test]
    fn values_and_averages() {
        let tolerance = Tolerance::both(0.1);
        let running = pods(3);
        let value = |current, target, usage| {
            value_replicas(current, target, usage, &running, tolerance).unwrap().replicas
        };
        assert_eq!(value(3, 10_000, 20_000), 6);
        assert_eq!(value(3, 10_000, 10_500), 3);
        assert_eq!(value(0, 10_000, 25_000), 3);
        let per_pod =
            |status, target, usage| value_per_pod_replicas(status, target, usage, tolerance).unwrap();
        assert_eq!(per_pod(3, 2150, 8600).replicas, 4);
        assert_eq!(per_pod(3, 2900, 8600), Proposal { replicas: 3, utilization: None, usage: 2867 });
        assert_eq!(per_pod(0, 1000, 0).replicas, 0);
        let average = |current, values: &[i64]| {
            let pods = pods(values.len());
            average_replicas(current, 20_000, readings(values), &pods, false, tolerance, PATIENCE, NOW)
                .unwrap()
                .replicas
        };
        assert_eq!(average(5, &[12_000; 5]), 3);
        assert_eq!(average(2, &[i64::MAX, i64::MAX]), i32::MAX);
        let asymmetric = Tolerance { up: 0.5, down: 0.0 };
        assert_eq!(value_replicas(3, 1000, 1400, &running, asymmetric).unwrap().replicas, 3);
        assert_eq!(value_replicas(3, 1000, 900, &running, asymmetric).unwrap().replicas, 3);
        assert_eq!(value_replicas(3, 1000, 600, &running, asymmetric).unwrap().replicas, 2);
    }
}
