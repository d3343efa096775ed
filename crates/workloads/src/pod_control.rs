//! Creating and deleting pods for a controller: events about it on the owner, writes noted for the next look.

use std::sync::Arc;

use gantry_operator::{EventType, Informer, Key, Operator, Recorder, Writes};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt};

use crate::claim::{self, Claim, Labels};
use crate::replicaset::{ignore_missing, message_of, orphan_of};
use crate::stores::Stores;

pub(crate) struct PodControl {
    client: Client,
    recorder: Recorder,
    stores: Stores,
    pub(crate) writes: Writes,
}

impl PodControl {
    pub(crate) fn new(operator: &Operator, stores: &Stores, component: &str) -> PodControl {
        PodControl {
            client: operator.client().clone(),
            recorder: operator.recorder(component),
            stores: stores.clone(),
            writes: Writes::new(operator.clock().clone()),
        }
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(crate) fn pods(&self) -> &Informer<Pod> {
        &self.stores.pods
    }

    fn api(&self, key: &Key) -> Api<Pod> {
        Api::namespaced(self.client.clone(), key.namespace())
    }

    /// The pods that the owner controls, after adopting and releasing by its selector.
    pub(crate) async fn claim<O>(
        &self,
        key: &Key,
        owner: &O,
        labels: &Labels,
    ) -> Result<Vec<Arc<Pod>>, kube::Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let api = self.api(key);
        let mut candidates = self.stores.pods_by_owner.get(owner.meta().uid.as_deref().unwrap_or(""));
        candidates.extend(self.stores.pods_by_owner.get(&orphan_of(key.namespace())));
        let mut own = Vec::new();
        for pod in candidates {
            match claim::claim(owner.meta(), labels, &pod.metadata) {
                Claim::Own => own.push(pod),
                Claim::Adopt if crate::pods::is_active(&pod) => {
                    let adopted = claim::adopt(&api, owner, &*pod).await?;
                    self.writes.wrote(key, self.pods(), &adopted);
                    own.push(Arc::new(adopted));
                }
                Claim::Release => {
                    // A pod that is gone needs no release.
                    if let Some(released) = ignore_missing(claim::release(&api, owner, &*pod).await)? {
                        self.writes.wrote(key, self.pods(), &released);
                    }
                }
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(own)
    }

    /// The pods that name the owner as their controller, whatever their labels.
    pub(crate) fn owned_by(&self, uid: Option<&str>) -> Vec<Arc<Pod>> {
        self.stores.pods_by_owner.get(uid.unwrap_or(""))
    }

    /// Creates a pod; nothing happens in a namespace that is going away.
    pub(crate) async fn create<O>(&self, key: &Key, owner: &O, pod: &Pod) -> Result<(), kube::Error>
    where
        O: Resource<DynamicType = ()>,
    {
        match self.api(key).create(&PostParams::default(), pod).await {
            Ok(created) => {
                self.writes.wrote(key, self.pods(), &created);
                let message = format!("Created pod: {}", created.name_any());
                self.recorder.event(owner, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(kube::Error::Api(status)) if namespace_is_terminating(&status) => Ok(()),
            Err(error) => {
                let message = format!("Error creating: {}", message_of(&error));
                self.recorder.event(owner, EventType::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    /// Deletes a pod, with its grace; one that is gone already is fine.
    pub(crate) async fn delete<O>(&self, key: &Key, owner: &O, pod: &Pod) -> Result<(), kube::Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().preconditions(preconditions);
        match ignore_missing(self.api(key).delete(&pod.name_any(), &params).await) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                self.writes.deleted(key, self.pods(), pod);
                let message = format!("Deleted pod: {}", pod.name_any());
                self.recorder.event(owner, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) => {
                let message = format!("Error deleting: {}", message_of(&error));
                self.recorder.event(owner, EventType::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }
}

fn namespace_is_terminating(status: &kube::core::Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}
