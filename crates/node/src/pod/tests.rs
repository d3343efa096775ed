use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus, Service};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::env::References;
use crate::logs::Limits;
use crate::process::ProcessRuntime;

const LONG: Duration = Duration::from_secs(30);

#[derive(Default)]
struct FakeCluster {
    config_maps: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    status: Mutex<Value>,
    history: Mutex<Vec<Value>>,
    events: Mutex<Vec<String>>,
    removed: Mutex<bool>,
    before_stop_saw: Mutex<Vec<String>>,
}

#[async_trait]
impl Cluster for FakeCluster {
    async fn references(&self, _: &str, maps: &[String], _: &[String]) -> Result<References, ClusterError> {
        let known = self.config_maps.lock();
        let found = maps.iter().filter_map(|name| {
            let data = Some(known.get(name)?.clone());
            Some((name.clone(), ConfigMap { data, ..ConfigMap::default() }))
        });
        Ok(References { config_maps: found.collect(), ..References::default() })
    }

    fn services(&self, _: &str) -> Vec<Arc<Service>> {
        Vec::new()
    }

    async fn automounts(&self, _: &str, _: &str) -> Result<bool, ClusterError> {
        Ok(true)
    }

    async fn token(&self, _: &PodRef, account: &str, _: i64) -> Result<String, ClusterError> {
        Ok(format!("token of {account}"))
    }

    async fn write_status(&self, _: &PodRef, status: Value) -> Result<(), ClusterError> {
        self.history.lock().push(status.clone());
        *self.status.lock() = status;
        Ok(())
    }

    async fn remove(&self, _: &PodRef) -> Result<(), ClusterError> {
        *self.removed.lock() = true;
        Ok(())
    }

    fn event(&self, _: &PodRef, _: Option<&str>, _: Severity, reason: &str, message: String) {
        self.events.lock().push(format!("{reason}: {message}"));
    }
}

#[async_trait]
impl BeforeStop for FakeCluster {
    async fn before_stop(&self, pod: &PodRef) {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let phase = self.status.lock()["containerStatuses"][0]["state"].to_string();
        self.before_stop_saw.lock().push(format!("{pod} {phase}"));
    }
}

struct Rig {
    cluster: Arc<FakeCluster>,
    shared: Arc<Shared>,
    input: watch::Sender<Input>,
    task: tokio::task::JoinHandle<()>,
    _dir: Option<Arc<tempfile::TempDir>>,
    root: PathBuf,
}

fn pod(spec: Value) -> Pod {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let uid = format!("uid-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": uid, "annotations": {}}, "spec": spec,
    }))
    .unwrap()
}

fn sh(script: &str) -> Value {
    json!({"name": "c", "image": "sh", "command": ["sh", "-c", script]})
}

fn with(mut container: Value, more: Value) -> Value {
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    container
}

impl Rig {
    fn start(pod: Pod) -> Rig {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mut rig = Rig::start_in(pod, dir.path(), Arc::new(FakeCluster::default()));
        rig._dir = Some(dir);
        rig
    }

    fn start_in(pod: Pod, root: &std::path::Path, cluster: Arc<FakeCluster>) -> Rig {
        let mut config = Config::new("n1", root);
        config.images.insert("sh".into(), vec![]);
        config.host_env.insert("PATH".into(), "/usr/bin:/bin".into());
        config.backoff_initial = Duration::from_millis(100);
        config.eager_probe_interval = Some(Duration::from_millis(20));
        config.pod_cidr = "127.98.0.0/17".parse().unwrap();
        let limits = Limits { max_bytes: 1 << 20, max_files: 2 };
        let shared = Arc::new(Shared {
            ips: Mutex::new(IpPool::new(config.pod_cidr, true)),
            config,
            runtime: Arc::new(ProcessRuntime::new(limits)),
            cluster: cluster.clone(),
            before_stop: Some(cluster.clone()),
            allocatable: BTreeMap::new(),
        });
        let input = Input { pod: Arc::new(pod), removed: false, shutdown: None, references_generation: 0 };
        let (input, seen) = watch::channel(input);
        let task = tokio::spawn(run(shared.clone(), seen));
        Rig { cluster, shared, input, task, _dir: None, root: root.to_path_buf() }
    }

    fn status(&self) -> PodStatus {
        serde_json::from_value(self.cluster.status.lock().clone()).unwrap_or_default()
    }

    fn pod_dir(&self) -> PathBuf {
        let uid = self.input.borrow().pod.metadata.uid.clone().unwrap();
        self.root.join("pods").join(uid)
    }

    /// Where a container without an image of its own starts.
    fn start_dir(&self, container: &str) -> PathBuf {
        self.pod_dir().join("containers").join(container).join("root")
    }

