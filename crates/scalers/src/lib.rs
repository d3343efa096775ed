//! Event sources: each gives a number to scale on, and says when it may have changed.
//!
//! Invariants: a trigger's parameters are read by one declarative reader ([`parameters`]) under KEDA's rules; there is
//! one pooled client per endpoint and credential; a source that cannot be read gives an error, never a zero.
#![forbid(unsafe_code)]

mod cluster;
mod config;
mod cron;
mod http;
mod local;
pub mod parameters;
mod path;
mod postgres;
mod redis;
mod resource;
mod scaler;
mod sources;
mod spec;
mod web;

pub use cluster::{Cluster, PodPlace, ResourceKind};
pub use config::{PodIdentity, Secret, TriggerConfig};
pub use http::Resolve;
pub use local::{LocalMetrics, LocalQueryError};
pub use redis::keyspace::KeyspaceEvents;
pub use scaler::{Hear, Reading, Scaler, ScalerError, Subscription};
pub use sources::{SUPPORTED, Settings, Sources};
pub use spec::{Amount, MetricSpec, MetricType, ResourceTarget, without_index};
