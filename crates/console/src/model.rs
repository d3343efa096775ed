//! What the page shows, as plain data. Field names are the API's JSON.

use serde::Serialize;

/// Good, or how far from it. Never shown by colour alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Good,
    /// On its way: starting, rolling out, scaling.
    Progressing,
    Warning,
    Critical,
    #[default]
    Unknown,
}

/// The state of everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// What is up, such as `examples/shop/overlays/dev`.
    pub name: String,
    pub version: String,
    pub now_ms: i64,
    pub started_ms: i64,
    /// Where the parts can be reached.
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub services: Vec<Service>,
    pub pods: Vec<Pod>,
    pub objects: Vec<Object>,
    /// The charts of the page, in order.
    pub charts: Vec<Chart>,
}

/// One address to reach, or a file to use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Address {
    /// `Gateway`, `API server`, `Metrics`.
    pub label: String,
    /// A URL or a path.
    pub value: String,
    /// A command that uses it, to be copied.
    pub command: Option<String>,
}

/// A way from the gateway to a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Route {
    pub namespace: String,
    /// The service it leads to.
    pub service: String,
    pub host: String,
    pub path: String,
}

/// A Service with the workload behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub health: Health,
    pub ready: u32,
    pub desired: u32,
    /// The bounds of its autoscaler, when it has one.
    pub scale: Option<(u32, u32)>,
    /// What the autoscaler looks at, such as `cpu 62 % of 60 %`.
    pub scale_status: String,
    /// Requests per second through the gateway; `None` when nothing is known yet.
    pub rate: Option<f64>,
    /// Share of them that failed, 0 to 1.
    pub error_share: Option<f64>,
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
}

/// A pod; `services` is empty for one that no Service selects.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// Every Service that selects it.
    pub services: Vec<String>,
    pub health: Health,
    /// `Running`, `Pending`, `CrashLoopBackOff`.
    pub status: String,
    pub ready: bool,
    pub restarts: u32,
    pub cpu_cores: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub started_ms: Option<i64>,
}

/// Any object, as one line.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Object {
    pub kind: String,
    /// Empty for what is not in a namespace.
    pub namespace: String,
    pub name: String,
    pub health: Health,
    /// A word or two: `3/3 ready`, `Bound`.
    pub status: String,
    /// Why, when it is not good: the condition's message.
    pub message: String,
    pub created_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    #[default]
    Normal,
    /// A decision of an autoscaler or controller.
    Decision,
    Warning,
    Critical,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Event {
    /// Ascending; names the event in the page's address.
    pub id: u64,
    pub at_ms: i64,
    pub level: Level,
    /// The lane it is shown in: `scaling`, `pods`, `objects`, `traffic`.
    pub lane: String,
    /// `deployment/catalog`.
    pub object: String,
    pub namespace: String,
    /// A few words: `scaled 1 → 3`.
    pub text: String,
    /// The reason in full: which metric, which value, which policy.
    pub reason: String,
}

/// What the values of a chart are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    #[default]
    Count,
    PerSecond,
    Seconds,
    Share,
    Bytes,
    Cores,
}

/// A chart and the expressions that fill it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Chart {
    /// Names it in the page's address: letters, digits and `-`.
    pub id: String,
    pub title: String,
    pub unit: Unit,
    pub queries: Vec<ChartQuery>,
    /// Steps instead of slopes: replicas.
    pub stepped: bool,
}

/// One expression of a chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChartQuery {
    /// PromQL. `$window` stands for a range selector that fits the step, such as `4s`.
    pub expr: String,
    /// The name of its series; `{{label}}` stands for a label's value.
    pub legend: String,
}

/// One expression at every step of a range; times in milliseconds, both ends included.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeQuery {
    pub expr: String,
    pub from_ms: i64,
    pub to_ms: i64,
    pub step_ms: i64,
}

/// One series of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesData {
    pub labels: Vec<(String, String)>,
    /// Time in milliseconds and value, ascending; missing steps are gaps.
    pub points: Vec<(i64, f64)>,
}

/// Why an expression has no answer, in the words of whoever evaluated it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(pub String);
