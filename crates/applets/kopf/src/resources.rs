//! Which kinds the handlers are for: asked anew whenever kinds are defined, changed or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Informer, NamespaceFilter, Operator, ServedKind, discover};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ApiResource;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::calls::Calls;
use crate::declared::{Declaration, Kind};
use crate::register::register;
use crate::session::Session;

/// Definitions that change together are looked at together.
const GATHER: Duration = Duration::from_millis(100);
/// Pause after the server, or a group of its kinds, could not be asked.
const AGAIN: Duration = Duration::from_secs(2);

/// The operators that run the handlers, and what they are told of.
pub(crate) struct Served {
    /// Watches the whole cluster.
    pub(crate) cluster: Operator,
    /// Watches the one namespace that is served, if it is one.
    pub(crate) namespaced: Option<Operator>,
    pub(crate) namespaces: Option<NamespaceFilter>,
    pub(crate) declaration: Declaration,
    pub(crate) calls: Calls,
    /// The kinds that were asked about last, for a process that is started anew.
    pub(crate) asked: Arc<parking_lot::Mutex<Option<Value>>>,
}

impl Served {
    /// Registers handlers as kinds come, until `cancel`.
    pub(crate) async fn follow(self, cancel: CancellationToken) {
        // Kinds are cluster-scoped, and so is the watch of them.
        let definitions: Informer<gantry_operator::MetaObject> =
            self.cluster.informers().of_type(ApiResource::erase::<CustomResourceDefinition>(&()));
        let mut changes = definitions.changes();
        let mut registered: BTreeMap<String, ApiResource> = BTreeMap::new();
        let mut known: Vec<ServedKind> = Vec::new();
        let (mut told_missing, mut told_error) = (false, None);
        loop {
            changes.mark_unchanged();
            let failure = self.refresh(&mut known, &mut registered, &mut told_missing).await.err();
            // A group may be away for long: it is asked often, and told of once.
            if let Some(error) = failure.as_ref().filter(|error| told_error.as_ref() != Some(*error)) {
                tracing::warn!("the kinds of the server are not known: {error}");
            }
            let pause = failure.is_some().then_some(AGAIN);
            told_error = failure;
            let again = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None if changes.changed().await.is_ok() => tokio::time::sleep(GATHER).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = again => {}
            }
        }
    }

    /// Fails also when some of the kinds are not known, having done what can be done with the others.
    async fn refresh(
        &self,
        known: &mut Vec<ServedKind>,
        registered: &mut BTreeMap<String, ApiResource>,
        told_missing: &mut bool,
    ) -> Result<(), String> {
        let discovered = discover(self.cluster.client()).await.map_err(|error| error.to_string())?;
        let silent: Vec<String> =
            discovered.unanswered.iter().map(|(group, error)| format!("{group}: {error}")).collect();
        *known = discovered.with_earlier(known);
        let watched = |kind: &&ServedKind| {
            ["list", "watch"].iter().all(|verb| kind.verbs.iter().any(|own| own == verb))
        };
        let kinds: BTreeMap<String, &ServedKind> =
            known.iter().filter(watched).map(|kind| (key_of(&kind.resource), kind)).collect();
        let frame = resources_frame(&kinds);
        let Some(session) = self.calls.worker.session().await else { return Ok(()) };
        let chosen = ask(&session, &frame).await?;
        *self.asked.lock() = Some(frame);
        let mut positions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (position, keys) in chosen.iter().enumerate() {
            for key in keys {
                positions.entry(key).or_default().push(position);
            }
        }
        if !*told_missing {
            *told_missing = true;
            self.tell_missing(&chosen);
        }
        let gone: Vec<String> = registered.keys().filter(|key| !kinds.contains_key(*key)).cloned().collect();
        for key in gone {
            if let Some(resource) = registered.remove(&key) {
                self.calls.feed.unfollow(&key);
                for operator in std::iter::once(&self.cluster).chain(&self.namespaced) {
                    operator.informers().forget(&resource);
                }
            }
        }
        let new: Vec<(&str, &ServedKind)> = positions
            .keys()
            .filter(|key| !registered.contains_key(**key))
            .filter_map(|key| Some((*key, *kinds.get(*key)?)))
            .collect();
        // All are followed before any handler is registered: handlers wait for all indices.
        let is_index = |position: &usize| {
            self.declaration.handlers.get(*position).is_some_and(|handler| handler.kind == Kind::Index)
        };
        let mut indices: Vec<Informer<DynamicObject>> = Vec::new();
        for (key, kind) in positions.keys().filter_map(|key| Some((*key, *kinds.get(*key)?))) {
            let indexers: Vec<usize> =
                positions.get(key).into_iter().flatten().copied().filter(is_index).collect();
            let store = self.operator_for(kind).informers().dynamic(&kind.resource);
            if !indexers.is_empty() {
                indices.push(store.clone());
            }
            if new.iter().any(|(new, _)| *new == key) {
                self.calls.feed.follow(key, &store, indexers);
            }
        }
        for (key, kind) in new {
            let own: Vec<usize> = positions.get(key).cloned().unwrap_or_default();
            let handled = own.iter().any(|position| !is_index(position));
            if handled {
                let (operator, shared) = (self.operator_for(kind), Arc::from(key));
                let namespaces = self.namespaces.clone();
                register(
                    operator,
                    &kind.resource,
                    &shared,
                    &own,
                    &self.declaration,
                    &self.calls,
                    namespaces,
                    &indices,
                );
            }
            registered.insert(key.to_owned(), kind.resource.clone());
        }
        if !silent.is_empty() {
            return Err(silent.join("; "));
        }
        Ok(())
    }

    fn operator_for(&self, kind: &ServedKind) -> &Operator {
        self.namespaced.as_ref().filter(|_| kind.namespaced).unwrap_or(&self.cluster)
    }

    /// Says which handlers have nothing to do as long as no kind is defined for them.
    fn tell_missing(&self, chosen: &[BTreeSet<String>]) {
        let missing: Vec<&str> = self
            .declaration
            .handlers
            .iter()
            .zip(chosen)
            .filter(|(handler, keys)| keys.is_empty() && handler.kind.is_about_objects())
            .map(|(handler, _)| handler.id.as_str())
            .collect();
        if !missing.is_empty() {
            tracing::warn!(
                "no kind is known yet for the handlers {}: they wait until it is defined",
                missing.join(", ")
            );
        }
    }
}