    fn log(&self, container: &str) -> String {
        let dir = self.pod_dir().join("containers").join(container);
        let attempt = logs::latest_attempt(&dir).unwrap_or(0);
        let mut reader = Reader::open(&logs::path(&dir, attempt), LogOptions::default()).unwrap();
        String::from_utf8(reader.read(1 << 20).unwrap().unwrap()).unwrap()
    }

    async fn until(&self, what: &str, mut done: impl FnMut(&PodStatus) -> bool) -> PodStatus {
        let begun = tokio::time::Instant::now();
        loop {
            let status = self.status();
            if done(&status) {
                return status;
            }
            let events = self.cluster.events.lock().join("\n");
            assert!(begun.elapsed() < LONG, "waited for {what}; status {status:#?}\nevents {events}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn delete(&self, grace: i64) {
        self.input.send_modify(|input| {
            let mut pod = (*input.pod).clone();
            pod.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
            input.pod = Arc::new(pod);
        });
    }

    async fn end(self) -> Arc<FakeCluster> {
        self.delete(0);
        tokio::time::timeout(LONG, self.task).await.unwrap().unwrap();
        assert!(*self.cluster.removed.lock());
        self.cluster
    }

    fn has_event(&self, text: &str) -> bool {
        self.cluster.events.lock().iter().any(|e| e.contains(text))
    }
}

fn condition<'a>(status: &'a PodStatus, name: &str) -> Option<&'a str> {
    status.conditions.iter().flatten().find(|c| c.type_ == name).map(|c| c.status.as_str())
}

fn container(status: &PodStatus) -> Option<&k8s_openapi::api::core::v1::ContainerStatus> {
    status.container_statuses.as_ref()?.first()
}

fn waiting_reason(status: &PodStatus) -> Option<&str> {
    container(status)?.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

fn is_ready(status: &PodStatus) -> bool {
    condition(status, "Ready") == Some("True")
}

#[tokio::test]
async fn runs_becomes_ready_and_is_stopped_in_order() {
    let script = "trap 'echo got TERM; exit 0' TERM; echo ip=$POD_IP port=$PORT host=$HOSTNAME; while :; do sleep 0.02; done";
    let ports = json!({"ports": [{"containerPort": 18080}], "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > hooked"]}}}});
    let rig = Rig::start(pod(json!({"containers": [with(sh(script), ports)]})));
    let status = rig.until("ready", is_ready).await;
    let ip = status.pod_ip.clone().unwrap();
    assert!(ip.starts_with("127.98."), "{ip}");
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let (dir, hooked) = (rig.pod_dir(), rig.start_dir("c").join("hooked"));
    rig.until("its log", |_| rig.log("c").contains(&format!("ip={ip} port=18080 host=web"))).await;

    rig.delete(20);
    rig.until("the hook", |_| hooked.exists() || *rig.cluster.removed.lock()).await;
    let Rig { task, cluster, _dir, .. } = rig;
    tokio::time::timeout(LONG, task).await.unwrap().unwrap();
    assert!(*cluster.removed.lock());
    assert!(!dir.exists());
    let last: PodStatus = serde_json::from_value(cluster.status.lock().clone()).unwrap();
    let terminated = container(&last).unwrap().state.clone().unwrap().terminated.unwrap();
    assert_eq!((terminated.exit_code, terminated.reason.as_deref()), (0, Some("Completed")));
    let saw = cluster.before_stop_saw.lock().clone();
    assert!(saw.len() == 1 && saw[0].starts_with("ns/web") && saw[0].contains("running"), "{saw:?}");
}

#[tokio::test]
async fn init_containers_run_first_and_in_order() {
    let init = |name: &str, script: &str| {
        json!({"name": name, "image": "sh", "command": ["sh", "-c", script],
               "volumeMounts": [{"name": "work", "mountPath": "/work"}]})
    };
    let sidecar = with(init("side", "sleep 300"), json!({"restartPolicy": "Always"}));
    let main = with(
        sh("cat work/order; sleep 300"),
        json!({"volumeMounts": [{"name": "work", "mountPath": "/work"}]}),
    );
    let rig = Rig::start(pod(json!({
        "initContainers": [init("one", "echo one >> work/order"), sidecar, init("two", "echo two >> $GANTRY_MOUNT_WORK/order")],
        "containers": [main], "volumes": [{"name": "work", "emptyDir": {}}]})));
    rig.until("ready", is_ready).await;
    rig.until("order", |_| rig.log("c") == "one\ntwo\n").await;
    let status = rig.status();
    let names: Vec<_> =
        status.init_container_statuses.unwrap().into_iter().map(|s| (s.name, s.ready)).collect();
    assert_eq!(names, [("one".to_string(), true), ("side".into(), true), ("two".into(), true)]);
    rig.end().await;
}

