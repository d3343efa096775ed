//! Which plugins a request meets, in which order: scopes by Kong's precedence, then PRIORITY.

use super::{Answer, Plugin, Request, Response, build};
use crate::entities::{Plugin as Entity, Protocol, Route, Service, Snapshot};
use crate::plugins::consumers::Identity;
use crate::snapshot::ConfigError;
use gantry_kong_model::PLUGIN_PRIORITIES;
use std::collections::HashMap;
use std::sync::Arc;

/// One plugin of a route: the instance for everybody, and those for certain consumers.
struct Step {
    everybody: Option<Arc<dyn Plugin>>,
    by_consumer: HashMap<String, Arc<dyn Plugin>>,
}

impl Step {
    fn of(&self, identity: &Identity) -> Option<&Arc<dyn Plugin>> {
        let own = identity.consumer.as_ref().and_then(|consumer| self.by_consumer.get(&consumer.id));
        own.or(self.everybody.as_ref())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        self.everybody.iter().chain(self.by_consumer.values())
    }
}

/// The plugins of a route in the order in which they run.
pub(crate) struct Chain {
    steps: Vec<Step>,
    /// Largest body to be read before the plugins run.
    pub(crate) body_limit: Option<usize>,
    /// The same for bodies whose length the head does not say.
    pub(crate) unknown_body_limit: Option<usize>,
    pub(crate) responds: bool,
    pub(crate) counts_consumers: bool,
}

impl Chain {
    /// Runs the plugins until one answers.
    pub(crate) fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        for step in &self.steps {
            if let Some(plugin) = step.of(request.identity) {
                plugin.access(request)?;
            }
        }
        Ok(())
    }

    /// Lets the plugins change the head of a service's response.
    pub(crate) fn respond(&self, response: &mut Response<'_>, identity: &Identity) {
        for step in &self.steps {
            if let Some(plugin) = step.of(identity).filter(|plugin| plugin.responds()) {
                plugin.respond(response);
            }
        }
    }
}

/// A plugin and the entity that it was made from.
type Made<'s> = (&'s Entity, Arc<dyn Plugin>);

/// The plugins of a configuration, made once each.
pub(crate) struct Plugins<'s> {
    /// By PRIORITY.
    named: Vec<(&'s str, Vec<Made<'s>>)>,
}

fn priority(name: &str) -> i32 {
    // Preflights carry no credentials, so this one stands where `cors` does.
    let name = if name == super::HTTP_ROUTE_CORS { "cors" } else { name };
    PLUGIN_PRIORITIES.iter().find(|(known, _)| *known == name).map_or(0, |(_, priority)| *priority)
}

impl<'s> Plugins<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot) -> Result<Plugins<'s>, ConfigError> {
        let mut named: Vec<(&str, Vec<Made>)> = Vec::new();
        for entity in snapshot.plugins.iter().filter(|entity| entity.enabled) {
            let plugin = build(&entity.name, &entity.id, &entity.config).map_err(|reason| ConfigError {
                entity: "plugin",
                name: if entity.id.is_empty() {
                    entity.name.clone()
                } else {
                    format!("{} {}", entity.name, entity.id)
                },
                field: "config".into(),
                reason,
            })?;
            match named.iter_mut().find(|(name, _)| *name == entity.name) {
                Some((_, list)) => list.push((entity, plugin)),
                None => named.push((&entity.name, vec![(entity, plugin)])),
            }
        }
        named.sort_by_key(|(name, _)| (std::cmp::Reverse(priority(name)), *name));
        Ok(Plugins { named })
    }

    /// The chain of a route and its service; `None` when no plugin applies.
    pub(crate) fn chain(&self, route: &Route, service: Option<&Service>) -> Option<Arc<Chain>> {
        let names = |own: &str, name: &Option<String>, wanted: &str| {
            own == wanted || name.as_deref().is_some_and(|name| name == wanted)
        };
        let is_http = |protocol: &Protocol| protocol.is_http();
        let mut steps = Vec::new();
        for (_, list) in &self.named {
            let mut everybody: Option<(u8, &Arc<dyn Plugin>)> = None;
            let mut by_consumer: HashMap<String, (u8, &Arc<dyn Plugin>)> = HashMap::new();
            for (entity, plugin) in list {
                let fits_route =
                    entity.route.as_deref().is_none_or(|wanted| names(&route.id, &route.name, wanted));
                let fits_service = entity.service.as_deref().is_none_or(|wanted| {
                    service.is_some_and(|service| names(&service.id, &service.name, wanted))
                });
                let speaks = entity.protocols.iter().any(is_http)
                    && entity.protocols.iter().any(|protocol| route.protocols.contains(protocol));
                if !fits_route || !fits_service || !speaks {
                    continue;
                }
                // Route and service, then route, then service, then neither.
                let rank = match (entity.route.is_some(), entity.service.is_some()) {
                    (true, true) => 3,
                    (true, false) => 2,
                    (false, true) => 1,
                    (false, false) => 0,
                };
                match &entity.consumer {
                    None if everybody.as_ref().is_none_or(|(known, _)| rank > *known) => {
                        everybody = Some((rank, plugin));
                    }
                    None => {}
                    Some(consumer) => {
                        let known = by_consumer.entry(consumer.clone()).or_insert((rank, plugin));
                        if rank > known.0 {
                            *known = (rank, plugin);
                        }
                    }
                }
            }
            // A consumer's own instance without route or service gives way to one for exactly this route and service.
            if let Some((3, _)) = everybody {
                by_consumer.retain(|_, (rank, _)| *rank > 0);
            }
            if everybody.is_some() || !by_consumer.is_empty() {
                steps.push(Step {
                    everybody: everybody.map(|(_, plugin)| Arc::clone(plugin)),
                    by_consumer: by_consumer
                        .into_iter()
                        .map(|(consumer, (_, plugin))| (consumer, Arc::clone(plugin)))
                        .collect(),
                });
            }
        }
        if steps.is_empty() {
            return None;
        }
        let all = || steps.iter().flat_map(Step::all);
        let body_limit = all().filter_map(|plugin| plugin.reads_body()).max();
        let unknown_body_limit = all().filter_map(|plugin| plugin.reads_unknown_body()).max();
        let responds = all().any(|plugin| plugin.responds());
        let counts_consumers = all().any(|plugin| plugin.counts_consumers());
        Some(Arc::new(Chain { steps, body_limit, unknown_body_limit, responds, counts_consumers }))
    }
}
