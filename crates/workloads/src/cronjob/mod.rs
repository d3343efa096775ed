//! CronJobs: Jobs made at the times of a schedule.

mod plan;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{
    Action, EventType, Informer, Key, Operator, ReconcileError, Recorder, StoreIndex, Writes, time_from_ms,
};
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};

use crate::pods;
use crate::replicaset::{ignore_missing, message_of};
use crate::stores::owner_of;
use plan::{Run, reference};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

struct CronJobs {
    client: Client,
    clock: Arc<dyn gantry_clock::Clock>,
    cron_jobs: Informer<CronJob>,
    jobs_by_owner: StoreIndex<Job>,
    recorder: Recorder,
    writes: Writes,
}

pub(crate) fn register(operator: &Operator) {
    let controller = operator.controller::<CronJob>("cronjob");
    let this = Arc::new(CronJobs {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        cron_jobs: controller.store(),
        jobs_by_owner: operator.informer::<Job>().index(owner_of),
        recorder: operator.recorder("cronjob-controller"),
        writes: Writes::new(operator.clock().clone()),
    });
    controller.owns::<Job>().reconcile(move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
}

impl CronJobs {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(cron_job) = self.cron_jobs.get(&key) else {
            self.writes.forget(&key);
            return Ok(Action::await_change());
        };
        if !self.writes.settled(&key) {
            return Ok(Action::requeue_after(Duration::from_secs(5)));
        }
        let own = self.jobs_by_owner.get(cron_job.metadata.uid.as_deref().unwrap_or_default());
        let mut plan = plan::plan(&cron_job, &own, self.clock.now_ms());
        for said in &plan.events {
            self.recorder.event(&*cron_job, said.kind, said.reason, said.message.clone());
        }
        let api: Api<Job> = Api::namespaced(self.client.clone(), key.namespace());
        for job in &plan.delete {
            let name = job.name_any();
            ignore_missing(api.delete(&name, &DeleteParams::background()).await)?;
            let message = format!("Deleted job {name}");
            self.recorder.event(&*cron_job, EventType::Normal, "SuccessfulDelete", message);
        }
        if let Some(run) = plan.create {
            let at = run.at;
            let job = job_of(&cron_job, run, plan.zone.as_ref().unwrap_or(&TimeZone::UTC));
            match api.create(&PostParams::default(), &job).await {
                Ok(created) => {
                    plan.status.active.get_or_insert_default().push(reference(&created));
                    let message = format!("Created job {}", created.name_any());
                    self.recorder.event(&*cron_job, EventType::Normal, "SuccessfulCreate", message);
                }
                // An earlier life made it and ended before it could say so; the store will show it.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(error) => {
                    let message = format!("Error creating job: {}", message_of(&error));
                    self.recorder.event(&*cron_job, EventType::Warning, "FailedCreate", message);
                    return Err(error.into());
                }
            }
            plan.status.last_schedule_time = Some(time_from_ms(at.as_millisecond()));
        }
        if cron_job.status.as_ref() != Some(&plan.status) {
            let mut updated = (*cron_job).clone();
            updated.status = Some(plan.status);
            let api: Api<CronJob> = Api::namespaced(self.client.clone(), key.namespace());
            let replaced = api.replace_status(key.name(), &PostParams::default(), &updated).await;
            if let Some(replaced) = ignore_missing(replaced)? {
                self.writes.wrote(&key, &self.cron_jobs, &replaced);
            }
        }
        Ok(plan.look_again.map_or(Action::await_change(), Action::requeue_after))
    }
}

fn job_of(cron_job: &CronJob, run: Run, zone: &TimeZone) -> Job {
    let template = cron_job.spec.job_template.clone();
    let given = template.metadata.unwrap_or_default();
    let mut job = Job { spec: template.spec, ..Job::default() };
    job.metadata.name = Some(run.name);
    job.metadata.namespace.clone_from(&cron_job.metadata.namespace);
    job.metadata.labels = given.labels;
    job.metadata.annotations = given.annotations;
    let local = run.at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let local = local.strip_suffix("+00:00").map_or(local.clone(), |utc| format!("{utc}Z"));
    job.metadata.annotations.get_or_insert_default().insert(SCHEDULED.to_owned(), local);
    job.metadata.owner_references = Some(vec![pods::controller_reference(cron_job)]);
    job
}
