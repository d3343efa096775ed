use super::*;
use crate::logs::{LogOptions, Reader};
use crate::runtime::Adoptable;

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_files: 2 };
const LONG: Duration = Duration::from_secs(20);

fn spec(dir: &Path, uid: &str, script: &str) -> StartSpec {
    StartSpec {
        key: ContainerKey { pod_uid: uid.into(), container: "c".into(), attempt: 0 },
        pod: PodRef { namespace: "ns".into(), name: "p".into(), uid: uid.into() },
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: [("PATH".to_string(), "/usr/bin:/bin".to_string()), ("X".into(), "1".into())].into(),
        working_dir: dir.join("root"),
        container_dir: dir.to_path_buf(),
        stdin: false,
        isolation: None,
    }
}

async fn ended(running: &mut Running) -> Exit {
    let exit = tokio::time::timeout(LONG, running.exit.wait_for(Option::is_some)).await.unwrap();
    exit.unwrap().clone().unwrap()
}

fn log(dir: &Path) -> String {
    let mut reader = Reader::open(&logs::path(dir, 0), LogOptions::default()).unwrap();
    String::from_utf8(reader.read(1 << 20).unwrap().unwrap()).unwrap()
}

async fn until(mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
}

#[tokio::test]
async fn output_environment_and_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = ProcessRuntime::new(LIMITS);
    let held = std::fs::File::open("/dev/null").unwrap();
    // Descriptors that the test program itself was started with are not ours to close.
    let plain =
        std::process::Command::new("/bin/sh").args(["-c", "ls /proc/self/fd | wc -l"]).output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    let script = "echo out $X; echo err >&2; env | sort | tr '\\n' ' '; ls /proc/self/fd | wc -l; exit 3";
    let mut running = runtime.start(spec(dir.path(), "uid-out", script)).await.unwrap();
    let exit = ended(&mut running).await;
    assert_eq!((exit.code, exit.signal, exit.known), (3, None, true));
    let text = log(dir.path());
    assert!(text.contains("out 1\n") && text.contains("err\n"), "{text}");
    assert!(!text.contains("CARGO"), "the host's environment leaked: {text}");
    assert_eq!(text.split_whitespace().last(), Some(plain.trim()), "descriptors leaked: {text}");
    drop(held);
    match runtime.recover(&PodRef::default(), "c", dir.path(), Adoptable::OnHostNetwork).await {
        Some(Found::Ended { attempt: 0, exit: again, .. }) => assert_eq!(again, exit),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn signals_reach_the_whole_group_and_strays_end() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = ProcessRuntime::new(LIMITS);
    let script = "setsid sleep 300 & sleep 300 & echo ready; wait";
    let mut running = runtime.start(spec(dir.path(), "uid-stray", script)).await.unwrap();
    until(|| log(dir.path()).contains("ready")).await;
    let mine = || {
        let all = procfs::with_environment_variable(ID_VARIABLE);
        all.into_iter().filter(|(_, id)| id.starts_with("uid-stray/")).count()
    };
    until(|| mine() >= 3).await;
    let sample = &runtime.sample()[0];
    assert!(sample.processes >= 3 && sample.working_set_bytes > 0, "{sample:?}");
    runtime.signal(&spec(dir.path(), "uid-stray", "").key, StopSignal::Terminate);
    let exit = ended(&mut running).await;
    assert_eq!((exit.code, exit.signal), (143, Some(15)));
    until(|| mine() == 0).await;
}

#[tokio::test]
async fn an_adopted_process_goes_on_and_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let first = ProcessRuntime::new(LIMITS);
    let script = "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two";
    let started = spec(dir.path(), "uid-adopt", script);
    let running = first.start(started.clone()).await.unwrap();
    until(|| log(dir.path()).contains("one")).await;

    // A second runtime stands for the next life of the program; in this test the first still holds the pipes, so
    // either may log the rest.
    let second = ProcessRuntime::new(LIMITS);
    let Some(Found::Running(mut adopted)) =
        second.recover(&started.pod, "c", dir.path(), Adoptable::OnHostNetwork).await
    else {
        panic!("not adopted");
    };
    assert_eq!((adopted.pid, &adopted.id), (running.pid, &running.id));
    let output =
        second.exec(&started.key, &["sh".into(), "-c".into(), "echo $X".into()], LONG).await.unwrap();
    assert_eq!(output, ExecOutput { code: 0, output: "1\n".into() });
    std::fs::write(dir.path().join("root/go"), "").unwrap();
    let exit = ended(&mut adopted).await;
    assert_eq!((exit.code, exit.known), (137, false));
    until(|| log(dir.path()).contains("two")).await;
}

