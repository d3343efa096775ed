//! Real Locust: its workers under our master, and runs that end as Locust's do.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Process, Target, applet, csv, free_port, get_json, http, locustfile, python, until};

const SHOPPER: &str = "
from locust import HttpUser, constant, task

class Shopper(HttpUser):
    wait_time = constant(0.05)
    weight = 3

    @task(3)
    def browse(self):
        self.client.get('/browse')

    @task
    def buy(self):
        self.client.post('/buy', json={'product': 3})

class Admin(HttpUser):
    wait_time = constant(0.05)
    fixed_count = 1

    @task
    def look(self):
        self.client.get('/admin')
";

fn stock_worker(python: &Path, port: u16, folder: &Path, name: &str) -> Process {
    let own = folder.join(name);
    std::fs::create_dir_all(&own).expect("a folder for the worker");
    let mut command = Command::new(python);
    // Stock workers write what they download under fixed names into the temporary folder.
    command
        .args([
            "-m",
            "locust",
            "-f",
            "-",
            "--worker",
            "--master-host",
            "127.0.0.1",
            "--master-port",
            &port.to_string(),
        ])
        .env("TMPDIR", &own)
        .current_dir(&own);
    Process::start(command, folder.join(format!("{name}.log")))
}

#[test]
fn stock_workers_join_and_one_may_be_killed() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let file = locustfile(folder.path(), SHOPPER);
    let (port, web) = (free_port(), free_port());
    let mut command = applet();
    command
        .args([
            "--master",
            "--master-bind-host",
            "127.0.0.1",
            "--web-host",
            "127.0.0.1",
            "--enable-rebalancing",
            "-f",
        ])
        .arg(&file)
        .args(["--master-bind-port", &port.to_string(), "--web-port", &web.to_string(), "-H", &target.url()]);
    command.args([
        "--csv",
        folder.path().join("out").to_str().unwrap(),
        "--html",
        folder.path().join("report.html").to_str().unwrap(),
    ]);
    let mut master = Process::start(command, folder.path().join("master.log"));
    until("the web interface answers", || get_json(web, "/worker-count"));
    let first = stock_worker(&python, port, folder.path(), "first");
    let mut second = stock_worker(&python, port, folder.path(), "second");
    until("both workers are there", || (get_json(web, "/worker-count")?["worker_count"] == 2).then_some(()));
    until("a worker has described the file", || get_json(web, "/tasks")?["total"].get("Shopper").cloned());

    let (status, _, answer) = http(web, "POST", "/swarm", "user_count=5&spawn_rate=50").unwrap();
    assert_eq!(status, 200);
    assert!(answer.contains("\"success\":true"), "{answer}");
    let report = until("all users run", || {
        let report = get_json(web, "/stats/requests")?;
        (report["state"] == "running" && report["user_count"] == 5).then_some(report)
    });
    assert_eq!(report["workers"].as_array().unwrap().len(), 2);
    let tasks = get_json(web, "/tasks").unwrap();
    assert_eq!(tasks["per_class"]["Shopper"]["tasks"]["browse"]["ratio"], 0.75);
    let admin = tasks["total"]["Admin"]["ratio"].as_f64().unwrap();
    assert!((admin - 0.2).abs() < 1e-9, "the fixed class has one of five users: {tasks}");
    let exact = until("exact latencies arrive", || {
        let report = get_json(web, "/stats/requests")?;
        report["stats"].as_array()?.last()?.get("exact_ms").cloned()
    });
    assert!(exact["p50"].as_f64().unwrap() > 0.0, "stock workers round this to whole milliseconds: {exact}");

    second.signal(Signal::KILL);
    second.wait();
    until("the other worker has all users", || {
        let report = get_json(web, "/stats/requests")?;
        let workers = report["workers"].as_array()?.clone();
        let states: Vec<_> =
            workers.iter().map(|worker| (worker["state"].clone(), worker["user_count"].clone())).collect();
        (report["user_count"] == 5 && states.contains(&("missing".into(), 0.into()))).then_some(())
    });
    assert_eq!(http(web, "GET", "/stats/reset", "").unwrap().0, 405);
    let (_, head, _) = http(web, "GET", "/stats/requests/csv", "").unwrap();
    assert!(head.contains("attachment;filename=Locust_") && head.contains("text/csv"), "{head}");

    http(web, "POST", "/stop", "").unwrap();
    until("the run has stopped", || {
        let report = get_json(web, "/stats/requests")?;
        (report["user_count"] == 0 && report["state"] == "stopped").then_some(())
    });
    master.signal(Signal::TERM);
    assert_eq!(master.wait(), 0, "nothing failed");
    drop(first);
    let rows = csv(&folder.path().join("out_stats.csv"));
    let names: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(names, [("GET", "/admin"), ("GET", "/browse"), ("POST", "/buy"), ("", "Aggregated")]);
    let counted: u64 = rows.last().unwrap()[2].parse().unwrap();
    // The killed worker took at most three seconds of samples with it.
    assert!(counted > 0 && counted <= target.requests(), "{counted} of {}", target.requests());
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(
        page.contains("/browse") && page.contains("Locust test report"),
        "a report is written on SIGTERM too"
    );
}

#[test]
fn a_local_run_ends_with_the_exit_code_and_the_files_of_locust() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let text = "
from locust import HttpUser, constant, task

class Failing(HttpUser):
    wait_time = constant(0.1)

    @task
    def works(self):
        self.client.get('/works')

    @task
    def fails(self):
        self.client.get('/fail')

    @task
    def raises(self):
        raise ValueError('boom')
