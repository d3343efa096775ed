//! Recording and alerting rules over any Queryable, and their notifications.
//!
//! Invariants: the rules of a group that run side by side give what they would give one after the other; a series that a
//! rule no longer returns is marked stale; an alert that was pending before a restart does not begin to wait anew.
//!
//! No file, flag or socket: a rule file is a text, the storage, the clock and whoever carries an alert away are given.
#![forbid(unsafe_code)]

mod alerting;
mod dependencies;
mod engine;
mod environment;
mod fields;
mod file;
mod group;
mod humanize;
mod links;
mod metrics;
mod notify;
mod restore;
mod rule;
mod schedule;
mod template;
pub mod unit_test;

pub use alerting::{Alert, AlertState};
pub use engine::{Rules, RulesOptions};
pub use environment::{Environment, Notify};
pub use fields::FileError;
pub use file::{
    NameScheme, ReadOptions, RecordingOrAlerting, RuleFile, RuleGroup, RuleNode, duplicate_rules,
    read_rule_file,
};
pub use group::{Group, GroupDefaults};
pub use links::{graph_link, table_link};
pub use metrics::RuleMetrics;
pub use notify::{
    Alertmanager, Deliver, Notification, Notifier, NotifierOptions, Relabel, to_json as notifications_to_json,
};
pub use rule::{Health, Kind, Rule, RuleStatus};
