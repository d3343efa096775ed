//! Which listeners of which Gateways take an HTTPRoute, for which host names, and why not.

use crate::kinds::{GATEWAY_GROUP, Gateway, HttpRoute, Listener, ParentRef, RouteNamespaces, TlsRoute};
use crate::listeners::{self, Bound, Owner};
use crate::subject::Kind;
use crate::translate::Input;
use gantry_operator::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// The controller that GatewayClasses name to be ours.
pub const CONTROLLER_NAME: &str = "konghq.com/kic-gateway-controller";

/// A condition as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub holds: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    pub(crate) fn holds(reason: &'static str) -> Verdict {
        Verdict { holds: true, reason, message: String::new() }
    }

    pub(crate) fn fails(reason: &'static str, message: impl Into<String>) -> Verdict {
        Verdict { holds: false, reason, message: message.into() }
    }
}

/// What became of an HTTPRoute at one of its parents.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    pub parent: ParentRef,
    pub owner: Owner,
    /// Names of the listeners that take the route.
    pub listeners: Vec<String>,
    /// What the route is to each of them that is served.
    pub places: Vec<Place>,
    /// For which host names; `None` stands for all.
    pub hostnames: Option<Vec<String>>,
    pub accepted: Verdict,
    pub resolved: Verdict,
    /// Set when only some of the rules can be served.
    pub partially_invalid: Option<Verdict>,
}

/// A route at one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As the gateway calls the way in.
    pub entrance: String,
    pub is_tls: bool,
    /// `None` stands for all.
    pub hostnames: Option<Vec<String>>,
    /// Host names that another listener of the port has for itself.
    pub other_hosts: Vec<String>,
}

/// Whether the Gateway's class names our controller.
pub(crate) fn is_ours(input: &Input<'_>, gateway: &Gateway) -> bool {
    input.gateway_classes.iter().any(|class| {
        class.metadata.name.as_deref() == Some(gateway.spec.gateway_class_name.as_str())
            && class.spec.controller_name == CONTROLLER_NAME
    })
}

/// The kind of routes that a protocol carries; `None` for one that is not served.
pub(crate) fn kind_of(protocol: &str) -> Option<Kind> {
    match protocol {
        "HTTP" | "HTTPS" => Some(Kind::HttpRoute),
        "TLS" => Some(Kind::TlsRoute),
        _ => None,
    }
}

