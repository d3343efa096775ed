//! What is known of containers, written down as VerticalPodAutoscalerCheckpoints and read back.

use std::collections::BTreeMap;

use gantry_operator::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};

use super::aggregate::{AggregateState, AggregationConfig, CHECKPOINT_VERSION};
use super::types::{
    VerticalPodAutoscalerCheckpoint, VerticalPodAutoscalerCheckpointSpec,
    VerticalPodAutoscalerCheckpointStatus,
};

/// The containers that checkpoints of a VerticalPodAutoscaler know. One that cannot be read is left out and logged.
pub(crate) async fn load(
    client: &Client,
    vpa: &Key,
    config: &AggregationConfig,
) -> Result<BTreeMap<String, AggregateState>, kube::Error> {
    let api: Api<VerticalPodAutoscalerCheckpoint> = Api::namespaced(client.clone(), vpa.namespace());
    let mut states = BTreeMap::new();
    for checkpoint in api.list(&ListParams::default()).await?.items {
        let Some(status) = checkpoint.status.filter(|_| checkpoint.spec.vpa_object_name == vpa.name()) else {
            continue;
        };
        let millis = |time: &Option<Time>| time.as_ref().map(|time| time.0.as_millisecond());
        let mut state = AggregateState::new(config);
        let loaded = state.load(
            &status.version,
            &status.cpu_histogram,
            &status.memory_histogram,
            status.total_samples_count,
            millis(&status.first_sample_start),
            millis(&status.last_sample_start),
        );
        match loaded {
            Ok(()) => {
                states.insert(checkpoint.spec.container_name, state);
            }
            Err(error) => {
                tracing::warn!(vpa = %vpa, container = checkpoint.spec.container_name, error, "a checkpoint is not read");
            }
        }
    }
    Ok(states)
}

/// Writes one container's checkpoint, and makes its object where there is none.
pub(crate) async fn store(
    client: &Client,
    vpa: &Key,
    container: &str,
    state: &AggregateState,
    now_ms: i64,
) -> Result<(), kube::Error> {
    let api: Api<VerticalPodAutoscalerCheckpoint> = Api::namespaced(client.clone(), vpa.namespace());
    let name = format!("{}-{container}", vpa.name());
    let time = |ms: i64| Timestamp::from_millisecond(ms).ok().map(Time);
    let status = VerticalPodAutoscalerCheckpointStatus {
        last_update_time: time(now_ms),
        version: CHECKPOINT_VERSION.into(),
        cpu_histogram: state.cpu.checkpoint(),
        memory_histogram: state.memory_peaks.checkpoint(),
        first_sample_start: state.first_sample_ms.and_then(time),
        last_sample_start: state.last_sample_ms.and_then(time),
        total_samples_count: state.samples,
    };
    let spec = VerticalPodAutoscalerCheckpointSpec {
        vpa_object_name: vpa.name().into(),
        container_name: container.into(),
    };
    // Written whole, because a merge would keep buckets that are empty now.
    let written = match api.get_opt(&name).await? {
        Some(mut known) => {
            known.spec = spec;
            known.status = Some(status);
            api.replace(&name, &PostParams::default(), &known).await
        }
        None => {
            let mut new = VerticalPodAutoscalerCheckpoint::new(&name, spec);
            new.status = Some(status);
            api.create(&PostParams::default(), &new).await
        }
    };
    written.map(|_| ())
}

/// Removes checkpoints whose VerticalPodAutoscaler is gone.
pub(crate) async fn remove_orphans(
    client: &Client,
    is_known: impl Fn(&Key) -> bool,
) -> Result<(), kube::Error> {
    let all: Api<VerticalPodAutoscalerCheckpoint> = Api::all(client.clone());
    for checkpoint in all.list(&ListParams::default()).await?.items {
        let (Some(namespace), Some(name)) = (&checkpoint.metadata.namespace, &checkpoint.metadata.name)
        else {
            continue;
        };
        if is_known(&Key::new(namespace, &checkpoint.spec.vpa_object_name)) {
            continue;
        }
        let api: Api<VerticalPodAutoscalerCheckpoint> = Api::namespaced(client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
