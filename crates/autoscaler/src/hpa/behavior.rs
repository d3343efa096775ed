//! How fast a recommendation may be followed: stabilisation windows, scaling policies, limits.
//!
//! All functions are pure; times are milliseconds.

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// What a metric computation once asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recommendation {
    pub replicas: i32,
    pub at_ms: i64,
}

/// A change of size that was made; `change` is positive in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleEvent {
    pub change: i32,
    pub at_ms: i64,
    /// May be overwritten by the next event.
    pub outdated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    Max,
    Min,
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    Pods,
    Percent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub kind: PolicyKind,
    pub value: i32,
    pub period_ms: i64,
}

/// The rules of one direction, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// `None` stands for the controller's own default (scaling down only).
    pub window_ms: Option<i64>,
    pub select: Select,
    pub policies: Vec<Policy>,
    pub tolerance: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    pub up: Rules,
    pub down: Rules,
}

/// Why a desired size was changed, as a condition's reason and message.
pub type Why = (&'static str, &'static str);

pub const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Why =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);

// === impl Rules ===

impl Rules {
    /// Upwards: no window, the larger of 4 pods and 100 % per 15 s.
    pub fn up(given: Option<&HPAScalingRules>) -> Rules {
        let default = Rules {
            window_ms: Some(0),
            select: Select::Max,
            policies: vec![
                Policy { kind: PolicyKind::Pods, value: 4, period_ms: 15_000 },
                Policy { kind: PolicyKind::Percent, value: 100, period_ms: 15_000 },
            ],
            tolerance: None,
        };
        default.with(given)
    }

    /// Downwards: the controller's window, 100 % per 15 s.
    pub fn down(given: Option<&HPAScalingRules>) -> Rules {
        let default = Rules {
            window_ms: None,
            select: Select::Max,
            policies: vec![Policy { kind: PolicyKind::Percent, value: 100, period_ms: 15_000 }],
            tolerance: None,
        };
        default.with(given)
    }

    fn with(mut self, given: Option<&HPAScalingRules>) -> Rules {
        let Some(given) = given else { return self };
        if let Some(seconds) = given.stabilization_window_seconds {
            self.window_ms = Some(i64::from(seconds) * 1000);
        }
        match given.select_policy.as_deref() {
            Some("Min") => self.select = Select::Min,
            Some("Disabled") => self.select = Select::Disabled,
            _ => {}
        }
        if let Some(policies) = given.policies.as_deref().filter(|p| !p.is_empty()) {
            let policy = |p: &k8s_openapi::api::autoscaling::v2::HPAScalingPolicy| Policy {
                kind: if p.type_ == "Pods" { PolicyKind::Pods } else { PolicyKind::Percent },
                value: p.value,
                period_ms: i64::from(p.period_seconds) * 1000,
            };
            self.policies = policies.iter().map(policy).collect();
        }
        let quantity = given.tolerance.as_ref().and_then(|q| gantry_apimachinery::quantity::milli(&q.0));
        self.tolerance = quantity.map(|milli| milli as f64 / 1000.0);
        self
    }

    fn longest_period_ms(&self) -> i64 {
        self.policies.iter().map(|p| p.period_ms).max().unwrap_or(0)
    }
}

impl Behavior {
    pub fn of(given: &HorizontalPodAutoscalerBehavior) -> Behavior {
        Behavior { up: Rules::up(given.scale_up.as_ref()), down: Rules::down(given.scale_down.as_ref()) }
    }
}

/// Without behaviour: the highest recommendation of the window. `recommendations` takes in the new one.
pub fn stabilize(
    recommendations: &mut Vec<Recommendation>,
    desired: i32,
    window_ms: i64,
    now_ms: i64,
) -> (i32, Option<Why>) {
    let cutoff = now_ms - window_ms;
    let recent = recommendations.iter().filter(|r| r.at_ms >= cutoff).map(|r| r.replicas);
    let stabilized = recent.fold(desired, i32::max);
    remember(recommendations, desired, now_ms, |r| r.at_ms < cutoff);
    (stabilized, (stabilized != desired).then_some(DOWN_STABILIZED))
}

/// With behaviour: at least the lowest recommendation of the upward window, at most the highest of the downward one.
pub fn stabilize_with_behavior(
    recommendations: &mut Vec<Recommendation>,
    current: i32,
    desired: i32,
    up_window_ms: i64,
    down_window_ms: i64,
    now_ms: i64,
) -> (i32, Option<Why>) {
    let up_cutoff = now_ms - up_window_ms;
    let down_cutoff = now_ms - down_window_ms;
    let mut lowest = desired;
    let mut highest = desired;
    for recommendation in recommendations.iter() {
        if recommendation.at_ms > up_cutoff {
            lowest = lowest.min(recommendation.replicas);
        }
        if recommendation.at_ms > down_cutoff {
            highest = highest.max(recommendation.replicas);
        }
    }
    let stabilized = current.max(lowest).min(highest);
    let outdated = |r: &Recommendation| r.at_ms < up_cutoff && r.at_ms < down_cutoff;
    remember(recommendations, desired, now_ms, outdated);
    let why = if desired >= current { UP_STABILIZED } else { DOWN_STABILIZED };
    (stabilized, (stabilized != desired).then_some(why))
}

