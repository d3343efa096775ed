//! `catalog`: the shop's products, made from their number, so that every replica gives the same answer.

use clap::Args;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::service::{Answer, Handler, busy, error, is_read, method_not_allowed, not_found, query_value};
use crate::{service, work::Workers};

/// How many products the shop has.
const PRODUCTS: u64 = 1000;
const LARGEST_PAGE: u64 = 100;

#[derive(Args)]
pub(crate) struct Options {
    /// Text of the greeting in a page of products.
    #[arg(long, env = "GREETING", default_value = "Welcome to the shop")]
    greeting: String,
    /// Currency of the prices.
    #[arg(long, env = "CURRENCY", default_value = "EUR")]
    currency: String,
    /// Products on a page.
    #[arg(long, env = "PAGE_SIZE", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=LARGEST_PAGE))]
    page_size: u64,
}

pub(crate) struct Catalog {
    options: Options,
    workers: Workers,
}

impl Catalog {
    pub(crate) fn new(options: Options, workers: Workers) -> Catalog {
        Catalog { options, workers }
    }

    fn product(&self, id: u64) -> Value {
        let names = ["mug", "lamp", "chair", "kettle", "notebook", "blanket", "clock", "vase"];
        let name = names[(id % names.len() as u64) as usize];
        let cents = 199 + id.wrapping_mul(7919) % 9800;
        json!({ "id": id, "name": format!("{name} {id}"), "price_cents": cents, "currency": self.options.currency })
    }

    async fn list(&self, query: Option<&str>) -> service::Reply {
        let page = match query_value(query, "page").map(str::parse::<u64>) {
            None => 0,
            Some(Ok(page)) => page,
            Some(Err(_)) => return error(StatusCode::BAD_REQUEST, "page must be a number"),
        };
        if let Err(refused) = self.workers.work().await {
            return busy(refused);
        }
        let first = page.saturating_mul(self.options.page_size).saturating_add(1);
        let last = first.saturating_add(self.options.page_size - 1).min(PRODUCTS);
        let products: Vec<Value> = (first..=last).map(|id| self.product(id)).collect();
        service::json(
            StatusCode::OK,
            &json!({ "greeting": self.options.greeting, "page": page, "total": PRODUCTS, "products": products }),
        )
    }

    async fn one(&self, id: &str) -> service::Reply {
        let Some(id) = id.parse::<u64>().ok().filter(|id| (1..=PRODUCTS).contains(id)) else {
            return error(StatusCode::NOT_FOUND, &format!("no such product: this shop has 1 to {PRODUCTS}"));
        };
        if let Err(refused) = self.workers.work().await {
            return busy(refused);
        }
        service::json(StatusCode::OK, &self.product(id))
    }
}

impl Handler for Catalog {
    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let handler = match path {
            "/products" => "/products",
            _ if path.starts_with("/products/") => "/products/{id}",
            _ => return not_found(path),
        };
        if !is_read(request.method()) {
            return method_not_allowed(handler, "GET, HEAD");
        }
        let response = match path.strip_prefix("/products/") {
            None => self.list(request.uri().query()).await,
            Some(id) => self.one(id).await,
        };
        Answer { handler, response }
    }
}
