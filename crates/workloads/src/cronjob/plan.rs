//! What a CronJob needs now, given its Jobs and the time.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{EventType, time_from_ms, time_to_ms};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;

use super::schedule::Schedule;

/// More missed times than this are more likely a wrong clock than a long pause.
const MANY_MISSED: usize = 100;
const SUCCESSES_KEPT: i32 = 3;
const FAILURES_KEPT: i32 = 1;

pub(crate) struct Said {
    pub(crate) kind: EventType,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A Job that is to be created, and for which scheduled time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) at: Timestamp,
    pub(crate) name: String,
}

#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) create: Option<Run>,
    pub(crate) delete: Vec<Arc<Job>>,
    pub(crate) status: CronJobStatus,
    pub(crate) events: Vec<Said>,
    pub(crate) look_again: Option<Duration>,
    pub(crate) zone: Option<TimeZone>,
}

impl Plan {
    fn say(&mut self, kind: EventType, reason: &'static str, message: String) {
        self.events.push(Said { kind, reason, message });
    }
}

/// The name of a scheduled time's Job, which is the same whoever computes it: upstream's, by the minute, unless a minute
/// has several.
fn job_name(cron_job: &str, schedule: &Schedule, at: Timestamp) -> String {
    let unit = match schedule {
        Schedule::Every(period) if *period < SignedDuration::from_mins(1) => 1,
        _ => 60,
    };
    format!("{cron_job}-{}", at.as_second().div_euclid(unit))
}

pub(crate) fn plan(cron_job: &CronJob, own: &[Arc<Job>], now_ms: i64) -> Plan {
    let mut plan = Plan { status: cron_job.status.clone().unwrap_or_default(), ..Plan::default() };
    let spec = &cron_job.spec;
    let Ok(now) = Timestamp::from_millisecond(now_ms) else { return plan };
    follow_jobs(&mut plan, own);
    if cron_job.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let kept = spec.successful_jobs_history_limit.unwrap_or(SUCCESSES_KEPT);
    forget_old(&mut plan, own, "Complete", kept);
    forget_old(&mut plan, own, "Failed", spec.failed_jobs_history_limit.unwrap_or(FAILURES_KEPT));

    let zone = match spec.time_zone.as_deref().map(TimeZone::get) {
        None => TimeZone::UTC,
        Some(Ok(zone)) => zone,
        Some(Err(error)) => {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            plan.say(EventType::Warning, "UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
            return plan;
        }
    };
    if spec.suspend == Some(true) {
        return plan;
    }
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            plan.say(EventType::Warning, "UnparseableSchedule", message);
            return plan;
        }
    };
    plan.zone = Some(zone.clone());
    let last = plan.status.last_schedule_time.as_ref().or(cron_job.metadata.creation_timestamp.as_ref());
    let mut earliest = last.map_or(now, |time| time.0);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if let Some(limit) = deadline.and_then(|deadline| now.checked_sub(deadline).ok()) {
        earliest = earliest.max(limit);
    }
    let due = schedule.most_recent(earliest, now, &zone);
    let base = match &schedule {
        // Periods count from the last run.
        Schedule::Every(_) => due.unwrap_or(earliest),
        Schedule::Fields { .. } => now,
    };
    plan.look_again = schedule.next(base, &zone).map(|next| {
        Duration::try_from(next.duration_since(now)).unwrap_or_default() + Duration::from_millis(5)
    });
    let Some(due) = due else { return plan };
    let mut missed = 0;
    let mut at = earliest;
    while let Some(next) = schedule.next(at, &zone).filter(|next| *next <= now && missed <= MANY_MISSED) {
        missed += 1;
        at = next;
    }
    if missed > MANY_MISSED {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.say(EventType::Warning, "TooManyMissedTimes", message.to_owned());
    }
    let name = job_name(&cron_job.name_any(), &schedule, due);
    if own.iter().any(|job| job.name_any() == name) {
        plan.status.last_schedule_time = Some(time_from_ms(due.as_millisecond()));
        return plan;
    }
    start(&mut plan, spec.concurrency_policy.as_deref(), own, Run { at: due, name });
    plan
}

