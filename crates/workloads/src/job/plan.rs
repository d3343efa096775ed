//! What a Job needs now, given its pods.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{time_from_ms, time_to_ms};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

pub(crate) const INDEX_ANNOTATION: &str = "batch.kubernetes.io/job-completion-index";
/// Pause after the first failed pod; doubled with each further one up to the longest.
const FIRST_BACKOFF_MS: i64 = 10_000;
const LONGEST_BACKOFF_MS: i64 = 600_000;

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Pods to create, each with its completion index if the Job has indexes.
    pub(crate) create: Vec<Option<i32>>,
    pub(crate) delete: Vec<Arc<Pod>>,
    pub(crate) status: JobStatus,
    /// The Job is over for long enough to be removed.
    pub(crate) remove: bool,
    pub(crate) look_again: Option<Duration>,
}

struct Counts {
    active: Vec<Arc<Pod>>,
    ready: i32,
    terminating: i32,
    succeeded: i32,
    failed: i32,
    completed_indexes: BTreeSet<i32>,
    last_failure_ms: Option<i64>,
    restarts: i32,
}

pub(crate) fn plan(job: &Job, own: &[Arc<Pod>], now_ms: i64) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let mut status = job.status.clone().unwrap_or_default();
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let counts = count(own, &status, indexed);
    if let Some(ended) = ended_at_ms(&status) {
        return after_the_end(&spec, status, counts, ended, now_ms);
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Plan { status, ..Plan::default() };
    }
    let mut plan = Plan::default();
    let suspended = spec.suspend.unwrap_or(false);
    note_suspension(&mut status, suspended, now_ms);
    if !suspended && status.start_time.is_none() {
        status.start_time = Some(time_from_ms(now_ms));
    }
    let wanted = spec.completions;
    let enough = match wanted {
        Some(completions) => counts.succeeded >= completions,
        None => counts.succeeded > 0 && counts.active.is_empty(),
    };
    let failure = why_failed(&spec, &status, &counts, now_ms);
    if enough {
        let message = "Reached expected number of succeeded pods";
        add_condition(&mut status, "SuccessCriteriaMet", "CompletionsReached", message, now_ms);
        add_condition(&mut status, "Complete", "CompletionsReached", message, now_ms);
        status.completion_time = Some(time_from_ms(now_ms));
        plan.delete = counts.active.clone();
    } else if let Some((reason, message)) = failure {
        add_condition(&mut status, "FailureTarget", reason, message, now_ms);
        add_condition(&mut status, "Failed", reason, message, now_ms);
        plan.delete = counts.active.clone();
    } else if suspended {
        plan.delete = counts.active.clone();
    } else {
        bring_to_size(&spec, &counts, indexed, now_ms, &mut plan);
        let deadline = deadline_ms(&spec, &status).map(|deadline| after(deadline - now_ms));
        plan.look_again = [plan.look_again, deadline].into_iter().flatten().min();
    }
    let left = counts.active.len().saturating_sub(plan.delete.len()).saturating_add(plan.create.len());
    status.active = nonzero(i32::try_from(left).unwrap_or(i32::MAX));
    status.ready = Some(counts.ready);
    status.terminating = Some(counts.terminating);
    status.succeeded = nonzero(counts.succeeded);
    status.failed = nonzero(counts.failed);
    if indexed {
        status.completed_indexes = Some(ranges(&counts.completed_indexes));
    }
    plan.status = status;
    plan
}

