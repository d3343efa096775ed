//! The report of a run: lanes that share one timeline, events, and verdicts, as one HTML page and as JUnit XML.
//!
//! Takes plain data, so that whoever knows more than the load engine (replicas, scaling decisions) adds its lanes.
//! The page needs no other file and asks no other host for anything.

mod chart;
mod html;
mod junit;

use crate::summary::Summary;
use crate::threshold::Outcome;

/// Everything a report shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub title: String,
    /// What was driven, where and when; one line each.
    pub facts: Vec<(String, String)>,
    pub started_ms: i64,
    pub seconds: f64,
    /// From top to bottom; all share the same time axis.
    pub lanes: Vec<Lane>,
    pub events: Vec<Event>,
    pub assertions: Vec<Assertion>,
    /// The table of requests, when load was driven.
    pub requests: Vec<crate::summary::RequestSummary>,
    /// Tables of another shape, after that of the requests.
    pub tables: Vec<Table>,
    /// Text under the table, such as the generator's own lag.
    pub notes: Vec<String>,
}

/// A table; the first `text_columns` columns are text, the others numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub title: String,
    pub headings: Vec<String>,
    pub text_columns: usize,
    pub rows: Vec<Vec<String>>,
}

/// One strip of the timeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    pub title: String,
    pub unit: Unit,
    pub series: Vec<Series>,
    /// Horizontal lines, such as a threshold: label and value.
    pub limits: Vec<(String, f64)>,
}

/// One line of a lane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub name: String,
    pub kind: Kind,
    /// Wall clock in milliseconds and value; `None` is a gap. Ascending in time.
    pub points: Vec<(i64, Option<f64>)>,
}

/// What a value is, so that it is printed as people write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    #[default]
    Count,
    PerSecond,
    Seconds,
    /// 0 to 1, shown in percent.
    Share,
    Bytes,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Line,
    /// Holds its value until the next point: replicas, users.
    Step,
    /// Dashed: what was asked for, against what was.
    Wanted,
    /// Drawn in the colour of failures.
    Failure,
}

/// Something that happened at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub at_ms: i64,
    pub level: Level,
    /// The object or part it is about, such as `deployment/catalog`.
    pub subject: String,
    /// A few words: `scaled 1 → 3`.
    pub text: String,
    /// Why: the metric, its value, the policy.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    #[default]
    Normal,
    Warning,
    Failure,
}

/// One verdict; a test case in JUnit's words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assertion {
    /// `load`, `promql`, `replicas`, `recovery` …
    pub group: String,
    pub name: String,
    pub passed: bool,
    /// What was found, and what was wanted when that is not in the name.
    pub message: String,
    pub seconds: f64,
}

// === impl Report ===

impl Report {
    /// The load's own part of a report: more lanes, events and assertions can be added.
    pub fn of_run(summary: &Summary) -> Report {
        let lanes = lanes(summary);
        let mut facts = vec![
            ("Scenario".to_owned(), summary.scenario.clone()),
            ("Target".to_owned(), summary.target.clone()),
        ];
        facts.push(("Requests".to_owned(), summary.total.requests.to_string()));
        facts.push(("Failed".to_owned(), summary.total.failed.to_string()));
        let mut notes =
            vec!["Latency is from the moment a request was due, not from when it could be sent.".to_owned()];
        if summary.generator.late {
            let lag = summary.generator.lag.p99_ms.unwrap_or(0.0);
            notes.push(format!(
                "The load generator itself was late (p99 {lag:.1} ms), which is part of the latencies."
            ));
        }
        if let Some(reason) = &summary.ended_early {
            notes.push(format!("The run ended early: {reason}."));
        }
        Report {
            title: summary.scenario.clone(),
            facts,
            started_ms: summary.started_ms,
            seconds: summary.seconds,
            lanes,
            events: Vec::new(),
            assertions: summary
                .thresholds
                .iter()
                .map(|outcome| assertion(outcome, summary.seconds))
                .collect(),
            requests: summary.requests.clone(),
            tables: Vec::new(),
            notes,
        }
    }

    pub fn passed(&self) -> bool {
        self.assertions.iter().all(|assertion| assertion.passed)
    }

    /// One page, light or dark as the reader's system is.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// JUnit's XML: a suite per group of assertions.
    pub fn to_junit(&self) -> String {
        junit::xml(self)
    }
}

fn assertion(outcome: &Outcome, seconds: f64) -> Assertion {
    Assertion {
        group: "load".to_owned(),
        name: outcome.threshold.clone(),
        passed: outcome.passed,
        message: format!("measured {}", outcome.measured),
        seconds,
    }
}

fn lanes(summary: &Summary) -> Vec<Lane> {
    let series = |name: &str, kind, value: &dyn Fn(&crate::summary::Snapshot) -> Option<f64>| Series {
        name: name.to_owned(),
        kind,
        points: summary.timeline.iter().map(|snapshot| (snapshot.at_ms, value(snapshot))).collect(),
    };
    let seconds = |ms: Option<f64>| ms.map(|ms| ms / 1000.0);
    let any_users = summary.timeline.iter().any(|snapshot| snapshot.users > 0);
    let mut load = vec![series("requests", Kind::Line, &|s| Some(s.rate))];
    if summary.total.failed > 0 {
        load.push(series("failed", Kind::Failure, &|s| Some(s.failed as f64)));
    }
    if !any_users {
        load.push(series("wanted", Kind::Wanted, &|s| Some(s.target)));
    }
    let latency = vec![
        series("p50", Kind::Line, &|s| seconds(s.intended.p50_ms)),
        series("p99", Kind::Line, &|s| seconds(s.intended.p99_ms)),
        series("p99 from send", Kind::Wanted, &|s| seconds(s.sent.p99_ms)),
    ];
    let mut lanes = vec![
        Lane { title: "Load".to_owned(), unit: Unit::PerSecond, series: load, limits: Vec::new() },
        Lane { title: "Latency".to_owned(), unit: Unit::Seconds, series: latency, limits: Vec::new() },
    ];
    if any_users {
        let users = vec![
            series("users", Kind::Step, &|s| Some(s.users as f64)),
            series("in flight", Kind::Line, &|s| Some(s.in_flight as f64)),
        ];
        lanes.push(Lane { title: "Users".to_owned(), unit: Unit::Count, series: users, limits: Vec::new() });
    }
    lanes
}