";
    let file = locustfile(folder.path(), text);
    let prefix = folder.path().join("out");
    let mut command = applet();
    command
        .args([
            "--headless",
            "-u",
            "3",
            "-r",
            "10",
            "-t",
            "4s",
            "--engine",
            "python",
            "--exit-code-on-error",
            "7",
            "-H",
            &target.url(),
            "-f",
        ])
        .arg(&file)
        .arg("--python")
        .arg(&python)
        .arg("--csv")
        .arg(&prefix)
        .args(["--json-file", folder.path().join("final").to_str().unwrap()]);
    let mut run = Process::start(command, folder.path().join("run.log"));
    assert_eq!(run.wait(), 7);
    let total: u64 = csv(&prefix.with_file_name("out_stats.csv")).last().unwrap()[2].parse().unwrap();
    // What was cut at the end was sent and is not counted: at most one request per user.
    let sent = target.requests();
    assert!(total > 0 && total <= sent && sent <= total + 3, "{total} counted, {sent} sent");
    let failures = std::fs::read_to_string(prefix.with_file_name("out_failures.csv")).unwrap();
    assert!(
        failures.contains("GET,/fail,\"HTTPError('500 Server Error")
            || failures.contains("GET,/fail,HTTPError('500"),
        "{failures}"
    );
    let exceptions = std::fs::read_to_string(prefix.with_file_name("out_exceptions.csv")).unwrap();
    assert!(exceptions.contains(",boom,") && exceptions.trim_end().ends_with(",local"), "{exceptions}");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("final.json")).unwrap()).unwrap();
    let counted: u64 =
        json.as_array().unwrap().iter().map(|entry| entry["num_requests"].as_u64().unwrap()).sum();
    assert_eq!(counted, total);
    assert!(
        run.said().contains("Response time percentiles (approximated)")
            || run.said().contains("Type     Name"),
        "{}",
        run.said()
    );
}

#[test]
fn a_locustfile_judges_the_whole_run_and_sets_the_exit_code() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let text = "
from locust import HttpUser, constant, events, task

@events.quitting.add_listener
def judge(environment, **_):
    total = environment.stats.total
    with open('JUDGED', 'w') as file:
        file.write(f'{total.num_requests} {total.num_failures}')
    environment.process_exit_code = 5 if total.fail_ratio == 1 else 0

class Failing(HttpUser):
    wait_time = constant(0.1)

    @task
    def fails(self):
        self.client.get('/fail')
";
    let judged = folder.path().join("judged");
    let file = locustfile(folder.path(), &text.replace("JUDGED", judged.to_str().unwrap()));
    let prefix = folder.path().join("out");
    let mut command = applet();
    // Longer than two reports, with each of which a worker forgets what it has counted.
    command
        .args(["--headless", "-u", "2", "-r", "10", "-t", "7s", "-H", &target.url(), "-f"])
        .arg(&file)
        .arg("--python")
        .arg(&python)
        .arg("--csv")
        .arg(&prefix);
    let mut run = Process::start(command, folder.path().join("run.log"));
    assert_eq!(run.wait(), 5);
    let total = csv(&prefix.with_file_name("out_stats.csv")).last().unwrap()[2].clone();
    assert_eq!(std::fs::read_to_string(judged).unwrap(), format!("{total} {total}"));
}

#[test]
fn a_file_that_does_not_load_ends_the_run() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = locustfile(folder.path(), "raise RuntimeError('no such thing')\n");
    let mut command = applet();
    command
        .args(["--headless", "-t", "60s", "--engine", "python", "-f"])
        .arg(&file)
        .arg("--python")
        .arg(&python);
    let mut run = Process::start(command, folder.path().join("run.log"));
    assert_eq!(run.wait(), 1);
    assert!(run.said().contains("the worker process ended with exit code 1"), "{}", run.said());
    assert!(!run.said().contains("Aggregated"), "no table before a run: {}", run.said());
}

#[test]
fn our_worker_joins_a_stock_master() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let file = locustfile(folder.path(), SHOPPER);
    let port = free_port();
    let prefix = folder.path().join("out");
    let mut command = Command::new(&python);
    command
        .args(["-m", "locust", "--master", "--headless", "--expect-workers", "1", "-f"])
        .arg(&file)
        .args(["-u", "3", "-r", "10", "-t", "4s", "--stop-timeout", "2", "-H", &target.url()])
        .args(["--master-bind-host", "127.0.0.1", "--master-bind-port", &port.to_string(), "--csv"])
        .arg(&prefix)
        .current_dir(folder.path());
    let mut master = Process::start(command, folder.path().join("master.log"));
    let mut command = applet();
    command
        .args(["--worker", "--master-host", "127.0.0.1", "--master-port", &port.to_string(), "-f"])
        .arg(&file)
        .arg("--python")
        .arg(&python)
        .current_dir(folder.path());
    let mut worker = Process::start(command, folder.path().join("worker.log"));
    assert_eq!(master.wait(), 0, "{}", master.said());
    assert_eq!(worker.wait(), 0, "a worker ends with its master: {}", worker.said());
    let rows = csv(&folder.path().join("out_stats.csv"));
    let names: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(names, [("GET", "/admin"), ("GET", "/browse"), ("POST", "/buy"), ("", "Aggregated")]);
    let counted: u64 = rows.last().unwrap()[2].parse().unwrap();
    assert!(counted > 0 && counted <= target.requests(), "{counted} of {}", target.requests());
}
