//! `sidecar`: a Prometheus over the StoreAPI, and its blocks into a bucket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Command};
use gantry_bucket::{Bucket, RemoteRead, Shipper, ShipperOptions};
use gantry_clock::{Clock, SystemClock};
use gantry_prom_model::{Labels, Registry};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::flags::{self, GRPC, HTTP, LOG, OBJECT_STORAGE, Value, with_switches, with_values};
use crate::serving::{Readiness, Sockets, probes};

const VALUES: [Value; 2] = [
    ("prometheus.url", "http://127.0.0.1:9090", "The Prometheus"),
    ("tsdb.path", "./data", "Its data folder, from which blocks are uploaded"),
];

const SWITCHES: [(&str, &str); 1] =
    [("shipper.upload-compacted", "Upload blocks that Prometheus merged, too")];

/// How often Prometheus is asked for its labels, and its folder looked at for new blocks.
const EVERY: Duration = Duration::from_secs(30);
/// While Prometheus does not answer it is asked more often.
const RETRY: Duration = Duration::from_secs(2);

pub(crate) fn command() -> Command {
    let command = Command::new("sidecar").about("Serve a Prometheus to queries and upload its blocks");
    let command = with_values(with_values(command, &LOG), &[GRPC, HTTP]);
    with_switches(with_values(with_values(command, &OBJECT_STORAGE), &VALUES), &SWITCHES)
}

/// Uploads new blocks once.
pub(crate) async fn ship(bucket: Bucket, options: ShipperOptions, now_ms: i64) {
    let work = move || {
        let shipper = Shipper::new(bucket, options)?;
        shipper.sync(now_ms).map_err(|error| error.to_string())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(shipped)) => {
            for (ulid, reason) in &shipped.failed {
                tracing::warn!(%ulid, %reason, "a block was not uploaded; it is tried again");
            }
            if !shipped.uploaded.is_empty() {
                tracing::info!(blocks = ?shipped.uploaded, "uploaded");
            }
        }
        Ok(Err(reason)) => tracing::error!(%reason, "blocks cannot be uploaded"),
        Err(error) => tracing::error!(%error, "uploading blocks failed"),
    }
}

pub(crate) async fn run(matches: &ArgMatches, stop: CancellationToken) -> Result<(), String> {
    let dir = PathBuf::from(flags::value(matches, "tsdb.path"));
    let bucket = match flags::object_storage(matches)? {
        Some(storage) => Some(Bucket::open(&storage, Handle::current()).map_err(|error| error.to_string())?),
        None => None,
    };
    let url = flags::value(matches, "prometheus.url");
    let store = RemoteRead::new(&url, Handle::current(), i64::MIN / 4)
        .map_err(|reason| format!("--prometheus.url: {reason}"))?;
    let upload_compacted = matches.get_flag("shipper.upload-compacted");
    let sockets =
        Sockets::bind(flags::address(matches, HTTP.0)?, Some(flags::address(matches, GRPC.0)?)).await?;
    let (registry, ready) = (Registry::new(), Readiness::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut tasks = sockets.serve(probes(registry, ready.clone()), store.clone(), &stop);
    let until = stop.clone();
    tasks.spawn(async move {
        loop {
            let external: Result<Labels, String> = store.poll().await;
            let pause = match external {
                Ok(external) => {
                    ready.set(true);
                    if let Some(bucket) = &bucket {
                        let options = ShipperOptions { dir: dir.clone(), external, upload_compacted };
                        ship(bucket.clone(), options, clock.now_ms()).await;
                    }
                    EVERY
                }
                Err(reason) => {
                    tracing::warn!(%reason, "prometheus does not say what it is");
                    RETRY
                }
            };
            tokio::select! {
                () = until.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    });
    stop.cancelled().await;
    while tasks.join_next().await.is_some() {}
    Ok(())
}