/// Asks which of the kinds each handler is for.
pub(crate) async fn ask(session: &Arc<Session>, frame: &Value) -> Result<Vec<BTreeSet<String>>, String> {
    let said = session.ask(frame.clone()).await.map_err(|error| error.to_string())?;
    if let Some(raised) = said.error {
        return Err(format!("a resource selector failed: {}", raised.message));
    }
    serde_json::from_value(said.result)
        .map_err(|error| format!("the worker process gave no selection: {error}"))
}

fn key_of(resource: &ApiResource) -> String {
    format!("{}/{}", resource.api_version, resource.plural)
}

fn resources_frame(kinds: &BTreeMap<String, &ServedKind>) -> Value {
    let resources: Map<String, Value> = kinds
        .iter()
        .map(|(key, kind)| {
            let fields = json!({
                "group": kind.resource.group,
                "version": kind.resource.version,
                "plural": kind.resource.plural,
                "kind": kind.resource.kind,
                "singular": kind.singular,
                "shortcuts": kind.short_names,
                "categories": kind.categories,
                "subresources": kind.subresources,
                "namespaced": kind.namespaced,
                "preferred": kind.preferred,
                "verbs": kind.verbs,
            });
            (key.clone(), fields)
        })
        .collect();
    json!({ "op": "resources", "resources": resources })
}
