//! Blocks of a bucket into fewer, longer and coarser ones, and out when their time is over.

pub mod downsample;
mod planner;
mod retention;
mod run;

pub use planner::{MAX_INDEX_BYTES, Plan, Planner, RANGES_MS};
pub use retention::{Retention, expired};
pub use run::{CompactError, Compactor, CompactorOptions, Pass};
