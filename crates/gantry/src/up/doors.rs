//! The doors between engines that know nothing of one another, joined here.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use gantry_apiserver::{BoxError, Failure, NodeProxy, PodRequest, ResponseBody};
use gantry_gateway::Gateway;
use gantry_node::{BeforeStop, Node, PodRef, log_query};
use gantry_operator::{Informer, Key, Operator};
use http::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

/// After a request has been routed its connection to the pod is opened within this time.
const SETTLE: Duration = Duration::from_millis(20);

/// Before a pod's processes are told to stop: wait until the gateway sends it nothing more.
pub(super) struct DrainFirst {
    pods: Informer<Pod>,
    gateway: Gateway,
    closed: AtomicBool,
}

/// `kubectl logs`, `exec`, `attach` and `port-forward` for pods of the node in this process.
pub(super) struct PodDoor {
    node: Node,
}

// === impl DrainFirst ===

impl DrainFirst {
    pub(super) fn new(operator: &Operator, gateway: Gateway) -> DrainFirst {
        DrainFirst { pods: operator.informer(), gateway, closed: AtomicBool::new(false) }
    }

    /// The gateway has ended: there is nothing to wait for any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Every address the gateway may know the pod by.
    fn targets(&self, pod: &PodRef) -> Vec<SocketAddr> {
        let Some(pod) = self.pods.get(&Key::new(&pod.namespace, &pod.name)) else { return Vec::new() };
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        let Some(ip) = ip.and_then(|ip| ip.parse::<IpAddr>().ok()) else { return Vec::new() };
        let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
        ports.filter_map(|port| Some(SocketAddr::new(ip, u16::try_from(port.container_port).ok()?))).collect()
    }
}

#[async_trait]
impl BeforeStop for DrainFirst {
    async fn before_stop(&self, pod: &PodRef) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let targets = self.targets(pod);
        let served = targets.iter().any(|target| self.gateway.serves_target(*target));
        for target in targets {
            self.gateway.drained(target).await;
        }
        if served {
            // Clients that came through a Service address of another node's gateway get a moment as well.
            tokio::time::sleep(SETTLE).await;
        }
    }
}

// === impl PodDoor ===

impl PodDoor {
    pub(super) fn new(node: Node) -> PodDoor {
        PodDoor { node }
    }

    fn log(&self, target: &PodRequest, query: &str) -> Result<Response<ResponseBody>, gantry_node::LogError> {
        let (container, options) = log_query(query, Timestamp::now())?;
        let stream = self.node.logs(&target.namespace, &target.pod, container.as_deref(), options)?;
        Ok(gantry_apiserver::stream_response("text/plain", stream.map_err(BoxError::from)))
    }
}

#[async_trait]
impl NodeProxy for PodDoor {
    async fn pod(&self, target: PodRequest, request: Request<Bytes>) -> Response<ResponseBody> {
        let (namespace, pod) = (&target.namespace, &target.pod);
        let switched = match target.subresource.as_str() {
            "log" => {
                return match self.log(&target, request.uri().query().unwrap_or_default()) {
                    Ok(response) => response,
                    Err(error) => refuse(error.status(), &error.to_string()),
                };
            }
            "exec" => self.node.exec_stream(namespace, pod, request).await,
            "attach" => self.node.attach_stream(namespace, pod, request).await,
            "portforward" => self.node.forward_stream(namespace, pod, request).await,
            other => return refuse(501, &format!("{other} of pods is not served; use port-forward")),
        };
        match switched {
            Ok(response) => response.map(|()| gantry_apiserver::full(Bytes::new())),
            Err(error) => refuse(error.status(), &error.to_string()),
        }
    }

    async fn node(&self, node: &str, path: &str, _request: Request<Bytes>) -> Response<ResponseBody> {
        match path.trim_matches('/') {
            "metrics/resource" if node == self.node.name() => {
                let text = gantry_prom_model::encode_text(&self.node.resource_metrics());
                let mut response = Response::new(gantry_apiserver::full(text));
                let media_type = http::HeaderValue::from_static("text/plain; version=0.0.4");
                response.headers_mut().insert(http::header::CONTENT_TYPE, media_type);
                response
            }
            other => refuse(404, &format!("the node serves /metrics/resource, not /{other}")),
        }
    }
}

fn refuse(code: u16, message: &str) -> Response<ResponseBody> {
    let reason = if code == 404 { "NotFound" } else { "" };
    gantry_apiserver::failure_response(&Failure { code, reason, message: message.to_owned(), details: None })
}

/// The families of what counts for itself, for a scrape that never leaves the process.
pub(super) struct NodeUsage(pub Node);

impl gantry_prom_model::Gather for NodeUsage {
    fn gather(&self) -> Vec<gantry_prom_model::MetricFamily> {
        self.0.resource_metrics()
    }
}
