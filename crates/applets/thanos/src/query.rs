//! `query`: PromQL over many stores at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::{ArgMatches, Command};
use gantry_applet_prometheus::{ApiParts, Doors, Parameters, PrometheusApi, StorageFor};
use gantry_bucket::dedup::Algorithm;
use gantry_bucket::storeapi::{PartialResponse, StoreApi};
use gantry_bucket::{Endpoint, FanOut, FanOutOptions, GrpcStore, GrpcStoreOptions, Proxy};
use gantry_clock::{Clock, SystemClock, parse_prometheus_duration};
use gantry_prom_model::{Labels, Queryable, Registry};
use gantry_promql::{Engine, EngineOptions};
use http::header::CONTENT_TYPE;
use serde_json::{Value as Json, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::flags::{self, GRPC, HTTP, LOG, Value, with_switches, with_values};
use crate::serving::Sockets;
use crate::store::milliseconds;

const VALUES: [Value; 9] = [
    ("endpoint", "", "A store: host:port of its StoreAPI; may be given several times"),
    ("endpoint-strict", "", "A store that is missed, and warned about, when it does not answer"),
    ("store", "", "The older name of --endpoint"),
    ("query.replica-label", "", "A label that tells replicas apart; may be given several times"),
    ("deduplication.func", "penalty", "How replicas become one series: penalty or chain"),
    ("query.timeout", "2m", "A query that takes longer is ended"),
    ("query.max-concurrent", "20", "Queries that run at the same time; others wait"),
    ("query.lookback-delta", "5m", "How old a sample may be and still count as the current one"),
    (
        "store.response-timeout",
        "0ms",
        "A store that sends nothing for this long has failed; 0 waits for ever",
    ),
];

const SWITCHES: [(&str, &str); 3] = [
    ("query.partial-response", "Answer without the stores that fail, with a warning (the default)"),
    ("no-query.partial-response", "Do not answer when a store fails"),
    ("query.auto-downsampling", "Take coarser samples where the step allows it"),
];

/// How often stores are asked what they have.
const POLL_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn command() -> Command {
    let command = Command::new("query").about("Answer PromQL from many stores at once");
    let command = with_values(with_values(with_values(command, &LOG), &[GRPC, HTTP]), &VALUES);
    with_switches(command, &SWITCHES)
}

/// How a [`QueryApi`] answers where a request does not say otherwise.
#[derive(Debug, Clone)]
pub struct QuerySettings {
    /// Labels that tell replicas apart.
    pub replica_labels: Vec<String>,
    /// How they become one series.
    pub algorithm: Algorithm,
    /// What happens when a store fails.
    pub partial: PartialResponse,
    /// Whether coarser samples are taken where the step allows it.
    pub auto_downsampling: bool,
    /// How queries are evaluated.
    pub engine: EngineOptions,
    /// Queries that run at the same time.
    pub max_concurrency: usize,
    /// Shown by `status/flags`.
    pub flags: BTreeMap<String, String>,
}

impl Default for QuerySettings {
    fn default() -> QuerySettings {
        QuerySettings {
            replica_labels: Vec::new(),
            algorithm: Algorithm::default(),
            partial: PartialResponse::default(),
            auto_downsampling: false,
            engine: EngineOptions::default(),
            max_concurrency: 20,
            flags: BTreeMap::new(),
        }
    }
}

/// PromQL's HTTP API over many stores.
#[derive(Clone)]
pub struct QueryApi {
    api: PrometheusApi,
    proxy: Arc<Proxy>,
}

/// The API over the stores of `proxy`.
pub fn query_api(
    proxy: Arc<Proxy>,
    settings: QuerySettings,
    clock: Arc<dyn Clock>,
    registry: Registry,
) -> QueryApi {
    let default = FanOutOptions {
        replica_labels: settings.replica_labels.clone(),
        dedup: true,
        algorithm: settings.algorithm,
        partial: settings.partial,
        max_resolution_ms: 0,
    };
    let store: Arc<dyn StoreApi> = proxy.clone();
    let storage: Arc<dyn Queryable> = Arc::new(FanOut::new(store.clone(), default.clone()));
    let storage_for = storage_for(store, default, settings.auto_downsampling);
    let api = PrometheusApi::new(ApiParts {
        storage,
        storage_for: Some(storage_for),
        engine: Engine::new(settings.engine),
        scraping: None,
        rules: None,
        notifier: None,
        db: None,
        clock,
        registry,
        max_concurrency: settings.max_concurrency,
        flags: settings.flags,
        reload: None,
        quit: None,
        doors: Doors::default(),
    });
    QueryApi { api, proxy }
}

/// Reads `store` as a request's parameters say: `dedup`, `replicaLabels[]`, `partial_response`,
/// `max_source_resolution`; and as `default` where it says nothing.
pub fn storage_for(store: Arc<dyn StoreApi>, default: FanOutOptions, auto_downsampling: bool) -> StorageFor {
    Arc::new(move |params| {
        let options = request_options(params, &default, auto_downsampling)?;
        Ok(Arc::new(FanOut::new(store.clone(), options)) as Arc<dyn Queryable>)
    })
}

fn switch(params: &Parameters<'_>, name: &str, default: bool) -> Result<bool, String> {
    match params(name).first().map(String::as_str) {
        None | Some("") => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("'{name}' parameter must be true or false, it is {other:?}")),
    }
}

