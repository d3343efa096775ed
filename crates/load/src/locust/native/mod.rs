//! Locustfiles without Python: a program of users, tasks and requests, run by native users under any Locust master.
//!
//! Invariants: a thread owns its worker, its users, their connections and their counts, so that nothing is shared or
//! locked; a user sends what the Python user would send and is counted as it would be counted.

mod program;
mod recorder;
mod user;
mod value;
mod worker;

pub use program::{Body, Program, RequestPlan, Step, Task, UserPlan, Wait};
pub use value::Value;
pub use worker::{Worker, WorkerConfig, WorkerError};
