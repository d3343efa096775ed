//! The ScaledJob controller: polls the triggers and makes as many Jobs as the queue and the strategy ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Action, EventType, Key, Operator, ReconcileError, explain, time_from_ms, time_to_ms};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::ObjectMeta;
use serde_json::json;

use super::conditions::{self, ACTIVE, PAUSED, READY, Verdict};
use super::entry::{Blueprint, Entry, Observed, signature};
use super::jobs::{self, Queue, Wish};
use super::resolve::Resolver;
use super::scaled_object::{FINALIZER, joined};
use super::types::{Activity, ScaledJob, ScaledJobStatus};
use super::{Inner, annotations, validate};

const CONDITIONS: [&str; 3] = [READY, ACTIVE, PAUSED];
pub(super) const NAME_LABEL: &str = "scaledjob.keda.sh/name";
const GENERATION: &str = "scaledjob.keda.sh/generation";
/// At most so many Jobs are made in one go; the rest follows at once.
const MOST_AT_ONCE: i64 = 200;
/// Until Jobs that were just made are seen, so that they are counted.
const SETTLING: Duration = Duration::from_millis(20);

pub(super) fn register(inner: &Arc<Inner>, operator: &Operator) {
    let controller = operator
        .controller::<ScaledJob>("scaled-job")
        .concurrency(inner.config.concurrency)
        .owns::<Job>()
        .reads(&inner.pods);
    // The queue is given once, here.
    let _ = inner.job_queue.set(controller.trigger());
    let reconciler = inner.clone();
    controller.reconcile(move |key| {
        let inner = reconciler.clone();
        async move { inner.reconcile_job(&key).await }
    });
}

impl Inner {
    async fn reconcile_job(&self, key: &Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.scaled_jobs.get(key) else {
            self.forget_object(true, key);
            self.job_writes.forget(key);
            return Ok(Action::await_change());
        };
        if object.metadata.deletion_timestamp.is_some() {
            self.forget(true, key);
            self.release(key, &object).await?;
            return Ok(Action::await_change());
        }
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let interval = self.interval(object.spec.polling_interval);
        let worked = self.work_on_jobs(key, &object, &mut status, interval).await;
        let action = worked.unwrap_or_else(|message| {
            self.counters.job_error(key);
            let known = status.conditions.iter().any(|c| c.kind == READY && c.message == message);
            let verdict = Verdict::new("False", "ScaledJobCheckFailed", message.clone());
            conditions::set(&mut status.conditions, &CONDITIONS, READY, verdict);
            if !known {
                self.recorder.event(&*object, EventType::Warning, "ScaledJobCheckFailed", message);
            }
            Action::requeue_after(interval)
        });
        self.write_status::<ScaledJob>(key, &before, &status).await?;
        Ok(action)
    }

