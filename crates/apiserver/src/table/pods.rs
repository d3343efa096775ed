//! The columns of pods: readiness, the status in a word, restarts.

use gantry_apimachinery::{Value, time};

use super::NONE;

fn statuses<'v>(pod: &'v Value, list: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    let list = pod.at(&["status", list]).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn integer(value: &Value, path: &[&str]) -> i64 {
    value.at(path).and_then(Value::as_i64).unwrap_or(0)
}

fn flag(value: &Value, path: &[&str]) -> bool {
    value.at(path).and_then(Value::as_bool).unwrap_or(false)
}

/// Init containers that keep running beside the others.
fn is_sidecar(pod: &Value, name: &str) -> bool {
    let containers = pod.at(&["spec", "initContainers"]).and_then(Value::as_array);
    containers.into_iter().flatten().any(|container| {
        container.str_at(&["name"]) == Some(name) && container.str_at(&["restartPolicy"]) == Some("Always")
    })
}

pub(super) fn ready(pod: &Value) -> Value {
    let containers = pod.at(&["spec", "containers"]).and_then(Value::as_array).map_or(0, Vec::len);
    let sidecars = statuses(pod, "initContainerStatuses")
        .filter(|status| is_sidecar(pod, status.str_at(&["name"]).unwrap_or_default()));
    let (mut total, mut ready) =
        (containers, statuses(pod, "containerStatuses").filter(|status| flag(status, &["ready"])).count());
    for sidecar in sidecars {
        total += 1;
        ready += usize::from(flag(sidecar, &["ready"]));
    }
    format!("{ready}/{total}").into()
}

/// The most telling word about a pod: what it waits for, why it ended, or its phase.
pub(super) fn status(pod: &Value) -> Value {
    let mut word = pod
        .str_at(&["status", "reason"])
        .filter(|reason| !reason.is_empty())
        .or(pod.str_at(&["status", "phase"]))
        .unwrap_or_default()
        .to_owned();
    let conditions = || pod.at(&["status", "conditions"]).and_then(Value::as_array).into_iter().flatten();
    if conditions().any(|condition| {
        condition.str_at(&["type"]) == Some("PodScheduled")
            && condition.str_at(&["reason"]) == Some("SchedulingGated")
    }) {
        word = "SchedulingGated".into();
    }
    let init = init_status(pod);
    let initialising = init.is_some();
    if let Some(init) = init {
        word = init;
    }
    let initialized = conditions().any(|condition| {
        condition.str_at(&["type"]) == Some("Initialized") && condition.str_at(&["status"]) == Some("True")
    });
    if !initialising || initialized {
        let mut running = false;
        for container in statuses(pod, "containerStatuses").collect::<Vec<_>>().into_iter().rev() {
            let waiting = container.str_at(&["state", "waiting", "reason"]).unwrap_or_default();
            let terminated = container.at(&["state", "terminated"]);
            if !waiting.is_empty() {
                word = waiting.into();
            } else if let Some(terminated) = terminated {
                word = terminated_word(terminated);
            } else if flag(container, &["ready"]) && container.at(&["state", "running"]).is_some() {
                running = true;
            }
        }
        if word == "Completed" && running {
            let is_ready = conditions().any(|condition| {
                condition.str_at(&["type"]) == Some("Ready") && condition.str_at(&["status"]) == Some("True")
            });
            word = if is_ready { "Running".into() } else { "NotReady".into() };
        }
    }
    if pod.at(&["metadata", "deletionTimestamp"]).is_some() {
        let finished = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
        if pod.str_at(&["status", "reason"]) == Some("NodeLost") {
            word = "Unknown".into();
        } else if !finished {
            word = "Terminating".into();
        }
    }
    word.into()
}

fn terminated_word(terminated: &Value) -> String {
    match terminated.str_at(&["reason"]).filter(|reason| !reason.is_empty()) {
        Some(reason) => reason.into(),
        None if integer(terminated, &["signal"]) != 0 => {
            format!("Signal:{}", integer(terminated, &["signal"]))
        }
        None => format!("ExitCode:{}", integer(terminated, &["exitCode"])),
    }
}

/// The word while init containers run; `None` when they are through.
fn init_status(pod: &Value) -> Option<String> {
    let total = pod.at(&["spec", "initContainers"]).and_then(Value::as_array).map_or(0, Vec::len);
    for (index, container) in statuses(pod, "initContainerStatuses").enumerate() {
        let name = container.str_at(&["name"]).unwrap_or_default();
        if let Some(terminated) = container.at(&["state", "terminated"]) {
            if integer(terminated, &["exitCode"]) == 0 {
                continue;
            }
            return Some(format!("Init:{}", terminated_word(terminated)));
        }
        if is_sidecar(pod, name) && flag(container, &["started"]) {
            continue;
        }
        let waiting = container.str_at(&["state", "waiting", "reason"]).unwrap_or_default();
        return Some(if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{total}")
        });
    }
    None
}

pub(super) fn restarts(pod: &Value) -> Value {
    let mut total = 0;
    let mut last: Option<i64> = None;
    for status in statuses(pod, "containerStatuses") {
        total += integer(status, &["restartCount"]);
        let finished = status.str_at(&["lastState", "terminated", "finishedAt"]).and_then(time::parse_time);
        last = last.max(finished);
    }
    match last.filter(|_| total > 0) {
        Some(finished) => format!("{total} (\u{2}{finished}\u{2} ago)").into(),
        None => total.to_string().into(),
    }
}

fn text_or(value: Option<&str>, default: &str) -> Value {
    value.filter(|text| !text.is_empty()).unwrap_or(default).into()
}

pub(super) fn address(pod: &Value) -> Value {
    text_or(pod.str_at(&["status", "podIP"]), NONE)
}

pub(super) fn node(pod: &Value) -> Value {
    text_or(pod.str_at(&["spec", "nodeName"]), NONE)
}

pub(super) fn nominated(pod: &Value) -> Value {
    text_or(pod.str_at(&["status", "nominatedNodeName"]), NONE)
}

pub(super) fn gates(pod: &Value) -> Value {
    let gates = pod.at(&["spec", "readinessGates"]).and_then(Value::as_array).cloned().unwrap_or_default();
    if gates.is_empty() {
        return NONE.into();
    }
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let open = gates.iter().filter(|gate| {
        conditions.iter().any(|condition| {
            condition.get("type") == gate.get("conditionType")
                && condition.str_at(&["status"]) == Some("True")
        })
    });
    format!("{}/{}", open.count(), gates.len()).into()
}
