//! How many Jobs a ScaledJob makes: queue lengths to a wish, and the strategies that take off what is already there.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::types::{ScaledJobSpec, ScalingStrategy};

/// What the triggers of a ScaledJob ask for together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wish {
    pub is_active: bool,
    pub queue_length: i64,
    pub max_scale: i64,
}

/// One trigger's part: its queue and its target per Job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    pub is_active: bool,
    pub length: f64,
    pub target_average: f64,
}

/// The queue lengths and wishes of all triggers in one.
pub fn combine(calculation: &str, queues: &[Queue], max_replicas: i64) -> Wish {
    let wishes: Vec<Wish> = queues
        .iter()
        .map(|queue| {
            let max = if queue.target_average > 0.0 {
                // The casts saturate.
                ((queue.length / queue.target_average).ceil() as i64).min(max_replicas).max(0)
            } else {
                0
            };
            Wish {
                is_active: queue.is_active,
                queue_length: (queue.length.ceil() as i64).max(0),
                max_scale: max,
            }
        })
        .collect();
    let is_active = wishes.iter().any(|wish| wish.is_active);
    let lengths = || wishes.iter().map(|wish| wish.queue_length);
    let scales = || wishes.iter().map(|wish| wish.max_scale);
    let active = || wishes.iter().filter(|wish| wish.is_active);
    let (queue_length, max_scale) = match calculation {
        "min" => (
            active().map(|w| w.queue_length).min().unwrap_or(0),
            active().map(|w| w.max_scale).min().unwrap_or(0),
        ),
        "avg" => {
            let count = i64::try_from(active().count()).unwrap_or(i64::MAX);
            let mean = |sum: i64| {
                if count == 0 { 0 } else { sum.div_euclid(count) + i64::from(sum.rem_euclid(count) > 0) }
            };
            (
                mean(active().map(|w| w.queue_length).fold(0, i64::saturating_add)),
                mean(active().map(|w| w.max_scale).fold(0, i64::saturating_add)),
            )
        }
        "sum" => (lengths().fold(0, i64::saturating_add), scales().fold(0, i64::saturating_add)),
        _ => {
            let longest = active().max_by_key(|wish| wish.max_scale);
            (longest.map_or(0, |w| w.queue_length), longest.map_or(0, |w| w.max_scale))
        }
    };
    Wish { is_active, queue_length, max_scale: max_scale.min(max_replicas) }
}

/// Jobs that may be made, given those that run and those whose pods do not run yet.
pub fn effective_max_scale(
    strategy: &ScalingStrategy,
    max_scale: i64,
    running: i64,
    pending: i64,
    max_replicas: i64,
) -> i64 {
    let plain = max_scale - running;
    match strategy.strategy.as_str() {
        "custom" => {
            let percentage = strategy.custom_scaling_running_job_percentage.parse::<f64>();
            let (Some(deduction), Ok(percentage)) =
                (strategy.custom_scaling_queue_length_deduction, percentage)
            else {
                return plain;
            };
            let running_part = (running as f64 * percentage) as i64;
            // A percentage of any size saturates the part.
            max_scale.saturating_sub(i64::from(deduction)).saturating_sub(running_part).min(max_replicas)
        }
        "accurate" if max_scale + running - pending > max_replicas => max_replicas - running,
        "accurate" => max_scale - pending,
        "eager" => (max_replicas - running - pending).min(max_scale),
        _ => plain,
    }
}

/// How many Jobs to make now: those missing to the minimum first, else what the strategy allows of the wish.
pub fn jobs_to_make(spec: &ScaledJobSpec, wish: Wish, running: i64, pending: i64) -> i64 {
    let min = spec.min_replicas();
    if running < min {
        return min - running;
    }
    if !wish.is_active {
        return 0;
    }
    let allowed = effective_max_scale(
        &spec.scaling_strategy,
        wish.max_scale,
        running - min,
        pending,
        spec.max_replicas(),
    );
    allowed.min(wish.max_scale).max(0)
}

pub fn is_finished(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended =
        conditions.iter().find(|c| c.status == "True" && (c.type_ == "Complete" || c.type_ == "Failed"))?;
    Some(&ended.type_)
}

