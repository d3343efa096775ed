//! The state of an alerting rule: which alerts are pending, firing or resolved, and since when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use gantry_prom_model::{Labels, METRIC_NAME};
use gantry_promql::{Value, VectorSample};
use parking_lot::Mutex;

use crate::rule::Written;

pub(crate) const ALERT_SERIES: &str = "ALERTS";
pub(crate) const FOR_STATE_SERIES: &str = "ALERTS_FOR_STATE";
pub(crate) const ALERT_NAME: &str = "alertname";
const ALERT_STATE: &str = "alertstate";
/// How long a resolved alert is kept, so that an Alertmanager that missed its end hears of it again.
const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    /// The rule was not evaluated yet.
    Unknown,
    Inactive,
    /// Its result has not lasted long enough.
    Pending,
    Firing,
}

impl AlertState {
    /// The word of the HTTP API and of the label `alertstate`.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Unknown => "unknown",
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// One alert of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    pub state: AlertState,
    pub labels: Labels,
    pub annotations: Labels,
    /// The value at the last evaluation that gave one.
    pub value: f64,
    pub active_at_ms: i64,
    pub fired_at_ms: Option<i64>,
    pub resolved_at_ms: Option<i64>,
    pub last_sent_ms: Option<i64>,
    /// Until when the Alertmanager is to believe it without hearing of it again.
    pub valid_until_ms: i64,
    pub keep_firing_since_ms: Option<i64>,
}

impl Alert {
    fn needs_sending(&self, now_ms: i64, resend_delay_ms: i64) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(last_sent) = self.last_sent_ms else { return true };
        self.resolved_at_ms.is_some_and(|resolved| resolved > last_sent)
            || last_sent.saturating_add(resend_delay_ms) < now_ms
    }
}

/// What an alerting rule has beside its expression.
#[derive(Debug)]
pub struct Alerting {
    /// How long a result has to last before the alert fires.
    pub hold_ms: i64,
    /// How long the alert goes on firing without a result.
    pub keep_firing_ms: i64,
    pub annotations: Labels,
    /// By labels; resolved ones stay for a while.
    active: Mutex<BTreeMap<Labels, Alert>>,
    /// Whether the state before a restart has been looked for. Until then no series are written, or they would hide it.
    restored: AtomicBool,
}

/// What an evaluation of an alerting rule is told.
pub(crate) struct AlertInput<'a> {
    pub(crate) name: &'a str,
    pub(crate) rule_labels: &'a Labels,
    pub(crate) time_ms: i64,
    pub(crate) query_offset_ms: i64,
    pub(crate) limit: usize,
}

// === impl Alerting ===

impl Alerting {
    pub(crate) fn new(hold_ms: i64, keep_firing_ms: i64, annotations: Labels, is_restored: bool) -> Alerting {
        Alerting {
            hold_ms,
            keep_firing_ms,
            annotations,
            active: Mutex::default(),
            restored: AtomicBool::new(is_restored),
        }
    }

    pub(crate) fn is_same_definition(&self, other: &Alerting) -> bool {
        self.hold_ms == other.hold_ms
            && self.keep_firing_ms == other.keep_firing_ms
            && self.annotations == other.annotations
    }

