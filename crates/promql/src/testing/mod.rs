//! Test scripts in the language of Prometheus' own: `load`, `eval`, expectations.
//!
//! Every instant evaluation also runs printed anew with its selectors pinned by `@`, and in the middle of a range
//! query: all three must give the same.

mod annotations;
mod compare;
mod items;
mod nhcb;
mod run;
mod script;
mod storage;

pub use run::{EvalFailure, ScriptReport, run_script};
pub use storage::MemoryStorage;
