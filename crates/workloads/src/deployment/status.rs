//! The status of a Deployment: counts, availability, progress and its deadline.

use std::time::Duration;

use gantry_operator::{time_from_ms, time_to_ms};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use kube::ResourceExt;

use super::sets::{Sets, bounds, replicas};

pub(crate) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

fn count(value: Option<i32>) -> i32 {
    value.unwrap_or(0)
}

fn nonzero(value: i32) -> Option<i32> {
    Some(value).filter(|value| *value != 0)
}

/// The counts and the availability as they are now; other conditions are kept.
pub(crate) fn calculate(deployment: &Deployment, sets: &Sets, now_ms: i64) -> DeploymentStatus {
    let statuses = || sets.all.iter().filter_map(|set| set.status.as_ref());
    let sum = |part: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| {
        statuses().map(part).fold(0, i32::saturating_add)
    };
    let available = sum(|status| count(status.available_replicas));
    let updated = sets.new_set().and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    let old = deployment.status.clone().unwrap_or_default();
    let terminating = sum(|status| count(status.terminating_replicas));
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(|status| status.replicas)),
        updated_replicas: nonzero(updated),
        ready_replicas: nonzero(sum(|status| count(status.ready_replicas))),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero(sets.total_size().saturating_sub(available).max(0)),
        terminating_replicas: Some(terminating),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let enough = replicas(deployment).saturating_sub(bounds(deployment).max_unavailable);
    let availability = if available >= enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    let (value, reason, message) = availability;
    set_condition(&mut status, AVAILABLE, value, reason, message.to_owned(), now_ms);
    status
}

/// The status during and after a rollout.
pub(crate) fn rollout(deployment: &Deployment, sets: &Sets, now_ms: i64) -> DeploymentStatus {
    let mut status = calculate(deployment, sets, now_ms);
    let current = condition(deployment.status.as_ref(), PROGRESSING).cloned();
    if deadline(deployment).is_none() {
        remove_condition(&mut status, PROGRESSING);
    }
    let was_complete = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|condition| condition.reason.as_deref() == Some(NEW_SET_AVAILABLE));
    if deadline(deployment).is_some() && !was_complete {
        let subject = match sets.new_set() {
            Some(set) => format!("ReplicaSet \"{}\"", set.name_any()),
            None => format!("Deployment \"{}\"", deployment.name_any()),
        };
        if is_complete(deployment, &status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(&mut status, PROGRESSING, "True", NEW_SET_AVAILABLE, message, now_ms);
        } else if is_progressing(deployment, &status) {
            // Each step renews the deadline, so the condition is replaced even if it says the same.
            let since = current
                .filter(|condition| condition.status == "True")
                .and_then(|condition| condition.last_transition_time);
            remove_condition(&mut status, PROGRESSING);
            let message = format!("{subject} is progressing.");
            set_condition(&mut status, PROGRESSING, "True", "ReplicaSetUpdated", message, now_ms);
            if let (Some(since), Some(condition)) = (since, condition_mut(&mut status, PROGRESSING)) {
                condition.last_transition_time = Some(since);
            }
        } else if has_timed_out(deployment, &status, now_ms) {
            let message = format!("{subject} has timed out progressing.");
            set_condition(&mut status, PROGRESSING, "False", TIMED_OUT, message, now_ms);
        }
    }
    match replica_failure(sets) {
        Some((reason, message)) => {
            set_condition(&mut status, REPLICA_FAILURE, "True", &reason, message, now_ms)
        }
        None => remove_condition(&mut status, REPLICA_FAILURE),
    }
    status
}

