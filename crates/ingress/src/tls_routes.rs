//! TLSRoutes: connections passed on as they are to the backends of the name that they ask for.

use crate::attach::{Attaching, Attachment, Verdict, attach};
use crate::http_routes::{Backend, weigh};
use crate::kinds::{GATEWAY_GROUP, TlsRoute};
use crate::listeners::Bound;
use crate::subject::{Kind, Subject, tags};
use crate::translate::Building;
use gantry_gateway::entities::{
    Entrance, Passthrough, Protocol, Service as GatewayService, Target, Upstream,
};
use gantry_kong_model::entity_id;
use gantry_operator::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Building<'_> {
    /// Adds all TLSRoutes that some listener takes to its entrance; tells what became of each. Of two for one name the
    /// older stays.
    pub(crate) fn add_tls_routes(
        &mut self,
        bound: &[Bound<'_>],
        entrances: &mut [Entrance],
    ) -> BTreeMap<Key, Vec<Attachment>> {
        let input = self.input;
        let mut all: Vec<Arc<TlsRoute>> = input.tls_routes.clone();
        all.sort_by_key(|route| {
            let meta = &route.metadata;
            let created = meta.creation_timestamp.as_ref().map(|time| time.0.as_second());
            (created, meta.namespace.clone(), meta.name.clone())
        });
        let mut out = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for route in &all {
            let mut attachments = attach(input, bound, &Attaching::from(&**route));
            if attachments.is_empty() {
                continue;
            }
            let resolved = match attachments.iter().any(|one| one.accepted.holds) {
                false => Verdict::holds("ResolvedRefs"),
                true => {
                    let (service, resolved) = self.add_passed(route);
                    let places = attachments.iter().flat_map(|one| &one.places);
                    for place in places {
                        let Some(entrance) = entrances.iter_mut().find(|one| one.name == place.entrance)
                        else {
                            continue;
                        };
                        for name in place.hostnames.clone().unwrap_or_else(|| vec![String::new()]) {
                            if taken.insert((place.entrance.clone(), name.clone())) {
                                let service = service.clone();
                                entrance.passthrough.push(Passthrough { hostname: name, service });
                            }
                        }
                    }
                    resolved
                }
            };
            for attachment in &mut attachments {
                attachment.resolved = resolved.clone();
            }
            out.insert(Key::of(&**route), attachments);
        }
        out
    }

    /// The service of a route, without targets where no backend is there: its connections end at once.
    fn add_passed(&mut self, route: &TlsRoute) -> (String, Verdict) {
        let subject = Subject::of(Kind::TlsRoute, &route.metadata);
        let name = format!("tlsroute.{}.{}.0", subject.key.namespace(), subject.key.name());
        let mut resolved = Verdict::holds("ResolvedRefs");
        let mut backends: Vec<Backend<'_>> = Vec::new();
        for reference in route.spec.rules.iter().flat_map(|rule| &rule.backend_refs) {
            match self.backend_of(&subject, reference) {
                Ok(backend) => backends.push(backend),
                Err(verdict) => {
                    self.problem(&subject, verdict.message.clone());
                    resolved = verdict;
                }
            }
        }
        let weighted: Vec<(u64, Vec<Target>)> = backends
            .iter()
            .map(|backend| (backend.weight, self.targets(&backend.key, backend.service, backend.port)))
            .collect();
        let tags = tags(&route.metadata, Kind::TlsRoute.name(), GATEWAY_GROUP);
        let service = GatewayService {
            id: entity_id("services", &name),
            name: Some(name.clone()),
            protocol: Protocol::Tcp,
            host: name.clone(),
            tags: tags.clone(),
            ..GatewayService::default()
        };
        let upstream = Upstream {
            id: entity_id("upstreams", &name),
            name: name.clone(),
            targets: weigh(weighted),
            tags,
            ..Upstream::default()
        };
        let behind = backends.iter().filter(|backend| backend.weight > 0).map(|backend| backend.key.clone());
        self.behind.insert(name.clone(), behind.collect());
        self.upstreams.insert(name.clone(), upstream);
        self.gateway_services.insert(name.clone(), service);
        (name, resolved)
    }
}
