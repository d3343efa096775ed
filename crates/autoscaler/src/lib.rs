//! HorizontalPodAutoscaler, and metrics.k8s.io.
//!
//! Invariant: everything that decides is a pure function over values ([`hpa::calculator`], [`hpa::behavior`],
//! [`hpa::decide`]); the controller only reads, calls them and writes.
#![forbid(unsafe_code)]

mod decisions;
pub mod hpa;
mod metrics;
mod query;

pub use decisions::{Decision, Decisions};
pub use hpa::{Autoscaler, Config, QUERY_ANNOTATION};
pub use metrics::{
    Answer, ContainerPoint, Cumulative, GROUP, MetricsApi, MetricsStore, NodeMetrics, PodMetrics, PodPoint,
    RESOURCES, ResourceMetrics, ServedResource, StoreSettings, UsagePoint, Use, VERSION,
};
pub use query::{MetricsQuery, QueryError};