/// All pods are of the newest template and available, and nothing else is left.
pub(crate) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    count(status.updated_replicas) == wanted
        && count(status.replicas) == wanted
        && count(status.available_replicas) == wanted
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn is_progressing(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let old = deployment.status.clone().unwrap_or_default();
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(&old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn has_timed_out(deployment: &Deployment, status: &DeploymentStatus, now_ms: i64) -> bool {
    let Some(condition) = condition(Some(status), PROGRESSING) else { return false };
    match condition.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => due_at_ms(deployment, condition).is_some_and(|due| due < now_ms),
    }
}

fn due_at_ms(deployment: &Deployment, condition: &DeploymentCondition) -> Option<i64> {
    let seconds = deadline(deployment)?;
    let from = condition.last_update_time.as_ref()?;
    Some(time_to_ms(from).saturating_add(i64::from(seconds) * 1000))
}

/// When to look again whether the deadline has passed without progress.
pub(crate) fn check_deadline_after(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now_ms: i64,
) -> Option<Duration> {
    let condition = condition(Some(status), PROGRESSING)?;
    let over = matches!(condition.reason.as_deref(), Some(NEW_SET_AVAILABLE | TIMED_OUT | PAUSED));
    if over || is_complete(deployment, status) {
        return None;
    }
    let left = due_at_ms(deployment, condition)?.saturating_sub(now_ms);
    // One second more, because timestamps have whole seconds.
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)) + Duration::from_secs(1))
}

/// The seconds within which there must be progress; the largest number means never.
fn deadline(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds.unwrap_or(600);
    Some(seconds).filter(|seconds| *seconds != i32::MAX)
}

/// Notes that the deadline does not run while the Deployment is paused.
pub(crate) fn note_pause(deployment: &mut Deployment, now_ms: i64) {
    if deadline(deployment).is_none() {
        return;
    }
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let reason =
        condition(deployment.status.as_ref(), PROGRESSING).and_then(|condition| condition.reason.clone());
    if reason.as_deref() == Some(TIMED_OUT) {
        return;
    }
    let was_paused = reason.as_deref() == Some(PAUSED);
    let status = deployment.status.get_or_insert_default();
    if paused && !was_paused {
        set_condition(status, PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned(), now_ms);
    } else if !paused && was_paused {
        let message = "Deployment is resumed".to_owned();
        set_condition(status, PROGRESSING, "Unknown", "DeploymentResumed", message, now_ms);
    }
}

/// Notes that the set of the present template was found or created.
pub(crate) fn note_new_set(deployment: &mut Deployment, name: &str, created: bool, now_ms: i64) {
    let known = condition(deployment.status.as_ref(), PROGRESSING).is_some();
    if deadline(deployment).is_none() || (known && !created) {
        return;
    }
    let (reason, verb) =
        if created { ("NewReplicaSetCreated", "Created") } else { ("FoundNewReplicaSet", "Found") };
    let message = format!("{verb} new replica set \"{name}\"");
    let status = deployment.status.get_or_insert_default();
    set_condition(status, PROGRESSING, "True", reason, message, now_ms);
}

/// Notes that the set of the present template could not be created.
pub(crate) fn note_create_error(status: &mut DeploymentStatus, message: String, now_ms: i64) {
    set_condition(status, PROGRESSING, "False", "ReplicaSetCreateError", message, now_ms);
}

fn replica_failure(sets: &Sets) -> Option<(String, String)> {
    let failure = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_deref()?;
        let condition = conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)?;
        Some((condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default()))
    };
    sets.new_set().and_then(failure).or_else(|| sets.all.iter().find_map(failure))
}

pub(crate) fn condition<'a>(
    status: Option<&'a DeploymentStatus>,
    kind: &str,
) -> Option<&'a DeploymentCondition> {
    status?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

fn condition_mut<'a>(status: &'a mut DeploymentStatus, kind: &str) -> Option<&'a mut DeploymentCondition> {
    status.conditions.as_deref_mut()?.iter_mut().find(|condition| condition.type_ == kind)
}

fn remove_condition(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// Sets a condition; one that already says the same is left alone.
fn set_condition(
    status: &mut DeploymentStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now_ms: i64,
) {
    let now = time_from_ms(now_ms);
    let mut since = now.clone();
    if let Some(known) = condition(Some(status), kind) {
        if known.status == value && known.reason.as_deref() == Some(reason) {
            return;
        }
        if known.status == value {
            since = known.last_transition_time.clone().unwrap_or(since);
        }
    }
    remove_condition(status, kind);
    status.conditions.get_or_insert_default().push(DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now),
        last_transition_time: Some(since),
    });
}