/// Whether routes of a kind may attach at all.
pub(crate) fn takes_kind(listener: &Listener, wanted: Kind) -> bool {
    if kind_of(&listener.protocol) != Some(wanted) {
        return false;
    }
    let kinds = listener.allowed_routes.as_ref().and_then(|allowed| allowed.kinds.as_deref());
    kinds.is_none_or(|kinds| {
        kinds.is_empty()
            || kinds.iter().any(|kind| {
                kind.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP && kind.kind == wanted.name()
            })
    })
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let by_labels = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(name, value)| labels.get(name).is_some_and(|found| found == value));
    by_labels
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let found = labels.get(&requirement.key);
            let values = requirement.values.as_deref().unwrap_or_default();
            match requirement.operator.as_str() {
                "In" => found.is_some_and(|found| values.contains(found)),
                "NotIn" => found.is_none_or(|found| !values.contains(found)),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// Whether objects of the namespace `theirs` are taken by one in `own`.
pub(crate) fn selects_namespace(
    input: &Input<'_>,
    namespaces: Option<&RouteNamespaces>,
    own: &str,
    theirs: &str,
) -> bool {
    match namespaces.and_then(|namespaces| namespaces.from.as_deref()).unwrap_or("Same") {
        "All" => true,
        "Same" => own == theirs,
        "Selector" => {
            let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
            let namespace =
                input.namespaces.iter().find(|namespace| namespace.metadata.name.as_deref() == Some(theirs));
            selector.zip(namespace).is_some_and(|(selector, namespace)| {
                selects(selector, &namespace.metadata.labels.clone().unwrap_or_default())
            })
        }
        _ => false,
    }
}

fn takes_namespace(input: &Input<'_>, listener: &Listener, own: &str, route: &str) -> bool {
    let namespaces = listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    selects_namespace(input, namespaces, own, route)
}

/// The narrower of two host names where one contains the other. `*.` stands for one or more labels.
pub(crate) fn narrower<'h>(left: &'h str, right: &'h str) -> Option<&'h str> {
    let contains = |wide: &str, narrow: &str| {
        wide.strip_prefix('*').is_some_and(|suffix| narrow.len() > suffix.len() && narrow.ends_with(suffix))
    };
    if left.eq_ignore_ascii_case(right) || contains(right, left) {
        return Some(left);
    }
    contains(left, right).then_some(right)
}

/// The host names of a route on a listener; `Some(None)` stands for all, `None` for no name in common.
fn common(listener: &Listener, hostnames: &[String]) -> Option<Option<Vec<String>>> {
    let own = listener.hostname.as_deref().filter(|name| !name.is_empty());
    match (own, hostnames) {
        (None, []) => Some(None),
        (None, names) => Some(Some(names.to_vec())),
        (Some(own), []) => Some(Some(vec![own.to_owned()])),
        (Some(own), names) => {
            let both: Vec<String> =
                names.iter().filter_map(|name| narrower(name, own)).map(str::to_owned).collect();
            (!both.is_empty()).then_some(Some(both))
        }
    }
}

/// The object a parent reference names, where it is a Gateway of ours or adds to one.
fn owner_of(input: &Input<'_>, parent: &ParentRef, namespace: &str) -> Option<Owner> {
    if parent.group.as_deref().unwrap_or(GATEWAY_GROUP) != GATEWAY_GROUP {
        return None;
    }
    let key = Key::new(parent.namespace.as_deref().unwrap_or(namespace), &parent.name);
    match parent.kind.as_deref().unwrap_or("Gateway") {
        "Gateway" => {
            let gateway = input.gateways.iter().find(|gateway| Key::of(&***gateway) == key)?;
            is_ours(input, gateway).then_some(Owner { is_set: false, key })
        }
        "ListenerSet" => {
            let set = input.listener_sets.iter().find(|set| Key::of(&***set) == key)?;
            listeners::gateway_of(input, set)?;
            Some(Owner { is_set: true, key })
        }
        _ => None,
    }
}

/// What of a route decides where it attaches.
pub(crate) struct Attaching<'r> {
    kind: Kind,
    namespace: &'r str,
    parent_refs: &'r [ParentRef],
    hostnames: &'r [String],
}

impl<'r> From<&'r HttpRoute> for Attaching<'r> {
    fn from(route: &'r HttpRoute) -> Attaching<'r> {
        Attaching {
            kind: Kind::HttpRoute,
            namespace: route.metadata.namespace.as_deref().unwrap_or_default(),
            parent_refs: &route.spec.parent_refs,
            hostnames: &route.spec.hostnames,
        }
    }
}

impl<'r> From<&'r TlsRoute> for Attaching<'r> {
    fn from(route: &'r TlsRoute) -> Attaching<'r> {
        Attaching {
            kind: Kind::TlsRoute,
            namespace: route.metadata.namespace.as_deref().unwrap_or_default(),
            parent_refs: &route.spec.parent_refs,
            hostnames: &route.spec.hostnames,
        }
    }
}

/// What becomes of `route` at each of its parents that is ours. References of its rules are judged elsewhere.
pub(crate) fn attach(input: &Input<'_>, all: &[Bound<'_>], route: &Attaching<'_>) -> Vec<Attachment> {
    let namespace = route.namespace;
    let mut out = Vec::new();
    for parent in route.parent_refs {
        if let Some(owner) = owner_of(input, parent, namespace) {
            out.push(attach_to(input, all, route, parent, owner));
        }
    }
    out
}

