//! Probes: when they run, how many results decide, and what a decision is.
//!
//! Startup is unknown, readiness false and liveness true until the first decision, as in the kubelet. Liveness and
//! readiness begin when the container has started.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::action::{Action, Target};
use crate::cluster::{Cluster, Severity};
use crate::runtime::PodRef;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        }
    }
}

/// Consecutive results against the two thresholds.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
}

impl Verdict {
    pub(crate) fn new(success_threshold: u32, failure_threshold: u32) -> Verdict {
        let at_least_one = |n: u32| n.max(1);
        Verdict {
            success_threshold: at_least_one(success_threshold),
            failure_threshold: at_least_one(failure_threshold),
            last: None,
            run: 0,
        }
    }

    /// The decision, once enough equal results have come in a row; repeated for every further one.
    pub(crate) fn observe(&mut self, success: bool) -> Option<bool> {
        if self.last == Some(success) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        (self.run >= threshold).then_some(success)
    }
}

/// A probe's decision changed (or is repeated), for the worker of its pod.
#[derive(Clone, Debug)]
pub(crate) struct ProbeDecision {
    pub(crate) container: String,
    pub(crate) attempt: u32,
    pub(crate) kind: ProbeKind,
    pub(crate) success: bool,
}

/// Everything one probe's task needs.
pub(crate) struct ProbeTask {
    pub(crate) kind: ProbeKind,
    pub(crate) probe: Probe,
    pub(crate) container: Container,
    pub(crate) pod: PodRef,
    pub(crate) target: Target,
    /// True once the container counts as started.
    pub(crate) started: watch::Receiver<bool>,
    /// Between the probe's own times, until its first success.
    pub(crate) eager: Option<Duration>,
    pub(crate) cluster: Arc<dyn Cluster>,
}

impl ProbeTask {
    /// Runs until `life` ends; sends each change of the decision.
    pub(crate) async fn run(self, decisions: mpsc::Sender<ProbeDecision>, life: CancellationToken) {
        tokio::select! {
            _ = life.cancelled() => {}
            _ = self.probe_forever(decisions) => {}
        }
    }

    async fn probe_forever(mut self, decisions: mpsc::Sender<ProbeDecision>) {
        let begun = Instant::now();
        if self.kind != ProbeKind::Startup && self.started.wait_for(|started| *started).await.is_err() {
            return;
        }
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default),
            )
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        let period = seconds(self.probe.period_seconds, 10);
        let timeout = seconds(self.probe.timeout_seconds, 1);
        let initial_delay = seconds(self.probe.initial_delay_seconds, 0);
        let mut verdict =
            Verdict::new(count(self.probe.success_threshold, 1), count(self.probe.failure_threshold, 3));
        let action = Action::of_probe(&self.probe, &self.container, self.target.address);
        let mut decided = None;
        let mut succeeded = false;

        tokio::time::sleep_until(begun + initial_delay).await;
        let mut next_regular = Instant::now();
        loop {
            let regular = Instant::now() >= next_regular;
            let result = action.run(&self.target, timeout).await;
            let success = result.is_ok();
            succeeded |= success;
            if success || regular {
                if let Err(message) = result {
                    self.report(&message);
                }
                let decision = verdict.observe(success);
                let changed = decision.is_some() && decision != decided;
                if let Some(success) = decision.filter(|_| changed) {
                    decided = Some(success);
                    let decision = ProbeDecision {
                        container: self.container.name.clone(),
                        attempt: self.target.key.attempt,
                        kind: self.kind,
                        success,
                    };
                    if decisions.send(decision).await.is_err() || (self.kind == ProbeKind::Startup && success)
                    {
                        return;
                    }
                }
            }
            if regular {
                next_regular += period;
            }
            let eager = self.eager.filter(|_| !succeeded && self.kind != ProbeKind::Liveness);
            let next = match eager {
                Some(eager) => next_regular.min(Instant::now() + eager),
                None => next_regular,
            };
            tokio::time::sleep_until(next).await;
        }
    }

    fn report(&self, message: &str) {
        let text = format!("{} probe failed: {message}", self.kind.title());
        self.cluster.event(&self.pod, Some(&self.container.name), Severity::Warning, "Unhealthy", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_consecutive_results() {
        let mut verdict = Verdict::new(2, 3);
        let seen: Vec<_> = [true, false, true, true, true, false, false, true, false, false, false, false]
            .into_iter()
            .map(|r| verdict.observe(r))
            .collect();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(seen, [None, None, None, yes, yes, None, None, None, None, None, no, no]);
    }
}
