//! The status of GatewayClasses, Gateways and HTTPRoutes: what they are to say, and the write where they say otherwise.

use crate::attach::{Attachment, CONTROLLER_NAME, Verdict, is_ours, takes_http_routes, unserved_protocol};
use crate::kinds::{
    GATEWAY_GROUP, Gateway, GatewayAddress, GatewayClass, GatewayStatus, HttpRoute, HttpRouteStatus,
    ListenerStatus, ParentStatus, RouteKind, StatusCondition,
};
use crate::subject::Kind;
use crate::translate::Input;
use gantry_operator::Key;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// One condition, its time that of the one before when nothing changed.
fn condition(
    kind: &str,
    verdict: &Verdict,
    before: &[StatusCondition],
    generation: Option<i64>,
    now: &str,
) -> StatusCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let known = before.iter().find(|known| known.kind == kind && known.status == status);
    StatusCondition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message.clone(),
        last_transition_time: known.map_or(now, |known| &known.last_transition_time).to_owned(),
        observed_generation: generation,
    }
}

/// The conditions of a class that names our controller.
pub(crate) fn of_class(class: &GatewayClass, now: &str) -> Option<Vec<StatusCondition>> {
    if class.spec.controller_name != CONTROLLER_NAME {
        return None;
    }
    let before = class.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let accepted = Verdict::holds("Accepted");
    let conditions = vec![condition("Accepted", &accepted, before, class.metadata.generation, now)];
    (before != conditions).then_some(conditions)
}

/// The status of a Gateway of ours, where it differs from what the Gateway says.
pub(crate) fn of_gateway(
    input: &Input<'_>,
    gateway: &Gateway,
    attachments: &BTreeMap<Key, Vec<Attachment>>,
    addresses: &[String],
    now: &str,
) -> Option<GatewayStatus> {
    if !is_ours(input, gateway) {
        return None;
    }
    let key = Key::of(gateway);
    let before = gateway.status.clone().unwrap_or_default();
    let generation = gateway.metadata.generation;
    let mut listeners = Vec::new();
    for listener in &gateway.spec.listeners {
        let old = before.listeners.iter().find(|old| old.name == listener.name);
        let old = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
        let is_conflicted = gateway.spec.listeners.iter().any(|other| {
            other.name != listener.name
                && (other.port, &other.protocol, &other.hostname)
                    == (listener.port, &listener.protocol, &listener.hostname)
        });
        let accepted = match unserved_protocol(listener) {
            Some(message) => Verdict::fails("UnsupportedProtocol", message),
            None if is_conflicted => {
                Verdict::fails("HostnameConflict", "another listener has the same port and host name")
            }
            None => Verdict::holds("Accepted"),
        };
        let programmed = match accepted.holds {
            true => Verdict::holds("Programmed"),
            false => Verdict::fails("Invalid", accepted.message.clone()),
        };
        let kinds = listener.allowed_routes.as_ref().and_then(|allowed| allowed.kinds.as_deref());
        let is_foreign = |kind: &RouteKind| {
            kind.kind != Kind::HttpRoute.name()
                || kind.group.as_deref().unwrap_or(GATEWAY_GROUP) != GATEWAY_GROUP
        };
        let resolved = match kinds.and_then(|kinds| kinds.iter().find(|kind| is_foreign(kind))) {
            Some(kind) => Verdict::fails(
                "InvalidRouteKinds",
                format!("allowedRoutes.kinds: found {:?}, this gateway takes HTTPRoute", kind.kind),
            ),
            None => Verdict::holds("ResolvedRefs"),
        };
        let conflicted = match is_conflicted {
            true => Verdict { holds: true, ..Verdict::fails("HostnameConflict", accepted.message.clone()) },
            false => Verdict::fails("NoConflicts", ""),
        };
        let takes = takes_http_routes(listener) && unserved_protocol(listener).is_none();
        let attached = attachments
            .values()
            .filter(|all| {
                all.iter().any(|one| {
                    one.accepted.holds && one.gateway == key && one.listeners.contains(&listener.name)
                })
            })
            .count();
        let own_kind =
            RouteKind { group: Some(GATEWAY_GROUP.to_owned()), kind: Kind::HttpRoute.name().to_owned() };
        listeners.push(ListenerStatus {
            name: listener.name.clone(),
            supported_kinds: takes.then_some(own_kind).into_iter().collect(),
            attached_routes: i32::try_from(attached).unwrap_or(i32::MAX),
            conditions: [
                ("Accepted", accepted),
                ("Programmed", programmed),
                ("ResolvedRefs", resolved),
                ("Conflicted", conflicted),
            ]
            .iter()
            .map(|(kind, verdict)| condition(kind, verdict, old, generation, now))
            .collect(),
        });
    }
    let unaccepted = |one: &ListenerStatus| {
        one.conditions.iter().any(|found| found.kind == "Accepted" && found.status == "False")
    };
    let refused = listeners.iter().filter(|one| unaccepted(one)).count();
    let accepted = match refused {
        0 => Verdict::holds("Accepted"),
        _ => Verdict {
            holds: refused < listeners.len(),
            reason: "ListenersNotValid",
            message: format!("{refused} of {} listeners cannot be served", listeners.len()),
        },
    };
    let programmed = match accepted.holds {
        true => Verdict::holds("Programmed"),
        false => Verdict::fails("Invalid", accepted.message.clone()),
    };
    let address = |text: &String| GatewayAddress {
        kind: if text.parse::<std::net::IpAddr>().is_ok() { "IPAddress" } else { "Hostname" }.to_owned(),
        value: text.clone(),
    };
    let status = GatewayStatus {
        addresses: addresses.iter().map(address).collect(),
        conditions: [("Accepted", accepted), ("Programmed", programmed)]
            .iter()
            .map(|(kind, verdict)| condition(kind, verdict, &before.conditions, generation, now))
            .collect(),
        listeners,
    };
    (before != status).then_some(status)
}

