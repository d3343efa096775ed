//! Pods and pod templates.

use std::cmp::Ordering;
use std::collections::HashSet;

use gantry_apimachinery::{Value, names, quantity};

use super::{labels, list, one_of, port_in_range};
use crate::status::FieldError;

const ENV_NAME_MESSAGE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// A template at `path` of `object` whose pods may restart as `restart_policies` say.
pub(super) fn template(
    object: &Value,
    path: &[&str],
    restart_policies: &[&str],
    errors: &mut Vec<FieldError>,
) {
    let prefix = path.join(".");
    let Some(template) = object.at(path) else {
        errors.push(FieldError::required(prefix, ""));
        return;
    };
    labels(template.at(&["metadata", "labels"]), &format!("{prefix}.metadata.labels"), errors);
    spec(template.get("spec").unwrap_or(&Value::NULL), &format!("{prefix}.spec"), errors);
    one_of(
        template.at(&["spec", "restartPolicy"]),
        format!("{prefix}.spec.restartPolicy"),
        restart_policies,
        errors,
    );
}

pub(super) fn pod(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    spec(object.get("spec").unwrap_or(&Value::NULL), "spec", errors);
    one_of(
        object.at(&["spec", "restartPolicy"]),
        "spec.restartPolicy",
        &["Always", "OnFailure", "Never"],
        errors,
    );
    if let Some(old) = old
        && fixed_part(object) != fixed_part(old)
    {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        errors.push(FieldError::forbidden("spec", why));
    }
}

/// The spec without what may change: images, deadlines, tolerations, what binding and resizing set.
fn fixed_part(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    if let Some(map) = spec.as_object_mut() {
        for field in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
            "nodeName",
            "ephemeralContainers",
            "schedulingGates",
            "resources",
        ] {
            map.remove(field);
        }
        for containers in ["containers", "initContainers"] {
            for container in map.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                    container.remove("resources");
                }
            }
        }
    }
    spec
}

fn spec(spec: &Value, prefix: &str, errors: &mut Vec<FieldError>) {
    let mut volumes = HashSet::new();
    for (index, volume) in list(spec, &["volumes"]).iter().enumerate() {
        let field = format!("{prefix}.volumes[{index}].name");
        let name = volume.str_at(&["name"]).unwrap_or_default();
        dns_label(name, &field, errors);
        if !volumes.insert(name) {
            errors.push(FieldError::duplicate(field, &name.into()));
        }
    }
    let containers = list(spec, &["containers"]);
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{prefix}.containers"), ""));
    }
    let mut seen = HashSet::new();
    for lists in ["containers", "initContainers"] {
        for (index, one) in list(spec, &[lists]).iter().enumerate() {
            let at = format!("{prefix}.{lists}[{index}]");
            container(one, &at, &volumes, errors);
            let name = one.str_at(&["name"]).unwrap_or_default();
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{at}.name"), &name.into()));
            }
        }
    }
    one_of(
        spec.get("dnsPolicy"),
        format!("{prefix}.dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    if let Some(seconds) =
        spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).filter(|seconds| *seconds < 0)
    {
        errors.push(FieldError::invalid(
            format!("{prefix}.terminationGracePeriodSeconds"),
            &seconds.into(),
            "must be greater than or equal to 0",
        ));
    }
}

fn dns_label(name: &str, field: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    errors.extend(
        names::label_errors(name).into_iter().map(|why| FieldError::invalid(field, &name.into(), &why)),
    );
}

