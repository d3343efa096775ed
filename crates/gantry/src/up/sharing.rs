//! The metric store beyond this machine: its blocks in object storage, and the StoreAPI on the metrics address.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any_service;
use gantry_applet_prometheus::MakeStorageFor;
use gantry_bucket::storeapi::StoreApi;
use gantry_bucket::{
    Bucket, BucketStore, BucketStoreOptions, Endpoint, FanOutOptions, LocalStore, ObjectStorage, Proxy,
    Shipper, ShipperOptions, service,
};
use gantry_clock::Clock;
use gantry_prom_model::Labels;
use gantry_tsdb::Db;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::project::Project;

/// The label that tells stores apart where the project gives none.
const DEFAULT_LABEL: &str = "gantry";
/// How often new blocks go up and those of others are looked for.
const EVERY: Duration = Duration::from_secs(30);
/// Bytes of blocks of others that are kept in memory.
const CACHE_BYTES: usize = 16 << 20;

/// What the project says about it.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    storage: Option<ObjectStorage>,
    external: Labels,
}

/// The bucket, and its blocks as a store.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    bucket: Bucket,
    store: Arc<BucketStore>,
}

/// The store as others see it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared {
    local: Arc<LocalStore>,
    db: Arc<Db>,
    external: Labels,
    archive: Option<Archive>,
}

// === impl Sharing ===

impl Sharing {
    /// Without external labels the store is told apart by the place of its state.
    pub(super) fn of(project: &Project, state: &Path) -> Sharing {
        let mut external = Labels::from_pairs(&project.external_labels);
        if external.is_empty() {
            let digest = Sha256::digest(state.display().to_string());
            let name: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            external = Labels::from_pairs([(DEFAULT_LABEL, name)]);
        }
        Sharing { storage: project.object_storage.clone(), external }
    }

    /// Opens the object storage, if there is one.
    pub(super) fn open_archive(&self) -> Result<Option<Archive>, Error> {
        let Some(storage) = &self.storage else { return Ok(None) };
        let bucket = Bucket::open(storage, Handle::current())?;
        let options = BucketStoreOptions { cache_bytes: CACHE_BYTES, ..BucketStoreOptions::default() };
        Ok(Some(Archive { store: Arc::new(BucketStore::new(bucket.clone(), options)), bucket }))
    }
}

// === impl Archive ===

impl Archive {
    /// Queries read the local store and the bucket as one; every series has the external labels of where it is from.
    pub(super) fn storage_for(&self, sharing: &Sharing) -> MakeStorageFor {
        let (bucket, external) = (self.store.clone(), sharing.external.clone());
        Box::new(move |db| {
            let local = Arc::new(LocalStore::new(db.clone(), external, "sidecar"));
            let endpoints =
                vec![Endpoint { store: local, strict: true }, Endpoint { store: bucket, strict: false }];
            let proxy: Arc<dyn StoreApi> = Arc::new(Proxy::new(endpoints));
            gantry_applet_thanos::storage_for(proxy, FanOutOptions::default(), false)
        })
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(db: &Arc<Db>, sharing: &Sharing, archive: Option<Archive>) -> Shared {
        let external = sharing.external.clone();
        let local = Arc::new(LocalStore::new(db.clone(), external.clone(), "sidecar"));
        Shared { local, db: db.clone(), external, archive }
    }

    /// The StoreAPI over gRPC: what `gantry thanos query --endpoint` asks.
    pub(super) fn router(&self) -> Router {
        let service = service(self.local.clone());
        Router::new()
            .route("/thanos.info.Info/{method}", any_service(service.clone()))
            .route("/thanos.Store/{method}", any_service(service.clone()))
            .route("/grpc.health.v1.Health/{method}", any_service(service))
    }

    /// Takes new blocks up, and looks for those of others, until `stop`.
    pub(super) async fn keep(self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        if self.archive.is_none() {
            return;
        }
        loop {
            let (shared, now_ms) = (self.clone(), clock.now_ms());
            if let Err(error) = tokio::task::spawn_blocking(move || shared.exchange(now_ms)).await {
                tracing::error!(%error, "the exchange with the object storage failed");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    fn exchange(&self, now_ms: i64) {
        let Some(archive) = &self.archive else { return };
        // Blocks leave memory once a minute; one that is due at the start must not wait for that.
        if let Err(error) = self.db.maintain(now_ms) {
            tracing::error!(%error, "blocks could not be written");
        }
        let options = ShipperOptions {
            dir: self.db.dir().to_path_buf(),
            external: self.external.clone(),
            // A block that was merged before its parts went up must not be missing.
            upload_compacted: true,
        };
        let shipped = Shipper::new(archive.bucket.clone(), options)
            .and_then(|shipper| shipper.sync(now_ms).map_err(|error| error.to_string()));
        match shipped {
            Ok(shipped) => {
                for (ulid, reason) in shipped.failed {
                    tracing::warn!(%ulid, %reason, "a block was not uploaded; it is tried again");
                }
            }
            Err(reason) => tracing::error!(%reason, "blocks cannot be uploaded"),
        }
        match archive.store.sync(now_ms) {
            Ok(synced) => {
                for (ulid, reason) in synced.failed {
                    tracing::warn!(%ulid, %reason, "a block in the object storage cannot be read");
                }
            }
            Err(error) => tracing::error!(%error, "the object storage cannot be looked at"),
        }
    }
}