/// The status of an HTTPRoute: the parents that are ours as they are now, those of others as they were.
pub(crate) fn of_route(route: &HttpRoute, attachments: &[Attachment], now: &str) -> Option<HttpRouteStatus> {
    let before = route.status.clone().unwrap_or_default();
    let mut parents: Vec<ParentStatus> =
        before.parents.iter().filter(|parent| parent.controller_name != CONTROLLER_NAME).cloned().collect();
    for attachment in attachments {
        let old = before.parents.iter().find(|parent| {
            parent.controller_name == CONTROLLER_NAME && parent.parent_ref == attachment.parent
        });
        let old = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
        let generation = route.metadata.generation;
        let programmed = match attachment.accepted.holds {
            true => Verdict::holds("Programmed"),
            false => Verdict::fails("Invalid", attachment.accepted.message.clone()),
        };
        let mut conditions = vec![
            condition("Accepted", &attachment.accepted, old, generation, now),
            condition("ResolvedRefs", &attachment.resolved, old, generation, now),
            condition("Programmed", &programmed, old, generation, now),
        ];
        if let Some(partly) = &attachment.partially_invalid {
            conditions.push(condition("PartiallyInvalid", partly, old, generation, now));
        }
        parents.push(ParentStatus {
            parent_ref: attachment.parent.clone(),
            controller_name: CONTROLLER_NAME.to_owned(),
            conditions,
        });
    }
    let status = HttpRouteStatus { parents };
    (before != status).then_some(status)
}

async fn write<K>(api: Api<K>, name: &str, status: serde_json::Value) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let patch = Patch::Merge(json!({ "status": status }));
    match api.patch_status(name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        // Gone meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes every status that is not as it should be.
pub(crate) async fn publish(
    client: &Client,
    input: &Input<'_>,
    attachments: &BTreeMap<Key, Vec<Attachment>>,
    addresses: &[String],
    now: &str,
) -> Result<(), kube::Error> {
    for class in &input.gateway_classes {
        if let Some(conditions) = of_class(class, now) {
            let name = class.metadata.name.as_deref().unwrap_or_default();
            write::<GatewayClass>(Api::all(client.clone()), name, json!({ "conditions": conditions }))
                .await?;
        }
    }
    for gateway in &input.gateways {
        if let Some(status) = of_gateway(input, gateway, attachments, addresses, now) {
            let key = Key::of(&**gateway);
            let api: Api<Gateway> = Api::namespaced(client.clone(), key.namespace());
            write(api, key.name(), json!(status)).await?;
        }
    }
    for route in &input.http_routes {
        let key = Key::of(&**route);
        let found = attachments.get(&key).map(Vec::as_slice).unwrap_or_default();
        if let Some(status) = of_route(route, found, now) {
            let api: Api<HttpRoute> = Api::namespaced(client.clone(), key.namespace());
            write(api, key.name(), json!(status)).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let first = condition("Accepted", &Verdict::holds("Accepted"), &[], Some(1), "t1");
        let second =
            condition("Accepted", &Verdict::holds("Accepted"), std::slice::from_ref(&first), Some(2), "t2");
        assert_eq!((second.last_transition_time.as_str(), second.observed_generation), ("t1", Some(2)));
        let third = condition("Accepted", &Verdict::fails("Invalid", "x"), &[first], Some(2), "t2");
        assert_eq!((third.last_transition_time.as_str(), third.status.as_str()), ("t2", "False"));
    }
}
