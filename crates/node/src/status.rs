//! From what a pod's containers do to its `status`: phase, conditions, container statuses, QoS class.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use gantry_apimachinery::quantity;

/// What a container does now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Waiting { reason: String, message: Option<String> },
    Running { started_at: Timestamp },
    Terminated(ContainerStateTerminated),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    Main,
}

/// One container as the status shows it.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) spec: &'a Container,
    pub(crate) role: Role,
    pub(crate) state: State,
    pub(crate) last: Option<&'a ContainerStateTerminated>,
    pub(crate) restart_count: i32,
    pub(crate) ready: bool,
    pub(crate) started: bool,
    pub(crate) id: Option<String>,
}

/// What else decides a pod's status.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    /// The status shown before, from which unchanged transition times are kept.
    pub(crate) previous: &'a PodStatus,
    pub(crate) pod_ip: Option<String>,
    pub(crate) host_ip: &'a str,
    pub(crate) start_time: Timestamp,
    /// Reason and message of a port that is taken, once there was one; `Some(None)` when it is free again.
    pub(crate) ports: Option<Option<(String, String)>>,
    /// Set when the node has failed the pod as a whole, for example `DeadlineExceeded`.
    pub(crate) failed: Option<(&'a str, &'a str)>,
    pub(crate) now: Timestamp,
}

/// The conditions the node owns; all others belong to somebody else and are kept.
const OWN_CONDITIONS: [&str; 6] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PortsAvailable",
];

/// The whole status of a pod.
pub(crate) fn build(views: &[View<'_>], facts: &Facts<'_>) -> PodStatus {
    let policy = restart_policy(facts.pod);
    let phase = if facts.failed.is_some() { "Failed" } else { phase(views, policy) };
    let ips = facts.pod_ip.clone().map(|ip| vec![PodIP { ip }]);
    let statuses = |of: fn(Role) -> bool| {
        let list: Vec<_> = views.iter().filter(|v| of(v.role)).map(container_status).collect();
        (!list.is_empty()).then_some(list)
    };
    PodStatus {
        phase: Some(phase.into()),
        reason: facts.failed.map(|(reason, _)| reason.into()),
        message: facts.failed.map(|(_, message)| message.into()),
        conditions: Some(conditions(views, facts, phase)),
        host_ip: Some(facts.host_ip.into()),
        host_ips: Some(vec![HostIP { ip: facts.host_ip.into() }]),
        pod_ip: facts.pod_ip.clone(),
        pod_ips: ips,
        start_time: Some(Time(facts.start_time)),
        init_container_statuses: statuses(|r| r != Role::Main),
        container_statuses: statuses(|r| r == Role::Main),
        qos_class: Some(qos_class(facts.pod).into()),
        observed_generation: facts.pod.metadata.generation,
        ..PodStatus::default()
    }
}

pub(crate) fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always")
}

fn container_status(view: &View<'_>) -> ContainerStatus {
    let state = match &view.state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() }),
            ..ContainerState::default()
        },
        State::Running { started_at } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*started_at)) }),
            ..ContainerState::default()
        },
        State::Terminated(terminated) => {
            ContainerState { terminated: Some(terminated.clone()), ..ContainerState::default() }
        }
    };
    let image = view.spec.image.clone().unwrap_or_default();
    let last_state = ContainerState { terminated: view.last.cloned(), ..ContainerState::default() };
    ContainerStatus {
        name: view.spec.name.clone(),
        image_id: if view.id.is_some() { format!("process://{image}") } else { String::new() },
        image,
        container_id: view.id.clone(),
        state: Some(state),
        last_state: Some(last_state),
        ready: view.ready,
        restart_count: view.restart_count,
        started: Some(view.started),
        ..ContainerStatus::default()
    }
}

fn exit_code(view: &View<'_>) -> Option<i32> {
    match &view.state {
        State::Terminated(terminated) => Some(terminated.exit_code),
        _ => None,
    }
}

fn initialized(view: &View<'_>) -> bool {
    match view.role {
        Role::Init => exit_code(view) == Some(0),
        Role::Sidecar => view.started,
        Role::Main => true,
    }
}

