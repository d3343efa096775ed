//! The StoreAPI between processes: what is asked over gRPC is what is answered in place; failures are told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gantry_bucket::storeapi::{LabelsQuery, PartialResponse, StoreApi};
use gantry_bucket::{Endpoint, FanOutOptions, GrpcStore, GrpcStoreOptions, LocalStore, Proxy, service};
use gantry_prom_model::{Labels, Matcher, Queryable};
use gantry_serve::{ListenConfig, Listener};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::common::{HOUR, T0, fan_out, read, runtime, store};

fn serve(runtime: &Runtime, store: Arc<dyn StoreApi>) -> (SocketAddr, CancellationToken) {
    let stop = CancellationToken::new();
    let listener =
        runtime.block_on(Listener::bind(ListenConfig::plain("127.0.0.1:0".parse().unwrap()))).unwrap();
    let address = listener.local_addr();
    runtime.spawn(listener.serve(service(store), stop.clone()));
    (address, stop)
}

fn connect(runtime: &Runtime, address: SocketAddr) -> Arc<GrpcStore> {
    let options =
        GrpcStoreOptions { response_timeout: Some(Duration::from_secs(60)), ..GrpcStoreOptions::default() };
    let store = GrpcStore::new(&address.to_string(), runtime.handle().clone(), options).unwrap();
    runtime.block_on(store.poll(T0));
    store
}

fn value(id: usize, minute: i64) -> f64 {
    id as f64 + minute as f64 / 7.0
}

#[test]
fn the_same_answer_over_the_wire() {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let db = Arc::new(store(dir.path(), 7, value));
    let external = Labels::from_pairs([("cluster", "eu"), ("replica", "a")]);
    let local: Arc<dyn StoreApi> = Arc::new(LocalStore::new(db, external, "sidecar"));
    let (address, stop) = serve(&runtime, local.clone());
    let remote = connect(&runtime, address);
    assert_eq!(remote.info().unwrap().label_sets, local.info().unwrap().label_sets);
    let end = T0 + 7 * HOUR;
    for options in [
        FanOutOptions::default(),
        FanOutOptions { replica_labels: vec!["replica".into()], dedup: true, ..FanOutOptions::default() },
    ] {
        let here = read(&fan_out(local.clone(), options.clone()), None, end).unwrap();
        let there = read(&fan_out(remote.clone(), options), None, end).unwrap();
        assert_eq!(here.len(), 10);
        assert_eq!(here, there);
    }
    let query = LabelsQuery { min_ms: T0, max_ms: end, ..LabelsQuery::default() };
    let names = remote.label_names(&query).unwrap();
    assert_eq!(names.values, ["__name__", "cluster", "id", "job", "replica"]);
    let replicas = remote.label_values("replica", &query).unwrap();
    assert_eq!(replicas.values, ["a"]);
    let elsewhere = LabelsQuery { matchers: vec![Matcher::equal("cluster", "us")], ..query };
    assert!(remote.label_values("id", &elsewhere).unwrap().values.is_empty());
    stop.cancel();
}

#[test]
fn a_store_that_went_is_a_warning_or_the_end() {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let db = Arc::new(store(dir.path(), 1, value));
    let external = Labels::from_pairs([("cluster", "eu")]);
    let here: Arc<dyn StoreApi> = Arc::new(LocalStore::new(db.clone(), external, "sidecar"));
    let other = Labels::from_pairs([("cluster", "us")]);
    let (address, stop) = serve(&runtime, Arc::new(LocalStore::new(db, other, "sidecar")));
    let gone = connect(&runtime, address);
    let proxy = Arc::new(Proxy::new(vec![
        Endpoint { store: here, strict: true },
        Endpoint { store: gone.clone(), strict: false },
    ]));
    let both = read(&fan_out(proxy.clone(), FanOutOptions::default()), None, T0 + HOUR).unwrap();
    assert_eq!(both.len(), 20);
    stop.cancel();
    let query = LabelsQuery { min_ms: T0, max_ms: T0 + HOUR, ..LabelsQuery::default() };
    // The connection ends in its own time.
    let partial = loop {
        let answer = proxy.label_values("cluster", &query).unwrap();
        if !answer.warnings.is_empty() {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(partial.values, ["eu"]);
    assert!(partial.warnings[0].contains(&address.to_string()), "{:?}", partial.warnings);
    let fan_out_of_both = fan_out(proxy.clone(), FanOutOptions::default());
    let querier = fan_out_of_both.querier(T0, T0 + HOUR).unwrap();
    assert_eq!(querier.label_values("cluster", &[], 0).unwrap(), ["eu"]);
    assert_eq!(querier.label_names(&[], 0).unwrap().len(), 4);
    assert_eq!(querier.warnings().len(), 1, "{:?}", querier.warnings());
    drop(querier);
    let aborts = FanOutOptions { partial: PartialResponse::Abort, ..FanOutOptions::default() };
    let error = read(&fan_out(proxy, aborts), None, T0 + HOUR).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    // Heard of long ago, it is not asked any more.
    runtime.block_on(gone.poll(T0 + 10 * 60_000));
    assert_eq!(gone.info(), None);
}
