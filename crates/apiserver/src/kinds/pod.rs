//! Defaults of pods and pod templates.

use gantry_apimachinery::Value;

use super::default_at;

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub(super) fn default_pod(object: &mut Value) {
    default_spec(object.entry_at(&["spec"]));
    default_at(object, &["spec", "enableServiceLinks"], true);
    let tolerations = object.at(&["spec", "tolerations"]).is_none();
    if tolerations {
        let toleration = |key: &str| {
            let mut toleration = Value::object();
            *toleration.entry_at(&["key"]) = key.into();
            *toleration.entry_at(&["operator"]) = "Exists".into();
            *toleration.entry_at(&["effect"]) = "NoExecute".into();
            *toleration.entry_at(&["tolerationSeconds"]) = 300.into();
            toleration
        };
        *object.entry_at(&["spec", "tolerations"]) =
            vec![toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")]
                .into();
    }
    // A limit without a request is a request too.
    for list in ["initContainers", "containers"] {
        for container in object.at_mut(&["spec", list]).and_then(Value::as_array_mut).into_iter().flatten() {
            let limits = container
                .at(&["resources", "limits"])
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            for (resource, amount) in limits.iter() {
                default_at(container, &["resources", "requests", resource], amount.clone());
            }
        }
    }
}

/// What the server adds to a pod that is created.
pub(super) fn prepare_create(object: &mut Value) {
    default_at(object, &["spec", "serviceAccountName"], "default");
    let account = object.str_at(&["spec", "serviceAccountName"]).unwrap_or_default().to_owned();
    *object.entry_at(&["spec", "serviceAccount"]) = account.into();
    default_at(object, &["spec", "priority"], 0i64);
    default_at(object, &["spec", "preemptionPolicy"], "PreemptLowerPriority");
    *object.entry_at(&["status", "phase"]) = "Pending".into();
    let class = quality_of_service(object);
    *object.entry_at(&["status", "qosClass"]) = class.into();
}

/// Guaranteed if every container has equal cpu and memory requests and limits, BestEffort if none has any.
fn quality_of_service(object: &Value) -> &'static str {
    let mut any = false;
    let mut all_equal = true;
    for list in ["initContainers", "containers"] {
        for container in object.at(&["spec", list]).and_then(Value::as_array).into_iter().flatten() {
            for resource in ["cpu", "memory"] {
                let request = container.at(&["resources", "requests", resource]);
                let limit = container.at(&["resources", "limits", resource]);
                any |= request.is_some() || limit.is_some();
                all_equal &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
    }
    match (any, all_equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Defaults of a template at `path`, such as `spec.template`.
pub(super) fn default_template(object: &mut Value, path: &[&str]) {
    let template = object.entry_at(path);
    let spec = template.entry_at(&["spec"]);
    default_spec(spec);
}

fn default_spec(spec: &mut Value) {
    if spec.is_null() {
        return;
    }
    default_at(spec, &["restartPolicy"], "Always");
    default_at(spec, &["dnsPolicy"], "ClusterFirst");
    default_at(spec, &["terminationGracePeriodSeconds"], 30i64);
    default_at(spec, &["securityContext"], Value::object());
    default_at(spec, &["schedulerName"], "default-scheduler");
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    if let Some(account) = spec.str_at(&["serviceAccountName"]).map(str::to_owned) {
        *spec.entry_at(&["serviceAccount"]) = account.into();
    } else if let Some(account) = spec.str_at(&["serviceAccount"]).map(str::to_owned) {
        *spec.entry_at(&["serviceAccountName"]) = account.into();
    }
    for list in CONTAINER_LISTS {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            default_container(container, host_network);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        default_volume(volume);
    }
}

fn default_container(container: &mut Value, host_network: bool) {
    default_at(container, &["terminationMessagePath"], "/dev/termination-log");
    default_at(container, &["terminationMessagePolicy"], "File");
    default_at(container, &["resources"], Value::object());
    let image = container.str_at(&["image"]).unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let is_latest = !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    default_at(container, &["imagePullPolicy"], if is_latest { "Always" } else { "IfNotPresent" });
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default_at(port, &["protocol"], "TCP");
        if host_network && let Some(number) = port.get("containerPort").cloned() {
            default_at(port, &["hostPort"], number);
        }
    }
    for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if variable.at(&["valueFrom", "fieldRef"]).is_some() {
            default_at(variable, &["valueFrom", "fieldRef", "apiVersion"], "v1");
        }
        if variable.at(&["valueFrom", "resourceFieldRef"]).is_some() {
            default_at(variable, &["valueFrom", "resourceFieldRef", "divisor"], "0");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| !probe.is_null()) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(http) = container.at_mut(&["lifecycle", hook, "httpGet"]) {
            default_http(http);
        }
    }
}

fn default_probe(probe: &mut Value) {
    for (field, default) in
        [("timeoutSeconds", 1i64), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        let slot = probe.entry_at(&[field]);
        if slot.is_null() || slot.as_i64() == Some(0) {
            *slot = default.into();
        }
    }
    if let Some(http) = probe.get_mut("httpGet").filter(|http| !http.is_null()) {
        default_http(http);
    }
    if probe.get("grpc").is_some_and(|grpc| !grpc.is_null()) {
        default_at(probe, &["grpc", "service"], "");
    }
}

fn default_http(http: &mut Value) {
    default_at(http, &["path"], "/");
    default_at(http, &["scheme"], "HTTP");
}

const FILE_MODE: i64 = 0o644;

fn default_volume(volume: &mut Value) {
    let sources = ["configMap", "secret", "downwardAPI", "projected"];
    for source in sources {
        if volume.get(source).is_some_and(|value| !value.is_null()) {
            default_at(volume, &[source, "defaultMode"], FILE_MODE);
        }
    }
    if volume.get("hostPath").is_some_and(|value| !value.is_null()) {
        default_at(volume, &["hostPath", "type"], "");
    }
    let has_source = volume
        .as_object()
        .is_some_and(|map| map.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        default_at(volume, &["emptyDir"], Value::object());
    }
    let items = |volume: &mut Value, path: &[&str]| {
        for item in volume.at_mut(path).and_then(Value::as_array_mut).into_iter().flatten() {
            if item.get("fieldRef").is_some() {
                default_at(item, &["fieldRef", "apiVersion"], "v1");
            }
        }
    };
    items(volume, &["downwardAPI", "items"]);
    for source in volume.at_mut(&["projected", "sources"]).and_then(Value::as_array_mut).into_iter().flatten()
    {
        items(source, &["downwardAPI", "items"]);
        if source.get("serviceAccountToken").is_some() {
            default_at(source, &["serviceAccountToken", "expirationSeconds"], 3600i64);
        }
    }
}
