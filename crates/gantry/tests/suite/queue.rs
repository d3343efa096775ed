//! The example queue: a worker that sleeps until a Redis list has entries, grows with it, and sleeps again.

use std::process::Command;

use crate::harness::{Shop, Up, pods_cannot_be_reached, wait_until};

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn kubectl(up: &Up, args: &[&str]) -> String {
    let output = up.kubectl(args).expect("kubectl was there a moment ago");
    assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn replicas(up: &Up) -> i32 {
    let text =
        kubectl(up, &["-n", "queue", "get", "deployment", "worker", "-o", "jsonpath={.spec.replicas}"]);
    text.parse().unwrap_or(0)
}

#[test]
fn a_list_with_entries_makes_workers_and_an_empty_one_takes_them_away() {
    if pods_cannot_be_reached() {
        return;
    }
    for program in ["redis-server", "redis-cli", "kubectl"] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
        if !found {
            eprintln!("skipped: {program} not found");
            return;
        }
    }
    let queue = Shop::example("queue", ".");
    let up = queue.up();
    let ready = wait_until("the ScaledObject is ready", || {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let status = kubectl(&up, &["-n", "queue", "get", "scaledobject", "worker", "-o", path]);
        (status == "True").then_some(status)
    });
    assert_eq!(ready.as_deref(), Some("True"));
    assert_eq!(replicas(&up), 0, "nothing to do makes no worker");

    let pod = ["-n", "queue", "get", "pods", "-l", "app=redis", "-o", "jsonpath={.items[0].status.podIP}"];
    let host = kubectl(&up, &pod);
    let redis =
        |args: &[&str]| output(Command::new("redis-cli").args(["-h", &host, "-p", "6379"]).args(args));
    let entries: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let mut push = vec!["RPUSH", "work"];
    push.extend(entries.iter().map(String::as_str));
    assert_eq!(redis(&push).as_deref(), Some("60"));
    wait_until("five workers", || (replicas(&up) == 5).then_some(()));

    let name = "jsonpath={.spec.metrics[0].external.metric.name}";
    assert_eq!(kubectl(&up, &["-n", "queue", "get", "hpa", "keda-hpa-worker", "-o", name]), "s0-redis-work");
    let raw = "/apis/external.metrics.k8s.io/v1beta1/namespaces/queue/s0-redis-work?labelSelector=scaledobject.keda.sh%2Fname%3Dworker";
    let answer: serde_json::Value =
        serde_json::from_str(&kubectl(&up, &["get", "--raw", raw])).expect("JSON");
    assert_eq!(answer["items"][0]["metricName"], "s0-redis-work", "{answer}");

    wait_until("the list is empty", || (redis(&["LLEN", "work"]).as_deref() == Some("0")).then_some(()));
    wait_until("no worker", || (replicas(&up) == 0).then_some(()));
}
