//! The columns of every built-in kind that has its own, as `kubectl get` shows them.

use gantry_apimachinery::{Kind, Selector, Value, time};

use super::{AGE, CREATED, Cell, Column, NAME, NONE, column, human_duration, pods, wide};

/// The columns of a collection; name and age where a kind has none of its own.
pub(super) fn columns(id: &str) -> &'static [Column] {
    match id {
        "/pods" => PODS,
        "/services" => SERVICES,
        "/endpoints" => ENDPOINTS,
        "/configmaps" => CONFIG_MAPS,
        "/secrets" => SECRETS,
        "/namespaces" => NAMESPACES,
        "/nodes" => NODES,
        "/events" => EVENTS,
        "/serviceaccounts" => &[NAME, AGE],
        "/replicationcontrollers" => REPLICATION_CONTROLLERS,
        "/resourcequotas" => QUOTAS,
        "/persistentvolumeclaims" => CLAIMS,
        "/persistentvolumes" => VOLUMES,
        "apps/deployments" => DEPLOYMENTS,
        "apps/replicasets" => REPLICA_SETS,
        "apps/statefulsets" => STATEFUL_SETS,
        "apps/daemonsets" => DAEMON_SETS,
        "apps/controllerrevisions" => CONTROLLER_REVISIONS,
        "batch/jobs" => JOBS,
        "batch/cronjobs" => CRON_JOBS,
        "autoscaling/horizontalpodautoscalers" => AUTOSCALERS,
        "networking.k8s.io/ingresses" => INGRESSES,
        "networking.k8s.io/ingressclasses" => INGRESS_CLASSES,
        "networking.k8s.io/networkpolicies" => NETWORK_POLICIES,
        "discovery.k8s.io/endpointslices" => ENDPOINT_SLICES,
        "policy/poddisruptionbudgets" => BUDGETS,
        "coordination.k8s.io/leases" => LEASES,
        "scheduling.k8s.io/priorityclasses" => PRIORITY_CLASSES,
        "storage.k8s.io/storageclasses" => STORAGE_CLASSES,
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings" => {
            BINDINGS
        }
        "rbac.authorization.k8s.io/roles"
        | "rbac.authorization.k8s.io/clusterroles"
        | "apiextensions.k8s.io/customresourcedefinitions" => {
            &[NAME, Column { name: "Created At", priority: 0, cell: Cell::Of(created_at) }]
        }
        "apiregistration.k8s.io/apiservices" => API_SERVICES,
        _ => &[NAME, AGE],
    }
}

// === shared cells ===

fn integer(value: &Value, path: &[&str]) -> i64 {
    value.at(path).and_then(Value::as_i64).unwrap_or(0)
}

fn text(value: &Value, path: &[&str]) -> String {
    value.str_at(path).unwrap_or_default().to_owned()
}

fn text_or(value: &Value, path: &[&str], default: &str) -> Value {
    value.str_at(path).filter(|text| !text.is_empty()).unwrap_or(default).into()
}

fn array<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    value.at(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn join(mut parts: Vec<String>, default: &str) -> Value {
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() { default.into() } else { parts.join(",").into() }
}

fn count(value: Option<&Value>) -> i64 {
    match value.map(|value| &value.kind) {
        Some(Kind::Object(map)) => map.len() as i64,
        Some(Kind::Array(items)) => items.len() as i64,
        _ => 0,
    }
}

fn created_at(object: &Value) -> Value {
    text_or(object, CREATED, "<unknown>")
}

fn container_fields(object: &Value, template: &[&str], field: &str) -> Value {
    let spec = object.at(template);
    let containers = spec.map(|spec| array(spec, &["containers"])).unwrap_or_default();
    Value::from(containers.iter().map(|container| text(container, &[field])).collect::<Vec<_>>().join(","))
}

fn containers(object: &Value) -> Value {
    container_fields(object, &["spec", "template", "spec"], "name")
}

fn images(object: &Value) -> Value {
    container_fields(object, &["spec", "template", "spec"], "image")
}

fn selector(object: &Value) -> Value {
    match Selector::from_object(object.at(&["spec", "selector"])) {
        Ok(Some(selector)) if !selector.is_empty() => selector.to_string().into(),
        _ => NONE.into(),
    }
}

fn map_selector(object: &Value) -> Value {
    plain_map(object.at(&["spec", "selector"]))
}

fn plain_map(map: Option<&Value>) -> Value {
    let mut pairs: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|map| map.iter())
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    pairs.sort();
    join(pairs, NONE)
}

