//! Load: scenarios, users and arrival rates, exact latencies, thresholds, and the report of a run.
//!
//! Invariants: every answer is timed twice, from the moment it was *due* and from the moment its bytes were sent, so
//! that a stalled target (or a late generator) cannot hide behind requests that were never sent; percentiles are taken
//! from exact counts per microsecond; what is sent, when and by whom follows from the scenario and its seed.

#![forbid(unsafe_code)]

mod client;
mod encode;
mod executor;
mod latency;
pub mod locust;
mod plan;
mod recorder;
pub mod report;
mod response;
mod run;
mod scenario;
mod series;
mod summary;
mod threshold;
mod timer;
mod tls;
pub mod zmtp;

pub use executor::Target;
pub use latency::Latencies;
pub use plan::{Level, Spread, Think};
pub use run::{Options, Run, StartError};
pub use scenario::{Body, Expect, Load, PathPattern, Request, Scenario, ScenarioError};
pub use summary::{GeneratorSummary, LatencySummary, RequestSnapshot, RequestSummary, Snapshot, Summary};
pub use threshold::{Outcome, PromqlThreshold, Threshold, Thresholds, When};
pub use tls::Trust;
