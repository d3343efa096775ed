//! What a Deployment needs now, given its ReplicaSets and their pods.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::sets::{self, Sets, Step};
use super::{rolling, scaling, status};
use crate::pods;

#[derive(Debug)]
pub(crate) struct Plan {
    /// Writes to ReplicaSets, in this order.
    pub(crate) steps: Vec<Step>,
    /// The revision the Deployment should carry as annotation.
    pub(crate) revision: Option<i64>,
    pub(crate) status: DeploymentStatus,
    /// When to look again even if nothing changes.
    pub(crate) look_again: Option<Duration>,
}

/// Decides. `sets` are those the Deployment controls, `set_pods` their pods.
pub(crate) fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    set_pods: &[Arc<Pod>],
    now_ms: i64,
) -> Plan {
    let mut deployment = deployment.clone();
    let mut sets = Sets::of(&deployment, sets);
    if deployment.metadata.deletion_timestamp.is_some() {
        let status = status::calculate(&deployment, &sets, now_ms);
        return Plan { steps: Vec::new(), revision: None, status, look_again: None };
    }
    status::note_pause(&mut deployment, now_ms);
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let mut revision = sets.refresh_new(&deployment);
    if let Some(name) = sets.new_set().map(ReplicaSet::name_any) {
        status::note_new_set(&mut deployment, &name, false, now_ms);
    }
    if paused || scaling::is_scaling(&deployment, &sets) {
        scaling::scale(&deployment, &mut sets);
        if paused {
            sets.clean_up(&deployment);
        }
        let status = status::calculate(&deployment, &sets, now_ms);
        let look_again = status::check_deadline_after(&deployment, &status, now_ms).filter(|_| !paused);
        return Plan { steps: sets.steps, revision, status, look_again };
    }
    if sets::is_rolling(&deployment) {
        revision = ensure_new(&mut deployment, &mut sets, revision, now_ms);
        let grown = rolling::scale_new(&deployment, &mut sets);
        let changed = grown || rolling::scale_old(&deployment, &mut sets);
        if !changed {
            clean_up_when_complete(&deployment, &mut sets);
        }
    } else {
        revision = recreate(&mut deployment, &mut sets, set_pods, revision, now_ms);
    }
    let status = status::rollout(&deployment, &sets, now_ms);
    let look_again = status::check_deadline_after(&deployment, &status, now_ms);
    Plan { steps: sets.steps, revision, status, look_again }
}

fn ensure_new(
    deployment: &mut Deployment,
    sets: &mut Sets,
    revision: Option<i64>,
    now_ms: i64,
) -> Option<i64> {
    if sets.new.is_some() {
        return revision;
    }
    let revision = sets.create_new(deployment);
    let name = sets.new_set().map(ReplicaSet::name_any).unwrap_or_default();
    status::note_new_set(deployment, &name, true, now_ms);
    Some(revision)
}

/// All old pods end before the first new one begins.
fn recreate(
    deployment: &mut Deployment,
    sets: &mut Sets,
    set_pods: &[Arc<Pod>],
    revision: Option<i64>,
    now_ms: i64,
) -> Option<i64> {
    let active_old = sets.active_old();
    if !active_old.is_empty() {
        for index in active_old {
            sets.scale(index, 0, deployment);
        }
        return revision;
    }
    let new_uid = sets.new_set().and_then(|set| set.metadata.uid.clone());
    let old_runs = set_pods.iter().any(|pod| {
        let owner = gantry_operator::controller_of(&**pod).map(|owner| owner.uid.clone());
        owner != new_uid && !pods::is_over(pod)
    });
    if old_runs {
        return revision;
    }
    let revision = ensure_new(deployment, sets, revision, now_ms);
    rolling::scale_new(deployment, sets);
    clean_up_when_complete(deployment, sets);
    revision
}

fn clean_up_when_complete(deployment: &Deployment, sets: &mut Sets) {
    let complete = deployment.status.as_ref().is_some_and(|status| status::is_complete(deployment, status));
    if complete {
        sets.clean_up(deployment);
    }
}
