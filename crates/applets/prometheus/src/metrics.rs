//! The store's and the process' own metrics, under Prometheus' names.

use std::sync::{Arc, Weak};

use gantry_prom_model::Registry;
use gantry_tsdb::{CountersSnapshot, Db};

type Read = fn(&CountersSnapshot) -> u64;

const COUNTERS: [(&str, &str, Read); 8] = [
    ("prometheus_tsdb_head_samples_appended_total", "Samples stored.", |c| {
        c.samples_appended + c.histograms_appended
    }),
    ("prometheus_tsdb_out_of_order_samples_total", "Samples refused as out of order.", |c| c.out_of_order),
    ("prometheus_tsdb_out_of_bound_samples_total", "Samples refused as too old.", |c| c.out_of_bounds),
    ("prometheus_tsdb_head_series_created_total", "Series made.", |c| c.series_created),
    ("prometheus_tsdb_head_series_removed_total", "Series removed.", |c| c.series_removed),
    ("prometheus_tsdb_head_truncations_total", "Times old samples were dropped.", |c| c.truncations),
    ("prometheus_tsdb_checkpoint_creations_total", "Checkpoints of the log.", |c| c.checkpoints),
    ("prometheus_tsdb_wal_writes_failed_total", "Writes to the log that failed.", |c| c.wal_failures),
];

/// Registers them. The store is not kept alive by its metrics.
pub(crate) fn register(registry: &Registry, db: &Arc<Db>) {
    for (name, help, read) in COUNTERS {
        let db = Arc::downgrade(db);
        registry.counter_function(name, help, move || {
            db.upgrade().map_or(0.0, |db| read(&db.head().counters().snapshot()) as f64)
        });
    }
    type Gauge = fn(&Db) -> f64;
    let gauges: [(&str, &str, Gauge); 7] = [
        ("prometheus_tsdb_blocks_loaded", "Blocks.", |db| db.blocks().len() as f64),
        ("prometheus_tsdb_storage_blocks_bytes", "Bytes of all blocks.", |db| db.block_bytes() as f64),
        ("prometheus_tsdb_lowest_timestamp", "Oldest sample, in milliseconds.", |db| {
            db.time_range().map_or(0.0, |(min, _)| min as f64)
        }),
        ("prometheus_tsdb_head_series", "Series in memory.", |db| db.head().series_count() as f64),
        ("prometheus_tsdb_head_min_time", "Oldest sample in memory, in milliseconds.", |db| {
            db.head().time_range().map_or(0.0, |(min, _)| min as f64)
        }),
        ("prometheus_tsdb_head_max_time", "Newest sample in memory, in milliseconds.", |db| {
            db.head().time_range().map_or(0.0, |(_, max)| max as f64)
        }),
        ("prometheus_tsdb_wal_segment_current", "The log segment that is written.", |db| {
            f64::from(db.head().wal_segment())
        }),
    ];
    for (name, help, read) in gauges {
        let db: Weak<Db> = Arc::downgrade(db);
        registry.gauge_function(name, help, move || db.upgrade().map_or(0.0, |db| read(&db)));
    }
}

/// Registers what the operating system knows of this process.
pub(crate) fn register_process(registry: &Registry) {
    registry.gauge_function("process_resident_memory_bytes", "Resident memory.", || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
    });
    registry.gauge_function("process_open_fds", "Open file descriptors.", || {
        std::fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64)
    });
    registry.counter_function("process_cpu_seconds_total", "User and system time.", || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // After the command, which may hold spaces: fields 14 and 15 of the file, in ticks of 1/100 s.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: f64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok()).sum();
        ticks / 100.0
    });
}