fn start(plan: &mut Plan, policy: Option<&str>, own: &[Arc<Job>], run: Run) {
    let active = plan.status.active.clone().unwrap_or_default();
    match policy {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.say(EventType::Normal, "JobAlreadyActive", message.to_owned());
        }
        Some("Replace") => {
            let replaced = own.iter().filter(|job| active.iter().any(|one| one.uid == job.metadata.uid));
            plan.delete.extend(replaced.cloned());
            plan.status.active = None;
            plan.create = Some(run);
        }
        _ => plan.create = Some(run),
    }
}

/// Takes in which Jobs have ended, gone missing or come from elsewhere.
fn follow_jobs(plan: &mut Plan, own: &[Arc<Job>]) {
    let mut active = plan.status.active.take().unwrap_or_default();
    for job in own {
        let known = active.iter().any(|one| one.uid == job.metadata.uid);
        let name = job.name_any();
        match finished(job) {
            Some(condition) if known => {
                active.retain(|one| one.uid != job.metadata.uid);
                let message = format!("Saw completed job: {name}, condition: {condition}");
                plan.say(EventType::Normal, "SawCompletedJob", message);
            }
            None if !known => {
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.say(EventType::Warning, "UnexpectedJob", message);
            }
            _ => {}
        }
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
        if finished(job) == Some("Complete")
            && let Some(completed) = completed
            && plan.status.last_successful_time.as_ref().is_none_or(|last| last.0 < completed.0)
        {
            plan.status.last_successful_time = Some(completed);
        }
    }
    let (there, missing): (Vec<_>, Vec<_>) =
        active.into_iter().partition(|one| own.iter().any(|job| job.metadata.uid == one.uid));
    for one in missing {
        let name = one.name.unwrap_or_default();
        plan.say(EventType::Normal, "MissingJob", format!("Active job went missing: {name}"));
    }
    plan.status.active = (!there.is_empty()).then_some(there);
}

/// Jobs of an outcome beyond those kept, oldest first.
fn forget_old(plan: &mut Plan, own: &[Arc<Job>], outcome: &str, kept: i32) {
    let mut ended: Vec<_> = own.iter().filter(|job| finished(job) == Some(outcome)).cloned().collect();
    let started = |job: &Job| {
        let status = job.status.as_ref().and_then(|status| status.start_time.as_ref());
        status.or(job.metadata.creation_timestamp.as_ref()).map(time_to_ms)
    };
    ended.sort_by_key(|job| (started(job), job.name_any()));
    let kept = usize::try_from(kept).unwrap_or(0);
    let surplus = ended.len().saturating_sub(kept);
    plan.delete.extend(ended.into_iter().take(surplus));
}

/// `Complete` or `Failed`, once it is.
fn finished(job: &Job) -> Option<&'static str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let holds = |kind: &str| conditions.iter().any(|one| one.type_ == kind && one.status == "True");
    ["Complete", "Failed"].into_iter().find(|kind| holds(kind))
}