fn age_of(timestamp: Option<&str>, against: Option<&str>) -> Option<String> {
    let (from, to) = (timestamp.and_then(time::parse_time)?, against.and_then(time::parse_time)?);
    Some(human_duration(to - from))
}

// === core ===

const PODS: &[Column] = &[
    NAME,
    column("Ready", pods::ready),
    column("Status", pods::status),
    column("Restarts", pods::restarts),
    AGE,
    wide("IP", pods::address),
    wide("Node", pods::node),
    wide("Nominated Node", pods::nominated),
    wide("Readiness Gates", pods::gates),
];

const SERVICES: &[Column] = &[
    NAME,
    column("Type", |o| text_or(o, &["spec", "type"], "")),
    column("Cluster-IP", |o| text_or(o, &["spec", "clusterIP"], NONE)),
    column("External-IP", external_address),
    column("Port(s)", service_ports),
    AGE,
    wide("Selector", map_selector),
];

fn external_address(service: &Value) -> Value {
    let external = || {
        array(service, &["spec", "externalIPs"])
            .iter()
            .filter_map(|address| address.as_str().map(str::to_owned))
    };
    match service.str_at(&["spec", "type"]) {
        Some("ExternalName") => text_or(service, &["spec", "externalName"], NONE),
        Some("LoadBalancer") => {
            let ingress = array(service, &["status", "loadBalancer", "ingress"]);
            let mut addresses: Vec<String> = ingress
                .iter()
                .map(|point| {
                    point.str_at(&["ip"]).or(point.str_at(&["hostname"])).unwrap_or_default().to_owned()
                })
                .collect();
            addresses.extend(external());
            join(addresses, "<pending>")
        }
        _ => join(external().collect(), NONE),
    }
}

fn service_ports(service: &Value) -> Value {
    let ports = array(service, &["spec", "ports"]).iter().map(|port| {
        let (number, node_port, protocol) =
            (integer(port, &["port"]), integer(port, &["nodePort"]), text(port, &["protocol"]));
        if node_port > 0 {
            format!("{number}:{node_port}/{protocol}")
        } else {
            format!("{number}/{protocol}")
        }
    });
    join(ports.collect(), NONE)
}

const ENDPOINTS: &[Column] = &[NAME, column("Endpoints", endpoint_addresses), AGE];

/// How many addresses a cell shows before it counts.
const MAX_SHOWN: usize = 3;

fn endpoint_addresses(endpoints: &Value) -> Value {
    let mut all = Vec::new();
    for subset in array(endpoints, &["subsets"]) {
        let ports = array(subset, &["ports"]);
        for address in array(subset, &["addresses"]) {
            let ip = text(address, &["ip"]);
            if ports.is_empty() {
                all.push(ip.clone());
            }
            all.extend(ports.iter().map(|port| format!("{ip}:{}", integer(port, &["port"]))));
        }
    }
    shown(all)
}

fn shown(mut all: Vec<String>) -> Value {
    let more = all.len().saturating_sub(MAX_SHOWN);
    all.truncate(MAX_SHOWN);
    match (join(all, NONE), more) {
        (cell, 0) => cell,
        (cell, more) => format!("{} + {more} more...", cell.as_str().unwrap_or_default()).into(),
    }
}

const CONFIG_MAPS: &[Column] =
    &[NAME, column("Data", |o| (count(o.get("data")) + count(o.get("binaryData"))).into()), AGE];
const SECRETS: &[Column] = &[
    NAME,
    column("Type", |o| text_or(o, &["type"], "")),
    column("Data", |o| count(o.get("data")).into()),
    AGE,
];
const NAMESPACES: &[Column] = &[NAME, column("Status", |o| text_or(o, &["status", "phase"], "")), AGE];
const REPLICATION_CONTROLLERS: &[Column] = &[
    NAME,
    column("Desired", |o| integer(o, &["spec", "replicas"]).into()),
    column("Current", |o| integer(o, &["status", "replicas"]).into()),
    column("Ready", |o| integer(o, &["status", "readyReplicas"]).into()),
    AGE,
    wide("Containers", containers),
    wide("Images", images),
    wide("Selector", map_selector),
];
const QUOTAS: &[Column] =
    &[NAME, column("Request", |o| quota_cell(o, false)), column("Limit", |o| quota_cell(o, true)), AGE];