#[tokio::test]
async fn leftovers_of_a_pod_are_ended() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = ProcessRuntime::new(LIMITS);
    let container_dir = dir.path().join("containers/c");
    let mut running = runtime.start(spec(&container_dir, "uid-left", "sleep 300")).await.unwrap();
    let next = ProcessRuntime::new(LIMITS);
    assert!(next.end_leftovers("uid-left", dir.path()).await >= 1);
    assert_eq!(ended(&mut running).await.signal, Some(9));
    assert_eq!(next.end_leftovers("uid-left", dir.path()).await, 0);
}

#[tokio::test]
async fn exec_reports_codes_timeouts_and_missing_programs() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = ProcessRuntime::new(LIMITS);
    let started = spec(dir.path(), "uid-exec", "sleep 300");
    let mut running = runtime.start(started.clone()).await.unwrap();
    let sh = |script: &str| vec!["sh".to_string(), "-c".into(), script.into()];
    let failed = runtime.exec(&started.key, &sh("echo no >&2; exit 4"), LONG).await.unwrap();
    assert_eq!(failed, ExecOutput { code: 4, output: "no\n".into() });
    let slow = runtime.exec(&started.key, &sh("sleep 300"), Duration::from_millis(50)).await;
    assert!(matches!(slow, Err(RuntimeError::Timeout { .. })));
    let missing = runtime.exec(&started.key, &["no-such-program".into()], LONG).await;
    assert!(matches!(missing, Err(RuntimeError::Spawn { .. })));
    runtime.signal(&started.key, StopSignal::Kill);
    ended(&mut running).await;
    let late = runtime.exec(&started.key, &sh("true"), LONG).await;
    assert!(matches!(late, Err(RuntimeError::NotRunning(_))));
}

#[tokio::test]
async fn a_program_that_cannot_run_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = ProcessRuntime::new(LIMITS);
    let mut wrong = spec(dir.path(), "uid-wrong", "");
    wrong.program = "/nonexistent/program".into();
    let error = runtime.start(wrong).await.unwrap_err().to_string();
    assert!(error.contains("/nonexistent/program"), "{error}");
}

/// Burns CPU in a child that left its group and its parent, and goes on.
const BURN: &str = "setsid sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 300' & sleep 300";

async fn cpu_of_a_daemon(runtime: &ProcessRuntime, uid: &str) -> ContainerSample {
    let dir = tempfile::tempdir().unwrap();
    let mut running = runtime.start(spec(dir.path(), uid, BURN)).await.unwrap();
    let mut seen = None;
    until(|| {
        seen = runtime.sample().pop().filter(|s| s.cpu_ns > 10_000_000 && s.working_set_bytes > 100_000);
        seen.as_ref().is_some_and(|s| s.processes >= 3)
    })
    .await;
    let key = ContainerKey { pod_uid: uid.into(), container: "c".into(), attempt: 0 };
    runtime.signal(&key, StopSignal::Kill);
    ended(&mut running).await;
    let id = record::id_of(&key);
    let left = procfs::with_environment_variable(ID_VARIABLE).into_iter().filter(|(_, found)| *found == id);
    assert_eq!(left.count(), 0, "a daemon of the container outlived it");
    seen.unwrap()
}

#[tokio::test]
async fn the_process_tree_counts_what_left_the_group() {
    let runtime = ProcessRuntime::new(LIMITS);
    assert_eq!(runtime.usage_source(), "process tree");
    cpu_of_a_daemon(&runtime, "uid-tree").await;
}

#[tokio::test]
async fn a_delegated_cgroup_counts_and_is_removed() {
    let state = tempfile::tempdir().unwrap();
    let delegation = match Delegation::find(state.path()) {
        Ok(delegation) => delegation,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let runtime = ProcessRuntime::build(LIMITS, Some(delegation.clone()), None);
    assert!(runtime.usage_source().starts_with("cgroup v2"));
    cpu_of_a_daemon(&runtime, "uid-cgroup").await;

    let dir = tempfile::tempdir().unwrap();
    let mut first = spec(dir.path(), "uid-adopt", "sleep 300");
    first.key.attempt = 1;
    let mut running = runtime.start(first.clone()).await.unwrap();
    let group = Group::of_process(running.pid, &first.key).unwrap();
    assert!(group.pids().contains(&running.pid));
    assert_eq!(runtime.pod_of_process(running.pid).map(|p| p.uid).as_deref(), Some("uid-adopt"));
    runtime.signal(&first.key, StopSignal::Kill);
    ended(&mut running).await;
    assert!(group.entrance().is_err(), "the group is gone with its container");
    drop(runtime);
    until(|| {
        Delegation::find(state.path()).is_ok_and(|again| {
            again.remove_if_empty();
            true
        })
    })
    .await;
}
