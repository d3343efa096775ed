//! What the gateway counts, under Kong's names and with Kong's buckets.

use gantry_prom_model::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, Registry};
use parking_lot::Mutex;
use std::sync::Arc;

const KONG_LATENCY_BUCKETS_MS: [f64; 15] =
    [1.0, 2.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0, 200.0, 500.0, 750.0, 1_000.0];
const UPSTREAM_LATENCY_BUCKETS_MS: [f64; 13] =
    [25.0, 50.0, 80.0, 100.0, 250.0, 400.0, 700.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0];
const WORKSPACE: &str = "default";

/// Who made the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Service,
    Kong,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Source::Service => "service",
            Source::Kong => "kong",
        }
    }
}

/// All families.
pub(crate) struct Metrics {
    requests: CounterVec<6>,
    request_latency: HistogramVec<3>,
    upstream_latency: HistogramVec<3>,
    kong_latency: HistogramVec<3>,
    bandwidth: CounterVec<5>,
    target_health: GaugeVec<5>,
    in_flight: GaugeVec<1>,
    pending: GaugeVec<1>,
    pub(crate) connections: Gauge,
    pub(crate) total_requests: Counter,
    pub(crate) refused_heads: CounterVec<1>,
    pub(crate) retries: Counter,
    pub(crate) generation: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Metrics {
        let scope = ["service", "route", "workspace"];
        Metrics {
            requests: registry.counter_vec(
                "kong_http_requests_total",
                "HTTP status codes per consumer/service/route in Kong",
                ["service", "route", "code", "source", "workspace", "consumer"],
            ),
            request_latency: registry.histogram_vec(
                "kong_request_latency_ms",
                "Total latency incurred during requests for each service/route in Kong",
                scope,
                &UPSTREAM_LATENCY_BUCKETS_MS,
            ),
            upstream_latency: registry.histogram_vec(
                "kong_upstream_latency_ms",
                "Latency added by upstream response for each service/route in Kong",
                scope,
                &UPSTREAM_LATENCY_BUCKETS_MS,
            ),
            kong_latency: registry.histogram_vec(
                "kong_kong_latency_ms",
                "Latency added by Kong and enabled plugins for each service/route in Kong",
                scope,
                &KONG_LATENCY_BUCKETS_MS,
            ),
            bandwidth: registry.counter_vec(
                "kong_bandwidth_bytes",
                "Total bandwidth (ingress/egress) throughput in bytes",
                ["service", "route", "direction", "workspace", "consumer"],
            ),
            target_health: registry.gauge_vec(
                "kong_upstream_target_health",
                "Health status of targets of upstream. States = healthchecks_off|healthy|unhealthy|dns_error, value is 1 when state is populated.",
                ["upstream", "target", "address", "state", "subsystem"],
            ),
            in_flight: registry.gauge_vec(
                "gantry_gateway_upstream_requests_in_flight",
                "Requests at the targets of an upstream",
                ["upstream"],
            ),
            pending: registry.gauge_vec(
                "gantry_gateway_upstream_requests_pending",
                "Requests that wait for the first ready target of an upstream",
                ["upstream"],
            ),
            connections: registry.gauge("kong_nginx_connections_active", "Open client connections"),
            total_requests: registry.counter("kong_nginx_requests_total", "Requests received, refused ones included"),
            refused_heads: registry.counter_vec(
                "gantry_gateway_refused_heads_total",
                "Request heads refused before routing, by status",
                ["code"],
            ),
            retries: registry.counter(
                "gantry_gateway_upstream_retries_total",
                "Attempts after the first one of a request",
            ),
            generation: registry.gauge(
                "gantry_gateway_configuration_generation",
                "Number of the configuration in effect",
            ),
        }
    }

    pub(crate) fn scope(&self, service: &str, route: &str) -> Arc<ScopeMetrics> {
        let labels = [service, route, WORKSPACE];
        Arc::new(ScopeMetrics {
            service: service.to_owned(),
            route: route.to_owned(),
            request_latency: self.request_latency.with(labels),
            upstream_latency: self.upstream_latency.with(labels),
            kong_latency: self.kong_latency.with(labels),
            ingress: self.bandwidth.with([service, route, "ingress", WORKSPACE, ""]),
            egress: self.bandwidth.with([service, route, "egress", WORKSPACE, ""]),
            codes: Mutex::new(Vec::new()),
            requests: self.requests.clone(),
        })
    }

    pub(crate) fn upstream(&self, name: &str) -> UpstreamMetrics {
        UpstreamMetrics { in_flight: self.in_flight.with([name]), pending: self.pending.with([name]) }
    }

    pub(crate) fn forget_upstream(&self, name: &str) {
        self.in_flight.remove([name]);
        self.pending.remove([name]);
    }

    pub(crate) fn reset_health(&self) {
        self.target_health.reset();
    }

    pub(crate) fn set_health(&self, upstream: &str, target: &str, address: &str, state: &str) {
        self.target_health.with([upstream, target, address, state, "http"]).set(1.0);
    }
}

/// Gauges of one upstream.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamMetrics {
    pub(crate) in_flight: Gauge,
    pub(crate) pending: Gauge,
}

impl UpstreamMetrics {
    #[cfg(test)]
    pub(crate) fn detached() -> UpstreamMetrics {
        UpstreamMetrics { in_flight: Gauge::new(), pending: Gauge::new() }
    }
}

/// One exchange, measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured<'a> {
    pub(crate) status: u16,
    pub(crate) source: Source,
    pub(crate) request_ms: f64,
    pub(crate) upstream_ms: Option<f64>,
    pub(crate) ingress_bytes: u64,
    pub(crate) egress_bytes: u64,
    /// Whom the request is counted for, where it is counted by consumer.
    pub(crate) consumer: Option<&'a str>,
}

/// The instruments of one service and route, looked up once per configuration.
pub(crate) struct ScopeMetrics {
    service: String,
    route: String,
    request_latency: Histogram,
    upstream_latency: Histogram,
    kong_latency: Histogram,
    ingress: Counter,
    egress: Counter,
    codes: Mutex<Vec<(u16, Source, Counter)>>,
    requests: CounterVec<6>,
}

impl ScopeMetrics {
    pub(crate) fn record(&self, measured: &Measured<'_>) {
        self.request_latency.observe(measured.request_ms);
        if let Some(upstream_ms) = measured.upstream_ms {
            self.upstream_latency.observe(upstream_ms);
        }
        self.kong_latency.observe((measured.request_ms - measured.upstream_ms.unwrap_or(0.0)).max(0.0));
        self.ingress.inc_by(measured.ingress_bytes);
        self.egress.inc_by(measured.egress_bytes);
        if let Some(consumer) = measured.consumer {
            let code = measured.status.to_string();
            let labels =
                [&self.service, &self.route, code.as_str(), measured.source.as_str(), WORKSPACE, consumer];
            self.requests.with(labels).inc();
            return;
        }
        let mut codes = self.codes.lock();
        let known =
            codes.iter().find(|(code, source, _)| *code == measured.status && *source == measured.source);
        if let Some((_, _, counter)) = known {
            counter.inc();
            return;
        }
        let code = measured.status.to_string();
        let labels = [&self.service, &self.route, code.as_str(), measured.source.as_str(), WORKSPACE, ""];
        let counter = self.requests.with(labels);
        counter.inc();
        codes.push((measured.status, measured.source, counter));
    }
}