fn phase(views: &[View<'_>], policy: &str) -> &'static str {
    let mains = || views.iter().filter(|v| v.role == Role::Main);
    let running = mains().filter(|v| matches!(v.state, State::Running { .. })).count();
    let all_initialized = views.iter().all(initialized);
    if !all_initialized && running == 0 && mains().all(|v| v.last.is_none() && exit_code(v).is_none()) {
        let failed = views.iter().any(|v| v.role == Role::Init && exit_code(v).is_some_and(|c| c != 0));
        return if failed && policy == "Never" { "Failed" } else { "Pending" };
    }
    let never_ran = |v: &View<'_>| matches!(v.state, State::Waiting { .. }) && v.last.is_none();
    if mains().any(never_ran) {
        return "Pending";
    }
    let ended = mains().filter_map(exit_code).collect::<Vec<_>>();
    if ended.len() < mains().count() || policy == "Always" {
        return "Running";
    }
    match (ended.iter().all(|code| *code == 0), policy) {
        (true, _) => "Succeeded",
        (false, "Never") => "Failed",
        (false, _) => "Running",
    }
}

fn conditions(views: &[View<'_>], facts: &Facts<'_>, phase: &str) -> Vec<PodCondition> {
    let quoted = |names: Vec<&str>| format!("[{}]", names.join(" "));
    let incomplete: Vec<&str> =
        views.iter().filter(|v| !initialized(v)).map(|v| v.spec.name.as_str()).collect();
    let unready: Vec<&str> =
        views.iter().filter(|v| v.role != Role::Init && !v.ready).map(|v| v.spec.name.as_str()).collect();
    let completed = || Some(("PodCompleted".to_string(), String::new()));

    let not_initialized = match phase {
        "Succeeded" => None,
        _ if incomplete.is_empty() => None,
        _ => Some((
            "ContainersNotInitialized".to_string(),
            format!("containers with incomplete status: {}", quoted(incomplete)),
        )),
    };
    let containers_not_ready = match phase {
        "Succeeded" => completed(),
        "Failed" => Some(("PodFailed".to_string(), String::new())),
        _ if unready.is_empty() => None,
        _ => Some((
            "ContainersNotReady".to_string(),
            format!("containers with unready status: {}", quoted(unready)),
        )),
    };
    let not_ready = containers_not_ready.clone().or_else(|| gates_not_ready(facts.pod));

    let mut conditions = vec![
        condition(facts, "PodReadyToStartContainers", facts.pod_ip.is_none().then(Default::default)),
        condition(facts, "Initialized", not_initialized),
        condition(facts, "Ready", not_ready),
        condition(facts, "ContainersReady", containers_not_ready),
        condition(facts, "PodScheduled", None),
    ];
    if let Some(ports) = &facts.ports {
        conditions.push(condition(facts, "PortsAvailable", ports.clone()));
    }
    let theirs = facts.pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.extend(theirs.filter(|c| !OWN_CONDITIONS.contains(&c.type_.as_str())).cloned());
    conditions
}

/// The condition, False with `problem` or True; its time is kept while its value stays.
fn condition(facts: &Facts<'_>, name: &str, problem: Option<(String, String)>) -> PodCondition {
    let status = if problem.is_some() { "False" } else { "True" };
    let old = facts.previous.conditions.iter().flatten().find(|c| c.type_ == name && c.status == status);
    let (reason, message) = problem.unwrap_or_default();
    let shown = |text: String| (!text.is_empty()).then_some(text);
    PodCondition {
        type_: name.into(),
        status: status.into(),
        reason: shown(reason),
        message: shown(message),
        last_transition_time: old.and_then(|c| c.last_transition_time.clone()).or(Some(Time(facts.now))),
        observed_generation: facts.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn gates_not_ready(pod: &Pod) -> Option<(String, String)> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_deref()?;
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let problems: Vec<String> = gates
        .iter()
        .filter_map(|gate| match conditions.iter().find(|c| c.type_ == gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => None,
        })
        .collect();
    (!problems.is_empty()).then(|| ("ReadinessGatesNotReady".to_string(), problems.join(", ")))
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from cpu and memory of all containers.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let amount = |of: &Option<BTreeMap<String, _>>, name: &str| {
        let quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = of.as_ref()?.get(name)?;
        quantity::nano(&quantity.0).filter(|n| *n > 0)
    };
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let none = ResourceRequirements::default();
    let resources = || containers().map(|c| c.resources.as_ref().unwrap_or(&none));
    let asks = |r: &ResourceRequirements| {
        ["cpu", "memory"].iter().any(|n| amount(&r.requests, n).is_some() || amount(&r.limits, n).is_some())
    };
    if !resources().any(asks) {
        return "BestEffort";
    }
    let guaranteed = |r: &ResourceRequirements| {
        ["cpu", "memory"].iter().all(|n| {
            let limit = amount(&r.limits, n);
            limit.is_some() && amount(&r.requests, n).is_none_or(|request| Some(request) == limit)
        })
    };
    if resources().all(guaranteed) { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn terminated(code: i32) -> ContainerStateTerminated {
        ContainerStateTerminated { exit_code: code, ..Default::default() }
    }

    fn view(spec: &Container, role: Role, state: State) -> View<'_> {
        let up = matches!(state, State::Running { .. });
        View { spec, role, state, last: None, restart_count: 0, ready: up, started: up, id: None }
    }

    fn waiting() -> State {
        State::Waiting { reason: "ContainerCreating".into(), message: None }
    }

    fn running() -> State {
        State::Running { started_at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn phases() {
        let c = Container { name: "c".into(), ..Default::default() };
        let last = terminated(1);
        let main = |state| view(&c, Role::Main, state);
        let init = |state| view(&c, Role::Init, state);
        let crashed = View { last: Some(&last), ..main(waiting()) };
        let done = |code| State::Terminated(terminated(code));
        let cases = [
            (vec![main(waiting())], "Always", "Pending"),
            (vec![init(waiting()), main(waiting())], "Always", "Pending"),
            (vec![init(done(1)), main(waiting())], "Never", "Failed"),
            (vec![init(done(1)), main(waiting())], "OnFailure", "Pending"),
            (vec![init(done(0)), main(running())], "Always", "Running"),
            (vec![main(running()), main(waiting())], "Always", "Pending"),
            (vec![crashed], "Always", "Running"),
            (vec![main(done(0))], "Always", "Running"),
            (vec![main(done(0)), main(done(0))], "Never", "Succeeded"),
            (vec![main(done(0)), main(done(2))], "Never", "Failed"),
            (vec![main(done(2))], "OnFailure", "Running"),
            (vec![main(done(0)), main(running())], "Never", "Running"),
        ];
        for (views, policy, expected) in cases {
            assert_eq!(phase(&views, policy), expected, "{views:?} {policy}");
        }
    }

    #[test]
    fn conditions_keep_their_times_and_foreign_ones_stay() {
        let mut pod = pod(json!({"containers": [], "readinessGates": [{"conditionType": "x/lb"}]}));
        let theirs =
            json!({"conditions": [{"type": "x/lb", "status": "False"}, {"type": "Ready", "status": "True"}]});
        pod.status = Some(serde_json::from_value(theirs).unwrap());
        let spec = Container { name: "web".into(), ..Default::default() };
        let previous = PodStatus::default();
        let facts = |previous, second| Facts {
            pod: &pod,
            previous,
            pod_ip: Some("127.1.0.1".into()),
            host_ip: "127.0.0.1",
            start_time: Timestamp::UNIX_EPOCH,
            ports: None,
            failed: None,
            now: Timestamp::from_second(second).unwrap(),
        };
        let first = build(&[view(&spec, Role::Main, waiting())], &facts(&previous, 1));
        let get = |status: &PodStatus, name: &str| {
            status.conditions.iter().flatten().find(|c| c.type_ == name).cloned().unwrap()
        };
        assert_eq!(get(&first, "ContainersReady").message.unwrap(), "containers with unready status: [web]");
        let second = build(&[view(&spec, Role::Main, running())], &facts(&first, 2));
        assert_eq!(get(&second, "ContainersReady").last_transition_time.unwrap().0.as_second(), 2);
        assert_eq!(get(&second, "PodScheduled").last_transition_time.unwrap().0.as_second(), 1);
        assert_eq!(get(&second, "Ready").reason.unwrap(), "ReadinessGatesNotReady");
        assert_eq!(get(&second, "x/lb").status, "False");
    }

    #[test]
    fn qos_classes() {
        let class = |resources: serde_json::Value| {
            qos_class(&pod(json!({"containers": [{"name": "a", "resources": resources}]})))
        };
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        let equal = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
        assert_eq!(class(equal), "Guaranteed");
        let less = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
        assert_eq!(class(less), "Burstable");
    }
}
