//! What is watched while the load runs: the replicas of every workload, sampled often and kept where they change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use gantry_load::report::{Kind, Lane, Series, Unit};
use gantry_workloads::health::{Workload, survey};
use kube::Client;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_millis(100);

/// One moment at which a workload's counts changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub at_ms: i64,
    pub desired: i32,
    pub ready: i32,
}

/// By `deployment/NAME` and namespace.
type Changes = BTreeMap<(String, String), Vec<Counts>>;

/// The changes of every workload since the observation began, oldest first.
#[derive(Clone, Default)]
pub(super) struct Observed {
    workloads: Arc<Mutex<Changes>>,
    latest: Arc<Mutex<Vec<Workload>>>,
}

impl Observed {
    /// Samples until `cancel`; a failed sample is left out.
    pub(super) async fn run(self, client: Client, clock: Arc<dyn Clock>, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            if let Ok(workloads) = survey(&client).await {
                self.record(clock.now_ms(), workloads);
            }
            let _ = cancel.run_until_cancelled(tokio::time::sleep(PERIOD)).await;
        }
    }

    fn record(&self, at_ms: i64, workloads: Vec<Workload>) {
        let mut kept = self.workloads.lock();
        for workload in &workloads {
            let counts = Counts { at_ms, desired: workload.desired, ready: workload.ready };
            let name = format!("{}/{}", workload.kind.to_lowercase(), workload.name);
            let changes = kept.entry((name, workload.namespace.clone())).or_default();
            let same = |last: &Counts| (last.desired, last.ready) == (counts.desired, counts.ready);
            if !changes.last().is_some_and(same) {
                changes.push(counts);
            }
        }
        *self.latest.lock() = workloads;
    }

    /// The ready counts of `kind/name` in the order they came, each once.
    pub(super) fn path(&self, target: &str) -> Vec<i64> {
        let mut path: Vec<i64> = Vec::new();
        for ((name, _), changes) in self.workloads.lock().iter() {
            if name.eq_ignore_ascii_case(target) {
                path.extend(changes.iter().map(|counts| i64::from(counts.ready)));
            }
        }
        path.dedup();
        path
    }

    /// The newest sample.
    pub(super) fn latest(&self) -> Vec<Workload> {
        self.latest.lock().clone()
    }

    /// A lane with the ready (solid) and wanted (dashed) replicas of everything that changed, or of all when nothing did.
    pub(super) fn lane(&self, until_ms: i64) -> Lane {
        let workloads = self.workloads.lock();
        let any_changed = workloads.values().any(|changes| changes.len() > 1);
        let mut series = Vec::new();
        for ((name, _), changes) in workloads.iter() {
            if any_changed && changes.len() < 2 {
                continue;
            }
            let points = |count: fn(&Counts) -> i32| {
                // Each count holds until the next: two points a change, also where lines are drawn straight.
                let mut points: Vec<(i64, Option<f64>)> = Vec::with_capacity(changes.len() * 2);
                for counts in changes {
                    if let Some(held) = points.last().map(|last: &(i64, Option<f64>)| last.1) {
                        points.push((counts.at_ms - 1, held));
                    }
                    points.push((counts.at_ms, Some(f64::from(count(counts)))));
                }
                if let Some(last) = points.last().copied() {
                    points.push((until_ms, last.1));
                }
                points
            };
            series.push(Series {
                name: format!("{name} ready"),
                kind: Kind::Step,
                points: points(|c| c.ready),
            });
            series.push(Series {
                name: format!("{name} wanted"),
                kind: Kind::Wanted,
                points: points(|c| c.desired),
            });
        }
        Lane { title: "Replicas".to_owned(), unit: Unit::Count, series, limits: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(ready: i32, desired: i32) -> Workload {
        Workload {
            kind: "Deployment",
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            desired,
            ready,
            healthy: ready >= desired,
            reason: String::new(),
        }
    }

    #[test]
    fn only_changes_are_kept_and_the_path_names_each_count_once() {
        let observed = Observed::default();
        for (at, ready, desired) in [(0, 1, 1), (1, 1, 1), (2, 1, 3), (3, 3, 3), (4, 1, 1)] {
            observed.record(at, vec![workload(ready, desired)]);
        }
        assert_eq!(observed.path("Deployment/web"), [1, 3, 1]);
        assert_eq!(observed.path("deployment/other"), Vec::<i64>::new());
        let lane = observed.lane(5);
        assert_eq!(lane.series[0].points.last(), Some(&(5, Some(1.0))));
    }
}
