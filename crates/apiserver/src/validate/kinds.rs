//! The rules of single kinds.

use std::collections::HashSet;

use gantry_apimachinery::structural::{self, Structural};
use gantry_apimachinery::{Map, Selector, Value, names};

use super::{autoscaling, immutable, integer, list, not_negative, one_of, pod, port_in_range};
use crate::crd;
use crate::status::FieldError;

pub(super) fn validate(id: &str, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    match id {
        "/pods" => pod::pod(object, old, errors),
        "/configmaps" => config_map(object, old, errors),
        "/secrets" => secret(object, old, errors),
        "/services" => service(object, old, errors),
        "apps/deployments" => {
            not_negative(object, &["spec", "replicas"], errors);
            workload(object, "deployment", errors);
            deployment_strategy(object, errors);
            immutable(object, old, &["spec", "selector"], errors);
        }
        "apps/replicasets" => {
            not_negative(object, &["spec", "replicas"], errors);
            workload(object, "replica set", errors);
            immutable(object, old, &["spec", "selector"], errors);
        }
        "apps/daemonsets" => {
            workload(object, "daemonset", errors);
            immutable(object, old, &["spec", "selector"], errors);
        }
        "apps/statefulsets" => {
            not_negative(object, &["spec", "replicas"], errors);
            workload(object, "statefulset", errors);
            stateful_set_update(object, old, errors);
        }
        "batch/jobs" => job(object, &["spec"], old, errors),
        "batch/cronjobs" => cron_job(object, errors),
        "networking.k8s.io/ingresses" => ingress(object, errors),
        "autoscaling/horizontalpodautoscalers" => autoscaling::autoscaler(object, errors),
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings" => {
            if let Some(old) = old
                && old.get("roleRef") != object.get("roleRef")
            {
                errors.push(FieldError::invalid(
                    "roleRef",
                    object.get("roleRef").unwrap_or(&Value::NULL),
                    "cannot change roleRef",
                ));
            }
        }
        "scheduling.k8s.io/priorityclasses" => immutable(object, old, &["value"], errors),
        crd::COLLECTION => definition(object, errors),
        _ => {}
    }
}

// === configuration ===

fn keys(map: Option<&Value>, field: &str, errors: &mut Vec<FieldError>) {
    for (key, _) in map.and_then(Value::as_object).into_iter().flat_map(Map::iter) {
        if let Some(why) = names::config_key_error(key) {
            errors.push(FieldError::invalid(format!("{field}[{key}]"), &key.as_str().into(), &why));
        }
    }
}

/// An object marked immutable stays as it is, mark included.
fn frozen(object: &Value, old: Option<&Value>, fields: &[&str], errors: &mut Vec<FieldError>) {
    let Some(old) = old.filter(|old| old.get("immutable").and_then(Value::as_bool) == Some(true)) else {
        return;
    };
    let why = "field is immutable when `immutable` is set";
    if object.get("immutable").and_then(Value::as_bool) != Some(true) {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for field in fields {
        if object.get(field) != old.get(field) {
            errors.push(FieldError::forbidden(*field, why));
        }
    }
}

fn config_map(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    keys(object.get("data"), "data", errors);
    keys(object.get("binaryData"), "binaryData", errors);
    frozen(object, old, &["data", "binaryData"], errors);
}

fn secret(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    keys(object.get("data"), "data", errors);
    let required: &[&str] = match object.str_at(&["type"]) {
        Some("kubernetes.io/tls") => &["tls.crt", "tls.key"],
        Some("kubernetes.io/dockerconfigjson") => &[".dockerconfigjson"],
        Some("kubernetes.io/ssh-auth") => &["ssh-privatekey"],
        _ => &[],
    };
    for key in required {
        if object.at(&["data", key]).is_none() {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    }
    immutable(object, old, &["type"], errors);
    frozen(object, old, &["data"], errors);
}

// === services and routes ===

fn service(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let kind = object.str_at(&["spec", "type"]).unwrap_or_default();
    let headless = object.str_at(&["spec", "clusterIP"]) == Some("None");
    let ports = list(object, &["spec", "ports"]);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        match port.str_at(&["name"]).unwrap_or_default() {
            "" if ports.len() > 1 => errors.push(FieldError::required(format!("{at}.name"), "")),
            "" => {}
            name => {
                errors.extend(
                    names::label_errors(name)
                        .into_iter()
                        .map(|why| FieldError::invalid(format!("{at}.name"), &name.into(), &why)),
                );
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(format!("{at}.name"), &name.into()));
                }
            }
        }
        port_in_range(integer(port, &["port"]).unwrap_or(0), format!("{at}.port"), errors);
        one_of(port.get("protocol"), format!("{at}.protocol"), &["SCTP", "TCP", "UDP"], errors);
        if let Some(number) = integer(port, &["targetPort"]) {
            port_in_range(number, format!("{at}.targetPort"), errors);
        }
    }
    one_of(object.at(&["spec", "sessionAffinity"]), "spec.sessionAffinity", &["ClientIP", "None"], errors);
    one_of(
        object.at(&["spec", "type"]),
        "spec.type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        errors,
    );
    if kind == "ExternalName" && object.str_at(&["spec", "externalName"]).is_none_or(str::is_empty) {
        errors.push(FieldError::required("spec.externalName", ""));
    }
    if let Some(before) =
        old.and_then(|old| old.str_at(&["spec", "clusterIP"])).filter(|before| !before.is_empty())
        && kind != "ExternalName"
        && object.str_at(&["spec", "clusterIP"]) != Some(before)
    {
        let value = object.at(&["spec", "clusterIPs"]).cloned().unwrap_or_default();
        errors.push(FieldError::invalid("spec.clusterIPs[0]", &value, "may not change once set"));
    }
}

