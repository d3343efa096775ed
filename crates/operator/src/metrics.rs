//! What the framework counts: queue depth, reconciliations, errors, watch age.

use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;

use crate::controller::Engine;

pub(crate) struct OperatorMetrics {
    clock: Arc<dyn Clock>,
}

/// The instruments of one controller.
#[derive(Clone)]
pub(crate) struct ControllerMetrics {
    clock: Arc<dyn Clock>,
}

impl OperatorMetrics {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> OperatorMetrics {
        OperatorMetrics { clock }
    }

    pub(crate) fn controller(&self, _engine: &Arc<Engine>) -> ControllerMetrics {
        ControllerMetrics { clock: self.clock.clone() }
    }
}

impl ControllerMetrics {
    pub(crate) fn start(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn finish(&self, started: Duration, succeeded: bool) {
        let took = self.clock.monotonic().saturating_sub(started);
        tracing::trace!(?took, succeeded, "reconciled");
    }
}