fn quota_cell(quota: &Value, limits: bool) -> Value {
    let hard = quota.at(&["status", "hard"]).and_then(Value::as_object);
    let mut parts: Vec<String> = hard
        .into_iter()
        .flat_map(|hard| hard.iter())
        .filter(|(resource, _)| resource.starts_with("limits.") == limits)
        .map(|(resource, hard)| {
            format!(
                "{resource}: {}/{}",
                text(quota, &["status", "used", resource]),
                hard.as_str().unwrap_or_default()
            )
        })
        .collect();
    parts.sort();
    parts.join(", ").into()
}

const CLAIMS: &[Column] = &[
    NAME,
    column("Status", |o| {
        if o.at(&["metadata", "deletionTimestamp"]).is_some() {
            "Terminating".into()
        } else {
            text_or(o, &["status", "phase"], "")
        }
    }),
    column("Volume", |o| text_or(o, &["spec", "volumeName"], "")),
    column("Capacity", |o| text_or(o, &["status", "capacity", "storage"], "")),
    column("Access Modes", |o| access_modes(array(o, &["status", "accessModes"]))),
    column("StorageClass", |o| text_or(o, &["spec", "storageClassName"], "")),
    column("VolumeAttributesClass", |o| text_or(o, &["spec", "volumeAttributesClassName"], "<unset>")),
    AGE,
    wide("VolumeMode", |o| text_or(o, &["spec", "volumeMode"], "")),
];
const VOLUMES: &[Column] = &[
    NAME,
    column("Capacity", |o| text_or(o, &["spec", "capacity", "storage"], "")),
    column("Access Modes", |o| access_modes(array(o, &["spec", "accessModes"]))),
    column("Reclaim Policy", |o| text_or(o, &["spec", "persistentVolumeReclaimPolicy"], "")),
    column("Status", |o| text_or(o, &["status", "phase"], "")),
    column("Claim", |o| {
        match (o.str_at(&["spec", "claimRef", "namespace"]), o.str_at(&["spec", "claimRef", "name"])) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}").into(),
            _ => "".into(),
        }
    }),
    column("StorageClass", |o| text_or(o, &["spec", "storageClassName"], "")),
    column("VolumeAttributesClass", |o| text_or(o, &["spec", "volumeAttributesClassName"], "<unset>")),
    column("Reason", |o| text_or(o, &["status", "reason"], "")),
    AGE,
    wide("VolumeMode", |o| text_or(o, &["spec", "volumeMode"], "")),
];

fn access_modes(modes: &[Value]) -> Value {
    let short = |mode: &Value| {
        match mode.as_str() {
            Some("ReadWriteOnce") => "RWO",
            Some("ReadOnlyMany") => "ROX",
            Some("ReadWriteMany") => "RWX",
            Some("ReadWriteOncePod") => "RWOP",
            _ => "",
        }
        .to_owned()
    };
    join(modes.iter().map(short).collect(), "")
}

const NODES: &[Column] = &[
    NAME,
    column("Status", node_status),
    column("Roles", node_roles),
    AGE,
    column("Version", |o| text_or(o, &["status", "nodeInfo", "kubeletVersion"], "")),
    wide("Internal-IP", |o| node_address(o, "InternalIP")),
    wide("External-IP", |o| node_address(o, "ExternalIP")),
    wide("OS-Image", |o| text_or(o, &["status", "nodeInfo", "osImage"], "<unknown>")),
    wide("Kernel-Version", |o| text_or(o, &["status", "nodeInfo", "kernelVersion"], "<unknown>")),
    wide("Container-Runtime", |o| {
        text_or(o, &["status", "nodeInfo", "containerRuntimeVersion"], "<unknown>")
    }),
];

