//! Test scripts in the language of Prometheus' own: `load`, `eval`, expectations.
//!
//! Every instant evaluation also runs printed anew with its selectors pinned by `@`, and in the middle of a range
//! query: all three must give the same.

mod annotations;
mod compare;
mod input;
mod items;
mod live;
mod nhcb;
mod run;
mod script;
mod storage;

pub use input::{InputSeries, parse_histogram_description, parse_series_labels};
pub use live::LiveStorage;
pub use run::{EvalFailure, ScriptReport, run_script};
pub use storage::MemoryStorage;
