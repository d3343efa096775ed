//! Samples of replicas as the samples of one series.

mod penalty;
mod split;

pub use penalty::{Replica, penalty};
pub use split::split_overlaps;

use gantry_prom_model::SampleBuffer;
use gantry_tsdb::append_merged;

/// How replicas become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// One replica is followed until it pauses.
    #[default]
    Penalty,
    /// All samples, of those with one time the first.
    Chain,
}

impl std::str::FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Algorithm, String> {
        match text {
            "penalty" => Ok(Algorithm::Penalty),
            "chain" => Ok(Algorithm::Chain),
            other => Err(format!("deduplication function {other:?} is not known, penalty and chain are")),
        }
    }
}

/// Whether a function reads its argument as a counter, so that replicas that differ must not look like a reset.
pub fn is_counter_function(function: &str) -> bool {
    matches!(function, "rate" | "irate" | "increase" | "resets")
}

/// The samples of all replicas as those of one.
pub fn dedup(replicas: Vec<SampleBuffer>, algorithm: Algorithm, is_counter: bool) -> SampleBuffer {
    let mut replicas = replicas;
    if replicas.len() == 1
        && let Some(only) = replicas.pop()
    {
        return only;
    }
    match algorithm {
        Algorithm::Penalty => penalty(&replicas, is_counter),
        Algorithm::Chain => {
            let mut all = SampleBuffer::default();
            for mut replica in replicas {
                append_merged(&mut all, &mut replica);
            }
            all
        }
    }
}
