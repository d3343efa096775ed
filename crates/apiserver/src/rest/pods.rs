//! Subresources of pods (and nodes) that are actions: binding, eviction, and what goes through to the node.

use gantry_apimachinery::{Selector, Value};
use http::Request;

use crate::doors::PodRequest;
use crate::rest::write;
use crate::rest::{Answer, Call, body, delete, respond, update, upgrade};
use crate::status::{About, Failure};
use crate::store::ObjectKey;

const PODS: About<'static> = About { group: "", resource: "pods", kind: "Pod" };

/// `POST pods/NAME/binding` (or the old `bindings`): the pod runs on that node from now on.
pub(crate) async fn bind(call: &Call) -> Answer {
    let dry_run = write::is_dry_run(call, "CreateOptions")?;
    let binding = body::object(call, "Binding", "v1")?;
    let name =
        call.path.name.as_deref().or(binding.str_at(&["metadata", "name"])).unwrap_or_default().to_owned();
    let node = binding.str_at(&["target", "name"]).unwrap_or_default().to_owned();
    if node.is_empty() {
        return Err(Failure::bad_request("target.name is required: the node to run the pod on"));
    }
    let pods = call.registry.get("", "v1", "pods").ok_or_else(Failure::no_such_resource)?.clone();
    let path = crate::path::ResourcePath {
        resource: "pods".into(),
        name: Some(name.clone()),
        subresource: Some("binding".into()),
        ..call.path.clone()
    };
    let inner = Call { resource: pods, path, ..call.clone_for_write() };
    let now = write::now(call);
    update::change(&inner, dry_run, |pod| {
        if pod.at(&["metadata", "deletionTimestamp"]).is_some() {
            return Err(Failure::conflict(
                About { resource: "pods/binding", ..PODS },
                &name,
                &format!("pod {name} is being deleted, cannot be assigned to a host"),
            ));
        }
        if let Some(bound) = pod.str_at(&["spec", "nodeName"]).filter(|bound| !bound.is_empty()) {
            return Err(Failure::conflict(
                About { resource: "pods/binding", ..PODS },
                &name,
                &format!("pod {name} is already assigned to node \"{bound}\""),
            ));
        }
        let mut pod = pod.clone();
        *pod.entry_at(&["spec", "nodeName"]) = node.as_str().into();
        set_condition(&mut pod, "PodScheduled", "True", &now);
        if let Some(annotations) = binding.at(&["metadata", "annotations"]).and_then(Value::as_object) {
            for (key, value) in annotations.iter() {
                *pod.entry_at(&["metadata", "annotations", key]) = value.clone();
            }
        }
        Ok(pod)
    })
    .await?;
    let mut status = Value::object();
    *status.entry_at(&["kind"]) = "Status".into();
    *status.entry_at(&["apiVersion"]) = "v1".into();
    *status.entry_at(&["metadata"]) = Value::object();
    *status.entry_at(&["status"]) = "Success".into();
    *status.entry_at(&["code"]) = 201.into();
    Ok(respond(call, 201, &status))
}

fn set_condition(pod: &mut Value, kind: &str, value: &str, now: &str) {
    let mut condition = Value::object();
    *condition.entry_at(&["type"]) = kind.into();
    *condition.entry_at(&["status"]) = value.into();
    *condition.entry_at(&["lastProbeTime"]) = Value::NULL;
    *condition.entry_at(&["lastTransitionTime"]) = now.into();
    let conditions = pod.entry_at(&["status", "conditions"]);
    if conditions.as_array().is_none() {
        *conditions = Vec::new().into();
    }
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|existing| existing.str_at(&["type"]) != Some(kind));
        list.push(condition);
    }
}

