//! What was acknowledged is there after `kill -9`. The writer is this test binary, started again as a child.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gantry_apimachinery::Value;
use gantry_apiserver::store::{Change, Encoded, Expect, ObjectKey, Store, Write};

const FOLDER: &str = "GANTRY_TEST_STORE";
const ROUNDS: u64 = 25;

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "ns".into(), name: name.into() }
}

fn put(name: &str, expect: Expect, number: u64) -> Write {
    let mut object = Value::object();
    *object.entry_at(&["metadata", "name"]) = name.into();
    *object.entry_at(&["data", "n"]) = number.to_string().into();
    *object.entry_at(&["data", "padding"]) = "x".repeat(700).into();
    Write {
        collection: "/configmaps".into(),
        key: key(name),
        expect,
        change: Change::Put(Encoded::new(&object)),
    }
}

/// In the child: writes until it is killed, telling each acknowledged write.
#[test]
fn child_writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = Arc::new(Store::open(folder.as_ref()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // Each works until the process is killed; the first to end has failed.
        let writers: tokio::task::JoinSet<()> = (0..8)
            .map(|writer| {
                let store = store.clone();
                async move {
                    let name = format!("w{writer}");
                    let mut number =
                        store.get("/configmaps", &key(&name)).map_or(0, |object| written(&object.value()));
                    loop {
                        let expect = store
                            .get("/configmaps", &key(&name))
                            .map_or(Expect::Absent, |object| Expect::Revision(object.revision));
                        number += 1;
                        let object = store.commit(put(&name, expect, number)).await.unwrap();
                        println!("ack {writer} {number} {}", object.revision);
                    }
                }
            })
            .collect();
        writers.join_all().await;
    });
}

fn written(object: &Value) -> u64 {
    object.str_at(&["data", "n"]).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = [0u64; 8];
    let mut highest_revision = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["durability::child_writer", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let pid = child.id();
        // At another moment each round, by number of writes and by time.
        let stop_after = 1 + round * 37 % 400;
        let mut seen = 0;
        for line in output.lines() {
            let Ok(line) = line else { break };
            let Some(rest) = line.split("ack ").nth(1) else { continue };
            let numbers: Vec<u64> = rest.split(' ').filter_map(|number| number.parse().ok()).collect();
            let [writer, number, revision] = numbers[..] else { continue };
            acknowledged[writer as usize] = acknowledged[writer as usize].max(number);
            highest_revision = highest_revision.max(revision);
            seen += 1;
            if seen == stop_after {
                std::thread::sleep(Duration::from_micros(round * 53 % 900));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= stop_after, "the writer {pid} ended by itself in round {round}");
        let store = Store::open(folder.path()).unwrap();
        assert!(store.revision() >= highest_revision);
        for (writer, number) in acknowledged.iter().enumerate().filter(|(_, number)| **number > 0) {
            let object = store.get("/configmaps", &key(&format!("w{writer}"))).unwrap();
            assert!(
                written(&object.value()) >= *number,
                "round {round}: writer {writer} lost write {number}"
            );
            assert_eq!(object.value().str_at(&["data", "padding"]).map(str::len), Some(700), "a torn object");
        }
    }
}
