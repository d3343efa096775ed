//! Containers that were killed for lack of memory, as their pods' statuses tell.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// One kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) container: String,
    pub(crate) at_ms: i64,
    pub(crate) requested_bytes: i64,
    /// How often the container had been restarted when this was seen.
    pub(crate) restarts: i32,
}

/// The last kill of every container of the pod whose last end was one.
pub(crate) fn kills(pod: &Pod) -> Vec<Kill> {
    let Some(status) = &pod.status else { return Vec::new() };
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    statuses.filter_map(|status| kill(pod, status)).collect()
}

fn kill(pod: &Pod, status: &ContainerStatus) -> Option<Kill> {
    let ended = status.last_state.as_ref()?.terminated.as_ref()?;
    if ended.reason.as_deref() != Some("OOMKilled") || status.restart_count == 0 {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let container = containers.into_iter().find(|container| container.name == status.name)?;
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let requested =
        requests.and_then(|requests| gantry_apimachinery::quantity::milli(&requests.get("memory")?.0));
    Some(Kill {
        container: status.name.clone(),
        at_ms: ended.finished_at.as_ref()?.0.as_millisecond(),
        requested_bytes: requested.unwrap_or(0) / 1000,
        restarts: status.restart_count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_kill_for_memory_counts() {
        let pod = |reason: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"memory": "64Mi"}}}]},
                "status": {"containerStatuses": [{
                    "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 2,
                    "lastState": {"terminated": {"exitCode": 137, "reason": reason, "finishedAt": "2024-01-01T00:00:00Z"}},
                }]},
            }))
            .unwrap()
        };
        let kill =
            Kill { container: "c".into(), at_ms: 1_704_067_200_000, requested_bytes: 64 << 20, restarts: 2 };
        assert_eq!(kills(&pod("OOMKilled")), [kill]);
        assert!(kills(&pod("Error")).is_empty());
    }
}