fn node_status(node: &Value) -> Value {
    let ready = array(node, &["status", "conditions"])
        .iter()
        .find(|condition| condition.str_at(&["type"]) == Some("Ready"));
    let mut words = vec![
        match ready.and_then(|ready| ready.str_at(&["status"])) {
            Some("True") => "Ready",
            Some(_) => "NotReady",
            None => "Unknown",
        }
        .to_owned(),
    ];
    if node.at(&["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true) {
        words.push("SchedulingDisabled".into());
    }
    join(words, "Unknown")
}

fn node_roles(node: &Value) -> Value {
    let labels = node.at(&["metadata", "labels"]).and_then(Value::as_object);
    let mut roles: Vec<String> = Vec::new();
    for (key, value) in labels.into_iter().flat_map(|labels| labels.iter()) {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/") {
            roles.push(role.to_owned());
        } else if key == "kubernetes.io/role" {
            roles.push(value.as_str().unwrap_or_default().to_owned());
        }
    }
    roles.sort();
    join(roles, NONE)
}

fn node_address(node: &Value, kind: &str) -> Value {
    let address =
        array(node, &["status", "addresses"]).iter().find(|address| address.str_at(&["type"]) == Some(kind));
    address.map_or(NONE.into(), |address| text_or(address, &["address"], NONE))
}

const EVENTS: &[Column] = &[
    Column { name: "Last Seen", priority: 0, cell: Cell::Since(last_seen, |_| "<unknown>".into()) },
    column("Type", |o| text_or(o, &["type"], "")),
    column("Reason", |o| text_or(o, &["reason"], "")),
    column("Object", |o| {
        format!(
            "{}/{}",
            text(o, &["involvedObject", "kind"]).to_lowercase(),
            text(o, &["involvedObject", "name"])
        )
        .into()
    }),
    wide("Subobject", |o| text_or(o, &["involvedObject", "fieldPath"], "")),
    wide("Source", |o| {
        let component = o
            .str_at(&["source", "component"])
            .filter(|text| !text.is_empty())
            .or(o.str_at(&["reportingComponent"]))
            .unwrap_or_default();
        match o.str_at(&["source", "host"]).filter(|host| !host.is_empty()) {
            Some(host) => format!("{component}, {host}").into(),
            None => component.into(),
        }
    }),
    column("Message", |o| text(o, &["message"]).trim().into()),
    Column { name: "First Seen", priority: 1, cell: Cell::Since(first_seen, |_| "<unknown>".into()) },
    wide("Count", |o| match o.at(&["series", "count"]).or(o.get("count")).and_then(Value::as_i64) {
        Some(count) => count.into(),
        None => 1.into(),
    }),
    wide("Name", |o| text_or(o, &["metadata", "name"], "")),
];

fn first_seen(event: &Value) -> Option<&str> {
    let at = |path: &[&str]| event.str_at(path).filter(|text| !text.is_empty());
    at(&["firstTimestamp"]).or(at(&["eventTime"])).or(at(CREATED))
}

fn last_seen(event: &Value) -> Option<&str> {
    let at = |path: &[&str]| event.str_at(path).filter(|text| !text.is_empty());
    at(&["series", "lastObservedTime"]).or(at(&["lastTimestamp"])).or(first_seen(event))
}

// === workloads ===

