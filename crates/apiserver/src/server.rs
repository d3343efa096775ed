//! The server itself: configuration, opening, and the handles others get.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gantry_clock::Clock;
use parking_lot::{Mutex, RwLock};

use crate::addresses::{AddressRange, Addresses};
use crate::auth::{AuthenticatedService, Authenticator};
use crate::crd;
use crate::doors::{AggregatedApi, NodeProxy, TypeDocs, UserInfo};
use crate::openapi::Documents;
use crate::random::Random;
use crate::rbac::Authorizer;
use crate::resources::Registry;
use crate::service::ApiService;
use crate::store::{self, Store};
use crate::tokens::{Issuer, TokenError};

/// How a server is to be opened.
pub struct Config {
    /// Where objects are kept; `None` keeps them in memory only.
    pub data_dir: Option<PathBuf>,
    /// Services get their cluster addresses from here.
    pub service_cidr: AddressRange,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Uids and generated names follow from it. Mixed with the time and the stored revision, so that a restart does
    /// not repeat them; with a manual clock and no data folder two servers give the same names.
    pub seed: u64,
    pub limits: Limits,
    /// What `/version` says beside the Kubernetes version.
    pub product_version: String,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub body_bytes: usize,
    /// How deep a body may nest. serde_json refuses more than 128 by itself.
    pub depth: usize,
    /// How many keys one map of a body may have: maps are searched from the start.
    pub map_keys: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { body_bytes: 3 << 20, depth: 100, map_keys: 10_000 }
    }
}

impl Config {
    /// In memory, Services in 127.96.0.0/12 (loopback needs no network set-up).
    pub fn ephemeral(clock: Arc<dyn Clock>) -> Config {
        Config {
            data_dir: None,
            service_cidr: AddressRange::new(Ipv4Addr::new(127, 96, 0, 0), 12),
            clock,
            seed: 0,
            limits: Limits::default(),
            product_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("opening the object store: {0}")]
    Store(#[from] store::log::Error),
    #[error(transparent)]
    Tokens(#[from] TokenError),
    #[error("creating what every cluster has: {0}")]
    Bootstrap(String),
}

/// A running API server. Clones share it; it ends when the last clone and service is dropped.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) registry: ArcSwap<Registry>,
    /// Held while the registry is made anew.
    pub(crate) loading: Mutex<()>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) limits: Limits,
    pub(crate) addresses: Addresses,
    pub(crate) authorizer: Authorizer,
    pub(crate) tokens: Issuer,
    pub(crate) node_proxy: RwLock<Option<Arc<dyn NodeProxy>>>,
    pub(crate) aggregated: RwLock<Vec<Arc<dyn AggregatedApi>>>,
    pub(crate) type_docs: RwLock<Option<Arc<dyn TypeDocs>>>,
    pub(crate) documents: Documents,
    pub(crate) product_version: String,
}

impl ApiServer {
    /// Opens the store, creates the system namespaces where they are missing, and serves.
    pub async fn open(config: Config) -> Result<ApiServer, OpenError> {
        let store = match &config.data_dir {
            Some(folder) => Store::open(&folder.join("objects"))?,
            None => Store::ephemeral(),
        };
        let tokens = Issuer::open(config.data_dir.as_deref())?;
        let seed = config.seed ^ store.revision().rotate_left(32) ^ config.clock.now_ms() as u64;
        let addresses = Addresses::new(config.service_cidr, &store);
        let inner = Arc::new(Inner {
            store,
            registry: ArcSwap::from_pointee(Registry::built_in()),
            loading: Mutex::new(()),
            clock: config.clock,
            random: Random::new(seed),
            limits: config.limits,
            addresses,
            authorizer: Authorizer::default(),
            tokens,
            node_proxy: RwLock::new(None),
            aggregated: RwLock::new(Vec::new()),
            type_docs: RwLock::new(None),
            documents: Documents::default(),
            product_version: config.product_version,
        });
        crd::load(&inner);
        crate::bootstrap::create_system_objects(&inner)
            .await
            .map_err(|failure| OpenError::Bootstrap(failure.message))?;
        Ok(ApiServer { inner })
    }

    /// The service for connections whose authentication puts a [`UserInfo`] into the request's extensions. Without
    /// one the caller is anonymous.
    pub fn service(&self) -> ApiService {
        ApiService { server: self.inner.clone(), user: None }
    }

    /// The service in the name of `user`, for clients in this process: `kube::Client::new(server.service_as(user), "default")`.
    pub fn service_as(&self, user: UserInfo) -> ApiService {
        ApiService { server: self.inner.clone(), user: Some(Arc::new(user)) }
    }

    /// The service for a listener. `certificate` finds the verified client certificate (DER) that the listener has put
    /// into the request's extensions.
    pub fn authenticated_service(
        &self,
        authenticator: Authenticator,
        certificate: fn(&http::Extensions) -> Option<Vec<u8>>,
    ) -> AuthenticatedService {
        AuthenticatedService::new(self.service(), authenticator, certificate)
    }

    /// Where logs, exec and port-forward of pods go. Until it is set they answer 503.
    pub fn set_node_proxy(&self, proxy: Arc<dyn NodeProxy>) {
        *self.inner.node_proxy.write() = Some(proxy);
    }

    /// Where the words about built-in types come from. Until it is set there are none.
    pub fn set_type_docs(&self, docs: Arc<dyn TypeDocs>) {
        *self.inner.type_docs.write() = Some(docs);
    }

    /// Serves another API group from now on.
    pub fn add_api(&self, api: Arc<dyn AggregatedApi>) {
        self.inner.aggregated.write().push(api);
        crd::load(&self.inner);
    }

    /// Asks the other API groups again what they serve.
    pub fn reload_apis(&self) {
        crd::load(&self.inner);
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.inner.store.revision()
    }
}