    pub(crate) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }

    pub(crate) fn set_restored(&self) {
        self.restored.store(true, Ordering::Release);
    }

    /// The alerts that are pending or firing.
    pub fn alerts(&self) -> Vec<Alert> {
        let active = self.active.lock();
        active.values().filter(|alert| alert.resolved_at_ms.is_none()).cloned().collect()
    }

    /// The highest state of any of its alerts.
    pub fn state(&self) -> AlertState {
        let active = self.active.lock();
        active.values().map(|alert| alert.state).max().unwrap_or(AlertState::Inactive)
    }

    /// Changes the alerts that are pending or firing.
    pub(crate) fn for_each_active(&self, mut change: impl FnMut(&mut Alert)) {
        let mut active = self.active.lock();
        active.values_mut().filter(|alert| alert.resolved_at_ms.is_none()).for_each(&mut change);
    }

    /// Takes the alerts of the rule that this one replaces.
    pub(crate) fn take_over(&self, from: &Alerting) {
        let taken = from.active.lock().clone();
        self.active.lock().extend(taken);
    }

    /// Moves the alerts on by a result and gives the series that say so. `expand` makes the text of a template for a
    /// sample.
    pub(crate) fn evaluate(
        &self,
        input: &AlertInput<'_>,
        result: &[VectorSample],
        expand: &dyn Fn(&str, &VectorSample) -> String,
    ) -> Result<Vec<Written>, String> {
        let found = self.alerts_of(input, result, expand)?;
        let mut active = self.active.lock();
        for (labels, alert) in &found {
            match active.get_mut(labels).filter(|known| known.state != AlertState::Inactive) {
                Some(known) => {
                    known.value = alert.value;
                    known.annotations = alert.annotations.clone();
                }
                None => {
                    active.insert(labels.clone(), alert.clone());
                }
            }
        }
        let now = input.time_ms;
        let mut active_count = 0;
        let mut written = Vec::new();
        active.retain(|labels, alert| {
            if found.contains_key(labels) {
                alert.keep_firing_since_ms = None;
            } else {
                let keeps_firing = alert.state == AlertState::Firing
                    && self.keep_firing_ms > 0
                    && now - *alert.keep_firing_since_ms.get_or_insert(now) < self.keep_firing_ms;
                let is_forgotten = alert.state == AlertState::Pending
                    || alert.resolved_at_ms.is_some_and(|resolved| now - resolved > RESOLVED_RETENTION_MS);
                if !keeps_firing {
                    if alert.state != AlertState::Inactive {
                        alert.state = AlertState::Inactive;
                        alert.resolved_at_ms = Some(now);
                    }
                    return !is_forgotten;
                }
            }
            active_count += 1;
            if alert.state == AlertState::Pending && now - alert.active_at_ms >= self.hold_ms {
                alert.state = AlertState::Firing;
                alert.fired_at_ms = Some(now);
            }
            if self.is_restored() {
                let at = now - input.query_offset_ms;
                written.push(state_sample(input, alert, at));
                written.push(for_state_sample(input, alert, at));
            }
            true
        });
        if input.limit > 0 && active_count > input.limit {
            active.clear();
            return Err(format!("exceeded limit of {} with {active_count} alerts", input.limit));
        }
        Ok(written)
    }

    fn alerts_of(
        &self,
        input: &AlertInput<'_>,
        result: &[VectorSample],
        expand: &dyn Fn(&str, &VectorSample) -> String,
    ) -> Result<BTreeMap<Labels, Alert>, String> {
        let mut found = BTreeMap::new();
        for sample in result {
            let mut labels = sample.labels.to_builder();
            labels.remove(METRIC_NAME);
            for (name, text) in input.rule_labels {
                labels.set(name, &expand(text, sample));
            }
            labels.set(ALERT_NAME, input.name);
            let labels = labels.build();
            let annotations =
                self.annotations.iter().map(|(name, text)| (name, expand(text, sample))).collect();
            let alert = Alert {
                state: AlertState::Pending,
                labels: labels.clone(),
                annotations,
                value: match &sample.value {
                    Value::Float(value) => *value,
                    Value::Histogram(_) => 0.0,
                },
                active_at_ms: input.time_ms,
                fired_at_ms: None,
                resolved_at_ms: None,
                last_sent_ms: None,
                valid_until_ms: 0,
                keep_firing_since_ms: None,
            };
            if found.insert(labels, alert).is_some() {
                return Err(
                    "vector contains metrics with the same labelset after applying alert labels".into()
                );
            }
        }
        Ok(found)
    }

    /// The alerts that the Alertmanager has to hear of now; noted as sent.
    pub(crate) fn to_send(&self, now_ms: i64, resend_delay_ms: i64, interval_ms: i64) -> Vec<Alert> {
        let mut active = self.active.lock();
        let mut sent = Vec::new();
        for alert in active.values_mut() {
            if alert.needs_sending(now_ms, resend_delay_ms) {
                alert.last_sent_ms = Some(now_ms);
                // Two evaluations or deliveries may fail before it counts as resolved.
                alert.valid_until_ms = now_ms + 4 * resend_delay_ms.max(interval_ms);
                sent.push(alert.clone());
            }
        }
        sent
    }
}

fn state_sample(input: &AlertInput<'_>, alert: &Alert, at_ms: i64) -> Written {
    let mut labels = series_labels(input, alert);
    labels.set(METRIC_NAME, ALERT_SERIES).set(ALERT_STATE, alert.state.as_str());
    Written { labels: labels.build(), timestamp_ms: at_ms, value: Value::Float(1.0) }
}

fn for_state_sample(input: &AlertInput<'_>, alert: &Alert, at_ms: i64) -> Written {
    let mut labels = series_labels(input, alert);
    labels.set(METRIC_NAME, FOR_STATE_SERIES);
    let since = Value::Float(alert.active_at_ms.div_euclid(1000) as f64);
    Written { labels: labels.build(), timestamp_ms: at_ms, value: since }
}

