//! Operators written in Python for Kopf: under the real Kopf against `up`, and under `gantry kopf run` with the same
//! files. Both must leave the same objects.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Up, gantry, start_up, wait_until};

/// An object that did not change for this long has come to rest; longer than any pause in the examples but one.
const REST: Duration = Duration::from_secs(5);
/// Where the handlers' own notes are, and where they are not.
const LAST_HANDLED: &str = "kopf.zalando.org/last-handled-configuration";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kopf").join(name)
}

/// The interpreter that has Kopf: named by the environment, or the first on the path.
fn python() -> PathBuf {
    std::env::var_os("GANTRY_TEST_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from)
}

fn has(module: &str) -> bool {
    let import = format!("import {module}");
    let found =
        Command::new(python()).args(["-c", &import]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let here = found.is_ok_and(|status| status.success());
    if !here {
        eprintln!("skipped: {module} not found in {} (set GANTRY_TEST_PYTHON)", python().display());
    }
    here
}

/// A cluster that knows boxes, and a folder for what operators print.
struct Cluster {
    up: Up,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Nothing when a tool is missing that all of these tests need.
    fn start() -> Option<Cluster> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["kustomization.yaml", "definition.yaml"] {
            std::fs::copy(fixture(name), folder.path().join(name)).expect("a copy");
        }
        let mut command = gantry();
        command.arg("up").arg(folder.path()).arg("--data-dir").arg(folder.path().join("state"));
        command.args(["--ports", "auto", "--output", "json"]);
        let up = start_up(command, &folder.path().join("state"));
        up.kubectl(&["version", "--client"])?;
        Some(Cluster { up, folder })
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let output = self.up.kubectl(args).expect("kubectl was there a moment ago");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {error}", args.join(" "));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]);
    }

    /// An operator for one namespace: `program` is the real Kopf or ours.
    fn operator(&self, mut program: Command, namespace: &str, file: &Path) -> OperatorProcess {
        let log = self.folder.path().join(format!("{namespace}.log"));
        let output = std::fs::File::create(&log).expect("a log file");
        let errors = output.try_clone().expect("a log file");
        let process = program
            .args(["run", "--standalone", "--verbose", "-n", namespace])
            .arg(file)
            .env("KUBECONFIG", &self.up.kubeconfig)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("the operator starts");
        OperatorProcess { process, log }
    }

    fn kopf(&self, namespace: &str, file: &Path) -> OperatorProcess {
        let mut program = Command::new(python());
        program.args(["-m", "kopf"]);
        self.operator(program, namespace, file)
    }

    fn ours(&self, namespace: &str, file: &Path) -> OperatorProcess {
        let mut program = gantry();
        program.arg("kopf").env("GANTRY_KOPF_PYTHON", python());
        self.operator(program, namespace, file)
    }

    fn object(&self, namespace: &str, name: &str) -> Option<Value> {
        let output =
            self.up.kubectl(&["-n", namespace, "get", "boxes", name, "-o", "json", "--ignore-not-found"]);
        serde_json::from_slice(&output.expect("kubectl was there a moment ago").stdout).ok()
    }

    fn object_when(
        &self,
        namespace: &str,
        operator: &OperatorProcess,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let found = wait_until(&format!("{what} in {namespace}\n{}", operator.output()), || {
            self.object(namespace, "one").filter(&is)
        });
        found.expect("checked")
    }
}

struct OperatorProcess {
    process: Child,
    log: PathBuf,
}

impl OperatorProcess {
    fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Tells it to end, and says how it did.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).expect("a pid");
        kill_process(pid, Signal::INT).expect("the operator is there");
        let status =
            wait_until("the operator ends", || self.process.try_wait().expect("wait")).expect("checked");
        (status.code(), self.output())
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.output());
        }
    }
}

/// What two runs must share: no times, no uids, no versions.
fn normal(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "labels": metadata["labels"],
        "annotations": metadata["annotations"],
        "finalizers": metadata["finalizers"],
        "spec": object["spec"],
        "status": object["status"],
    })
}