#[tokio::test]
async fn a_crashing_container_backs_off() {
    let rig = Rig::start(pod(
        json!({"containers": [with(sh("echo dying words; exit 7"), json!({"terminationMessagePolicy": "FallbackToLogsOnError"}))]}),
    ));
    let status = rig
        .until("back-off", |s| {
            waiting_reason(s) == Some("CrashLoopBackOff")
                && container(s).is_some_and(|c| c.restart_count >= 2)
        })
        .await;
    let last = container(&status).unwrap().last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (7, Some("Error")));
    assert_eq!(last.message.as_deref(), Some("dying words\n"));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(rig.has_event("Back-off restarting failed container c"));
    rig.end().await;
}

#[tokio::test]
async fn jobs_end_as_their_policy_says() {
    for (policy, script, phase) in [
        ("Never", "exit 0", "Succeeded"),
        ("Never", "exit 1", "Failed"),
        ("OnFailure", "[ -e ok ] || { touch ok; exit 1; }", "Succeeded"),
    ] {
        let rig = Rig::start(pod(json!({"restartPolicy": policy, "containers": [sh(script)]})));
        let status = rig.until(phase, |s| s.phase.as_deref() == Some(phase)).await;
        assert_eq!(condition(&status, "Ready"), Some("False"));
        rig.end().await;
    }
}

