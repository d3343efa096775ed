//! One rule: what it evaluates, what it makes of the result, and how it went.

use std::collections::HashSet;

use gantry_prom_model::{Labels, METRIC_NAME};
use gantry_promql::ast::Expr;
use gantry_promql::{Value, VectorSample};
use parking_lot::Mutex;

use crate::alerting::Alerting;
use crate::file::{RecordingOrAlerting, RuleNode};

/// How the last evaluation of a rule went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// There was none yet.
    #[default]
    Unknown,
    Good,
    Bad,
}

impl Health {
    /// The word of the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Good => "ok",
            Health::Bad => "err",
        }
    }
}

/// How a rule's evaluations went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleStatus {
    pub health: Health,
    pub last_error: Option<String>,
    /// How long the last evaluation took.
    pub evaluation_seconds: f64,
    /// When it began.
    pub last_evaluation_ms: Option<i64>,
}

/// What only one kind of rule has.
#[derive(Debug)]
pub enum Kind {
    Recording,
    Alerting(Alerting),
}

/// A rule of a running group.
#[derive(Debug)]
pub struct Rule {
    /// The series that is recorded, or the alert.
    pub name: String,
    /// The expression as written, which places in its warnings refer to.
    pub(crate) text: String,
    /// The expression as it is printed.
    pub query: String,
    pub expr: Expr,
    pub labels: Labels,
    pub kind: Kind,
    status: Mutex<RuleStatus>,
}

impl Rule {
    pub(crate) fn new(node: RuleNode, is_restored: bool) -> Rule {
        let kind = match node.kind {
            RecordingOrAlerting::Recording => Kind::Recording,
            RecordingOrAlerting::Alerting { hold_ms, keep_firing_ms, annotations } => {
                Kind::Alerting(Alerting::new(hold_ms, keep_firing_ms, annotations, is_restored))
            }
        };
        Rule {
            name: node.name,
            query: node.expr.to_string(),
            text: node.query,
            expr: node.expr,
            labels: node.labels,
            kind,
            status: Mutex::default(),
        }
    }

    pub fn status(&self) -> RuleStatus {
        self.status.lock().clone()
    }

    pub(crate) fn set_status(&self, change: impl FnOnce(&mut RuleStatus)) {
        change(&mut self.status.lock());
    }

    pub fn alerting(&self) -> Option<&Alerting> {
        match &self.kind {
            Kind::Recording => None,
            Kind::Alerting(alerting) => Some(alerting),
        }
    }

    /// What a rule after a reload has to have for taking over this one's state.
    pub(crate) fn identity(&self) -> (&str, &Labels) {
        (&self.name, &self.labels)
    }

    /// Whether both are written alike.
    pub(crate) fn is_same_definition(&self, other: &Rule) -> bool {
        let same_kind = match (&self.kind, &other.kind) {
            (Kind::Recording, Kind::Recording) => true,
            (Kind::Alerting(own), Kind::Alerting(others)) => own.is_same_definition(others),
            _ => false,
        };
        same_kind && self.name == other.name && self.text == other.text && self.labels == other.labels
    }
}

/// A sample that a rule writes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    pub(crate) labels: Labels,
    pub(crate) timestamp_ms: i64,
    pub(crate) value: Value,
}

/// The samples of a recording rule's result.
pub(crate) fn record(
    name: &str,
    rule_labels: &Labels,
    result: Vec<VectorSample>,
    limit: usize,
) -> Result<Vec<Written>, String> {
    let mut seen = HashSet::with_capacity(result.len());
    let mut written = Vec::with_capacity(result.len());
    for sample in result {
        let mut labels = sample.labels.to_builder();
        labels.set(METRIC_NAME, name);
        for (label, value) in rule_labels {
            labels.set(label, value);
        }
        let labels = labels.build();
        if !seen.insert(labels.clone()) {
            return Err("vector contains metrics with the same labelset after applying rule labels".into());
        }
        written.push(Written { labels, timestamp_ms: sample.timestamp_ms, value: sample.value });
    }
    if limit > 0 && written.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", written.len()));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pairs: &[(&str, &str)]) -> VectorSample {
        VectorSample {
            labels: Labels::from_pairs(pairs.iter().copied()),
            timestamp_ms: 1_000,
            value: Value::Float(2.0),
        }
    }

    #[test]
    fn recorded_series_get_the_name_and_labels_of_the_rule() {
        let labels = Labels::from_pairs([("team", "a"), ("zone", "z")]);
        let written = record("r", &labels, vec![sample(&[("__name__", "x"), ("zone", "y")])], 0).unwrap();
        assert_eq!(written[0].labels.to_string(), r#"{__name__="r", team="a", zone="z"}"#);
        let twins = vec![sample(&[("zone", "y")]), sample(&[("zone", "w")])];
        assert!(record("r", &labels, twins, 0).unwrap_err().contains("same labelset"));
        let many = vec![sample(&[("a", "1")]), sample(&[("a", "2")])];
        assert_eq!(record("r", &labels, many, 1).unwrap_err(), "exceeded limit of 1 with 2 series");
    }
}