/// Whether all handlers are done: what was handled last is what there is, and no record is left.
fn is_settled(object: &Value, colour: &str) -> bool {
    let annotations = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    let noted = annotations.get(LAST_HANDLED).and_then(Value::as_str).unwrap_or_default();
    let handled: Value = serde_json::from_str(noted).unwrap_or_default();
    let records = annotations.keys().any(|key| key.starts_with("kopf.zalando.org/") && key != LAST_HANDLED);
    !records
        && object["spec"]["colour"] == colour
        && handled["spec"] == object["spec"]
        && handled["metadata"]["labels"] == object["metadata"]["labels"]
        && object["status"]["ticked"] == true
        && object["status"]["daemon"] == "failed once"
        // Both write results after the notes above.
        && object["status"]["parts/b"].is_string()
}

/// The life of a box under one engine: as it was after its creation, and after a change.
fn life(cluster: &Cluster, namespace: &str, operator: OperatorProcess) -> (Value, Value) {
    let file = fixture("box.yaml");
    cluster.kubectl(&["-n", namespace, "apply", "-f", file.to_str().expect("UTF-8")]);
    let created =
        cluster.object_when(namespace, &operator, "a created box", |object| is_settled(object, "red"));
    let change = r#"{"spec":{"colour":"green","lid":{"open":true}}}"#;
    cluster.kubectl(&["-n", namespace, "patch", "boxes", "one", "--type=merge", "-p", change]);
    let changed = cluster.object_when(namespace, &operator, "a changed box", |object| {
        is_settled(object, "green") && object["status"]["changed"]["diff"][0][1] == json!(["spec", "stamps"])
    });
    cluster.kubectl(&["-n", namespace, "delete", "boxes", "one", "--timeout=60s"]);
    assert_eq!(cluster.object(namespace, "one"), None);
    let (code, output) = operator.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("emptied one"), "the delete handler was called\n{output}");
    assert!(output.contains(&format!("[{namespace}/one] Handler 'packed' succeeded.")), "{output}");
    (created, changed)
}

#[test]
fn the_same_file_leaves_the_same_objects_under_both_engines() {
    if !has("kopf") {
        return;
    }
    let Some(cluster) = Cluster::start() else { return };
    cluster.namespace("theirs");
    cluster.namespace("ours");
    let file = fixture("handlers.py");
    let theirs = life(&cluster, "theirs", cluster.kopf("theirs", &file));
    let ours = life(&cluster, "ours", cluster.ours("ours", &file));
    for (theirs, ours) in [(theirs.0, ours.0), (theirs.1, ours.1)] {
        let (theirs, ours) = (normal(&theirs), normal(&ours));
        // Whole objects in two namespaces differ in what kubectl notes about the namespace.
        let plain = |object: Value| object.to_string().replace("theirs", "ours");
        assert_eq!(plain(ours.clone()), plain(theirs.clone()), "\n{ours:#}\n{theirs:#}");
        assert_eq!(ours["status"]["packed"]["items"], 2, "{ours:#}");
        assert_eq!(ours["finalizers"], json!(["kopf.zalando.org/KopfFinalizerMarker"]));
    }
}

/// Without what no two runs share: uids anywhere, and times in records of handlers that are not done.
fn anonymous(object: &Value) -> Value {
    let mut object = normal(object);
    if let Some(annotations) = object["annotations"].as_object_mut() {
        for text in annotations.values_mut() {
            let mut record: Value =
                text.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            if let Some(fields) = record.as_object_mut().filter(|fields| fields.contains_key("started")) {
                fields.retain(|name, _| !["started", "stopped", "delayed"].contains(&name.as_str()));
                *text = record;
            }
        }
    }
    without_uids(object)
}

fn without_uids(value: Value) -> Value {
    let is_uid = |text: &str| text.len() == 36 && text.matches('-').count() == 4;
    match value {
        Value::String(text) if is_uid(&text) => json!("a uid"),
        Value::Array(items) => items.into_iter().map(without_uids).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, without_uids(value))).collect()
        }
        other => other,
    }
}

