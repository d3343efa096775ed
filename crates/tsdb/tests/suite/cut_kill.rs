//! The process ended at every step of a cut and of a compaction: every sample is there afterwards, once.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_tsdb::{Db, DbOptions};

use crate::common::{HOUR, T0, append, labels, read_all};

const DIR: &str = "GANTRY_TSDB_CUT_TEST_DIR";
const STEP: &str = "GANTRY_TSDB_CUT_TEST_STEP";
const MINUTES: i64 = 12 * 60;

static PASSED: AtomicUsize = AtomicUsize::new(0);

fn options() -> DbOptions {
    DbOptions { retention_ms: 1000 * HOUR, max_block_ms: Some(6 * HOUR), ..DbOptions::default() }
}

fn value(id: usize, step: i64) -> f64 {
    (id as i64 * 1000 + step) as f64
}

fn fill(db: &Db) {
    let start = db.time_range().map_or(0, |(_, newest)| (newest - T0) / 60_000 + 1);
    for step in start..MINUTES {
        append(db, 10, T0 + step * 60_000, |id| value(id, step));
    }
}

fn check(db: &Db, when: &str) {
    let found = read_all(db);
    assert_eq!(found.len(), 10, "{when}");
    for id in 0..10 {
        let name = labels(id).to_string();
        let wanted = (0..MINUTES).map(|step| (T0 + step * 60_000, value(id, step).to_bits()));
        assert_eq!(found.get(&name), Some(&wanted.collect::<Vec<_>>()), "{when}: {name}");
    }
}

/// In the parent's own run this cuts and compacts undisturbed; as the child it ends itself at one of the steps.
#[test]
fn worker() {
    let Some(dir) = std::env::var_os(DIR) else {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), options(), T0).unwrap();
        fill(&db);
        let done = db.maintain(T0 + MINUTES * 60_000).unwrap();
        assert!(done.cut.len() >= 4 && !done.compacted.is_empty(), "{done:?}");
        check(&db, "undisturbed");
        return;
    };
    let step = |_: &'static str| {
        let wanted = std::env::var(STEP).unwrap().parse::<usize>().unwrap();
        if PASSED.fetch_add(1, Ordering::SeqCst) == wanted {
            std::process::abort();
        }
    };
    let db = Db::open(dir.as_ref(), DbOptions { step, ..options() }, T0).unwrap();
    fill(&db);
    db.maintain(T0 + MINUTES * 60_000).unwrap();
}

#[test]
fn nothing_is_lost_wherever_a_cut_ends() {
    let mut ended_at = 0;
    for step in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cut_kill::worker", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(STEP, step.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let db = Db::open(dir.path(), options(), T0).unwrap();
        check(&db, &format!("killed at step {step}"));
        db.maintain(T0 + MINUTES * 60_000).unwrap();
        check(&db, &format!("killed at step {step}, then maintained"));
        if status.success() {
            ended_at = step;
            break;
        }
    }
    assert!(ended_at > 40, "only {ended_at} steps");
}