fn series_labels(input: &AlertInput<'_>, alert: &Alert) -> gantry_prom_model::LabelsBuilder {
    let mut labels = input.rule_labels.to_builder();
    for (name, value) in &alert.labels {
        labels.set(name, value);
    }
    labels.set(ALERT_NAME, input.name);
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    struct Bench {
        rule: Alerting,
        labels: Labels,
    }

    impl Bench {
        fn new(hold_ms: i64, keep_firing_ms: i64) -> Bench {
            let annotations = Labels::from_pairs([("summary", "of VALUE")]);
            let labels = Labels::from_pairs([("severity", "page")]);
            Bench { rule: Alerting::new(hold_ms, keep_firing_ms, annotations, true), labels }
        }

        fn at(&self, time_ms: i64, instances: &[&str]) -> Result<Vec<String>, String> {
            self.limited(time_ms, instances, 0)
        }

        fn limited(&self, time_ms: i64, instances: &[&str], limit: usize) -> Result<Vec<String>, String> {
            let result: Vec<VectorSample> = instances
                .iter()
                .map(|instance| VectorSample {
                    labels: Labels::from_pairs([("__name__", "up"), ("instance", instance)]),
                    timestamp_ms: time_ms,
                    value: Value::Float(7.0),
                })
                .collect();
            let input =
                AlertInput { name: "Down", rule_labels: &self.labels, time_ms, query_offset_ms: 0, limit };
            let written = self.rule.evaluate(&input, &result, &|text, _| text.replace("VALUE", "seven"))?;
            Ok(written
                .iter()
                .filter(|sample| sample.labels.metric_name() == Some(ALERT_SERIES))
                .map(|sample| {
                    let label = |name| sample.labels.get(name).unwrap_or("-").to_owned();
                    format!("{} {}", label("instance"), label(ALERT_STATE))
                })
                .collect())
        }
    }

    #[test]
    fn an_alert_waits_and_fires_and_resolves() {
        let bench = Bench::new(2 * MINUTE, 0);
        assert_eq!(bench.at(0, &["a", "b"]).unwrap(), ["a pending", "b pending"]);
        assert_eq!(bench.at(MINUTE, &["a"]).unwrap(), ["a pending"], "b is forgotten");
        assert_eq!(bench.at(2 * MINUTE, &["a", "b"]).unwrap(), ["a firing", "b pending"]);
        let alerts = bench.rule.alerts();
        assert_eq!(alerts[0].labels.to_string(), r#"{alertname="Down", instance="a", severity="page"}"#);
        assert_eq!(alerts[0].annotations.get("summary"), Some("of seven"));
        assert_eq!((alerts[0].active_at_ms, alerts[0].fired_at_ms), (0, Some(2 * MINUTE)));
        assert_eq!(bench.at(3 * MINUTE, &[]).unwrap(), Vec::<String>::new());
        assert_eq!(bench.rule.state(), AlertState::Inactive);
        assert_eq!(bench.at(4 * MINUTE, &["a"]).unwrap(), ["a pending"], "it begins anew");
    }

    #[test]
    fn an_alert_goes_on_firing_as_long_as_it_is_told_to() {
        let bench = Bench::new(0, 2 * MINUTE);
        assert_eq!(bench.at(0, &["a"]).unwrap(), ["a firing"]);
        assert_eq!(bench.at(MINUTE, &[]).unwrap(), ["a firing"]);
        assert_eq!(bench.rule.alerts()[0].keep_firing_since_ms, Some(MINUTE));
        assert_eq!(bench.at(2 * MINUTE, &["a"]).unwrap(), ["a firing"]);
        assert_eq!(bench.rule.alerts()[0].keep_firing_since_ms, None);
        assert_eq!(bench.at(3 * MINUTE, &[]).unwrap(), ["a firing"]);
        assert_eq!(bench.at(4 * MINUTE, &[]).unwrap(), ["a firing"]);
        assert!(bench.at(5 * MINUTE, &[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_sent_and_when() {
        let bench = Bench::new(0, 0);
        let times = |now: i64| -> Vec<(AlertState, i64)> {
            let sent = bench.rule.to_send(now, MINUTE, 15_000);
            sent.iter().map(|alert| (alert.state, alert.valid_until_ms)).collect()
        };
        bench.at(0, &["a"]).unwrap();
        assert_eq!(times(0), [(AlertState::Firing, 4 * MINUTE)]);
        bench.at(15_000, &["a"]).unwrap();
        assert!(times(15_000).is_empty(), "not before the delay");
        bench.at(75_000, &["a"]).unwrap();
        assert_eq!(times(75_000).len(), 1);
        bench.at(90_000, &[]).unwrap();
        assert_eq!(times(90_000)[0].0, AlertState::Inactive, "the end is told at once");
        bench.at(105_000, &[]).unwrap();
        assert!(times(105_000).is_empty());
        bench.at(90_000 + RESOLVED_RETENTION_MS + 1, &[]).unwrap();
        assert!(times(90_000 + RESOLVED_RETENTION_MS + 1).is_empty(), "and then it is forgotten");
    }

    #[test]
    fn too_many_alerts_fail_the_rule() {
        let bench = Bench::new(0, 0);
        let error = bench.limited(0, &["a", "b"], 1).unwrap_err();
        assert_eq!(error, "exceeded limit of 1 with 2 alerts");
        assert!(bench.rule.alerts().is_empty());
    }

    #[test]
    fn nothing_is_written_before_the_state_is_restored() {
        let rule = Alerting::new(0, 0, Labels::empty(), false);
        let bench = Bench { rule, labels: Labels::empty() };
        assert!(bench.at(0, &["a"]).unwrap().is_empty());
        bench.rule.set_restored();
        assert_eq!(bench.at(MINUTE, &["a"]).unwrap(), ["a firing"]);
    }
}
