//! Keeps the HorizontalPodAutoscaler of a ScaledObject as the object says.

use gantry_operator::{Key, explain};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, DeleteParams, PostParams};

use super::entry::Entry;
use super::scaled_object::is_owned;
use super::types::{ScaledObject, ScaledObjectStatus};
use super::{Inner, annotations, hpa};

impl Inner {
    /// Creates or updates the HPA, removes the one of an earlier name, and gives its name.
    pub(super) async fn ensure(
        &self,
        key: &Key,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
        entry: &Entry,
    ) -> Result<String, String> {
        let name = hpa::name(object);
        let target = status.scale_target_gvkr.clone().unwrap_or_default();
        let there = self.hpas.get(&Key::new(key.namespace(), &name));
        if let Some(there) = &there {
            let version = there.metadata.resource_version.clone();
            if version.is_some() && entry.state.lock().hpa_version == version {
                return Ok(name);
            }
        }
        let wanted = hpa::build(object, &target, &entry.specs())?;
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), key.namespace());
        let failed = |error: &kube::Error| format!("HPA {name}: {}", explain(error));
        if !status.hpa_name.is_empty() && status.hpa_name != name {
            let old = self.hpas.get(&Key::new(key.namespace(), &status.hpa_name));
            if old.is_some_and(|old| is_owned(&old, object)) {
                match api.delete(&status.hpa_name, &DeleteParams::background()).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(failed(&error)),
                }
            }
        }
        match there {
            None => match api.create(&PostParams::default(), &wanted).await {
                Ok(_) => {}
                // The store has not seen what was created a moment ago.
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                    let found = api.get(&name).await.map_err(|error| failed(&error))?;
                    self.check_owner(&found, object, &name)?;
                }
                Err(error) => return Err(failed(&error)),
            },
            Some(there) => {
                self.check_owner(&there, object, &name)?;
                if hpa::says_the_same(&wanted, &there) {
                    entry.state.lock().hpa_version.clone_from(&there.metadata.resource_version);
                } else {
                    let mut changed = (*there).clone();
                    changed.spec = wanted.spec;
                    changed.metadata.owner_references = wanted.metadata.owner_references;
                    changed
                        .metadata
                        .labels
                        .get_or_insert_default()
                        .extend(wanted.metadata.labels.unwrap_or_default());
                    changed
                        .metadata
                        .annotations
                        .get_or_insert_default()
                        .extend(wanted.metadata.annotations.unwrap_or_default());
                    match api.replace(&name, &PostParams::default(), &changed).await {
                        Ok(_) => {}
                        // Its watch brings this object back with what it has become.
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        Err(error) => return Err(failed(&error)),
                    }
                }
            }
        }
        status.hpa_name.clone_from(&name);
        Ok(name)
    }

    fn check_owner(
        &self,
        there: &HorizontalPodAutoscaler,
        object: &ScaledObject,
        name: &str,
    ) -> Result<(), String> {
        let given = object.metadata.annotations.clone().unwrap_or_default();
        if is_owned(there, object) || annotations::takes_over_hpa(&given) {
            return Ok(());
        }
        Err(format!("HPA {name} exists and is not this ScaledObject's"))
    }
}
