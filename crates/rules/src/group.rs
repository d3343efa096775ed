//! A group: its rules, evaluated together, and what they wrote last.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_prom_model::{AppendError, Labels, stale_nan};
use gantry_promql::{Value, VectorSample};
use parking_lot::{Mutex, RwLock};

use crate::alerting::AlertInput;
use crate::dependencies::waves;
use crate::environment::Environment;
use crate::file::RuleGroup;
use crate::links::table_link;
use crate::notify::Notification;
use crate::rule::{Health, Kind, Rule, Written, record};
use crate::template::{self, Expander, Sample};

/// What groups take from the configuration when they do not say it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupDefaults {
    pub interval_ms: i64,
    pub query_offset_ms: i64,
}

/// A running group.
pub struct Group {
    pub name: String,
    /// The file that it is of.
    pub file: String,
    pub interval_ms: i64,
    /// How far back its rules look, and to which time their results belong.
    pub query_offset_ms: i64,
    pub limit: usize,
    pub rules: Vec<Rule>,
    /// Rules that may run side by side, wave after wave.
    waves: Vec<Vec<usize>>,
    /// The series that each rule wrote last.
    previous: Vec<Mutex<HashSet<Labels>>>,
    status: Mutex<GroupStatus>,
    environment: RwLock<Arc<Environment>>,
}

/// How a group's evaluations went.
#[derive(Debug, Clone, Default)]
struct GroupStatus {
    evaluation_seconds: f64,
    last_evaluation_ms: Option<i64>,
    /// Series of rules that are gone, to be marked stale by the next evaluation.
    stale: Vec<Labels>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("file", &self.file).field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl Group ===

impl Group {
    /// `is_restored`: whether its alerts need not look for the state before a restart.
    pub(crate) fn new(
        file: &str,
        group: RuleGroup,
        defaults: GroupDefaults,
        environment: Arc<Environment>,
        is_restored: bool,
    ) -> Group {
        let rules: Vec<Rule> = group.rules.into_iter().map(|node| Rule::new(node, is_restored)).collect();
        Group {
            name: group.name,
            file: file.to_owned(),
            interval_ms: group.interval_ms.unwrap_or(defaults.interval_ms).max(1),
            query_offset_ms: group.query_offset_ms.unwrap_or(defaults.query_offset_ms),
            limit: group.limit,
            waves: waves(&rules),
            previous: rules.iter().map(|_| Mutex::default()).collect(),
            rules,
            status: Mutex::default(),
            environment: RwLock::new(environment),
        }
    }

    /// `file;name`, as in the metrics.
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }

    /// How long the last evaluation took, and when it began.
    pub fn last_evaluation(&self) -> (f64, Option<i64>) {
        let status = self.status.lock();
        (status.evaluation_seconds, status.last_evaluation_ms)
    }

    pub(crate) fn environment(&self) -> Arc<Environment> {
        self.environment.read().clone()
    }

    /// For a configuration that left the group as it is.
    pub(crate) fn set_environment(&self, environment: Arc<Environment>) {
        *self.environment.write() = environment;
    }

