//! The shared stores and indexes that several controllers read.

use gantry_operator::{Informer, Operator, StoreIndex, controller_of};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;

use crate::replicaset::orphan_of;

#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) pods: Informer<Pod>,
    /// By the uid of the controlling owner; pods without one by [`orphan_of`] their namespace.
    pub(crate) pods_by_owner: StoreIndex<Pod>,
    pub(crate) replica_sets_by_owner: StoreIndex<ReplicaSet>,
}

impl Stores {
    pub(crate) fn new(operator: &Operator) -> Stores {
        let pods = operator.informer::<Pod>();
        Stores {
            pods_by_owner: pods.index(owner_of),
            replica_sets_by_owner: operator.informer::<ReplicaSet>().index(owner_of),
            pods,
        }
    }
}

pub(crate) fn owner_of<K: Resource>(object: &K) -> Vec<String> {
    match controller_of(object) {
        Some(owner) => vec![owner.uid.clone()],
        None => vec![orphan_of(object.meta().namespace.as_deref().unwrap_or(""))],
    }
}