fn attach_to(
    input: &Input<'_>,
    all: &[Bound<'_>],
    route: &Attaching<'_>,
    parent: &ParentRef,
    owner: Owner,
) -> Attachment {
    let namespace = route.namespace;
    let refused = |reason, message: String| Attachment {
        parent: parent.clone(),
        owner: owner.clone(),
        listeners: Vec::new(),
        places: Vec::new(),
        hostnames: None,
        accepted: Verdict::fails(reason, message),
        resolved: Verdict::holds("ResolvedRefs"),
        partially_invalid: None,
    };
    let named: Vec<&Bound<'_>> = all
        .iter()
        .filter(|bound| bound.owner == owner)
        .filter(|bound| parent.section_name.as_ref().is_none_or(|name| *name == bound.listener.name))
        .filter(|bound| parent.port.is_none_or(|port| port == bound.listener.port))
        .collect();
    if named.is_empty() {
        return refused("NoMatchingParent", "the parent has no listener of that name and port".to_owned());
    }
    let allowed: Vec<&Bound<'_>> = named
        .into_iter()
        .filter(|bound| bound.accepted.holds && takes_kind(bound.listener, route.kind))
        .filter(|bound| takes_namespace(input, bound.listener, owner.key.namespace(), namespace))
        .collect();
    if allowed.is_empty() {
        let message = format!("no listener takes {}s from namespace {namespace:?}", route.kind.name());
        return refused("NotAllowedByListeners", message);
    }
    let mut listeners = Vec::new();
    let mut places = Vec::new();
    let mut hostnames: Option<Vec<String>> = Some(Vec::new());
    for bound in allowed {
        let Some(shared) = common(bound.listener, route.hostnames) else { continue };
        listeners.push(bound.listener.name.clone());
        if let Some(way) = bound.way().filter(|_| bound.is_served()) {
            places.push(Place {
                entrance: way.entrance,
                is_tls: way.is_tls,
                hostnames: shared.clone(),
                other_hosts: listeners::other_hosts(all, bound),
            });
        }
        hostnames = match (hostnames, shared) {
            (Some(mut known), Some(more)) => {
                for name in more {
                    if !known.contains(&name) {
                        known.push(name);
                    }
                }
                Some(known)
            }
            _ => None,
        };
    }
    if listeners.is_empty() {
        let message = "no listener has a host name in common with the route".to_owned();
        return refused("NoMatchingListenerHostname", message);
    }
    Attachment {
        listeners,
        places,
        hostnames,
        accepted: Verdict::holds("Accepted"),
        ..refused("Accepted", String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_narrowed() {
        assert_eq!(narrower("a.org", "a.org"), Some("a.org"));
        assert_eq!(narrower("a.shop.org", "*.shop.org"), Some("a.shop.org"));
        assert_eq!(narrower("*.shop.org", "a.shop.org"), Some("a.shop.org"));
        assert_eq!(narrower("*.a.shop.org", "*.shop.org"), Some("*.a.shop.org"));
        assert_eq!(narrower("shop.org", "*.shop.org"), None);
        assert_eq!(narrower("a.org", "b.org"), None);
    }

    #[test]
    fn namespaces_are_selected_by_their_labels() {
        let labels = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let selector = |value: serde_json::Value| -> LabelSelector { serde_json::from_value(value).unwrap() };
        assert!(selects(&selector(serde_json::json!({"matchLabels": {"team": "shop"}})), &labels));
        assert!(!selects(&selector(serde_json::json!({"matchLabels": {"team": "x"}})), &labels));
        let expression = |operator: &str| {
            selector(
                serde_json::json!({"matchExpressions": [{"key": "team", "operator": operator, "values": ["shop"]}]}),
            )
        };
        assert!(selects(&expression("In"), &labels) && !selects(&expression("NotIn"), &labels));
    }
}
