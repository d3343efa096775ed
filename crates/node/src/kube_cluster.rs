//! The worker's door to the API server, over the operator's shared informers.

use std::sync::Arc;

use async_trait::async_trait;
use gantry_operator::{EventType, Informer, Key, Operator, Recorder};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Secret, Service, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use crate::cluster::{Cluster, ClusterError, Severity};
use crate::env::References;
use crate::runtime::PodRef;

pub(crate) struct KubeCluster {
    client: Client,
    config_maps: Informer<ConfigMap>,
    secrets: Informer<Secret>,
    services: Informer<Service>,
    recorder: Recorder,
}

impl KubeCluster {
    /// Registers the informers it reads, so it must be made before the operator runs.
    pub(crate) fn new(operator: &Operator) -> KubeCluster {
        KubeCluster {
            client: operator.client().clone(),
            config_maps: operator.informer(),
            secrets: operator.informer(),
            services: operator.informer(),
            recorder: operator.recorder("kubelet"),
        }
    }

    fn pods(&self, pod: &PodRef) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace)
    }

    /// A conflict means that the name now belongs to another pod, or that the server was too busy to merge.
    async fn explain(&self, pod: &PodRef, doing: &str, error: kube::Error) -> ClusterError {
        let failed = |reason: String| ClusterError::Failed { doing: format!("{doing} {pod}"), reason };
        match &error {
            kube::Error::Api(status) if status.code == 404 => ClusterError::Gone(format!("pod {pod}")),
            kube::Error::Api(status) if status.code == 409 => match self.pods(pod).get_opt(&pod.name).await {
                Ok(Some(now)) if now.metadata.uid.as_deref() == Some(&pod.uid) => failed(error.to_string()),
                Ok(_) => ClusterError::Gone(format!("pod {pod}")),
                Err(error) => failed(error.to_string()),
            },
            _ => failed(error.to_string()),
        }
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn references(
        &self,
        namespace: &str,
        config_maps: &[String],
        secrets: &[String],
    ) -> Result<References, ClusterError> {
        let failed = |what: &str, name: &str, error: kube::Error| ClusterError::Failed {
            doing: format!("read {what} {namespace}/{name}"),
            reason: error.to_string(),
        };
        let mut found = References::default();
        for name in config_maps {
            // A watch may lag behind the pod that was made right after the ConfigMap, so absence is asked again.
            let object = match self.config_maps.get(&Key::new(namespace, name)) {
                Some(known) => Some((*known).clone()),
                None => {
                    let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                    api.get_opt(name).await.map_err(|e| failed("configmap", name, e))?
                }
            };
            found.config_maps.extend(object.map(|o| (name.clone(), o)));
        }
        for name in secrets {
            let object = match self.secrets.get(&Key::new(namespace, name)) {
                Some(known) => Some((*known).clone()),
                None => {
                    let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                    api.get_opt(name).await.map_err(|e| failed("secret", name, e))?
                }
            };
            found.secrets.extend(object.map(|o| (name.clone(), o)));
        }
        Ok(found)
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        let mut services = self.services.list_in(namespace);
        services.extend(self.services.get(&Key::new("default", "kubernetes")));
        services
    }

    async fn automounts(&self, namespace: &str, account: &str) -> Result<bool, ClusterError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let found = accounts.get(account).await.map_err(|error| ClusterError::Failed {
            doing: format!("read service account {namespace}/{account}"),
            reason: error.to_string(),
        })?;
        Ok(found.automount_service_account_token != Some(false))
    }

    async fn token(&self, pod: &PodRef, account: &str, seconds: i64) -> Result<String, ClusterError> {
        let failed = |reason: String| ClusterError::Failed {
            doing: format!("get a token of service account {}/{account}", pod.namespace),
            reason,
        };
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: None,
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(pod.name.clone()),
                    uid: Some(pod.uid.clone()),
                }),
                expiration_seconds: Some(seconds),
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &pod.namespace);
        let issued = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let issued = issued.map_err(|error| failed(error.to_string()))?;
        issued.status.and_then(|status| status.token).ok_or_else(|| failed("the answer has none".into()))
    }

    async fn write_status(&self, pod: &PodRef, status: serde_json::Value) -> Result<(), ClusterError> {
        let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid}, "status": status}));
        match self.pods(pod).patch_status(&pod.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(pod, "write the status of pod", error).await),
        }
    }

    async fn remove(&self, pod: &PodRef) -> Result<(), ClusterError> {
        let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match self.pods(pod).delete(&pod.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(pod, "remove pod", error).await),
        }
    }

    fn event(
        &self,
        pod: &PodRef,
        container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        let regarding = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            field_path: container.map(|name| format!("spec.containers{{{name}}}")),
            resource_version: None,
        };
        let kind = match severity {
            Severity::Normal => EventType::Normal,
            Severity::Warning => EventType::Warning,
        };
        self.recorder.event_about(regarding, kind, reason, message);
    }
}
