//! Locust's distributed mode, both ways: the master that stock workers join, and a worker that joins a stock master.
//!
//! Invariants: what is counted, rounded and written is what Locust 2.47 would count, round and write from the same
//! samples; exact latencies travel beside Locust's rounded ones, never instead of them.

mod csv;
mod dispatch;
mod exceptions;
mod master;
mod message;
mod number;
mod ratio;
mod server;
mod stats;
mod table;
mod user_classes;
mod workers;

pub use csv::{CsvTables, HISTORY_INTERVAL, csv_row, file_time, log_time, utc};
pub use dispatch::{Dispatcher, MOST_USERS, UserClass};
pub use exceptions::Exception;
pub use master::{Config, Master, StartOutcome, State, WorkerView};
pub use message::{
    ClassDescription, Described, EntryReport, ErrorReport, FromMaster, FromWorker, LatencyReport, LocustFile,
    Message, StatsReport, TaskDescription, Version, WireError, decode_from_master, decode_from_worker,
    encode_from_master, encode_from_worker,
};
pub use number::{Number, bucket, proper_round, python_float, python_repr};
pub use ratio::task_ratio;
pub use server::{MasterHandle, ServeError, ServerConfig};
pub use stats::{Entry, History, PERCENTILES, Stats, StatsError, error_key};
pub use table::{error_table, percentile_table, stats_table};

/// The release whose behaviour this is, as told to workers and shown by `--version`.
pub const LOCUST_VERSION: &str = "2.47.0";

fn sha256_hex(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
