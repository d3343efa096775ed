//! Follows one kind and sends a group for each of its objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use gantry_operator::{Informer, Informers, Key, Object};
use gantry_scrape::config::{KubernetesRole, KubernetesSdConfig};
use gantry_scrape::{Discoverer, GroupSink, TargetGroup};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::endpoint::{Attached, endpoints_group, slice_group};
use crate::{ingress, node, pod, service};

/// Groups in one message.
const BATCH: usize = 500;

/// In which namespaces is looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// By name; all when empty.
    pub namespaces: BTreeSet<String>,
}

impl Scope {
    fn holds(&self, key: &Key) -> bool {
        self.namespaces.is_empty() || key.namespace().is_empty() || self.namespaces.contains(key.namespace())
    }
}

/// A discoverer for one `kubernetes_sd_configs` entry over shared informers. `own_namespace` is the namespace this
/// process runs in, if it runs in one.
///
/// # Errors
/// What of the configuration cannot be followed.
pub fn kubernetes(
    config: &KubernetesSdConfig,
    informers: &Informers,
    own_namespace: Option<&str>,
) -> Result<Box<dyn Discoverer>, String> {
    let mut namespaces: BTreeSet<String> = config.namespaces.names.iter().cloned().collect();
    if config.namespaces.own_namespace {
        namespaces.extend(own_namespace.map(str::to_owned));
    }
    if !config.selectors.is_empty() {
        return Err("selectors are not supported yet; use relabel_configs with action keep".into());
    }
    if config.attach_metadata.node || config.attach_metadata.namespace {
        return Err("attach_metadata is not supported yet".into());
    }
    let scope = Scope { namespaces };
    Ok(match config.role {
        KubernetesRole::Pod => follow(informers.of::<Pod>(), "pod", scope, pod::group),
        KubernetesRole::Service => follow(informers.of::<Service>(), "svc", scope, service::group),
        KubernetesRole::Node => follow(informers.of::<Node>(), "node", scope, node::group),
        KubernetesRole::Ingress => follow(informers.of::<Ingress>(), "ingress", scope, ingress::group),
        KubernetesRole::Endpoints => {
            let attached = Attached::new(informers);
            let make = {
                let attached = attached.clone();
                move |endpoints: &Endpoints| endpoints_group(endpoints, &attached)
            };
            follow_attached(informers.of::<Endpoints>(), "endpoints", scope, attached, make)
        }
        KubernetesRole::EndpointSlice => {
            let attached = Attached::new(informers);
            let make = {
                let attached = attached.clone();
                move |slice: &EndpointSlice| slice_group(slice, &attached)
            };
            follow_attached(informers.of::<EndpointSlice>(), "endpointslice", scope, attached, make)
        }
    })
}

fn follow<K: Object>(
    informer: Informer<K>,
    prefix: &'static str,
    scope: Scope,
    make: impl Fn(&K) -> TargetGroup + Send + Sync + 'static,
) -> Box<dyn Discoverer> {
    Box::new(Follow { informer, prefix, scope, make: Box::new(make), attached: None })
}

fn follow_attached<K: Object>(
    informer: Informer<K>,
    prefix: &'static str,
    scope: Scope,
    attached: Attached,
    make: impl Fn(&K) -> TargetGroup + Send + Sync + 'static,
) -> Box<dyn Discoverer> {
    Box::new(Follow { informer, prefix, scope, make: Box::new(make), attached: Some(attached) })
}

struct Follow<K: Object> {
    informer: Informer<K>,
    prefix: &'static str,
    scope: Scope,
    make: Box<dyn Fn(&K) -> TargetGroup + Send + Sync>,
    attached: Option<Attached>,
}

/// Objects whose groups have to be made again. Bounded by the number of objects.
#[derive(Default)]
struct Dirty {
    keys: Mutex<BTreeSet<Key>>,
    /// Something attached changed: all groups may be others.
    all: std::sync::atomic::AtomicBool,
    wake: Notify,
}

impl<K: Object> Discoverer for Follow<K> {
    fn run(self: Box<Self>, sink: GroupSink, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let dirty = Arc::<Dirty>::default();
            let heard = dirty.clone();
            let _own = self.informer.subscribe(move |change| {
                heard.keys.lock().insert(Key::of(&**change.object()));
                heard.wake.notify_one();
            });
            let mark_all = |dirty: &Arc<Dirty>| {
                let dirty = dirty.clone();
                move || {
                    dirty.all.store(true, std::sync::atomic::Ordering::Release);
                    dirty.wake.notify_one();
                }
            };
            let mut _others = Vec::new();
            if let Some(attached) = &self.attached {
                let (pods, services) = (mark_all(&dirty), mark_all(&dirty));
                _others.push(attached.pods.subscribe(move |_| pods()));
                _others.push(attached.services.subscribe(move |_| services()));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.informer.synced() => {}
            }
            // Said even when there is nothing: whoever waits for the first word need not wait longer.
            if !sink.send(Vec::new()).await {
                return;
            }
            loop {
                if dirty.all.swap(false, std::sync::atomic::Ordering::AcqRel) {
                    dirty.keys.lock().extend(self.informer.list().iter().map(|object| Key::of(&**object)));
                }
                let keys = std::mem::take(&mut *dirty.keys.lock());
                let groups: Vec<TargetGroup> =
                    keys.iter().filter(|key| self.scope.holds(key)).map(|key| self.group(key)).collect();
                let mut rest = groups;
                while !rest.is_empty() {
                    let tail = rest.split_off(rest.len().min(BATCH));
                    if !sink.send(rest).await {
                        return;
                    }
                    rest = tail;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = dirty.wake.notified() => {}
                }
            }
        })
    }
}

impl<K: Object> Follow<K> {
    fn group(&self, key: &Key) -> TargetGroup {
        let mut group =
            self.informer.get(key).map_or_else(TargetGroup::default, |object| (self.make)(&object));
        group.source = if key.namespace().is_empty() {
            format!("{}/{}", self.prefix, key.name())
        } else {
            format!("{}/{}/{}", self.prefix, key.namespace(), key.name())
        };
        group
    }
}
