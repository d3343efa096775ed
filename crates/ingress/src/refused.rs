//! What becomes of an entity that the gateway refuses: it is left out, so that one mistake does not stop the rest.
//!
//! Invariant: leaving something out opens nothing. What stood before a route leaves the route closed, and a route stays
//! where it is for as long as the gateway takes it, so that its requests do not go to a broader one.

use gantry_gateway::entities::{Plugin, Route, Snapshot};
use serde_json::json;

/// How the gateway's errors speak of a plugin.
pub(crate) fn plugin_label(plugin: &Plugin) -> String {
    format!("{} {}", plugin.name, plugin.id)
}

fn is_in_scope(route: &Route, plugin: &Plugin) -> bool {
    let is_route =
        |wanted: &str| route.id == wanted || route.name.as_deref().is_some_and(|name| name == wanted);
    plugin.route.as_deref().is_none_or(is_route)
        && plugin.service.as_deref().is_none_or(|wanted| route.service.as_deref() == Some(wanted))
}

/// Takes what the gateway refused out. False when there is nothing to take out.
pub(crate) fn leave_out(snapshot: &mut Snapshot, entity: &str, name: &str) -> bool {
    let mut has_changed = false;
    match entity {
        "plugin" => {
            let refusal = json!({"status_code": 503});
            for plugin in &mut snapshot.plugins {
                let stands_in = plugin.name == "request-termination" && plugin.config == refusal;
                if plugin_label(plugin) != name || stands_in {
                    continue;
                }
                // The refusal in its place may give way to another instance; a route without a service cannot.
                if plugin.consumer.is_none() {
                    for route in snapshot.routes.iter_mut().filter(|route| is_in_scope(route, plugin)) {
                        route.service = None;
                    }
                }
                plugin.name = "request-termination".to_owned();
                plugin.config = refusal.clone();
                has_changed = true;
            }
        }
        "route" => {
            for route in snapshot.routes.iter_mut().filter(|route| route.label() == name) {
                has_changed |= route.service.take().is_some();
            }
            // Refused without its service too: then what it matches is the mistake.
            if !has_changed {
                let before = snapshot.routes.len();
                snapshot.routes.retain(|route| route.label() != name);
                has_changed = before != snapshot.routes.len();
            }
        }
        "service" => {
            let before = snapshot.services.len();
            snapshot.services.retain(|service| service.label() != name);
            for route in &mut snapshot.routes {
                if route.service.as_deref() == Some(name) {
                    route.service = None;
                }
            }
            has_changed = before != snapshot.services.len();
        }
        "upstream" => {
            for upstream in snapshot.upstreams.iter_mut().filter(|upstream| upstream.name == name) {
                has_changed |= !upstream.targets.is_empty();
                upstream.targets.clear();
            }
        }
        // Without its certificate a name is answered with another's, which no client takes for it.
        "certificate" => {
            let before = snapshot.certificates.len();
            snapshot.certificates.retain(|certificate| certificate.id != name);
            has_changed = before != snapshot.certificates.len();
        }
        "entrance" => {
            let before = snapshot.entrances.len();
            snapshot.entrances.retain(|entrance| entrance.name != name);
            has_changed = before != snapshot.entrances.len();
        }
        _ => {}
    }
    has_changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_gateway::entities::{Target, Upstream};

    fn route(name: &str, service: &str) -> Route {
        Route { name: Some(name.to_owned()), service: Some(service.to_owned()), ..Route::default() }
    }

    fn services(snapshot: &Snapshot) -> Vec<Option<&str>> {
        snapshot.routes.iter().map(|route| route.service.as_deref()).collect()
    }

    #[test]
    fn an_upstream_loses_its_targets_and_a_route_its_service() {
        let target = Target { target: "a:b:80".to_owned(), ..Target::default() };
        let mut snapshot = Snapshot {
            routes: vec![route("a", "s"), route("b", "s")],
            upstreams: vec![Upstream { name: "u".into(), targets: vec![target], ..Upstream::default() }],
            ..Snapshot::default()
        };
        assert!(leave_out(&mut snapshot, "upstream", "u"));
        assert_eq!(snapshot.upstreams[0].targets, []);
        assert!(!leave_out(&mut snapshot, "upstream", "u"));
        assert!(leave_out(&mut snapshot, "route", "a"));
        assert_eq!(services(&snapshot), [None, Some("s")]);
        assert!(leave_out(&mut snapshot, "route", "a"));
        assert_eq!(services(&snapshot), [Some("s")]);
    }

    #[test]
    fn a_plugin_closes_the_routes_that_it_stood_before() {
        let plugin = |name: &str| Plugin { id: "1".into(), name: name.to_owned(), ..Plugin::default() };
        let mut snapshot = Snapshot {
            routes: vec![route("a", "s"), route("b", "s"), route("c", "t")],
            plugins: vec![
                Plugin { route: Some("a".into()), ..plugin("jwt") },
                Plugin { service: Some("t".into()), ..plugin("request-termination") },
                Plugin { consumer: Some("x".into()), ..plugin("acl") },
            ],
            ..Snapshot::default()
        };
        for (label, left) in [
            ("jwt 1", [None, Some("s"), Some("t")]),
            ("acl 1", [None, Some("s"), Some("t")]),
            ("request-termination 1", [None, Some("s"), None]),
        ] {
            assert!(leave_out(&mut snapshot, "plugin", label), "{label}");
            assert_eq!(services(&snapshot), left, "{label}");
        }
        assert!(snapshot.plugins.iter().all(|plugin| plugin.config == json!({"status_code": 503})));
        assert!(!leave_out(&mut snapshot, "plugin", "request-termination 1"));
    }
}