const DEPLOYMENTS: &[Column] = &[
    NAME,
    column("Ready", |o| {
        format!("{}/{}", integer(o, &["status", "readyReplicas"]), integer(o, &["spec", "replicas"])).into()
    }),
    column("Up-to-date", |o| integer(o, &["status", "updatedReplicas"]).into()),
    column("Available", |o| integer(o, &["status", "availableReplicas"]).into()),
    AGE,
    wide("Containers", containers),
    wide("Images", images),
    wide("Selector", selector),
];
const REPLICA_SETS: &[Column] = &[
    NAME,
    column("Desired", |o| integer(o, &["spec", "replicas"]).into()),
    column("Current", |o| integer(o, &["status", "replicas"]).into()),
    column("Ready", |o| integer(o, &["status", "readyReplicas"]).into()),
    AGE,
    wide("Containers", containers),
    wide("Images", images),
    wide("Selector", selector),
];
const STATEFUL_SETS: &[Column] = &[
    NAME,
    column("Ready", |o| {
        format!("{}/{}", integer(o, &["status", "readyReplicas"]), integer(o, &["spec", "replicas"])).into()
    }),
    AGE,
    wide("Containers", containers),
    wide("Images", images),
];
const DAEMON_SETS: &[Column] = &[
    NAME,
    column("Desired", |o| integer(o, &["status", "desiredNumberScheduled"]).into()),
    column("Current", |o| integer(o, &["status", "currentNumberScheduled"]).into()),
    column("Ready", |o| integer(o, &["status", "numberReady"]).into()),
    column("Up-to-date", |o| integer(o, &["status", "updatedNumberScheduled"]).into()),
    column("Available", |o| integer(o, &["status", "numberAvailable"]).into()),
    column("Node Selector", |o| plain_map(o.at(&["spec", "template", "spec", "nodeSelector"]))),
    AGE,
    wide("Containers", containers),
    wide("Images", images),
    wide("Selector", selector),
];
const CONTROLLER_REVISIONS: &[Column] = &[
    NAME,
    column("Controller", |o| {
        let owner = array(o, &["metadata", "ownerReferences"])
            .iter()
            .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
        owner.map_or(NONE.into(), |owner| {
            let group = owner
                .str_at(&["apiVersion"])
                .and_then(|version| version.split_once('/'))
                .map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}{group}/{}", text(owner, &["kind"]).to_lowercase(), text(owner, &["name"])).into()
        })
    }),
    column("Revision", |o| integer(o, &["revision"]).into()),
    AGE,
];
const JOBS: &[Column] = &[
    NAME,
    column("Status", job_status),
    column("Completions", |o| {
        let succeeded = integer(o, &["status", "succeeded"]);
        match (o.at(&["spec", "completions"]).and_then(Value::as_i64), integer(o, &["spec", "parallelism"])) {
            (Some(completions), _) => format!("{succeeded}/{completions}"),
            (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            (None, _) => format!("{succeeded}/1"),
        }
        .into()
    }),
    Column { name: "Duration", priority: 0, cell: Cell::Since(running_since, job_duration) },
    AGE,
    wide("Containers", containers),
    wide("Images", images),
    wide("Selector", selector),
];

fn job_status(job: &Value) -> Value {
    let has = |kind: &str| {
        array(job, &["status", "conditions"]).iter().any(|condition| {
            condition.str_at(&["type"]) == Some(kind) && condition.str_at(&["status"]) == Some("True")
        })
    };
    for (condition, word) in [("Complete", "Complete"), ("Failed", "Failed")] {
        if has(condition) {
            return word.into();
        }
    }
    if job.at(&["metadata", "deletionTimestamp"]).is_some() {
        return "Terminating".into();
    }
    for (condition, word) in [
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ] {
        if has(condition) {
            return word.into();
        }
    }
    "Running".into()
}

/// From start to completion.
fn job_duration(job: &Value) -> Value {
    age_of(job.str_at(&["status", "startTime"]), job.str_at(&["status", "completionTime"]))
        .unwrap_or_default()
        .into()
}

/// The start of a job that has not ended.
fn running_since(job: &Value) -> Option<&str> {
    let ended = job.at(&["status", "completionTime"]).is_some();
    job.str_at(&["status", "startTime"]).filter(|_| !ended)
}

const CRON_JOBS: &[Column] = &[
    NAME,
    column("Schedule", |o| text_or(o, &["spec", "schedule"], "")),
    column("Timezone", |o| text_or(o, &["spec", "timeZone"], NONE)),
    column("Suspend", |o| {
        if o.at(&["spec", "suspend"]).and_then(Value::as_bool) == Some(true) {
            "True".into()
        } else {
            "False".into()
        }
    }),
    column("Active", |o| count(o.at(&["status", "active"])).into()),
    Column {
        name: "Last Schedule",
        priority: 0,
        cell: Cell::Since(|o| o.str_at(&["status", "lastScheduleTime"]), |_| NONE.into()),
    },
    AGE,
    wide("Containers", |o| container_fields(o, CRON_TEMPLATE, "name")),
    wide("Images", |o| container_fields(o, CRON_TEMPLATE, "image")),
    wide("Selector", |_| NONE.into()),
];
const CRON_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template", "spec"];

// === the rest ===

const AUTOSCALERS: &[Column] = &[
    NAME,
    column("Reference", |o| {
        format!(
            "{}/{}",
            text(o, &["spec", "scaleTargetRef", "kind"]),
            text(o, &["spec", "scaleTargetRef", "name"])
        )
        .into()
    }),
    column("Targets", autoscaler_targets),
    column("MinPods", |o| {
        o.at(&["spec", "minReplicas"])
            .and_then(Value::as_i64)
            .map_or("<unset>".into(), |min| min.to_string().into())
    }),
    column("MaxPods", |o| integer(o, &["spec", "maxReplicas"]).into()),
    column("Replicas", |o| integer(o, &["status", "currentReplicas"]).into()),
    AGE,
];

/// At most this many metrics are shown.
const MAX_TARGETS: usize = 2;

fn autoscaler_targets(autoscaler: &Value) -> Value {
    let current = array(autoscaler, &["status", "currentMetrics"]);
    let metrics = array(autoscaler, &["spec", "metrics"]);
    let mut cells: Vec<String> = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        let kind = metric.str_at(&["type"]).unwrap_or_default();
        let (source, name) = match kind {
            "Resource" => ("resource", metric.str_at(&["resource", "name"])),
            "ContainerResource" => ("containerResource", metric.str_at(&["containerResource", "name"])),
            "Pods" => ("pods", None),
            "Object" => ("object", None),
            "External" => ("external", None),
            _ => {
                cells.push("<unknown type>".into());
                continue;
            }
        };
        let Some(target) = metric.at(&[source, "target"]) else { continue };
        let status = current.get(index).and_then(|current| current.at(&[source, "current"]));
        let prefix = name.map_or(String::new(), |name| format!("{name}: "));
        let shown = |value: Option<&Value>, field: &str, suffix: &str| match value
            .and_then(|value| value.get(field))
            .map(|value| &value.kind)
        {
            Some(Kind::String(text)) => format!("{text}{suffix}"),
            Some(Kind::Number(number)) => format!("{}{suffix}", number.as_f64()),
            _ => "<unknown>".into(),
        };
        let (field, unit, suffix) = if target.get("averageUtilization").is_some() {
            ("averageUtilization", "%", "")
        } else if target.get("averageValue").is_some() {
            ("averageValue", "", if matches!(kind, "Object" | "External") { " (avg)" } else { "" })
        } else {
            ("value", "", "")
        };
        cells.push(format!(
            "{prefix}{}/{}{suffix}",
            shown(status, field, unit),
            shown(Some(target), field, unit)
        ));
    }
    let more = cells.len().saturating_sub(MAX_TARGETS);
    if more > 0 {
        cells.truncate(MAX_TARGETS);
        return format!("{} + {more} more...", cells.join(", ")).into();
    }
    if cells.is_empty() { NONE.into() } else { cells.join(", ").into() }
}