/// Whether a Job that runs has done nothing yet: no pod runs or ended well, or the given conditions do not all hold.
pub fn is_pending<'a>(pods: impl Iterator<Item = &'a Pod>, conditions: &[String]) -> bool {
    let statuses = pods.filter_map(|pod| pod.status.as_ref());
    if conditions.is_empty() {
        let works = |phase: Option<&str>| matches!(phase, Some("Succeeded" | "Running"));
        return !statuses.into_iter().any(|status| works(status.phase.as_deref()));
    }
    !statuses.into_iter().any(|status| {
        conditions.iter().all(|wanted| {
            status.conditions.iter().flatten().any(|c| c.type_ == *wanted && c.status == "True")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy(name: &str) -> ScalingStrategy {
        ScalingStrategy {
            strategy: name.into(),
            custom_scaling_queue_length_deduction: Some(1),
            custom_scaling_running_job_percentage: "0.5".into(),
            ..ScalingStrategy::default()
        }
    }

    #[test]
    fn strategies() {
        for (name, max_scale, running, pending, max, expected) in [
            ("default", 3, 2, 0, 5, 1),
            ("default", 2, 0, 0, 5, 2),
            ("custom", 10, 2, 0, 10, 8),
            ("custom", 20, 1, 0, 5, 5),
            ("accurate", 3, 2, 0, 5, 3),
            ("accurate", 3, 4, 0, 5, 1),
            ("accurate", 5, 2, 2, 10, 3),
            ("eager", 4, 3, 0, 10, 4),
            ("eager", 4, 3, 0, 5, 2),
        ] {
            assert_eq!(
                effective_max_scale(&strategy(name), max_scale, running, pending, max),
                expected,
                "{name}"
            );
        }
        let no_deduction =
            ScalingStrategy { custom_scaling_queue_length_deduction: None, ..strategy("custom") };
        assert_eq!(effective_max_scale(&no_deduction, 10, 2, 0, 10), 8);
    }

    #[test]
    fn several_triggers() {
        let queue = |length, target| Queue { is_active: length > 0.0, length, target_average: target };
        let queues = [queue(10.0, 5.0), queue(9.0, 1.0), queue(0.0, 1.0)];
        let of = |name: &str| {
            let wish = combine(name, &queues, 100);
            (wish.queue_length, wish.max_scale)
        };
        assert_eq!(of("max"), (9, 9));
        assert_eq!(of("min"), (9, 2));
        assert_eq!(of("avg"), (10, 6));
        assert_eq!(of("sum"), (19, 11));
        assert_eq!(combine("max", &queues, 4).max_scale, 4);
        assert!(!combine("max", &[queue(0.0, 1.0)], 4).is_active);
    }

    #[test]
    fn no_length_or_percentage_is_too_large_or_too_small() {
        let queue = |length| Queue { is_active: true, length, target_average: 1.0 };
        let wish = combine("avg", &[queue(1e300), queue(1e300)], i64::MAX);
        assert_eq!((wish.queue_length, wish.max_scale), (i64::MAX / 2 + 1, i64::MAX / 2 + 1));
        let wish = combine("max", &[queue(-1e300)], 10);
        assert_eq!((wish.queue_length, wish.max_scale), (0, 0));
        let custom =
            ScalingStrategy { custom_scaling_running_job_percentage: "-1e300".into(), ..strategy("custom") };
        assert_eq!(effective_max_scale(&custom, 10, 1, 0, 10), 10);
    }

    #[test]
    fn the_minimum_runs_without_work() {
        let spec = ScaledJobSpec { min_replica_count: Some(2), ..ScaledJobSpec::default() };
        assert_eq!(jobs_to_make(&spec, Wish::default(), 0, 0), 2);
        assert_eq!(jobs_to_make(&spec, Wish::default(), 2, 0), 0);
        let wish = Wish { is_active: true, queue_length: 3, max_scale: 3 };
        assert_eq!(jobs_to_make(&spec, wish, 2, 0), 3);
    }
}