#[tokio::test]
async fn an_active_deadline_fails_the_pod() {
    let rig = Rig::start(pod(
        json!({"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 1, "containers": [sh("sleep 300")]}),
    ));
    let status = rig.until("deadline", |s| s.reason.as_deref() == Some("DeadlineExceeded")).await;
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    rig.until("its end", |s| container(s).is_some_and(|c| c.state.as_ref().unwrap().terminated.is_some()))
        .await;
    rig.end().await;
}

#[tokio::test]
async fn probes_gate_readiness_and_restart() {
    let probe = |path: &str| json!({"exec": {"command": ["test", "-e", path]}, "periodSeconds": 1});
    let probes = json!({
        "startupProbe": with(probe("up"), json!({"failureThreshold": 30})),
        "readinessProbe": probe("ready"),
        "livenessProbe": with(probe("alive"), json!({"failureThreshold": 1, "terminationGracePeriodSeconds": 1})),
    });
    let rig =
        Rig::start(pod(json!({"containers": [with(sh("rm -f up ready; touch alive; sleep 300"), probes)]})));
    let root = rig.start_dir("c");
    rig.until("running", |s| container(s).is_some_and(|c| c.state.as_ref().unwrap().running.is_some())).await;
    rig.until("alive", |_| root.join("alive").exists()).await;
    assert_eq!(container(&rig.status()).unwrap().started, Some(false));
    std::fs::write(root.join("up"), "").unwrap();
    rig.until("started", |s| container(s).unwrap().started == Some(true)).await;
    assert!(!is_ready(&rig.status()));
    std::fs::write(root.join("ready"), "").unwrap();
    rig.until("ready", is_ready).await;
    std::fs::remove_file(root.join("alive")).unwrap();
    let status = rig.until("a restart", |s| container(s).unwrap().restart_count == 1).await;
    assert!(!is_ready(&status));
    assert!(rig.has_event("Container c failed liveness probe, will be restarted"));
    assert!(rig.has_event("Unhealthy: Liveness probe failed"));
    rig.end().await;
}

#[tokio::test]
async fn what_is_missing_is_told_and_tried_again() {
    let env = json!({"envFrom": [{"configMapRef": {"name": "conf"}}]});
    let rig = Rig::start(pod(json!({"containers": [with(sh("echo $KEY; sleep 300"), env)]})));
    let status = rig.until("config error", |s| waiting_reason(s) == Some("CreateContainerConfigError")).await;
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert!(rig.has_event("configmap \"conf\" not found"));
    let data = [("KEY".to_string(), "value".to_string())].into();
    rig.cluster.config_maps.lock().insert("conf".into(), data);
    rig.input.send_modify(|input| input.references_generation += 1);
    rig.until("ready", is_ready).await;
    rig.until("the value", |_| rig.log("c") == "value\n").await;
    rig.end().await;

    let rig = Rig::start(pod(json!({"containers": [{"name": "c", "image": "acme/web:v1"}]})));
    rig.until("unmapped", |s| waiting_reason(s) == Some("ImageNotMapped")).await;
    assert!(rig.has_event("gantry.yaml"));
    rig.end().await;

    let rig = Rig::start(pod(
        json!({"containers": [{"name": "c", "image": "sh", "command": ["no-such-program"]}]}),
    ));
    rig.until("missing", |s| waiting_reason(s) == Some("BinaryNotFound")).await;
    rig.end().await;
}

#[tokio::test]
async fn config_map_volumes_follow_their_source() {
    let mounts = json!({"volumeMounts": [{"name": "conf", "mountPath": "/etc/app"}]});
    let spec = json!({"containers": [with(sh("sleep 300"), mounts)], "volumes": [{"name": "conf", "configMap": {"name": "cm"}}]});
    let cluster = Arc::new(FakeCluster::default());
    let put = |value: &str| {
        let data = [("k".to_string(), value.to_string())].into();
        cluster.config_maps.lock().insert("cm".into(), data);
    };
    put("1");
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start_in(pod(spec), dir.path(), cluster.clone());
    rig.until("ready", is_ready).await;
    let file = rig.start_dir("c").join("etc/app/k");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1");
    put("2");
    rig.input.send_modify(|input| input.references_generation += 1);
    rig.until("the update", |_| std::fs::read_to_string(&file).unwrap() == "2").await;
    rig.end().await;
}

#[tokio::test]
async fn a_taken_port_is_a_condition_until_it_is_free() {
    let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let ports = json!({"ports": [{"containerPort": port}]});
    let rig = Rig::start(pod(json!({"containers": [with(sh("sleep 300"), ports)]})));
    let status = rig.until("the conflict", |s| condition(s, "PortsAvailable") == Some("False")).await;
    assert_eq!(waiting_reason(&status), Some("PortInUse"));
    assert!(rig.has_event(&format!("process {}", std::process::id())));
    drop(socket);
    let status = rig.until("ready", is_ready).await;
    assert_eq!(condition(&status, "PortsAvailable"), Some("True"));
    rig.end().await;
}

#[tokio::test]
async fn a_stubborn_process_is_killed_after_its_grace() {
    let rig = Rig::start(pod(
        json!({"containers": [sh("trap '' TERM; touch armed; while :; do sleep 0.05; done")]}),
    ));
    let armed = rig.start_dir("c").join("armed");
    rig.until("armed", |_| armed.exists()).await;
    rig.delete(1);
    let Rig { task, cluster, .. } = rig;
    tokio::time::timeout(LONG, task).await.unwrap().unwrap();
    let last: PodStatus = serde_json::from_value(cluster.status.lock().clone()).unwrap();
    let terminated = container(&last).unwrap().state.clone().unwrap().terminated.unwrap();
    assert_eq!((terminated.exit_code, terminated.signal), (137, Some(9)));
}

#[tokio::test]
async fn a_failing_post_start_hook_restarts_the_container() {
    let hook = json!({"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "[ -e second ] || { touch second; echo no; exit 1; }"]}}},
                      "startupProbe": null});
    let mut container_spec = with(sh("sleep 300"), hook);
    container_spec.as_object_mut().unwrap().remove("startupProbe");
    let rig = Rig::start(pod(json!({"terminationGracePeriodSeconds": 1, "containers": [container_spec]})));
    let status = rig.until("ready", is_ready).await;
    assert_eq!(container(&status).unwrap().restart_count, 1);
    assert!(rig.has_event("FailedPostStartHook"));
    rig.end().await;
}

#[tokio::test]
async fn a_restart_of_the_node_adopts_and_a_shutdown_ends() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Arc::new(FakeCluster::default());
    let mut pod = pod(
        json!({"containers": [with(sh("echo hello; sleep 300"), json!({"readinessProbe": {"exec": {"command": ["true"]}}}))]}),
    );
    let first = Rig::start_in(pod.clone(), dir.path(), cluster.clone());
    let before = first.until("ready", is_ready).await;
    // As if the program had been killed: the worker goes away without a word.
    first.task.abort();
    pod.status = Some(before.clone());
    let writes = cluster.history.lock().len();

    let second = Rig::start_in(pod.clone(), dir.path(), cluster.clone());
    second.until("adoption", |_| !second.shared.runtime.sample().is_empty()).await;
    second.input.send_modify(|input| input.shutdown = Some(LONG));
    let shared = second.shared.clone();
    tokio::time::timeout(LONG, second.task).await.unwrap().unwrap();
    assert!(shared.runtime.sample().is_empty());
    assert!(!*cluster.removed.lock());
    let after: PodStatus = serde_json::from_value(cluster.status.lock().clone()).unwrap();
    assert_eq!(after.pod_ip, before.pod_ip);
    let id = |s: &PodStatus| container(s).unwrap().container_id.clone();
    assert_eq!(id(&after), id(&before));
    let never_unready = cluster.history.lock()[writes..].iter().all(|status| {
        let status: PodStatus = serde_json::from_value(status.clone()).unwrap();
        is_ready(&status) || container(&status).unwrap().state.as_ref().unwrap().running.is_none()
    });
    assert!(never_unready, "adoption must not make a ready pod unready");

    // The next start runs it again.
    pod.status = Some(after);
    let third = Rig::start_in(pod, dir.path(), cluster.clone());
    let again = third.until("ready again", |s| is_ready(s) && container(s).unwrap().restart_count == 1).await;
    assert_eq!(again.pod_ip, before.pod_ip);
    third.end().await;
}