fn count(own: &[Arc<Pod>], status: &JobStatus, indexed: bool) -> Counts {
    let number = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(own.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let finished = |pod: &&Arc<Pod>| pods::phase(pod) == "Succeeded";
    let mut completed_indexes: BTreeSet<i32> =
        own.iter().filter(finished).filter_map(|pod| index_of(pod)).collect();
    completed_indexes.extend(status.completed_indexes.as_deref().map(parse_ranges).unwrap_or_default());
    // Pods may be removed after they ended; what was counted stays counted.
    let succeeded = if indexed {
        i32::try_from(completed_indexes.len()).unwrap_or(i32::MAX)
    } else {
        number(&|pod| pods::phase(pod) == "Succeeded").max(status.succeeded.unwrap_or(0))
    };
    let failed_pods = own.iter().filter(|pod| pods::phase(pod) == "Failed");
    let restarts = own.iter().filter(|pod| pods::is_active(pod)).flat_map(|pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone());
        statuses.unwrap_or_default().into_iter().map(|container| container.restart_count)
    });
    Counts {
        active: own.iter().filter(|pod| pods::is_active(pod)).cloned().collect(),
        ready: number(&|pod| pods::is_active(pod) && pods::is_ready(pod)),
        terminating: number(&|pod| pods::is_terminating(pod) && !pods::is_over(pod)),
        succeeded,
        failed: number(&|pod| pods::phase(pod) == "Failed").max(status.failed.unwrap_or(0)),
        completed_indexes,
        last_failure_ms: failed_pods.filter_map(|pod| ended_ms(pod)).max(),
        restarts: restarts.fold(0, i32::saturating_add),
    }
}

/// When the last container of a pod ended, or when the pod began if that is not known.
fn ended_ms(pod: &Pod) -> Option<i64> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let ends = containers.iter().filter_map(|container| {
        Some(time_to_ms(container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?))
    });
    let since = pod.metadata.creation_timestamp.as_ref().map(time_to_ms);
    ends.max().or(since)
}

fn why_failed(
    spec: &JobSpec,
    status: &JobStatus,
    counts: &Counts,
    now_ms: i64,
) -> Option<(&'static str, &'static str)> {
    let limit = spec.backoff_limit.unwrap_or(6);
    let restarts_in_place =
        spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()) == Some("OnFailure");
    if counts.failed > limit || (restarts_in_place && counts.restarts > limit) {
        return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    let late = deadline_ms(spec, status).is_some_and(|deadline| deadline <= now_ms);
    late.then_some(("DeadlineExceeded", "Job was active longer than specified deadline"))
}

fn deadline_ms(spec: &JobSpec, status: &JobStatus) -> Option<i64> {
    let started = time_to_ms(status.start_time.as_ref()?);
    Some(started.saturating_add(spec.active_deadline_seconds?.saturating_mul(1000)))
}

fn bring_to_size(spec: &JobSpec, counts: &Counts, indexed: bool, now_ms: i64, plan: &mut Plan) {
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let active = i32::try_from(counts.active.len()).unwrap_or(i32::MAX);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions.saturating_sub(counts.succeeded)),
        // A work queue: once one pod has succeeded, the others run out and no new ones are made.
        None if counts.succeeded > 0 => active.min(parallelism),
        None => parallelism,
    };
    if active > wanted {
        let excess = usize::try_from(active - wanted).unwrap_or(0);
        let mut doomed = counts.active.clone();
        doomed.sort_by_key(|pod| {
            (pods::is_ready(pod), pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        });
        plan.delete = doomed.into_iter().take(excess).collect();
        return;
    }
    let missing = usize::try_from(wanted - active).unwrap_or(0);
    if missing == 0 {
        return;
    }
    if let Some(wait) = backoff_ms(counts, now_ms) {
        plan.look_again = Some(after(wait));
        return;
    }
    if !indexed {
        plan.create = vec![None; missing];
        return;
    }
    let running: BTreeSet<i32> = counts.active.iter().filter_map(|pod| index_of(pod)).collect();
    let free = (0..spec.completions.unwrap_or(0))
        .filter(|index| !running.contains(index) && !counts.completed_indexes.contains(index));
    plan.create = free.take(missing).map(Some).collect();
}

