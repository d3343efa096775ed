//! HTTP scale-from-zero: a request that waits at a Service without pods starts the first one.

use std::collections::BTreeMap;

use gantry_gateway::Activator;
use gantry_ingress::AddressTable;
use gantry_operator::{EventType, Informer, Key, Operator, Recorder};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

/// Upstreams that wait to be looked at; the gateway asks again with the next request.
const WAITING: usize = 256;

/// The gateway's side: only passes on who waits.
pub(super) struct Waker {
    waiting: mpsc::Sender<String>,
}

/// The cluster's side: finds the Deployment behind a Service and gives it its first replica.
pub(super) struct Wakening {
    waiting: mpsc::Receiver<String>,
    client: Client,
    services: Informer<Service>,
    deployments: Informer<Deployment>,
    recorder: Recorder,
}

impl Waker {
    /// Both sides. Must be made before the operator runs, since informers are registered.
    pub(super) fn pair(operator: &Operator) -> (Waker, Wakening) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let wakening = Wakening {
            waiting: receiver,
            client: operator.client().clone(),
            services: operator.informer(),
            deployments: operator.informer(),
            recorder: operator.recorder("gantry-gateway"),
        };
        (Waker { waiting: sender }, wakening)
    }
}

impl Activator for Waker {
    fn activate(&self, upstream: &str) {
        // Full means that enough of it is under way; the next request asks again.
        let _ = self.waiting.try_send(upstream.to_owned());
    }
}

impl Wakening {
    /// Until the gateway is gone. `services` knows what is behind an upstream.
    pub(super) async fn run(mut self, services: AddressTable) {
        while let Some(upstream) = self.waiting.recv().await {
            for service in services.services_behind(&upstream) {
                self.wake(&service).await;
            }
        }
    }

    async fn wake(&self, service: &Key) {
        let Some(deployment) = self.sleeping(service) else { return };
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": 1}}));
        let name = deployment.name_any();
        match api.patch_scale(&name, &PatchParams::default(), &patch).await {
            Ok(_) => {
                let note = format!("Scaled from 0 to 1: a request waits at Service {}", service.name());
                self.recorder.event(deployment.as_ref(), EventType::Normal, "ScaledFromZero", note);
            }
            Err(error) => tracing::warn!(deployment = name, %error, "cannot scale from zero"),
        }
    }

    /// The Deployment that the Service selects, if it wants no replica.
    fn sleeping(&self, service: &Key) -> Option<std::sync::Arc<Deployment>> {
        let service = self.services.get(service)?;
        let selector = service.spec.as_ref()?.selector.as_ref().filter(|selector| !selector.is_empty())?;
        let deployments = self.deployments.list_in(&service.namespace()?);
        deployments.into_iter().find(|deployment| {
            let spec = deployment.spec.as_ref();
            let labels = spec.and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
            spec.and_then(|spec| spec.replicas) == Some(0)
                && labels.is_some_and(|labels| matches(selector, labels))
        })
    }
}

fn matches(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
