//! The listeners of Gateways of ours and of the ListenerSets that add to them: which are served, and why the others not.

use crate::attach::{Verdict, is_ours, kind_of, selects_namespace};
use crate::grants::Reference;
use crate::kinds::{GATEWAY_GROUP, Gateway, Listener, ListenerSet, ObjectRef, RouteKind, RouteNamespaces};
use crate::secrets::{authorities_of, certificate_of};
use crate::subject::Kind;
use crate::translate::{Building, Input};
use gantry_gateway::entities::{Certificate, ClientValidation, Entrance, EntranceTls};
use gantry_operator::Key;
use std::collections::{BTreeMap, BTreeSet};

/// What listeners are written in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Whether it is a ListenerSet, otherwise a Gateway.
    pub is_set: bool,
    pub key: Key,
}

/// One listener, wherever it is written.
pub(crate) struct Bound<'i> {
    pub(crate) gateway: &'i Gateway,
    pub(crate) owner: Owner,
    pub(crate) listener: &'i Listener,
    pub(crate) accepted: Verdict,
    pub(crate) resolved: Verdict,
    /// Holds where there is a conflict.
    pub(crate) conflicted: Verdict,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) clients: Option<ClientValidation>,
}

/// A port of a Gateway as a way into the gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub gateway: Key,
    pub port: u16,
    /// As the gateway's entrance is called.
    pub entrance: String,
    pub is_tls: bool,
}

impl Bound<'_> {
    /// Whether TLS is terminated here.
    pub(crate) fn is_tls(&self) -> bool {
        self.listener.protocol == "HTTPS"
    }

    /// Whether requests are taken here at all.
    pub(crate) fn is_served(&self) -> bool {
        self.accepted.holds && (!self.is_tls() || !self.certificates.is_empty())
    }

    pub(crate) fn programmed(&self) -> Verdict {
        match (self.is_served(), self.accepted.holds) {
            (true, _) => Verdict::holds("Programmed"),
            (false, false) => Verdict::fails("Invalid", self.accepted.message.clone()),
            (false, true) => Verdict::fails("Invalid", self.resolved.message.clone()),
        }
    }

    pub(crate) fn way(&self) -> Option<Way> {
        let gateway = Key::of(self.gateway);
        let port = u16::try_from(self.listener.port).ok()?;
        let entrance = format!("{}/{}:{port}", gateway.namespace(), gateway.name());
        Some(Way { gateway, port, entrance, is_tls: self.listener.protocol != "HTTP" })
    }

    pub(crate) fn hostname(&self) -> &str {
        self.listener.hostname.as_deref().unwrap_or_default()
    }
}

/// Whether a Gateway takes the listeners of a ListenerSet.
pub(crate) fn takes_set(input: &Input<'_>, gateway: &Gateway, set: &ListenerSet) -> bool {
    let allowed = gateway.spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    let none = RouteNamespaces { from: Some("None".to_owned()), selector: None };
    let own = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let theirs = set.metadata.namespace.as_deref().unwrap_or_default();
    let allowed = allowed.filter(|allowed| allowed.from.is_some()).unwrap_or(&none);
    selects_namespace(input, Some(allowed), own, theirs)
}

/// The Gateway of ours that a ListenerSet adds to.
pub(crate) fn gateway_of<'i>(input: &'i Input<'_>, set: &ListenerSet) -> Option<&'i Gateway> {
    let parent = &set.spec.parent_ref;
    let is_gateway = parent.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP
        && parent.kind.as_deref().unwrap_or("Gateway") == "Gateway";
    let own = set.metadata.namespace.as_deref().unwrap_or_default();
    let key = Key::new(parent.namespace.as_deref().unwrap_or(own), &parent.name);
    let gateways = input.gateways.iter().map(|gateway| &**gateway);
    gateways.into_iter().find(|gateway| is_gateway && Key::of(*gateway) == key && is_ours(input, gateway))
}

/// The ListenerSets in the order in which they are listened to: the oldest first.
fn sets<'i>(input: &'i Input<'_>) -> Vec<&'i ListenerSet> {
    let mut all: Vec<&ListenerSet> = input.listener_sets.iter().map(|set| &**set).collect();
    all.sort_by_key(|set| {
        let meta = &set.metadata;
        let created = meta.creation_timestamp.as_ref().map(|time| time.0.as_second());
        (created, meta.namespace.clone(), meta.name.clone())
    });
    all
}