/// How long to wait yet before a failed pod is replaced.
fn backoff_ms(counts: &Counts, now_ms: i64) -> Option<i64> {
    let since = counts.last_failure_ms?;
    let doublings = u32::try_from(counts.failed.saturating_sub(1)).unwrap_or(0).min(16);
    let pause = FIRST_BACKOFF_MS.saturating_mul(1 << doublings).min(LONGEST_BACKOFF_MS);
    Some(since.saturating_add(pause).saturating_sub(now_ms)).filter(|wait| *wait > 0)
}

fn after_the_end(spec: &JobSpec, mut status: JobStatus, counts: Counts, ended_ms: i64, now_ms: i64) -> Plan {
    let due = spec.ttl_seconds_after_finished.map(|ttl| ended_ms.saturating_add(i64::from(ttl) * 1000));
    status.active = None;
    status.ready = Some(0);
    status.terminating = Some(counts.terminating);
    Plan {
        delete: counts.active,
        status,
        remove: due.is_some_and(|due| due <= now_ms),
        look_again: due.map(|due| after(due - now_ms)),
        create: Vec::new(),
    }
}

fn ended_at_ms(status: &JobStatus) -> Option<i64> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ended = conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })?;
    Some(ended.last_transition_time.as_ref().map_or(0, time_to_ms))
}

fn note_suspension(status: &mut JobStatus, suspended: bool, now_ms: i64) {
    let known = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Suspended" && condition.status == "True");
    if suspended == known {
        return;
    }
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != "Suspended");
    }
    if suspended {
        add_condition(status, "Suspended", "JobSuspended", "Job suspended", now_ms);
        status.start_time = None;
    } else {
        add_condition(status, "Suspended", "JobResumed", "Job resumed", now_ms);
        if let Some(condition) = status.conditions.iter_mut().flatten().last() {
            condition.status = "False".to_owned();
        }
    }
}

fn add_condition(status: &mut JobStatus, kind: &str, reason: &str, message: &str, now_ms: i64) {
    let now = time_from_ms(now_ms);
    status.conditions.get_or_insert_default().push(JobCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now),
    });
}

fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX_ANNOTATION)?.parse().ok()
}

fn nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

