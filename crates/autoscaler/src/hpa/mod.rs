//! The HorizontalPodAutoscaler controller: reads a scale, computes metrics, decides, writes the scale and the status.

pub mod behavior;
pub mod calculator;
mod conditions;
mod controller;
pub mod decide;
mod evaluate;
pub(crate) mod target;

use std::time::Duration;

pub use conditions::Conditions;
pub use controller::Autoscaler;
pub use evaluate::{QUERY_ANNOTATION, Scene, pod_facts, readings, requests};

/// The controller's settings; the defaults are upstream's.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every autoscaler is computed this often, and sooner when its object or its metrics change.
    pub sync_period: Duration,
    pub tolerance: f64,
    pub downscale_stabilization: Duration,
    pub cpu_initialization_period: Duration,
    pub initial_readiness_delay: Duration,
    /// Also compute when new readings or samples have come in, but not more often than this.
    pub on_push: Option<Duration>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            sync_period: Duration::from_secs(15),
            tolerance: 0.1,
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
            on_push: None,
        }
    }
}
