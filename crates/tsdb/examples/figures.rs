//! Measures the head: bytes per series, samples per second in, and the time to read the log back.
//!
//! `cargo run --release -p gantry-tsdb --example figures -- [SERIES] [STEPS]`

use std::time::Instant;

use gantry_prom_model::{Appendable, Labels, SeriesRef};
use gantry_tsdb::{Db, DbOptions};

const T0: i64 = 1_700_000_000_000;
const TARGETS: usize = 300;

/// Ten labels, as a node exporter's series behind Kubernetes discovery have them.
fn labels(id: usize) -> Labels {
    let (target, metric) = (id % TARGETS, id / TARGETS);
    Labels::from_pairs([
        ("__name__", format!("node_subsystem_metric_{}_total", metric / 4)),
        ("job", "node-exporter".into()),
        ("instance", format!("10.0.{}.{}:9100", target / 250, target % 250)),
        ("namespace", "monitoring".into()),
        ("pod", format!("node-exporter-{target:05x}")),
        ("node", format!("worker-{target}")),
        ("cluster", "eu-west-1a".into()),
        ("device", format!("dev{}", metric % 4)),
        ("mode", "read".into()),
        ("team", format!("team-{}", target % 12)),
    ])
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let (series, steps) = (args.next().unwrap_or(200_000), args.next().unwrap_or(120));
    let dir = std::env::temp_dir().join(format!("gantry-figures-{}", std::process::id()));
    let before = resident_bytes();
    let db = Db::open(&dir, DbOptions::default(), T0)?;
    let mut references: Vec<SeriesRef> = Vec::with_capacity(series);
    let started = Instant::now();
    for chunk in (0..series).collect::<Vec<_>>().chunks(1000) {
        let mut batch = db.appender();
        for id in chunk {
            references.push(batch.append(None, &labels(*id), T0, *id as f64)?);
        }
        batch.commit()?;
    }
    let created = started.elapsed();
    let kept = (references.len() * size_of::<SeriesRef>()) as f64;
    let per_series = |bytes: f64| (bytes - before - kept) / series as f64;
    println!("series made            {:>12.0} /s", series as f64 / created.as_secs_f64());
    println!("resident, 1 sample     {:>12.0} B/series", per_series(resident_bytes()));
    let empty = Labels::empty();
    let mut state = 1u64;
    let mut values: Vec<f64> = (0..series).map(|id| id as f64).collect();
    let started = Instant::now();
    for step in 1..steps {
        for (references, values) in references.chunks(1000).zip(values.chunks_mut(1000)) {
            let mut batch = db.appender();
            for (index, (reference, value)) in references.iter().zip(values).enumerate() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                // A third stands still, a third counts, a third moves freely.
                match index % 3 {
                    0 => {}
                    1 => *value += (state >> 58) as f64,
                    _ => *value = ((state >> 50) as f64) / 128.0,
                }
                batch.append(Some(*reference), &empty, T0 + step as i64 * 15_000, *value)?;
            }
            batch.commit()?;
        }
    }
    let appended = started.elapsed();
    let samples = series as f64 * (steps - 1) as f64;
    let stats = db.head().stats();
    println!("append                 {:>12.0} samples/s", samples / appended.as_secs_f64());
    println!("resident, {steps:>4} samples {:>12.0} B/series", per_series(resident_bytes()));
    println!("heap by capacity       {:>12.0} B/series", stats.heap_bytes as f64 / series as f64);
    let log: u64 =
        std::fs::read_dir(dir.join("wal"))?.flatten().filter_map(|e| Some(e.metadata().ok()?.len())).sum();
    println!("log                    {:>12.2} B/sample", log as f64 / (samples + series as f64));
    drop(db);
    let started = Instant::now();
    let db = Db::open(&dir, DbOptions { retention_ms: i64::MAX / 4, ..DbOptions::default() }, T0)?;
    let replayed = started.elapsed();
    let stats = db.replay_stats();
    println!(
        "replay                 {:>12.0} samples/s ({} samples, {} series, {:.2} s)",
        stats.samples as f64 / replayed.as_secs_f64(),
        stats.samples,
        stats.series,
        replayed.as_secs_f64()
    );
    drop(db);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