fn after(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Indexes as the status shows them: `0-2,4`.
fn ranges(indexes: &BTreeSet<i32>) -> String {
    let mut parts: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match parts.last_mut() {
            Some((_, last)) if last.saturating_add(1) == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let text = |(first, last): &(i32, i32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

fn parse_ranges(text: &str) -> BTreeSet<i32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?);
        // A status is only as long as the pods that were; this bounds a forged one.
        Some(first..=last.min(first.saturating_add(100_000)))
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn job(spec: Value, status: &JobStatus) -> Job {
        let mut job: Job =
            serde_json::from_value(json!({ "metadata": { "name": "work" }, "spec": spec })).expect("a job");
        job.status = Some(status.clone());
        job
    }

    fn spec(more: Value) -> Value {
        let mut spec = json!({ "template": { "spec": { "containers": [], "restartPolicy": "Never" } }, "completions": 1 });
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        spec
    }

    fn pod(name: &str, phase: &str, index: Option<i32>, age_ms: i64) -> Arc<Pod> {
        let annotations = index.map(|index| json!({ INDEX_ANNOTATION: index.to_string() }));
        let created = json!(time_from_ms(NOW_MS - age_ms));
        let pod = json!({
            "metadata": { "name": name, "annotations": annotations, "creationTimestamp": created },
            "status": { "phase": phase },
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn reasons(status: &JobStatus) -> Vec<String> {
        let conditions = status.conditions.clone().unwrap_or_default();
        conditions
            .into_iter()
            .map(|condition| format!("{} {}", condition.type_, condition.reason.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn pods_are_made_up_to_parallelism_and_what_is_left() {
        let fresh = JobStatus::default();
        let wide = spec(json!({ "completions": 5, "parallelism": 3 }));
        assert_eq!(plan(&job(wide.clone(), &fresh), &[], NOW_MS).create.len(), 3);
        let own = [
            pod("a", "Succeeded", None, 0),
            pod("b", "Succeeded", None, 0),
            pod("c", "Succeeded", None, 0),
            pod("d", "Running", None, 0),
        ];
        let later = plan(&job(wide, &fresh), &own, NOW_MS);
        assert_eq!((later.create.len(), later.status.active, later.status.succeeded), (1, Some(2), Some(3)));
    }

    #[test]
    fn a_job_completes_and_is_removed_after_its_ttl() {
        let spec = spec(json!({ "ttlSecondsAfterFinished": 60 }));
        let own = [pod("a", "Succeeded", None, 0)];
        let done = plan(&job(spec.clone(), &JobStatus::default()), &own, NOW_MS);
        assert_eq!(
            reasons(&done.status),
            ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]
        );
        assert!(done.status.completion_time.is_some() && done.create.is_empty());
        let waiting = plan(&job(spec.clone(), &done.status), &own, NOW_MS + 1000);
        assert_eq!((waiting.remove, waiting.look_again), (false, Some(Duration::from_secs(59))));
        assert!(plan(&job(spec, &done.status), &own, NOW_MS + 60_000).remove);
    }

    #[test]
    fn failures_are_replaced_after_a_growing_pause_until_the_limit() {
        let fresh = JobStatus::default();
        let limited = spec(json!({ "backoffLimit": 1 }));
        let one = [pod("a", "Failed", None, 4000)];
        let pausing = plan(&job(limited.clone(), &fresh), &one, NOW_MS);
        assert_eq!((pausing.create.len(), pausing.look_again), (0, Some(Duration::from_secs(6))));
        assert_eq!(plan(&job(limited.clone(), &fresh), &one, NOW_MS + 6000).create.len(), 1);
        let two = [pod("a", "Failed", None, 4000), pod("b", "Failed", None, 0)];
        let failed = plan(&job(limited, &fresh), &two, NOW_MS);
        assert_eq!(reasons(&failed.status).last().map(String::as_str), Some("Failed BackoffLimitExceeded"));
    }

    #[test]
    fn deadlines_end_what_runs() {
        let spec = spec(json!({ "activeDeadlineSeconds": 30 }));
        let own = [pod("a", "Running", None, 0)];
        let running = plan(&job(spec.clone(), &JobStatus::default()), &own, NOW_MS);
        assert_eq!(running.look_again, Some(Duration::from_secs(30)));
        let late = plan(&job(spec, &running.status), &own, NOW_MS + 30_000);
        assert_eq!((late.delete.len(), late.status.active), (1, None));
        assert_eq!(reasons(&late.status).last().map(String::as_str), Some("Failed DeadlineExceeded"));
    }

    #[test]
    fn indexes_are_filled_from_the_lowest_and_told_as_ranges() {
        let spec = spec(json!({ "completions": 6, "parallelism": 2, "completionMode": "Indexed" }));
        let own = [0, 1, 2, 4].map(|index| pod("x", "Succeeded", Some(index), 0));
        let plan = plan(&job(spec, &JobStatus::default()), &own, NOW_MS);
        assert_eq!(plan.create, [Some(3), Some(5)]);
        assert_eq!(plan.status.completed_indexes.as_deref(), Some("0-2,4"));
        assert_eq!(parse_ranges("0-2,4,x,9-"), BTreeSet::from([0, 1, 2, 4]));
    }

    #[test]
    fn a_suspended_job_has_no_pods_and_begins_anew() {
        let own = [pod("a", "Running", None, 0)];
        let suspended = plan(&job(spec(json!({ "suspend": true })), &JobStatus::default()), &own, NOW_MS);
        assert_eq!((suspended.delete.len(), suspended.status.start_time.clone()), (1, None));
        assert_eq!(reasons(&suspended.status), ["Suspended JobSuspended"]);
        let resumed = plan(&job(spec(json!({})), &suspended.status), &[], NOW_MS);
        assert_eq!(
            (reasons(&resumed.status), resumed.create.len()),
            (vec!["Suspended JobResumed".to_owned()], 1)
        );
    }
}
