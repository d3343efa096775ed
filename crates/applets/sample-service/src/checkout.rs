//! `checkout`: turns a product and a quantity into an order; the price comes from `catalog`, asked anew each time.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde_json::json;

use crate::service::{
    self, Answer, Handler, RunError, busy, error, is_read, method_not_allowed, not_found, query_value,
};
use crate::work::Workers;

const MOST_BODY_BYTES: usize = 64 * 1024;
const CATALOG_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Options {
    /// Base URL of catalog; without it, the Service variables below make one.
    #[arg(long, env = "CATALOG_URL")]
    catalog_url: Option<String>,
    /// Set in every pod of the namespace by the Service `catalog`.
    #[arg(long, env = "CATALOG_SERVICE_HOST")]
    catalog_service_host: Option<String>,
    #[arg(long, env = "CATALOG_SERVICE_PORT", default_value_t = 80)]
    catalog_service_port: u16,
}

pub(crate) struct Checkout {
    client: Client<HttpConnector, Full<Bytes>>,
    catalog: String,
    workers: Workers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    #[serde(default = "one")]
    product: u64,
    #[serde(default = "one")]
    quantity: u64,
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
struct Product {
    name: String,
    price_cents: u64,
    currency: String,
}

impl Checkout {
    pub(crate) fn new(options: Options, workers: Workers) -> Result<Checkout, RunError> {
        let catalog = match (options.catalog_url, options.catalog_service_host) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(host)) if host.contains(':') => {
                format!("http://[{host}]:{}", options.catalog_service_port)
            }
            (None, Some(host)) => format!("http://{host}:{}", options.catalog_service_port),
            (None, None) => {
                return Err(RunError::Config(
                    "where is catalog: set CATALOG_URL, or CATALOG_SERVICE_HOST and CATALOG_SERVICE_PORT"
                        .to_owned(),
                ));
            }
        };
        let usable =
            catalog.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        if !usable {
            return Err(RunError::Config(format!("not an http:// URL: {catalog:?}")));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(3)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(64)
            .build(connector);
        Ok(Checkout { client, catalog, workers })
    }

    async fn order(&self, request: Request<Incoming>) -> service::Reply {
        let order = match read_order(request).await {
            Ok(order) => order,
            Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
        };
        let product = match tokio::time::timeout(CATALOG_TIMEOUT, self.product(order.product)).await {
            Ok(Ok(product)) => product,
            Ok(Err(refusal)) => return refusal.into_reply(),
            Err(_) => return error(StatusCode::GATEWAY_TIMEOUT, "catalog did not answer in 10 s"),
        };
        if let Err(refused) = self.workers.work().await {
            return busy(refused);
        }
        service::json(
            StatusCode::OK,
            &json!({
                "product": order.product,
                "name": product.name,
                "quantity": order.quantity,
                "total_cents": product.price_cents.saturating_mul(order.quantity),
                "currency": product.currency,
            }),
        )
    }

    async fn product(&self, id: u64) -> Result<Product, Refusal> {
        let uri = format!("{}/products/{id}", self.catalog);
        let uri = uri.parse::<Uri>().map_err(|error| Refusal::Catalog(error.to_string()))?;
        let response = self.client.get(uri).await.map_err(|error| Refusal::Catalog(chain(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BODY_BYTES).collect().await;
        let body = body.map_err(|error| Refusal::Catalog(error.to_string()))?.to_bytes();
        match status {
            StatusCode::OK => {
                serde_json::from_slice(&body).map_err(|error| Refusal::Catalog(error.to_string()))
            }
            StatusCode::NOT_FOUND => Err(Refusal::NoSuchProduct(id)),
            other => Err(Refusal::Catalog(format!("answered {other}"))),
        }
    }
}

enum Refusal {
    NoSuchProduct(u64),
    Catalog(String),
}

impl Refusal {
    fn into_reply(self) -> service::Reply {
        match self {
            Refusal::NoSuchProduct(id) => {
                error(StatusCode::NOT_FOUND, &format!("catalog has no product {id}"))
            }
            Refusal::Catalog(reason) => error(StatusCode::BAD_GATEWAY, &format!("catalog: {reason}")),
        }
    }
}

impl Handler for Checkout {
    async fn handle(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() != "/checkout" {
            return not_found(request.uri().path());
        }
        let handler = "/checkout";
        if !is_read(request.method()) && request.method() != Method::POST {
            return method_not_allowed(handler, "GET, HEAD, POST");
        }
        Answer { handler, response: self.order(request).await }
    }
}

async fn read_order(request: Request<Incoming>) -> Result<Order, String> {
    if request.method() != Method::POST {
        let number = |name: &str| match query_value(request.uri().query(), name) {
            None => Ok(1),
            Some(text) => text.parse::<u64>().map_err(|_| format!("{name} must be a number")),
        };
        return Ok(Order { product: number("product")?, quantity: number("quantity")? });
    }
    let body = Limited::new(request.into_body(), MOST_BODY_BYTES).collect().await;
    let body = body.map_err(|error| format!("cannot read the order: {error}"))?.to_bytes();
    if body.is_empty() {
        return Ok(Order { product: 1, quantity: 1 });
    }
    serde_json::from_slice(&body).map_err(|error| format!("not an order: {error}"))
}

/// An error and its causes in one line; hyper's own text alone does not name the cause.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