/// Every listener of a Gateway of ours; those of a Gateway go before those of its ListenerSets.
pub(crate) fn all<'i>(input: &'i Input<'_>) -> Vec<Bound<'i>> {
    let mut out = Vec::new();
    let sets = sets(input);
    for gateway in input.gateways.iter().map(|gateway| &**gateway).filter(|gateway| is_ours(input, gateway)) {
        let owner = Owner { is_set: false, key: Key::of(gateway) };
        let mut written: Vec<(Owner, &Listener)> =
            gateway.spec.listeners.iter().map(|listener| (owner.clone(), listener)).collect();
        for set in &sets {
            let adds = gateway_of(input, set).is_some_and(|found| std::ptr::eq(found, gateway));
            if adds && takes_set(input, gateway, set) {
                let owner = Owner { is_set: true, key: Key::of(*set) };
                written.extend(set.spec.listeners.iter().map(|listener| (owner.clone(), listener)));
            }
        }
        for (at, (owner, listener)) in written.iter().enumerate() {
            let conflict = conflict_of(&written, at);
            out.push(judged(input, gateway, owner.clone(), listener, conflict));
        }
    }
    out
}

/// Why a listener cannot stand beside another: a Gateway's own two refuse one another, otherwise the first stays.
fn conflict_of(written: &[(Owner, &Listener)], at: usize) -> Option<Verdict> {
    let (owner, listener) = &written[at];
    let same_name = |name: &Option<String>| name.as_deref().unwrap_or_default().to_ascii_lowercase();
    for (other_at, (other_owner, other)) in written.iter().enumerate() {
        let counts = other_at < at || (other_at > at && other_owner == owner && !owner.is_set);
        if !counts || other.port != listener.port {
            continue;
        }
        if other.protocol != listener.protocol {
            return Some(Verdict::fails(
                "ProtocolConflict",
                format!("listener {:?} has the same port and the protocol {}", other.name, other.protocol),
            ));
        }
        if same_name(&other.hostname) == same_name(&listener.hostname) {
            return Some(Verdict::fails(
                "HostnameConflict",
                format!("listener {:?} has the same port and host name", other.name),
            ));
        }
    }
    None
}

fn judged<'i>(
    input: &'i Input<'_>,
    gateway: &'i Gateway,
    owner: Owner,
    listener: &'i Listener,
    conflict: Option<Verdict>,
) -> Bound<'i> {
    let mut bound = Bound {
        gateway,
        owner,
        listener,
        accepted: Verdict::holds("Accepted"),
        resolved: Verdict::holds("ResolvedRefs"),
        conflicted: Verdict::fails("NoConflicts", ""),
        certificates: Vec::new(),
        clients: None,
    };
    if let Some(message) = unserved(listener) {
        bound.accepted = message;
    }
    if let Some(conflict) = conflict {
        bound.conflicted = Verdict { holds: true, ..conflict.clone() };
        bound.accepted = conflict;
    }
    if let Some(message) = foreign_kind(listener) {
        bound.resolved = Verdict::fails("InvalidRouteKinds", message);
    }
    if bound.is_tls() {
        match certificates(input, &bound) {
            Ok(certificates) => bound.certificates = certificates,
            Err(verdict) => bound.resolved = verdict,
        }
        match clients(input, &bound) {
            Ok(clients) => bound.clients = clients,
            Err(verdict) => {
                // Without its authorities the listener would let everybody in.
                bound.certificates.clear();
                bound.accepted = Verdict::fails("NoValidCACertificate", verdict.message.clone());
                bound.resolved = verdict;
            }
        }
    }
    bound
}

/// What a listener asks for that is not served; `None` when all is.
fn unserved(listener: &Listener) -> Option<Verdict> {
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_deref()).unwrap_or("Terminate");
    match listener.protocol.as_str() {
        "HTTP" => None,
        "HTTPS" if mode == "Terminate" => None,
        "TLS" if mode == "Passthrough" => None,
        "TLS" => Some(Verdict::fails(
            "UnsupportedValue",
            format!("tls.mode: found {mode:?}, this gateway passes TLS on, expected Passthrough"),
        )),
        "HTTPS" => Some(Verdict::fails(
            "UnsupportedValue",
            format!("tls.mode: found {mode:?}, expected Terminate on a listener for HTTPS"),
        )),
        other => Some(Verdict::fails(
            "UnsupportedProtocol",
            format!("protocol: found {other:?}, this gateway's listeners speak HTTP, HTTPS or TLS"),
        )),
    }
}

/// A kind of route that may not attach here, or is not one of ours.
fn foreign_kind(listener: &Listener) -> Option<String> {
    let kinds = listener.allowed_routes.as_ref().and_then(|allowed| allowed.kinds.as_deref());
    let own = kind_of(&listener.protocol).map(Kind::name).unwrap_or_default();
    let is_foreign = |kind: &&RouteKind| {
        kind.kind != own || kind.group.as_deref().unwrap_or(GATEWAY_GROUP) != GATEWAY_GROUP
    };
    let kind = kinds?.iter().find(is_foreign)?;
    Some(format!("allowedRoutes.kinds: found {:?}, this listener takes {own:?}", kind.kind))
}

