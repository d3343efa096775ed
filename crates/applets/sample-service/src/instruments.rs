//! What both services count, under the names that most instrumented HTTP services use.

use std::time::Duration;

use gantry_prom_model::{CounterVec, DEFAULT_BUCKETS, Gauge, HistogramVec, Registry};
use http::{Method, StatusCode};

pub(crate) struct Instruments {
    registry: Registry,
    requests: CounterVec<3>,
    duration: HistogramVec<2>,
    in_flight: Gauge,
}

/// One request more is in flight until this is dropped.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Instruments {
    pub(crate) fn new() -> Instruments {
        let registry = Registry::new();
        Instruments {
            requests: registry.counter_vec(
                "http_requests_total",
                "Requests answered, by method, handler and status code.",
                ["method", "handler", "code"],
            ),
            duration: registry.histogram_vec(
                "http_request_duration_seconds",
                "Time from a request's head to its answer.",
                ["method", "handler"],
                &DEFAULT_BUCKETS,
            ),
            in_flight: registry.gauge("http_requests_in_flight", "Requests that are being answered."),
            registry,
        }
    }

    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub(crate) fn end(&self, method: &Method, handler: &str, status: StatusCode, took: Duration) {
        // Methods are the client's words; only the registered ones may become label values.
        let method = match *method {
            Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
                method.as_str()
            }
            _ => "other",
        };
        self.requests.with([method, handler, status.as_str()]).inc();
        self.duration.with([method, handler]).observe(took.as_secs_f64());
    }

    pub(crate) fn exposition(&self) -> String {
        self.registry.encode()
    }
}