/// What a request's parameters change.
fn request_options(
    params: &Parameters<'_>,
    default: &FanOutOptions,
    auto_downsampling: bool,
) -> Result<FanOutOptions, String> {
    let mut options = default.clone();
    options.dedup = switch(params, "dedup", default.dedup)?;
    let partial = switch(params, "partial_response", default.partial == PartialResponse::Warn)?;
    options.partial = if partial { PartialResponse::Warn } else { PartialResponse::Abort };
    let replicas: Vec<String> =
        params("replicaLabels[]").into_iter().filter(|label| !label.is_empty()).collect();
    if !replicas.is_empty() {
        options.replica_labels = replicas;
    }
    options.max_resolution_ms = match params("max_source_resolution").first().map(String::as_str) {
        Some("auto") => step_ms(params) / 5,
        None | Some("") if auto_downsampling => step_ms(params) / 5,
        None | Some("" | "0" | "0s") => 0,
        Some(text) => parse_prometheus_duration(text)
            .ok()
            .or_else(|| text.parse::<f64>().ok().map(|seconds| (seconds * 1000.0) as i64))
            .filter(|ms| *ms >= 0)
            .ok_or_else(|| format!("'max_source_resolution' parameter {text:?} is not a duration"))?,
    };
    Ok(options)
}

fn step_ms(params: &Parameters<'_>) -> i64 {
    let Some(step) = params("step").into_iter().next() else { return 0 };
    let seconds = step.parse::<f64>().ok().map(|seconds| (seconds * 1000.0) as i64);
    seconds.or_else(|| parse_prometheus_duration(&step).ok()).unwrap_or(0).max(0)
}

impl QueryApi {
    /// The API: Prometheus' own routes, and `/api/v1/stores`.
    pub fn router(&self) -> Router {
        self.api.set_ready(true);
        let stores = Router::new().route("/api/v1/stores", get(stores)).with_state(self.proxy.clone());
        stores.merge(self.api.router())
    }
}

fn store_json(endpoint: &Endpoint) -> (String, Json) {
    let info = endpoint.store.info();
    let component = info.as_ref().map_or_else(|| "unknown".to_owned(), |info| info.component.clone());
    let label_set = |labels: &Labels| {
        let pairs = labels.iter().map(|(name, value)| (name.to_owned(), Json::from(value)));
        Json::Object(pairs.collect())
    };
    let described = json!({
        "name": endpoint.store.name(),
        "lastCheck": null,
        "lastError": if info.is_some() { Json::Null } else { "it does not say what it has".into() },
        "labelSets": info.iter().flat_map(|info| &info.label_sets).map(label_set).collect::<Vec<_>>(),
        "minTime": info.as_ref().map_or(0, |info| info.min_ms),
        "maxTime": info.as_ref().map_or(0, |info| info.max_ms),
    });
    (component, described)
}

