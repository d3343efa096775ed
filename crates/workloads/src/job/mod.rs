//! Jobs: pods that run to their end, as often as it takes.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Action, EventType, Informer, Key, Operator, ReconcileError};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};

use crate::pod_control::PodControl;
use crate::pods;
use crate::replicaset::ignore_missing;
use crate::stores::Stores;
use plan::INDEX_ANNOTATION;

struct Jobs {
    client: Client,
    clock: Arc<dyn gantry_clock::Clock>,
    jobs: Informer<Job>,
    control: PodControl,
}

pub(crate) fn register(operator: &Operator, stores: &Stores) {
    let controller = operator.controller::<Job>("job");
    let this = Arc::new(Jobs {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        jobs: controller.store(),
        control: PodControl::new(operator, stores, "job-controller"),
    });
    controller.owns::<Pod>().reconcile(move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
}

impl Jobs {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(job) = self.jobs.get(&key) else {
            self.control.writes.forget(&key);
            return Ok(Action::await_change());
        };
        if !self.control.writes.settled(&key) {
            return Ok(Action::requeue_after(Duration::from_secs(5)));
        }
        let own = self.control.owned_by(job.metadata.uid.as_deref());
        let plan = plan::plan(&job, &own, self.clock.now_ms());
        if plan.remove {
            let api: Api<Job> = Api::namespaced(self.client.clone(), key.namespace());
            ignore_missing(api.delete(key.name(), &DeleteParams::background()).await)?;
            return Ok(Action::await_change());
        }
        for index in &plan.create {
            self.control.create(&key, &*job, &pod_of(&job, *index)).await?;
        }
        for pod in &plan.delete {
            self.control.delete(&key, &*job, pod).await?;
        }
        self.update_status(&key, &job, plan.status).await?;
        Ok(plan.look_again.map_or(Action::await_change(), Action::requeue_after))
    }

    async fn update_status(&self, key: &Key, job: &Job, status: JobStatus) -> Result<(), ReconcileError> {
        if job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let ended = |status: Option<&JobStatus>, kind: &str| {
            status.is_some_and(|status| {
                status.conditions.iter().flatten().any(|condition| condition.type_ == kind)
            })
        };
        for (kind, event, reason) in
            [("Complete", EventType::Normal, "Completed"), ("Failed", EventType::Warning, "Failed")]
        {
            if ended(Some(&status), kind) && !ended(job.status.as_ref(), kind) {
                let last =
                    status.conditions.iter().flatten().last().and_then(|condition| condition.message.clone());
                let message =
                    if kind == "Complete" { "Job completed".to_owned() } else { last.unwrap_or_default() };
                self.control.recorder().event(job, event, reason, message);
            }
        }
        let mut updated = job.clone();
        updated.status = Some(status);
        let api: Api<Job> = Api::namespaced(self.client.clone(), key.namespace());
        let replaced = api.replace_status(key.name(), &PostParams::default(), &updated).await;
        if let Some(replaced) = ignore_missing(replaced)? {
            self.control.writes.wrote(key, &self.jobs, &replaced);
        }
        Ok(())
    }
}

fn pod_of(job: &Job, index: Option<i32>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let name = job.name_any();
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let mut pod = pods::from_template(&template, pods::controller_reference(job));
    pod.metadata.namespace.clone_from(&job.metadata.namespace);
    pod.metadata.generate_name = Some(pods::generate_name(&match index {
        Some(index) => format!("{name}-{index}"),
        None => name.clone(),
    }));
    let labels = pod.metadata.labels.get_or_insert_default();
    for (label, value) in [("job-name", &name), ("controller-uid", &uid)] {
        labels.insert(label.to_owned(), value.clone());
        labels.insert(format!("batch.kubernetes.io/{label}"), value.clone());
    }
    if let Some(index) = index {
        labels.insert(INDEX_ANNOTATION.to_owned(), index.to_string());
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(INDEX_ANNOTATION.to_owned(), index.to_string());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(format!("{name}-{index}"));
        for container in &mut spec.containers {
            container.env.get_or_insert_default().push(EnvVar {
                name: "JOB_COMPLETION_INDEX".to_owned(),
                value: Some(index.to_string()),
                value_from: None,
            });
        }
    }
    pod
}