fn ingress(object: &Value, errors: &mut Vec<FieldError>) {
    let rules = list(object, &["spec", "rules"]);
    if rules.is_empty() && object.at(&["spec", "defaultBackend"]).is_none() {
        let spec = object.get("spec").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(
            "spec",
            &spec,
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if let Some(default) = object.at(&["spec", "defaultBackend"]) {
        ingress_backend(default, "spec.defaultBackend", errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        if let Some(host) = rule.str_at(&["host"]).filter(|host| !host.is_empty()) {
            let plain = host.strip_prefix("*.").unwrap_or(host);
            errors.extend(
                names::subdomain_errors(plain)
                    .into_iter()
                    .map(|why| FieldError::invalid(format!("{at}.host"), &host.into(), &why)),
            );
        }
        let paths = list(rule, &["http", "paths"]);
        if rule.get("http").is_some() && paths.is_empty() {
            errors.push(FieldError::required(format!("{at}.http.paths"), ""));
        }
        for (index, path) in paths.iter().enumerate() {
            let at = format!("{at}.http.paths[{index}]");
            let text = path.str_at(&["path"]).unwrap_or_default();
            match path.str_at(&["pathType"]) {
                None | Some("") => {
                    errors.push(FieldError::required(format!("{at}.pathType"), "pathType must be specified"))
                }
                Some("Exact" | "Prefix") if !text.starts_with('/') => {
                    errors.push(FieldError::invalid(
                        format!("{at}.path"),
                        &text.into(),
                        "must be an absolute path",
                    ));
                }
                Some("ImplementationSpecific") if !text.is_empty() && !text.starts_with('/') => {
                    errors.push(FieldError::invalid(
                        format!("{at}.path"),
                        &text.into(),
                        "must be an absolute path",
                    ));
                }
                Some("Exact" | "Prefix" | "ImplementationSpecific") => {}
                Some(_) => one_of(
                    path.get("pathType"),
                    format!("{at}.pathType"),
                    &["Exact", "ImplementationSpecific", "Prefix"],
                    errors,
                ),
            }
            ingress_backend(path.get("backend").unwrap_or(&Value::NULL), &format!("{at}.backend"), errors);
        }
    }
}

fn ingress_backend(backend: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if backend.get("resource").is_some_and(|resource| !resource.is_null()) {
        return;
    }
    let Some(service) = backend.get("service") else {
        errors.push(FieldError::required(at, "resource or service backend is required"));
        return;
    };
    if service.str_at(&["name"]).is_none_or(str::is_empty) {
        errors.push(FieldError::required(format!("{at}.service.name"), ""));
    }
    let number = integer(service, &["port", "number"]).filter(|number| *number != 0);
    let name = service.str_at(&["port", "name"]).filter(|name| !name.is_empty());
    match (number, name) {
        (None, None) => {
            errors.push(FieldError::required(format!("{at}.service.port"), "port name or number is required"))
        }
        (Some(_), Some(_)) => {
            let value = service.get("port").cloned().unwrap_or_default();
            errors.push(FieldError::invalid(
                format!("{at}.service.port"),
                &value,
                "cannot set both port name & port number",
            ));
        }
        (Some(number), None) => port_in_range(number, format!("{at}.service.port.number"), errors),
        (None, Some(_)) => {}
    }
}

// === workloads ===

/// Selector and template of a kind that keeps pods, which must agree.
fn workload(object: &Value, what: &str, errors: &mut Vec<FieldError>) {
    let selector_value = object.at(&["spec", "selector"]);
    match Selector::from_object(selector_value) {
        Ok(None) => errors.push(FieldError::required("spec.selector", "")),
        Ok(Some(selector)) if selector.is_empty() => {
            let value = selector_value.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(
                "spec.selector",
                &value,
                &format!("empty selector is invalid for {what}"),
            ));
        }
        Ok(Some(selector)) => {
            let labels = object.at(&["spec", "template", "metadata", "labels"]);
            if object.at(&["spec", "template"]).is_some() && !selector.matches_labels(labels) {
                let value = labels.cloned().unwrap_or_default();
                errors.push(FieldError::invalid(
                    "spec.template.metadata.labels",
                    &value,
                    "`selector` does not match template `labels`",
                ));
            }
        }
        Err(error) => errors.push(FieldError::invalid(
            "spec.selector",
            selector_value.unwrap_or(&Value::NULL),
            &error.to_string(),
        )),
    }
    pod::template(object, &["spec", "template"], &["Always"], errors);
}

fn deployment_strategy(object: &Value, errors: &mut Vec<FieldError>) {
    let rolling = object.at(&["spec", "strategy", "rollingUpdate"]);
    match object.str_at(&["spec", "strategy", "type"]) {
        Some("Recreate") if rolling.is_some() => {
            errors.push(FieldError::forbidden(
                "spec.strategy.rollingUpdate",
                "may not be specified when strategy `type` is 'Recreate'",
            ));
        }
        Some("RollingUpdate") => {
            let zero = |field: &str| {
                let value = rolling.and_then(|rolling| rolling.get(field));
                value.is_some_and(|value| {
                    value.as_i64() == Some(0) || matches!(value.as_str(), Some("0%" | "0"))
                })
            };
            if zero("maxUnavailable") && zero("maxSurge") {
                let value =
                    rolling.and_then(|rolling| rolling.get("maxUnavailable")).cloned().unwrap_or_default();
                errors.push(FieldError::invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    &value,
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
        }
        Some("Recreate") | None => {}
        Some(kind) => {
            // Kubernetes shows its internal form of the whole strategy here.
            let mut shown = Map::new();
            shown.insert("Type", kind);
            shown.insert("RollingUpdate", rolling.cloned().unwrap_or_default());
            errors.push(FieldError::not_supported(
                "spec.strategy",
                &shown.into(),
                &["Recreate", "RollingUpdate"],
            ));
        }
    }
}

fn stateful_set_update(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    const CHANGEABLE: [&str; 7] = [
        "replicas",
        "template",
        "updateStrategy",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
    ];
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        if let Some(map) = spec.as_object_mut() {
            map.retain(|field, _| !CHANGEABLE.contains(&field.as_str()));
        }
        spec
    };
    if old.is_some_and(|old| fixed(old) != fixed(object)) {
        errors.push(FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}

fn job(object: &Value, spec: &[&str], old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = |field: &'static str| -> Vec<&str> { spec.iter().copied().chain([field]).collect() };
    for field in
        ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"]
    {
        not_negative(object, &path(field), errors);
    }
    pod::template(object, &path("template"), &["OnFailure", "Never"], errors);
    for field in ["selector", "template", "completionMode"] {
        immutable(object, old, &path(field), errors);
    }
}

fn cron_job(object: &Value, errors: &mut Vec<FieldError>) {
    let schedule = object.str_at(&["spec", "schedule"]).unwrap_or_default();
    if schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else if let Some(why) = schedule_error(schedule) {
        errors.push(FieldError::invalid("spec.schedule", &schedule.into(), &why));
    }
    one_of(
        object.at(&["spec", "concurrencyPolicy"]),
        "spec.concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
        errors,
    );
    job(object, &["spec", "jobTemplate", "spec"], None, errors);
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
    if name.len() > 52 {
        errors.push(FieldError::invalid("metadata.name", &name.into(), "must be no more than 52 characters"));
    }
}

/// What is wrong with a cron expression, in the words of the parser Kubernetes uses.
fn schedule_error(schedule: &str) -> Option<String> {
    if let Some(name) = schedule.strip_prefix('@') {
        let known =
            matches!(name, "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly")
                || name.starts_with("every ");
        return (!known).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    const RANGES: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    fields
        .iter()
        .zip(RANGES)
        .find_map(|(field, range)| field.split(',').find_map(|part| cron_part_error(part, range)))
}

fn cron_part_error(part: &str, (low, high): (u32, u32)) -> Option<String> {
    let (base, step) = part.split_once('/').map_or((part, None), |(base, step)| (base, Some(step)));
    if let Some(step) = step {
        match step.parse::<u32>() {
            Ok(0) => return Some(format!("step of range should be a positive number: {part}")),
            Ok(_) => {}
            Err(_) => {
                return Some(format!(
                    "failed to parse int from {step}: strconv.Atoi: parsing {step:?}: invalid syntax"
                ));
            }
        }
    }
    if matches!(base, "*" | "?") {
        return None;
    }
    let (start, end) = base.split_once('-').map_or((base, base), |(start, end)| (start, end));
    let number = |text: &str| -> Result<u32, String> {
        const NAMES: [&str; 19] = [
            "sun", "mon", "tue", "wed", "thu", "fri", "sat", "jan", "feb", "mar", "apr", "may", "jun", "jul",
            "aug", "sep", "oct", "nov", "dec",
        ];
        match NAMES.iter().position(|name| *name == text.to_ascii_lowercase()) {
            Some(day) if day < 7 && high == 6 => Ok(day as u32),
            Some(month) if month >= 7 && high == 12 => Ok(month as u32 - 6),
            _ => text.parse().map_err(|_| {
                format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
            }),
        }
    };
    match (number(start), number(end)) {
        (Err(why), _) | (_, Err(why)) => Some(why),
        (Ok(start), _) if start < low => {
            Some(format!("beginning of range ({start}) below minimum ({low}): {part}"))
        }
        (_, Ok(end)) if end > high => Some(format!("end of range ({end}) above maximum ({high}): {part}")),
        (Ok(start), Ok(end)) if start > end => {
            Some(format!("beginning of range ({start}) beyond end of range ({end}): {part}"))
        }
        _ => None,
    }
}

// === the rest ===

fn definition(object: &Value, errors: &mut Vec<FieldError>) {
    let text = |path: &[&str]| object.str_at(path).unwrap_or_default();
    let (name, group, plural) =
        (text(&["metadata", "name"]), text(&["spec", "group"]), text(&["spec", "names", "plural"]));
    if name != format!("{plural}.{group}") {
        errors.push(FieldError::invalid(
            "metadata.name",
            &name.into(),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else {
        errors.extend(
            names::subdomain_errors(group)
                .into_iter()
                .map(|why| FieldError::invalid("spec.group", &group.into(), &why)),
        );
    }
    match object.at(&["spec", "scope"]) {
        None => errors.push(FieldError::required("spec.scope", "")),
        scope => one_of(scope, "spec.scope", &["Cluster", "Namespaced"], errors),
    }
    for field in ["plural", "kind"] {
        let value = text(&["spec", "names", field]);
        if value.is_empty() {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
        let lower = value.to_lowercase();
        errors.extend(
            names::label_1035_errors(&lower)
                .into_iter()
                .filter(|_| !value.is_empty())
                .map(|why| FieldError::invalid(format!("spec.names.{field}"), &value.into(), &why)),
        );
    }
    let versions = list(object, &["spec", "versions"]);
    let stored = versions
        .iter()
        .filter(|version| version.get("storage").and_then(Value::as_bool) == Some(true))
        .count();
    if versions.is_empty() {
        errors.push(FieldError::required("spec.versions", ""));
    } else if stored != 1 {
        let value = object.at(&["spec", "versions"]).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(
            "spec.versions",
            &value,
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        let name = version.str_at(&["name"]).unwrap_or_default();
        errors.extend(
            names::label_1035_errors(name)
                .into_iter()
                .map(|why| FieldError::invalid(format!("spec.versions[{index}].name"), &name.into(), &why)),
        );
        if version.at(&["schema", "openAPIV3Schema"]).is_none() {
            errors.push(FieldError::required(
                format!("spec.versions[{index}].schema.openAPIV3Schema"),
                "schemas are required",
            ));
        }
        if let Some(schema) = version.at(&["schema", "openAPIV3Schema"])
            && let Err(error) = Structural::parse(schema).and_then(|schema| structural::check_rules(&schema))
        {
            let at = format!("spec.versions[{index}].schema.openAPIV3Schema");
            let dot = if error.path.is_empty() { "" } else { "." };
            let field = format!("{at}{dot}{}", error.path);
            errors.push(FieldError { reason: "FieldValueInvalid", field, message: error.why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in ["0 3 * * *", "*/5 1-3 1,15 jan mon", "@daily", "@every 5m"] {
            assert_eq!(schedule_error(good), None, "{good}");
        }
        assert_eq!(
            schedule_error("nonsense").as_deref(),
            Some("expected exactly 5 fields, found 1: [nonsense]")
        );
        for bad in ["61 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "a * * * *", "@never"] {
            assert!(schedule_error(bad).is_some(), "{bad}");
        }
    }
}
