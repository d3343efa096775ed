//! `catalog`: the shop's products, made from their number, so that every replica gives the same answer.

use std::path::PathBuf;

use clap::Args;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::service::{
    Answer, Handler, RunError, busy, error, is_read, method_not_allowed, not_found, query_value,
};
use crate::{service, work::Workers};

/// How many products the shop has.
const PRODUCTS: u64 = 1000;
const LARGEST_PAGE: u64 = 100;
/// Without a file.
const KINDS: [&str; 8] = ["mug", "lamp", "chair", "kettle", "notebook", "blanket", "clock", "vase"];

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
    /// File with the kinds of product there are, one a line.
    #[arg(long, env = "KINDS_FILE", value_name = "FILE")]
    kinds_file: Option<PathBuf>,
}

pub(crate) struct Catalog {
    options: Options,
    kinds: Vec<String>,
    workers: Workers,
}

impl Catalog {
    /// Reads the file of kinds, if there is one.
    pub(crate) fn new(options: Options, workers: Workers) -> Result<Catalog, RunError> {
        let kinds = match &options.kinds_file {
            None => KINDS.map(str::to_owned).to_vec(),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| RunError::Config(format!("{}: {error}", file.display())))?;
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
        };
        if kinds.is_empty() {
            return Err(RunError::Config("the file of kinds has no line".to_owned()));
        }
        Ok(Catalog { options, kinds, workers })
    }

    fn product(&self, id: u64) -> Value {
        let kind = usize::try_from(id).unwrap_or(0) % self.kinds.len();
        let name = self.kinds.get(kind).map(String::as_str).unwrap_or_default();
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
