//! A writer killed at any moment: every sample it had acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use gantry_tsdb::{Db, DbOptions, HeadOptions};

use crate::common::{T0, append, read_all};

const ROLE: &str = "GANTRY_TSDB_KILL_TEST_DIR";
const SERIES: usize = 40;

fn options() -> DbOptions {
    // Small segments, so that the kill also falls on their ends.
    let head = HeadOptions { wal_segment_bytes: 64 * 1024, ..HeadOptions::default() };
    DbOptions { head, ..DbOptions::default() }
}

/// In the parent's own run this is an ordinary append; as the child it appends and reports until it is killed.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(ROLE) else {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), options(), T0).unwrap();
        append(&db, SERIES, T0, |_| 1.0);
        assert_eq!(read_all(&db).len(), SERIES);
        return;
    };
    let db = Db::open(dir.as_ref(), options(), T0).unwrap();
    let start = db.head().time_range().map_or(0, |(_, newest)| (newest - T0) / 1000 + 1);
    let mut out = std::io::stderr();
    for step in start.. {
        append(&db, SERIES, T0 + step * 1000, |id| (step * 1000 + id as i64) as f64);
        writeln!(out, "acknowledged {step}").unwrap();
    }
}

#[test]
fn acknowledged_samples_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = -1i64;
    let mut seed = 42u64;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::writer", "--nocapture", "--test-threads=1"])
            .env(ROLE, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let lines = 1 + (seed >> 33) % 400;
        let mut reports = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut read = |wanted: u64| {
            for line in reports.by_ref().take(wanted as usize) {
                // The last line may be cut off by the kill.
                let step = line.ok().and_then(|line| line.strip_prefix("acknowledged ")?.parse::<i64>().ok());
                acknowledged = acknowledged.max(step.unwrap_or(-1));
            }
        };
        read(lines);
        child.kill().unwrap();
        child.wait().unwrap();
        read(u64::MAX >> 1);
        assert!(acknowledged >= 0, "the writer reported nothing");

        let db = Db::open(dir.path(), options(), T0).unwrap();
        let found = read_all(&db);
        assert_eq!(found.len(), SERIES);
        for id in 0..SERIES {
            let samples = &found[&crate::common::labels(id).to_string()];
            let wanted: Vec<(i64, u64)> = (0..=acknowledged)
                .map(|step| (T0 + step * 1000, ((step * 1000 + id as i64) as f64).to_bits()))
                .collect();
            assert!(samples.len() >= wanted.len(), "round {round}: {} of {}", samples.len(), wanted.len());
            assert_eq!(samples[..wanted.len()], wanted, "round {round}, series {id}");
        }
    }
}