/// Where a reference leads, if it may lead there.
fn target(
    input: &Input<'_>,
    owner: &Owner,
    reference: &ObjectRef,
    kinds: &[&str],
    invalid: &'static str,
) -> Result<(String, Key), Verdict> {
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if !group.is_empty() || !kinds.contains(&kind) {
        let expected = kinds.join(" or ");
        let message = format!("reference {:?}: found {group}/{kind}, expected a {expected}", reference.name);
        // An authority of another kind is told apart from one that is not there.
        let reason = if invalid == INVALID_AUTHORITY { "InvalidCACertificateKind" } else { invalid };
        return Err(Verdict::fails(reason, message));
    }
    let own = owner.key.namespace();
    let namespace = reference.namespace.as_deref().unwrap_or(own);
    let allowed = Reference {
        from_group: GATEWAY_GROUP,
        from_kind: if owner.is_set { "ListenerSet" } else { "Gateway" },
        from_namespace: own,
        to_group: "",
        to_kind: kind,
        to_namespace: namespace,
        to_name: &reference.name,
    };
    if !allowed.is_allowed(&input.reference_grants) {
        let message = format!(
            "{kind} {:?} of namespace {namespace:?}: no ReferenceGrant there allows {}s of namespace {own:?}",
            reference.name, allowed.from_kind
        );
        return Err(Verdict::fails("RefNotPermitted", message));
    }
    Ok((kind.to_owned(), Key::new(namespace, &reference.name)))
}

const INVALID_CERTIFICATE: &str = "InvalidCertificateRef";
const INVALID_AUTHORITY: &str = "InvalidCACertificateRef";

fn certificates(input: &Input<'_>, bound: &Bound<'_>) -> Result<Vec<Certificate>, Verdict> {
    let references = bound.listener.tls.as_ref().map(|tls| tls.certificate_refs.as_slice());
    let references = references.unwrap_or_default();
    if references.is_empty() {
        let message = "tls.certificateRefs: found none, expected a Secret with a certificate and its key";
        return Err(Verdict::fails(INVALID_CERTIFICATE, message));
    }
    let mut out = Vec::new();
    for reference in references {
        let (_, key) = target(input, &bound.owner, reference, &["Secret"], INVALID_CERTIFICATE)?;
        let certificate = certificate_of(input, &key);
        let certificate = certificate.map_err(|message| Verdict::fails(INVALID_CERTIFICATE, message))?;
        let snis = match bound.hostname() {
            "" => Vec::new(),
            name => vec![name.to_owned()],
        };
        out.push(Certificate { snis, ..certificate });
    }
    Ok(out)
}

/// How clients of the listener's port are checked.
fn clients(input: &Input<'_>, bound: &Bound<'_>) -> Result<Option<ClientValidation>, Verdict> {
    let Some(frontend) = bound.gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else {
        return Ok(None);
    };
    let of_port = frontend.per_port.iter().find(|one| one.port == bound.listener.port).map(|one| &one.tls);
    let Some(validation) = &of_port.unwrap_or(&frontend.default).validation else { return Ok(None) };
    let owner = Owner { is_set: false, key: Key::of(bound.gateway) };
    let mut authorities = Vec::new();
    let mut fault = None;
    for reference in &validation.ca_certificate_refs {
        let found = target(input, &owner, reference, &["ConfigMap", "Secret"], INVALID_AUTHORITY).and_then(
            |(kind, key)| {
                authorities_of(input, &kind, &key)
                    .map_err(|message| Verdict::fails(INVALID_AUTHORITY, message))
            },
        );
        match found {
            Ok(text) => authorities.push(text),
            Err(verdict) => fault = Some(verdict),
        }
    }
    if authorities.is_empty() {
        let none = || Verdict::fails(INVALID_AUTHORITY, "caCertificateRefs: found no authority");
        return Err(fault.unwrap_or_else(none));
    }
    let is_required = validation.mode.as_deref().unwrap_or("AllowValidOnly") != "AllowInsecureFallback";
    Ok(Some(ClientValidation { authorities, is_required }))
}