    /// Jobs go with their owner; a finalizer of ours on the object is taken away.
    async fn release(&self, key: &Key, object: &ScaledJob) -> Result<(), ReconcileError> {
        let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        let rest: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
        let api: Api<ScaledJob> = Api::namespaced(self.client.clone(), key.namespace());
        let patch = Patch::Merge(
            json!({"metadata": {"finalizers": rest, "resourceVersion": object.metadata.resource_version}}),
        );
        match api.patch(key.name(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn work_on_jobs(
        &self,
        key: &Key,
        object: &ScaledJob,
        status: &mut ScaledJobStatus,
        interval: Duration,
    ) -> Result<Action, String> {
        let given = object.metadata.annotations.clone().unwrap_or_default();
        if annotations::is_paused(&given) {
            self.forget(true, key);
            conditions::set(
                &mut status.conditions,
                &CONDITIONS,
                PAUSED,
                Verdict::new("True", "ScaledJobPaused", "ScaledJob is paused"),
            );
            return Ok(Action::await_change());
        }
        let unpaused = Verdict::new("False", "ScaledJobUnpaused", "ScaledJob is unpaused");
        conditions::set(&mut status.conditions, &CONDITIONS, PAUSED, unpaused);
        validate::triggers(&object.spec.triggers)?;
        let entry = self.job_entry(key, object, status).await?;
        let mine = self.jobs_of(object);
        self.end_outdated(key, object, &mine).await?;
        self.trim_history(key, object, &mine).await?;
        if !entry.is_due(interval, self.clock.monotonic()) {
            self.tell_jobs_ready(object, status, &entry, None);
            let since = entry.state.lock().polled_at.map(|at| self.clock.monotonic().saturating_sub(at));
            let left = since.map_or(interval, |since| interval.saturating_sub(since));
            return Ok(Action::requeue_after(left.max(Duration::from_millis(1))));
        }
        if !self.job_writes.settled(key) {
            // Jobs that were made a moment ago are not all counted yet; their watch comes back here.
            entry.state.lock().polled_at = None;
            return Ok(Action::requeue_after(SETTLING));
        }
        let observed = entry.poll(&*self.clock).await;
        self.count(key, &observed, true);
        let wish = self.wish(object, status, &entry, &observed);
        let (running, pending) = self.running_and_pending(object);
        let count = jobs::jobs_to_make(&object.spec, wish, running, pending);
        if wish.is_active {
            let now_ms = self.clock.now_ms();
            if now_ms - status.last_active_time.as_ref().map_or(0, time_to_ms) >= 1_000 {
                status.last_active_time = Some(time_from_ms(now_ms));
            }
        }
        conditions::set(&mut status.conditions, &CONDITIONS, ACTIVE, Verdict::active(wish.is_active));
        let made = self.make_jobs(key, object, count.min(MOST_AT_ONCE)).await?;
        if made > 0 {
            self.recorder.event(object, EventType::Normal, "KEDAJobsCreated", format!("Created {made} jobs"));
        }
        let next = next_look(count, interval);
        if next < interval {
            entry.state.lock().polled_at = None;
        }
        Ok(Action::requeue_after(next))
    }

    async fn job_entry(
        &self,
        key: &Key,
        object: &ScaledJob,
        status: &mut ScaledJobStatus,
    ) -> Result<Arc<Entry>, String> {
        let spec = &object.spec;
        let references = spec.triggers.iter().filter_map(|trigger| trigger.authentication_ref.as_ref());
        let signature =
            signature(&object.metadata, &self.authentication_versions(key.namespace(), references));
        let known = self.entry(true, key);
        if let Some(entry) =
            known.as_ref().filter(|entry| entry.is_current(signature, self.clock.monotonic()))
        {
            return Ok(entry.clone());
        }
        let blueprint = Blueprint {
            namespace: key.namespace(),
            triggers: &spec.triggers,
            pod: spec.job_target_ref.template.spec.clone(),
            container: &spec.env_source_container_name,
            formula: None,
            timeout: self.config.http_timeout,
        };
        let mut resolver = Resolver::new(&self.client, key.namespace(), &self.config.cluster_namespace);
        let built =
            Entry::build(signature, blueprint, &mut resolver, &self.sources, self.clock.monotonic()).await;
        let entry =
            Arc::new(built.map_err(|error| format!("Failed to build the scalers of ScaledJob: {error}"))?);
        match &known {
            Some(known) => entry.inherit(known),
            None => {
                self.recorder.event(object, EventType::Normal, "KEDAScalersStarted", "Started scalers watch")
            }
        }
        self.entries.lock().insert((true, key.clone()), entry.clone());
        if let Some(queue) = self.job_queue.get() {
            entry.subscribe(key, queue, &self.clock);
        }
        status.external_metric_names =
            entry.specs().iter().filter_map(|spec| spec.external_name().map(str::to_owned)).collect();
        status.triggers_types = joined(spec.triggers.iter().map(|trigger| trigger.kind.as_str()));
        status.authentications_types = joined(
            spec.triggers
                .iter()
                .filter_map(|trigger| trigger.authentication_ref.as_ref())
                .map(|r| r.name.as_str()),
        );
        Ok(entry)
    }

    fn wish(
        &self,
        object: &ScaledJob,
        status: &mut ScaledJobStatus,
        entry: &Entry,
        observed: &[Observed],
    ) -> Wish {
        let mut queues = Vec::with_capacity(observed.len());
        let mut error = None;
        for metric in observed {
            let is_active = metric.outcome.as_ref().is_ok_and(|reading| reading.active);
            status.triggers_activity.insert(metric.metric.clone(), Activity { is_active });
            match &metric.outcome {
                Ok(reading) => queues.push(Queue {
                    is_active: reading.active,
                    length: reading.value,
                    target_average: metric.target,
                }),
                Err(failed) => {
                    error.get_or_insert_with(|| failed.clone());
                }
            }
        }
        let before = std::mem::replace(&mut entry.state.lock().last_error, error.clone());
        if let Some(error) = error.filter(|error| before.as_ref() != Some(error)) {
            self.recorder.event(object, EventType::Warning, "KEDAScalerFailed", error);
        }
        // Jobs of the other triggers are made all the same.
        self.tell_jobs_ready(object, status, entry, Some(true));
        let calculation = &object.spec.scaling_strategy.multiple_scalers_calculation;
        jobs::combine(calculation, &queues, object.spec.max_replicas())
    }

    /// Ready as the last poll left it; `polled` is there after a poll.
    fn tell_jobs_ready(
        &self,
        object: &ScaledJob,
        status: &mut ScaledJobStatus,
        entry: &Entry,
        polled: Option<bool>,
    ) {
        let error = entry.state.lock().last_error.clone();
        let verdict = conditions::readiness("ScaledJob", "ScaledJobReady", error.as_deref(), polled);
        if conditions::became_ready(&mut status.conditions, &CONDITIONS, verdict) {
            self.recorder.event(
                object,
                EventType::Normal,
                "ScaledJobReady",
                "ScaledJob is ready for scaling",
            );
        }
    }

    fn jobs_of(&self, object: &ScaledJob) -> Vec<Arc<Job>> {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let uid = object.metadata.uid.as_ref();
        let is_mine = |job: &Arc<Job>| {
            gantry_operator::controller_of(&**job).is_some_and(|owner| Some(&owner.uid) == uid)
        };
        self.jobs.list_in(namespace).into_iter().filter(is_mine).collect()
    }

    /// Jobs that have not ended, and those of them that have done nothing yet.
    fn running_and_pending(&self, object: &ScaledJob) -> (i64, i64) {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let running: Vec<Arc<Job>> =
            self.jobs_of(object).into_iter().filter(|job| jobs::is_finished(job).is_none()).collect();
        let pods: Vec<Arc<Pod>> = self.pods.list_in(namespace);
        let pending = running.iter().filter(|job| {
            let uid = job.metadata.uid.as_ref();
            let theirs = pods.iter().filter(|pod| {
                gantry_operator::controller_of(&***pod).is_some_and(|owner| Some(&owner.uid) == uid)
            });
            jobs::is_pending(theirs.map(|pod| &**pod), &object.spec.scaling_strategy.pending_pod_conditions)
        });
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        (count(running.len()), count(pending.count()))
    }

    async fn make_jobs(&self, key: &Key, object: &ScaledJob, count: i64) -> Result<i64, String> {
        if count <= 0 {
            return Ok(0);
        }
        let api: Api<Job> = Api::namespaced(self.client.clone(), key.namespace());
        let job = job_of(object);
        for made in 0..count {
            let created = api.create(&PostParams::default(), &job).await.map_err(|error| {
                format!("Failed to create Job {} of {count}: {}", made + 1, explain(&error))
            })?;
            self.job_writes.wrote(key, &self.jobs, &created);
        }
        Ok(count)
    }

    /// With the immediate rollout Jobs of an earlier generation end.
    async fn end_outdated(&self, key: &Key, object: &ScaledJob, mine: &[Arc<Job>]) -> Result<(), String> {
        let spec = &object.spec;
        let strategy = [spec.rollout.strategy.as_str(), spec.rollout_strategy.as_str()];
        if strategy.iter().find(|name| !name.is_empty()).is_some_and(|name| *name == "gradual") {
            return Ok(());
        }
        let generation = object.metadata.generation.unwrap_or(0).to_string();
        let is_outdated = |job: &&Arc<Job>| {
            let annotation = job.metadata.annotations.as_ref().and_then(|a| a.get(GENERATION));
            annotation != Some(&generation) && job.metadata.deletion_timestamp.is_none()
        };
        let foreground = spec.rollout.propagation_policy == "foreground";
        let params = DeleteParams {
            propagation_policy: Some(if foreground {
                PropagationPolicy::Foreground
            } else {
                PropagationPolicy::Background
            }),
            ..DeleteParams::default()
        };
        for job in mine.iter().filter(is_outdated) {
            self.delete_job(key, job, &params).await?;
        }
        Ok(())
    }

    /// Ended Jobs beyond the limits go, the oldest first.
    async fn trim_history(&self, key: &Key, object: &ScaledJob, mine: &[Arc<Job>]) -> Result<(), String> {
        let (successful, failed) = object.spec.history_limits();
        for (ending, limit) in [("Complete", successful), ("Failed", failed)] {
            let mut ended: Vec<&Arc<Job>> = mine
                .iter()
                .filter(|job| {
                    jobs::is_finished(job) == Some(ending) && job.metadata.deletion_timestamp.is_none()
                })
                .collect();
            ended.sort_by_key(|job| {
                let status = job.status.as_ref();
                let completed = status.and_then(|status| status.completion_time.as_ref()).map(time_to_ms);
                completed.or(job.metadata.creation_timestamp.as_ref().map(time_to_ms))
            });
            let excess = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in ended.into_iter().take(excess) {
                self.delete_job(key, job, &DeleteParams::background()).await?;
            }
        }
        Ok(())
    }

    async fn delete_job(&self, key: &Key, job: &Job, params: &DeleteParams) -> Result<(), String> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), key.namespace());
        let name = job.metadata.name.as_deref().unwrap_or_default();
        match api.delete(name, params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(format!("Failed to delete Job {name}: {}", explain(&error))),
        }
    }
}

