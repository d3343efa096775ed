//! Services: EndpointSlices and Endpoints that list the pods behind them.

mod legacy;
mod slices;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Action, Change, Informer, Key, Operator, ReconcileError, StoreIndex, Writes};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};

use crate::replicaset::ignore_missing;
use crate::stores::Stores;

struct ServiceEndpoints {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    slices_by_service: StoreIndex<EndpointSlice>,
    endpoints: Informer<Endpoints>,
    writes: Writes,
}

pub(crate) fn register(operator: &Operator, stores: &Stores) {
    let controller = operator.controller::<Service>("endpoints").concurrency(8);
    let services = controller.store();
    let selecting = services.clone();
    let slices = operator.informer::<EndpointSlice>();
    let this = Arc::new(ServiceEndpoints {
        client: operator.client().clone(),
        services,
        pods: stores.pods.clone(),
        slices_by_service: slices
            .index(|slice| service_of(slice).map(|key| key.to_string()).into_iter().collect()),
        slices,
        endpoints: operator.informer(),
        writes: Writes::new(operator.clock().clone()),
    });
    controller
        .hears(&stores.pods, move |change| affected(&selecting, change))
        .watches(|slice: &EndpointSlice| service_of(slice).into_iter().collect())
        .watches(|endpoints: &Endpoints| vec![Key::of(endpoints)])
        .reconcile(move |key| {
            let this = this.clone();
            async move { this.reconcile(key).await }
        });
}

/// The Service whose slice this is, when it is one of ours.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.labels();
    let ours = labels.get(slices::MANAGED_BY_LABEL).is_some_and(|manager| manager == slices::MANAGED_BY);
    let service = labels.get(slices::SERVICE_LABEL).filter(|_| ours)?;
    Some(Key::new(slice.metadata.namespace.as_deref().unwrap_or(""), service))
}

/// The Services that a change of a pod concerns; most updates of a pod concern none.
fn affected(services: &Informer<Service>, change: &Change<Pod>) -> Vec<Key> {
    let (old, new) = change.sides();
    if let (Some(old), Some(new)) = (old, new)
        && fingerprint(old) == fingerprint(new)
    {
        return Vec::new();
    }
    let namespace = change.object().metadata.namespace.as_deref().unwrap_or("");
    let all = services.list_in(namespace);
    let selecting =
        all.iter().filter(|service| [old, new].into_iter().flatten().any(|pod| view::selects(service, pod)));
    selecting.map(|service| Key::of(&**service)).collect()
}

/// What endpoints are made of.
fn fingerprint(pod: &Pod) -> impl PartialEq + use<'_> {
    (
        pod.metadata.labels.as_ref(),
        pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()),
        crate::pods::is_ready(pod),
        crate::pods::is_terminating(pod),
        crate::pods::is_over(pod),
        crate::pods::node_name(pod),
    )
}

impl ServiceEndpoints {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(service) = self.services.get(&key) else {
            self.writes.forget(&key);
            self.remove_leftovers(&key).await?;
            return Ok(Action::await_change());
        };
        if service.metadata.deletion_timestamp.is_some() || !view::has_selector(&service) {
            return Ok(Action::await_change());
        }
        if !self.writes.settled(&key) {
            return Ok(Action::requeue_after(Duration::from_secs(5)));
        }
        let backends = view::backends(&service, &self.pods.list_in(key.namespace()));
        let existing = self.slices_by_service.get(&key.to_string());
        let plan = slices::plan(&service, &backends, &existing);
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), key.namespace());
        for slice in &plan.update {
            let updated = api.replace(&slice.name_any(), &PostParams::default(), slice).await?;
            self.writes.wrote(&key, &self.slices, &updated);
        }
        for slice in &plan.create {
            let created = api.create(&PostParams::default(), slice).await?;
            self.writes.wrote(&key, &self.slices, &created);
        }
        for slice in &plan.delete {
            ignore_missing(api.delete(&slice.name_any(), &DeleteParams::default()).await)?;
            self.writes.deleted(&key, &self.slices, &**slice);
        }
        self.write_endpoints(&key, &service, &backends).await?;
        Ok(Action::await_change())
    }

    async fn write_endpoints(
        &self,
        key: &Key,
        service: &Service,
        backends: &[view::Backend],
    ) -> Result<(), ReconcileError> {
        let existing = self.endpoints.get(key);
        let Some(wanted) = legacy::wanted(service, backends, existing.as_ref()) else { return Ok(()) };
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), key.namespace());
        let written = match existing {
            Some(_) => api.replace(key.name(), &PostParams::default(), &wanted).await?,
            None => api.create(&PostParams::default(), &wanted).await?,
        };
        self.writes.wrote(key, &self.endpoints, &written);
        Ok(())
    }

    /// Endpoints carry no owner; they go with their Service here. Slices are left to the garbage collector.
    async fn remove_leftovers(&self, key: &Key) -> Result<(), kube::Error> {
        let Some(endpoints) = self.endpoints.get(key) else { return Ok(()) };
        if !legacy::is_managed(&endpoints) {
            return Ok(());
        }
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), key.namespace());
        ignore_missing(api.delete(key.name(), &DeleteParams::default()).await).map(|_| ())
    }
}
