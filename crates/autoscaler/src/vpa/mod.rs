//! VerticalPodAutoscaler: recommends what containers should request, from days of their usage.
//!
//! Invariant: only recommendations are made; no pod is evicted or changed, and an object that asks for that says so in
//! its conditions. Everything that computes is pure; the recommender only reads, calls it and writes.

pub mod aggregate;
pub mod amounts;
mod checkpoint;
pub mod estimate;
pub mod histogram;
mod oom;
pub mod policy;
mod recommender;
mod status;
mod types;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub use recommender::Recommender;
pub use status::{container_recommendations, set_condition};
pub use types::*;

/// The definitions of the VerticalPodAutoscaler's kinds, for [`install_definitions`](gantry_operator::install_definitions).
pub const DEFINITIONS: &[&str] = &[include_str!("../../data/vpa@1.7/crds.json")];

/// The recommender's settings; the defaults are upstream's.
#[derive(Clone, Debug)]
pub struct VpaConfig {
    /// Usage is read and recommendations are made this often.
    pub interval: Duration,
    /// What is known is written down this often.
    pub checkpoint_interval: Duration,
    /// Objects that name other recommenders only are left alone.
    pub name: String,
    pub aggregation: aggregate::AggregationConfig,
    pub estimate: estimate::EstimateConfig,
    /// No container is recommended more, where its policy says nothing.
    pub max_allowed: Option<BTreeMap<String, Quantity>>,
}

impl Default for VpaConfig {
    fn default() -> VpaConfig {
        VpaConfig {
            interval: Duration::from_secs(60),
            checkpoint_interval: Duration::from_secs(60),
            name: "default".into(),
            aggregation: aggregate::AggregationConfig::default(),
            estimate: estimate::EstimateConfig::default(),
            max_allowed: None,
        }
    }
}
