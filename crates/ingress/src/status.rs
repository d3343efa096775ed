//! The status of GatewayClasses, Gateways and HTTPRoutes: what they are to say, and the write where they say otherwise.

use crate::attach::{Attachment, CONTROLLER_NAME, Verdict, is_ours, kind_of, takes_kind};
use crate::kinds::{
    GATEWAY_GROUP, Gateway, GatewayAddress, GatewayClass, GatewayStatus, HttpRoute, HttpRouteStatus,
    ListenerSet, ListenerSetStatus, ListenerStatus, ParentStatus, RouteKind, StatusCondition, TlsRoute,
};
use crate::listeners::{self, Bound, gateway_of, takes_set};
use crate::translate::{Input, Translation};
use gantry_operator::Key;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
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

/// The status of one listener of a Gateway or a ListenerSet.
fn of_listener(
    bound: &Bound<'_>,
    before: &[ListenerStatus],
    translation: &Translation,
    generation: Option<i64>,
    now: &str,
) -> ListenerStatus {
    let listener = bound.listener;
    let old = before.iter().find(|old| old.name == listener.name);
    let old = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let is_here = |one: &Attachment| {
        one.accepted.holds && one.owner == bound.owner && one.listeners.contains(&listener.name)
    };
    let all = translation.attachments.values().chain(translation.tls_attachments.values());
    let attached = all.filter(|all| all.iter().any(is_here)).count();
    let kind = kind_of(&listener.protocol).filter(|kind| takes_kind(listener, *kind));
    let own_kind =
        kind.map(|kind| RouteKind { group: Some(GATEWAY_GROUP.to_owned()), kind: kind.name().to_owned() });
    ListenerStatus {
        name: listener.name.clone(),
        supported_kinds: own_kind.into_iter().collect(),
        attached_routes: i32::try_from(attached).unwrap_or(i32::MAX),
        conditions: [
            ("Accepted", &bound.accepted),
            ("Programmed", &bound.programmed()),
            ("ResolvedRefs", &bound.resolved),
            ("Conflicted", &bound.conflicted),
        ]
        .iter()
        .map(|(kind, verdict)| condition(kind, verdict, old, generation, now))
        .collect(),
    }
}

/// The status of a ListenerSet that adds to a Gateway of ours.
pub(crate) fn of_set(
    input: &Input<'_>,
    set: &ListenerSet,
    all: &[Bound<'_>],
    translation: &Translation,
    now: &str,
) -> Option<ListenerSetStatus> {
    let gateway = gateway_of(input, set)?;
    let key = Key::of(set);
    let before = set.status.clone().unwrap_or_default();
    let generation = set.metadata.generation;
    let own: Vec<&Bound<'_>> =
        all.iter().filter(|bound| bound.owner.is_set && bound.owner.key == key).collect();
    let served = own.iter().filter(|bound| bound.is_served()).count();
    let (accepted, programmed) = if !takes_set(input, gateway, set) {
        let message = "the gateway's allowedListeners do not take this namespace";
        (Verdict::fails("NotAllowed", message), Verdict::fails("NotAllowed", message))
    } else if served == 0 {
        let message = format!("none of {} listeners can be served", own.len());
        (Verdict::fails("ListenersNotValid", message.clone()), Verdict::fails("ListenersNotValid", message))
    } else if served < own.len() {
        let message = format!("{} of {} listeners cannot be served", own.len() - served, own.len());
        let accepted = Verdict { holds: true, ..Verdict::fails("ListenersNotValid", message) };
        (accepted, Verdict::holds("Programmed"))
    } else {
        (Verdict::holds("Accepted"), Verdict::holds("Programmed"))
    };
    let status = ListenerSetStatus {
        conditions: [("Accepted", accepted), ("Programmed", programmed)]
            .iter()
            .map(|(kind, verdict)| condition(kind, verdict, &before.conditions, generation, now))
            .collect(),
        listeners: own
            .iter()
            .map(|bound| of_listener(bound, &before.listeners, translation, generation, now))
            .collect(),
    };
    (before != status).then_some(status)
}

/// The status of a Gateway of ours, where it differs from what the Gateway says.
pub(crate) fn of_gateway(
    input: &Input<'_>,
    gateway: &Gateway,
    all: &[Bound<'_>],
    translation: &Translation,
    addresses: &[String],
    now: &str,
) -> Option<GatewayStatus> {
    if !is_ours(input, gateway) {
        return None;
    }
    let key = Key::of(gateway);
    let before = gateway.status.clone().unwrap_or_default();
    let generation = gateway.metadata.generation;
    let own = all.iter().filter(|bound| !bound.owner.is_set && bound.owner.key == key);
    let listeners: Vec<ListenerStatus> =
        own.map(|bound| of_listener(bound, &before.listeners, translation, generation, now)).collect();
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

/// The status of a route: the parents that are ours as they are now, those of others as they were.
pub(crate) fn of_route(
    status: Option<&HttpRouteStatus>,
    generation: Option<i64>,
    attachments: &[Attachment],
    now: &str,
) -> Option<HttpRouteStatus> {
    let before = status.cloned().unwrap_or_default();
    let mut parents: Vec<ParentStatus> =
        before.parents.iter().filter(|parent| parent.controller_name != CONTROLLER_NAME).cloned().collect();
    for attachment in attachments {
        let old = before.parents.iter().find(|parent| {
            parent.controller_name == CONTROLLER_NAME && parent.parent_ref == attachment.parent
        });
        let old = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
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
    translation: &Translation,
    addresses: &(dyn Fn(&Key) -> Vec<String> + Sync),
    now: &str,
) -> Result<(), kube::Error> {
    let all = listeners::all(input);
    for class in &input.gateway_classes {
        if let Some(conditions) = of_class(class, now) {
            let name = class.metadata.name.as_deref().unwrap_or_default();
            write::<GatewayClass>(Api::all(client.clone()), name, json!({ "conditions": conditions }))
                .await?;
        }
    }
    for gateway in &input.gateways {
        let key = Key::of(&**gateway);
        if let Some(status) = of_gateway(input, gateway, &all, translation, &addresses(&key), now) {
            let api: Api<Gateway> = Api::namespaced(client.clone(), key.namespace());
            write(api, key.name(), json!(status)).await?;
        }
    }
    for set in &input.listener_sets {
        if let Some(status) = of_set(input, set, &all, translation, now) {
            let key = Key::of(&**set);
            let api: Api<ListenerSet> = Api::namespaced(client.clone(), key.namespace());
            write(api, key.name(), json!(status)).await?;
        }
    }
    for route in &input.http_routes {
        let key = Key::of(&**route);
        let found = translation.attachments.get(&key).map(Vec::as_slice).unwrap_or_default();
        let generation = route.metadata.generation;
        if let Some(status) = of_route(route.status.as_ref(), generation, found, now) {
            let api: Api<HttpRoute> = Api::namespaced(client.clone(), key.namespace());
            write(api, key.name(), json!(status)).await?;
        }
    }
    for route in &input.tls_routes {
        let key = Key::of(&**route);
        let found = translation.tls_attachments.get(&key).map(Vec::as_slice).unwrap_or_default();
        let generation = route.metadata.generation;
        if let Some(status) = of_route(route.status.as_ref(), generation, found, now) {
            let api: Api<TlsRoute> = Api::namespaced(client.clone(), key.namespace());
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