fn remember(
    recommendations: &mut Vec<Recommendation>,
    replicas: i32,
    at_ms: i64,
    outdated: impl Fn(&Recommendation) -> bool,
) {
    let new = Recommendation { replicas, at_ms };
    // The last outdated entry is replaced, so the list is bounded by the recommendations of one window.
    match recommendations.iter().rposition(outdated) {
        Some(index) => recommendations[index] = new,
        None => recommendations.push(new),
    }
}

/// Without behaviour: within the bounds, and at most twice the current size (or 4).
pub fn limit(current: i32, desired: i32, min: i32, max: i32) -> (i32, Why) {
    let fastest = ((f64::from(current) * 2.0).max(4.0)) as i32;
    let (highest, why) = if max > fastest { (fastest, UP_LIMIT) } else { (max, TOO_MANY) };
    if desired < min {
        (min, TOO_FEW)
    } else if desired > highest {
        (highest, why)
    } else {
        (desired, WITHIN)
    }
}

/// With behaviour: within the bounds, and as fast as the policies allow after what was done in their periods.
#[allow(clippy::too_many_arguments)]
pub fn limit_with_behavior(
    behavior: &Behavior,
    up_events: &[ScaleEvent],
    down_events: &[ScaleEvent],
    current: i32,
    desired: i32,
    min: i32,
    max: i32,
    now_ms: i64,
) -> (i32, Why) {
    if desired > current {
        // Policies may have been used up already; that is no reason to shrink.
        let fastest = up_limit(current, up_events, down_events, &behavior.up, now_ms).max(current);
        let (highest, why) = if max > fastest { (fastest, UP_LIMIT) } else { (max, TOO_MANY) };
        if desired > highest {
            return (highest, why);
        }
    } else if desired < current {
        let fastest = down_limit(current, up_events, down_events, &behavior.down, now_ms).min(current);
        let (lowest, why) = if min < fastest { (fastest, DOWN_LIMIT) } else { (min, TOO_FEW) };
        if desired < lowest {
            return (lowest, why);
        }
    }
    (desired, WITHIN)
}

fn changed_since(period_ms: i64, events: &[ScaleEvent], now_ms: i64) -> i32 {
    let recent = events.iter().filter(|e| e.at_ms > now_ms - period_ms).map(|e| e.change);
    recent.fold(0, i32::saturating_add)
}

fn period_start(current: i32, period_ms: i64, up: &[ScaleEvent], down: &[ScaleEvent], now_ms: i64) -> i32 {
    let added = changed_since(period_ms, up, now_ms);
    let removed = changed_since(period_ms, down, now_ms);
    current.saturating_sub(added).saturating_add(removed)
}

/// The most that the policies allow now.
pub fn up_limit(current: i32, up: &[ScaleEvent], down: &[ScaleEvent], rules: &Rules, now_ms: i64) -> i32 {
    let proposals = rules.policies.iter().map(|policy| {
        let start = period_start(current, policy.period_ms, up, down, now_ms);
        match policy.kind {
            PolicyKind::Pods => start.saturating_add(policy.value),
            PolicyKind::Percent => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
        }
    });
    match rules.select {
        Select::Disabled => current,
        Select::Min => proposals.fold(i32::MAX, i32::min),
        Select::Max => proposals.fold(i32::MIN, i32::max),
    }
}

/// The least that the policies allow now.
pub fn down_limit(current: i32, up: &[ScaleEvent], down: &[ScaleEvent], rules: &Rules, now_ms: i64) -> i32 {
    let proposals = rules.policies.iter().map(|policy| {
        let start = period_start(current, policy.period_ms, up, down, now_ms);
        match policy.kind {
            PolicyKind::Pods => start.saturating_sub(policy.value),
            PolicyKind::Percent => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
        }
    });
    match rules.select {
        Select::Disabled => current,
        // The smallest change leaves the most.
        Select::Min => proposals.fold(i32::MIN, i32::max),
        Select::Max => proposals.fold(i32::MAX, i32::min),
    }
}