#[test]
fn the_published_examples_leave_the_same_objects() {
    let Some(examples) = std::env::var_os("GANTRY_TEST_KOPF_EXAMPLES").map(PathBuf::from) else {
        eprintln!("skipped: Kopf's examples not found (set GANTRY_TEST_KOPF_EXAMPLES)");
        return;
    };
    if !(has("kopf") && has("pykube") && has("yaml")) {
        return;
    }
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl(&["apply", "-f", examples.join("crd.yaml").to_str().expect("UTF-8")]);
    let object = examples.join("obj.yaml");
    let get = |namespace: &str| -> Value {
        let text = cluster.kubectl(&["-n", namespace, "get", "kex", "kopf-example-1", "-o", "json"]);
        serde_json::from_str(&text).expect("JSON")
    };
    for example in [
        "01-minimal",
        "02-children",
        "03-exceptions",
        "04-events",
        "05-handlers",
        "07-subhandlers",
        "08-events",
        "09-testing",
        "11-filtering-handlers",
        "14-daemons",
        "15-timers",
        "16-indexing",
        "99-all-at-once",
    ] {
        let file = examples.join(example).join("example.py");
        let (theirs, ours) = (format!("theirs-{example}"), format!("ours-{example}"));
        cluster.namespace(&theirs);
        cluster.namespace(&ours);
        let operators = [cluster.kopf(&theirs, &file), cluster.ours(&ours, &file)];
        for namespace in [&theirs, &ours] {
            cluster.kubectl(&["-n", namespace, "apply", "-f", object.to_str().expect("UTF-8")]);
        }
        let mut version = Value::Null;
        let mut changed = Instant::now();
        wait_until("the real Kopf to come to rest", || {
            let now = get(&theirs)["metadata"]["resourceVersion"].clone();
            if now != version || !operators[0].output().contains("kopf-example-1") {
                (version, changed) = (now, Instant::now());
            }
            (changed.elapsed() > REST).then_some(())
        });
        let expected = anonymous(&get(&theirs)).to_string().replace(&theirs, "a-namespace");
        let mut found = String::new();
        for _ in 0..400 {
            found = anonymous(&get(&ours)).to_string().replace(&ours, "a-namespace");
            if found == expected {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(found, expected, "{example}\n{}", operators[1].output());
        for namespace in [&theirs, &ours] {
            cluster.kubectl(&["-n", namespace, "delete", "kex", "kopf-example-1", "--timeout=120s"]);
        }
        for operator in operators {
            let (code, output) = operator.end();
            assert_eq!(code, Some(0), "{example}\n{output}");
        }
    }
}

#[test]
fn an_object_changes_hands_without_being_created_twice() {
    if !has("kopf") {
        return;
    }
    let Some(cluster) = Cluster::start() else { return };
    cluster.namespace("both");
    let file = fixture("handlers.py");
    let operator = cluster.kopf("both", &file);
    cluster.kubectl(&["-n", "both", "apply", "-f", fixture("box.yaml").to_str().expect("UTF-8")]);
    cluster.object_when("both", &operator, "a created box", |object| is_settled(object, "red"));
    assert_eq!(operator.end().0, Some(0));
    let operator = cluster.ours("both", &file);
    wait_until("the box to be resumed", || {
        operator.output().contains("Resuming is processed: 1 succeeded").then_some(())
    });
    cluster.kubectl(&["-n", "both", "delete", "boxes", "one", "--timeout=60s"]);
    let (code, output) = operator.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains("Creation is"), "{output}");
}

#[test]
fn a_worker_that_dies_is_started_again_and_its_handler_tried_again() {
    if !has("sys") {
        return;
    }
    let Some(cluster) = Cluster::start() else { return };
    cluster.namespace("dies");
    let operator = cluster.ours("dies", &fixture("dies.py"));
    let marker = cluster.folder.path().join("marker");
    let object = json!({ "apiVersion": "example.com/v1", "kind": "Box",
        "metadata": { "name": "one", "namespace": "dies" }, "spec": { "marker": marker } });
    let file = cluster.folder.path().join("box.json");
    std::fs::write(&file, object.to_string()).expect("written");
    cluster.kubectl(&["apply", "-f", file.to_str().expect("UTF-8")]);
    let object =
        cluster.object_when("dies", &operator, "a second try", |object| object["status"]["dies"].is_object());
    assert_eq!(object["status"]["dies"], json!({ "retry": 1 }));
    // The new process knows what was indexed in the old one.
    cluster.kubectl(&["-n", "dies", "patch", "boxes", "one", "--type=merge", "-p", r#"{"spec":{"more":1}}"#]);
    cluster.object_when("dies", &operator, "an index", |object| object["status"]["counts"] == json!(["one"]));
    let (code, output) = operator.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("the worker process was killed by signal 9"), "{output}");
}

/// Runs `gantry kopf` to its failure and gives what it wrote to standard error.
fn failure(args: &[&str], python: &Path) -> String {
    let mut command = gantry();
    command.arg("kopf").args(args).env("GANTRY_KOPF_PYTHON", python).env("KUBECONFIG", "/dev/null");
    let output = command.output().expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    error
}

#[test]
fn mistakes_are_told_with_their_place() {
    if !has("sys") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let broken = file("broken.py", "import kopf\n\ndef f(:\n    pass\n");
    let error = failure(&["run", "-A", &broken], &python());
    assert!(error.contains(&format!("{broken}:3:")) && error.contains("SyntaxError"), "{error}");
    let raises = file("raises.py", "import kopf\nimport no_such_module_at_all\n");
    let error = failure(&["run", "-A", &raises], &python());
    assert!(error.contains(&format!("{raises}:2: ModuleNotFoundError")), "{error}");
    let wrong =
        file("wrong.py", "import kopf\n@kopf.on.create('boxes', labels={'a': None})\ndef f(**_): pass\n");
    let error = failure(&["run", "-A", &wrong], &python());
    assert!(error.contains(&format!("{wrong}:2: ValueError")) && error.contains("kopf.PRESENT"), "{error}");
    let admission = file("admission.py", "import kopf\n@kopf.on.validate('boxes')\ndef guard(**_): pass\n");
    let error = failure(&["run", "-A", &admission], &python());
    assert!(error.contains("handler guard is for admission"), "{error}");
    let start =
        file("start.py", "import kopf\n@kopf.on.startup()\ndef f(**_): raise kopf.PermanentError('no')\n");
    let error = failure(&["run", "-A", &start], &python());
    assert!(error.contains("the startup activity failed in 'f': no"), "{error}");
    let error = failure(&["run", "-A", &start], Path::new("/no/such/python"));
    assert!(error.contains("no Python interpreter at /no/such/python"), "{error}");
    let error = failure(&["run", "-A", "not-there.py"], &python());
    assert!(error.contains("cannot load not-there.py: there is no such file"), "{error}");
    let fine = file("fine.py", "import kopf\n@kopf.on.create('boxes')\ndef f(**_): pass\n");
    let error = failure(&["run", "-A", &fine], &python());
    assert!(error.contains("no cluster to connect to") && !error.contains("without effect"), "{error}");
    let ignored = file(
        "ignored.py",
        "import kopf\n@kopf.on.startup()\ndef f(settings, **_):\n    settings.watching.server_timeout = 60\n    \
         settings.posting.worker_limit = 3\n    settings.posting.level = 30\n    \
         settings.persistence.progress_storage = kopf.SmartProgressStorage(touch_key='x', field='status.y')\n\
         @kopf.daemon('boxes', cancellation_polling=5)\nasync def d(**_): pass\n",
    );
    let error = failure(&["run", "-A", &ignored], &python());
    let told = "without effect under gantry: settings.posting.worker_limit, settings.watching.server_timeout, \
                settings.persistence.progress_storage.field, settings.persistence.progress_storage.touch_key, \
                cancellation_polling of handler d";
    assert!(error.contains(told), "{error}");
    let timer = file("timer.py", "import kopf\n@kopf.timer('boxes', interval=0)\ndef f(**_): pass\n");
    let error = failure(&["run", "-A", &timer], &python());
    assert!(error.contains("handler f: interval 0: expected a number of seconds above zero"), "{error}");
}