fn container(container: &Value, at: &str, volumes: &HashSet<&str>, errors: &mut Vec<FieldError>) {
    dns_label(container.str_at(&["name"]).unwrap_or_default(), &format!("{at}.name"), errors);
    match container.str_at(&["image"]).unwrap_or_default() {
        "" => errors.push(FieldError::required(format!("{at}.image"), "")),
        image if image.trim() != image => {
            errors.push(FieldError::invalid(
                format!("{at}.image"),
                &image.into(),
                "must not have leading or trailing whitespace",
            ));
        }
        _ => {}
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(value) = container.get(probe).filter(|value| !value.is_null()) {
            check_probe(value, &format!("{at}.{probe}"), errors);
        }
    }
    ports(container, at, errors);
    for (index, variable) in list(container, &["env"]).iter().enumerate() {
        let field = format!("{at}.env[{index}].name");
        match variable.str_at(&["name"]).unwrap_or_default() {
            "" => errors.push(FieldError::required(field, "")),
            name if !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') => {
                errors.push(FieldError::invalid(field, &name.into(), ENV_NAME_MESSAGE));
            }
            _ => {}
        }
        if variable.str_at(&["value"]).is_some_and(|value| !value.is_empty())
            && variable.get("valueFrom").is_some()
        {
            errors.push(FieldError::invalid(
                format!("{at}.env[{index}].valueFrom"),
                &"".into(),
                "may not be specified when `value` is not empty",
            ));
        }
    }
    for (index, mount) in list(container, &["volumeMounts"]).iter().enumerate() {
        let name = mount.str_at(&["name"]).unwrap_or_default();
        let field = format!("{at}.volumeMounts[{index}]");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if !volumes.contains(name) {
            errors.push(FieldError::not_found(format!("{field}.name"), &name.into()));
        }
        if mount.str_at(&["mountPath"]).is_none_or(str::is_empty) {
            errors.push(FieldError::required(format!("{field}.mountPath"), ""));
        }
    }
    one_of(
        container.get("imagePullPolicy"),
        format!("{at}.imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    resources(container, at, errors);
}

fn ports(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let mut names_seen = HashSet::new();
    for (index, port) in list(container, &["ports"]).iter().enumerate() {
        let field = format!("{at}.ports[{index}]");
        if let Some(name) = port.str_at(&["name"]).filter(|name| !name.is_empty()) {
            if name.len() > 15 {
                errors.push(FieldError::invalid(
                    format!("{field}.name"),
                    &name.into(),
                    "must be no more than 15 characters",
                ));
            }
            if !names_seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &name.into()));
            }
        }
        match port.get("containerPort").and_then(Value::as_i64).unwrap_or(0) {
            0 => errors.push(FieldError::required(format!("{field}.containerPort"), "")),
            number => port_in_range(number, format!("{field}.containerPort"), errors),
        }
        if let Some(number) = port.get("hostPort").and_then(Value::as_i64).filter(|number| *number != 0) {
            port_in_range(number, format!("{field}.hostPort"), errors);
        }
        one_of(port.get("protocol"), format!("{field}.protocol"), &["SCTP", "TCP", "UDP"], errors);
    }
}

fn check_probe(probe: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"];
    match handlers.iter().filter(|handler| probe.get(handler).is_some_and(|value| !value.is_null())).count() {
        0 => errors.push(FieldError::required(at, "must specify a handler type")),
        1 => {}
        _ => errors.push(FieldError::forbidden(at, "may not specify more than 1 handler type")),
    }
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        if let Some(number) = probe.get(field).and_then(Value::as_i64).filter(|number| *number < 0) {
            errors.push(FieldError::invalid(
                format!("{at}.{field}"),
                &number.into(),
                "must be greater than or equal to 0",
            ));
        }
    }
    for handler in ["httpGet", "tcpSocket"] {
        if let Some(number) = probe.at(&[handler, "port"]).and_then(Value::as_i64) {
            port_in_range(number, format!("{at}.{handler}.port"), errors);
        }
    }
}

fn resources(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for kind in ["limits", "requests"] {
        let amounts = container.at(&["resources", kind]).and_then(Value::as_object);
        for (resource, amount) in amounts.into_iter().flat_map(|amounts| amounts.iter()) {
            let field = format!("{at}.resources.{kind}[{resource}]");
            let text = amount.as_str().unwrap_or_default();
            match quantity::Quantity::parse(text) {
                None => errors.push(FieldError::invalid(field, amount, quantity::FORMAT_MESSAGE)),
                Some(parsed) if parsed < quantity::Quantity::ZERO => {
                    errors.push(FieldError::invalid(field, amount, "must be greater than or equal to 0"));
                }
                Some(_) => {}
            }
        }
    }
    let requests = container.at(&["resources", "requests"]).and_then(Value::as_object);
    for (resource, request) in requests.into_iter().flat_map(|requests| requests.iter()) {
        let (Some(wanted), Some(limit)) =
            (request.as_str(), container.str_at(&["resources", "limits", resource]))
        else {
            continue;
        };
        if quantity::compare(wanted, limit) == Some(Ordering::Greater) {
            let why = format!("must be less than or equal to {resource} limit of {limit}");
            errors.push(FieldError::invalid(format!("{at}.resources.requests"), request, &why));
        }
    }
}
