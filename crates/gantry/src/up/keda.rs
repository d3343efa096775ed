//! Event sources in `up`: KEDA's kinds are there from the start, sources push or are polled once a second, and the
//! autoscaler asks for their metrics in process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_apiserver::{AggregatedApi, Resource, ResponseBody, Verbs};
use gantry_autoscaler::keda::{ExternalMetricsApi, Keda, KedaConfig, KeyspaceEvents, Reach};
use gantry_autoscaler::{Decisions, ExternalMetrics};
use gantry_node::{Forwards, PodNetworks};
use gantry_operator::Operator;
use http::{Method, Request, Response};

use super::metrics::Metrics;

/// Upstream polls every 30 seconds unless told otherwise; here someone watches.
const POLLING: Duration = Duration::from_secs(1);

/// Both controllers; must be made before the operator runs. `metrics_at` is where this process' metric store listens;
/// `networks` are the pods', where they have their own.
pub(super) fn controllers(
    operator: &Operator,
    metrics: Metrics,
    metrics_at: SocketAddr,
    networks: Option<PodNetworks>,
    decisions: Decisions,
) -> Keda {
    let config = KedaConfig {
        slowest_polling: Some(POLLING),
        reading_patience: POLLING,
        keyspace_events: KeyspaceEvents::Enable,
        own_addresses: vec![
            format!("http://{metrics_at}"),
            format!("http://localhost:{}", metrics_at.port()),
        ],
        resolves_services: true,
        reach: networks.map(|networks| Arc::new(Through(Forwards::new(networks))) as _),
        ..KedaConfig::default()
    };
    Keda::new(config, operator, Some(Arc::new(metrics)), decisions)
}

/// Sources in pods are asked through ports of this machine: their clients take no connections.
struct Through(Forwards);

impl Reach for Through {
    fn reach(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.0.to(address)
    }
}

/// external.metrics.k8s.io for `kubectl get --raw` and for whoever else asks.
pub(super) fn served(external: Arc<dyn ExternalMetrics>, operator: &Operator) -> Arc<dyn AggregatedApi> {
    Arc::new(ServedExternalMetrics(ExternalMetricsApi::new(external, operator.clock().clone())))
}

struct ServedExternalMetrics(ExternalMetricsApi);

#[async_trait]
impl AggregatedApi for ServedExternalMetrics {
    fn resources(&self) -> Vec<Arc<Resource>> {
        let (plural, kind) = ExternalMetricsApi::RESOURCE;
        vec![Arc::new(Resource {
            group: ExternalMetricsApi::GROUP.into(),
            version: ExternalMetricsApi::VERSION.into(),
            plural: plural.into(),
            singular: "".into(),
            kind: kind.into(),
            list_kind: kind.into(),
            namespaced: true,
            verbs: Verbs::default().and(&["get"]),
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
            collection: "".into(),
            stored_version: "".into(),
            custom: None,
        })]
    }

    async fn handle(&self, request: Request<Bytes>) -> Response<ResponseBody> {
        if request.method() != Method::GET {
            let failure = gantry_apiserver::Failure {
                code: 405,
                reason: "MethodNotAllowed",
                message: "external metrics are read with GET".into(),
                details: None,
            };
            return gantry_apiserver::failure_response(&failure);
        }
        let prefix = format!("/apis/{}/{}", ExternalMetricsApi::GROUP, ExternalMetricsApi::VERSION);
        let uri = request.uri();
        let path = uri.path().strip_prefix(&prefix).unwrap_or_default();
        let answer = self.0.get(path, uri.query().unwrap_or_default()).await;
        gantry_apiserver::json_bytes(answer.status, answer.body.to_string())
    }
}
