//! What every namespace is born with: the `default` ServiceAccount and the certificate of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_operator::{Action, Informer, Key, Operator, ReconcileError};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::json;

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";

struct Outfit {
    client: Client,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    config_maps: Informer<ConfigMap>,
    root_ca: Option<String>,
}

pub(crate) fn register(operator: &Operator, root_ca: Option<String>) {
    let controller = operator.controller::<Namespace>("namespace-outfit");
    let this = Arc::new(Outfit {
        client: operator.client().clone(),
        namespaces: controller.store(),
        accounts: operator.informer(),
        config_maps: operator.informer(),
        root_ca,
    });
    controller
        .watches(|account: &ServiceAccount| namespace_of(&account.metadata, ACCOUNT))
        .watches(|map: &ConfigMap| namespace_of(&map.metadata, ROOT_CA))
        .reconcile(move |key| {
            let this = this.clone();
            async move { this.reconcile(key).await }
        });
}

fn namespace_of(meta: &ObjectMeta, name: &str) -> Vec<Key> {
    let namespace = meta.namespace.as_deref().filter(|_| meta.name.as_deref() == Some(name));
    namespace.map(Key::cluster).into_iter().collect()
}

impl Outfit {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let lives = |namespace: &Arc<Namespace>| namespace.metadata.deletion_timestamp.is_none();
        if self.namespaces.get(&key).filter(lives).is_none() {
            return Ok(Action::await_change());
        }
        self.ensure_account(key.name()).await?;
        if let Some(root_ca) = &self.root_ca {
            self.ensure_root_ca(key.name(), root_ca).await?;
        }
        Ok(Action::await_change())
    }

    async fn ensure_account(&self, namespace: &str) -> Result<(), kube::Error> {
        if self.accounts.get(&Key::new(namespace, ACCOUNT)).is_some() {
            return Ok(());
        }
        let account = ServiceAccount { metadata: named(namespace, ACCOUNT), ..ServiceAccount::default() };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        created_or_there(api.create(&PostParams::default(), &account).await)
    }

    async fn ensure_root_ca(&self, namespace: &str, root_ca: &str) -> Result<(), kube::Error> {
        let data = BTreeMap::from([(ROOT_CA_KEY.to_owned(), root_ca.to_owned())]);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        match self.config_maps.get(&Key::new(namespace, ROOT_CA)) {
            Some(known) if known.data.as_ref() == Some(&data) => Ok(()),
            Some(_) => {
                let patch = json!({ "data": data });
                api.patch(ROOT_CA, &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
            }
            None => {
                let map = ConfigMap {
                    metadata: named(namespace, ROOT_CA),
                    data: Some(data),
                    ..ConfigMap::default()
                };
                created_or_there(api.create(&PostParams::default(), &map).await)
            }
        }
    }
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// Somebody else's object of that name serves as well, and a namespace that is going needs none.
fn created_or_there<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
