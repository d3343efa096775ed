//! VerticalPodAutoscalers in `up`: recommendations from the same usage that the other autoscaler reads.

use std::sync::Arc;
use std::time::Duration;

use gantry_autoscaler::ResourceMetrics;
use gantry_autoscaler::vpa::{Recommender, VpaConfig};
use gantry_operator::Operator;

/// Upstream recommends once a minute; here someone watches.
const INTERVAL: Duration = Duration::from_secs(5);

/// Must be made before the operator runs, and when the kinds are installed.
pub(super) fn recommender(operator: &Operator, usage: Arc<dyn ResourceMetrics>) -> Recommender {
    Recommender::new(VpaConfig { interval: INTERVAL, ..VpaConfig::default() }, operator, usage)
}