/// `POST pods/NAME/eviction`: a deletion that a disruption budget can refuse.
pub(crate) async fn evict(call: &Call) -> Answer {
    let eviction = body::object(call, "Eviction", "policy/v1")?;
    let pod =
        call.server.store.get("/pods", &call.key()).ok_or_else(|| Failure::not_found(PODS, call.name()))?;
    let finished =
        matches!(pod.value().str_at(&["status", "phase"]), Some("Succeeded" | "Failed" | "Pending"));
    if !finished {
        let budgets = call
            .server
            .store
            .list("policy/poddisruptionbudgets", Some(call.namespace()), None, usize::MAX, |_| true)
            .0;
        for budget in budgets.objects {
            let value = budget.value();
            let selector = Selector::from_object(value.at(&["spec", "selector"])).ok().flatten();
            if !selector.is_some_and(|selector| selector.matches(|key| pod.label(key))) {
                continue;
            }
            if value.at(&["status", "disruptionsAllowed"]).and_then(Value::as_i64).unwrap_or(0) <= 0 {
                let mut failure = Failure::too_many_requests(
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    0,
                );
                let healthy = value.at(&["status", "currentHealthy"]).and_then(Value::as_i64).unwrap_or(0);
                let desired = value.at(&["status", "desiredHealthy"]).and_then(Value::as_i64).unwrap_or(0);
                if let Some(details) = &mut failure.details {
                    details.causes.push(crate::status::Cause {
                        reason: "DisruptionBudget",
                        message: format!("The disruption budget {} needs {desired} healthy pods and has {healthy} currently", budget.key.name),
                        field: String::new(),
                    });
                }
                return Err(failure);
            }
        }
    }
    let options = eviction.get("deleteOptions").cloned().unwrap_or_else(Value::object);
    let pods = call.registry.get("", "v1", "pods").ok_or_else(Failure::no_such_resource)?.clone();
    let path = crate::path::ResourcePath { subresource: None, ..call.path.clone() };
    let inner = Call {
        resource: pods,
        path,
        body: crate::response::to_json(&options).into(),
        ..call.clone_for_write()
    };
    delete::delete(&inner).await?;
    let mut status = Value::object();
    *status.entry_at(&["kind"]) = "Status".into();
    *status.entry_at(&["apiVersion"]) = "v1".into();
    *status.entry_at(&["metadata"]) = Value::object();
    *status.entry_at(&["status"]) = "Success".into();
    *status.entry_at(&["code"]) = 201.into();
    Ok(respond(call, 201, &status))
}

/// `log`, `exec`, `attach`, `portforward`, `proxy`: passed to whatever runs the pod.
pub(crate) async fn proxy(call: Call) -> Answer {
    let proxy = call.server.node_proxy.read().clone();
    let unavailable =
        || Failure::unavailable("no node agent is connected to this server, so pods cannot be reached");
    let request = |call: &Call| {
        let mut request = Request::from_parts(call.parts.clone(), call.body.clone());
        request.extensions_mut().insert(call.user.clone());
        request
    };
    if call.resource.id() == "/nodes" {
        let key = ObjectKey { namespace: "".into(), name: call.name().into() };
        if call.server.store.get("/nodes", &key).is_none() {
            return Err(Failure::not_found(call.about(), call.name()));
        }
        let proxy = proxy.ok_or_else(unavailable)?;
        return Ok(proxy.node(call.name(), &call.path.rest, request(&call)).await);
    }
    if call.resource.id() != "/pods" {
        return Err(Failure::unavailable(format!(
            "proxying to {} is not served; use port-forward",
            call.resource.plural
        )));
    }
    let pod = call
        .server
        .store
        .get("/pods", &call.key())
        .ok_or_else(|| Failure::not_found(PODS, call.name()))?
        .value();
    check_container(&call, &pod)?;
    let node = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
    if node.is_empty() {
        return match call.path.subresource.as_deref() {
            // Nothing has run yet, so nothing has been logged.
            Some("log") => Ok(crate::response::text(200, "")),
            _ => Err(Failure::bad_request(format!("pod {} does not have a host assigned", call.name()))),
        };
    }
    let target = PodRequest {
        namespace: call.namespace().to_owned(),
        pod: call.name().to_owned(),
        uid: pod.str_at(&["metadata", "uid"]).unwrap_or_default().to_owned(),
        node: node.to_owned(),
        subresource: call.path.subresource.clone().unwrap_or_default(),
        path: call.path.rest.clone(),
    };
    let (proxy, request) = (proxy.ok_or_else(unavailable)?, request(&call));
    if upgrade::is_needed(&request) {
        return Ok(upgrade::pod(proxy, target, request).await);
    }
    Ok(proxy.pod(target, request).await)
}

fn check_container(call: &Call, pod: &Value) -> Result<(), Failure> {
    if !matches!(call.path.subresource.as_deref(), Some("log" | "exec" | "attach")) {
        return Ok(());
    }
    let mut names = Vec::new();
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        let containers = pod.at(&["spec", field]).and_then(Value::as_array);
        names.extend(containers.into_iter().flatten().filter_map(|container| container.str_at(&["name"])));
    }
    match call.query.get("container").filter(|container| !container.is_empty()) {
        Some(container) if !names.contains(&container) => {
            Err(Failure::bad_request(format!("container {container} is not valid for pod {}", call.name())))
        }
        None if pod
            .at(&["spec", "containers"])
            .and_then(Value::as_array)
            .is_some_and(|containers| containers.len() > 1) =>
        {
            let mains: Vec<&str> = pod
                .at(&["spec", "containers"])
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|container| container.str_at(&["name"]))
                .collect();
            Err(Failure::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                call.name(),
                mains.join(" ")
            )))
        }
        _ => Ok(()),
    }
}
