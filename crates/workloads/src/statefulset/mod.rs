//! StatefulSets: numbered pods that keep their name and their volumes.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Action, Informer, Key, Operator, ReconcileError};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

use crate::claim::Labels;
use crate::pod_control::PodControl;
use crate::pods;
use crate::replicaset::ignore_missing;
use crate::stores::Stores;
use plan::REVISION_LABEL;

struct StatefulSets {
    client: Client,
    clock: Arc<dyn gantry_clock::Clock>,
    sets: Informer<StatefulSet>,
    control: PodControl,
}

pub(crate) fn register(operator: &Operator, stores: &Stores) {
    let controller = operator.controller::<StatefulSet>("statefulset");
    let this = Arc::new(StatefulSets {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        sets: controller.store(),
        control: PodControl::new(operator, stores, "statefulset-controller"),
    });
    controller.owns::<Pod>().reconcile(move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
}

impl StatefulSets {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(set) = self.sets.get(&key) else {
            self.control.writes.forget(&key);
            return Ok(Action::await_change());
        };
        if !self.control.writes.settled(&key) {
            return Ok(Action::requeue_after(Duration::from_secs(5)));
        }
        let Some(spec) = &set.spec else { return Ok(Action::await_change()) };
        let own = self.control.claim(&key, &*set, &Labels::of(&spec.selector)).await?;
        let revision = crate::deployment::template_hash(&spec.template);
        let plan = plan::plan(&set, &own, &revision, self.clock.now_ms());
        for ordinal in plan.create {
            for claim in claims(&set, ordinal) {
                self.ensure_claim(&key, &claim).await?;
            }
            self.control.create(&key, &*set, &pod_of(&set, &spec.template, ordinal, &revision)).await?;
        }
        for pod in &plan.delete {
            self.control.delete(&key, &*set, pod).await?;
        }
        self.update_status(&key, &set, plan.status).await?;
        // Pods that become available by mere waiting cause no event.
        let waits = spec.min_ready_seconds.unwrap_or(0) > 0;
        Ok(if waits { Action::requeue_after(Duration::from_secs(1)) } else { Action::await_change() })
    }

    async fn ensure_claim(&self, key: &Key, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), key.namespace());
        match api.create(&PostParams::default(), claim).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn update_status(
        &self,
        key: &Key,
        set: &StatefulSet,
        status: StatefulSetStatus,
    ) -> Result<(), ReconcileError> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), key.namespace());
        let replaced = api.replace_status(key.name(), &PostParams::default(), &updated).await;
        if let Some(replaced) = ignore_missing(replaced)? {
            self.control.writes.wrote(key, &self.sets, &replaced);
        }
        Ok(())
    }
}

fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let templates =
        set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.clone()).unwrap_or_default();
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
    let named = templates.into_iter().map(|mut claim| {
        claim.metadata.name = Some(claim_name(&claim.name_any(), set, ordinal));
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        claim.metadata.labels.get_or_insert_default().extend(selector.clone().unwrap_or_default());
        claim
    });
    named.collect()
}

fn claim_name(template: &str, set: &StatefulSet, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name_any())
}

fn pod_of(set: &StatefulSet, template: &PodTemplateSpec, ordinal: i32, revision: &str) -> Pod {
    let name = format!("{}-{ordinal}", set.name_any());
    let mut pod = pods::from_template(template, pods::controller_reference(set));
    pod.metadata.name = Some(name.clone());
    pod.metadata.namespace.clone_from(&set.metadata.namespace);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
    labels.insert("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string());
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain =
        set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty());
    let templates =
        set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.clone()).unwrap_or_default();
    let volumes = spec.volumes.get_or_insert_default();
    for claim in templates {
        let volume = claim.name_any();
        volumes.retain(|known| known.name != volume);
        let claim_name = claim_name(&volume, set, ordinal);
        volumes.push(Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: None }),
            ..Volume::default()
        });
    }
    if volumes.is_empty() {
        spec.volumes = None;
    }
    pod
}
