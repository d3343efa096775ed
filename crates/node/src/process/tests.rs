use super::*;
use crate::logs::{LogOptions, Reader};

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
    match runtime.recover(&PodRef::default(), "c", dir.path()).await {
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
    let Some(Found::Running(mut adopted)) = second.recover(&started.pod, "c", dir.path()).await else {
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