const INGRESSES: &[Column] = &[
    NAME,
    column("Class", |o| {
        match o.str_at(&["spec", "ingressClassName"]).or(o.str_at(&[
            "metadata",
            "annotations",
            "kubernetes.io/ingress.class",
        ])) {
            Some(class) => class.into(),
            None => NONE.into(),
        }
    }),
    column("Hosts", |o| {
        let mut hosts: Vec<String> = array(o, &["spec", "rules"])
            .iter()
            .map(|rule| text(rule, &["host"]))
            .filter(|host| !host.is_empty())
            .collect();
        let more = hosts.len().saturating_sub(MAX_SHOWN);
        hosts.truncate(MAX_SHOWN);
        match (join(hosts, "*"), more) {
            (cell, 0) => cell,
            (cell, more) => format!("{} + {more} more...", cell.as_str().unwrap_or_default()).into(),
        }
    }),
    column("Address", |o| {
        let points = array(o, &["status", "loadBalancer", "ingress"]);
        join(
            points
                .iter()
                .map(|point| {
                    point.str_at(&["ip"]).or(point.str_at(&["hostname"])).unwrap_or_default().to_owned()
                })
                .collect(),
            "",
        )
    }),
    column("Ports", |o| if array(o, &["spec", "tls"]).is_empty() { "80".into() } else { "80, 443".into() }),
    AGE,
];
const INGRESS_CLASSES: &[Column] = &[
    NAME,
    column("Controller", |o| text_or(o, &["spec", "controller"], "")),
    column("Parameters", |o| match o.at(&["spec", "parameters"]) {
        Some(parameters) => {
            let group = parameters.str_at(&["apiGroup"]).map_or(String::new(), |group| format!(".{group}"));
            format!("{}{group}/{}", text(parameters, &["kind"]), text(parameters, &["name"])).into()
        }
        None => NONE.into(),
    }),
    AGE,
];
const NETWORK_POLICIES: &[Column] = &[
    NAME,
    column("Pod-Selector", |o| match Selector::from_object(o.at(&["spec", "podSelector"])) {
        Ok(Some(selector)) if !selector.is_empty() => selector.to_string().into(),
        _ => NONE.into(),
    }),
    AGE,
];
const ENDPOINT_SLICES: &[Column] = &[
    NAME,
    column("AddressType", |o| text_or(o, &["addressType"], "")),
    column("Ports", |o| {
        let ports = array(o, &["ports"]).iter().map(|port| match port.get("port").and_then(Value::as_i64) {
            Some(number) => number.to_string(),
            None => text(port, &["name"]),
        });
        let mut ports: Vec<String> = ports.collect();
        if ports.is_empty() {
            return "<unset>".into();
        }
        let more = ports.len().saturating_sub(MAX_SHOWN);
        ports.truncate(MAX_SHOWN);
        if more > 0 { format!("{} + {more} more...", ports.join(",")).into() } else { ports.join(",").into() }
    }),
    column("Endpoints", |o| {
        let addresses = array(o, &["endpoints"]).iter().flat_map(|endpoint| array(endpoint, &["addresses"]));
        let all: Vec<String> = addresses.filter_map(|address| address.as_str().map(str::to_owned)).collect();
        if all.is_empty() { "<unset>".into() } else { shown(all) }
    }),
    AGE,
];
const BUDGETS: &[Column] = &[
    NAME,
    column("Min Available", |o| number_or_text(o.at(&["spec", "minAvailable"]))),
    column("Max Unavailable", |o| number_or_text(o.at(&["spec", "maxUnavailable"]))),
    column("Allowed Disruptions", |o| integer(o, &["status", "disruptionsAllowed"]).into()),
    AGE,
];