async fn stores(State(proxy): State<Arc<Proxy>>) -> Response {
    let mut by_component: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for endpoint in proxy.endpoints().iter() {
        let (component, described) = store_json(endpoint);
        by_component.entry(component).or_default().push(described);
    }
    let body = json!({"status": "success", "data": by_component}).to_string();
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Asks the stores what they have, again and again, until `stop`.
async fn keep_polling(stores: Vec<Arc<GrpcStore>>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    loop {
        let mut polls = tokio::task::JoinSet::new();
        for store in stores.clone() {
            let now_ms = clock.now_ms();
            polls.spawn(async move { store.poll(now_ms).await });
        }
        while polls.join_next().await.is_some() {}
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_EVERY) => {}
        }
    }
}

fn all_flags(matches: &ArgMatches) -> BTreeMap<String, String> {
    VALUES.iter().map(|(name, _, _)| ((*name).to_owned(), flags::values(matches, name).join(","))).collect()
}

pub(crate) async fn run(matches: &ArgMatches, stop: CancellationToken) -> Result<(), String> {
    let response_timeout = match flags::duration_of(&flags::value(matches, "store.response-timeout")) {
        Ok(0) => None,
        Ok(ms) => Some(milliseconds(ms)),
        Err(reason) => return Err(format!("--store.response-timeout: {reason}")),
    };
    let grpc = GrpcStoreOptions { response_timeout, ..GrpcStoreOptions::default() };
    let mut stores = Vec::new();
    let mut endpoints = Vec::new();
    for (flag, strict) in [("endpoint", false), ("store", false), ("endpoint-strict", true)] {
        for address in flags::values(matches, flag) {
            let store = GrpcStore::new(&address, Handle::current(), grpc)
                .map_err(|reason| format!("--{flag}: {reason}"))?;
            stores.push(store.clone());
            endpoints.push(Endpoint { store, strict });
        }
    }
    let settings = QuerySettings {
        replica_labels: flags::values(matches, "query.replica-label"),
        algorithm: flags::value(matches, "deduplication.func")
            .parse()
            .map_err(|reason| format!("--deduplication.func: {reason}"))?,
        partial: if matches.get_flag("no-query.partial-response") {
            PartialResponse::Abort
        } else {
            PartialResponse::Warn
        },
        auto_downsampling: matches.get_flag("query.auto-downsampling"),
        engine: EngineOptions {
            timeout: milliseconds(flags::duration(matches, "query.timeout")?),
            lookback: milliseconds(flags::duration(matches, "query.lookback-delta")?),
            ..EngineOptions::default()
        },
        max_concurrency: usize::try_from(flags::number(matches, "query.max-concurrent")?).unwrap_or(20),
        flags: all_flags(matches),
    };
    let sockets =
        Sockets::bind(flags::address(matches, HTTP.0)?, Some(flags::address(matches, GRPC.0)?)).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let proxy = Arc::new(Proxy::new(endpoints));
    let api = query_api(proxy.clone(), settings, clock.clone(), Registry::new());
    let mut tasks = sockets.serve(api.router(), proxy, &stop);
    tasks.spawn(keep_polling(stores, clock, stop.clone()));
    stop.cancelled().await;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<FanOutOptions, String> {
        let params = |name: &str| -> Vec<String> {
            pairs.iter().filter(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()).collect()
        };
        let replica_labels = vec!["replica".into()];
        let default = FanOutOptions { replica_labels, dedup: true, ..FanOutOptions::default() };
        request_options(&params, &default, false)
    }

    #[test]
    fn parameters_of_a_request() {
        let plain = options(&[]).unwrap();
        assert!(plain.dedup && plain.partial == PartialResponse::Warn && plain.max_resolution_ms == 0);
        let asked = options(&[
            ("dedup", "false"),
            ("partial_response", "0"),
            ("replicaLabels[]", "a"),
            ("replicaLabels[]", "b"),
            ("max_source_resolution", "5m"),
        ])
        .unwrap();
        assert!(!asked.dedup && asked.partial == PartialResponse::Abort);
        assert_eq!((asked.replica_labels, asked.max_resolution_ms), (vec!["a".into(), "b".into()], 300_000));
        let auto = options(&[("max_source_resolution", "auto"), ("step", "1500")]).unwrap();
        assert_eq!(auto.max_resolution_ms, 300_000);
        assert!(options(&[("dedup", "maybe")]).unwrap_err().contains("dedup"));
    }
}
