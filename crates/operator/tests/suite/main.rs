//! The framework against the API server, in process.

mod handlers;
mod lease;
mod peering;
#[allow(dead_code, reason = "`main` is the example's own")]
#[path = "../../../../examples/operator-quickstart/src/main.rs"]
mod quickstart;
mod stage;
mod watching;