/// Notes a change of size for the policies' periods.
pub fn store_event(events: &mut Vec<ScaleEvent>, rules: &Rules, change: i32, now_ms: i64) {
    let cutoff = now_ms - rules.longest_period_ms();
    for event in events.iter_mut() {
        event.outdated |= event.at_ms < cutoff;
    }
    let new = ScaleEvent { change, at_ms: now_ms, outdated: false };
    match events.iter_mut().rev().find(|e| e.outdated) {
        Some(old) => *old = new,
        None => events.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 10_000_000;

    fn rules(window_s: i64, select: Select, policies: &[(PolicyKind, i32, i64)]) -> Rules {
        let policy = |&(kind, value, seconds): &(PolicyKind, i32, i64)| Policy {
            kind,
            value,
            period_ms: seconds * 1000,
        };
        Rules {
            window_ms: Some(window_s * 1000),
            select,
            policies: policies.iter().map(policy).collect(),
            tolerance: None,
        }
    }

    fn event(change: i32, seconds_ago: i64) -> ScaleEvent {
        ScaleEvent { change, at_ms: NOW - seconds_ago * 1000, outdated: false }
    }

    #[test]
    fn the_window_holds_the_highest_back_down() {
        let mut seen = vec![
            Recommendation { replicas: 9, at_ms: NOW - 400_000 },
            Recommendation { replicas: 7, at_ms: NOW - 100_000 },
        ];
        assert_eq!(stabilize(&mut seen, 3, 300_000, NOW), (7, Some(DOWN_STABILIZED)));
        assert_eq!(seen[0], Recommendation { replicas: 3, at_ms: NOW }, "the outdated one is replaced");
        assert_eq!(stabilize(&mut seen, 8, 300_000, NOW), (8, None));
    }

    #[test]
    fn both_windows_clamp() {
        let at = |replicas, seconds: i64| Recommendation { replicas, at_ms: NOW - seconds * 1000 };
        let run = |seen: &[Recommendation], current, desired, up: i64, down: i64| {
            stabilize_with_behavior(&mut seen.to_vec(), current, desired, up * 1000, down * 1000, NOW).0
        };
        assert_eq!(run(&[at(4, 120), at(5, 60)], 100, 3, 0, 180), 5);
        assert_eq!(run(&[at(4, 120), at(5, 60)], 1, 7, 300, 0), 4);
        assert_eq!(run(&[at(4, 120), at(5, 60)], 1, 7, 0, 0), 7);
        assert_eq!(run(&[at(10, 60), at(2, 30)], 5, 7, 300, 300), 5);
    }

    #[test]
    fn policies_count_what_was_done_in_their_period() {
        let up = rules(0, Select::Max, &[(PolicyKind::Pods, 4, 60), (PolicyKind::Percent, 50, 60)]);
        assert_eq!(up_limit(10, &[], &[], &up, NOW), 15);
        assert_eq!(up_limit(10, &[event(4, 30)], &[], &up, NOW), 10);
        assert_eq!(up_limit(10, &[event(4, 61)], &[], &up, NOW), 15);
        assert_eq!(up_limit(10, &[], &[event(2, 30)], &up, NOW), 18);
        let least = Rules { select: Select::Min, ..up.clone() };
        assert_eq!(up_limit(10, &[], &[], &least, NOW), 14);
        assert_eq!(up_limit(10, &[], &[], &Rules { select: Select::Disabled, ..up }, NOW), 10);

        let down = rules(0, Select::Max, &[(PolicyKind::Pods, 2, 60), (PolicyKind::Percent, 50, 60)]);
        assert_eq!(down_limit(9, &[], &[], &down, NOW), 4);
        assert_eq!(down_limit(9, &[], &[event(3, 10)], &down, NOW), 6);
        assert_eq!(down_limit(9, &[], &[], &Rules { select: Select::Min, ..down }, NOW), 7);
    }

    #[test]
    fn limits() {
        assert_eq!(limit(3, 24, 1, 100), (6, UP_LIMIT));
        assert_eq!(limit(1, 24, 1, 100), (4, UP_LIMIT));
        assert_eq!(limit(3, 24, 1, 5), (5, TOO_MANY));
        assert_eq!(limit(3, 0, 2, 5), (2, TOO_FEW));
        assert_eq!(limit(3, 4, 2, 5), (4, WITHIN));
        let behavior = Behavior { up: Rules::up(None), down: Rules::down(None) };
        let run = |current, desired| limit_with_behavior(&behavior, &[], &[], current, desired, 1, 50, NOW);
        assert_eq!(run(3, 24), (7, UP_LIMIT));
        assert_eq!(run(10, 40), (20, UP_LIMIT));
        assert_eq!(run(10, 0), (1, TOO_FEW));
        assert_eq!(run(40, 60), (50, TOO_MANY));
    }

    #[test]
    fn events_reuse_outdated_places() {
        let rules = rules(0, Select::Max, &[(PolicyKind::Pods, 4, 60)]);
        let mut events = vec![event(1, 120), event(2, 30)];
        store_event(&mut events, &rules, 3, NOW);
        assert_eq!(events.iter().map(|e| e.change).collect::<Vec<_>>(), [3, 2]);
        store_event(&mut events, &rules, 4, NOW);
        assert_eq!(events.len(), 3);
    }
}
