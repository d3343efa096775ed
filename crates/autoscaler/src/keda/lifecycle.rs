//! A ScaledObject from its first sight to its end: finalizer and label, refusal, pause, deletion.

use gantry_operator::{Action, EventType, Key, ReconcileError, explain};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::conditions::{self, ACTIVE, PAUSED, READY, Verdict};
use super::scaled_object::{CONDITIONS, FINALIZER, Refusal, is_owned, reference, replicas_of};
use super::types::{ScaledObject, ScaledObjectStatus};
use super::{Inner, annotations, hpa};
use crate::hpa::target::resize;

impl Inner {
    /// Finalizer and label, which the metrics' selector needs.
    pub(super) async fn claim(&self, key: &Key, object: &ScaledObject) -> Result<(), kube::Error> {
        let label = hpa::label_value(key.name());
        let has_label =
            object.metadata.labels.as_ref().and_then(|labels| labels.get(hpa::NAME_LABEL)) == Some(&label);
        let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        let has_finalizer = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if has_label && has_finalizer {
            return Ok(());
        }
        if !has_finalizer {
            finalizers.push(FINALIZER.into());
        }
        let patch = json!({"metadata": {
            "finalizers": finalizers,
            "labels": {hpa::NAME_LABEL: label},
            "resourceVersion": object.metadata.resource_version,
        }});
        let api: Api<ScaledObject> = Api::namespaced(self.client.clone(), key.namespace());
        api.patch(key.name(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    pub(super) async fn finalize(&self, key: &Key, object: &ScaledObject) -> Result<(), ReconcileError> {
        self.forget(false, key);
        let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        let restores = object.spec.advanced.as_ref().is_some_and(|a| a.restore_to_original_replica_count);
        let original = object.status.as_ref().and_then(|status| status.original_replica_count);
        if let (true, Some(original)) = (restores, original) {
            match self.targets.scale(key.namespace(), &reference(object)).await {
                Ok((api, scale)) => {
                    resize(&api, scale, original).await?;
                }
                Err(error) if is_gone(&error) => {}
                // The finalizer stays until the size that was promised can be given.
                Err(error) => return Err(error.into()),
            }
        }
        let rest: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
        let patch =
            json!({"metadata": {"finalizers": rest, "resourceVersion": object.metadata.resource_version}});
        let api: Api<ScaledObject> = Api::namespaced(self.client.clone(), key.namespace());
        match api.patch(key.name(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.recorder.event(object, EventType::Normal, "ScaledObjectDeleted", "ScaledObject was deleted");
        Ok(())
    }

    /// Notes in conditions and events that the object is not as it should be.
    pub(super) fn refuse(&self, object: &ScaledObject, status: &mut ScaledObjectStatus, refusal: &Refusal) {
        let message = format!("{}: {}", refusal.message, refusal.cause);
        self.counters.object_error(&Key::of(object));
        let known = status.conditions.iter().any(|c| c.kind == READY && c.message == message);
        conditions::set(
            &mut status.conditions,
            &CONDITIONS,
            READY,
            Verdict::new("False", "ScaledObjectCheckFailed", message.clone()),
        );
        let unknown = Verdict::new("Unknown", "UnknownState", "ScaledObject check failed");
        conditions::set(&mut status.conditions, &CONDITIONS, ACTIVE, unknown);
        if !known {
            self.recorder.event(object, EventType::Warning, "ScaledObjectCheckFailed", message);
        }
    }

    /// Stops polling and takes the HPA away; the target keeps its size or gets the one that is asked for.
    pub(super) async fn pause(
        &self,
        key: &Key,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
    ) -> Result<Action, Refusal> {
        let failed = |cause: &dyn std::fmt::Display| Refusal::new("ScaledObject cannot be paused", cause);
        let given = object.metadata.annotations.clone().unwrap_or_default();
        let replicas = annotations::paused_replicas(&given).map_err(|error| failed(&error))?;
        self.forget(false, key);
        let target = self.target(object, status).await?;
        let name = hpa::name(object);
        let ours = self.hpas.get(&Key::new(key.namespace(), &name)).filter(|hpa| is_owned(hpa, object));
        if ours.is_some() {
            let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), key.namespace());
            match api.delete(&name, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(failed(&explain(&error))),
            }
        }
        if let Some(wanted) = replicas {
            let current = replicas_of(&target.scale);
            if current != wanted {
                resize(&target.api, target.scale, wanted).await.map_err(|error| failed(&explain(&error)))?;
                self.record(key, object, current, wanted, "paused-replicas");
            }
            status.paused_replica_count = Some(wanted);
        }
        let verdict = Verdict::new("True", "ScaledObjectPaused", "ScaledObject is paused");
        if conditions::set(&mut status.conditions, &CONDITIONS, PAUSED, verdict) {
            self.recorder.event(object, EventType::Normal, "ScaledObjectPaused", "ScaledObject is paused");
        }
        self.counters.paused(key, true);
        Ok(Action::await_change())
    }
}

/// Whether there is no target: the object, its kind, or a reference that could name one.
fn is_gone(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 404,
        kube::Error::Discovery(_) | kube::Error::BuildRequest(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_target_that_is_gone_is_not_restored() {
        let error =
            |code| kube::Error::Api(Box::new(kube::core::Status::failure("no", "Reason").with_code(code)));
        assert!(is_gone(&error(404)));
        for code in [403, 409, 500, 503] {
            assert!(!is_gone(&error(code)), "{code}");
        }
    }
}
