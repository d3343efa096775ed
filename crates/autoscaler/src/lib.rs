//! HorizontalPodAutoscaler, VerticalPodAutoscaler, ScaledObject and ScaledJob, and the APIs metrics, custom.metrics and external.metrics.k8s.io.
//!
//! Invariant: everything that decides is a pure function over values ([`hpa::calculator`], [`hpa::behavior`],
//! [`hpa::decide`]); the controller only reads, calls them and writes.
#![forbid(unsafe_code)]

pub mod custom;
mod decisions;
mod external;
pub mod hpa;
pub mod keda;
mod metrics;
mod query;
pub mod vpa;

pub use decisions::{Decision, Decisions};
pub use external::{ExternalMetrics, FirstThatKnows};
pub use hpa::{Autoscaler, Config, QUERY_ANNOTATION};
pub use metrics::{
    Answer, ContainerPoint, Cumulative, GROUP, MetricsApi, MetricsStore, NodeMetrics, PodMetrics, PodPoint,
    RESOURCES, ResourceMetrics, ServedResource, StoreSettings, UsagePoint, Use, VERSION,
};
pub use query::{MetricsQuery, QueryError};
