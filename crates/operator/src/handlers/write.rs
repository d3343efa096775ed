//! Writing to the object of a handler: merge patches, the status where it lives, and transformations.

use std::sync::atomic::Ordering;

use kube::api::{Api, Patch as ApiPatch, PatchParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::engine::{HandlerEngine, View};
use super::patch::{Patch, Transform, merge_patch_between};
use crate::controller::ReconcileError;
use crate::key::Key;

/// How often a transformation is tried against newer objects before its failure is told.
const TRANSFORM_TRIES: u32 = 10;
/// What Kopf leaves to wake itself up.
const TOUCH_DUMMY: &str = "touch-dummy";

impl<K> HandlerEngine<K> {
    pub(super) fn api(&self, key: &Key) -> Api<DynamicObject> {
        match key.namespace() {
            "" => Api::all_with(self.client.clone(), &self.resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &self.resource),
        }
    }

    /// Writes what was gathered in `patch`: the status where it lives, and the rest.
    pub(super) async fn apply(&self, view: &View<K>, patch: &Patch) -> Result<(), ReconcileError> {
        if patch.is_empty() {
            return Ok(());
        }
        self.remove_dummy(view, patch);
        let (status, rest) = patch.take();
        let mut newest = None;
        if let Some(rest) = rest {
            newest = self.write(&view.key, rest, false).await?;
        }
        if let Some(status) = status {
            newest = self.write(&view.key, status, true).await?;
        }
        let transforms = patch.take_transforms();
        if transforms.is_empty() {
            return Ok(());
        }
        self.transform(&view.key, newest.or_else(|| Some((*view.raw).clone())), &transforms).await
    }

    fn remove_dummy(&self, view: &View<K>, patch: &Patch) {
        let annotations = view.body.pointer("/metadata/annotations");
        for key in self.names.keys(TOUCH_DUMMY) {
            if annotations.is_some_and(|annotations| annotations.get(&key).is_some()) {
                patch.merge(json!({ "metadata": { "annotations": { key: null } } }));
            }
        }
    }

    /// Writes what `transforms` make of the newest object, as long as it takes for nobody to interfere.
    async fn transform(
        &self,
        key: &Key,
        mut newest: Option<DynamicObject>,
        transforms: &[Transform],
    ) -> Result<(), ReconcileError> {
        for _ in 0..TRANSFORM_TRIES {
            let known = match newest.take() {
                Some(known) => known,
                None => match self.api(key).get_opt(key.name()).await? {
                    Some(known) => known,
                    None => return Ok(()),
                },
            };
            let before = self.whole(&known)?;
            let mut after = before.clone();
            for transform in transforms {
                after =
                    transform(after).await.map_err(|error| format!("a transformation failed: {error}"))?;
            }
            let Some(mut change) = merge_patch_between(&before, &after) else { return Ok(()) };
            let status = change.as_object_mut().and_then(|fields| fields.shift_remove("status"));
            let mut version = known.metadata.resource_version.clone();
            let parts = [
                Some(change).filter(|change| change.as_object().is_some_and(|fields| !fields.is_empty())),
                status.map(|status| json!({ "status": status })),
            ];
            let mut conflict = false;
            for (mut part, is_status) in
                parts.into_iter().zip([false, true]).filter_map(|(part, is_status)| Some((part?, is_status)))
            {
                if let Some(fields) = part.as_object_mut() {
                    let meta = fields.entry("metadata").or_insert_with(|| json!({}));
                    meta["resourceVersion"] = json!(version);
                }
                match self.write(key, part, is_status).await {
                    Ok(Some(written)) => version = written.metadata.resource_version,
                    Ok(None) => return Ok(()),
                    Err(error) if is_conflict(&error) => conflict = true,
                    Err(error) => return Err(error),
                }
                if conflict {
                    break;
                }
            }
            if !conflict {
                return Ok(());
            }
        }
        Err(format!("{} {key} changed too often to be transformed", self.resource.kind).into())
    }

    /// The object as a whole, with the type that lists leave out of their items.
    pub(super) fn whole(&self, raw: &DynamicObject) -> Result<Value, ReconcileError> {
        let mut body = serde_json::to_value(raw)?;
        if let Some(fields) = body.as_object_mut() {
            fields.entry("apiVersion").or_insert_with(|| json!(self.resource.api_version));
            fields.entry("kind").or_insert_with(|| json!(self.resource.kind));
        }
        Ok(body)
    }

    /// Writes one merge patch; gives the object after it, or nothing when it is gone.
    pub(super) async fn write(
        &self,
        key: &Key,
        change: Value,
        is_status: bool,
    ) -> Result<Option<DynamicObject>, ReconcileError> {
        let api = self.api(key);
        let (params, change) = (PatchParams::default(), ApiPatch::Merge(change));
        let apart = is_status && !self.status_is_inline.load(Ordering::Relaxed);
        let mut written = if apart {
            api.patch_status(key.name(), &params, &change).await
        } else {
            api.patch(key.name(), &params, &change).await
        };
        if apart && written.as_ref().is_err_and(is_not_found) {
            // Either the object is gone or the kind has no such subresource; the second try tells.
            written = api.patch(key.name(), &params, &change).await;
            if written.is_ok() {
                self.status_is_inline.store(true, Ordering::Relaxed);
            }
        }
        match written {
            Ok(object) => {
                self.writes.wrote(key, &self.store, &object);
                Ok(Some(object))
            }
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn is_conflict(error: &ReconcileError) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == 409)
}
