//! What the user's files declare: handlers with their options, and settings; as the worker process tells it.

use std::time::Duration;

use gantry_operator::Expect;
use serde::Deserialize;
use serde_json::{Map, Value};

/// All that the files declare.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Declaration {
    pub(crate) handlers: Vec<Declared>,
    pub(crate) lifecycle: String,
    pub(crate) settings: Settings,
}

/// One handler; its position among all is how the worker knows it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Declared {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) labels: Map<String, Value>,
    #[serde(default)]
    pub(crate) annotations: Map<String, Value>,
    pub(crate) field: Option<Vec<String>>,
    pub(crate) value: Option<Value>,
    pub(crate) old: Option<Value>,
    pub(crate) new: Option<Value>,
    /// A filter is a function.
    pub(crate) asks: bool,
    pub(crate) errors: Option<String>,
    pub(crate) timeout: Option<f64>,
    pub(crate) retries: Option<u32>,
    pub(crate) backoff: Option<f64>,
    pub(crate) optional: bool,
    pub(crate) deleted: bool,
    pub(crate) initial_delay: Option<f64>,
    pub(crate) asks_delay: bool,
    pub(crate) cancellation_backoff: Option<f64>,
    pub(crate) cancellation_timeout: Option<f64>,
    pub(crate) interval: Option<f64>,
    pub(crate) idle: Option<f64>,
    pub(crate) sharp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Startup,
    Cleanup,
    Login,
    Probe,
    Create,
    Update,
    Delete,
    Resume,
    Field,
    Event,
    Index,
    Timer,
    Daemon,
    Validate,
    Mutate,
    Sub,
}

impl Kind {
    /// Whether a handler of this kind is about objects in the cluster.
    pub(crate) fn is_about_objects(self) -> bool {
        !matches!(self, Kind::Startup | Kind::Cleanup | Kind::Login | Kind::Probe | Kind::Sub)
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Settings {
    pub(crate) finalizer: String,
    pub(crate) consistency: Option<f64>,
    pub(crate) progress: Progress,
    pub(crate) diffbase: DiffBase,
    pub(crate) default_backoff: f64,
    pub(crate) worker_limit: Option<usize>,
    pub(crate) posting: Posting,
    pub(crate) peering: Peering,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Progress {
    pub(crate) prefix: String,
    pub(crate) v1: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct DiffBase {
    pub(crate) prefix: String,
    pub(crate) key: String,
    pub(crate) v1: bool,
    pub(crate) ignored: Vec<Vec<String>>,
}

/// In whose name events are written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Posting {
    pub(crate) component: String,
    pub(crate) instance: String,
    pub(crate) prefix: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Peering {
    pub(crate) name: String,
    pub(crate) priority: i64,
    pub(crate) lifetime: i64,
    pub(crate) mandatory: bool,
    pub(crate) standalone: bool,
    pub(crate) clusterwide: bool,
}

impl Declaration {
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.handlers.iter().any(|handler| handler.kind == kind)
    }
}

/// A pattern of a filter: `{"is": value}`, `{"present": true}`, `{"absent": true}` or `{"any": true}`.
pub(crate) fn expect(pattern: &Value) -> Expect {
    if let Some(value) = pattern.get("is") {
        Expect::Is(value.clone())
    } else if pattern.get("present").is_some() {
        Expect::Present
    } else if pattern.get("absent").is_some() {
        Expect::Absent
    } else {
        Expect::Any
    }
}

/// Seconds as Python gives them; what is negative or no number is no time at all.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(if value > 0.0 {
        Duration::MAX
    } else {
        Duration::ZERO
    })
}
