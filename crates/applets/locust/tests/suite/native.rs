//! The native engine: local runs without Python, and a native worker under the real Locust's master.

use std::process::Command;

use crate::harness::{Process, Target, applet, csv, free_port, get_json, http, locustfile, python, until};

const STRAIGHT: &str = "
import random
from locust import HttpUser, constant, task

class Shopper(HttpUser):
    wait_time = constant(0.02)

    def on_start(self):
        self.client.post('/login', json={'user': 'u'})

    @task(3)
    def browse(self):
        self.client.get(f'/products/{random.randint(1, 5)}', name='/products/[id]')

    @task
    def fails(self):
        self.client.get('/fail')
";

#[test]
fn a_straight_locustfile_runs_without_python() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let file = locustfile(folder.path(), STRAIGHT);
    let prefix = folder.path().join("out");
    let mut command = applet();
    command
        .args(["--headless", "-u", "8", "-r", "100", "-t", "4s", "--processes", "2", "-H", &target.url(), "-f"])
        .arg(&file)
        .arg("--csv")
        .arg(&prefix)
        .env("PATH", "/nonexistent");
    let mut run = Process::start(command, folder.path().join("run.log"));
    assert_eq!(run.wait(), 1, "there were failures");
    assert!(run.said().contains("Engine: native"), "{}", run.said());
    let rows = csv(&prefix.with_file_name("out_stats.csv"));
    let names: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(names, [("GET", "/fail"), ("POST", "/login"), ("GET", "/products/[id]"), ("", "Aggregated")]);
    let count = |index: usize| rows[index][2].parse::<u64>().unwrap();
    assert_eq!(count(1), 8, "each user logs in once");
    // What was cut at the end was sent and is not counted: at most one request per user.
    let (counted, sent) = (count(3), target.requests());
    assert!(counted > 50 && counted <= sent && sent <= counted + 8, "{counted} counted, {sent} sent");
    let failures = std::fs::read_to_string(prefix.with_file_name("out_failures.csv")).unwrap();
    assert!(
        failures.contains("GET,/fail,HTTPError('500 Server Error: Internal Server Error for url: /fail'),"),
        "{failures}"
    );
}

#[test]
fn what_is_not_straight_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let text = "from locust import HttpUser, task\n\nclass U(HttpUser):\n    @task\n    def t(self):\n        print(self.client.get('/').text)\n";
    let file = locustfile(folder.path(), text);
    let mut command = applet();
    command.args(["--headless", "-t", "1s", "--engine", "native", "-f"]).arg(&file);
    let mut run = Process::start(command, folder.path().join("run.log"));
    assert_eq!(run.wait(), 1);
    assert!(run.said().contains("locustfile.py:6:9: a call of print; --engine python can"), "{}", run.said());
}

#[test]
fn a_native_worker_joins_the_real_master() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let file = locustfile(folder.path(), STRAIGHT);
    let (port, web) = (free_port(), free_port());
    let mut command = Command::new(&python);
    command
        .args(["-m", "locust", "--master", "--master-bind-host", "127.0.0.1", "--web-host", "127.0.0.1", "-f"])
        .arg(&file)
        .args(["--master-bind-port", &port.to_string(), "--web-port", &web.to_string(), "-H", &target.url()])
        .current_dir(folder.path());
    let mut master = Process::start(command, folder.path().join("master.log"));
    until("the real master answers", || get_json(web, "/worker-count"));
    let mut command = applet();
    command.args(["--worker", "--processes", "2", "--engine", "native", "-f"]).arg(&file).args([
        "--master-port",
        &port.to_string(),
    ]);
    let mut workers = Process::start(command, folder.path().join("workers.log"));
    until("both workers are there", || (get_json(web, "/worker-count")?["worker_count"] == 2).then_some(()));
    http(web, "POST", "/swarm", "user_count=6&spawn_rate=50").unwrap();
    until("requests are counted", || {
        let report = get_json(web, "/stats/requests")?;
        let total = report["stats"].as_array()?.last()?["num_requests"].as_u64()?;
        (report["user_count"] == 6 && report["state"] == "running" && total > 100).then_some(())
    });
    http(web, "POST", "/stop", "").unwrap();
    until("the run has stopped", || {
        let report = get_json(web, "/stats/requests")?;
        (report["user_count"] == 0 && report["worker_count"] == 2).then_some(())
    });
    master.signal(rustix::process::Signal::INT);
    assert_eq!(workers.wait(), 0, "a worker ends when its master says so");
    assert_eq!(master.wait(), 1, "the real master saw the failures");
    let said = master.said();
    assert!(said.contains("/products/[id]") && !said.contains("Traceback"), "{said}");
}