/// When to look again after so many Jobs were asked for.
fn next_look(asked: i64, interval: Duration) -> Duration {
    if asked > MOST_AT_ONCE { SETTLING.min(interval) } else { interval }
}

/// A Job as the object describes it.
pub fn job_of(object: &ScaledJob) -> Job {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut labels: BTreeMap<String, String> = [
        ("app.kubernetes.io/name", name.as_str()),
        ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
        ("app.kubernetes.io/part-of", name.as_str()),
        ("app.kubernetes.io/managed-by", "keda-operator"),
        (NAME_LABEL, name.as_str()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    labels.extend(object.metadata.labels.clone().unwrap_or_default());
    let mut given = object.metadata.annotations.clone().unwrap_or_default();
    given.remove(annotations::LAST_APPLIED);
    given.insert(GENERATION.into(), object.metadata.generation.unwrap_or(0).to_string());
    let mut spec = object.spec.job_target_ref.clone();
    let template = spec.template.metadata.get_or_insert_default();
    template.labels.get_or_insert_default().insert(NAME_LABEL.into(), name.clone());
    if let Some(pod) = &mut spec.template.spec {
        // A pod's own default would not be allowed for a Job.
        pod.restart_policy.get_or_insert_with(|| "OnFailure".into());
    }
    Job {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: object.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(given),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_one_go_follows_at_once() {
        let interval = Duration::from_secs(30);
        assert_eq!(next_look(0, interval), interval);
        assert_eq!(next_look(MOST_AT_ONCE, interval), interval);
        assert_eq!(next_look(MOST_AT_ONCE + 1, interval), SETTLING);
    }
}
