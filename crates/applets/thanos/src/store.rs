//! `store`: the blocks of a bucket over the StoreAPI.

use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Command};
use gantry_bucket::{Bucket, BucketStore, BucketStoreOptions, FetcherOptions};
use gantry_clock::{Clock, SystemClock};
use gantry_prom_model::Registry;
use tokio_util::sync::CancellationToken;

use crate::flags::{self, GRPC, HTTP, LOG, OBJECT_STORAGE, Value, with_values};
use crate::serving::{Readiness, Sockets, probes};

const VALUES: [Value; 4] = [
    ("sync-block-duration", "15m", "How often the bucket is looked at"),
    ("ignore-deletion-marks-delay", "24h", "Blocks marked for deletion longer ago are not shown"),
    ("chunk-pool-size", "268435456", "Bytes of indices and chunks that are kept in memory"),
    (
        "store.grpc.touched-series-limit",
        "0",
        "A question about more series of one block is refused; 0 for no limit",
    ),
];

pub(crate) fn command() -> Command {
    let command = Command::new("store").about("Serve the blocks of a bucket to queries");
    let command = with_values(command, &LOG);
    with_values(with_values(with_values(command, &[GRPC, HTTP]), &OBJECT_STORAGE), &VALUES)
}

/// Looks at the bucket again and again until `stop`. Becomes ready with the first look.
pub(crate) async fn keep_looking(
    store: Arc<BucketStore>,
    clock: Arc<dyn Clock>,
    every: Duration,
    ready: Readiness,
    stop: CancellationToken,
) {
    loop {
        let (looking, now_ms) = (store.clone(), clock.now_ms());
        match tokio::task::spawn_blocking(move || looking.sync(now_ms)).await {
            Ok(Ok(synced)) => {
                for (ulid, reason) in &synced.failed {
                    tracing::warn!(%ulid, %reason, "a block cannot be read and is not shown");
                }
                tracing::debug!(blocks = synced.blocks, "looked at the bucket");
                ready.set(true);
            }
            Ok(Err(error)) => tracing::error!(%error, "the bucket cannot be looked at; what was shown stays"),
            Err(error) => tracing::error!(%error, "looking at the bucket failed"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

pub(crate) fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(ms.max(1).unsigned_abs())
}

pub(crate) async fn run(matches: &ArgMatches, stop: CancellationToken) -> Result<(), String> {
    let bucket: Bucket = flags::bucket(matches)?;
    let options = BucketStoreOptions {
        fetcher: FetcherOptions {
            ignore_deletion_marks_ms: flags::duration(matches, "ignore-deletion-marks-delay")?,
            ..FetcherOptions::default()
        },
        cache_bytes: usize::try_from(flags::number(matches, "chunk-pool-size")?).unwrap_or(usize::MAX),
        max_series: flags::number(matches, "store.grpc.touched-series-limit")?,
        ..BucketStoreOptions::default()
    };
    let every = milliseconds(flags::duration(matches, "sync-block-duration")?);
    let sockets =
        Sockets::bind(flags::address(matches, HTTP.0)?, Some(flags::address(matches, GRPC.0)?)).await?;
    let (registry, ready) = (Registry::new(), Readiness::default());
    let store = Arc::new(BucketStore::new(bucket, options));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut tasks = sockets.serve(probes(registry, ready.clone()), store.clone(), &stop);
    tasks.spawn(keep_looking(store, clock, every, ready, stop.clone()));
    stop.cancelled().await;
    while tasks.join_next().await.is_some() {}
    Ok(())
}