    pub(crate) fn is_same_definition(&self, other: &Group) -> bool {
        self.name == other.name
            && self.file == other.file
            && self.interval_ms == other.interval_ms
            && self.query_offset_ms == other.query_offset_ms
            && self.limit == other.limit
            && self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(own, others)| own.is_same_definition(others))
    }

    /// Takes over alerts and series from the group that this one replaces, rule by rule of the same name and labels.
    pub(crate) fn take_over(&self, from: &Group) {
        let mut known: BTreeMap<(&str, &Labels), VecDeque<usize>> = BTreeMap::new();
        for (index, rule) in from.rules.iter().enumerate() {
            known.entry(rule.identity()).or_default().push_back(index);
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(old) = known.get_mut(&rule.identity()).and_then(VecDeque::pop_front) else { continue };
            *self.previous[index].lock() = std::mem::take(&mut *from.previous[old].lock());
            if let (Some(own), Some(others)) = (rule.alerting(), from.rules[old].alerting()) {
                own.take_over(others);
                if others.is_restored() {
                    own.set_restored();
                }
            }
        }
        let before = from.status.lock().clone();
        let mut status = self.status.lock();
        status.evaluation_seconds = before.evaluation_seconds;
        status.last_evaluation_ms = before.last_evaluation_ms;
        status.stale = before.stale;
        for old in known.into_values().flatten() {
            status.stale.extend(from.previous[old].lock().drain());
        }
    }

    /// Evaluates all rules for a time.
    pub(crate) fn evaluate(&self, time_ms: i64) {
        let environment = self.environment();
        let key = self.key();
        let started_ms = environment.clock.now_ms();
        let started = environment.clock.monotonic();
        let samples = AtomicUsize::new(0);
        for wave in &self.waves {
            self.evaluate_wave(&environment, wave, time_ms, &samples);
        }
        self.mark_stale(&environment, time_ms);
        let seconds = environment.clock.monotonic().saturating_sub(started).as_secs_f64();
        {
            let mut status = self.status.lock();
            status.evaluation_seconds = seconds;
            status.last_evaluation_ms = Some(started_ms);
        }
        let metrics = &environment.metrics;
        metrics.group_seconds.observe(seconds);
        metrics.last_duration_seconds.with([&key]).set(seconds);
        metrics.last_evaluation_seconds.with([&key]).set(started_ms as f64 / 1000.0);
        metrics.last_samples.with([&key]).set(samples.load(Ordering::Acquire) as f64);
        let of_rules = self.rules.iter().map(|rule| rule.status().evaluation_seconds).sum();
        metrics.last_rules_seconds.with([&key]).set(of_rules);
    }

    fn evaluate_wave(
        &self,
        environment: &Arc<Environment>,
        wave: &[usize],
        time_ms: i64,
        samples: &AtomicUsize,
    ) {
        let evaluate = |index: usize| {
            samples.fetch_add(self.evaluate_rule(environment, index, time_ms), Ordering::AcqRel);
        };
        let Some((last, others)) = wave.split_last() else { return };
        std::thread::scope(|scope| {
            for index in others {
                let permit = environment.thread_permit();
                let is_beside = permit.is_some_and(|permit| {
                    let beside = move || {
                        let _permit = permit;
                        evaluate(*index);
                    };
                    std::thread::Builder::new().name("rule".into()).spawn_scoped(scope, beside).is_ok()
                });
                if !is_beside {
                    evaluate(*index);
                }
            }
            evaluate(*last);
        });
    }

    /// The number of samples that the rule gave.
    fn evaluate_rule(&self, environment: &Arc<Environment>, index: usize, time_ms: i64) -> usize {
        let rule = &self.rules[index];
        let key = self.key();
        let started_ms = environment.clock.now_ms();
        let started = environment.clock.monotonic();
        environment.metrics.evaluations.with([&key]).inc();
        let outcome = self.result(environment, rule, time_ms).and_then(|written| {
            let count = written.len();
            let refused = self.store(environment, index, written, time_ms)?;
            Ok((count, refused))
        });
        let seconds = environment.clock.monotonic().saturating_sub(started).as_secs_f64();
        environment.metrics.evaluation_seconds.observe(seconds);
        let (count, error) = match outcome {
            Ok((count, refused)) => (count, refused),
            Err(reason) => {
                environment.metrics.failures.with([&key]).inc();
                if !environment.cancellation.is_canceled() {
                    tracing::warn!(group = %self.name, file = %self.file, rule = %rule.name, %reason, "evaluating a rule failed");
                }
                (0, Some(reason))
            }
        };
        rule.set_status(|status| {
            status.health = if error.is_some() { Health::Bad } else { Health::Good };
            status.last_error = error;
            status.evaluation_seconds = seconds;
            status.last_evaluation_ms = Some(started_ms);
        });
        count
    }

    /// What the rule is to write; its alerts are sent.
    fn result(
        &self,
        environment: &Arc<Environment>,
        rule: &Rule,
        time_ms: i64,
    ) -> Result<Vec<Written>, String> {
        let result = environment.evaluate(&rule.text, &rule.expr, time_ms - self.query_offset_ms)?;
        let alerting = match &rule.kind {
            Kind::Recording => return record(&rule.name, &rule.labels, result, self.limit),
            Kind::Alerting(alerting) => alerting,
        };
        let input = AlertInput {
            name: &rule.name,
            rule_labels: &rule.labels,
            time_ms,
            query_offset_ms: self.query_offset_ms,
            limit: self.limit,
        };
        let expander = expander(environment, &rule.name, time_ms);
        let expand = |text: &str, sample: &VectorSample| -> String {
            environment.metrics.expansions.inc();
            let labels = template::label_map(&sample.labels);
            let value = match &sample.value {
                Value::Float(value) => (*value).into(),
                Value::Histogram(histogram) => histogram.to_string().into(),
            };
            expander.expand(text, &labels, &value).unwrap_or_else(|reason| {
                environment.metrics.expansion_failures.inc();
                tracing::warn!(group = %self.name, alert = %rule.name, %reason, "expanding a template of an alert failed");
                format!("<error expanding template: {reason}>")
            })
        };
        let written = alerting.evaluate(&input, &result, &expand)?;
        let alerts = alerting.to_send(time_ms, environment.resend_delay_ms, self.interval_ms);
        if !alerts.is_empty() {
            let generator_url: Arc<str> =
                format!("{}{}", environment.external_url, table_link(&rule.query)).into();
            let notifications =
                alerts.into_iter().map(|alert| Notification::of(alert, generator_url.clone())).collect();
            environment.notify.notify(notifications);
        }
        Ok(written)
    }

    /// Writes a rule's samples, and stale markers for the series that it no longer gives. The last refusal is returned.
    fn store(
        &self,
        environment: &Environment,
        index: usize,
        written: Vec<Written>,
        time_ms: i64,
    ) -> Result<Option<String>, String> {
        let mut appender = environment.appendable.appender();
        let mut returned = HashSet::with_capacity(written.len());
        let (mut refused, mut last) = (0, None);
        for sample in written {
            let Written { labels, timestamp_ms, value } = sample;
            let appended = match &value {
                Value::Float(value) => appender.append(None, &labels, timestamp_ms, *value),
                Value::Histogram(histogram) => {
                    appender.append_histogram(None, &labels, timestamp_ms, histogram)
                }
            };
            match appended {
                Ok(_) => {
                    returned.insert(labels);
                }
                Err(error) => {
                    refused += 1;
                    last = Some(error.to_string());
                }
            }
        }
        if let Some(reason) = &last {
            tracing::warn!(group = %self.name, rule = %self.rules[index].name, refused, %reason, "results of a rule were not stored");
        }
        let mut previous = self.previous[index].lock();
        let stale_at = time_ms - self.query_offset_ms;
        for labels in previous.iter().filter(|labels| !returned.contains(*labels)) {
            note_stale(&self.name, appender.append(None, labels, stale_at, stale_nan()).map(drop));
        }
        appender.commit().map_err(|error| error.to_string())?;
        *previous = returned;
        Ok(last)
    }

    /// Marks the series of rules that are gone.
    fn mark_stale(&self, environment: &Environment, time_ms: i64) {
        let stale = std::mem::take(&mut self.status.lock().stale);
        if stale.is_empty() {
            return;
        }
        let mut appender = environment.appendable.appender();
        for labels in &stale {
            let at = time_ms - self.query_offset_ms;
            note_stale(&self.name, appender.append(None, labels, at, stale_nan()).map(drop));
        }
        note_stale(&self.name, appender.commit());
    }

    /// Marks all series of a group that is gone; `time_ms` is when it went.
    pub(crate) fn end(&self, time_ms: i64) {
        {
            let mut status = self.status.lock();
            for previous in &self.previous {
                status.stale.extend(previous.lock().drain());
            }
        }
        self.mark_stale(&self.environment(), time_ms);
    }
}

/// A marker that is refused because another rule writes the series now is as it should be.
fn note_stale(group: &str, outcome: Result<(), AppendError>) {
    match outcome {
        Ok(()) | Err(AppendError::OutOfOrder | AppendError::TooOld | AppendError::DuplicateForTimestamp) => {}
        Err(error) => tracing::warn!(group, %error, "a stale marker of a rule was not stored"),
    }
}

fn expander(environment: &Arc<Environment>, alert: &str, time_ms: i64) -> Expander {
    let asked = environment.clone();
    let query = move |query: &str| -> Result<Vec<Sample>, String> {
        let found = asked.evaluate_text(query, time_ms)?;
        Ok(found
            .into_iter()
            .map(|sample| Sample {
                labels: sample.labels,
                value: match sample.value {
                    Value::Float(value) => value,
                    Value::Histogram(_) => 0.0,
                },
            })
            .collect())
    };
    Expander {
        alert: alert.to_owned(),
        external_labels: template::label_map(&environment.external_labels),
        external_url: environment.external_url.clone(),
        now_ms: time_ms,
        query: Arc::new(query),
    }
}
