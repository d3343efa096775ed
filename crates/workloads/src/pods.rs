//! What controllers ask of a pod: is it active, ready, available, over; and how a template becomes one.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::Resource;
use kube::core::ObjectMeta;

/// The pod has not ended and is not being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_over(pod) && !is_terminating(pod)
}

/// The pod has ended, well or not.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`; empty before the first status.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when the pod is ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<&Time> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref()
}

/// Ready for at least `min_ready_seconds`, at `now_ms`.
pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now_ms: i64) -> bool {
    if !is_ready(pod) {
        return false;
    }
    if min_ready_seconds <= 0 {
        return true;
    }
    available_at_ms(pod, min_ready_seconds).is_some_and(|at| at <= now_ms)
}

/// When a ready pod becomes available.
pub(crate) fn available_at_ms(pod: &Pod, min_ready_seconds: i32) -> Option<i64> {
    let since = gantry_operator::time_to_ms(ready_since(pod)?);
    Some(since.saturating_add(i64::from(min_ready_seconds.max(0)) * 1000))
}

/// The node the pod is bound to.
pub(crate) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// A new pod of `template`, controlled by `owner`; it has neither name nor namespace.
pub(crate) fn from_template(template: &PodTemplateSpec, owner: OwnerReference) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// A reference that makes `owner` the controller and holds up its foreground deletion.
pub(crate) fn controller_reference<K>(owner: &K) -> OwnerReference
where
    K: Resource<DynamicType = ()>,
{
    let meta = owner.meta();
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// `generateName` of the pods of `owner`: its name and a dash, cut so that the random end still fits.
pub(crate) fn generate_name(owner: &str) -> String {
    const LONGEST: usize = 63 - 5;
    let mut prefix = format!("{owner}-");
    if prefix.len() > LONGEST {
        let cut = (0..=LONGEST).rev().find(|cut| prefix.is_char_boundary(*cut)).unwrap_or(0);
        prefix.truncate(cut);
    }
    prefix
}