/// How the status names an active Job.
pub(crate) fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-11-28T10:00:30Z";

    fn cron_job(spec: Value, status: Value) -> CronJob {
        let mut all = json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {}}}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "metadata": {"name": "tick", "namespace": "d", "creationTimestamp": "2026-11-28T09:59:30Z"},
            "spec": all, "status": status,
        }))
        .unwrap()
    }

    fn job(name: &str, outcome: Option<&str>) -> Arc<Job> {
        let conditions = outcome.map(|kind| json!([{"type": kind, "status": "True"}]));
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "d", "uid": name, "creationTimestamp": "2026-11-28T09:00:00Z"},
                "status": {"conditions": conditions, "startTime": "2026-11-28T09:00:00Z", "completionTime": "2026-11-28T09:30:00Z"},
            }))
            .unwrap(),
        )
    }

    fn run(cron_job: &CronJob, own: &[Arc<Job>]) -> Plan {
        plan(cron_job, own, NOW.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn reasons(plan: &Plan) -> Vec<&str> {
        plan.events.iter().map(|event| event.reason).collect()
    }

    #[test]
    fn a_due_time_is_started_once_and_the_next_is_awaited() {
        let cron_job = cron_job(json!({}), json!({}));
        let first = run(&cron_job, &[]);
        let due: Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
        let name = "tick-29931000".to_owned();
        assert_eq!(first.create, Some(Run { at: due, name: name.clone() }));
        assert_eq!(first.look_again.unwrap().as_secs(), 30);
        let again = run(&cron_job, &[job(&name, None)]);
        assert_eq!(again.create, None);
        assert_eq!(again.status.last_schedule_time.unwrap().0, due);
        let later = self::cron_job(json!({}), json!({"lastScheduleTime": "2026-11-28T10:00:00Z"}));
        assert_eq!(run(&later, &[]).create, None);
    }

    #[test]
    fn each_of_several_runs_in_a_minute_has_a_name() {
        let name = |period: &str| {
            run(&cron_job(json!({"schedule": period}), json!({})), &[]).create.map(|run| run.name)
        };
        assert_eq!(name("@every 7s").as_deref(), Some("tick-1795860026"));
        assert_eq!(name("@every 60s").as_deref(), Some("tick-29931000"));
    }

    #[test]
    fn suspension_mistakes_and_lateness_start_nothing() {
        let none = |spec: Value| {
            let plan = run(&cron_job(spec, json!({})), &[]);
            assert_eq!(plan.create, None);
            reasons(&plan).join(",")
        };
        assert_eq!(none(json!({"suspend": true})), "");
        assert_eq!(none(json!({"schedule": "x"})), "UnparseableSchedule");
        assert_eq!(none(json!({"timeZone": "Moon/Base"})), "UnknownTimeZone");
        assert_eq!(none(json!({"startingDeadlineSeconds": 10})), "");
        let many = cron_job(json!({}), json!({"lastScheduleTime": "2026-11-27T10:00:00Z"}));
        let plan = run(&many, &[]);
        assert_eq!(reasons(&plan), ["TooManyMissedTimes"]);
        assert!(plan.create.is_some());
    }

    #[test]
    fn what_still_runs_decides_by_policy() {
        let active = json!({"active": [{"name": "old", "uid": "old"}]});
        let own = [job("old", None)];
        let with = |policy: &str| run(&cron_job(json!({"concurrencyPolicy": policy}), active.clone()), &own);
        assert!(with("Allow").create.is_some() && with("Allow").delete.is_empty());
        let forbid = with("Forbid");
        assert_eq!((&forbid.create, reasons(&forbid)), (&None, vec!["JobAlreadyActive"]));
        let replace = with("Replace");
        assert!(replace.create.is_some() && replace.delete.len() == 1 && replace.status.active.is_none());
    }

    #[test]
    fn ended_jobs_leave_the_status_and_old_ones_go() {
        let status = json!({"active": [{"name": "a", "uid": "a"}, {"name": "lost", "uid": "lost"}],
            "lastScheduleTime": "2026-11-28T10:00:00Z"});
        let own: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| job(name, Some("Complete")))
            .into_iter()
            .chain([job("e", Some("Failed"))])
            .collect();
        let plan = run(&cron_job(json!({"failedJobsHistoryLimit": 0}), status), &own);
        assert_eq!(reasons(&plan), ["SawCompletedJob", "MissingJob"]);
        let gone: Vec<_> = plan.delete.iter().map(|job| job.name_any()).collect();
        assert_eq!(gone, ["a", "e"]);
        assert!(plan.status.active.is_none() && plan.status.last_successful_time.is_some());
    }
}