/// Host names that are another listener's of the same port, and more narrowly so than `bound`'s own.
pub(crate) fn other_hosts(all: &[Bound<'_>], bound: &Bound<'_>) -> Vec<String> {
    let (own, way) = (bound.hostname(), bound.way());
    let is_narrower = |other: &str| match own.strip_prefix('*') {
        _ if other.is_empty() || other.eq_ignore_ascii_case(own) => false,
        None => own.is_empty(),
        Some(suffix) => {
            let other = other.trim_start_matches('*').to_ascii_lowercase();
            other.len() >= suffix.len() && other.ends_with(&suffix.to_ascii_lowercase())
        }
    };
    let same_port = all.iter().filter(|other| other.is_served() && other.way() == way);
    let narrower: BTreeSet<String> =
        same_port.map(Bound::hostname).filter(|name| is_narrower(name)).map(str::to_owned).collect();
    narrower.into_iter().collect()
}

impl Building<'_> {
    /// The served ports of Gateways, each with what its listeners present; the certificates are presented on the address
    /// for all routes too.
    pub(crate) fn add_entrances(&mut self, all: &[Bound<'_>]) -> (Vec<Entrance>, Vec<Way>) {
        let mut entrances: BTreeMap<Way, Entrance> = BTreeMap::new();
        for bound in all.iter().filter(|bound| bound.is_served()) {
            let Some(way) = bound.way() else { continue };
            let entrance = entrances.entry(way.clone()).or_insert_with(|| Entrance {
                name: way.entrance.clone(),
                hostnames: Vec::new(),
                tls: bound.is_tls().then(EntranceTls::default),
                passthrough: Vec::new(),
            });
            entrance.hostnames.push(bound.hostname().to_owned());
            let Some(tls) = &mut entrance.tls else { continue };
            tls.certificates.extend(bound.certificates.iter().cloned());
            // Clients are checked by port, so all its listeners say the same.
            tls.clients.clone_from(&bound.clients);
            // Where clients are checked nobody comes in another way.
            for certificate in bound.certificates.iter().filter(|_| bound.clients.is_none()) {
                let names = match certificate.snis.as_slice() {
                    [] => vec!["*".to_owned()],
                    names => names.to_vec(),
                };
                self.present(Certificate { snis: Vec::new(), ..certificate.clone() }, &names);
            }
        }
        let ways = entrances.keys().cloned().collect();
        (entrances.into_values().collect(), ways)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn input(gateway: Value, sets: Vec<Value>) -> Input<'static> {
        Input {
            class: "kong",
            gateway_classes: vec![object(json!({"metadata": {"name": "kong"},
                "spec": {"controllerName": crate::attach::CONTROLLER_NAME}}))],
            gateways: vec![object(
                json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": gateway}),
            )],
            listener_sets: sets.into_iter().map(object).collect(),
            ..Input::default()
        }
    }

    fn listener(name: &str, port: u16, hostname: &str) -> Value {
        json!({"name": name, "port": port, "protocol": "HTTP", "hostname": hostname})
    }

    #[test]
    fn a_gateways_listeners_go_before_those_of_sets_it_takes() {
        let set = |namespace: &str, listeners: Value| {
            json!({"metadata": {"name": "more", "namespace": namespace}, "spec": {
                "parentRef": {"name": "web", "namespace": "shop"}, "listeners": listeners}})
        };
        let gateway = |allowed: Value| {
            json!({"gatewayClassName": "kong", "allowedListeners": allowed, "listeners": [
                listener("a", 80, "a.org"), listener("any", 80, "")]})
        };
        let same = json!({"namespaces": {"from": "Same"}});
        let taken = vec![
            set("shop", json!([listener("b", 80, "b.org"), listener("again", 80, "A.org")])),
            set("other", json!([listener("c", 80, "c.org")])),
        ];
        let input_of = |allowed: Value| input(gateway(allowed), taken.clone());
        let names = |input: &Input<'_>| -> Vec<(String, bool)> {
            all(input).iter().map(|bound| (bound.listener.name.clone(), bound.is_served())).collect()
        };
        let named = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
            list.iter().map(|(name, served)| ((*name).to_owned(), *served)).collect()
        };
        assert_eq!(names(&input_of(Value::Null)), named(&[("a", true), ("any", true)]));
        let with_sets = input_of(same);
        assert_eq!(names(&with_sets), named(&[("a", true), ("any", true), ("b", true), ("again", false)]));
        let found = all(&with_sets);
        assert_eq!(found[3].accepted.reason, "HostnameConflict");
        assert_eq!(other_hosts(&found, &found[1]), ["a.org", "b.org"]);
        assert_eq!(other_hosts(&found, &found[0]), Vec::<String>::new());
    }

    #[test]
    fn a_listener_for_https_needs_a_certificate_that_it_may_use() {
        let reason = |reference: Value| {
            let tls = json!({"certificateRefs": [reference]});
            let gateway = json!({"gatewayClassName": "kong", "listeners": [
                {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}]});
            let input = input(gateway, Vec::new());
            let found = all(&input);
            assert!(found[0].accepted.holds && !found[0].is_served());
            assert_eq!(found[0].programmed().reason, "Invalid");
            found[0].resolved.reason
        };
        assert_eq!(reason(json!({"name": "nobody"})), "InvalidCertificateRef");
        assert_eq!(reason(json!({"name": "x", "kind": "ConfigMap"})), "InvalidCertificateRef");
        assert_eq!(reason(json!({"name": "x", "namespace": "other"})), "RefNotPermitted");
    }
}