fn number_or_text(value: Option<&Value>) -> Value {
    match value.map(|value| &value.kind) {
        Some(Kind::String(text)) => text.as_str().into(),
        Some(Kind::Number(number)) => number.as_f64().to_string().into(),
        _ => "N/A".into(),
    }
}

const LEASES: &[Column] = &[NAME, column("Holder", |o| text_or(o, &["spec", "holderIdentity"], "")), AGE];
const PRIORITY_CLASSES: &[Column] = &[
    NAME,
    column("Value", |o| integer(o, &["value"]).into()),
    column("Global-Default", |o| o.get("globalDefault").and_then(Value::as_bool).unwrap_or(false).into()),
    AGE,
    column("PreemptionPolicy", |o| text_or(o, &["preemptionPolicy"], "")),
];
const STORAGE_CLASSES: &[Column] = &[
    NAME,
    column("Provisioner", |o| text_or(o, &["provisioner"], "")),
    column("ReclaimPolicy", |o| text_or(o, &["reclaimPolicy"], "")),
    column("VolumeBindingMode", |o| text_or(o, &["volumeBindingMode"], "")),
    column("AllowVolumeExpansion", |o| {
        o.get("allowVolumeExpansion").and_then(Value::as_bool).unwrap_or(false).into()
    }),
    AGE,
];
const BINDINGS: &[Column] = &[
    NAME,
    column("Role", |o| format!("{}/{}", text(o, &["roleRef", "kind"]), text(o, &["roleRef", "name"])).into()),
    AGE,
    wide("Users", |o| subjects(o, "User")),
    wide("Groups", |o| subjects(o, "Group")),
    wide("ServiceAccounts", |o| subjects(o, "ServiceAccount")),
];

fn subjects(binding: &Value, kind: &str) -> Value {
    let matching =
        array(binding, &["subjects"]).iter().filter(|subject| subject.str_at(&["kind"]) == Some(kind));
    let names: Vec<String> = matching
        .map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, &["namespace"]), text(subject, &["name"])),
            _ => text(subject, &["name"]),
        })
        .collect();
    names.join(", ").into()
}

const API_SERVICES: &[Column] = &[
    NAME,
    column("Service", |o| match o.at(&["spec", "service"]) {
        Some(service) => format!("{}/{}", text(service, &["namespace"]), text(service, &["name"])).into(),
        None => "Local".into(),
    }),
    column("Available", |o| {
        let available = array(o, &["status", "conditions"])
            .iter()
            .find(|condition| condition.str_at(&["type"]) == Some("Available"));
        available.map_or("Unknown".into(), |available| text_or(available, &["status"], "Unknown"))
    }),
    AGE,
];
